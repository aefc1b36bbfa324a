/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* L1 and L2 tables.  The L1 table shares its first sector with the header, and clusters may follow in the
 * sector behind it: its slices are single sectors. */
#include "qcow.h"

uint64_t
qcow_l2_span (const Qcow *q)
{
  return 1ull << (q->cluster_bits + q->l2_bits);
}

uint64_t
qcow_l1_index (const Qcow *q, uint64_t guest)
{
  return guest >> (q->cluster_bits + q->l2_bits);
}

/* Neither on the header nor on the L1 table, and in the file. */
static bool
qcow_valid_range (const Qcow *q, uint64_t offset, uint64_t length)
{
  const uint64_t l1 = q->header.l1_offset, l1_end = l1 + q->l1_entries * 8;
  return offset >= QCOW_HEADER_BYTES && offset < q->space.end && length <= q->space.end - offset
         && (offset >= l1_end || offset + length <= l1);
}

bool
qcow_valid_table (const Qcow *q, uint64_t offset)
{
  return (offset & (q->slice_bytes - 1)) == 0 && qcow_valid_range (q, offset, q->l2_bytes);
}

void
qcow_packed_place (const Qcow *q, uint64_t entry, uint64_t *offset, uint64_t *length)
{
  *offset = entry & q->packed_mask;
  *length = (entry >> (63 - q->cluster_bits)) & (q->cluster_size - 1);
}

bool
qcow_valid_entry (const Qcow *q, uint64_t entry)
{
  uint64_t offset, length;
  if (!(entry & QCOW_PACKED)) {
    return (entry & (QCOW_SECTOR - 1)) == 0 && qcow_valid_range (q, entry, q->cluster_size);
  }
  qcow_packed_place (q, entry, &offset, &length);
  return length != 0 && qcow_valid_range (q, offset, length);
}

uint64_t
qcow_entry (const void *slice, unsigned index)
{
  return tn_load_be64 ((const uint8_t *) slice + index * 8u);
}

unsigned
qcow_slice_entries (const Qcow *q)
{
  return q->slice_bytes / 8;
}

uint64_t
qcow_l2_slice (const Qcow *q, uint64_t table, uint64_t guest, unsigned *index)
{
  const uint64_t entry = (guest >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
  *index = (unsigned) (entry % qcow_slice_entries (q));
  return table + entry / qcow_slice_entries (q) * q->slice_bytes;
}

static int
qcow_l1_entry (Qcow *q, uint64_t index, bool nowait, uint64_t *entry, GError **error)
{
  const uint64_t at = q->header.l1_offset + index * 8, start = at & ~(uint64_t) (QCOW_SECTOR - 1);
  const void *known = tn_meta_peek (q->l1_cache, start);
  if (known) {
    *entry = qcow_entry (known, (unsigned) (at - start) / 8);
    return 0;
  }
  if (nowait) {
    return -EAGAIN;
  }
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l1_cache, start, &slice, error);
  if (ret == 0) {
    *entry = qcow_entry (tn_meta_data (slice), (unsigned) (at - start) / 8);
    tn_meta_put (slice);
  }
  return ret;
}

int
qcow_l2_table (Qcow *q, uint64_t guest, bool nowait, uint64_t *table, GError **error)
{
  const uint64_t index = qcow_l1_index (q, guest);
  uint64_t entry = 0;
  int ret = qcow_l1_entry (q, index, nowait, &entry, error);
  if (ret < 0) {
    return ret;
  }
  if (entry && !qcow_valid_table (q, entry)) {
    return nowait
               ? -EAGAIN
               : qcow_corrupt (q, error,
                               "entry %" PRIu64 " of the L1 table is 0x%" PRIx64 ", where no L2 table can be",
                               index, entry);
  }
  *table = entry;
  return 0;
}

int
qcow_table_set (TnMetaCache *cache, uint32_t slice_bytes, uint64_t at, uint64_t entry, GError **error)
{
  const uint64_t start = at & ~(uint64_t) (slice_bytes - 1);
  TnMetaSlice *slice;
  int ret = tn_meta_get (cache, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (cache);
  tn_store_be64 ((uint8_t *) tn_meta_data (slice) + (at - start), entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
qcow_l2_table_make (Qcow *q, uint64_t guest, uint64_t *table, GError **error)
{
  const uint64_t l1_at = q->header.l1_offset + qcow_l1_index (q, guest) * 8;
  uint64_t offset;
  int ret = qcow_l2_table (q, guest, false, table, error);
  if (ret < 0 || *table) {
    return ret;
  }
  if ((ret = qcow_alloc (q, q->l2_bytes, q->cluster_size, &offset, error)) < 0) {
    return ret;
  }
  /* Nothing of an earlier use of this place may be cached. */
  tn_meta_forget (q->l2_cache, offset, q->l2_bytes);
  if ((ret = tn_node_write_zeroes (q->file, offset, q->l2_bytes, 0, error)) < 0
      || (ret = qcow_table_set (q->l1_cache, QCOW_SECTOR, l1_at, offset, error)) < 0) {
    tail_space_give (&q->space, offset, q->l2_bytes);
    return ret;
  }
  *table = offset;
  return 0;
}
