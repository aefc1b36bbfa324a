/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where sectors are: the path of every request. */
#include "vpc.h"

uint64_t
vpc_block_end (const Vpc *v, uint32_t entry)
{
  return entry * (uint64_t) VPC_SECTOR + v->bitmap_bytes + v->block_size;
}

static bool
vpc_meets (uint64_t start, uint64_t end, uint64_t other, uint64_t length)
{
  return start < other + length && other < end;
}

const char *
vpc_entry_fault (const Vpc *v, uint32_t entry)
{
  const uint64_t start = entry * (uint64_t) VPC_SECTOR, end = vpc_block_end (v, entry);
  if (entry == VPC_UNUSED)
    return NULL;
  if (end > tn_node_size (v->file))
    return "points beyond the end of the file";
  if (start == 0 || vpc_meets (start, end, v->footer.data_offset, VPC_HEADER_SIZE)
      || vpc_meets (start, end, v->bat.offset, v->entries * UINT64_C (4)))
    return "points to the image's own tables";
  return NULL;
}

static int
vpc_bad_entry (const Vpc *v, uint32_t block, uint32_t entry, uint32_t flags, GError **error)
{
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  return vpc_fail (v, error, EIO, "entry %u (%u) of its BAT %s: run check", block, entry,
                   vpc_entry_fault (v, entry));
}

static int
vpc_map_fixed (const Vpc *v, TnExtent *extent)
{
  *extent = (TnExtent){ .length = v->size,
                        .kind = TN_EXTENT_DATA,
                        .flags = v->writable ? TN_EXTENT_WRITABLE : 0,
                        .source = v->file };
  return 0;
}

static void
vpc_data_extent (const Vpc *v, uint64_t offset, uint64_t length, uint64_t source, TnExtent *extent)
{
  *extent = (TnExtent){ .offset = offset,
                        .length = MIN (length, v->size - offset),
                        .kind = TN_EXTENT_DATA,
                        .flags = v->writable ? TN_EXTENT_WRITABLE : 0,
                        .source = v->file,
                        .source_offset = source };
}

/* Whether sector @at of the block is in this image, and how many from there on are the same. */
static int
vpc_bitmap_run (Vpc *v, uint64_t place, uint32_t at, bool nowait, bool *set, uint32_t *count, GError **error)
{
  const BlockTable bitmap = { v->bitmaps, place, VPC_SECTOR, 1 };
  const uint32_t sectors = v->block_size / VPC_SECTOR;
  BlockCursor cursor;
  int ret = block_cursor_begin (&cursor, &bitmap, at / 8, nowait, error);
  if (ret < 0)
    return ret;
  *set = *(const uint8_t *) block_cursor_entry (&cursor) << (at % 8) & 0x80;
  uint32_t end = at + 1;
  while (end < sectors && (end % 8 || block_cursor_next (&cursor))) {
    const uint8_t byte = *(const uint8_t *) block_cursor_entry (&cursor);
    if (!(byte << (end % 8) & 0x80) == *set)
      break;
    end++;
  }
  block_cursor_end (&cursor);
  *count = end - at;
  return 0;
}

/* A block of a differencing image. */
static int
vpc_map_sectors (Vpc *v, uint32_t block, uint32_t entry, uint64_t offset, uint32_t flags, TnExtent *extent,
                 GError **error)
{
  const uint64_t place = entry * (uint64_t) VPC_SECTOR;
  const uint32_t at = (uint32_t) (offset % v->block_size / VPC_SECTOR);
  const uint64_t start = (uint64_t) block * v->block_size + at * VPC_SECTOR;
  bool set = false;
  uint32_t count = 0;
  int ret = vpc_bitmap_run (v, place, at, flags & TN_MAP_NOWAIT, &set, &count, error);
  if (ret < 0)
    return ret;
  vpc_data_extent (v, start, count * (uint64_t) VPC_SECTOR, place + v->bitmap_bytes + at * VPC_SECTOR,
                   extent);
  if (!set)
    *extent = (TnExtent){ .offset = start, .length = extent->length, .kind = TN_EXTENT_UNALLOCATED };
  return 0;
}

static int
vpc_map_block (Vpc *v, uint32_t block, uint32_t entry, uint64_t offset, uint32_t flags, TnExtent *extent,
               GError **error)
{
  const uint64_t place = entry * (uint64_t) VPC_SECTOR;
  if (vpc_entry_fault (v, entry))
    return vpc_bad_entry (v, block, entry, flags, error);
  const bool full = vpc_is_full (v, block);
  if (v->footer.type == VPC_DIFFERENCING && !full)
    return vpc_map_sectors (v, block, entry, offset, flags, extent, error);
  if ((flags & TN_MAP_WRITE) && !full) {
    const int ret = flags & TN_MAP_NOWAIT ? -EAGAIN : vpc_fill_bitmap (v, place, error);
    if (ret < 0)
      return ret;
    vpc_note_full (v, block);
  }
  vpc_data_extent (v, (uint64_t) block * v->block_size, v->block_size, place + v->bitmap_bytes, extent);
  return 0;
}

/* Blocks that are not in this image, from the cursor's on. */
static void
vpc_map_hole (const Vpc *v, BlockCursor *cursor, uint32_t block, uint64_t end, TnExtent *extent)
{
  const uint64_t start = (uint64_t) block * v->block_size;
  uint64_t at = start + v->block_size;
  while (at < end && block_cursor_next (cursor) && tn_load_be32 (block_cursor_entry (cursor)) == VPC_UNUSED)
    at += v->block_size;
  *extent = (TnExtent){ .offset = start, .length = MIN (at, v->size) - start, .kind = TN_EXTENT_UNALLOCATED };
}

int
vpc_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vpc *v = tn_node_state (node);
  if (offset >= v->size)
    return flags & TN_MAP_NOWAIT ? -EAGAIN
                                 : vpc_fail (v, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  if (v->footer.type == VPC_FIXED)
    return vpc_map_fixed (v, extent);
  const uint32_t block = (uint32_t) (offset / v->block_size);
  BlockCursor cursor;
  int ret = v->footer.type == VPC_DIFFERENCING ? vpc_check_parent (v, flags, error) : 0;
  if (ret == 0)
    ret = block_cursor_begin (&cursor, &v->bat, block, flags & TN_MAP_NOWAIT, error);
  if (ret < 0)
    return ret;
  const uint32_t entry = tn_load_be32 (block_cursor_entry (&cursor));
  if (entry == VPC_UNUSED)
    vpc_map_hole (v, &cursor, block, offset + CLAMP (length, 1, v->size - offset), extent);
  block_cursor_end (&cursor);
  return entry == VPC_UNUSED ? 0 : vpc_map_block (v, block, entry, offset, flags, extent, error);
}
