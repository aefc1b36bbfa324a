/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the size of the disk: one item of the metadata, which is written last.
 *
 * A BAT that is too long for its region gets a new one behind the last block; the two region tables turn to
 * it one after the other, once it is on stable storage.  What such a change touches lies in one sector each
 * time, so that no log is needed.
 */
#include "vhdx.h"

#include "../common/crc32c.h"

#define CHUNK VHDX_MIB
#define SECTOR 512u

/* ---- Changing tables at once ---- */

static int
vhdx_put_bytes (Vhdx *v, uint64_t at, const uint8_t *bytes, size_t length, GError **error)
{
  TnMetaSlice *slice;
  const int ret = tn_meta_get (v->bat.cache, at - at % VHDX_PAGE, &slice, error);
  if (ret < 0)
    return ret;
  memcpy ((uint8_t *) tn_meta_data (slice) + at % VHDX_PAGE, bytes, length);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* Bytes of one sector, to stable storage. */
static int
vhdx_change_bytes (Vhdx *v, uint64_t at, const uint8_t *bytes, size_t length, GError **error)
{
  uint8_t old[SECTOR];
  int ret = tn_node_read (v->file, at, old, length, error);
  if (ret < 0 || (ret = vhdx_put_bytes (v, at, bytes, length, error)) < 0)
    return ret;
  /* What the file has after a failure is not known: the next flush says that nothing has changed. */
  if ((ret = vhdx_flush_state (v, error)) < 0)
    (void) vhdx_put_bytes (v, at, old, length, NULL);
  return ret;
}

static int
vhdx_change_size (Vhdx *v, uint64_t size, GError **error)
{
  uint8_t bytes[8];
  tn_store_le64 (bytes, size);
  const int ret = vhdx_change_bytes (v, v->size_at, bytes, sizeof bytes, error);
  if (ret < 0)
    return ret;
  v->size = size;
  v->blocks = vhdx_blocks_of (v, size);
  v->bat_entries = vhdx_bat_entries_of (v, size);
  return 0;
}

/* ---- Another region for the BAT ---- */

static int
vhdx_turn_region_table (Vhdx *v, uint64_t at, const VhdxRange *bat, GError **error)
{
  g_autofree uint8_t *table = g_malloc (VHDX_REGION_SIZE);
  const int ret = tn_node_read (v->file, at, table, VHDX_REGION_SIZE, error);
  if (ret < 0)
    return ret;
  for (unsigned entry = 16; entry + 32 <= SECTOR; entry += 32) {
    if (memcmp (table + entry, vhdx_guid_bat, 16) != 0)
      continue;
    tn_store_le64 (table + entry + 16, bat->offset);
    tn_store_le32 (table + entry + 24, (uint32_t) bat->length);
    tn_store_le32 (table + 4, crc32c_without (table, VHDX_REGION_SIZE, 4));
    return vhdx_change_bytes (v, at, table, SECTOR, error);
  }
  return vhdx_fail (v, error, ENOTSUP,
                    "the BAT is not among the first regions of its table: convert it to a larger image");
}

/* What the BAT has, and zeroes. */
static int
vhdx_copy_bat (Vhdx *v, const VhdxRange *to, GError **error)
{
  const uint64_t length = v->bat_entries * 8;
  g_autofree uint8_t *buffer = g_malloc (CHUNK);
  int ret = tn_node_write_zeroes (v->file, to->offset, to->length, 0, error);
  for (uint64_t at = 0; ret == 0 && at < length; at += CHUNK) {
    const uint64_t part = MIN (CHUNK, length - at);
    ret = tn_node_read (v->file, v->bat.offset + at, buffer, part, error);
    if (ret == 0)
      ret = tn_node_write (v->file, to->offset + at, buffer, part, error);
  }
  return ret < 0 ? ret : tn_node_flush (v->file, error);
}

static int
vhdx_move_bat (Vhdx *v, uint64_t entries, GError **error)
{
  int ret = vhdx_flush_state (v, error);
  if (ret < 0 || (ret = vhdx_scan (v, error)) < 0)
    return ret;
  const VhdxRange bat = { (v->end + VHDX_MIB - 1) / VHDX_MIB * VHDX_MIB,
                          (entries * 8 + VHDX_MIB - 1) / VHDX_MIB * VHDX_MIB };
  v->scanned = false;
  /* Nobody else takes the place from now on. */
  v->regions_end = MAX (v->regions_end, bat.offset + bat.length);
  tn_meta_forget (v->bat.cache, bat.offset, bat.length);
  tn_meta_forget (v->bitmaps, bat.offset, bat.length);
  if (tn_node_size (v->file) < bat.offset + bat.length
      && (ret = tn_node_resize (v->file, bat.offset + bat.length, TN_PREALLOC_OFF, error)) < 0)
    return ret;
  if ((ret = vhdx_copy_bat (v, &bat, error)) < 0
      || (ret = vhdx_turn_region_table (v, VHDX_REGION_AT_1, &bat, error)) < 0)
    return ret;
  v->bat_region = bat;
  v->bat.offset = bat.offset;
  return vhdx_turn_region_table (v, VHDX_REGION_AT_2, &bat, error);
}

/* ---- Growing ---- */

/* Bytes between the old end and the end of its block may hold anything: they must read as zeroes. */
static int
vhdx_clear_tail (Vhdx *v, GError **error)
{
  const uint64_t rest = v->size % v->block_size;
  TnExtent extent = { 0 };
  const int ret = rest ? vhdx_map (v->node, v->size - 1, 1, TN_MAP_WRITE, &extent, error) : 0;
  if (ret < 0 || extent.kind != TN_EXTENT_DATA)
    return ret;
  return tn_node_write_zeroes (v->file, extent.source_offset + (v->size - extent.offset),
                               v->block_size - rest, 0, error);
}

/* Entries from the end of the BAT up to @end: no blocks.  Whole pages may become a hole. */
static int
vhdx_clear_entries (Vhdx *v, uint64_t end, GError **error)
{
  const uint64_t per_page = VHDX_PAGE / 8, page = (v->bat_entries + per_page - 1) / per_page * per_page;
  int ret = 0;
  for (uint64_t index = v->bat_entries; ret == 0 && index < MIN (page, end); index++)
    ret = vhdx_set_entry (v, index, VHDX_NOT_PRESENT, error);
  if (ret < 0 || end <= page)
    return ret;
  const uint64_t at = v->bat.offset + page * 8, length = (end - page + per_page - 1) / per_page * VHDX_PAGE;
  tn_meta_forget (v->bat.cache, at, length);
  return tn_node_write_zeroes (v->file, at, length, TN_REQUEST_MAY_UNMAP, error);
}

/* A fixed image has a place for each of its blocks. */
static int
vhdx_place_blocks (Vhdx *v, uint64_t end, GError **error)
{
  for (uint64_t block = v->blocks; block < end;) {
    uint32_t n = (uint32_t) MIN (end - block, 1u << 20);
    uint64_t place = 0;
    bool fresh = false;
    int ret = vhdx_take_places (v, &n, &place, &fresh, error);
    if (ret == 0 && !fresh)
      ret = tn_node_write_zeroes (v->file, place, (uint64_t) n * v->block_size, 0, error);
    tn_meta_after_data (v->bat.cache);
    for (uint32_t i = 0; ret == 0 && i < n; i++)
      ret = vhdx_set_entry (v, vhdx_bat_index (v, block + i),
                            (place + (uint64_t) i * v->block_size) | VHDX_PRESENT, error);
    if (ret < 0)
      return ret;
    block += n;
  }
  return 0;
}

static int
vhdx_grow (Vhdx *v, uint64_t size, GError **error)
{
  const uint64_t entries = vhdx_bat_entries_of (v, size);
  int ret = vhdx_clear_tail (v, error);
  if (ret == 0)
    ret = entries * 8 > v->bat_region.length ? vhdx_move_bat (v, entries, error)
                                             : vhdx_clear_entries (v, entries, error);
  if (ret == 0 && v->leaves_allocated)
    ret = vhdx_place_blocks (v, vhdx_blocks_of (v, size), error);
  if (ret == 0)
    ret = vhdx_flush_state (v, error);
  /* Places of blocks that the disk does not have after all are found by a walk only. */
  v->scanned = v->scanned && ret == 0;
  return ret < 0 ? ret : vhdx_change_size (v, size, error);
}

/* ---- Shrinking ---- */

static int
vhdx_forget_blocks (Vhdx *v, uint64_t first, GError **error)
{
  int ret = 0;
  for (uint64_t block = first; ret == 0 && block < v->blocks; block++) {
    const uint64_t index = vhdx_bat_index (v, block);
    uint64_t entry = 0;
    if ((ret = vhdx_get_entry (v, index, &entry, error)) < 0 || entry == VHDX_NOT_PRESENT)
      continue;
    const uint64_t place = entry & VHDX_OFFSET_MASK;
    if (vhdx_kind_is_data (entry) && !vhdx_entry_fault (v, block, entry))
      g_array_append_val (v->freed, place);
    ret = vhdx_set_entry (v, index, VHDX_NOT_PRESENT, error);
  }
  tn_node_bump_generation (v->node);
  return ret < 0 ? ret : vhdx_flush_state (v, error);
}

/* Cuts off what no block has; places before that wait for others. */
static void
vhdx_cut_file (Vhdx *v)
{
  g_autoptr (GArray) spare = v->spare;
  v->spare = g_array_new (false, false, sizeof (uint64_t));
  v->scanned = false;
  if (vhdx_scan (v, NULL) < 0)
    return;
  for (guint i = 0; i < spare->len; i++) {
    const uint64_t place = g_array_index (spare, uint64_t, i);
    if (place + v->block_size <= v->end)
      g_array_append_val (v->spare, place);
  }
  if (tn_node_size (v->file) > v->end)
    (void) tn_node_resize (v->file, v->end, TN_PREALLOC_OFF, NULL);
  v->scanned = false;
}

static int
vhdx_shrink (Vhdx *v, uint64_t size, GError **error)
{
  int ret = vhdx_forget_blocks (v, vhdx_blocks_of (v, size), error);
  if (ret < 0 || (ret = vhdx_change_size (v, size, error)) < 0)
    return ret;
  vhdx_cut_file (v);
  return 0;
}

int
vhdx_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Vhdx *v = tn_node_state (node);
  if (v->has_parent)
    return vhdx_fail (v, error, ENOTSUP, "one image of a chain cannot change its size alone");
  if (prealloc != TN_PREALLOC_OFF)
    return vhdx_fail (v, error, ENOTSUP, "space cannot be set aside for what a VHDX grows by");
  if (size == 0 || size % v->sector_size || size > VHDX_MAX_SIZE)
    return vhdx_fail (v, error, EINVAL,
                      "its size must be in whole sectors of %u bytes and up to 64 TiB, which %" PRIu64
                      " is not",
                      v->sector_size, size);
  if (v->size_at % SECTOR > SECTOR - 8)
    return vhdx_fail (v, error, ENOTSUP, "its size lies across two sectors: convert it to another image");
  if (size == v->size)
    return 0;
  const int ret = vhdx_touch (v, error);
  if (ret < 0)
    return ret;
  return size > v->size ? vhdx_grow (v, size, error) : vhdx_shrink (v, size, error);
}
