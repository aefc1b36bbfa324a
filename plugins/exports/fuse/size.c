/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Space: growth, holes. */
#define _GNU_SOURCE /* FALLOC_FL_…, SEEK_DATA */
#include "fuse-export.h"

#include <fcntl.h>
#include <unistd.h>

int
export_grow (FuseExport *export, uint64_t size)
{
  g_autoptr (GError) error = NULL;
  int rc = 0;
  tn_co_mutex_lock (&export->size_lock);
  export->growing = true;
  if (size > tn_drive_size (export->drive))
    rc = export->growable ? tn_drive_resize (export->drive, size, &error) : -ENOSPC;
  export->growing = false;
  tn_co_mutex_unlock (&export->size_lock);
  return rc;
}

/* ---- fallocate() ---- */

static int
zero (FuseOp *op, bool unmap)
{
  const uint64_t end = tn_drive_size (op->export->drive);
  if (op->offset >= end)
    return 0;
  op->length = MIN (op->length, end - op->offset);
  op->io.flags = unmap ? TN_REQUEST_MAY_UNMAP : 0;
  fuse_op_submit (op, TN_REQUEST_WRITE_ZEROES);
  return 1;
}

/* 1: under way; 0: done; or -errno. */
static int
allocate (FuseOp *op)
{
  const bool keep = op->mode & FALLOC_FL_KEEP_SIZE;
  const int rest = op->mode & ~FALLOC_FL_KEEP_SIZE;
  int rc = 0;
  if (rest == FALLOC_FL_PUNCH_HOLE && keep)
    return zero (op, true);
  if (rest != 0 && rest != FALLOC_FL_ZERO_RANGE)
    return -EOPNOTSUPP;
  /* There is no way to set space aside within an image, only to make it longer. */
  if (rest == 0 && (keep || op->offset + op->length <= tn_drive_size (op->export->drive)))
    return -EOPNOTSUPP;
  if (!keep)
    rc = export_grow (op->export, op->offset + op->length);
  return rc < 0 || rest == 0 ? rc : zero (op, false);
}

static void
run_fallocate (void *opaque)
{
  FuseOp *op = opaque;
  const int rc = allocate (op);
  if (rc == 1)
    return;
  fuse_reply_err (op->request, -rc);
  fuse_op_free (op);
}

void
fuse_op_fallocate (fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                   struct fuse_file_info *file)
{
  const FuseExport *export = fuse_req_userdata (request);
  if (!export->writable || offset < 0 || length <= 0 || length > G_MAXINT64 - offset) {
    fuse_reply_err (request, export->writable ? EINVAL : EROFS);
    return;
  }
  FuseOp *op = fuse_op_new (request);
  op->mode = mode;
  op->offset = (uint64_t) offset;
  op->length = (uint64_t) length;
  tn_co_start (run_fallocate, op);
}

/* ---- lseek() ---- */

/* The first byte from op->offset on that is data, or is none; the end of the file is a hole. */
static int
seek (const FuseOp *op, uint64_t *found)
{
  TnNode *node = tn_drive_node (op->export->drive);
  const uint64_t end = tn_drive_size (op->export->drive);
  for (uint64_t at = op->offset; at < end;) {
    TnStatus status;
    const int rc = tn_node_status (node, NULL, at, end - at, &status, NULL);
    if (rc < 0)
      return rc;
    if (status.zero == (op->mode == SEEK_HOLE)) {
      *found = at;
      return 0;
    }
    if (status.length == 0)
      return -EIO;
    at += status.length;
  }
  *found = end;
  return op->mode == SEEK_HOLE && op->offset < end ? 0 : -ENXIO;
}

static void
run_lseek (void *opaque)
{
  FuseOp *op = opaque;
  uint64_t found = 0;
  const int rc = seek (op, &found);
  if (rc < 0)
    fuse_reply_err (op->request, -rc);
  else
    fuse_reply_lseek (op->request, (off_t) found);
  fuse_op_free (op);
}

void
fuse_op_lseek (fuse_req_t request, fuse_ino_t inode, off_t offset, int whence, struct fuse_file_info *file)
{
  if (offset < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
    fuse_reply_err (request, EINVAL);
    return;
  }
  FuseOp *op = fuse_op_new (request);
  op->mode = whence;
  op->offset = (uint64_t) offset;
  tn_co_start (run_lseek, op);
}
