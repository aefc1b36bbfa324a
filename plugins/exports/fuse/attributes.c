/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stat() shows, and what of it can be changed. */
#include "fuse-export.h"

#define BLOCK 512
#define KEPT_SECONDS 1.0
#define WRITE_BITS 0222

static void
fill (const FuseExport *export, struct stat *attributes)
{
  TnInfo info = { .size = sizeof info };
  *attributes = export->attributes;
  attributes->st_size = (off_t) tn_drive_size (export->drive);
  attributes->st_blocks = attributes->st_size / BLOCK;
  if (tn_node_info (tn_drive_node (export->drive), &info, NULL) == 0 && info.allocated != UINT64_MAX)
    attributes->st_blocks = (blkcnt_t) (info.allocated / BLOCK);
}

/* In a coroutine, since looking at the image may wait. */
static void
answer (FuseOp *op)
{
  struct stat attributes;
  fill (op->export, &attributes);
  fuse_reply_attr (op->request, &attributes, KEPT_SECONDS);
  fuse_op_free (op);
}

static void
run_getattr (void *opaque)
{
  answer (opaque);
}

void
fuse_op_getattr (fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  tn_co_start (run_getattr, fuse_op_new (request));
}

/* ---- setattr() ---- */

static int
truncate_to (FuseExport *export, uint64_t size)
{
  int rc = 0;
  tn_co_mutex_lock (&export->size_lock);
  export->growing = true;
  if (size != tn_drive_size (export->drive))
    rc = export->growable ? tn_drive_resize (export->drive, size, NULL) : -EPERM;
  export->growing = false;
  tn_co_mutex_unlock (&export->size_lock);
  return rc;
}

/* Owner and mode say who may open the file; they live as long as the export. */
static int
set_access (FuseExport *export, const struct stat *wanted, int valid)
{
  struct stat *attributes = &export->attributes;
  const int adds = (int) (wanted->st_mode & ~attributes->st_mode);
  if ((valid & FUSE_SET_ATTR_MODE) && (adds & 0111))
    return -EPERM;
  if ((valid & FUSE_SET_ATTR_MODE) && (adds & WRITE_BITS) && !export->writable)
    return -EROFS;
  if (valid & FUSE_SET_ATTR_MODE)
    attributes->st_mode = S_IFREG | (wanted->st_mode & 0666);
  if (valid & FUSE_SET_ATTR_UID)
    attributes->st_uid = wanted->st_uid;
  if (valid & FUSE_SET_ATTR_GID)
    attributes->st_gid = wanted->st_gid;
  return 0;
}

static void
run_setattr (void *opaque)
{
  FuseOp *op = opaque;
  int rc = set_access (op->export, &op->wanted, op->valid);
  if (rc == 0 && (op->valid & FUSE_SET_ATTR_SIZE))
    rc = op->export->writable ? truncate_to (op->export, (uint64_t) op->wanted.st_size) : -EROFS;
  if (rc == 0) {
    answer (op);
    return;
  }
  fuse_reply_err (op->request, -rc);
  fuse_op_free (op);
}

void
fuse_op_setattr (fuse_req_t request, fuse_ino_t inode, struct stat *attributes, int valid,
                 struct fuse_file_info *file)
{
  if ((valid & FUSE_SET_ATTR_SIZE) && attributes->st_size < 0) {
    fuse_reply_err (request, EINVAL);
    return;
  }
  FuseOp *op = fuse_op_new (request);
  op->valid = valid;
  op->wanted = *attributes;
  tn_co_start (run_setattr, op);
}

void
fuse_op_open (fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  const FuseExport *export = fuse_req_userdata (request);
  if ((file->flags & O_ACCMODE) != O_RDONLY && !export->writable) {
    fuse_reply_err (request, EROFS);
    return;
  }
  file->direct_io = 1;
  fuse_reply_open (request, file);
}
