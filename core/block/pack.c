/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packed writes: units encoded on workers, placed in order where the format needs it. */
#include "block/internal.h"

#include <stdlib.h>

/* ---- Order: whoever packs faster does not overtake ---- */

typedef struct TnPackWaiter {
  uint64_t ticket;
  TnCoroutine *coroutine;
} TnPackWaiter;

static uint64_t
take_ticket (TnPackOrder *order)
{
  tn_spin_lock (&order->spin);
  uint64_t ticket = order->tickets++;
  tn_spin_unlock (&order->spin);
  return ticket;
}

static void
await_turn (TnPackOrder *order, uint64_t ticket)
{
  TnPackWaiter self = { ticket, tn_co_self () };
  GSList link = { &self, NULL };
  tn_spin_lock (&order->spin);
  bool waits = order->turn != ticket;
  if (waits) {
    link.next = order->waiters;
    order->waiters = &link;
  }
  tn_spin_unlock (&order->spin);
  if (waits)
    tn_co_yield ();
}

static void
pass_turn (TnPackOrder *order)
{
  TnCoroutine *next = NULL;
  tn_spin_lock (&order->spin);
  order->turn++;
  for (GSList **link = &order->waiters; *link && !next;) {
    TnPackWaiter *waiter = (*link)->data;
    if (waiter->ticket == order->turn) {
      next = waiter->coroutine;
      *link = (*link)->next;
    } else {
      link = &(*link)->next;
    }
  }
  tn_spin_unlock (&order->spin);
  if (next)
    tn_co_wake (next);
}

/* ---- One unit after the other ---- */

typedef struct Encode {
  TnNode *node;
  uint64_t ticket;
  bool is_last; /* unit of the request */
  bool has_turn, turn_over;
  const char *in; /* one unit: in the request, or in @gathered */
  char *gathered;
  char *out;
  size_t unit, room, in_length, packed_length;
  GError *error;
  int result;
} Encode;

/* What does not get smaller is stored packed all the same where there is no other way. */
static size_t
packed_room (const TnNode *node, size_t unit)
{
  return node->always_packed ? unit + unit / 8 + 1024 : unit;
}

/* The next one may reserve. */
static void
end_turn (Encode *encode)
{
  TnPackOrder *order = &encode->node->pack_order;
  if (encode->turn_over)
    return;
  if (!encode->has_turn)
    await_turn (order, encode->ticket);
  encode->turn_over = true;
  pass_turn (order);
}

static void
encode_work (void *opaque)
{
  Encode *encode = opaque;
  encode->result = encode->node->format.pack (encode->node, encode->in, encode->in_length, encode->out,
                                              encode->room, &encode->packed_length, &encode->error);
}

static int
store_packed (TnNode *node, uint64_t offset, Encode *encode, GError **error)
{
  TnExtent extent = { .packed_length = encode->packed_length };
  int rc = tn_route_reserve (node, offset, encode->unit, TN_RESERVE_PACKED, &extent, error);
  if (rc)
    return rc;
  if (encode->is_last)
    end_turn (encode);
  rc = tn_node_write (extent.source, extent.source_offset, encode->out, encode->packed_length, error);
  if (!rc)
    rc = tn_route_commit (node, &extent, 1, error);
  if (rc)
    tn_route_cancel (node, &extent, 1);
  return rc;
}

/* A unit of which the request has a part: the rest is what stands there now. */
static int
complete (Encode *encode, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  TnNode *node = encode->node;
  uint64_t start = tn_round_down (offset, encode->unit);
  uint64_t whole = MIN (encode->unit, tn_node_size_now (node) - start);
  if (!encode->gathered)
    encode->gathered = tn_buffer_new (encode->unit);
  if (!encode->gathered)
    return -ENOMEM;
  struct iovec iov = { encode->gathered, whole };
  TnData unit = { &iov, 1, start };
  int rc = tn_route_read (node, &unit, start, whole, error);
  if (rc)
    return rc;
  memset (encode->gathered + whole, 0, encode->unit - whole);
  tn_iov_to_buffer (data->iov, data->n_iov, offset - data->base, encode->gathered + (offset - start), length);
  encode->in = encode->gathered;
  encode->in_length = encode->unit;
  return 0;
}

/* Mostly the unit is one piece of the request's memory. */
static bool
gather (Encode *encode, const TnData *data, uint64_t offset, uint64_t length)
{
  uint64_t skip = offset - data->base;
  unsigned i = 0;
  encode->in_length = encode->node->format.flags & TN_FORMAT_ALWAYS_PACKS ? length : encode->unit;
  while (i < data->n_iov && skip >= data->iov[i].iov_len)
    skip -= data->iov[i++].iov_len;
  if (i < data->n_iov && length == encode->unit && data->iov[i].iov_len - skip >= length) {
    encode->in = (const char *) data->iov[i].iov_base + skip;
    return true;
  }
  if (!encode->gathered)
    encode->gathered = tn_buffer_new (encode->unit);
  if (!encode->gathered)
    return false;
  tn_iov_to_buffer (data->iov, data->n_iov, offset - data->base, encode->gathered, length);
  memset (encode->gathered + length, 0, encode->unit - length);
  encode->in = encode->gathered;
  return true;
}

static int
write_unit (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, Encode *encode,
            GError **error)
{
  uint64_t start = tn_round_down (offset, encode->unit);
  bool whole = start == offset && (length == encode->unit || offset + length == tn_node_size_now (node));
  int rc = 0;
  if (!whole)
    rc = complete (encode, data, offset, length, error);
  else if (!gather (encode, data, offset, length))
    rc = -ENOMEM;
  if (rc)
    return rc;
  tn_co_work (encode_work, encode);
  if (!encode->has_turn)
    await_turn (&node->pack_order, encode->ticket);
  encode->has_turn = true;
  if (encode->result == -E2BIG && !node->always_packed) {
    g_clear_error (&encode->error);
    return tn_route_write (node, data, offset, length, error);
  }
  if (encode->result < 0) {
    if (encode->error)
      g_propagate_error (error, g_steal_pointer (&encode->error));
    return encode->result;
  }
  return store_packed (node, start, encode, error);
}

static int
write_units (TnNode *node, const TnData *data, uint64_t offset, uint64_t end, Encode *encode, GError **error)
{
  while (offset < end) {
    uint64_t next = tn_round_down (offset, encode->unit) + encode->unit;
    uint64_t length = MIN (next, end) - offset;
    encode->is_last = offset + length == end;
    int rc = write_unit (node, data, offset, length, encode, error);
    if (rc)
      return rc;
    offset += length;
  }
  return 0;
}

int
tn_pack_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  uint64_t end = offset + length, unit = node->pack_unit ? node->pack_unit : node->unit;
  if (!node->format.pack || !unit)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: format '%s' cannot compress",
                    tn_node_filename (node), node->class->name);
  if (!node->always_packed && (offset % unit || (end % unit && end != tn_node_size_now (node))))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "%s: compressed writes must cover whole clusters of %" G_GUINT64_FORMAT " bytes",
                    tn_node_filename (node), unit);
  size_t room = packed_room (node, unit);
  Encode encode = { .node = node,
                    .ticket = take_ticket (&node->pack_order),
                    .out = tn_buffer_new (room),
                    .unit = unit,
                    .room = room };
  int rc = encode.out ? write_units (node, data, offset, end, &encode, error) : -ENOMEM;
  end_turn (&encode);
  free (encode.gathered);
  free (encode.out);
  return rc;
}
