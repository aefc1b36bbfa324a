/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where blocks are: the path of every request. */
#include "vhdx.h"

uint64_t
vhdx_bat_index (const Vhdx *v, uint64_t block)
{
  return block + block / v->chunk_ratio;
}

static bool
vhdx_meets (const VhdxRange *range, uint64_t offset, uint64_t length)
{
  return offset < range->offset + range->length && range->offset < offset + length;
}

const char *
vhdx_entry_fault (const Vhdx *v, uint64_t block, uint64_t entry)
{
  const VhdxRange log = { v->header.log_offset, v->header.log_length };
  const uint64_t offset = entry & VHDX_OFFSET_MASK, state = entry & 7, file_size = vhdx_file_size (v);
  if (state <= VHDX_UNMAPPED)
    return NULL;
  if (state != VHDX_PRESENT && (state != VHDX_PARTIAL || !v->has_parent))
    return "has a state that does not exist";
  /* Of the last block no more need be there than the disk has. */
  const uint64_t length = MIN (v->block_size, v->size - block * v->block_size);
  if (offset > file_size || length > file_size - offset)
    return "points beyond the end of the file";
  if (offset < VHDX_MIB || vhdx_meets (&v->bat_region, offset, length)
      || vhdx_meets (&v->metadata_region, offset, length) || vhdx_meets (&log, offset, length))
    return "points to the image's own tables";
  return NULL;
}

static int
vhdx_bad_entry (const Vhdx *v, uint64_t block, uint64_t entry, uint32_t flags, GError **error)
{
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  return vhdx_fail (v, error, EIO, "the BAT's entry for block %" PRIu64 " (0x%" PRIx64 ") %s: run check",
                    block, entry, vhdx_entry_fault (v, block, entry));
}

static uint32_t
vhdx_kind (const Vhdx *v, uint64_t entry)
{
  switch (entry & 7) {
  case VHDX_PRESENT:
  case VHDX_PARTIAL:
    return TN_EXTENT_DATA;
  case VHDX_NOT_PRESENT:
    return v->has_parent ? TN_EXTENT_UNALLOCATED : TN_EXTENT_ZERO;
  default:
    return TN_EXTENT_ZERO;
  }
}

bool
vhdx_kind_is_data (uint64_t entry)
{
  return (entry & 7) == VHDX_PRESENT || (entry & 7) == VHDX_PARTIAL;
}

bool
vhdx_next_entry (const Vhdx *v, BlockCursor *cursor, uint64_t block)
{
  return block_cursor_next (cursor) && (block % v->chunk_ratio || block_cursor_next (cursor));
}

/* How many blocks from the cursor's on are of the same kind, and for data one behind the other. */
static uint64_t
vhdx_run (const Vhdx *v, BlockCursor *cursor, uint64_t block, uint64_t first, uint64_t most)
{
  const uint32_t kind = vhdx_kind (v, first);
  uint64_t n = 1;
  while (n < most && vhdx_next_entry (v, cursor, block + n)) {
    const uint64_t entry = tn_load_le64 (block_cursor_entry (cursor));
    if (vhdx_kind (v, entry) != kind || vhdx_entry_fault (v, block + n, entry))
      break;
    if (kind == TN_EXTENT_DATA
        && ((entry & 7) != VHDX_PRESENT
            || (entry & VHDX_OFFSET_MASK) != (first & VHDX_OFFSET_MASK) + n * v->block_size))
      break;
    n++;
  }
  return n;
}

static int
vhdx_data_extent (const Vhdx *v, uint64_t offset, uint64_t length, uint64_t place, uint32_t flags,
                  TnExtent *extent, GError **error)
{
  *extent = (TnExtent){ .offset = offset,
                        .length = MIN (length, v->size - offset),
                        .kind = TN_EXTENT_DATA,
                        .flags = v->writable ? TN_EXTENT_WRITABLE : 0,
                        .source = v->file,
                        .source_offset = place };
  if (vhdx_overlay_is_empty (&v->overlay) || !vhdx_overlay_meets (&v->overlay, place, extent->length))
    return 0;
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  return vhdx_fail (v, error, ENOTSUP,
                    "its log changes data at %" PRIu64 ": replay it into the file with check -r all", place);
}

/* ---- Blocks that a differencing image holds in part ---- */

static int
vhdx_find_bitmap (Vhdx *v, uint64_t block, bool nowait, uint64_t *place, GError **error)
{
  const uint64_t index = (block / v->chunk_ratio + 1) * (v->chunk_ratio + 1) - 1;
  BlockCursor cursor;
  int ret = block_cursor_begin (&cursor, &v->bat, index, nowait, error);
  if (ret < 0)
    return ret;
  const uint64_t entry = tn_load_le64 (block_cursor_entry (&cursor)), file_size = vhdx_file_size (v);
  block_cursor_end (&cursor);
  *place = entry & VHDX_OFFSET_MASK;
  if ((entry & 7) == VHDX_PRESENT && *place >= VHDX_MIB && *place < file_size
      && VHDX_MIB <= file_size - *place)
    return 0;
  return nowait ? -EAGAIN
                : vhdx_fail (v, error, EIO,
                             "the bitmap of block %" PRIu64 " (0x%" PRIx64 ") is not in the file: run check",
                             block, entry);
}

/* Whether sector @at of the bitmap is set, and how many of @most from there on are the same. */
static int
vhdx_bitmap_run (Vhdx *v, uint64_t bitmap, uint64_t at, uint64_t most, bool nowait, bool *set,
                 uint64_t *count, GError **error)
{
  const BlockTable table = { v->bitmaps, bitmap, VHDX_PAGE, 1 };
  BlockCursor cursor;
  int ret = block_cursor_begin (&cursor, &table, at / 8, nowait, error);
  if (ret < 0)
    return ret;
  *set = *(const uint8_t *) block_cursor_entry (&cursor) >> (at % 8) & 1;
  uint64_t end = at + 1;
  while (end < at + most && (end % 8 || block_cursor_next (&cursor))) {
    const uint8_t byte = *(const uint8_t *) block_cursor_entry (&cursor);
    if ((byte >> (end % 8) & 1) != *set)
      break;
    end++;
  }
  block_cursor_end (&cursor);
  *count = end - at;
  return 0;
}

static int
vhdx_map_sectors (Vhdx *v, uint64_t block, uint64_t entry, uint64_t offset, uint32_t flags, TnExtent *extent,
                  GError **error)
{
  const bool nowait = flags & TN_MAP_NOWAIT;
  const uint64_t per_block = v->block_size / v->sector_size, at = offset % v->block_size / v->sector_size;
  const uint64_t start = block * v->block_size + at * v->sector_size;
  uint64_t bitmap, count = 0;
  bool set = false;
  int ret = vhdx_find_bitmap (v, block, nowait, &bitmap, error);
  if (ret == 0)
    ret = vhdx_bitmap_run (v, bitmap, block % v->chunk_ratio * per_block + at, per_block - at, nowait, &set,
                           &count, error);
  if (ret < 0)
    return ret;
  const uint64_t length = MIN (count * v->sector_size, v->size - start);
  if (set)
    return vhdx_data_extent (v, start, length, (entry & VHDX_OFFSET_MASK) + at * v->sector_size, flags,
                             extent, error);
  *extent = (TnExtent){ .offset = start, .length = length, .kind = TN_EXTENT_UNALLOCATED };
  return 0;
}

/* ---- The map ---- */

static int
vhdx_map_blocks (Vhdx *v, BlockCursor *cursor, uint64_t block, uint64_t entry, uint64_t end, uint32_t flags,
                 TnExtent *extent, GError **error)
{
  const uint64_t start = block * v->block_size;
  const uint32_t kind = vhdx_kind (v, entry);
  const uint64_t n = vhdx_run (v, cursor, block, entry, (end + v->block_size - 1) / v->block_size - block);
  if (kind == TN_EXTENT_DATA)
    return vhdx_data_extent (v, start, n * v->block_size, entry & VHDX_OFFSET_MASK, flags, extent, error);
  *extent = (TnExtent){ .offset = start, .length = MIN (n * v->block_size, v->size - start), .kind = kind };
  return 0;
}

int
vhdx_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vhdx *v = tn_node_state (node);
  const uint64_t block = offset / v->block_size;
  BlockCursor cursor;
  int ret;
  if (offset >= v->size)
    return flags & TN_MAP_NOWAIT ? -EAGAIN
                                 : vhdx_fail (v, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  if ((flags & TN_MAP_WRITE) && !v->touched) {
    ret = flags & TN_MAP_NOWAIT ? -EAGAIN : vhdx_touch (v, error);
    if (ret < 0)
      return ret;
  }
  ret = v->has_parent ? vhdx_check_parent (v, flags, error) : 0;
  if (ret == 0)
    ret = block_cursor_begin (&cursor, &v->bat, vhdx_bat_index (v, block), flags & TN_MAP_NOWAIT, error);
  if (ret < 0)
    return ret;
  const uint64_t entry = tn_load_le64 (block_cursor_entry (&cursor));
  const bool partial = (entry & 7) == VHDX_PARTIAL;
  if (vhdx_entry_fault (v, block, entry))
    ret = vhdx_bad_entry (v, block, entry, flags, error);
  else if (!partial)
    ret = vhdx_map_blocks (v, &cursor, block, entry, offset + CLAMP (length, 1, v->size - offset), flags,
                           extent, error);
  block_cursor_end (&cursor);
  return ret < 0 || !partial ? ret : vhdx_map_sectors (v, block, entry, offset, flags, extent, error);
}
