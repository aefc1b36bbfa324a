/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packed extents: decoding on workers with a small cache of decoded ones, and packed writes. */
#include "block/internal.h"

#include <stdlib.h>

#define MAX_ENTRIES 8
#define WORTH_A_WORKER (16u << 10) /* shorter ones are decoded at once */

/* ---- The cache ---- */

typedef struct Entry {
  uint64_t offset, length; /* of the extent; 0 long: free */
  uint64_t used;           /* when, by the cache's count */
  char *bytes;
  GSList *waiters; /* while loading: TnCoroutine * */
  unsigned readers;
  bool loading, stale;
} Entry;

struct TnUnpacked {
  TnSpin spin;
  uint64_t uses;
  Entry entries[MAX_ENTRIES];
};

static TnUnpacked *
cache_of (TnNode *node)
{
  TnUnpacked *cache = __atomic_load_n (&node->unpacked, __ATOMIC_ACQUIRE);
  if (cache)
    return cache;
  TnUnpacked *made = g_new0 (TnUnpacked, 1), *none = NULL;
  if (__atomic_compare_exchange_n (&node->unpacked, &none, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return made;
  g_free (made);
  return none;
}

static void
clear_entry (Entry *entry)
{
  free (entry->bytes);
  *entry = (Entry){ 0 };
}

/* Under the lock. */
static void
drop_if_stale (Entry *entry)
{
  if (entry->stale && !entry->readers && !entry->loading)
    clear_entry (entry);
}

static Entry *
find_entry (TnUnpacked *cache, const TnExtent *extent)
{
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    if (entry->length == extent->length && entry->offset == extent->offset && !entry->stale)
      return entry;
  }
  return NULL;
}

static Entry *
take_oldest (TnUnpacked *cache)
{
  Entry *oldest = NULL;
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    if (!entry->readers && !entry->loading && (!oldest || entry->used < oldest->used))
      oldest = entry;
  }
  if (oldest)
    clear_entry (oldest);
  return oldest;
}

typedef enum Found { FOUND_READY, FOUND_LOADING, FOUND_NEW, FOUND_NO_ROOM } Found;

/* Looks the extent up.  READY: *entry is held for reading; NEW: the caller must load it; LOADING: the running
 * coroutine has been queued and must yield. */
static Found
look_up (TnUnpacked *cache, const TnExtent *extent, Entry **entry)
{
  Found found;
  tn_spin_lock (&cache->spin);
  *entry = find_entry (cache, extent);
  if (*entry && (*entry)->loading) {
    (*entry)->waiters = g_slist_prepend ((*entry)->waiters, tn_co_self ());
    found = FOUND_LOADING;
  } else if (*entry) {
    (*entry)->readers++;
    found = FOUND_READY;
  } else {
    *entry = take_oldest (cache);
    found = *entry ? FOUND_NEW : FOUND_NO_ROOM;
    if (*entry)
      **entry = (Entry){ .offset = extent->offset, .length = extent->length, .loading = true };
  }
  if (*entry)
    (*entry)->used = ++cache->uses;
  tn_spin_unlock (&cache->spin);
  return found;
}

/* After loading: gives the entry its bytes (or drops it when @bytes is NULL) and holds it for reading. */
static void
end_loading (TnUnpacked *cache, Entry *entry, char *bytes)
{
  tn_spin_lock (&cache->spin);
  GSList *waiters = g_steal_pointer (&entry->waiters);
  entry->loading = false;
  entry->bytes = bytes;
  entry->readers = 1;
  if (!bytes)
    entry->stale = true;
  tn_spin_unlock (&cache->spin);
  for (GSList *each = waiters; each; each = each->next)
    tn_co_wake (each->data);
  g_slist_free (waiters);
}

static void
end_reading (TnUnpacked *cache, Entry *entry)
{
  tn_spin_lock (&cache->spin);
  entry->readers--;
  drop_if_stale (entry);
  tn_spin_unlock (&cache->spin);
}

void
tn_unpacked_forget (TnNode *node, uint64_t offset, uint64_t length)
{
  TnUnpacked *cache = __atomic_load_n (&node->unpacked, __ATOMIC_ACQUIRE);
  if (!cache)
    return;
  tn_spin_lock (&cache->spin);
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    bool before = entry->offset + entry->length <= offset;
    bool behind = entry->offset >= offset && entry->offset - offset >= length;
    if (!entry->length || before || behind)
      continue;
    entry->stale = true;
    drop_if_stale (entry);
  }
  tn_spin_unlock (&cache->spin);
}

void
tn_unpacked_free (TnNode *node)
{
  TnUnpacked *cache = g_steal_pointer (&node->unpacked);
  if (!cache)
    return;
  for (unsigned i = 0; i < MAX_ENTRIES; i++)
    clear_entry (&cache->entries[i]);
  g_free (cache);
}

/* ---- Decoding ---- */

typedef struct Decode {
  TnNode *node;
  const TnExtent *extent;
  const void *packed;
  size_t packed_length;
  void *to;
  GError *error;
  int result;
} Decode;

static void
decode_work (void *opaque)
{
  Decode *decode = opaque;
  decode->result =
      decode->node->format.unpack (decode->node, decode->extent, decode->packed, decode->packed_length,
                                   decode->to, decode->extent->length, &decode->error);
}

/* Fetches and decodes the whole extent to @to. */
static int
load (TnNode *node, const TnExtent *extent, char *to, GError **error)
{
  if (!node->format.unpack)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: format '%s' cannot decode", tn_node_filename (node),
                    node->class->name);
  char *packed = tn_buffer_new (extent->packed_length);
  if (!packed)
    return -ENOMEM;
  Decode decode = { node, extent, packed, extent->packed_length, to, NULL, 0 };
  int rc = tn_node_read (extent->source, extent->source_offset, packed, extent->packed_length, error);
  if (!rc) {
    if (extent->length >= WORTH_A_WORKER)
      tn_co_work (decode_work, &decode);
    else
      decode_work (&decode);
    rc = MIN (decode.result, 0);
    if (rc && decode.error)
      g_propagate_error (error, decode.error);
  }
  free (packed);
  return rc;
}

/* ---- Reading ---- */

/* The caller's memory when it takes the whole extent in one piece. */
static char *
direct_place (const TnExtent *extent, uint64_t length, const TnData *data, uint64_t to)
{
  if (length != extent->length)
    return NULL;
  g_autofree struct iovec *part = g_try_new (struct iovec, data->n_iov);
  if (!part || tn_iov_slice (data->iov, data->n_iov, to - data->base, length, part) != 1)
    return NULL;
  return part[0].iov_base;
}

static int
load_and_copy (TnNode *node, const TnExtent *extent, uint64_t skip, uint64_t length, const TnData *data,
               uint64_t to, char **bytes, GError **error)
{
  *bytes = tn_buffer_new (extent->length);
  if (!*bytes)
    return -ENOMEM;
  int rc = load (node, extent, *bytes, error);
  if (!rc)
    tn_iov_from_buffer (data->iov, data->n_iov, to - data->base, *bytes + skip, length);
  else
    g_clear_pointer (bytes, free);
  return rc;
}

static int
read_cached (TnNode *node, const TnExtent *extent, uint64_t skip, uint64_t length, const TnData *data,
             uint64_t to, GError **error)
{
  TnUnpacked *cache = cache_of (node);
  Entry *entry;
  Found found;
  while ((found = look_up (cache, extent, &entry)) == FOUND_LOADING)
    tn_co_yield ();
  if (found == FOUND_READY) {
    tn_iov_from_buffer (data->iov, data->n_iov, to - data->base, entry->bytes + skip, length);
    end_reading (cache, entry);
    return 0;
  }
  char *bytes;
  int rc = load_and_copy (node, extent, skip, length, data, to, &bytes, error);
  if (found == FOUND_NO_ROOM) {
    free (bytes);
    return rc;
  }
  end_loading (cache, entry, bytes);
  end_reading (cache, entry);
  return rc;
}

int
tn_pack_read (TnNode *node, const TnExtent *extent, uint64_t offset, uint64_t length, const TnData *data,
              uint64_t to, GError **error)
{
  char *place = direct_place (extent, length, data, to);
  if (place)
    return load (node, extent, place, error);
  return read_cached (node, extent, offset - extent->offset, length, data, to, error);
}

/* ---- Writing ---- */

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
