/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making, removing and resizing files. */
#include "file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_FILL_CHUNK (1u << 20)

/* Extends the file by written zeroes, the surest way to have the space. */
static int
file_write_zeroes_to (int fd, uint64_t from, uint64_t to)
{
  g_autofree char *zeroes = g_malloc0 (FILE_FILL_CHUNK);

  while (from < to) {
    ssize_t n = pwrite (fd, zeroes, MIN (to - from, FILE_FILL_CHUNK), (off_t) from);

    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -ENOSPC;
    from += (uint64_t) n;
  }
  return fsync (fd) < 0 ? -errno : 0;
}

static int
file_extend (int fd, uint64_t from, uint64_t to, TnPrealloc prealloc)
{
  switch (prealloc) {
  case TN_PREALLOC_FALLOC:
    return -posix_fallocate (fd, (off_t) from, (off_t) (to - from));
  case TN_PREALLOC_FULL:
    return file_write_zeroes_to (fd, from, to);
  default:
    return ftruncate (fd, (off_t) to) < 0 ? -errno : 0;
  }
}

/* Gives the file @size bytes.  When that fails it has the size that it had. */
static int
file_set_size (int fd, const char *filename, uint64_t old_size, uint64_t size, TnPrealloc prealloc,
               GError **error)
{
  int r;

  if (prealloc == TN_PREALLOC_METADATA)
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "Preallocation mode 'metadata' is not for a plain file such as '%s': use off, falloc or full",
        filename);
  if (size < old_size && prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "Preallocation can't be used when '%s' is made smaller: leave it off", filename);
  if (size > INT64_MAX)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "'%s' can't have %" G_GUINT64_FORMAT " bytes: choose a smaller size", filename, size);
  if (size == old_size)
    return 0;
  if (size < old_size)
    r = ftruncate (fd, (off_t) size) < 0 ? -errno : 0;
  else
    r = file_extend (fd, old_size, size, prealloc);
  if (r == 0)
    return 0;
  tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not %s '%s' to %" G_GUINT64_FORMAT " bytes%s",
                 prealloc == TN_PREALLOC_OFF ? "resize" : "preallocate", filename, size,
                 r == -ENOSPC  ? " (free some space or use preallocation=off)"
                 : r == -EFBIG ? " (its file system has smaller files only)"
                               : "");
  if (size > old_size && ftruncate (fd, (off_t) old_size) < 0)
    return r;
  return r;
}

/* ---- Resize ---- */

typedef struct FileResize {
  FileState *state;
  uint64_t size;
  TnPrealloc prealloc;
  GError **error;
  int result;
} FileResize;

static void
file_resize_work (void *opaque)
{
  FileResize *job = opaque;
  FileState *s = job->state;
  struct stat st;

  if (fstat (s->fd, &st) < 0) {
    job->result =
        tn_fail_errno (job->error, TN_BLOCK_ERROR, errno, "Could not get the size of '%s'", s->filename);
    return;
  }
  job->result =
      file_set_size (s->fd, s->filename, (uint64_t) st.st_size, job->size, job->prealloc, job->error);
  if (job->result < 0)
    return;
  __atomic_store_n (&s->size, job->size, __ATOMIC_RELAXED);
  file_map_forget (s);
}

int
file_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  FileResize job = { tn_node_state (node), size, prealloc, error, 0 };

  file_blocking (file_resize_work, &job);
  return job.result;
}

/* ---- Create ---- */

typedef struct FileCreate {
  const char *filename;
  const TnOptions *options;
  uint64_t size;
  TnPrealloc prealloc;
  bool made; /* there was no such file before */
  GError **error;
  int result;
} FileCreate;

static TnPrealloc
file_prealloc_option (const TnOptions *options)
{
  const char *text = tn_options_get (options, "preallocation");

  if (g_strcmp0 (text, "falloc") == 0)
    return TN_PREALLOC_FALLOC;
  return g_strcmp0 (text, "full") == 0 ? TN_PREALLOC_FULL : TN_PREALLOC_OFF;
}

static int
file_open_new (FileCreate *job)
{
  int fd = open (job->filename, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

  job->made = fd >= 0;
  if (fd < 0 && errno == EEXIST)
    fd = open (job->filename, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd >= 0)
    return fd;
  return tn_fail (job->error, TN_BLOCK_ERROR, errno, "Could not create '%s': %s%s", job->filename,
                  g_strerror (errno),
                  errno == ENOENT   ? " (make its folder first)"
                  : errno == EACCES ? " (choose a folder that you may write to)"
                  : errno == EROFS  ? " (choose another file system)"
                  : errno == EISDIR ? " (name a file inside it)"
                                    : "");
}

/* Both are hints for file systems that know them. */
static void
file_apply_hints (FileCreate *job, int fd)
{
  uint64_t hint = tn_options_uint (job->options, "extent_size_hint");
  struct fsxattr attributes;
  int flags;

  if (tn_options_bool (job->options, "nocow") && ioctl (fd, FS_IOC_GETFLAGS, &flags) == 0) {
    flags |= FS_NOCOW_FL;
    (void) ioctl (fd, FS_IOC_SETFLAGS, &flags);
  }
  if (hint == 0 || hint > UINT32_MAX || ioctl (fd, FS_IOC_FSGETXATTR, &attributes) < 0)
    return;
  attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
  attributes.fsx_extsize = (uint32_t) hint;
  (void) ioctl (fd, FS_IOC_FSSETXATTR, &attributes);
}

/* Nobody may be writing to what is about to be emptied, nor rely on what it holds. */
int
file_lock_for_create (const TnOptions *options, int fd, GError **error)
{
  if (g_strcmp0 (tn_options_get (options, "locking"), "off") == 0)
    return 0;
  g_autoptr (GError) why = NULL;
  int r = file_lock (fd, tn_options_get (options, "filename"), 0, 0, TN_PERM_WRITE | TN_PERM_RESIZE,
                     TN_PERM_WRITE | TN_PERM_RESIZE, &why);

  if (r == 0 || r != -EAGAIN)
    return 0; /* a file system without locks */
  g_propagate_error (error, g_steal_pointer (&why));
  return r;
}

static int
file_fill_new (FileCreate *job, int fd)
{
  struct stat st;

  if (fstat (fd, &st) < 0)
    return tn_fail_errno (job->error, TN_BLOCK_ERROR, errno, "Could not look at '%s'", job->filename);
  if (!S_ISREG (st.st_mode))
    return tn_fail (
        job->error, TN_BLOCK_ERROR, EINVAL,
        "'%s' exists and is not a regular file: choose another name (a block device is for driver "
        "'host_device')",
        job->filename);
  if (st.st_size > 0 && ftruncate (fd, 0) < 0)
    return tn_fail_errno (job->error, TN_BLOCK_ERROR, errno, "Could not empty '%s'", job->filename);
  file_apply_hints (job, fd);
  return file_set_size (fd, job->filename, 0, job->size, job->prealloc, job->error);
}

static void
file_create_work (void *opaque)
{
  FileCreate *job = opaque;
  int fd = file_open_new (job);

  if (fd < 0) {
    job->result = fd;
    return;
  }
  job->result = file_lock_for_create (job->options, fd, job->error);
  if (job->result == 0)
    job->result = file_fill_new (job, fd);
  if (job->result < 0 && job->made)
    unlink (job->filename);
  close (fd);
}

int
file_create (const TnOptions *options, uint64_t size, GError **error)
{
  FileCreate job = { .filename = tn_options_get (options, "filename"),
                     .options = options,
                     .size = size,
                     .prealloc = file_prealloc_option (options),
                     .error = error };

  if (job.filename == NULL || *job.filename == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "A file to be created needs a name: give filename=PATH");
  file_blocking (file_create_work, &job);
  return job.result;
}

int
file_remove (const TnOptions *options, GError **error)
{
  const char *filename = tn_options_get (options, "filename");
  struct stat st;

  if (filename == NULL)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "A file to be removed needs a name: give filename=PATH");
  if (stat (filename, &st) == 0 && !S_ISREG (st.st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "'%s' is not a regular file and stays", filename);
  if (unlink (filename) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not remove '%s'", filename);
  return 0;
}
