/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading, writing, flushing. */
#include "fuse-export.h"

static void
done (TnRequest *io, int result)
{
  FuseOp *op = io->opaque;
  if (result < 0)
    fuse_reply_err (op->request, -result);
  else if (io->op == TN_REQUEST_READ)
    fuse_reply_buf (op->request, op->buffer, op->length);
  else if (io->op == TN_REQUEST_WRITE)
    fuse_reply_write (op->request, op->length);
  else
    fuse_reply_err (op->request, 0);
  fuse_op_free (op);
}

void
fuse_op_submit (FuseOp *op, uint8_t what)
{
  const bool transfer = what == TN_REQUEST_READ || what == TN_REQUEST_WRITE;
  op->io.op = what;
  op->io.offset = op->offset;
  op->io.length = op->length;
  op->io.iov = transfer ? &op->iov : NULL;
  op->io.n_iov = transfer ? 1 : 0;
  op->io.done = done;
  op->io.opaque = op;
  tn_drive_submit (op->export->drive, &op->io);
}

void
fuse_op_read (fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *file)
{
  const FuseExport *export = fuse_req_userdata (request);
  const uint64_t end = tn_drive_size (export->drive);
  if (offset < 0 || (uint64_t) offset >= end || size == 0) {
    fuse_reply_buf (request, NULL, 0);
    return;
  }
  FuseOp *op = fuse_op_new (request);
  op->offset = (uint64_t) offset;
  op->length = MIN (size, end - op->offset);
  op->buffer = malloc (op->length);
  op->iov = (struct iovec){ op->buffer, op->length };
  if (op->buffer) {
    fuse_op_submit (op, TN_REQUEST_READ);
    return;
  }
  fuse_reply_err (request, ENOMEM);
  fuse_op_free (op);
}

static void
grow_and_write (void *opaque)
{
  FuseOp *op = opaque;
  const int rc = export_grow (op->export, op->offset + op->length);
  if (rc == 0) {
    fuse_op_submit (op, TN_REQUEST_WRITE);
    return;
  }
  fuse_reply_err (op->request, -rc);
  fuse_op_free (op);
}

void
fuse_op_write (fuse_req_t request, fuse_ino_t inode, const char *data, size_t size, off_t offset,
               struct fuse_file_info *file)
{
  FuseExport *export = fuse_req_userdata (request);
  const uint64_t end = tn_drive_size (export->drive);
  if (!export->writable || offset < 0) {
    fuse_reply_err (request, export->writable ? EINVAL : EROFS);
    return;
  }
  if (!export->growable && (uint64_t) offset >= end && size > 0) {
    fuse_reply_err (request, ENOSPC);
    return;
  }
  FuseOp *op = fuse_op_new (request);
  op->offset = (uint64_t) offset;
  op->length = export->growable ? size : MIN (size, end - op->offset);
  op->iov = (struct iovec){ (void *) (uintptr_t) data, op->length };
  op->buffer = export->input.mem;
  export->taken = true;
  if (op->length > 0 && op->offset + op->length > end)
    tn_co_start (grow_and_write, op);
  else
    fuse_op_submit (op, TN_REQUEST_WRITE);
}

void
fuse_op_fsync (fuse_req_t request, fuse_ino_t inode, int data_only, struct fuse_file_info *file)
{
  const FuseExport *export = fuse_req_userdata (request);
  if (!export->writable)
    fuse_reply_err (request, 0);
  else
    fuse_op_submit (fuse_op_new (request), TN_REQUEST_FLUSH);
}
