/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests: taken from what was received, checked, passed to the drive. */
#include "server.h"

#define BUFFER_ALIGNMENT 4096
#define CACHE_PIECE (256u << 10)

/* ---- Their memory ---- */

static NbdOp *
take_op (NbdConnection *c)
{
  NbdOp *op = c->free_ops;
  if (op)
    c->free_ops = op->next;
  else
    op = g_new0 (NbdOp, 1);
  op->connection = c;
  op->extra = NULL;
  c->n_ops++;
  return op;
}

void
nbd_op_recycle (NbdOp *op)
{
  NbdConnection *c = op->connection;
  size_t given = op->extra_size;
  g_clear_pointer (&op->extra, g_free);
  op->extra_size = 0;
  if (op->capacity > NBD_KEPT_BUFFER || !nbd_memory_is_plenty (c->lane)) {
    given += op->capacity;
    g_clear_pointer (&op->buffer, free);
    op->capacity = 0;
  }
  op->next = c->free_ops;
  c->free_ops = op;
  c->n_ops--;
  nbd_memory_give (c, given);
}

bool
nbd_op_reserve (NbdOp *op, size_t length)
{
  if (length > op->capacity) {
    const size_t capacity = length <= NBD_KEPT_BUFFER ? NBD_KEPT_BUFFER : length;
    free (op->buffer);
    nbd_memory_give (op->connection, op->capacity);
    op->capacity = 0;
    op->buffer = NULL;
    if (posix_memalign ((void **) &op->buffer, BUFFER_ALIGNMENT, capacity) != 0) {
      op->buffer = NULL;
      return false;
    }
    op->capacity = capacity;
    nbd_memory_take (op->connection, capacity);
  }
  op->data = (struct iovec){ op->buffer, length };
  return true;
}

/* ---- Their end ---- */

static void
finished (NbdOp *op)
{
  NbdConnection *c = op->connection;
  nbd_reply_queue (op);
  c->running--;
  if (c->working)
    return;
  if (c->running == 0 || c->dead)
    nbd_connection_work (c, false);
  else
    nbd_connection_work_soon (c);
}

void
nbd_op_end (NbdOp *op, int result)
{
  if (result < 0)
    nbd_reply_error (op, -result, g_strerror (-result));
  else if (op->header.type == NBD_CMD_READ)
    nbd_reply_data (op);
  else
    nbd_reply_done (op);
  finished (op);
}

void
nbd_op_end_with (NbdOp *op, struct iovec *out, unsigned n)
{
  op->out = out;
  op->n_out = n;
  finished (op);
}

static void
request_done (TnRequest *request, int result)
{
  nbd_op_end (request->opaque, result);
}

/* A trim that has to be stable when it is answered. */
static void
trimmed (TnRequest *request, int result)
{
  NbdOp *op = request->opaque;
  request->done = request_done;
  request->op = TN_REQUEST_FLUSH;
  request->flags = 0;
  request->offset = request->length = 0;
  if (result < 0)
    nbd_op_end (op, result);
  else
    tn_drive_submit (op->connection->export->drive, request);
}

/* ---- In coroutines ---- */

typedef struct DriveCall {
  TnRequest request;
  TnCoroutine *waiter;
  int result;
} DriveCall;

static void
call_done (TnRequest *request, int result)
{
  DriveCall *call = request->opaque;
  call->result = result;
  tn_co_wake (call->waiter);
}

int
nbd_drive_call (NbdExport *export, unsigned what, uint64_t offset, uint64_t length, void *buffer)
{
  const struct iovec iov = { buffer, length };
  DriveCall call = { .waiter = tn_co_self () };
  call.request.op = (uint8_t) what;
  call.request.offset = offset;
  call.request.length = length;
  call.request.iov = &iov;
  call.request.n_iov = 1;
  call.request.done = call_done;
  call.request.opaque = &call;
  tn_drive_submit (export->drive, &call.request);
  tn_co_yield ();
  return call.result;
}

/* Reads into the host's cache, and no further. */
static void
cache_main (void *opaque)
{
  NbdOp *op = opaque;
  uint64_t done = 0;
  int result = nbd_op_reserve (op, MIN (op->header.length, CACHE_PIECE)) ? 0 : -ENOMEM;
  while (result == 0 && done < op->header.length && !op->connection->dead) {
    const uint64_t part = MIN (op->header.length - done, CACHE_PIECE);
    result =
        nbd_drive_call (op->connection->export, TN_REQUEST_READ, op->header.offset + done, part, op->buffer);
    done += part;
  }
  nbd_op_end (op, result);
}

/* ---- Checking and starting ---- */

/* 0, or an errno value. */
static int
check_range (const NbdOp *op)
{
  const NbdRequestHeader *header = &op->header;
  const uint64_t size = tn_drive_size (op->connection->export->drive);
  const bool growing = header->type == NBD_CMD_WRITE || header->type == NBD_CMD_WRITE_ZEROES;
  if (header->offset > size || header->length > size - header->offset)
    return growing ? ENOSPC : EINVAL;
  return 0;
}

static bool
changes (unsigned type)
{
  return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES || type == NBD_CMD_TRIM;
}

static int
check (const NbdOp *op)
{
  const NbdConnection *c = op->connection;
  const unsigned type = op->header.type;
  unsigned allowed = NBD_CMD_FLAG_FUA;
  if (type > NBD_CMD_BLOCK_STATUS)
    return EINVAL;
  if (type == NBD_CMD_READ && (c->structured || c->extended))
    allowed |= NBD_CMD_FLAG_DF;
  if (type == NBD_CMD_WRITE && c->extended)
    allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
  if (type == NBD_CMD_WRITE_ZEROES)
    allowed |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
  if (type == NBD_CMD_BLOCK_STATUS)
    allowed |= NBD_CMD_FLAG_REQ_ONE;
  if (op->header.flags & ~allowed)
    return EINVAL;
  if (changes (type) && !c->export->writable)
    return EPERM;
  if (type == NBD_CMD_FLUSH)
    return 0;
  if ((type == NBD_CMD_READ || type == NBD_CMD_WRITE) && op->header.length > NBD_MAX_PAYLOAD)
    return EOVERFLOW;
  if (type == NBD_CMD_BLOCK_STATUS && (c->n_contexts == 0 || op->header.length == 0))
    return EINVAL;
  return check_range (op);
}

static void
submit (NbdOp *op, unsigned what, uint16_t flags)
{
  TnRequest *request = &op->request;
  const bool range = what != TN_REQUEST_FLUSH;
  request->op = (uint8_t) what;
  request->flags = flags;
  request->iov = &op->data;
  request->n_iov = what == TN_REQUEST_READ || what == TN_REQUEST_WRITE ? 1 : 0;
  request->offset = range ? op->header.offset : 0;
  request->length = range ? op->header.length : 0;
  request->done = request_done;
  request->opaque = op;
  if (what == TN_REQUEST_DISCARD && (op->header.flags & NBD_CMD_FLAG_FUA))
    request->done = trimmed;
  tn_drive_submit (op->connection->export->drive, request);
}

static uint16_t
zero_flags (unsigned flags)
{
  return (uint16_t) ((flags & NBD_CMD_FLAG_FUA ? TN_REQUEST_FUA : 0)
                     | (flags & NBD_CMD_FLAG_NO_HOLE ? 0 : TN_REQUEST_MAY_UNMAP)
                     | (flags & NBD_CMD_FLAG_FAST_ZERO ? TN_REQUEST_NO_FALLBACK : 0));
}

static void
start_read (NbdOp *op)
{
  if (!nbd_op_reserve (op, op->header.length))
    nbd_op_end (op, -ENOMEM);
  else if (nbd_holes_wanted (op))
    tn_co_start (nbd_holes_main, op);
  else
    submit (op, TN_REQUEST_READ, 0);
}

/* All of its data is there. */
static void
start (NbdOp *op)
{
  const NbdRequestHeader *header = &op->header;
  const int refused = check (op);
  op->connection->running++;
  if (refused || (header->length == 0 && header->type != NBD_CMD_FLUSH)) {
    op->data.iov_len = 0;
    nbd_op_end (op, -refused);
    return;
  }
  switch (header->type) {
  case NBD_CMD_READ:
    start_read (op);
    break;
  case NBD_CMD_WRITE:
    submit (op, TN_REQUEST_WRITE, header->flags & NBD_CMD_FLAG_FUA ? TN_REQUEST_FUA : 0);
    break;
  case NBD_CMD_FLUSH:
    submit (op, TN_REQUEST_FLUSH, 0);
    break;
  case NBD_CMD_TRIM:
    submit (op, TN_REQUEST_DISCARD, 0);
    break;
  case NBD_CMD_WRITE_ZEROES:
    submit (op, TN_REQUEST_WRITE_ZEROES, zero_flags (header->flags));
    break;
  case NBD_CMD_CACHE:
    tn_co_start (cache_main, op);
    break;
  default:
    tn_co_start (nbd_status_main, op);
  }
}

/* ---- Taking them from the buffer ---- */

static bool
take_skipped (NbdConnection *c)
{
  const size_t part = (size_t) MIN (c->skip, nbd_connection_available (c));
  c->in_start += part;
  c->skip -= part;
  return c->skip == 0;
}

static bool
take_payload (NbdConnection *c)
{
  NbdOp *op = c->payload;
  const size_t part = MIN (op->header.length - c->payload_got, nbd_connection_available (c));
  if (part)
    memcpy (op->buffer + c->payload_got, c->in + c->in_start, part);
  c->in_start += part;
  c->payload_got += part;
  if (c->payload_got < op->header.length)
    return false;
  c->payload = NULL;
  start (op);
  return true;
}

/* Data follows the header. */
static bool
has_payload (const NbdConnection *c, const NbdRequestHeader *header)
{
  if (c->extended && (header->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
    return true;
  return !c->extended && header->type == NBD_CMD_WRITE;
}

static bool
has_room (NbdConnection *c, const NbdRequestHeader *header)
{
  const bool large = header->type == NBD_CMD_READ || header->type == NBD_CMD_WRITE;
  const uint64_t needed = large ? MIN (header->length, NBD_MAX_PAYLOAD) : CACHE_PIECE;
  return c->n_ops < NBD_MAX_OPS && nbd_memory_has_room (c, MAX (needed, NBD_KEPT_BUFFER));
}

/* What must not be kept is thrown away as it comes, and the request answered. */
static void
refuse_payload (NbdConnection *c, NbdOp *op, int errnum)
{
  c->skip = op->header.length;
  op->data.iov_len = 0;
  c->running++;
  nbd_op_end (op, -errnum);
}

static void
begin (NbdConnection *c, const NbdRequestHeader *header)
{
  NbdOp *op = take_op (c);
  op->header = *header;
  if (!has_payload (c, header)) {
    if (header->type == NBD_CMD_WRITE)
      op->header.flags |= NBD_CMD_FLAG_DF; /* a write without data: check() refuses it */
    start (op);
    return;
  }
  const int refused = check (op);
  if (refused || header->type != NBD_CMD_WRITE || !nbd_op_reserve (op, header->length)) {
    refuse_payload (c, op, refused ? refused : header->type == NBD_CMD_WRITE ? ENOMEM : EINVAL);
    return;
  }
  c->payload = op;
  c->payload_got = 0;
}

bool
nbd_request_parse (NbdConnection *c)
{
  NbdRequestHeader header;
  const size_t size = nbd_request_size (c->extended);
  if (c->skip && !take_skipped (c))
    return false;
  if (c->payload)
    return take_payload (c);
  if (nbd_connection_available (c) < size)
    return false;
  if (!nbd_get_request (c->in + c->in_start, c->extended, &header)) {
    nbd_connection_drop (c, "a request begins with the wrong magic number");
    return false;
  }
  if (!has_room (c, &header)) {
    c->blocked = true;
    return false;
  }
  c->in_start += size;
  if (header.type == NBD_CMD_DISC)
    c->state = NBD_CLOSING;
  else
    begin (c, &header);
  return true;
}
