/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New blocks, bitmaps, discards. */
#include "vpc.h"

#define DATA_ALIGN 4096u

/* ---- Bitmaps ---- */

void
vpc_note_full (Vpc *v, uint32_t block)
{
  g_hash_table_add (v->full, GUINT_TO_POINTER (block + 1));
}

bool
vpc_is_full (const Vpc *v, uint32_t block)
{
  return g_hash_table_contains (v->full, GUINT_TO_POINTER (block + 1));
}

int
vpc_fill_bitmap (Vpc *v, uint64_t place, GError **error)
{
  const size_t used = MIN (v->block_size / VPC_SECTOR / 8, VPC_SECTOR);
  uint8_t ones[VPC_SECTOR];
  memset (ones, 0xff, sizeof ones);
  for (uint32_t at = 0; at < v->bitmap_bytes; at += VPC_SECTOR) {
    TnMetaSlice *slice;
    const int ret = tn_meta_get (v->bitmaps, place + at, &slice, error);
    if (ret < 0)
      return ret;
    if (memcmp (tn_meta_data (slice), ones, MAX (used, 1)) != 0) {
      memcpy (tn_meta_data (slice), ones, sizeof ones);
      tn_meta_dirty (slice);
    }
    tn_meta_put (slice);
  }
  return 0;
}

/* ---- The BAT ---- */

int
vpc_get_entry (Vpc *v, uint32_t block, uint32_t *entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->bat, block, &slice, &at, error);
  if (ret < 0)
    return ret;
  *entry = tn_load_be32 (at);
  tn_meta_put (slice);
  return 0;
}

int
vpc_set_entry (Vpc *v, uint32_t block, uint32_t entry, GError **error)
{
  TnMetaSlice *slice;
  void *at = NULL;
  const int ret = block_table_pin (&v->bat, block, &slice, &at, error);
  if (ret < 0)
    return ret;
  tn_store_be32 (at, entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
vpc_flush_state (Vpc *v, GError **error)
{
  TnMetaCache *const caches[] = { v->bat.cache, v->bitmaps };
  return v->bat.cache ? tn_meta_flush (caches, G_N_ELEMENTS (caches), error) : tn_node_flush (v->file, error);
}

/* ---- Places ---- */

int
vpc_scan (Vpc *v, GError **error)
{
  uint64_t end = MAX (v->bat.offset + v->entries * UINT64_C (4), v->footer.data_offset + VPC_HEADER_SIZE);
  if (v->scanned)
    return 0;
  for (unsigned i = 0; i < VPC_LOCATORS; i++)
    if (v->locators[i].length && v->locators[i].offset < tn_node_size (v->file))
      end = MAX (end, MIN (v->locators[i].offset + v->locators[i].length, tn_node_size (v->file)));
  for (uint32_t block = 0; block < v->entries;) {
    BlockCursor cursor;
    const int ret = block_cursor_begin (&cursor, &v->bat, block, false, error);
    if (ret < 0)
      return ret;
    do {
      const uint32_t entry = tn_load_be32 (block_cursor_entry (&cursor));
      if (entry != VPC_UNUSED && !vpc_entry_fault (v, entry))
        end = MAX (end, vpc_block_end (v, entry));
    } while (++block < v->entries && block_cursor_next (&cursor));
    block_cursor_end (&cursor);
  }
  for (guint i = 0; i < v->spare->len; i++)
    end = MAX (end, g_array_index (v->spare, uint64_t, i) + v->bitmap_bytes + v->block_size);
  v->end = end;
  v->fresh_from = tn_node_size (v->file);
  v->scanned = true;
  return 0;
}

/* The file grows to hold the block, with the footer at its end. */
static int
vpc_grow (Vpc *v, uint64_t place, GError **error)
{
  const uint64_t end = place + v->bitmap_bytes + v->block_size, file_size = tn_node_size (v->file);
  const uint64_t footer = MAX (end, (file_size - 1) / VPC_SECTOR * VPC_SECTOR);
  g_autofree uint8_t *ones = g_malloc (v->bitmap_bytes);
  memset (ones, 0xff, v->bitmap_bytes);
  int ret = 0;
  if (footer + VPC_SECTOR != file_size)
    ret = tn_node_resize (v->file, footer + VPC_SECTOR, TN_PREALLOC_OFF, error);
  if (ret == 0)
    ret = tn_node_write (v->file, footer, v->footer_bytes, VPC_SECTOR, error);
  if (ret == 0) {
    tn_meta_forget (v->bitmaps, place, v->bitmap_bytes);
    ret = tn_node_write (v->file, place, ones, v->bitmap_bytes, error);
  }
  return ret;
}

int
vpc_take_place (Vpc *v, uint64_t *place, bool *fresh, GError **error)
{
  int ret = vpc_scan (v, error);
  if (ret < 0)
    return ret;
  if (v->spare->len) {
    *place = g_array_index (v->spare, uint64_t, v->spare->len - 1);
    *fresh = false;
    g_array_set_size (v->spare, v->spare->len - 1);
    return 0;
  }
  /* Data begin where pages do. */
  *place = (v->end + v->bitmap_bytes + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN - v->bitmap_bytes;
  const uint64_t data = *place + v->bitmap_bytes, end = data + v->block_size;
  if (end / VPC_SECTOR >= VPC_UNUSED)
    return vpc_fail (v, error, EFBIG, "its file cannot become larger than 2 TiB");
  if ((ret = vpc_grow (v, *place, error)) < 0) {
    v->fresh_from = MAX (v->fresh_from, end + VPC_SECTOR);
    return ret;
  }
  *fresh = data >= v->fresh_from;
  v->end = end;
  v->fresh_from = MAX (v->fresh_from, end + VPC_SECTOR);
  return 0;
}

/* ---- Callbacks ---- */

int
vpc_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vpc *v = tn_node_state (node);
  const uint32_t block = (uint32_t) (offset / v->block_size);
  uint32_t entry = VPC_UNUSED;
  uint64_t place;
  bool fresh = false;
  int ret = vpc_get_entry (v, block, &entry, error);
  if (ret < 0)
    return ret;
  /* A block that a differencing image has in part is completed where it is. */
  if (entry != VPC_UNUSED)
    place = entry * (uint64_t) VPC_SECTOR;
  else if ((ret = vpc_take_place (v, &place, &fresh, error)) < 0)
    return ret;
  *extent = (TnExtent){ .offset = (uint64_t) block * v->block_size,
                        .length = v->block_size,
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_NEW | (fresh ? TN_EXTENT_READS_ZERO : 0),
                        .source = v->file,
                        .source_offset = place + v->bitmap_bytes,
                        .cookie = { place, entry != VPC_UNUSED } };
  return 0;
}

static int
vpc_link (Vpc *v, TnExtent *extent, GError **error)
{
  const uint32_t block = (uint32_t) (extent->offset / v->block_size);
  const uint64_t place = extent->cookie[0];
  const bool partial = extent->cookie[1];
  tn_meta_after_data (partial ? v->bitmaps : v->bat.cache);
  const int ret = partial ? vpc_fill_bitmap (v, place, error)
                          : vpc_set_entry (v, block, (uint32_t) (place / VPC_SECTOR), error);
  if (ret < 0)
    return ret;
  vpc_note_full (v, block);
  extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  return 0;
}

int
vpc_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++)
    ret = vpc_link (tn_node_state (node), &extents[i], error);
  return ret;
}

void
vpc_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Vpc *v = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    const uint64_t place = extents[i].cookie[0];
    if (!(extents[i].flags & TN_EXTENT_NEW))
      continue;
    if (!extents[i].cookie[1])
      g_array_append_val (v->spare, place);
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}

/* There is no mark for blocks of zeroes: they keep their places, and the space goes back to the file system
 * where it can make a hole in the file.  What only the parent has must be written. */
int
vpc_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Vpc *v = tn_node_state (node);
  const uint64_t end = offset + length;
  if (v->footer.type == VPC_DIFFERENCING)
    return -ENOTSUP;
  for (uint64_t at = offset; at < end;) {
    TnExtent extent = { 0 };
    int ret = vpc_map (node, at, end - at, TN_MAP_WRITE, &extent, error);
    if (ret < 0)
      return ret;
    const uint64_t part = MIN (extent.offset + extent.length, end) - at;
    if (extent.kind == TN_EXTENT_DATA)
      ret = tn_node_write_zeroes (v->file, extent.source_offset + (at - extent.offset), part,
                                  flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0, error);
    if (ret < 0)
      return ret;
    at += part;
  }
  return 0;
}
