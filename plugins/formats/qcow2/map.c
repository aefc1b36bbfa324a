/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where guest bytes live: the path of every request. */
#include "qcow2.h"

static bool
place_is_valid (const Qcow2 *q, uint64_t raw, uint64_t guest)
{
  const uint64_t host = raw & QCOW2_OFFSET_MASK;
  if (q->external) {
    return host == (guest & ~(uint64_t) (q->cluster_size - 1));
  }
  return host != 0 && (host & (q->cluster_size - 1)) == 0;
}

static Qcow2Kind
subcluster_kind (const Qcow2 *q, Qcow2Entry entry, uint64_t guest, unsigned sub)
{
  const bool placed = entry.raw & (q->external ? QCOW2_OFFSET_MASK | QCOW2_COPIED : QCOW2_OFFSET_MASK);
  const bool allocated = entry.bitmap & (1ull << sub), zero = entry.bitmap & (1ull << (sub + 32));
  if ((entry.raw & QCOW2_ZERO) || (entry.bitmap & entry.bitmap >> 32 & UINT32_MAX)
      || (placed && !place_is_valid (q, entry.raw, guest)) || (!placed && (entry.raw & QCOW2_COPIED))) {
    return QCOW2_KIND_INVALID;
  }
  if (allocated) {
    return placed ? QCOW2_KIND_DATA : QCOW2_KIND_INVALID;
  }
  if (zero) {
    return placed ? QCOW2_KIND_ZERO_PLACED : QCOW2_KIND_ZERO;
  }
  return placed ? QCOW2_KIND_RESERVED_SPACE : QCOW2_KIND_UNALLOCATED;
}

Qcow2Kind
qcow2_entry_kind (const Qcow2 *q, Qcow2Entry entry, uint64_t guest, unsigned sub)
{
  if (entry.raw & QCOW2_COMPRESSED) {
    return q->external || (entry.raw & QCOW2_COPIED) || entry.bitmap ? QCOW2_KIND_INVALID : QCOW2_KIND_PACKED;
  }
  if (entry.raw & QCOW2_L2_RESERVED) {
    return QCOW2_KIND_INVALID;
  }
  if (q->extended) {
    return subcluster_kind (q, entry, guest, sub);
  }
  const bool zero = entry.raw & QCOW2_ZERO;
  if (zero && q->header.version < 3) {
    return QCOW2_KIND_INVALID;
  }
  if ((entry.raw & ~QCOW2_ZERO) == 0) {
    return zero ? QCOW2_KIND_ZERO : QCOW2_KIND_UNALLOCATED;
  }
  if (!place_is_valid (q, entry.raw, guest)) {
    return QCOW2_KIND_INVALID;
  }
  return zero ? QCOW2_KIND_ZERO_PLACED : QCOW2_KIND_DATA;
}

void
qcow2_packed_place (const Qcow2 *q, uint64_t raw, uint64_t *offset, uint64_t *length)
{
  const uint64_t place = raw & ((1ull << q->packed_shift) - 1);
  const uint64_t sectors = ((raw >> q->packed_shift) & q->packed_sectors_mask) + 1;
  *offset = place;
  *length = sectors * 512 - (place & 511);
}

static bool
ranges_meet (uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
  return a_length && b_length && a < b + b_length && b < a + a_length;
}

bool
qcow2_overlaps_metadata (Qcow2 *q, uint64_t offset, uint64_t length)
{
  const Qcow2Header *h = &q->header;
  if (ranges_meet (offset, length, 0, q->cluster_size)
      || ranges_meet (offset, length, q->l1_offset, (uint64_t) q->l1_size * 8)
      || ranges_meet (offset, length, h->reftable_offset, (uint64_t) h->reftable_clusters << q->cluster_bits)
      || ranges_meet (offset, length, h->snapshots_offset, q->snapshots_length)
      || ranges_meet (offset, length, q->crypt_offset, q->crypt_length)
      || ranges_meet (offset, length, q->bitmap_directory_offset,
                      q->bitmap_count ? q->bitmap_directory_size : 0)) {
    return true;
  }
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    if (ranges_meet (offset, length, q->snapshots[i].l1_offset, q->snapshots[i].l1_size * 8ull)) {
      return true;
    }
  }
  const uint64_t end = offset + length;
  for (uint64_t at = offset & ~(uint64_t) (q->cluster_size - 1); at < end; at += q->cluster_size) {
    if (tn_meta_peek (q->l2_cache, at) || tn_meta_peek (q->refcount_cache, at)) {
      return true;
    }
  }
  return false;
}

/* ---- Extents ---- */

static int
bad_entry (Qcow2 *q, uint64_t table, uint64_t guest, Qcow2Entry entry, uint32_t flags, GError **error)
{
  if (flags & TN_MAP_NOWAIT) {
    return -EAGAIN;
  }
  const uint64_t index = (guest >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
  return qcow2_corrupt (
      q, error, "entry %" PRIu64 " (0x%016" PRIx64 ") of the L2 table at 0x%" PRIx64 " cannot be right",
      index, entry.raw, table);
}

/* No L2 table: one extent over as many neighbours as are wanted. */
static void
map_hole (const Qcow2 *q, uint64_t offset, uint64_t length, TnExtent *extent)
{
  const uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);
  uint64_t index = qcow2_l1_index (q, offset), end = (index + 1) * span;
  extent->offset = offset & ~(uint64_t) ((1u << q->unit_bits) - 1);
  while (end < offset + length && ++index < q->l1_size && q->l1[index] == 0) {
    end += span;
  }
  extent->length = MIN (end, q->size) - extent->offset;
  extent->kind = TN_EXTENT_UNALLOCATED;
}

static int
map_packed (Qcow2 *q, uint64_t table, uint64_t offset, Qcow2Entry entry, uint32_t flags, TnExtent *extent,
            GError **error)
{
  const uint64_t file_size = tn_node_size (q->file);
  uint64_t place, length;
  qcow2_packed_place (q, entry.raw, &place, &length);
  if (place > q->packed_offset_mask || place < q->cluster_size || place >= file_size) {
    return bad_entry (q, table, offset, entry, flags, error);
  }
  extent->kind = TN_EXTENT_PACKED;
  extent->source = q->file;
  extent->source_offset = place;
  extent->packed_length = MIN (length, file_size - place);
  extent->offset = offset & ~(uint64_t) (q->cluster_size - 1);
  extent->length = MIN (q->cluster_size, q->size - extent->offset);
  return 0;
}

static uint32_t
extent_kind (Qcow2Kind kind)
{
  switch (kind) {
  case QCOW2_KIND_DATA:
    return TN_EXTENT_DATA;
  case QCOW2_KIND_ZERO:
  case QCOW2_KIND_ZERO_PLACED:
    return TN_EXTENT_ZERO;
  default:
    return TN_EXTENT_UNALLOCATED;
  }
}

/* Units of the same kind, and for data one behind the other in the file, from the one at @offset on. */
static int
map_run (Qcow2 *q, const void *slice, uint64_t table, uint64_t offset, uint64_t length, bool own_table,
         uint32_t flags, TnExtent *extent, GError **error)
{
  const unsigned n = qcow2_slice_entries (q), sub_bits = q->cluster_bits - q->unit_bits;
  const uint64_t unit = 1ull << q->unit_bits, start = offset & ~(unit - 1), end = offset + length;
  unsigned index = qcow2_slice_index (q, offset);
  unsigned sub = (unsigned) (start >> q->unit_bits) & ((1u << sub_bits) - 1);
  Qcow2Entry entry = qcow2_entry_load (q, slice, index);
  const Qcow2Kind kind = qcow2_entry_kind (q, entry, start, sub);
  const uint64_t host = (entry.raw & QCOW2_OFFSET_MASK) + ((uint64_t) sub << q->unit_bits);
  const uint64_t bound = q->external ? UINT64_MAX : tn_node_size (q->file), copied = entry.raw & QCOW2_COPIED;
  if (kind == QCOW2_KIND_INVALID
      || (kind == QCOW2_KIND_DATA && (host & ~(uint64_t) (q->cluster_size - 1)) >= bound)) {
    return bad_entry (q, table, offset, entry, flags, error);
  }
  if (kind == QCOW2_KIND_PACKED) {
    return map_packed (q, table, offset, entry, flags, extent, error);
  }
  const uint32_t wanted = extent_kind (kind);
  uint64_t at = start + unit;
  for (; at < end; at += unit) {
    if (++sub >> sub_bits) {
      sub = 0;
      if (++index == n) {
        break;
      }
      entry = qcow2_entry_load (q, slice, index);
    }
    const Qcow2Kind next = qcow2_entry_kind (q, entry, at, sub);
    if (next == QCOW2_KIND_INVALID || next == QCOW2_KIND_PACKED || extent_kind (next) != wanted) {
      break;
    }
    if (wanted != TN_EXTENT_DATA) {
      continue;
    }
    const uint64_t place = (entry.raw & QCOW2_OFFSET_MASK) + ((uint64_t) sub << q->unit_bits);
    if (place != host + (at - start) || (entry.raw & QCOW2_COPIED) != copied || place >= bound) {
      break;
    }
  }
  extent->offset = start;
  extent->length = MIN (at, q->size) - start;
  extent->kind = wanted;
  if (wanted == TN_EXTENT_DATA) {
    extent->source = q->data;
    extent->source_offset = host;
    extent->flags = (q->writable && copied && own_table ? TN_EXTENT_WRITABLE : 0)
                    | (q->header.crypt_method ? TN_EXTENT_ENCRYPTED : 0);
  } else if (kind == QCOW2_KIND_ZERO_PLACED && extent->length == unit) {
    extent->flags = TN_EXTENT_PREALLOCATED;
    extent->source = q->data;
    extent->source_offset = host;
  }
  return 0;
}

/* A crafted entry could send guest data over the image's own tables. */
static int
check_write_target (Qcow2 *q, uint64_t table, uint64_t offset, const TnExtent *extent, uint32_t flags,
                    GError **error)
{
  if (!(flags & TN_MAP_WRITE) || !(extent->flags & TN_EXTENT_WRITABLE) || q->external) {
    return 0;
  }
  if (!qcow2_overlaps_metadata (q, extent->source_offset, extent->length)) {
    return 0;
  }
  return flags & TN_MAP_NOWAIT ? -EAGAIN
                               : qcow2_corrupt (q, error,
                                                "the L2 table at 0x%" PRIx64 " puts guest offset 0x%" PRIx64
                                                " on metadata at 0x%" PRIx64,
                                                table, offset, extent->source_offset);
}

static int
map_from_slice (Qcow2 *q, const void *slice, uint64_t l1_entry, uint64_t offset, uint64_t length,
                uint32_t flags, TnExtent *extent, GError **error)
{
  const uint64_t table = l1_entry & QCOW2_OFFSET_MASK;
  int ret = map_run (q, slice, table, offset, length, l1_entry & QCOW2_COPIED, flags, extent, error);
  return ret < 0 ? ret : check_write_target (q, table, offset, extent, flags, error);
}

int
qcow2_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (offset >= q->size || q->l1 == NULL) {
    return flags & TN_MAP_NOWAIT ? -EAGAIN
                                 : qcow2_fail (q, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  }
  if ((flags & TN_MAP_WRITE) && (!q->touched || q->corrupt)) {
    int ret = flags & TN_MAP_NOWAIT ? -EAGAIN : qcow2_touch (q, error);
    if (ret < 0) {
      return ret;
    }
  }
  length = CLAMP (length, 1, q->size - offset);
  if ((flags & TN_MAP_WRITE) && q->bitmaps_tracking) {
    qcow2_bitmaps_dirty (q, offset, length);
  }
  *extent = (TnExtent){ .generation = extent->generation };
  const uint64_t index = qcow2_l1_index (q, offset), entry = q->l1[index];
  if (entry == 0) {
    map_hole (q, offset, length, extent);
    return 0;
  }
  const char *fault = qcow2_l1_fault (q, entry);
  if (fault == NULL) {
    const void *slice = tn_meta_peek (q->l2_cache, qcow2_slice_offset (q, entry & QCOW2_OFFSET_MASK, offset));
    if (slice) {
      return map_from_slice (q, slice, entry, offset, length, flags, extent, error);
    }
  }
  if (flags & TN_MAP_NOWAIT) {
    return -EAGAIN;
  }
  TnMetaSlice *pinned;
  int ret = qcow2_l2_get (q, offset, &pinned, error);
  if (ret < 0) {
    return ret;
  }
  ret = map_from_slice (q, tn_meta_data (pinned), entry, offset, length, flags, extent, error);
  tn_meta_put (pinned);
  return ret;
}
