/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters that hold guest data already: counted and linked where they are.
 *
 * All that this needs (refcount table and blocks, L2 tables) is placed behind the end of the file, since what
 * lies before may be adopted by the next call.
 */
#include "qcow2.h"

/* Makes room in the refcount table for all of the file while a larger table can still go behind its end. */
static int
begin (Qcow2 *q, GError **error)
{
  const uint64_t end = (tn_node_size (q->file) + q->cluster_size - 1) >> q->cluster_bits;
  const uint64_t blocks = (end >> q->block_bits) + 1;
  int ret = qcow2_reftable_load (q, error);
  if (ret < 0) {
    return ret;
  }
  q->free_hint = MAX (q->free_hint, end);
  q->adopting = true;
  if (blocks <= q->reftable_size) {
    return 0;
  }
  if (blocks > QCOW2_MAX_REFTABLE_BYTES / 8) {
    return qcow2_fail (q, error, EFBIG, "its clusters are too small for a file of that size");
  }
  uint64_t *table = g_try_realloc_n (q->reftable, blocks, 8);
  if (table == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for a refcount table of %" PRIu64 " entries", blocks);
  }
  memset (table + q->reftable_size, 0, (blocks - q->reftable_size) * 8);
  q->reftable = table;
  q->reftable_size = (uint32_t) blocks;
  return qcow2_reftable_grow (q, blocks << q->block_bits, error);
}

static int
count (Qcow2 *q, uint64_t first, uint64_t n, GError **error)
{
  int ret;
  do {
    ret = qcow2_refcount_cover_from (q, first, n, q->free_hint, error);
  } while (ret == -EAGAIN);
  return ret < 0 ? ret : qcow2_refcount_add (q, first, n, 1, error);
}

/* Clusters from @offset on whose entries are in one slice and have no place: *length bytes. */
static int
free_entries (Qcow2 *q, uint64_t offset, uint64_t *length, GError **error)
{
  TnMetaSlice *slice;
  int ret = qcow2_l2_get_writable (q, offset, &slice, error);
  if (ret < 0) {
    return ret;
  }
  const unsigned first = qcow2_slice_index (q, offset), entries = qcow2_slice_entries (q);
  const uint64_t most = *length >> q->cluster_bits;
  uint64_t n = 0;
  while (n < most && first + n < entries
         && qcow2_entry_load (q, tn_meta_data (slice), first + (unsigned) n).raw == 0) {
    n++;
  }
  tn_meta_put (slice);
  *length = n << q->cluster_bits;
  return n ? 0 : -ERANGE;
}

int
qcow2_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  const uint64_t mask = q->cluster_size - 1;
  if (q->external || q->header.crypt_method || ((offset | length | place) & mask)
      || place + length > QCOW2_OFFSET_MASK || qcow2_overlaps_metadata (q, place, length)) {
    return -ERANGE;
  }
  int ret = qcow2_touch (q, error);
  if (ret == 0 && !q->adopting) {
    ret = begin (q, error);
  }
  for (uint64_t done = 0; ret == 0 && done < length;) {
    uint64_t part = length - done;
    if ((ret = free_entries (q, offset + done, &part, error)) < 0
        || (ret = count (q, (place + done) >> q->cluster_bits, part >> q->cluster_bits, error)) < 0) {
      return ret;
    }
    TnExtent extent = { .offset = offset + done, .length = part, .source_offset = place + done };
    ret = qcow2_commit_extent (q, &extent, error);
    done += part;
  }
  return ret;
}
