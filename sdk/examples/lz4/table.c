/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the blocks are: from the seek table, or by going from one to the next. */
#include "lz4.h"

#define SKIPPABLE_MAGIC 0x184d2a54u /* of sixteen that readers skip */
#define SKIPPABLE_HEADER 8u
#define FOOTER 32u /* offset of the table, number of blocks, version, 4 zero bytes, magic */
#define FOOTER_MAGIC "TenonLz4"
#define TABLE_VERSION 1u

#define SLICE 4096u
#define BUDGET (4u << 20)
#define WINDOW 4096u      /* read at a time when looking for blocks */
#define PIECE (64u << 10) /* bytes of the table written at a time */

/* ---- Finding ---- */

/* Whether there is a seek table, and then where.  What does not fit the frame is none of ours. */
static int
find_table (Lz4 *z, bool *found, GError **error)
{
  uint8_t footer[FOOTER];
  *found = false;
  if (z->file_size < LZ4_FRAME_HEADER + LZ4_LENGTH_FIELD + SKIPPABLE_HEADER + FOOTER)
    return 0;
  const int ret = tn_node_read (z->file, z->file_size - FOOTER, footer, sizeof footer, error);
  if (ret < 0 || memcmp (footer + 24, FOOTER_MAGIC, 8) != 0 || tn_load_le32 (footer + 16) != TABLE_VERSION)
    return ret;
  const uint64_t offset = tn_load_le64 (footer), space = z->file_size - FOOTER;
  *found = tn_load_le64 (footer + 8) == z->blocks && offset % 8 == 0 && offset < space
           && (space - offset) / 8 == z->blocks + 1 && (space - offset) % 8 == 0;
  z->table_offset = offset;
  return 0;
}

typedef struct Scan {
  Lz4 *z;
  uint64_t at; /* of the window */
  size_t length;
  uint8_t bytes[WINDOW];
} Scan;

/* The length field at @offset; 0, which ends a frame, where the file ends. */
static int
read_field (Scan *scan, uint64_t offset, uint32_t *field, GError **error)
{
  const bool inside = offset >= scan->at && offset + LZ4_LENGTH_FIELD <= scan->at + scan->length;
  *field = 0;
  if (offset > scan->z->file_size || scan->z->file_size - offset < LZ4_LENGTH_FIELD)
    return 0;
  if (!inside) {
    scan->at = offset;
    scan->length = MIN (WINDOW, scan->z->file_size - offset);
    const int ret = tn_node_read (scan->z->file, offset, scan->bytes, scan->length, error);
    if (ret < 0)
      return ret;
  }
  *field = tn_load_le32 (scan->bytes + (offset - scan->at));
  return 0;
}

/* Blocks from z->present on, as far as they are whole. */
static int
scan_blocks (Lz4 *z, Scan *scan, GError **error)
{
  while (z->present < z->blocks) {
    uint32_t field;
    const int ret = read_field (scan, z->end, &field, error);
    if (ret < 0)
      return ret;
    const uint64_t length = field & ~LZ4_PLAIN, next = z->end + LZ4_LENGTH_FIELD + length + z->block_checksum;
    if (length == 0 || next > z->file_size)
      return 0;
    if (length > z->block_size)
      return lz4_fail (z, error, EINVAL, "block %" PRIu64 " at offset %" PRIu64 " has more bytes than it can",
                       z->present, z->end);
    z->entries[z->present++] = z->end | (field & LZ4_PLAIN ? LZ4_TABLE_PLAIN : 0);
    z->end = next;
    z->entries[z->present] = z->end;
  }
  return 0;
}

static int
find_blocks (Lz4 *z, GError **error)
{
  if (z->blocks > LZ4_MAX_KEPT)
    return lz4_fail (z, error, EFBIG, "%" PRIu64 " blocks without a seek table are too many", z->blocks);
  z->entries = g_try_new (uint64_t, z->blocks + 1);
  if (!z->entries)
    return lz4_fail (z, error, ENOMEM, "no memory for %" PRIu64 " blocks", z->blocks);
  z->end = z->entries[0] = z->data_offset;
  g_autofree Scan *scan = g_new0 (Scan, 1);
  scan->z = z;
  const int ret = scan_blocks (z, scan, error);
  z->complete = z->present == z->blocks && z->file_size - z->end >= LZ4_LENGTH_FIELD;
  return ret;
}

int
lz4_table_open (Lz4 *z, GError **error)
{
  bool found;
  const int ret = find_table (z, &found, error);
  if (ret < 0)
    return ret;
  z->complete = found;
  if (!found)
    return find_blocks (z, error);
  z->present = z->blocks;
  z->table = tn_meta_cache_new (z->file, "seek table", SLICE, BUDGET);
  return 0;
}

/* ---- One entry ---- */

static int
table_entry (const Lz4 *z, uint64_t number, bool nowait, uint64_t *entry, GError **error)
{
  if (z->entries) {
    *entry = z->entries[number];
    return 0;
  }
  const uint64_t at = z->table_offset + number * 8, skip = at % SLICE;
  const uint8_t *bytes = nowait ? tn_meta_peek (z->table, at - skip) : NULL;
  if (nowait) {
    *entry = bytes ? tn_load_le64 (bytes + skip) : 0;
    return bytes ? 0 : -EAGAIN;
  }
  TnMetaSlice *slice;
  const int ret = tn_meta_get (z->table, at - skip, &slice, error);
  if (ret < 0)
    return ret;
  *entry = tn_load_le64 ((const uint8_t *) tn_meta_data (slice) + skip);
  tn_meta_put (slice);
  return 0;
}

int
lz4_table_block (const Lz4 *z, uint64_t number, bool nowait, Lz4Block *block, GError **error)
{
  uint64_t here, next;
  int ret = table_entry (z, number, nowait, &here, error);
  if (ret == 0)
    ret = table_entry (z, number + 1, nowait, &next, error);
  if (ret < 0)
    return ret;
  block->plain = here & LZ4_TABLE_PLAIN;
  here &= ~LZ4_TABLE_PLAIN;
  next &= ~LZ4_TABLE_PLAIN;
  const uint64_t around = LZ4_LENGTH_FIELD + z->block_checksum;
  if (here < z->data_offset || next < here || next - here <= around || next - here - around > z->block_size
      || ((z->table || !z->writable) && next > z->file_size))
    return lz4_fail (z, error, EIO, "block %" PRIu64 " has an impossible place (offset %" PRIu64 ")", number,
                     here);
  block->offset = here + LZ4_LENGTH_FIELD;
  block->length = next - here - around;
  if (block->plain && block->length != lz4_block_bytes (z, number))
    return lz4_fail (z, error, EIO, "plain block %" PRIu64 " has %" PRIu64 " bytes", number, block->length);
  return 0;
}

/* ---- Writing ---- */

static int
write_entries (const Lz4 *z, uint64_t offset, GError **error)
{
  const uint64_t most = PIECE / 8;
  g_autofree uint64_t *piece = g_new (uint64_t, most);
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at <= z->blocks; at += most) {
    const uint64_t count = MIN (most, z->blocks + 1 - at);
    for (uint64_t i = 0; i < count; i++)
      tn_store_le64 (&piece[i], z->entries[at + i]);
    ret = tn_node_write (z->file, offset + at * 8, piece, count * 8, error);
  }
  return ret;
}

int
lz4_table_write (Lz4 *z, GError **error)
{
  uint8_t head[LZ4_LENGTH_FIELD + SKIPPABLE_HEADER + 8] = { 0 }, footer[FOOTER] = { 0 };
  const uint64_t begin = z->end + LZ4_LENGTH_FIELD + SKIPPABLE_HEADER, offset = (begin + 7) / 8 * 8,
                 after = offset + (z->blocks + 1) * 8;
  tn_store_le32 (head + LZ4_LENGTH_FIELD, SKIPPABLE_MAGIC);
  tn_store_le32 (head + LZ4_LENGTH_FIELD + 4, (uint32_t) (after + FOOTER - begin));
  tn_store_le64 (footer, offset);
  tn_store_le64 (footer + 8, z->blocks);
  tn_store_le32 (footer + 16, TABLE_VERSION);
  memcpy (footer + 24, FOOTER_MAGIC, 8);
  int ret = tn_node_write (z->file, z->end, head, offset - z->end, error);
  if (ret == 0)
    ret = write_entries (z, offset, error);
  return ret < 0 ? ret : tn_node_write (z->file, after, footer, sizeof footer, error);
}
