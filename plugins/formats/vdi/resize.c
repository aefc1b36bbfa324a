/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the size of the disk.
 *
 * The header decides: it is one sector, written last and whole.  A larger disk needs a longer map.  When the
 * blocks stand in its way, the first of them are copied behind the last; once that is on stable storage the
 * map is written anew, between the old one, which still counts, and the first block that has stayed, and the
 * header turns to it.  All places are then counted from there.
 *
 * A smaller disk first forgets the blocks behind its end, then fills the gaps that they leave, since all
 * places must be smaller than the number of blocks.
 */
#include "vdi.h"

#define CHUNK_ENTRIES 16384u

static uint64_t
vdi_blocks_of (const Vdi *v, uint64_t size)
{
  return size / v->header.block_size + (size % v->header.block_size != 0);
}

/* Entries of blocks from @first up to @end: @entry, and with @step that much more for each. */
static int
vdi_set_entries (Vdi *v, uint64_t first, uint64_t end, uint32_t entry, uint32_t step, GError **error)
{
  while (first < end) {
    TnMetaSlice *slice;
    void *at = NULL;
    const int ret = block_table_pin (&v->map, first, &slice, &at, error);
    if (ret < 0)
      return ret;
    const uint64_t room = (v->map.slice_size - (v->map.offset + first * 4) % v->map.slice_size) / 4;
    const uint64_t n = MIN (room, end - first);
    for (uint64_t i = 0; i < n; i++, entry += step)
      tn_store_le32 ((uint8_t *) at + i * 4, entry);
    tn_meta_dirty (slice);
    tn_meta_put (slice);
    first += n;
  }
  return 0;
}

/* ---- A longer map ---- */

/* More entries than the disk needs, as far as there is room for them. */
static int
vdi_lengthen_map (Vdi *v, uint32_t blocks, GError **error)
{
  VdiHeader h = v->header;
  int ret = vdi_set_entries (v, h.blocks, blocks, VDI_UNALLOCATED, 0, error);
  if (ret < 0 || (ret = vdi_flush_state (v, error)) < 0)
    return ret;
  h.blocks = blocks;
  ret = vdi_header_change (v, &h, error);
  vdi_forget_places (v);
  return ret;
}

/* Behind the map of @blocks entries, where the next may begin. */
static uint64_t
vdi_map_end (const Vdi *v, uint64_t blocks)
{
  return (v->header.map_offset + blocks * 4 + VDI_SECTOR - 1) / VDI_SECTOR * VDI_SECTOR;
}

/* How many places the blocks must leave for a second map of @blocks entries. */
static uint64_t
vdi_places_in_the_way (const Vdi *v, uint64_t blocks)
{
  const uint64_t end = vdi_map_end (v, v->header.blocks) + blocks * 4, data = v->header.data_offset;
  return end > data ? (end - data + v->stride - 1) / v->stride : 0;
}

/* Every block from the first @n places to places behind them. */
static int
vdi_clear_places (Vdi *v, uint32_t n, GError **error)
{
  uint32_t to = n;
  int ret = 0;
  for (uint32_t block = 0; ret == 0 && block < v->header.blocks; block++) {
    uint32_t entry = VDI_UNALLOCATED;
    ret = vdi_get_entry (v, block, &entry, error);
    if (ret == 0 && entry < VDI_ZERO && vdi_entry_fault (v, entry))
      return vdi_fail (v, error, EIO, "entry %u (%u) of its block map %s: run check", block, entry,
                       vdi_entry_fault (v, entry));
    if (ret < 0 || entry >= n)
      continue;
    while (to < v->next && (v->used[to / 8] >> (to % 8) & 1))
      to++;
    if (to >= v->header.blocks)
      return vdi_fail (v, error, EIO, "two blocks share a place: run check -r all");
    vdi_take_place (v, to);
    if ((ret = vdi_header_set_count (v, MAX (v->count, to + 1), error)) < 0
        || (ret = tn_meta_order (v->map.cache, v->header_cache, error)) < 0)
      return ret;
    v->count = MAX (v->count, to + 1);
    ret = vdi_move_block (v, block, entry, to, error);
  }
  return ret;
}

/* The map as it will be read when places are counted from @shift places further on. */
static int
vdi_write_map_at (Vdi *v, uint64_t place, uint32_t shift, GError **error)
{
  g_autofree uint32_t *entries = g_new (uint32_t, CHUNK_ENTRIES);
  int ret = 0;
  for (uint32_t first = 0; ret == 0 && first < v->header.blocks;) {
    const uint32_t n = MIN (v->header.blocks - first, CHUNK_ENTRIES);
    for (uint32_t i = 0; ret == 0 && i < n; i++) {
      uint32_t entry = VDI_UNALLOCATED;
      ret = vdi_get_entry (v, first + i, &entry, error);
      entries[i] = GUINT32_TO_LE (entry < VDI_ZERO ? entry - shift : entry);
    }
    if (ret == 0)
      ret = tn_node_write (v->file, place + first * 4ull, entries, n * 4ull, error);
    first += n;
  }
  return ret < 0 ? ret : tn_node_flush (v->file, error);
}

/* Turns to the map behind the present one. */
static int
vdi_turn_to_map (Vdi *v, uint32_t shift, GError **error)
{
  VdiHeader h = v->header;
  h.map_offset = (uint32_t) vdi_map_end (v, h.blocks);
  h.data_offset += (uint32_t) (shift * v->stride);
  h.allocated = v->next > shift ? v->next - shift : 0;
  int ret = vdi_write_map_at (v, h.map_offset, shift, error);
  if (ret == 0 && tn_node_size (v->file) < h.data_offset)
    ret = tn_node_resize (v->file, h.data_offset, TN_PREALLOC_OFF, error);
  if (ret < 0 || (ret = vdi_header_change (v, &h, error)) < 0)
    return ret;
  tn_meta_cache_free (v->map.cache);
  vdi_make_map_cache (v);
  vdi_forget_places (v);
  tn_node_bump_generation (v->node);
  return 0;
}

/* Room for @blocks entries between the map and the blocks. */
static int
vdi_make_room (Vdi *v, uint64_t blocks, GError **error)
{
  const uint32_t most = (v->header.data_offset - v->header.map_offset) / 4;
  int ret = vdi_scan (v, error);
  if (ret < 0)
    return ret;
  uint64_t n = vdi_places_in_the_way (v, blocks);
  /* Blocks that move need numbers below that of all blocks. */
  uint32_t used = v->next - v->holes;
  if (v->header.blocks - used < n && most > v->header.blocks) {
    if ((ret = vdi_lengthen_map (v, most, error)) < 0 || (ret = vdi_scan (v, error)) < 0)
      return ret;
    n = vdi_places_in_the_way (v, blocks);
    used = v->next - v->holes;
  }
  if (v->header.blocks - used < n)
    return vdi_fail (v, error, ENOSPC,
                     "its map is full and nearly every block allocated, so that nothing can be moved out of "
                     "its way: convert it to a larger image");
  if (v->header.data_offset + n * v->stride > UINT32_MAX)
    return vdi_fail (v, error, EFBIG, "its blocks would begin beyond 4 GiB");
  if ((ret = vdi_clear_places (v, (uint32_t) n, error)) < 0 || (ret = vdi_flush_state (v, error)) < 0)
    return ret;
  return vdi_turn_to_map (v, (uint32_t) n, error);
}

/* ---- Growing ---- */

/* Bytes between the old end and the end of its block may hold anything: they must read as zeroes. */
static int
vdi_clear_tail (Vdi *v, GError **error)
{
  const uint64_t rest = v->size % v->header.block_size;
  TnExtent extent = { 0 };
  const int ret = rest ? vdi_map (v->node, v->size - 1, 1, 0, &extent, error) : 0;
  if (ret < 0 || extent.kind != TN_EXTENT_DATA)
    return ret;
  return tn_node_write_zeroes (v->file, extent.source_offset + (v->size - extent.offset),
                               v->header.block_size - rest, 0, error);
}

/* In a static image every block has its place at once. */
static int
vdi_place_new_blocks (Vdi *v, uint32_t blocks, TnPrealloc prealloc, VdiHeader *h, GError **error)
{
  int ret = vdi_scan (v, error);
  if (ret < 0)
    return ret;
  const uint32_t first = v->next, n = blocks - v->header.blocks;
  const uint64_t start = v->header.data_offset + first * v->stride, end = start + n * v->stride,
                 file_size = tn_node_size (v->file);
  if (file_size > start)
    ret = tn_node_write_zeroes (v->file, start, MIN (file_size, end) - start, 0, error);
  if (ret == 0 && end > file_size)
    ret = tn_node_resize (v->file, end, prealloc == TN_PREALLOC_METADATA ? TN_PREALLOC_OFF : prealloc, error);
  if (ret < 0)
    return ret;
  h->allocated = first + n;
  tn_meta_after_data (v->map.cache);
  return vdi_set_entries (v, v->header.blocks, blocks, first, 1, error);
}

static int
vdi_grow (Vdi *v, uint64_t size, TnPrealloc prealloc, GError **error)
{
  const uint64_t blocks = MAX (vdi_blocks_of (v, size), v->header.blocks);
  int ret = vdi_clear_tail (v, error);
  if (ret == 0 && v->header.map_offset + blocks * 4 > v->header.data_offset)
    ret = vdi_make_room (v, blocks, error);
  if (ret < 0)
    return ret;
  VdiHeader h = v->header;
  h.disk_size = size;
  if (v->header.type == VDI_STATIC)
    ret = vdi_place_new_blocks (v, (uint32_t) blocks, prealloc, &h, error);
  else
    ret = vdi_set_entries (v, v->header.blocks, blocks, VDI_UNALLOCATED, 0, error);
  h.blocks = (uint32_t) blocks;
  if (ret == 0)
    ret = vdi_flush_state (v, error);
  return ret < 0 ? ret : vdi_header_change (v, &h, error);
}

/* ---- Shrinking ---- */

static int
vdi_shrink (Vdi *v, uint64_t size, GError **error)
{
  const uint32_t blocks = (uint32_t) vdi_blocks_of (v, size);
  int ret = vdi_set_entries (v, blocks, v->header.blocks, VDI_UNALLOCATED, 0, error);
  if (ret < 0 || (ret = vdi_flush_state (v, error)) < 0)
    return ret;
  vdi_forget_places (v);
  tn_node_bump_generation (v->node);
  if ((ret = vdi_scan (v, error)) < 0)
    return ret;
  VdiHeader h = v->header;
  h.disk_size = size;
  h.blocks = blocks;
  h.allocated = v->next - v->holes;
  if ((ret = vdi_fill_gaps (v, v->used, h.allocated, error)) < 0 || (ret = vdi_flush_state (v, error)) < 0
      || (ret = vdi_header_change (v, &h, error)) < 0)
    return ret;
  /* What is left behind the last block is in nobody's way. */
  const uint64_t end = h.data_offset + h.allocated * v->stride;
  if (tn_node_size (v->file) > end)
    (void) tn_node_resize (v->file, end, TN_PREALLOC_OFF, NULL);
  return 0;
}

/* ---- Both ---- */

static int
vdi_check_resize (const Vdi *v, uint64_t size, TnPrealloc prealloc, GError **error)
{
  if (size % VDI_SECTOR)
    return vdi_fail (v, error, EINVAL, "its size must be in whole sectors of %u bytes", VDI_SECTOR);
  if (v->header.type == VDI_DIFFERENCING || tn_node_child (v->node, "backing"))
    return vdi_fail (v, error, ENOTSUP, "one image of a chain cannot change its size alone");
  if (prealloc != TN_PREALLOC_OFF && v->header.type != VDI_STATIC)
    return vdi_fail (v, error, ENOTSUP, "space is set aside in static images only");
  if (vdi_blocks_of (v, size) > VDI_MAX_BLOCKS)
    return vdi_fail (v, error, EFBIG, "a disk of %" PRIu64 " bytes needs more than %u blocks", size,
                     VDI_MAX_BLOCKS);
  return 0;
}

int
vdi_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Vdi *v = tn_node_state (node);
  int ret = vdi_check_resize (v, size, prealloc, error);
  if (ret < 0 || size == v->size)
    return ret;
  ret = size > v->size ? vdi_grow (v, size, prealloc, error) : vdi_shrink (v, size, error);
  vdi_forget_places (v);
  if (ret == 0)
    v->size = size;
  return ret;
}
