/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where guest bytes live. */
#include "vmdk.h"

/* ---- Table entries ---- */

uint32_t
vmdk_entry_kind (const VmdkExtent *e, uint64_t entry)
{
  const VmdkSparse *s = &e->sparse;
  if (s->sesparse) {
    const unsigned type = (unsigned) (entry >> 60);
    return type == 0 ? TN_EXTENT_UNALLOCATED : type == 3 ? TN_EXTENT_DATA : TN_EXTENT_ZERO;
  }
  if (entry == 0) {
    return TN_EXTENT_UNALLOCATED;
  }
  /* Sector 1 holds no grain, so that older writers' images mean the same. */
  if (entry == 1 && !s->cowd && (s->zeroed || s->version >= 2)) {
    return TN_EXTENT_ZERO;
  }
  return s->compressed ? TN_EXTENT_PACKED : TN_EXTENT_DATA;
}

uint64_t
vmdk_entry_place (const VmdkExtent *e, uint64_t entry)
{
  if (!e->sparse.sesparse) {
    return entry * VMDK_SECTOR;
  }
  const uint64_t grain = ((entry >> 48) & 0xfff) | ((entry & UINT64_C (0xffffffffffff)) << 12);
  return grain > (uint64_t) INT64_MAX / e->sparse.grain - e->sparse.grains_offset / e->sparse.grain - 1
             ? UINT64_MAX
             : e->sparse.grains_offset + grain * e->sparse.grain;
}

static bool
vmdk_valid_entry (const VmdkExtent *e, uint64_t entry, uint64_t at)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t place = vmdk_entry_place (e, entry);
  if (s->sesparse && (entry >> 60) > 3) {
    return false;
  }
  return vmdk_valid_grain (e, place, s->compressed ? VMDK_MARKER_BYTES : MIN (s->grain, s->capacity - at));
}

/* ---- Runs ---- */

/* How far grains from @at on are alike, and for data one behind the other in the file. */
static uint64_t
vmdk_run (const VmdkExtent *e, const VmdkEntries *entries, uint64_t at, uint64_t end)
{
  const uint64_t first = vmdk_entry (e, entries->bytes, 0), grain = e->sparse.grain;
  const uint64_t place = vmdk_entry_place (e, first);
  const uint32_t kind = vmdk_entry_kind (e, first);
  uint64_t next = at + grain;
  for (unsigned i = 1; i < entries->n && next < end; i++, next += grain) {
    const uint64_t entry = vmdk_entry (e, entries->bytes, i);
    if (entry == first && kind != TN_EXTENT_DATA) {
      continue;
    }
    if (vmdk_entry_kind (e, entry) != kind
        || (kind == TN_EXTENT_DATA
            && (vmdk_entry_place (e, entry) != place + (next - at) || !vmdk_valid_entry (e, entry, next)))) {
      break;
    }
  }
  return MIN (next, e->sparse.capacity);
}

/* Bytes to fetch for a compressed grain: up to the next one if that is near. */
static uint64_t
vmdk_packed_length (const VmdkExtent *e, const VmdkEntries *entries, uint64_t place)
{
  uint64_t end = MIN (tn_node_size (e->file), place + vmdk_packed_limit (e));
  for (unsigned i = 1; i < MIN (entries->n, 64); i++) {
    const uint64_t other = vmdk_entry_place (e, vmdk_entry (e, entries->bytes, i));
    if (other > place) {
      end = MIN (end, other);
      break;
    }
  }
  return end - place;
}

static int
vmdk_map_grains (Vmdk *v, VmdkExtent *e, const VmdkEntries *entries, uint64_t at, uint64_t end, bool nowait,
                 TnExtent *extent, GError **error)
{
  const uint64_t entry = vmdk_entry (e, entries->bytes, 0), place = vmdk_entry_place (e, entry);
  extent->kind = vmdk_entry_kind (e, entry);
  const bool stored = extent->kind == TN_EXTENT_DATA || extent->kind == TN_EXTENT_PACKED;
  if ((stored || e->sparse.sesparse) && entry && extent->kind != TN_EXTENT_ZERO
      && !vmdk_valid_entry (e, entry, at)) {
    return nowait ? -EAGAIN
                  : vmdk_corrupt (e, error,
                                  "the grain at guest offset 0x%" PRIx64 " should be at 0x%" PRIx64
                                  ", where none can be",
                                  e->start + at, place);
  }
  const uint64_t until = extent->kind == TN_EXTENT_PACKED ? MIN (at + e->sparse.grain, e->sparse.capacity)
                                                          : vmdk_run (e, entries, at, end);
  extent->offset = e->start + at;
  extent->length = MIN (until, e->length) - at;
  if (stored) {
    extent->source = e->file;
    extent->source_offset = place;
  }
  if (extent->kind == TN_EXTENT_DATA) {
    extent->flags = e->writable && place >= e->sparse.overhead ? TN_EXTENT_WRITABLE : 0;
  } else if (extent->kind == TN_EXTENT_PACKED) {
    extent->packed_length = vmdk_packed_length (e, entries, place);
  }
  return 0;
}

static int
vmdk_map_stream (Vmdk *v, VmdkExtent *e, uint64_t at, TnExtent *extent, GError **error)
{
  uint64_t entry;
  uint8_t bytes[4];
  int ret = vmdk_stream_entry (v, at, &entry, error);
  if (ret < 0) {
    return ret;
  }
  tn_store_le32 (bytes, (uint32_t) entry);
  const VmdkEntries entries = { .bytes = bytes, .n = 1 };
  return vmdk_map_grains (v, e, &entries, at, at + e->sparse.grain, false, extent, error);
}

static int
vmdk_map_sparse (Vmdk *v, VmdkExtent *e, uint64_t offset, uint64_t length, bool nowait, TnExtent *extent,
                 GError **error)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t at = (offset - e->start) & ~(s->grain - 1), span = vmdk_gt_span (e);
  if (v->stream) {
    return nowait ? -EAGAIN : vmdk_map_stream (v, e, at, extent, error);
  }
  uint64_t table;
  int ret = vmdk_table (e, false, at, nowait, &table, error);
  if (ret < 0) {
    return ret;
  }
  if (table == 0) {
    const uint64_t start = at / span * span;
    extent->offset = e->start + start;
    extent->length = MIN (span, e->length - start);
    extent->kind = TN_EXTENT_UNALLOCATED;
    return 0;
  }
  const uint64_t index = at / s->grain % s->gt_entries;
  VmdkEntries entries;
  ret = vmdk_entries_look (e, e->gt, table + index * s->entry_bytes, s->gt_entries - index, nowait, &entries,
                           error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t end = offset - e->start + MIN (length, e->length);
  ret = vmdk_map_grains (v, e, &entries, at, end, nowait, extent, error);
  vmdk_entries_put (&entries);
  return ret;
}

static int
vmdk_map_plain (Vmdk *v, VmdkExtent *e, TnExtent *extent, GError **error)
{
  extent->offset = e->start;
  extent->length = e->length;
  if (e->type == VMDK_ZERO) {
    extent->kind = TN_EXTENT_ZERO;
    return 0;
  }
  extent->kind = TN_EXTENT_DATA;
  extent->source = e->file;
  extent->source_offset = e->file_offset;
  extent->flags = e->writable ? TN_EXTENT_WRITABLE : 0;
  return 0;
}

int
vmdk_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vmdk *v = tn_node_state (node);
  const bool nowait = flags & TN_MAP_NOWAIT;
  int ret = 0;
  if (offset >= v->size) {
    return nowait ? -EAGAIN : vmdk_fail (v, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  }
  if (!v->parent_checked) {
    ret = nowait ? -EAGAIN : vmdk_check_parent (v, error);
  }
  if (ret == 0 && (flags & TN_MAP_WRITE) && !v->touched && v->writable) {
    ret = nowait ? -EAGAIN : vmdk_touch (v, error);
  }
  if (ret < 0) {
    return ret;
  }
  VmdkExtent *e = vmdk_extent_at (v, offset);
  *extent = (TnExtent){ .generation = extent->generation };
  if (e->type != VMDK_ZERO && e->file == NULL) {
    return nowait ? -EAGAIN
                  : vmdk_fail (v, error, EACCES, "its extent at %" PRIu64 " may not be accessed", e->start);
  }
  return e->type == VMDK_SPARSE ? vmdk_map_sparse (v, e, offset, length, nowait, extent, error)
                                : vmdk_map_plain (v, e, extent, error);
}
