/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* L1 and L2 tables.  Both are read in slices, since one may have a gigabyte. */
#include "qed.h"

uint64_t
qed_l2_span (const Qed *q)
{
  return 1ull << (q->cluster_bits + q->table_bits);
}

uint64_t
qed_l1_index (const Qed *q, uint64_t guest)
{
  return guest >> (q->cluster_bits + q->table_bits);
}

static bool
qed_meets_l1 (const Qed *q, uint64_t offset, uint64_t length)
{
  const uint64_t l1 = q->header.l1_offset;
  return offset < l1 + q->table_bytes && l1 < offset + length;
}

static bool
qed_valid_range (const Qed *q, uint64_t offset, uint64_t length)
{
  const uint64_t first = (uint64_t) q->header.header_clusters * q->cluster_size;
  return (offset & (q->cluster_size - 1)) == 0 && offset >= first && offset <= q->space.end
         && length <= q->space.end - offset;
}

bool
qed_valid_cluster (const Qed *q, uint64_t offset)
{
  return qed_valid_range (q, offset, q->cluster_size) && !qed_meets_l1 (q, offset, q->cluster_size);
}

bool
qed_valid_table (const Qed *q, uint64_t offset)
{
  return qed_valid_range (q, offset, q->table_bytes)
         && (offset == q->header.l1_offset || !qed_meets_l1 (q, offset, q->table_bytes));
}

uint64_t
qed_entry (const void *slice, unsigned index)
{
  return tn_load_le64 ((const uint8_t *) slice + index * 8u);
}

uint64_t
qed_l2_slice (const Qed *q, uint64_t table, uint64_t guest, unsigned *index)
{
  const uint64_t entry = (guest >> q->cluster_bits) & ((1ull << q->table_bits) - 1);
  *index = (unsigned) (entry % (QED_SLICE / 8));
  return table + entry * 8 / QED_SLICE * QED_SLICE;
}

static int
qed_l1_entry (Qed *q, uint64_t index, bool nowait, uint64_t *entry, GError **error)
{
  const uint64_t at = q->header.l1_offset + index * 8, start = at & ~(uint64_t) (QED_SLICE - 1);
  const void *known = tn_meta_peek (q->l1_cache, start);
  if (known) {
    *entry = qed_entry (known, (unsigned) (at - start) / 8);
    return 0;
  }
  if (nowait) {
    return -EAGAIN;
  }
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l1_cache, start, &slice, error);
  if (ret == 0) {
    *entry = qed_entry (tn_meta_data (slice), (unsigned) (at - start) / 8);
    tn_meta_put (slice);
  }
  return ret;
}

int
qed_l2_table (Qed *q, uint64_t guest, bool nowait, uint64_t *table, GError **error)
{
  const uint64_t index = qed_l1_index (q, guest);
  uint64_t entry = 0;
  int ret = qed_l1_entry (q, index, nowait, &entry, error);
  if (ret < 0) {
    return ret;
  }
  if (entry != QED_ENTRY_NONE && (!qed_valid_table (q, entry) || entry == q->header.l1_offset)) {
    return nowait
               ? -EAGAIN
               : qed_corrupt (q, error,
                              "entry %" PRIu64 " of the L1 table is 0x%" PRIx64 ", where no L2 table can be",
                              index, entry);
  }
  *table = entry;
  return 0;
}

int
qed_l1_set (Qed *q, uint64_t index, uint64_t entry, GError **error)
{
  const uint64_t at = q->header.l1_offset + index * 8, start = at & ~(uint64_t) (QED_SLICE - 1);
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l1_cache, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (q->l1_cache);
  tn_store_le64 ((uint8_t *) tn_meta_data (slice) + (at - start), entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
qed_l2_table_make (Qed *q, uint64_t guest, uint64_t *table, GError **error)
{
  uint64_t offset;
  int ret = qed_l2_table (q, guest, false, table, error);
  if (ret < 0 || *table) {
    return ret;
  }
  if ((ret = qed_alloc (q, q->header.table_clusters, &offset, error)) < 0) {
    return ret;
  }
  /* Nothing of an earlier use of these clusters may be cached. */
  tn_meta_forget (q->l2_cache, offset, q->table_bytes);
  if ((ret = tn_node_write_zeroes (q->file, offset, q->table_bytes, 0, error)) < 0
      || (ret = qed_l1_set (q, qed_l1_index (q, guest), offset, error)) < 0) {
    tail_space_give (&q->space, offset, q->table_bytes);
    return ret;
  }
  *table = offset;
  return 0;
}
