/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New blocks, and blocks whose contents are given up. */
#include "vdi.h"

/* ---- Places in the file ---- */

static bool
vdi_is_used (const Vdi *v, uint32_t place)
{
  return v->used[place / 8] >> (place % 8) & 1;
}

static void
vdi_use (Vdi *v, uint32_t place)
{
  v->used[place / 8] |= (uint8_t) (1u << (place % 8));
}

int
vdi_scan (Vdi *v, GError **error)
{
  uint32_t used = 0;
  if (v->scanned)
    return 0;
  g_autofree uint8_t *bits = g_try_malloc0 (v->header.blocks / 8 + 1);
  if (!bits)
    return vdi_fail (v, error, ENOMEM, "no memory for the places of %u blocks", v->header.blocks);
  v->used = bits;
  v->next = 0;
  for (uint32_t block = 0; block < v->header.blocks;) {
    BlockCursor cursor;
    const int ret = block_cursor_begin (&cursor, &v->map, block, false, error);
    if (ret < 0) {
      v->used = NULL;
      return ret;
    }
    do {
      const uint32_t entry = tn_load_le32 (block_cursor_entry (&cursor));
      if (entry < v->header.blocks && !vdi_is_used (v, entry)) {
        vdi_use (v, entry);
        v->next = MAX (v->next, entry + 1);
        used++;
      }
    } while (++block < v->header.blocks && block_cursor_next (&cursor));
    block_cursor_end (&cursor);
  }
  v->holes = v->next - used;
  v->count = v->next;
  v->hole_hint = 0;
  v->fresh_from = tn_node_size (v->file);
  v->used = g_steal_pointer (&bits);
  v->scanned = true;
  return 0;
}

void
vdi_forget_places (Vdi *v)
{
  v->scanned = false;
  g_clear_pointer (&v->used, g_free);
}

void
vdi_take_place (Vdi *v, uint32_t place)
{
  if (place >= v->next) {
    v->holes += place - v->next;
    v->next = place + 1;
  } else {
    v->holes--;
  }
  v->hole_hint = 0;
  vdi_use (v, place);
}

/* The first place of a run of at most *n free ones; gaps are filled first. */
static int
vdi_take_places (Vdi *v, uint32_t *n, uint32_t *place, GError **error)
{
  if (v->holes) {
    while (vdi_is_used (v, v->hole_hint))
      v->hole_hint++;
    *place = v->hole_hint;
    vdi_use (v, *place);
    v->holes--;
    *n = 1;
    return 0;
  }
  *n = MIN (*n, v->header.blocks - v->next);
  if (*n == 0)
    return vdi_fail (v, error, EIO, "all of its %u places are in use: run check", v->header.blocks);
  *place = v->next;
  v->next += *n;
  for (uint32_t i = 0; i < *n; i++)
    vdi_use (v, *place + i);
  return 0;
}

static void
vdi_give_back (Vdi *v, uint32_t place, uint32_t n)
{
  for (uint32_t i = place; i < place + n; i++)
    v->used[i / 8] &= (uint8_t) ~(1u << (i % 8));
  v->holes += n;
  v->hole_hint = MIN (v->hole_hint, place);
  while (v->next > v->count && !vdi_is_used (v, v->next - 1)) {
    v->next--;
    v->holes--;
  }
}

/* ---- The map ---- */

int
vdi_get_entry (Vdi *v, uint64_t block, uint32_t *entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->map, block, &slice, &at, error);
  if (ret < 0)
    return ret;
  *entry = tn_load_le32 (at);
  tn_meta_put (slice);
  return 0;
}

int
vdi_set_entry (Vdi *v, uint64_t block, uint32_t entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->map, block, &slice, &at, error);
  if (ret < 0)
    return ret;
  tn_store_le32 (at, entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
vdi_flush_state (Vdi *v, GError **error)
{
  TnMetaCache *const caches[] = { v->header_cache, v->map.cache };
  return tn_meta_flush (caches, G_N_ELEMENTS (caches), error);
}

/* Neighbours from @block on that have no place, as far as their entries are in memory. */
static int
vdi_count_missing (Vdi *v, uint64_t block, uint32_t most, uint32_t *n, GError **error)
{
  BlockCursor cursor;
  const int ret = block_cursor_begin (&cursor, &v->map, block, false, error);
  if (ret < 0)
    return ret;
  *n = 0;
  do {
    if (tn_load_le32 (block_cursor_entry (&cursor)) < VDI_ZERO)
      break;
  } while (++*n < most && block_cursor_next (&cursor));
  block_cursor_end (&cursor);
  return 0;
}

int
vdi_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vdi *v = tn_node_state (node);
  const uint64_t block_size = v->header.block_size, block = offset / block_size;
  const uint64_t last = (offset + MAX (length, 1) - 1) / block_size;
  uint32_t n = 0, place = 0;
  int ret = vdi_scan (v, error);
  if (ret < 0 || (ret = vdi_count_missing (v, block, (uint32_t) (last - block + 1), &n, error)) < 0)
    return ret;
  if (n == 0)
    return vdi_fail (v, error, EIO, "block %" PRIu64 " has a place already", block);
  n = v->header.block_extra ? 1 : n;
  if ((ret = vdi_take_places (v, &n, &place, error)) < 0)
    return ret;
  const uint64_t start = vdi_place (v, place), end = start + n * block_size;
  if (end > tn_node_size (v->file) && (ret = tn_node_resize (v->file, end, TN_PREALLOC_OFF, error)) < 0) {
    vdi_give_back (v, place, n);
    return ret;
  }
  *extent = (TnExtent){ .offset = block * block_size,
                        .length = n * block_size,
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_NEW | (start >= v->fresh_from ? TN_EXTENT_READS_ZERO : 0),
                        .source = v->file,
                        .source_offset = start,
                        .cookie = { place, n } };
  v->fresh_from = MAX (v->fresh_from, end);
  return 0;
}

static int
vdi_link (Vdi *v, TnExtent *extent, GError **error)
{
  const uint64_t block = extent->offset / v->header.block_size;
  const uint32_t place = (uint32_t) extent->cookie[0], n = (uint32_t) extent->cookie[1];
  int ret = vdi_header_set_count (v, MAX (v->count, place + n), error);
  if (ret < 0 || (ret = tn_meta_order (v->map.cache, v->header_cache, error)) < 0)
    return ret;
  tn_meta_after_data (v->map.cache);
  v->count = MAX (v->count, place + n);
  for (uint32_t i = 0; ret == 0 && i < n; i++) {
    ret = vdi_set_entry (v, block + i, place + i, error);
    /* From the first entry on these places are not to be given to others, whatever becomes of the rest. */
    if (ret == 0)
      extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return ret;
}

int
vdi_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++)
    ret = vdi_link (tn_node_state (node), &extents[i], error);
  return ret;
}

void
vdi_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Vdi *v = tn_node_state (node);
  for (size_t i = 0; i < n; i++)
    if (extents[i].flags & TN_EXTENT_NEW) {
      vdi_give_back (v, (uint32_t) extents[i].cookie[0], (uint32_t) extents[i].cookie[1]);
      extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
    }
}

/* ---- Discards ---- */

/* Blocks keep their places, since other programs count on there being no gaps: the space goes back to the
 * file system where it can make a hole in the file. */
static int
vdi_clear_extent (Vdi *v, const TnExtent *extent, uint64_t offset, uint64_t length, uint32_t flags,
                  GError **error)
{
  if (extent->kind == TN_EXTENT_ZERO)
    return 0;
  if (extent->kind == TN_EXTENT_DATA)
    return tn_node_write_zeroes (v->file, extent->source_offset + (offset - extent->offset), length,
                                 flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0, error);
  if (!(flags & TN_UNMAP_ZERO) || v->header.type != VDI_DIFFERENCING)
    return 0;
  int ret = 0;
  for (uint64_t at = offset; ret == 0 && at < offset + length; at += v->header.block_size)
    ret = vdi_set_entry (v, at / v->header.block_size, VDI_ZERO, error);
  return ret;
}

int
vdi_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Vdi *v = tn_node_state (node);
  const uint64_t end = offset + length;
  for (uint64_t at = offset; at < end;) {
    TnExtent extent = { 0 };
    int ret = vdi_map (node, at, end - at, 0, &extent, error);
    if (ret < 0)
      return ret;
    const uint64_t part = MIN (extent.offset + extent.length, end) - at;
    if ((ret = vdi_clear_extent (v, &extent, at, part, flags, error)) < 0)
      return ret;
    at += part;
  }
  return 0;
}
