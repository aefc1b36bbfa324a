/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Other flags on an open file while requests go on.  The descriptor's number stays: O_DIRECT is switched in
 * place, and for another access mode the same inode is opened once more and put behind the same number.
 * Requests that the kernel has already keep the old open file until they are done.  Another engine is for the
 * requests that come; none is under way while this runs.
 */
#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int
file_reopen_fd (FileState *s, int open_flags, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", s->fd);
  struct stat before, after;
  int fd = open (path, open_flags | O_CLOEXEC);

  if (fd < 0 && errno == ENOENT)
    fd = open (s->filename, open_flags | O_CLOEXEC); /* no /proc */
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not reopen '%s' %s", s->filename,
                          (open_flags & O_ACCMODE) == O_RDWR ? "for writing" : "read-only");
  if (fstat (s->fd, &before) < 0 || fstat (fd, &after) < 0 || before.st_dev != after.st_dev
      || before.st_ino != after.st_ino) {
    close (fd);
    return tn_fail (error, TN_BLOCK_ERROR, ESTALE, "'%s' is another file by now: open it anew", s->filename);
  }
  return fd;
}

static int
file_replace (FileState *s, int open_flags, GError **error)
{
  int fd = file_reopen_fd (s, open_flags, error);
  int r = 0;

  if (fd < 0)
    return fd;
  if (s->locks)
    r = file_lock_copy (fd, s->permissions, s->unshared);
  if (r == 0 && s->locks)
    file_unlock_all (s->fd);
  if (r == 0 && dup3 (fd, s->fd, O_CLOEXEC) < 0)
    r = -errno;
  close (fd);
  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not move '%s' to another access mode",
                          s->filename);
  return 0;
}

static int
file_switch_direct (FileState *s, int flags, bool direct, GError **error)
{
  if (fcntl (s->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
    return tn_fail (error, TN_BLOCK_ERROR, errno,
                    "'%s' can't be used with O_DIRECT: its file system refuses it (%s)", s->filename,
                    g_strerror (errno));
  return 0;
}

int
file_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  FileState *s = tn_node_state (node);
  bool direct = (flags & TN_OPEN_DIRECT) != 0;
  int access = (flags & TN_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
  int now = fcntl (s->fd, F_GETFL);
  const char *aio = tn_options_get (options, "aio");
  TnFdEngine engine = s->engine;
  TnLimits limits;
  int r = 0;

  if (now < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not look at '%s'", s->filename);
  if (aio != NULL)
    r = file_choose_engine (s, aio, flags, &engine, error);
  else if (engine == TN_FD_ENGINE_LINUX_AIO && !direct)
    r = tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                 "'%s' uses aio=native, which needs cache.direct=on: choose another aio with it",
                 s->filename);
  if (r == 0 && s->kind == FILE_CDROM && access == O_RDWR)
    r = tn_fail (error, TN_BLOCK_ERROR, EROFS, "Drive '%s' can't be written to: leave it read-only",
                 s->filename);
  if (r == 0 && s->kind == FILE_DEVICE && access == O_RDWR)
    r = file_device_check_writable (s->host, s->fd, s->filename, error);
  if (r < 0)
    return r;
  if ((now & O_ACCMODE) != access)
    r = file_replace (s, access | (direct ? O_DIRECT : 0), error);
  else if (((now & O_DIRECT) != 0) != direct)
    r = file_switch_direct (s, now, direct, error);
  if (r < 0)
    return r;
  r = file_limits (s, direct, &limits, error);
  if (r < 0)
    return r;
  tn_node_set_limits (node, &limits);
  __atomic_store_n (&s->alignment, limits.request_alignment, __ATOMIC_RELAXED);
  __atomic_store_n (&s->direct, direct, __ATOMIC_RELAXED);
  if (aio != NULL)
    file_set_engine (s, engine, flags);
  return 0;
}
