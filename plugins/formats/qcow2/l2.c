/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* L1 and L2 tables. */
#include "qcow2.h"

uint64_t
qcow2_l1_needed (const Qcow2 *q, uint64_t size)
{
  const unsigned bits = q->cluster_bits + q->l2_bits;
  return (size >> bits) + ((size & ((1ull << bits) - 1)) != 0);
}

const char *
qcow2_l1_fault (const Qcow2 *q, uint64_t entry)
{
  const uint64_t table = entry & QCOW2_OFFSET_MASK;
  if (entry & QCOW2_L1_RESERVED) {
    return "has reserved bits set";
  }
  if (table & (q->cluster_size - 1)) {
    return "is not cluster aligned";
  }
  if (table == 0) {
    return "names the header as an L2 table";
  }
  return table >= qcow2_end (q) ? "points beyond the end of the file" : NULL;
}

static int
check_l1_entry (Qcow2 *q, uint64_t index, GError **error)
{
  const char *fault = qcow2_l1_fault (q, q->l1[index]);
  if (fault == NULL) {
    return 0;
  }
  return qcow2_corrupt (q, error, "entry %" PRIu64 " (0x%016" PRIx64 ") of the L1 table at 0x%" PRIx64 " %s",
                        index, q->l1[index], q->l1_offset, fault);
}

int
qcow2_l2_get (Qcow2 *q, uint64_t guest, TnMetaSlice **slice, GError **error)
{
  const uint64_t index = qcow2_l1_index (q, guest);
  *slice = NULL;
  if (index >= q->l1_size || q->l1[index] == 0) {
    return 0;
  }
  int ret = check_l1_entry (q, index, error);
  if (ret < 0) {
    return ret;
  }
  return tn_meta_get (q->l2_cache, qcow2_slice_offset (q, q->l1[index] & QCOW2_OFFSET_MASK, guest), slice,
                      error);
}

int
qcow2_l2_order (Qcow2 *q, bool data, GError **error)
{
  if (data) {
    tn_meta_after_data (q->l2_cache);
  }
  if (q->lazy) {
    return qcow2_mark_dirty (q, error);
  }
  int ret = tn_meta_order (q->l2_cache, q->refcount_cache, error);
  return ret < 0 ? ret : tn_meta_order (q->l2_cache, q->reftable_cache, error);
}

int
qcow2_l1_set (Qcow2 *q, uint64_t index, uint64_t entry, GError **error)
{
  const uint64_t at = q->l1_offset + index * 8, mask = (1ull << q->slice_bits) - 1;
  TnMetaSlice *slice;
  int ret = tn_meta_order (q->l1_cache, q->l2_cache, error);
  if (ret == 0 && !q->lazy) {
    ret = tn_meta_order (q->l1_cache, q->refcount_cache, error);
  }
  if (ret == 0 && !q->lazy) {
    ret = tn_meta_order (q->l1_cache, q->reftable_cache, error);
  }
  if (ret < 0 || (ret = tn_meta_get (q->l1_cache, at & ~mask, &slice, error)) < 0) {
    return ret;
  }
  tn_store_be64 ((uint8_t *) tn_meta_data (slice) + (at & mask), entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  q->l1[index] = entry;
  return 0;
}

/* Fills the new table at @to with the contents of @from (0: nothing). */
static int
copy_table (Qcow2 *q, uint64_t from, uint64_t to, GError **error)
{
  const uint64_t step = 1ull << q->slice_bits;
  for (uint64_t at = 0; at < q->cluster_size; at += step) {
    TnMetaSlice *old = NULL, *new = NULL;
    int ret = from ? tn_meta_get (q->l2_cache, from + at, &old, error) : 0;
    if (ret < 0) {
      return ret;
    }
    if ((ret = tn_meta_new (q->l2_cache, to + at, &new, error)) == 0) {
      if (old) {
        memcpy (tn_meta_data (new), tn_meta_data (old), step);
        tn_meta_dirty (new);
      }
      tn_meta_put (new);
    }
    if (old) {
      tn_meta_put (old);
    }
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

/* Gives the L1 entry an L2 table of its own: new, or a copy of one that a snapshot shares. */
static int
make_table (Qcow2 *q, uint64_t index, GError **error)
{
  const uint64_t old = q->l1[index] & QCOW2_OFFSET_MASK;
  uint64_t offset;
  int ret = qcow2_alloc_contiguous (q, 1, &offset, error);
  if (ret < 0) {
    return ret;
  }
  if ((ret = qcow2_l2_order (q, false, error)) == 0 && (ret = copy_table (q, old, offset, error)) == 0) {
    ret = qcow2_l1_set (q, index, offset | QCOW2_COPIED, error);
  }
  if (ret < 0) {
    tn_meta_forget (q->l2_cache, offset, q->cluster_size);
    qcow2_alloc_undo (q, offset, q->cluster_size);
    return ret;
  }
  if (old) {
    qcow2_free_later (q, old, q->cluster_size, true);
  }
  return 0;
}

int
qcow2_l2_get_writable (Qcow2 *q, uint64_t guest, TnMetaSlice **slice, GError **error)
{
  const uint64_t index = qcow2_l1_index (q, guest);
  *slice = NULL;
  if (index >= q->l1_size) {
    return qcow2_fail (q, error, EINVAL, "offset %" PRIu64 " is outside", guest);
  }
  int ret = q->l1[index] ? check_l1_entry (q, index, error) : 0;
  if (ret == 0 && !(q->l1[index] & QCOW2_COPIED)) {
    ret = make_table (q, index, error);
  }
  return ret < 0 ? ret : qcow2_l2_get (q, guest, slice, error);
}

int
qcow2_l2_drop (Qcow2 *q, uint64_t l1_index, GError **error)
{
  const uint64_t entry = q->l1[l1_index], table = entry & QCOW2_OFFSET_MASK, step = 1ull << q->slice_bits;
  if (entry == 0) {
    return 0;
  }
  int ret = check_l1_entry (q, l1_index, error);
  if (ret < 0 || (ret = qcow2_l1_set (q, l1_index, 0, error)) < 0) {
    return ret;
  }
  for (uint64_t at = 0; at < q->cluster_size; at += step) {
    TnMetaSlice *slice;
    if ((ret = tn_meta_get (q->l2_cache, table + at, &slice, error)) < 0) {
      return ret; /* what the rest of the table maps is leaked: check finds it */
    }
    for (unsigned i = 0; i < qcow2_slice_entries (q); i++) {
      qcow2_free_entry (q, qcow2_entry_load (q, tn_meta_data (slice), i));
    }
    tn_meta_put (slice);
  }
  qcow2_free_later (q, table, q->cluster_size, true);
  return 0;
}

int
qcow2_l1_grow (Qcow2 *q, uint64_t entries, GError **error)
{
  const uint64_t bytes = entries * 8, clusters = qcow2_clusters (q, bytes),
                 padded = clusters << q->cluster_bits;
  const uint64_t old_offset = q->l1_offset, old_bytes = q->l1_size * 8ull;
  uint64_t offset;
  if (bytes > QCOW2_MAX_L1_BYTES) {
    return qcow2_fail (q, error, EFBIG,
                       "the disk would need an L1 table of more than 32 MiB: use larger clusters");
  }
  g_autofree uint64_t *table = g_try_malloc0 (bytes), *disk = g_try_malloc0 (padded);
  if (table == NULL || disk == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for an L1 table of %" PRIu64 " bytes", bytes);
  }
  int ret = qcow2_alloc_contiguous (q, clusters, &offset, error);
  if (ret < 0) {
    return ret;
  }
  for (uint32_t i = 0; i < q->l1_size; i++) {
    table[i] = q->l1[i];
    disk[i] = GUINT64_TO_BE (q->l1[i]);
  }
  /* Everything that the new table refers to, and its own counts, before the header names it. */
  if ((ret = tn_node_write (q->file, offset, disk, padded, error)) < 0 || (ret = qcow2_sync (q, error)) < 0) {
    qcow2_alloc_undo (q, offset, padded);
    return ret;
  }
  const Qcow2Header old = q->header;
  q->header.l1_offset = offset;
  q->header.l1_size = (uint32_t) entries;
  if ((ret = qcow2_header_write_tables (q, error)) < 0) {
    q->header = old; /* which of the two the file has is not known: keep both */
    return ret;
  }
  g_free (q->l1);
  q->l1 = g_steal_pointer (&table);
  q->l1_offset = offset;
  q->l1_size = (uint32_t) entries;
  if (old_bytes) {
    tn_meta_forget (q->l1_cache, old_offset, qcow2_clusters (q, old_bytes) << q->cluster_bits);
    qcow2_free_later (q, old_offset, old_bytes, false);
  }
  return qcow2_barrier (q, error);
}
