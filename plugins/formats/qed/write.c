/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making room for writes and linking what was written.
 *
 * Order on disk: the need-check bit before the first cluster is taken; guest data before the L2 entry that
 * shows it; a zeroed L2 table before the L1 entry that names it.  A crash can therefore lose clusters behind
 * the last one in use, and nothing else.
 */
#include "qed.h"

/* extent->cookie[0] */
enum { COOKIE_FRESH = 1, COOKIE_IN_PLACE = 2 };

/* ---- Clusters ---- */

int
qed_alloc (Qed *q, uint64_t clusters, uint64_t *offset, GError **error)
{
  int ret = qed_mark_need_check (q, error);
  if (ret < 0) {
    return ret;
  }
  if (tail_space_take (&q->space, clusters << q->cluster_bits, q->cluster_size, offset) < 0) {
    return qed_fail (q, error, EFBIG, "the file cannot grow beyond 2^63 bytes");
  }
  return 0;
}

/* ---- Reserving ---- */

/* Entries from @index on that a write up to @clusters needs and that are alike in having a place or not. */
static unsigned
qed_count_alike (const void *slice, unsigned index, uint64_t clusters)
{
  const uint64_t first = qed_entry (slice, index);
  const bool placed = first > QED_ENTRY_ZERO;
  unsigned n = 1;
  while (n < clusters && index + n < QED_SLICE / 8) {
    const uint64_t entry = qed_entry (slice, index + n);
    if ((entry > QED_ENTRY_ZERO) != placed || placed) {
      break;
    }
    n++;
  }
  return n;
}

int
qed_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Qed *q = tn_node_state (node);
  const uint64_t start = offset & ~(uint64_t) (q->cluster_size - 1);
  const uint64_t clusters = (offset - start + length + q->cluster_size - 1) >> q->cluster_bits;
  uint64_t table, host;
  TnMetaSlice *slice;
  unsigned index;
  int ret = qed_need_writable (q, error);
  if (ret < 0 || (ret = qed_touch (q, error)) < 0 || (ret = qed_l2_table_make (q, offset, &table, error)) < 0
      || (ret = tn_meta_get (q->l2_cache, qed_l2_slice (q, table, offset, &index), &slice, error)) < 0) {
    return ret;
  }
  const uint64_t entry = qed_entry (tn_meta_data (slice), index);
  const unsigned n = qed_count_alike (tn_meta_data (slice), index, clusters);
  tn_meta_put (slice);
  const bool placed = entry > QED_ENTRY_ZERO;
  if (placed && !qed_valid_cluster (q, entry)) {
    return qed_corrupt (q, error,
                        "the L2 table at 0x%" PRIx64 " puts guest offset 0x%" PRIx64 " at 0x%" PRIx64
                        ", where no cluster can be",
                        table, start, entry);
  }
  host = entry;
  if (!placed && (ret = qed_alloc (q, n, &host, error)) < 0) {
    return ret;
  }
  const bool untouched = !placed && q->zero_tail && host >= tn_node_size (q->file);
  *extent = (TnExtent){
    .offset = start,
    .length = (uint64_t) n << q->cluster_bits,
    .kind = TN_EXTENT_DATA,
    .flags = TN_EXTENT_NEW | (untouched ? TN_EXTENT_READS_ZERO : 0),
    .source = q->file,
    .source_offset = host,
    .generation = extent->generation,
    .cookie = { placed ? COOKIE_IN_PLACE : COOKIE_FRESH, 0 },
  };
  return 0;
}

/* ---- Linking ---- */

static int
qed_commit_extent (Qed *q, TnExtent *extent, GError **error)
{
  uint64_t table = 0;
  TnMetaSlice *slice;
  unsigned index;
  /* Zeroes at the end of a cluster need not have been written: readers want it whole all the same. */
  int ret = extent->source_offset + extent->length > tn_node_size (q->file)
                ? tail_space_extend (&q->space, q->file, error)
                : 0;
  if (ret < 0 || (ret = qed_l2_table (q, extent->offset, false, &table, error)) < 0) {
    return ret;
  }
  if (table == 0) {
    return qed_fail (q, error, EIO, "the L2 table of guest offset 0x%" PRIx64 " has vanished",
                     extent->offset);
  }
  ret = tn_meta_get (q->l2_cache, qed_l2_slice (q, table, extent->offset, &index), &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (q->l2_cache);
  uint8_t *entries = tn_meta_data (slice);
  for (uint64_t done = 0; done < extent->length; done += q->cluster_size, index++) {
    tn_store_le64 (entries + index * 8u, extent->source_offset + done);
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  return 0;
}

int
qed_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Qed *q = tn_node_state (node);
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++) {
    ret = qed_commit_extent (q, &extents[i], error);
  }
  return ret;
}

void
qed_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Qed *q = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    if ((extents[i].flags & TN_EXTENT_NEW) && extents[i].cookie[0] == COOKIE_FRESH) {
      tail_space_give (&q->space, extents[i].source_offset, extents[i].length);
    }
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}
