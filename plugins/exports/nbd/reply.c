/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replies: what they look like, and how many of them leave together. */
#include "server.h"

#define IOV_BATCH 64

static void
set_out (NbdOp *op, size_t head)
{
  op->out = op->own_out;
  op->n_out = 1;
  op->own_out[0] = (struct iovec){ op->head, head };
}

static bool
structured (const NbdOp *op)
{
  return op->connection->structured || op->connection->extended;
}

static size_t
put_chunk (NbdOp *op, NbdReplyType type, uint64_t length)
{
  return nbd_put_chunk (op->head, op->connection->extended,
                        &(NbdChunkHeader){ .flags = NBD_REPLY_FLAG_DONE,
                                           .type = (uint16_t) type,
                                           .cookie = op->header.cookie,
                                           .offset = op->header.offset,
                                           .length = length });
}

void
nbd_reply_done (NbdOp *op)
{
  set_out (op, op->connection->extended ? put_chunk (op, NBD_REPLY_NONE, 0)
                                        : nbd_put_simple_reply (op->head, 0, op->header.cookie));
}

void
nbd_reply_error (NbdOp *op, int errnum, const char *message)
{
  const uint32_t number = nbd_error_from_errno (errnum);
  if (!structured (op)) {
    set_out (op, nbd_put_simple_reply (op->head, number, op->header.cookie));
    return;
  }
  const size_t text = MIN (message ? strlen (message) : 0, 24);
  const size_t at = put_chunk (op, NBD_REPLY_ERROR, 6 + text);
  tn_store_be32 (op->head + at, number);
  tn_store_be16 (op->head + at + 4, (uint16_t) text);
  if (text)
    memcpy (op->head + at + 6, message, text);
  set_out (op, at + 6 + text);
}

void
nbd_reply_data (NbdOp *op)
{
  if (structured (op)) {
    const size_t at = put_chunk (op, NBD_REPLY_OFFSET_DATA, 8 + op->header.length);
    tn_store_be64 (op->head + at, op->header.offset);
    set_out (op, at + 8);
  } else {
    set_out (op, nbd_put_simple_reply (op->head, 0, op->header.cookie));
  }
  op->own_out[1] = op->data;
  op->n_out = 2;
}

void
nbd_reply_queue (NbdOp *op)
{
  NbdConnection *c = op->connection;
  op->next = NULL;
  if (c->out_first)
    c->out_last->next = op;
  else
    c->out_first = op;
  c->out_last = op;
}

/* ---- Sending ---- */

static unsigned
gather (const NbdConnection *c, struct iovec *iov)
{
  unsigned n = 0;
  size_t skip = c->out_sent;
  for (const NbdOp *op = c->out_first; op && n < IOV_BATCH; op = op->next) {
    for (unsigned i = 0; i < op->n_out && n < IOV_BATCH; i++) {
      const struct iovec *part = &op->out[i];
      if (skip >= part->iov_len) {
        skip -= part->iov_len;
        continue;
      }
      iov[n++] = (struct iovec){ (uint8_t *) part->iov_base + skip, part->iov_len - skip };
      skip = 0;
    }
  }
  return n;
}

static size_t
reply_size (const NbdOp *op)
{
  size_t size = 0;
  for (unsigned i = 0; i < op->n_out; i++)
    size += op->out[i].iov_len;
  return size;
}

static void
account (NbdConnection *c, size_t sent)
{
  c->out_sent += sent;
  while (c->out_first) {
    NbdOp *op = c->out_first;
    const size_t size = reply_size (op);
    if (c->out_sent < size)
      return;
    c->out_sent -= size;
    c->out_first = op->next;
    nbd_op_recycle (op);
  }
}

bool
nbd_reply_flush_control (NbdConnection *c)
{
  while (c->control->len > c->control_sent) {
    const struct iovec iov = { c->control->data + c->control_sent, c->control->len - c->control_sent };
    const ssize_t sent = nbd_channel_send (&c->channel, &iov, 1);
    if (sent < 0) {
      if (sent != -EAGAIN)
        nbd_connection_drop (c, NULL);
      return false;
    }
    c->control_sent += (size_t) sent;
  }
  g_byte_array_set_size (c->control, 0);
  c->control_sent = 0;
  return true;
}

bool
nbd_reply_send (NbdConnection *c)
{
  bool any = c->control->len > 0;
  if (any && !nbd_reply_flush_control (c))
    return false;
  while (c->out_first) {
    struct iovec iov[IOV_BATCH];
    const unsigned n = gather (c, iov);
    const ssize_t sent = nbd_channel_send (&c->channel, iov, n);
    if (sent < 0 && sent != -EAGAIN)
      nbd_connection_drop (c, NULL);
    if (sent < 0)
      return any;
    account (c, (size_t) sent);
    any = true;
  }
  return any;
}
