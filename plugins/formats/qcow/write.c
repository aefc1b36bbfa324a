/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making room for writes and linking what was written.
 *
 * Order on disk: guest data before the L2 entry that shows it; a zeroed L2 table before the L1 entry that
 * names it.  A crash can therefore lose room at the end of the file, and nothing else.
 */
#include "qcow.h"

/* extent->cookie[0] */
enum { COOKIE_FRESH = 1, COOKIE_IN_PLACE = 2, COOKIE_PACKED = 3 };

int
qcow_alloc (Qcow *q, uint64_t length, uint64_t align, uint64_t *offset, GError **error)
{
  if (tail_space_take (&q->space, length, align, offset) < 0) {
    return qcow_fail (q, error, EFBIG, "the file cannot grow beyond 2^63 bytes");
  }
  return 0;
}

/* ---- Reserving ---- */

/* Entries from @index on that a write of @clusters must place anew. */
static unsigned
qcow_count_unplaced (const Qcow *q, const void *slice, unsigned index, uint64_t clusters)
{
  unsigned n = 0;
  while (n < clusters && index + n < qcow_slice_entries (q)) {
    const uint64_t entry = qcow_entry (slice, index + n);
    if (entry && !(entry & QCOW_PACKED)) {
      break;
    }
    n++;
  }
  return n;
}

static int
qcow_reserve_packed (Qcow *q, uint64_t start, TnExtent *extent, GError **error)
{
  const uint64_t length = extent->packed_length;
  uint64_t place;
  if (length == 0 || length >= q->cluster_size) {
    return -E2BIG;
  }
  int ret =
      qcow_alloc (q, (length + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1), QCOW_SECTOR, &place, error);
  if (ret < 0) {
    return ret;
  }
  if (place + length > q->packed_mask) {
    tail_space_give (&q->space, place, (length + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1));
    return -E2BIG; /* an entry has too few bits for that place: not compressed it fits */
  }
  *extent = (TnExtent){
    .offset = start,
    .length = q->cluster_size,
    .kind = TN_EXTENT_PACKED,
    .flags = TN_EXTENT_NEW,
    .source = q->file,
    .source_offset = place,
    .packed_length = length,
    .generation = extent->generation,
    .cookie = { COOKIE_PACKED, 0 },
  };
  return 0;
}

static int
qcow_reserve_clusters (Qcow *q, uint64_t start, uint64_t host, unsigned n, TnExtent *extent, GError **error)
{
  const bool placed = n == 0;
  int ret = placed ? 0 : qcow_alloc (q, (uint64_t) n << q->cluster_bits, q->cluster_size, &host, error);
  if (ret < 0) {
    return ret;
  }
  const bool untouched = !placed && q->zero_tail && host >= tn_node_size (q->file);
  *extent = (TnExtent){
    .offset = start,
    .length = (uint64_t) MAX (n, 1u) << q->cluster_bits,
    .kind = TN_EXTENT_DATA,
    .flags = TN_EXTENT_NEW | (untouched ? TN_EXTENT_READS_ZERO : 0),
    .source = q->file,
    .source_offset = host,
    .generation = extent->generation,
    .cookie = { placed ? COOKIE_IN_PLACE : COOKIE_FRESH, 0 },
  };
  return 0;
}

int
qcow_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error)
{
  Qcow *q = tn_node_state (node);
  const uint64_t start = offset & ~(uint64_t) (q->cluster_size - 1);
  const uint64_t clusters = (offset - start + length + q->cluster_size - 1) >> q->cluster_bits;
  TnMetaSlice *slice;
  uint64_t table;
  unsigned index;
  int ret = qcow_need_writable (q, error);
  if (ret < 0 || (ret = qcow_l2_table_make (q, offset, &table, error)) < 0
      || (ret = tn_meta_get (q->l2_cache, qcow_l2_slice (q, table, offset, &index), &slice, error)) < 0) {
    return ret;
  }
  const uint64_t entry = qcow_entry (tn_meta_data (slice), index);
  const unsigned n = qcow_count_unplaced (q, tn_meta_data (slice), index, clusters);
  tn_meta_put (slice);
  if (entry && !qcow_valid_entry (q, entry)) {
    return qcow_corrupt (q, error,
                         "the L2 table at 0x%" PRIx64 " has 0x%" PRIx64 " for guest offset 0x%" PRIx64
                         ", where no cluster can be",
                         table, entry, start);
  }
  return flags & TN_RESERVE_PACKED ? qcow_reserve_packed (q, start, extent, error)
                                   : qcow_reserve_clusters (q, start, entry, n, extent, error);
}

/* ---- Linking ---- */

static uint64_t
qcow_linked_entry (const Qcow *q, const TnExtent *extent, uint64_t done)
{
  if (extent->cookie[0] != COOKIE_PACKED) {
    return extent->source_offset + done;
  }
  return QCOW_PACKED | extent->packed_length << (63 - q->cluster_bits) | extent->source_offset;
}

static int
qcow_commit_extent (Qcow *q, TnExtent *extent, GError **error)
{
  const uint64_t stored = extent->cookie[0] == COOKIE_PACKED ? extent->packed_length : extent->length;
  uint64_t table = 0;
  TnMetaSlice *slice;
  unsigned index;
  /* Zeroes at the end of a cluster need not have been written: readers want it whole all the same. */
  int ret = extent->source_offset + stored > tn_node_size (q->file)
                ? tail_space_extend (&q->space, q->file, error)
                : 0;
  if (ret < 0 || (ret = qcow_l2_table (q, extent->offset, false, &table, error)) < 0) {
    return ret;
  }
  if (table == 0) {
    return qcow_fail (q, error, EIO, "the L2 table of guest offset 0x%" PRIx64 " has vanished",
                      extent->offset);
  }
  ret = tn_meta_get (q->l2_cache, qcow_l2_slice (q, table, extent->offset, &index), &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (q->l2_cache);
  uint8_t *entries = tn_meta_data (slice);
  for (uint64_t done = 0; done < extent->length; done += q->cluster_size, index++) {
    tn_store_be64 (entries + index * 8u, qcow_linked_entry (q, extent, done));
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  return 0;
}

int
qcow_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Qcow *q = tn_node_state (node);
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++) {
    ret = qcow_commit_extent (q, &extents[i], error);
  }
  return ret;
}

void
qcow_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Qcow *q = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    const TnExtent *extent = &extents[i];
    const bool packed = extent->cookie[0] == COOKIE_PACKED;
    const uint64_t length =
        packed ? (extent->packed_length + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1) : extent->length;
    if ((extent->flags & TN_EXTENT_NEW) && (packed || extent->cookie[0] == COOKIE_FRESH)) {
      tail_space_give (&q->space, extent->source_offset, length);
    }
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}
