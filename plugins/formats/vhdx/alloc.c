/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New blocks, and blocks that are given up. */
#include "vhdx.h"

/* ---- The BAT ---- */

int
vhdx_get_entry (Vhdx *v, uint64_t index, uint64_t *entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->bat, index, &slice, &at, error);
  if (ret < 0)
    return ret;
  *entry = tn_load_le64 (at);
  tn_meta_put (slice);
  return 0;
}

int
vhdx_set_entry (Vhdx *v, uint64_t index, uint64_t entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->bat, index, &slice, &at, error);
  if (ret < 0)
    return ret;
  tn_store_le64 (at, entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* What was given up before is free for others now that the BAT on disk does not name it. */
static void
vhdx_release_freed (Vhdx *v)
{
  for (guint i = 0; i < v->freed->len; i++) {
    const uint64_t place = g_array_index (v->freed, uint64_t, i);
    if (tn_node_open_flags (v->node) & TN_OPEN_UNMAP)
      (void) tn_node_discard (v->file, place, v->block_size, NULL);
    g_array_append_val (v->spare, place);
  }
  g_array_set_size (v->freed, 0);
}

int
vhdx_flush_state (Vhdx *v, GError **error)
{
  TnMetaCache *const caches[] = { v->bat.cache };
  const int ret = tn_meta_flush (caches, G_N_ELEMENTS (caches), error);
  if (ret == 0)
    vhdx_release_freed (v);
  return ret;
}

/* ---- Places ---- */

static uint64_t
vhdx_end_of_places (const Vhdx *v, const GArray *places)
{
  uint64_t end = 0;
  for (guint i = 0; i < places->len; i++)
    end = MAX (end, g_array_index (places, uint64_t, i) + v->block_size);
  return end;
}

/* Finds the end of the last block or bitmap, those included that the BAT on disk may still name. */
int
vhdx_scan (Vhdx *v, GError **error)
{
  const uint64_t file_size = vhdx_file_size (v);
  uint64_t end = v->regions_end;
  if (v->scanned)
    return 0;
  for (uint64_t index = 0; index < v->bat_entries;) {
    BlockCursor cursor;
    const int ret = block_cursor_begin (&cursor, &v->bat, index, false, error);
    if (ret < 0)
      return ret;
    do {
      const uint64_t entry = tn_load_le64 (block_cursor_entry (&cursor)), place = entry & VHDX_OFFSET_MASK;
      const bool is_bitmap = (index + 1) % (v->chunk_ratio + UINT64_C (1)) == 0;
      if (place && place < file_size)
        end = MAX (end, place + (is_bitmap ? VHDX_MIB : v->block_size));
    } while (++index < v->bat_entries && block_cursor_next (&cursor));
    block_cursor_end (&cursor);
  }
  end = MAX (end, vhdx_end_of_places (v, v->freed));
  v->end = MAX (end, vhdx_end_of_places (v, v->spare));
  v->fresh_from = file_size;
  v->scanned = true;
  return 0;
}

int
vhdx_take_places (Vhdx *v, uint32_t *n, uint64_t *place, bool *fresh, GError **error)
{
  int ret = vhdx_scan (v, error);
  if (ret < 0)
    return ret;
  if (v->spare->len) {
    *place = g_array_index (v->spare, uint64_t, v->spare->len - 1);
    *fresh = false;
    *n = 1;
    g_array_set_size (v->spare, v->spare->len - 1);
    return 0;
  }
  const uint64_t end = v->end + (uint64_t) *n * v->block_size;
  if (end > (uint64_t) INT64_MAX / 2)
    return vhdx_fail (v, error, EFBIG, "its file would become too large");
  if (end > tn_node_size (v->file) && (ret = tn_node_resize (v->file, end, TN_PREALLOC_OFF, error)) < 0)
    return ret;
  *place = v->end;
  *fresh = v->end >= v->fresh_from;
  v->fresh_from = MAX (v->fresh_from, end);
  v->end = end;
  return 0;
}

/* Neighbours from @block on that have no data, as far as their entries are in memory. */
static int
vhdx_count_missing (Vhdx *v, uint64_t block, uint32_t most, uint32_t *n, uint64_t *first, GError **error)
{
  BlockCursor cursor;
  const int ret = block_cursor_begin (&cursor, &v->bat, vhdx_bat_index (v, block), false, error);
  if (ret < 0)
    return ret;
  *first = tn_load_le64 (block_cursor_entry (&cursor));
  *n = 0;
  do {
    const uint64_t entry = tn_load_le64 (block_cursor_entry (&cursor));
    if (vhdx_kind_is_data (entry) || (entry & 7) == VHDX_UNMAPPED)
      break;
  } while (++*n < most && vhdx_next_entry (v, &cursor, block + *n));
  block_cursor_end (&cursor);
  return 0;
}

/* Where a block that has no data is written without a new place: one that the image holds in part, or one
 * that was given up but has kept its place. */
static uint64_t
vhdx_own_place (const Vhdx *v, uint64_t block, uint64_t entry)
{
  const uint64_t place = entry & VHDX_OFFSET_MASK, state = entry & 7;
  const bool keeps = state == VHDX_PARTIAL || state == VHDX_UNMAPPED;
  return keeps && place && !vhdx_entry_fault (v, block, place | VHDX_PRESENT) ? place : 0;
}

int
vhdx_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error)
{
  Vhdx *v = tn_node_state (node);
  const uint64_t block = offset / v->block_size, last = (offset + MAX (length, 1) - 1) / v->block_size;
  uint64_t entry = 0;
  uint32_t n = 0;
  bool fresh = false;
  int ret = vhdx_touch (v, error);
  if (ret == 0)
    ret = vhdx_count_missing (v, block, (uint32_t) (last - block + 1), &n, &entry, error);
  if (ret < 0)
    return ret;
  if ((entry & 7) == VHDX_PRESENT)
    return vhdx_fail (v, error, EIO, "block %" PRIu64 " has a place already", block);
  uint64_t place = vhdx_own_place (v, block, entry);
  const bool own = place != 0;
  n = own ? 1 : MAX (n, 1);
  if (!own && (ret = vhdx_take_places (v, &n, &place, &fresh, error)) < 0)
    return ret;
  *extent = (TnExtent){ .offset = block * v->block_size,
                        .length = (uint64_t) n * v->block_size,
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_NEW | (fresh ? TN_EXTENT_READS_ZERO : 0),
                        .source = v->file,
                        .source_offset = place,
                        .cookie = { n, own } };
  return 0;
}

static int
vhdx_link (Vhdx *v, TnExtent *extent, GError **error)
{
  const uint64_t block = extent->offset / v->block_size, n = extent->cookie[0];
  int ret = 0;
  tn_meta_after_data (v->bat.cache);
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    ret = vhdx_set_entry (v, vhdx_bat_index (v, block + i),
                          (extent->source_offset + i * v->block_size) | VHDX_PRESENT, error);
    /* From the first entry on these places are not to be given to others, whatever becomes of the rest. */
    if (ret == 0)
      extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return ret;
}

int
vhdx_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++)
    ret = vhdx_link (tn_node_state (node), &extents[i], error);
  return ret;
}

void
vhdx_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Vhdx *v = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    const bool own = extents[i].cookie[1];
    if (!(extents[i].flags & TN_EXTENT_NEW))
      continue;
    for (uint64_t j = 0; !own && j < extents[i].cookie[0]; j++) {
      const uint64_t place = extents[i].source_offset + j * v->block_size;
      g_array_append_val (v->spare, place);
    }
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}

/* ---- Discards ---- */

static int
vhdx_give_up (Vhdx *v, uint64_t block, uint32_t flags, GError **error)
{
  const uint64_t index = vhdx_bat_index (v, block);
  uint64_t entry = 0;
  int ret = vhdx_get_entry (v, index, &entry, error);
  if (ret < 0)
    return ret;
  const uint64_t place = entry & VHDX_OFFSET_MASK;
  const bool has_data = vhdx_kind_is_data (entry);
  if (vhdx_entry_fault (v, block, entry))
    return vhdx_fail (v, error, EIO, "the BAT's entry for block %" PRIu64 " cannot be right: run check",
                      block);
  if ((entry & 7) == VHDX_PRESENT && (v->leaves_allocated || !(flags & TN_UNMAP_RELEASE)))
    return tn_node_write_zeroes (v->file, place, v->block_size,
                                 flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0, error);
  if (!has_data && ((entry & 7) != VHDX_NOT_PRESENT || !v->has_parent || !(flags & TN_UNMAP_ZERO)))
    return 0;
  ret = vhdx_set_entry (v, index, VHDX_ZERO, error);
  if (ret == 0 && place)
    g_array_append_val (v->freed, place);
  return ret;
}

int
vhdx_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Vhdx *v = tn_node_state (node);
  int ret = vhdx_touch (v, error);
  for (uint64_t at = offset; ret == 0 && at < offset + length; at += v->block_size)
    ret = vhdx_give_up (v, at / v->block_size, flags, error);
  return ret;
}
