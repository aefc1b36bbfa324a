/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where guest bytes live. */
#include "qcow.h"

static uint32_t
qcow_kind (uint64_t entry)
{
  return entry == 0 ? TN_EXTENT_UNALLOCATED : entry & QCOW_PACKED ? TN_EXTENT_PACKED : TN_EXTENT_DATA;
}

/* How many clusters from @index on continue the first one: all absent, or one behind the other in the file.
 */
static unsigned
qcow_count_run (const Qcow *q, const void *slice, unsigned index, uint64_t most)
{
  const uint64_t first = qcow_entry (slice, index);
  const uint32_t kind = qcow_kind (first);
  unsigned n = 1;
  if (kind == TN_EXTENT_PACKED) {
    return n;
  }
  for (; n < most && index + n < qcow_slice_entries (q); n++) {
    const uint64_t entry = qcow_entry (slice, index + n);
    if (qcow_kind (entry) != kind
        || (entry && (entry != first + ((uint64_t) n << q->cluster_bits) || !qcow_valid_entry (q, entry)))) {
      break;
    }
  }
  return n;
}

static int
qcow_map_run (Qcow *q, const void *slice, uint64_t table, unsigned index, uint64_t offset, uint64_t length,
              bool nowait, TnExtent *extent, GError **error)
{
  const uint64_t start = offset & ~(uint64_t) (q->cluster_size - 1), entry = qcow_entry (slice, index);
  if (entry && !qcow_valid_entry (q, entry)) {
    return nowait ? -EAGAIN
                  : qcow_corrupt (q, error,
                                  "the L2 table at 0x%" PRIx64 " has 0x%" PRIx64
                                  " for guest offset 0x%" PRIx64 ", where no cluster can be",
                                  table, entry, start);
  }
  const uint64_t most = (offset - start + length + q->cluster_size - 1) >> q->cluster_bits;
  const uint64_t n = qcow_count_run (q, slice, index, most);
  extent->offset = start;
  extent->length = MIN (n << q->cluster_bits, q->size - start);
  extent->kind = qcow_kind (entry);
  if (extent->kind == TN_EXTENT_DATA) {
    extent->source = q->file;
    extent->source_offset = entry;
    extent->flags = (q->writable ? TN_EXTENT_WRITABLE : 0)
                    | (q->header.crypt_method == QCOW_CRYPT_NONE ? 0 : TN_EXTENT_ENCRYPTED);
  } else if (extent->kind == TN_EXTENT_PACKED) {
    extent->source = q->file;
    qcow_packed_place (q, entry, &extent->source_offset, &extent->packed_length);
  }
  return 0;
}

static int
qcow_map_in_table (Qcow *q, uint64_t table, uint64_t offset, uint64_t length, bool nowait, TnExtent *extent,
                   GError **error)
{
  unsigned index;
  const uint64_t at = qcow_l2_slice (q, table, offset, &index);
  const void *known = tn_meta_peek (q->l2_cache, at);
  if (known) {
    return qcow_map_run (q, known, table, index, offset, length, nowait, extent, error);
  }
  if (nowait) {
    return -EAGAIN;
  }
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l2_cache, at, &slice, error);
  if (ret < 0) {
    return ret;
  }
  ret = qcow_map_run (q, tn_meta_data (slice), table, index, offset, length, nowait, extent, error);
  tn_meta_put (slice);
  return ret;
}

int
qcow_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Qcow *q = tn_node_state (node);
  const bool nowait = flags & TN_MAP_NOWAIT;
  uint64_t table;
  if (offset >= q->size || q->l1_cache == NULL) {
    return nowait ? -EAGAIN : qcow_fail (q, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  }
  int ret = qcow_l2_table (q, offset, nowait, &table, error);
  if (ret < 0) {
    return ret;
  }
  length = CLAMP (length, 1, q->size - offset);
  *extent = (TnExtent){ .generation = extent->generation };
  if (table) {
    return qcow_map_in_table (q, table, offset, length, nowait, extent, error);
  }
  extent->offset = offset & ~(qcow_l2_span (q) - 1);
  extent->length = MIN (qcow_l2_span (q), q->size - extent->offset);
  extent->kind = TN_EXTENT_UNALLOCATED;
  return 0;
}
