/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images on block devices.  A device is there already and has the size that it has. */
#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where formats are recognised by: the first sector, and for some the end. */
#define FILE_DEVICE_HEAD 512u
#define FILE_DEVICE_TAIL 1024u

typedef struct FileDeviceCreate {
  const char *filename;
  const TnOptions *options;
  uint64_t size;
  GError **error;
  int result;
} FileDeviceCreate;

static int
file_device_fail_create (const FileDeviceCreate *job, int errnum)
{
  return tn_fail (job->error, TN_BLOCK_ERROR, errnum, "Could not create an image on '%s': %s%s",
                  job->filename, g_strerror (errnum),
                  errnum == ENOENT                      ? " (check the name)"
                  : errnum == EACCES || errnum == EPERM ? " (check its owner and mode)"
                                                        : "");
}

/* What the kernel has claimed for itself would be pulled away from under it. */
static int
file_device_check_unused (const FileDeviceCreate *job)
{
  int fd;

  if (g_strcmp0 (tn_options_get (job->options, "locking"), "off") == 0)
    return 0;
  fd = file_host_kernel.open (job->filename, O_RDONLY | O_EXCL);
  if (fd >= 0)
    close (fd);
  if (fd != -EBUSY)
    return 0;
  return tn_fail (
      job->error, TN_BLOCK_ERROR, EBUSY,
      "Device '%s' is in use by the kernel (mounted, swap, or part of another device): free it, or "
      "overwrite it all the same with locking=off",
      job->filename);
}

static int
file_device_open_target (const FileDeviceCreate *job)
{
  struct stat st;
  int fd, r = file_host_kernel.look (job->filename, &st);

  if (r < 0)
    return file_device_fail_create (job, -r);
  if (!S_ISBLK (st.st_mode))
    return tn_fail (job->error, TN_BLOCK_ERROR, EINVAL,
                    "'%s' is not a block device: use driver 'file' for a file", job->filename);
  r = file_device_check_unused (job);
  if (r < 0)
    return r;
  fd = file_host_kernel.open (job->filename, O_RDWR);
  return fd < 0 ? file_device_fail_create (job, -fd) : fd;
}

static int
file_device_clear (const FileDeviceCreate *job, int fd, uint64_t from, uint64_t length)
{
  static const char zeroes[FILE_DEVICE_TAIL];
  ssize_t n = pwrite (fd, zeroes, length, (off_t) from);

  if (n == (ssize_t) length)
    return 0;
  return tn_fail_errno (job->error, TN_BLOCK_ERROR, n < 0 ? errno : EIO,
                        "Could not clear %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT " of '%s'",
                        length, from, job->filename);
}

/* What was there before must not be recognised as an image any more.  The rest stays. */
static int
file_device_prepare (const FileDeviceCreate *job, int fd)
{
  uint64_t size;
  int r = file_device_check_writable (&file_host_kernel, fd, job->filename, job->error);

  if (r < 0)
    return r;
  r = file_device_size (&file_host_kernel, fd, &size);
  if (r < 0)
    return tn_fail_errno (job->error, TN_BLOCK_ERROR, -r, "Could not get the size of '%s'", job->filename);
  if (size < job->size)
    return tn_fail (job->error, TN_BLOCK_ERROR, ENOSPC,
                    "Device '%s' has %" G_GUINT64_FORMAT " bytes, too few for %" G_GUINT64_FORMAT,
                    job->filename, size, job->size);
  r = file_device_clear (job, fd, 0, MIN (size, FILE_DEVICE_HEAD));
  if (r == 0 && size >= FILE_DEVICE_HEAD + FILE_DEVICE_TAIL)
    r = file_device_clear (job, fd, size - FILE_DEVICE_TAIL, FILE_DEVICE_TAIL);
  return r;
}

static void
file_device_create_work (void *opaque)
{
  FileDeviceCreate *job = opaque;
  int fd = file_device_open_target (job);

  if (fd < 0) {
    job->result = fd;
    return;
  }
  job->result = file_lock_for_create (job->options, fd, job->error);
  if (job->result == 0)
    job->result = file_device_prepare (job, fd);
  close (fd);
}

int
file_device_create (const TnOptions *options, uint64_t size, GError **error)
{
  FileDeviceCreate job = {
    .filename = tn_options_get (options, "filename"), .options = options, .size = size, .error = error
  };

  if (job.filename == NULL || *job.filename == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "A device needs a name: give filename=PATH");
  file_blocking (file_device_create_work, &job);
  return job.result;
}

/* A format on the device may make do with less than there is; what it needs must be there. */
int
file_device_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  FileState *s = tn_node_state (node);
  uint64_t actual;
  int r = file_device_get_size (node, &actual, error);

  if (r < 0)
    return r;
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "Preallocation is not for a block device such as '%s', whose space is there: leave it off",
        s->filename);
  if (size > actual)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "Device '%s' has %" G_GUINT64_FORMAT " bytes and can't be resized to %" G_GUINT64_FORMAT
                    ": resize the device itself first",
                    s->filename, actual, size);
  __atomic_store_n (&s->size, actual, __ATOMIC_RELAXED);
  return 0;
}
