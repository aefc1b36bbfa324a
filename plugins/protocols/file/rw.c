/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads, writes and flushes: one TnFdOp each, continued when the kernel moved less than asked. */
#include "file.h"

#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

/* What the loop copies by itself when the file is in memory.  A ring takes several short requests at once for
 * less. */
#define FILE_CALL_BYTES (16u << 10)
#define FILE_COPY_BYTES (2u << 20)

#ifndef IOV_MAX
#define IOV_MAX 1024
#endif

FileOp *
file_op_init (FileState *s, TnRequest *request, uint8_t opcode, void (*done) (TnFdOp *op, int64_t result))
{
  FileOp *op = tn_request_leaf_scratch (request);

  op->fd.opcode = opcode;
  op->fd.engine = s->engine;
  op->fd.n_iov = 0;
  op->fd.fd = s->fd;
  op->fd.flags = 0;
  op->fd.offset = request->offset;
  op->fd.length = request->length;
  op->fd.done = done;
  op->request = request;
  op->state = s;
  op->moved = 0;
  op->rest = NULL;
  return op;
}

void
file_op_finish (FileOp *op, int result)
{
  TnRequest *request = op->request;

  g_free (op->rest);
  request->done (request, result);
}

/* Where byte number @skip of @request is: the segment's index and, in @skip, the place inside it. */
static uint32_t
file_find_segment (const TnRequest *request, uint64_t *skip)
{
  uint32_t i = 0;

  while (i < request->n_iov && *skip >= request->iov[i].iov_len)
    *skip -= request->iov[i++].iov_len;
  return i;
}

/* The end of the file came before the end of the request: what lies behind reads as zeroes. */
static void
file_zero_fill (const TnRequest *request, uint64_t from)
{
  for (uint32_t i = file_find_segment (request, &from); i < request->n_iov; i++, from = 0)
    memset ((char *) request->iov[i].iov_base + from, 0, request->iov[i].iov_len - from);
}

static void
file_submit_rest (FileOp *op)
{
  TnRequest *request = op->request;
  uint64_t skip = op->moved;
  uint32_t first = file_find_segment (request, &skip);
  uint32_t n = MIN (request->n_iov - first, IOV_MAX);

  g_free (op->rest);
  op->rest = g_new (struct iovec, n);
  memcpy (op->rest, request->iov + first, n * sizeof *op->rest);
  op->rest[0].iov_base = (char *) op->rest[0].iov_base + skip;
  op->rest[0].iov_len -= skip;
  op->fd.iov = op->rest;
  op->fd.n_iov = n;
  op->fd.offset = request->offset + op->moved;
  tn_loop_submit (tn_loop_current (), &op->fd);
}

static void
file_short_read (FileOp *op, uint64_t moved)
{
  FileState *s = op->state;
  bool direct = __atomic_load_n (&s->direct, __ATOMIC_RELAXED);
  uint32_t alignment = __atomic_load_n (&s->alignment, __ATOMIC_RELAXED);

  op->moved += moved;
  /* A device that became smaller: what was there is gone, which is not the same as zeroes. */
  if (moved == 0 && s->block_device) {
    file_op_finish (op, -EIO);
    return;
  }
  /* With O_DIRECT only the end of the file ends a read inside a block. */
  if (moved == 0 || (direct && moved % alignment != 0)) {
    file_zero_fill (op->request, op->moved);
    file_op_finish (op, 0);
    return;
  }
  file_submit_rest (op);
}

static void
file_short_write (FileOp *op, uint64_t moved)
{
  FileState *s = op->state;
  bool direct = __atomic_load_n (&s->direct, __ATOMIC_RELAXED);

  if (direct)
    moved -= moved % __atomic_load_n (&s->alignment, __ATOMIC_RELAXED);
  op->moved += moved;
  file_grown_to (s, op->request->offset + op->moved);
  /* A write that gets no further without an error is the way of some file systems to say "full". */
  if (moved == 0)
    file_op_finish (op, -ENOSPC);
  else
    file_submit_rest (op);
}

static G_GNUC_NO_INLINE void
file_rw_continue (FileOp *op, int64_t result)
{
  TnRequest *request = op->request;

  if (result == -EINTR) {
    tn_loop_submit (tn_loop_current (), &op->fd);
    return;
  }
  if (result < 0) {
    file_op_finish (op, (int) result);
    return;
  }
  if (op->moved + (uint64_t) result < request->length) {
    if (request->op == TN_REQUEST_READ)
      file_short_read (op, (uint64_t) result);
    else
      file_short_write (op, (uint64_t) result);
    return;
  }
  if (request->op == TN_REQUEST_WRITE)
    file_grown_to (op->state, request->offset + request->length);
  file_op_finish (op, 0);
}

static void
file_rw_done (TnFdOp *fd, int64_t result)
{
  FileOp *op = (FileOp *) fd;
  TnRequest *request = op->request;

  if (G_UNLIKELY (result != (int64_t) request->length || op->rest != NULL)) {
    file_rw_continue (op, result);
    return;
  }
  if (request->op == TN_REQUEST_WRITE)
    file_grown_to (op->state, request->offset + request->length);
  request->done (request, 0);
}

/* io_uring hands what is asked of a file in memory to a thread of the kernel, though it would not wait:
 * copying right here costs less than waking that thread, and the bytes stay in this processor's caches. */
static bool
file_copies_here (const FileState *s, const TnRequest *request)
{
  return s->in_memory && request->length > FILE_CALL_BYTES && request->length <= FILE_COPY_BYTES;
}

static void
file_copy_here (FileOp *op, uint8_t opcode)
{
  const TnFdOp *fd = &op->fd;
  ssize_t moved = opcode == TN_FD_READ ? preadv (fd->fd, fd->iov, (int) fd->n_iov, (off_t) fd->offset)
                                       : pwritev (fd->fd, fd->iov, (int) fd->n_iov, (off_t) fd->offset);

  file_rw_done (&op->fd, moved < 0 ? -errno : moved);
}

void
file_rw_start (FileState *s, TnRequest *request, uint8_t opcode)
{
  FileOp *op = file_op_init (s, request, opcode, file_rw_done);

  if (s->in_memory && request->length <= FILE_CALL_BYTES)
    op->fd.engine = TN_FD_ENGINE_CALL;
  op->fd.iov = request->iov;
  op->fd.n_iov = G_LIKELY (request->n_iov <= IOV_MAX) ? request->n_iov : IOV_MAX;
  if (file_copies_here (s, request))
    file_copy_here (op, opcode);
  else
    tn_loop_submit (tn_loop_current (), &op->fd);
}

/*
 * After a failed fdatasync() the kernel marks the pages that it could not write as clean, so a later call
 * would succeed although data is lost.  The failure therefore stays until the file is opened again.
 */
static void
file_flush_done (TnFdOp *fd, int64_t result)
{
  FileOp *op = (FileOp *) fd;
  FileState *s = op->state;

  if (result == -EINTR) {
    tn_loop_submit (tn_loop_current (), fd);
    return;
  }
  if (result < 0 && !__atomic_load_n (&s->direct, __ATOMIC_RELAXED))
    __atomic_store_n (&s->flush_error, (int) result, __ATOMIC_RELAXED);
  file_op_finish (op, result < 0 ? (int) result : 0);
}

void
file_flush_start (FileState *s, TnRequest *request)
{
  FileOp *op = file_op_init (s, request, TN_FD_FSYNC, file_flush_done);
  int earlier = __atomic_load_n (&s->flush_error, __ATOMIC_RELAXED);

  if (earlier < 0) {
    file_op_finish (op, earlier);
    return;
  }
  op->fd.length = 0;
  tn_loop_submit (tn_loop_current (), &op->fd);
}

/* ---- Waiting right here: while an image is opened, which spares the making of a ring
 * ------------------------ */

int64_t
file_pread (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  FileState *s = tn_node_state (node);
  uint64_t moved = 0;

  while (moved < length) {
    ssize_t n = pread (s->fd, (char *) buffer + moved, length - moved, (off_t) (offset + moved));

    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, errno,
                            "Could not read %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT
                            " of '%s'",
                            length, offset, s->filename);
    if (n == 0 && s->block_device)
      return tn_fail (error, TN_BLOCK_ERROR, EIO,
                      "Could not read at offset %" G_GUINT64_FORMAT
                      " of '%s': the device has become smaller; open it anew",
                      offset + moved, s->filename);
    moved += (uint64_t) n;
    if (n == 0 || (s->direct && (uint64_t) n % s->alignment != 0))
      break;
  }
  return (int64_t) moved;
}

int64_t
file_pwrite (TnNode *node, const void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  FileState *s = tn_node_state (node);
  uint64_t moved = 0;

  while (moved < length) {
    ssize_t n = pwrite (s->fd, (const char *) buffer + moved, length - moved, (off_t) (offset + moved));

    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, n < 0 ? errno : ENOSPC,
                            "Could not write %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT
                            " of '%s'",
                            length, offset, s->filename);
    moved += (uint64_t) n;
  }
  file_grown_to (s, offset + length);
  return (int64_t) moved;
}

int
file_sync (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = __atomic_load_n (&s->flush_error, __ATOMIC_RELAXED);

  while (r == 0 && fdatasync (s->fd) < 0)
    if (errno != EINTR)
      r = -errno;
  if (r == 0)
    return 0;
  if (!__atomic_load_n (&s->direct, __ATOMIC_RELAXED))
    __atomic_store_n (&s->flush_error, r, __ATOMIC_RELAXED);
  return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not bring '%s' to stable storage", s->filename);
}
