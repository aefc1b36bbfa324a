/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image as a file: a FUSE file system that is mounted on a regular file and has nothing but its root,
 * which is that file.
 *
 * The kernel's requests are fetched on the loop that made the export and answered in any order.  The page
 * cache is left out (direct_io), so that other exports of the image and this one see the same.
 */
#ifndef FUSE_EXPORT_H
#define FUSE_EXPORT_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <tenon/export.h>

#define FUSE_MAX_OPS 256
#define FUSE_MAX_TRANSFER (1u << 20)

typedef struct FuseExport {
  TnExport *base;
  TnLoop *loop;
  TnDrive *drive;
  struct fuse_session *session;
  struct fuse_buf input;
  char *mountpoint;
  bool writable, growable, allow_other;
  bool mounted, watching;
  bool taken;   /* a request has taken the input's memory */
  bool growing; /* the size changes at the kernel's wish, which therefore knows of it */
  struct stat attributes;
  TnCoMutex size_lock;
  unsigned in_flight;
} FuseExport;

/* One request of the kernel. */
typedef struct FuseOp {
  TnRequest io;
  FuseExport *export;
  fuse_req_t request;
  void *buffer;
  struct iovec iov;
  uint64_t offset, length;
  int mode; /* of fallocate(), or whence of lseek() */
  int valid;
  struct stat wanted; /* of setattr() */
} FuseOp;

/* ---- session.c ---- */

int export_mount (FuseExport *export, GError **error);
/* Waits for the requests under way. */
void export_unmount (FuseExport *export);
/* The kernel should ask for the size again. */
void export_size_changed (FuseExport *export);
FuseOp *fuse_op_new (fuse_req_t request);
/* After the answer. */
void fuse_op_free (FuseOp *op);

/* ---- transfer.c ---- */

void fuse_op_read (fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                   struct fuse_file_info *file);
void fuse_op_write (fuse_req_t request, fuse_ino_t inode, const char *data, size_t size, off_t offset,
                    struct fuse_file_info *file);
void fuse_op_fsync (fuse_req_t request, fuse_ino_t inode, int data_only, struct fuse_file_info *file);
/* Sends op->io to the drive; the answer is 0, or what a write has written. */
void fuse_op_submit (FuseOp *op, uint8_t what);

/* ---- size.c ---- */

/* In a coroutine: makes the image at least that large, where that is allowed. */
int export_grow (FuseExport *export, uint64_t size);
void fuse_op_fallocate (fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                        struct fuse_file_info *file);
void fuse_op_lseek (fuse_req_t request, fuse_ino_t inode, off_t offset, int whence,
                    struct fuse_file_info *file);

/* ---- attributes.c ---- */

void fuse_op_getattr (fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file);
void fuse_op_setattr (fuse_req_t request, fuse_ino_t inode, struct stat *attributes, int valid,
                      struct fuse_file_info *file);
void fuse_op_open (fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file);

#endif
