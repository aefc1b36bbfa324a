/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making room for writes and linking what was written.
 *
 * Order on disk: refcount blocks, then L2 tables; guest data, then the L2 entries that show it.  What an
 * entry pointed to before is freed only after the new entry is durable (alloc.c).
 */
#include "crypt.h"

#define MAX_PENDING_FREES 65536u

/* extent->cookie[0] */
enum { COOKIE_FRESH = 1, COOKIE_IN_PLACE = 2, COOKIE_PACKED = 3 };

static void
fill_new_extent (Qcow2 *q, TnExtent *extent, uint64_t start, uint64_t length, uint64_t host, uint64_t cookie)
{
  const uint64_t generation = extent->generation;
  const bool untouched = cookie == COOKIE_FRESH && q->zero_tail && host >= tn_node_size (q->file);
  *extent = (TnExtent){
    .offset = start,
    .length = length,
    .kind = TN_EXTENT_DATA,
    .flags = TN_EXTENT_NEW | (untouched ? TN_EXTENT_READS_ZERO : 0)
             | (q->header.crypt_method ? TN_EXTENT_ENCRYPTED : 0),
    .source = q->data,
    .source_offset = host,
    .generation = generation,
    .cookie = { cookie, 0 },
  };
}

static int
bad_entry (Qcow2 *q, uint64_t guest, Qcow2Entry entry, GError **error)
{
  return qcow2_corrupt (q, error,
                        "the L2 entry 0x%016" PRIx64 " of guest offset 0x%" PRIx64 " cannot be right",
                        entry.raw, guest);
}

/* ---- Whole clusters ---- */

/* Whether the entry's own place can be written to and linked again. */
static bool
has_own_place (const Qcow2 *q, Qcow2Entry entry, Qcow2Kind kind)
{
  if (q->external) {
    return true;
  }
  return (kind == QCOW2_KIND_ZERO_PLACED || kind == QCOW2_KIND_DATA || kind == QCOW2_KIND_RESERVED_SPACE)
         && (entry.raw & QCOW2_COPIED);
}

/* Entries from @start on that are all alike in that; *host is where the first one's own place is. */
static int
count_alike (Qcow2 *q, const void *slice, uint64_t start, uint64_t end, bool *own, uint64_t *host,
             uint64_t *n, GError **error)
{
  const unsigned entries = qcow2_slice_entries (q);
  unsigned index = qcow2_slice_index (q, start);
  *n = 0;
  for (uint64_t at = start; at < end && index < entries; at += q->cluster_size, index++, ++*n) {
    const Qcow2Entry entry = qcow2_entry_load (q, slice, index);
    const Qcow2Kind kind = qcow2_entry_kind (q, entry, at, 0);
    if (kind == QCOW2_KIND_INVALID) {
      return *n ? 0 : bad_entry (q, at, entry, error);
    }
    const bool mine = has_own_place (q, entry, kind);
    const uint64_t place = q->external ? at : entry.raw & QCOW2_OFFSET_MASK;
    if (at == start) {
      *own = mine;
      *host = place;
    } else if (mine != *own || (mine && place != *host + (at - start))
               || (q->external && kind == QCOW2_KIND_DATA)) {
      return 0;
    }
  }
  return 0;
}

static int
reserve_clusters (Qcow2 *q, uint64_t start, uint64_t end, TnExtent *extent, GError **error)
{
  TnMetaSlice *slice;
  uint64_t host = 0, n = 0;
  bool own = false;
  int ret = qcow2_l2_get_writable (q, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  ret = count_alike (q, tn_meta_data (slice), start, end, &own, &host, &n, error);
  tn_meta_put (slice);
  if (ret < 0) {
    return ret;
  }
  if (!own) {
    ret = qcow2_alloc_run (q, n, &host, &n, error);
  } else if (q->external) {
    qcow2_keep_external (q, start >> q->cluster_bits, n);
  } else if (qcow2_overlaps_metadata (q, host, n << q->cluster_bits)) {
    ret = qcow2_corrupt (q, error, "guest offset 0x%" PRIx64 " is placed on metadata at 0x%" PRIx64, start,
                         host);
  }
  if (ret < 0) {
    return ret;
  }
  fill_new_extent (q, extent, start, n << q->cluster_bits, host, own ? COOKIE_IN_PLACE : COOKIE_FRESH);
  return 0;
}

/* ---- Subclusters ---- */

static Qcow2Inflight *
find_inflight (Qcow2 *q, uint64_t guest)
{
  const uint64_t cluster = guest >> q->cluster_bits;
  return g_hash_table_lookup (q->inflight, &cluster);
}

/* Several requests may write parts of one cluster whose place is not linked yet. */
static void
join_inflight (Qcow2 *q, uint64_t guest, uint64_t host, bool linked)
{
  Qcow2Inflight *inflight = find_inflight (q, guest);
  if (inflight == NULL) {
    const uint64_t cluster = guest >> q->cluster_bits;
    inflight = g_new0 (Qcow2Inflight, 1);
    inflight->host = host;
    inflight->linked = linked;
    g_hash_table_insert (q->inflight, g_memdup2 (&cluster, sizeof cluster), inflight);
  }
  inflight->users++;
}

static void
leave_inflight (Qcow2 *q, uint64_t guest)
{
  const uint64_t cluster = guest >> q->cluster_bits;
  Qcow2Inflight *inflight = find_inflight (q, guest);
  if (--inflight->users) {
    return;
  }
  if (!inflight->linked && !q->external) {
    qcow2_alloc_undo (q, inflight->host, q->cluster_size);
  }
  g_hash_table_remove (q->inflight, &cluster);
}

/* Subclusters from @start on, within one cluster, that a write up to @end must link. */
static uint64_t
count_unlinked (const Qcow2 *q, Qcow2Entry entry, uint64_t start, uint64_t end)
{
  const uint64_t unit = 1ull << q->unit_bits, cluster_end = (start | (q->cluster_size - 1)) + 1;
  uint64_t at = start + unit;
  while (at < MIN (end, cluster_end)) {
    const unsigned sub = (unsigned) (at >> q->unit_bits) & (QCOW2_SUBCLUSTERS - 1);
    if (entry.bitmap & (1ull << sub)) {
      break;
    }
    at += unit;
  }
  return at - start;
}

/* Clusters from @start on without a place, linked or in flight. */
static uint64_t
count_unplaced (Qcow2 *q, const void *slice, uint64_t start, uint64_t end)
{
  const unsigned entries = qcow2_slice_entries (q);
  uint64_t n = 0, at = start & ~(uint64_t) (q->cluster_size - 1);
  for (unsigned index = qcow2_slice_index (q, start); at < end && index < entries;
       index++, at += q->cluster_size) {
    const Qcow2Entry entry = qcow2_entry_load (q, slice, index);
    const Qcow2Kind kind = qcow2_entry_kind (q, entry, at, 0);
    if ((kind != QCOW2_KIND_UNALLOCATED && kind != QCOW2_KIND_ZERO) || find_inflight (q, at)) {
      break;
    }
    n++;
  }
  return n;
}

static int
reserve_fresh_subclusters (Qcow2 *q, uint64_t n, uint64_t start, uint64_t end, TnExtent *extent,
                           GError **error)
{
  const uint64_t mask = q->cluster_size - 1, base = start & ~mask;
  uint64_t host;
  int ret = qcow2_alloc_run (q, n, &host, &n, error);
  if (ret < 0) {
    return ret;
  }
  end = MIN (end, base + (n << q->cluster_bits));
  if ((start & mask) || end < base + q->cluster_size) {
    join_inflight (q, start, host, false);
  }
  if ((end & mask) && (end & ~mask) != base) {
    join_inflight (q, end, host + ((end & ~mask) - base), false);
  }
  fill_new_extent (q, extent, start, end - start, host + (start & mask), COOKIE_FRESH);
  return 0;
}

static int
reserve_subclusters (Qcow2 *q, uint64_t start, uint64_t end, TnExtent *extent, GError **error)
{
  const uint64_t mask = q->cluster_size - 1, base = start & ~mask;
  TnMetaSlice *slice;
  int ret = qcow2_l2_get_writable (q, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  const unsigned sub = (unsigned) (start >> q->unit_bits) & (QCOW2_SUBCLUSTERS - 1);
  const Qcow2Entry entry = qcow2_entry_load (q, tn_meta_data (slice), qcow2_slice_index (q, start));
  const Qcow2Kind kind = qcow2_entry_kind (q, entry, start, sub);
  const uint64_t unplaced = q->external ? 0 : count_unplaced (q, tn_meta_data (slice), start, end);
  tn_meta_put (slice);
  if (kind == QCOW2_KIND_INVALID) {
    return bad_entry (q, start, entry, error);
  }
  const bool placed = (entry.raw & QCOW2_OFFSET_MASK) || q->external;
  if (kind == QCOW2_KIND_PACKED || (placed && !q->external && !(entry.raw & QCOW2_COPIED))) {
    ret = qcow2_unshare_cluster (q, start, error);
    return ret < 0 ? ret : reserve_subclusters (q, start, end, extent, error);
  }
  const Qcow2Inflight *inflight = find_inflight (q, start);
  if (!placed && inflight == NULL) {
    return reserve_fresh_subclusters (q, unplaced, start, end, extent, error);
  }
  const uint64_t host = q->external ? base : placed ? entry.raw & QCOW2_OFFSET_MASK : inflight->host;
  if (q->external) {
    qcow2_keep_external (q, base >> q->cluster_bits, 1);
  } else if (qcow2_overlaps_metadata (q, host, q->cluster_size)) {
    return qcow2_corrupt (q, error, "guest offset 0x%" PRIx64 " is placed on metadata at 0x%" PRIx64, start,
                          host);
  }
  const uint64_t length = count_unlinked (q, entry, start, end);
  join_inflight (q, start, host, placed);
  fill_new_extent (q, extent, start, length, host + (start & mask), COOKIE_IN_PLACE);
  return 0;
}

static int
read_whole_cluster (Qcow2 *q, Qcow2Entry entry, uint64_t guest, uint8_t *buffer, GError **error)
{
  if (!(entry.raw & QCOW2_COMPRESSED)) {
    const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
    int ret = tn_node_read (q->file, host, buffer, q->cluster_size, error);
    qcow2_decrypt (q, guest, host, buffer, q->cluster_size);
    return ret;
  }
  uint64_t place, length;
  qcow2_packed_place (q, entry.raw, &place, &length);
  g_autofree uint8_t *packed = g_malloc (length);
  int ret = tn_node_read (q->file, place, packed, length, error);
  return ret < 0 ? ret : qcow2_unpack_bytes (q, packed, length, buffer, q->cluster_size, error);
}

static int
link_copy (Qcow2 *q, uint64_t guest, uint64_t host, GError **error)
{
  TnMetaSlice *slice;
  int ret = qcow2_l2_order (q, true, error);
  if (ret < 0 || (ret = qcow2_l2_get_writable (q, guest, &slice, error)) < 0) {
    return ret;
  }
  const unsigned index = qcow2_slice_index (q, guest);
  const Qcow2Entry old = qcow2_entry_load (q, tn_meta_data (slice), index);
  const Qcow2Entry new = { host | QCOW2_COPIED, old.raw & QCOW2_COMPRESSED ? UINT32_MAX : old.bitmap };
  qcow2_entry_store (q, tn_meta_data (slice), index, new);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  qcow2_free_entry (q, old);
  if (q->node) {
    tn_node_bump_generation (q->node);
  }
  return 0;
}

int
qcow2_unshare_cluster (Qcow2 *q, uint64_t guest, GError **error)
{
  g_autofree uint8_t *buffer = g_malloc (q->cluster_size);
  TnMetaSlice *slice;
  uint64_t host, count;
  int ret = qcow2_l2_get (q, guest, &slice, error);
  if (ret < 0 || slice == NULL) {
    return ret;
  }
  const Qcow2Entry old = qcow2_entry_load (q, tn_meta_data (slice), qcow2_slice_index (q, guest));
  tn_meta_put (slice);
  const uint64_t base = guest & ~(uint64_t) (q->cluster_size - 1);
  if ((ret = read_whole_cluster (q, old, base, buffer, error)) < 0
      || (ret = qcow2_alloc_run (q, 1, &host, &count, error)) < 0) {
    return ret;
  }
  qcow2_encrypt (q, base, host, buffer, q->cluster_size);
  if ((ret = tn_node_write (q->file, host, buffer, q->cluster_size, error)) < 0
      || (ret = link_copy (q, guest, host, error)) < 0) {
    qcow2_alloc_undo (q, host, q->cluster_size);
  }
  return ret;
}

/* ---- Reserving ---- */

static int
reserve_packed (Qcow2 *q, uint64_t offset, TnExtent *extent, GError **error)
{
  const uint64_t length = extent->packed_length, start = offset & ~(uint64_t) (q->cluster_size - 1);
  TnMetaSlice *slice;
  uint64_t place;
  if (q->external || q->header.crypt_method) {
    return qcow2_fail (q, error, ENOTSUP, "compressed clusters cannot be kept in an %s",
                       q->external ? "external data file" : "encrypted image");
  }
  if (length == 0 || length >= q->cluster_size) {
    return -E2BIG;
  }
  int ret = qcow2_l2_get_writable (q, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_put (slice);
  if ((ret = qcow2_alloc_packed (q, length, &place, error)) < 0) {
    return ret;
  }
  fill_new_extent (q, extent, start, q->cluster_size, place, COOKIE_PACKED);
  extent->kind = TN_EXTENT_PACKED;
  extent->source = q->file;
  extent->packed_length = length;
  return 0;
}

int
qcow2_reserve_state (Qcow2 *q, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                     GError **error)
{
  const uint64_t unit = 1ull << q->unit_bits, start = offset & ~(unit - 1);
  const uint64_t end = (offset + length + unit - 1) & ~(unit - 1);
  int ret = qcow2_touch (q, error);
  if (ret == 0 && q->bitmaps_tracking) {
    qcow2_bitmaps_dirty (q, offset, length);
  }
  if (ret == 0 && q->freed->len > MAX_PENDING_FREES) {
    ret = qcow2_settle (q, error);
  }
  if (ret < 0) {
    return ret;
  }
  if (flags & TN_RESERVE_PACKED) {
    return reserve_packed (q, offset, extent, error);
  }
  return q->extended ? reserve_subclusters (q, start, end, extent, error)
                     : reserve_clusters (q, start, end, extent, error);
}

int
qcow2_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
               GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  return qcow2_reserve_state (q, offset, length, flags, extent, error);
}

/* ---- Linking ---- */

static Qcow2Entry
packed_entry (const Qcow2 *q, const TnExtent *extent)
{
  const uint64_t at = extent->source_offset, more = ((at + extent->packed_length - 1) >> 9) - (at >> 9);
  return (Qcow2Entry){ at | more << q->packed_shift | QCOW2_COMPRESSED, 0 };
}

/* The part of cluster @base that the extent covers becomes data at @host. */
static Qcow2Entry
linked_entry (const Qcow2 *q, Qcow2Entry old, const TnExtent *extent, uint64_t base, uint64_t host)
{
  if (!q->extended) {
    return (Qcow2Entry){ host | QCOW2_COPIED, 0 };
  }
  const uint64_t from = MAX (extent->offset, base),
                 to = MIN (extent->offset + extent->length, base + q->cluster_size);
  const unsigned first = (unsigned) ((from - base) >> q->unit_bits),
                 n = (unsigned) ((to - from) >> q->unit_bits);
  const uint64_t mask = (n == QCOW2_SUBCLUSTERS ? UINT32_MAX : (1ull << n) - 1) << first;
  return (Qcow2Entry){ host | QCOW2_COPIED, (old.bitmap | mask) & ~(mask << 32) };
}

static void
link_clusters (Qcow2 *q, void *slice, const TnExtent *extent)
{
  const uint64_t mask = q->cluster_size - 1, end = extent->offset + extent->length,
                 start = extent->offset & ~mask;
  const uint64_t host = extent->source_offset - (extent->offset & mask);
  unsigned index = qcow2_slice_index (q, start);
  for (uint64_t base = start; base < end; base += q->cluster_size, index++) {
    const uint64_t place = host + (base - start);
    const Qcow2Entry old = qcow2_entry_load (q, slice, index);
    qcow2_entry_store (q, slice, index, linked_entry (q, old, extent, base, place));
    if (!q->external && ((old.raw & QCOW2_COMPRESSED) || (old.raw & QCOW2_OFFSET_MASK) != place)) {
      qcow2_free_entry (q, old);
    }
    Qcow2Inflight *inflight = q->extended ? find_inflight (q, base) : NULL;
    if (inflight) {
      inflight->linked = true;
      leave_inflight (q, base);
    }
  }
}

int
qcow2_commit_extent (Qcow2 *q, TnExtent *extent, GError **error)
{
  TnMetaSlice *slice;
  int ret = qcow2_l2_order (q, true, error);
  if (ret < 0 || (ret = qcow2_l2_get_writable (q, extent->offset, &slice, error)) < 0) {
    return ret;
  }
  if (extent->cookie[0] == COOKIE_PACKED) {
    const unsigned index = qcow2_slice_index (q, extent->offset);
    qcow2_free_entry (q, qcow2_entry_load (q, tn_meta_data (slice), index));
    qcow2_entry_store (q, tn_meta_data (slice), index, packed_entry (q, extent));
  } else {
    link_clusters (q, tn_meta_data (slice), extent);
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  return 0;
}

int
qcow2_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    int ret = qcow2_commit_extent (q, &extents[i], error);
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

void
qcow2_cancel_extent (Qcow2 *q, TnExtent *extent)
{
  const uint64_t mask = q->cluster_size - 1, start = extent->offset & ~mask;
  const uint64_t host = extent->source_offset - (extent->offset & mask);
  if (extent->cookie[0] == COOKIE_PACKED) {
    qcow2_alloc_undo (q, extent->source_offset, extent->packed_length);
    return;
  }
  for (uint64_t base = start; base < extent->offset + extent->length; base += q->cluster_size) {
    if (q->extended && find_inflight (q, base)) {
      leave_inflight (q, base);
    } else if (extent->cookie[0] == COOKIE_FRESH) {
      qcow2_alloc_undo (q, host + (base - start), q->cluster_size);
    }
  }
}

void
qcow2_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Qcow2 *q = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    if (extents[i].flags & TN_EXTENT_NEW) {
      qcow2_cancel_extent (q, &extents[i]);
      extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
    }
  }
}
