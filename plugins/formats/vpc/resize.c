/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the size of the disk.
 *
 * Of a fixed image the footer that stands at the end of the file counts.  A larger one gets a new footer
 * behind its new end first, and the place of the old one is cleared then; a smaller one gets it at the new
 * end, and the file is cut behind it.  Either way the sector at the smaller end shows a footer if the power
 * goes at that moment.
 *
 * Of a dynamic image the footer in front counts: it is written last.  A BAT that has no room for more entries
 * is copied behind the last block before the header names it.
 */
#include "vpc.h"

#define CHUNK 65536u

/* What vpc_footer_resized() has made is what the image is from now on. */
static int
vpc_take_footer (Vpc *v, const uint8_t bytes[VPC_SECTOR], GError **error)
{
  memcpy (v->footer_bytes, bytes, VPC_SECTOR);
  (void) vpc_footer_decode (bytes, &v->footer);
  return vpc_choose_size (v, NULL, error);
}

/* ---- Fixed images ---- */

static int
vpc_clear_range (Vpc *v, uint64_t start, uint64_t end, GError **error)
{
  return end > start ? tn_node_write_zeroes (v->file, start, end - start, 0, error) : 0;
}

/* The footer at @at, and nothing behind it. */
static int
vpc_end_file (Vpc *v, uint64_t at, const uint8_t footer[VPC_SECTOR], GError **error)
{
  int ret = tn_node_write (v->file, at, footer, VPC_SECTOR, error);
  if (ret == 0)
    ret = tn_node_flush (v->file, error);
  if (ret == 0 && tn_node_size (v->file) > at + VPC_SECTOR)
    ret = tn_node_resize (v->file, at + VPC_SECTOR, TN_PREALLOC_OFF, error);
  return ret;
}

static int
vpc_resize_fixed (Vpc *v, uint64_t size, const uint8_t footer[VPC_SECTOR], GError **error)
{
  const uint64_t file_size = tn_node_size (v->file), old_footer = (file_size - 1) / VPC_SECTOR * VPC_SECTOR;
  /* What was cut off before must not come back with a power cut. */
  int ret = tn_node_flush (v->file, error);
  if (ret == 0)
    ret = vpc_clear_range (v, v->size, MIN (size, old_footer), error);
  if (ret == 0 && (ret = vpc_end_file (v, size, footer, error)) < 0 && tn_node_size (v->file) > file_size)
    (void) tn_node_resize (v->file, file_size, TN_PREALLOC_OFF, NULL);
  if (ret < 0)
    return ret;
  /* From here on the new footer counts. */
  if (size > old_footer
      && (ret = vpc_clear_range (v, MAX (old_footer, v->size), MIN (size, file_size), error)) < 0)
    return ret;
  return vpc_take_footer (v, footer, error);
}

/* ---- The BAT of dynamic images ---- */

/* Entries from @first up to @end: no block. */
static int
vpc_forget_entries (Vpc *v, uint32_t first, uint32_t end, GError **error)
{
  int ret = 0;
  for (uint32_t block = first; ret == 0 && block < end; block++)
    ret = vpc_set_entry (v, block, VPC_UNUSED, error);
  return ret;
}

static uint64_t
vpc_bat_bytes (uint32_t entries)
{
  return (entries * UINT64_C (4) + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
}

/* The BAT, and entries without blocks up to @end. */
static int
vpc_copy_bat (Vpc *v, uint64_t place, uint64_t end, GError **error)
{
  const uint64_t old = v->entries * UINT64_C (4);
  g_autofree uint8_t *buffer = g_malloc (CHUNK);
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at < end - place; at += CHUNK) {
    const uint64_t part = MIN (CHUNK, end - place - at);
    memset (buffer, 0xff, part);
    if (at < old)
      ret = tn_node_read (v->file, v->bat.offset + at, buffer, MIN (part, old - at), error);
    if (ret == 0)
      ret = tn_node_write (v->file, place + at, buffer, part, error);
  }
  return ret;
}

/* A longer BAT behind the last block, and the footer behind that. */
static int
vpc_move_bat (Vpc *v, uint32_t entries, GError **error)
{
  int ret = vpc_flush_state (v, error);
  if (ret < 0 || (ret = vpc_scan (v, error)) < 0)
    return ret;
  const uint64_t place = (v->end + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR,
                 end = place + vpc_bat_bytes (entries), file_size = tn_node_size (v->file);
  v->scanned = false;
  tn_meta_forget (v->bat.cache, place, end - place);
  tn_meta_forget (v->bitmaps, place, end - place);
  if (file_size < end + VPC_SECTOR)
    ret = tn_node_resize (v->file, end + VPC_SECTOR, TN_PREALLOC_OFF, error);
  if (ret == 0)
    ret = tn_node_write (v->file, tn_node_size (v->file) - VPC_SECTOR, v->footer_bytes, VPC_SECTOR, error);
  if (ret == 0)
    ret = vpc_copy_bat (v, place, end, error);
  if (ret == 0)
    ret = tn_node_flush (v->file, error);
  return ret < 0 ? ret : vpc_dynamic_change (v, place, entries, error);
}

static int
vpc_lengthen_bat (Vpc *v, uint32_t entries, GError **error)
{
  const uint64_t room = vpc_bat_bytes (v->entries) / 4;
  if (entries <= v->entries)
    return 0;
  if (entries > room)
    return vpc_move_bat (v, entries, error);
  int ret = vpc_forget_entries (v, v->entries, entries, error);
  if (ret == 0)
    ret = vpc_flush_state (v, error);
  return ret < 0 ? ret : vpc_dynamic_change (v, v->bat.offset, entries, error);
}

/* ---- Dynamic images ---- */

/* Bytes between the old end and the end of its block may hold anything: they must read as zeroes. */
static int
vpc_clear_tail (Vpc *v, GError **error)
{
  const uint64_t rest = v->size % v->block_size;
  TnExtent extent = { 0 };
  const int ret = rest ? vpc_map (v->node, v->size - 1, 1, TN_MAP_WRITE, &extent, error) : 0;
  if (ret < 0 || extent.kind != TN_EXTENT_DATA)
    return ret;
  return tn_node_write_zeroes (v->file, extent.source_offset + (v->size - extent.offset),
                               v->block_size - rest, 0, error);
}

/* Both footers; that in front last. */
static int
vpc_write_footers (Vpc *v, const uint8_t footer[VPC_SECTOR], GError **error)
{
  const uint64_t at = (tn_node_size (v->file) - 1) / VPC_SECTOR * VPC_SECTOR;
  int ret = tn_node_write (v->file, at, footer, VPC_SECTOR, error);
  if (ret == 0)
    ret = vpc_flush_state (v, error);
  return ret < 0 ? ret : vpc_change_sector (v, 0, footer, error);
}

static int
vpc_grow_dynamic (Vpc *v, uint32_t blocks, const uint8_t footer[VPC_SECTOR], GError **error)
{
  int ret = vpc_clear_tail (v, error);
  if (ret == 0)
    ret = vpc_forget_entries (v, v->blocks, MIN (blocks, v->entries), error);
  if (ret == 0)
    ret = vpc_lengthen_bat (v, blocks, error);
  return ret < 0 ? ret : vpc_write_footers (v, footer, error);
}

/* Blocks that the BAT has forgotten: what stands at the end of the file goes, of others the host gets back
 * what it can. */
static void
vpc_release_blocks (Vpc *v, const GArray *places)
{
  if (vpc_scan (v, NULL) < 0)
    return;
  for (guint i = 0; i < places->len; i++) {
    const uint64_t place = g_array_index (places, uint64_t, i);
    if (place < v->end)
      (void) tn_node_discard (v->file, place + v->bitmap_bytes, v->block_size, NULL);
  }
  const uint64_t end = (v->end + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
  if (tn_node_size (v->file) > end + VPC_SECTOR)
    (void) vpc_end_file (v, end, v->footer_bytes, NULL);
  v->scanned = false;
}

static int
vpc_shrink_dynamic (Vpc *v, uint32_t blocks, const uint8_t footer[VPC_SECTOR], GArray *places, GError **error)
{
  int ret = 0;
  for (uint32_t block = blocks; ret == 0 && block < v->blocks; block++) {
    uint32_t entry = VPC_UNUSED;
    if ((ret = vpc_get_entry (v, block, &entry, error)) < 0 || entry == VPC_UNUSED)
      continue;
    const uint64_t place = entry * (uint64_t) VPC_SECTOR;
    if (!vpc_entry_fault (v, entry))
      g_array_append_val (places, place);
    ret = vpc_set_entry (v, block, VPC_UNUSED, error);
  }
  if (ret == 0)
    ret = vpc_flush_state (v, error);
  tn_node_bump_generation (v->node);
  v->scanned = false;
  return ret < 0 ? ret : vpc_write_footers (v, footer, error);
}

static int
vpc_resize_dynamic (Vpc *v, uint64_t size, const uint8_t footer[VPC_SECTOR], GError **error)
{
  const uint32_t blocks = (uint32_t) ((size + v->block_size - 1) / v->block_size);
  g_autoptr (GArray) places = g_array_new (false, false, sizeof (uint64_t));
  int ret = size > v->size ? vpc_grow_dynamic (v, blocks, footer, error)
                           : vpc_shrink_dynamic (v, blocks, footer, places, error);
  if (ret < 0 || (ret = vpc_take_footer (v, footer, error)) < 0)
    return ret;
  v->blocks = blocks;
  g_hash_table_remove_all (v->full);
  if (places->len)
    vpc_release_blocks (v, places);
  return 0;
}

int
vpc_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Vpc *v = tn_node_state (node);
  uint8_t footer[VPC_SECTOR];
  if (v->footer.type == VPC_DIFFERENCING)
    return vpc_fail (v, error, ENOTSUP, "one image of a chain cannot change its size alone");
  if (prealloc != TN_PREALLOC_OFF)
    return vpc_fail (v, error, ENOTSUP, "space cannot be set aside for what a VHD grows by");
  if (size % VPC_SECTOR || size == 0 || size / VPC_SECTOR > VPC_MAX_SECTORS)
    return vpc_fail (v, error, EINVAL,
                     "its size must be in whole sectors of %u bytes and up to 2040 GiB, which %" PRIu64
                     " is not",
                     VPC_SECTOR, size);
  if (size == v->size)
    return 0;
  vpc_footer_resized (v, size, footer);
  return v->footer.type == VPC_FIXED ? vpc_resize_fixed (v, size, footer, error)
                                     : vpc_resize_dynamic (v, size, footer, error);
}
