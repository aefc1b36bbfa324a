/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies inside the kernel: shared extents where the file system can, else copy_file_range(2). */
#include "file.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

typedef struct FileCopy {
  FileState *from, *to;
  uint64_t from_offset, to_offset, length;
  int64_t result; /* bytes, or -errno */
} FileCopy;

static bool
file_same_file (FileCopy *copy)
{
  struct stat a, b;

  return fstat (copy->from->fd, &a) == 0 && fstat (copy->to->fd, &b) == 0 && a.st_dev == b.st_dev
         && a.st_ino == b.st_ino;
}

/* Shares extents, all or nothing.  Needs file system blocks, except at the end of the source. */
static int64_t
file_clone (FileCopy *copy)
{
  struct stat st;
  struct file_clone_range range = { .src_fd = copy->from->fd,
                                    .src_offset = copy->from_offset,
                                    .src_length = copy->length,
                                    .dest_offset = copy->to_offset };

  if (file_lacks (copy->to, FILE_LACKS_CLONE) || copy->length == 0 || fstat (copy->from->fd, &st) < 0
      || st.st_blksize <= 0)
    return -ENOTSUP;
  if (copy->from_offset % (uint64_t) st.st_blksize != 0 || copy->to_offset % (uint64_t) st.st_blksize != 0
      || copy->length % (uint64_t) st.st_blksize != 0)
    return -ENOTSUP;
  if (ioctl (copy->to->fd, FICLONERANGE, &range) == 0)
    return (int64_t) copy->length;
  if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV)
    file_set_lacks (copy->to, FILE_LACKS_CLONE);
  return -ENOTSUP;
}

/* Whether trying is worth it: both lie in one file system, of a kind that can. */
static bool
file_may_share (const FileCopy *copy)
{
  static const uint32_t kinds[] = {
    0x9123683e, 0x58465342, 0xca451a4e, 0x7461636f, 0x2fc12fc1, 0x794c7630, 0x6969
  }; /* btrfs, xfs, bcachefs, ocfs2, zfs, overlayfs, nfs */
  struct statfs fs;
  struct stat a, b;

  if (file_lacks (copy->to, FILE_LACKS_CLONE) || fstat (copy->from->fd, &a) < 0
      || fstat (copy->to->fd, &b) < 0 || a.st_dev != b.st_dev || fstatfs (copy->to->fd, &fs) < 0)
    return false;
  for (unsigned i = 0; i < G_N_ELEMENTS (kinds); i++)
    if ((uint32_t) fs.f_type == kinds[i])
      return true;
  return false;
}

static int64_t
file_kernel_copy (FileCopy *copy)
{
  uint64_t copied = 0;

  while (copied < copy->length) {
    off_t from = (off_t) (copy->from_offset + copied), to = (off_t) (copy->to_offset + copied);
    ssize_t n = copy_file_range (copy->from->fd, &from, copy->to->fd, &to, copy->length - copied, 0);

    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && copied == 0)
      return errno == EXDEV || errno == ENOSYS || errno == EINVAL || errno == EOPNOTSUPP ? -ENOTSUP : -errno;
    if (n <= 0)
      break;
    copied += (uint64_t) n;
  }
  /* Nothing to copy: the source ends before the range does.  The caller's zeroes are another way. */
  return copied == 0 ? -ENOTSUP : (int64_t) copied;
}

static void
file_copy_work (void *opaque)
{
  FileCopy *copy = opaque;

  copy->result = file_clone (copy);
  if (copy->result == -ENOTSUP)
    copy->result = file_kernel_copy (copy);
}

static void
file_share_work (void *opaque)
{
  FileCopy *copy = opaque;

  copy->result = file_clone (copy);
}

static int
file_check_ranges (FileCopy *copy, GError **error)
{
  if (copy->from->block_device || copy->to->block_device)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "The kernel copies between regular files only");
  if (copy->from_offset < copy->to_offset + copy->length && copy->to_offset < copy->from_offset + copy->length
      && file_same_file (copy))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "The kernel copies no overlapping ranges of '%s'",
                    copy->to->filename);
  return 0;
}

static int64_t
file_transfer (FileCopy *copy, void (*work) (void *opaque), GError **error)
{
  int refused = copy->length ? file_check_ranges (copy, error) : 0;

  if (refused || copy->length == 0)
    return refused;
  file_blocking (work, copy);
  if (copy->result > 0)
    file_grown_to (copy->to, copy->to_offset + (uint64_t) copy->result);
  return copy->result;
}

int64_t
file_copy_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                 GError **error)
{
  FileCopy copy = { tn_node_state (from), tn_node_state (to), from_offset, to_offset, length, 0 };
  int64_t copied = file_transfer (&copy, file_copy_work, error);

  if (copy.result < 0)
    tn_fail_errno (error, TN_BLOCK_ERROR, (int) -copy.result,
                   "Could not copy from '%s' to '%s' inside the kernel", copy.from->filename,
                   copy.to->filename);
  return copied;
}

int64_t
file_share_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                  GError **error)
{
  FileCopy copy = { tn_node_state (from), tn_node_state (to), from_offset, to_offset, length, 0 };

  if (length == 0)
    return file_may_share (&copy) ? 0 : -ENOTSUP;
  return file_transfer (&copy, file_share_work, error);
}
