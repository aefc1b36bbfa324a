/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clusters that hold guest data already; L2 tables for them go to the end of the file. */
#include "qed.h"

/* Links what one slice of an L2 table has entries for: *length bytes. */
static int
qed_adopt_slice (Qed *q, uint64_t offset, uint64_t *length, uint64_t place, GError **error)
{
  uint64_t table;
  TnMetaSlice *slice;
  unsigned index;
  int ret = qed_l2_table_make (q, offset, &table, error);
  if (ret < 0
      || (ret = tn_meta_get (q->l2_cache, qed_l2_slice (q, table, offset, &index), &slice, error)) < 0) {
    return ret;
  }
  const uint64_t n = MIN (*length >> q->cluster_bits, QED_SLICE / 8 - index);
  uint8_t *entries = tn_meta_data (slice);
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    ret = qed_entry (entries, index + (unsigned) i) > QED_ENTRY_ZERO ? -ERANGE : 0;
  }
  tn_meta_after_data (q->l2_cache);
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    tn_store_le64 (entries + (index + i) * 8, place + (i << q->cluster_bits));
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  *length = n << q->cluster_bits;
  return ret;
}

int
qed_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Qed *q = tn_node_state (node);
  if ((place & (q->cluster_size - 1)) || !qed_valid_cluster (q, place)
      || !qed_valid_cluster (q, place + length - q->cluster_size)) {
    return -ERANGE;
  }
  int ret = qed_need_writable (q, error);
  if (ret == 0) {
    ret = qed_touch (q, error);
  }
  for (uint64_t done = 0; ret == 0 && done < length;) {
    uint64_t part = length - done;
    ret = qed_adopt_slice (q, offset + done, &part, place + done, error);
    done += part;
  }
  return ret;
}
