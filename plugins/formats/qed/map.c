/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where guest bytes live. */
#include "qed.h"

static uint32_t
qed_kind (uint64_t entry)
{
  return entry == QED_ENTRY_NONE   ? TN_EXTENT_UNALLOCATED
         : entry == QED_ENTRY_ZERO ? TN_EXTENT_ZERO
                                   : TN_EXTENT_DATA;
}

/* Clusters of the same kind, and for data one behind the other in the file. */
static int
qed_map_run (Qed *q, const void *slice, uint64_t table, unsigned index, uint64_t offset, uint64_t length,
             bool nowait, TnExtent *extent, GError **error)
{
  const uint64_t start = offset & ~(uint64_t) (q->cluster_size - 1), first = qed_entry (slice, index);
  const uint32_t kind = qed_kind (first);
  if (kind == TN_EXTENT_DATA && !qed_valid_cluster (q, first)) {
    return nowait ? -EAGAIN
                  : qed_corrupt (q, error,
                                 "the L2 table at 0x%" PRIx64 " puts guest offset 0x%" PRIx64 " at 0x%" PRIx64
                                 ", where no cluster can be",
                                 table, start, first);
  }
  uint64_t at = start + q->cluster_size;
  for (; at < offset + length && ++index < QED_SLICE / 8; at += q->cluster_size) {
    const uint64_t entry = qed_entry (slice, index);
    if (qed_kind (entry) != kind
        || (kind == TN_EXTENT_DATA && (entry != first + (at - start) || !qed_valid_cluster (q, entry)))) {
      break;
    }
  }
  extent->offset = start;
  extent->length = MIN (at, q->header.size) - start;
  extent->kind = kind;
  if (kind == TN_EXTENT_DATA) {
    extent->source = q->file;
    extent->source_offset = first;
    extent->flags = q->writable ? TN_EXTENT_WRITABLE : 0;
  }
  return 0;
}

static int
qed_map_in_table (Qed *q, uint64_t table, uint64_t offset, uint64_t length, bool nowait, TnExtent *extent,
                  GError **error)
{
  unsigned index;
  const uint64_t at = qed_l2_slice (q, table, offset, &index);
  const void *known = tn_meta_peek (q->l2_cache, at);
  if (known) {
    return qed_map_run (q, known, table, index, offset, length, nowait, extent, error);
  }
  if (nowait) {
    return -EAGAIN;
  }
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l2_cache, at, &slice, error);
  if (ret < 0) {
    return ret;
  }
  ret = qed_map_run (q, tn_meta_data (slice), table, index, offset, length, nowait, extent, error);
  tn_meta_put (slice);
  return ret;
}

int
qed_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Qed *q = tn_node_state (node);
  const bool nowait = flags & TN_MAP_NOWAIT;
  uint64_t table;
  int ret = 0;
  if (offset >= q->header.size) {
    return nowait ? -EAGAIN : qed_fail (q, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  }
  if ((flags & TN_MAP_WRITE) && !q->touched) {
    ret = nowait ? -EAGAIN : qed_touch (q, error);
  }
  if (ret < 0 || (ret = qed_l2_table (q, offset, nowait, &table, error)) < 0) {
    return ret;
  }
  length = CLAMP (length, 1, q->header.size - offset);
  *extent = (TnExtent){ .generation = extent->generation };
  if (table) {
    return qed_map_in_table (q, table, offset, length, nowait, extent, error);
  }
  extent->offset = offset & ~(qed_l2_span (q) - 1);
  extent->length = MIN (qed_l2_span (q), q->header.size - extent->offset);
  extent->kind = TN_EXTENT_UNALLOCATED;
  return 0;
}
