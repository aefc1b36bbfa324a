/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads that leave out holes: a structured reply may say where there are zeroes instead of sending them. */
#include "server.h"

/* Below this, sending zeroes is cheaper than looking for them. */
#define LEAST (64u << 10)
/* A hole shorter than this is sent as data. */
#define LEAST_HOLE (4u << 10)
#define MAX_PARTS 32

typedef struct Part {
  uint64_t offset, length;
  bool hole;
} Part;

/* The reply's parts, and the room for their headers. */
typedef struct Parts {
  struct iovec iov[2 * MAX_PARTS];
  uint8_t heads[MAX_PARTS][NBD_EXTENDED_REPLY_SIZE + 12];
  Part part[MAX_PARTS];
  unsigned n;
} Parts;

bool
nbd_holes_wanted (const NbdOp *op)
{
  const NbdConnection *c = op->connection;
  if (!(c->structured || c->extended) || op->header.length < LEAST || (op->header.flags & NBD_CMD_FLAG_DF))
    return false;
  return op->header.offset < c->data_from || op->header.offset + op->header.length > c->data_to;
}

static void
add_part (Parts *parts, uint64_t offset, uint64_t length, bool hole)
{
  Part *last = parts->n ? &parts->part[parts->n - 1] : NULL;
  if (last && (last->hole == hole || length < LEAST_HOLE)) {
    last->hole = last->hole && hole;
    last->length += length;
    return;
  }
  parts->part[parts->n++] = (Part){ offset, length, hole };
}

/* Looks as far as there is room for parts; the rest counts as data. */
static int
find_parts (NbdOp *op, Parts *parts)
{
  NbdConnection *c = op->connection;
  const NbdExport *export = c->export;
  const uint64_t end = op->header.offset + op->header.length, size = tn_drive_size (export->drive);
  for (uint64_t at = op->header.offset; at < end;) {
    TnStatus status = { .length = end - at };
    if (parts->n < MAX_PARTS - 1) {
      /* Asked for all that follows, the answer may spare the next reads the question. */
      const int rc = tn_node_status (tn_drive_node (export->drive), NULL, at, size - at, &status, NULL);
      if (rc < 0 || status.length == 0)
        return rc < 0 ? rc : -EIO;
    }
    if (!status.zero && parts->n < MAX_PARTS - 1) {
      c->data_from = at;
      c->data_to = at + status.length;
    }
    const uint64_t length = MIN (status.length, end - at);
    add_part (parts, at, length, status.zero);
    at += length;
  }
  return 0;
}

static int
read_parts (NbdOp *op, const Parts *parts)
{
  int rc = 0;
  for (unsigned i = 0; i < parts->n && rc == 0; i++) {
    const Part *part = &parts->part[i];
    if (!part->hole)
      rc = nbd_drive_call (op->connection->export, TN_REQUEST_READ, part->offset, part->length,
                           op->buffer + (part->offset - op->header.offset));
  }
  return rc;
}

static unsigned
describe_part (const NbdOp *op, Parts *parts, unsigned i, struct iovec *iov)
{
  const Part *part = &parts->part[i];
  const bool extended = op->connection->extended;
  uint8_t *head = parts->heads[i];
  const size_t at =
      nbd_put_chunk (head, extended,
                     &(NbdChunkHeader){ .flags = i == parts->n - 1 ? NBD_REPLY_FLAG_DONE : 0,
                                        .type = part->hole ? NBD_REPLY_OFFSET_HOLE : NBD_REPLY_OFFSET_DATA,
                                        .cookie = op->header.cookie,
                                        .offset = op->header.offset,
                                        .length = part->hole ? 12 : 8 + part->length });
  tn_store_be64 (head + at, part->offset);
  if (part->hole)
    tn_store_be32 (head + at + 8, (uint32_t) part->length);
  iov[0] = (struct iovec){ head, at + (part->hole ? 12 : 8) };
  if (part->hole)
    return 1;
  iov[1] = (struct iovec){ op->buffer + (part->offset - op->header.offset), part->length };
  return 2;
}

void
nbd_holes_main (void *opaque)
{
  NbdOp *op = opaque;
  Parts *parts = g_new0 (Parts, 1);
  int rc = find_parts (op, parts);
  if (rc == 0)
    rc = read_parts (op, parts);
  if (rc < 0 || (parts->n == 1 && !parts->part[0].hole)) {
    g_free (parts);
    nbd_op_end (op, rc);
    return;
  }
  unsigned n = 0;
  for (unsigned i = 0; i < parts->n; i++)
    n += describe_part (op, parts, i, parts->iov + n);
  op->extra = parts;
  nbd_op_end_with (op, parts->iov, n);
}
