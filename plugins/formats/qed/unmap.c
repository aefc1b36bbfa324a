/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Zero clusters and discards.  A cluster that has a place keeps it, because nothing in the image could record
 * that it is free; its bytes are zeroed there, or punched out of the file.
 */
#include "qed.h"

bool
qed_has_backing (const Qed *q)
{
  return q->backing_name || tn_node_child (q->node, "backing");
}

static int
qed_clear_place (Qed *q, uint64_t host, uint64_t length, uint32_t flags, GError **error)
{
  if (!(flags & TN_UNMAP_ZERO)) {
    return tn_node_discard (q->file, host, length, error);
  }
  return tn_node_write_zeroes (q->file, host, length, flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0,
                               error);
}

/* One run of clusters with neighbouring places, from @index of @entries on: how many. */
static int
qed_clear_run (Qed *q, const uint8_t *entries, unsigned index, unsigned last, uint32_t flags, unsigned *n,
               GError **error)
{
  const uint64_t first = qed_entry (entries, index);
  unsigned count = 0;
  while (index + count < last
         && qed_entry (entries, index + count) == first + ((uint64_t) count << q->cluster_bits)) {
    if (!qed_valid_cluster (q, qed_entry (entries, index + count))) {
      return qed_corrupt (q, error, "an L2 table names a cluster at 0x%" PRIx64 ", where none can be",
                          qed_entry (entries, index + count));
    }
    count++;
  }
  *n = count;
  return qed_clear_place (q, first, (uint64_t) count << q->cluster_bits, flags, error);
}

static int
qed_unmap_in_slice (Qed *q, TnMetaSlice *slice, unsigned index, unsigned last, uint32_t flags, GError **error)
{
  uint8_t *entries = tn_meta_data (slice);
  bool changed = false;
  int ret = 0;
  while (ret == 0 && index < last) {
    unsigned n = 1;
    const uint64_t entry = qed_entry (entries, index);
    if (entry > QED_ENTRY_ZERO) {
      ret = qed_clear_run (q, entries, index, last, flags, &n, error);
    } else if (entry == QED_ENTRY_NONE && (flags & TN_UNMAP_ZERO) && qed_has_backing (q)) {
      tn_store_le64 (entries + index * 8u, QED_ENTRY_ZERO);
      changed = true;
    }
    index += n;
  }
  if (changed) {
    tn_meta_dirty (slice);
  }
  return ret;
}

int
qed_unmap_range (Qed *q, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  const uint64_t end = offset + length;
  const bool makes_tables = (flags & TN_UNMAP_ZERO) && qed_has_backing (q);
  while (offset < end) {
    uint64_t table;
    int ret = makes_tables ? qed_l2_table_make (q, offset, &table, error)
                           : qed_l2_table (q, offset, false, &table, error);
    if (ret < 0) {
      return ret;
    }
    if (table == 0) {
      offset = (offset | (qed_l2_span (q) - 1)) + 1;
      continue;
    }
    TnMetaSlice *slice;
    unsigned index;
    if ((ret = tn_meta_get (q->l2_cache, qed_l2_slice (q, table, offset, &index), &slice, error)) < 0) {
      return ret;
    }
    const uint64_t clusters = (end - offset + q->cluster_size - 1) >> q->cluster_bits;
    const unsigned n = (unsigned) MIN (clusters, QED_SLICE / 8 - index);
    ret = qed_unmap_in_slice (q, slice, index, index + n, flags, error);
    tn_meta_put (slice);
    if (ret < 0) {
      return ret;
    }
    offset += (uint64_t) n << q->cluster_bits;
  }
  return 0;
}

int
qed_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Qed *q = tn_node_state (node);
  int ret = qed_need_writable (q, error);
  if (ret < 0 || (ret = qed_touch (q, error)) < 0) {
    return ret;
  }
  return qed_unmap_range (q, offset, length, flags, error);
}
