/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing, for all classes of the plugin. */
#include "file.h"

#include <tenon/inplace.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- The descriptor ---- */

static const char *
file_open_remedy (int errnum, uint32_t flags)
{
  bool writing = (flags & TN_OPEN_WRITE) != 0;

  switch (errnum) {
  case ENOENT:
    return " (check the name)";
  case EACCES:
  case EPERM:
    return writing ? " (check its owner and mode, or open it read-only)" : " (check its owner and mode)";
  case EROFS:
    return " (open it read-only)";
  case EINVAL:
    return (flags & TN_OPEN_DIRECT) != 0 ? " (its file system has no O_DIRECT: use cache.direct=off)" : "";
  case ETXTBSY:
    return " (it is a program that runs: open it read-only)";
  case EMFILE:
    return " (raise the limit of open files: ulimit -n)";
  case EBUSY:
    return " (the kernel has it in use: unmount it first)";
  case ENOMEDIUM:
    return " (put one in)";
  default:
    return "";
  }
}

static int
file_fail_open (const char *filename, int errnum, uint32_t flags, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "Could not open '%s': %s%s", filename, g_strerror (errnum),
                  file_open_remedy (errnum, flags));
}

static int
file_check_type (const char *filename, const struct stat *st, FileKind kind, GError **error)
{
  bool device = S_ISBLK (st->st_mode);

  if (kind == FILE_REGULAR ? S_ISREG (st->st_mode) : device)
    return 0;
  if (S_ISDIR (st->st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, EISDIR,
                    "Could not open '%s': it is a folder (name a file inside it)", filename);
  if (device)
    return tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "Could not open '%s': driver 'file' is for regular files, and this is a block device (use "
        "driver 'host_device', for a CD-ROM drive 'host_cdrom', or give nothing but its name)",
        filename);
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "Could not open '%s': it is not a %s", filename,
                  kind == FILE_REGULAR    ? "regular file"
                  : S_ISREG (st->st_mode) ? "block device (use driver 'file')"
                                          : "block device");
}

static int
file_open_mode (FileKind kind, uint32_t flags)
{
  int direct = (flags & TN_OPEN_DIRECT) != 0 ? O_DIRECT : 0;

  /* Else a drive would draw its tray in, and refuse to be opened without a medium. */
  if (kind == FILE_CDROM)
    return O_RDONLY | O_NONBLOCK | direct;
  return ((flags & TN_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY) | direct;
}

/* The type is looked at first: opening a pipe could wait for ever. */
static int
file_open_fd (const FileHost *host, const char *filename, FileKind kind, uint32_t flags, struct stat *st,
              GError **error)
{
  int fd, r = host->look (filename, st);

  if (r < 0)
    return file_fail_open (filename, -r, flags, error);
  r = file_check_type (filename, st, kind, error);
  if (r < 0)
    return r;
  fd = host->open (filename, file_open_mode (kind, flags));
  if (fd < 0)
    return file_fail_open (filename, -fd, flags, error);
  r = host->look_at (fd, st);
  if (r < 0)
    file_fail_open (filename, -r, flags, error);
  else
    r = file_check_type (filename, st, kind, error);
  if (r < 0) {
    close (fd);
    return r;
  }
  return fd;
}

/* ---- The engine ---- */

static TnFdEngine
file_engine_named (const char *aio)
{
  if (aio == NULL)
    return TN_FD_ENGINE_DEFAULT;
  if (strcmp (aio, "threads") == 0)
    return TN_FD_ENGINE_THREADS;
  return strcmp (aio, "io_uring") == 0 ? TN_FD_ENGINE_URING : TN_FD_ENGINE_LINUX_AIO;
}

int
file_choose_engine (const FileState *s, const char *aio, uint32_t flags, TnFdEngine *engine, GError **error)
{
  *engine = file_engine_named (aio);
  if (*engine == TN_FD_ENGINE_LINUX_AIO && (flags & TN_OPEN_DIRECT) == 0)
    return tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "aio=native was specified for '%s', but it requires cache.direct=on, which was not specified",
        s->filename);
  return aio == NULL ? 0 : tn_loop_has_engine (tn_loop_current (), *engine, error);
}

void
file_set_engine (FileState *s, TnFdEngine engine, uint32_t flags)
{
  struct statfs fs;

  s->engine = (uint8_t) engine;
  /* A look at an image's headers needs no engine, and so not to know. */
  s->in_memory = (flags & TN_OPEN_NO_IO) == 0 && engine != TN_FD_ENGINE_THREADS && !s->block_device
                 && fstatfs (s->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* ---- Opening ---- */

static int
file_open_size (FileState *s, const struct stat *st, uint32_t flags, GError **error)
{
  switch (s->kind) {
  case FILE_DEVICE:
    return file_device_begin (s, flags, error);
  case FILE_CDROM:
    return file_cdrom_begin (s, flags, error);
  default:
    s->size = (uint64_t) st->st_size;
    return 0;
  }
}

int
file_limits (FileState *s, bool direct, TnLimits *limits, GError **error)
{
  int r = file_probe_limits (s, direct, limits, error);

  if (r == 0 && s->block_device)
    file_device_limits (s, limits);
  return r;
}

static int
file_open_checked (TnNode *node, FileState *s, const TnOptions *options, const struct stat *st,
                   uint32_t flags, GError **error)
{
  TnLimits limits;
  TnFdEngine engine;
  int r = file_choose_engine (s, tn_options_get (options, "aio"), flags, &engine, error);

  if (r == 0)
    r = file_open_size (s, st, flags, error);
  if (r == 0)
    r = file_limits (s, s->direct, &limits, error);
  if (r < 0)
    return r;
  s->alignment = limits.request_alignment;
  file_set_engine (s, engine, flags);
  tn_node_set_limits (node, &limits);
  if (s->block_device)
    file_device_tell_blocks (node, s);
  tn_node_set_size (node, s->size);
  return 0;
}

static void
file_release (FileState *s)
{
  if (s->permissions != 0 || s->unshared != 0)
    file_unlock_all (s->fd);
  close (s->fd);
  g_mutex_clear (&s->map_lock);
  g_clear_pointer (&s->filename, g_free);
}

/* An in-place conversion was cut short: what is there is neither the old image nor the new one. */
static int
file_finish_change (const char *filename, bool locks, uint32_t flags, GError **error)
{
  if ((flags & TN_OPEN_WRITE) == 0)
    return tn_inplace_finish (filename, false, error);
  const int fd = open (filename, O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not open '%s'", filename);
  int r = locks && file_can_lock (fd)
              ? file_lock (fd, filename, 0, 0, TN_PERM_WRITE | TN_PERM_RESIZE, FILE_LOCK_ALL, error)
              : 0;
  if (r == 0)
    r = tn_inplace_finish (filename, true, error);
  file_unlock_all (fd);
  close (fd);
  return MIN (r, 0);
}

int
file_open_as (TnNode *node, const TnOptions *options, FileKind kind, const FileHost *host, uint32_t flags,
              GError **error)
{
  FileState *s = tn_node_state (node);
  const char *filename = tn_options_get (options, "filename");
  const char *locking = tn_options_get (options, "locking");
  struct stat st;
  int r;

  if (filename == NULL || *filename == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "A file name is missing: give filename=PATH");
  if (kind == FILE_REGULAR && tn_inplace_pending (filename)) {
    r = file_finish_change (filename, g_strcmp0 (locking, "off") != 0, flags, error);
    if (r < 0)
      return r;
  }
  s->fd = file_open_fd (host, filename, kind, flags, &st, error);
  if (s->fd < 0)
    return s->fd;
  s->host = host;
  s->kind = (uint8_t) kind;
  s->block_device = kind != FILE_REGULAR;
  s->filename = g_strdup (filename);
  s->direct = (flags & TN_OPEN_DIRECT) != 0;
  s->locks = g_strcmp0 (locking, "off") != 0 && (flags & TN_OPEN_SHARED) == 0;
  s->lock_required = g_strcmp0 (locking, "on") == 0;
  g_mutex_init (&s->map_lock);
  r = file_open_checked (node, s, options, &st, flags, error);
  if (r < 0)
    file_release (s);
  return r;
}

int
file_close (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = __atomic_load_n (&s->flush_error, __ATOMIC_RELAXED);

  if (r < 0)
    tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Some of what was written to '%s' is lost", s->filename);
  file_release (s);
  return r;
}
