/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of chunks. */
#include "dmg.h"

/* ---- Entries ---- */

static bool
is_compressed (uint32_t type)
{
  return type >= DMG_ADC && type <= DMG_LZMA;
}

static int
check_place (const Dmg *d, const DmgChunk *chunk, uint64_t length, GError **error)
{
  if (chunk->offset <= d->file_size && length <= d->file_size - chunk->offset)
    return 0;
  return dmg_fail (d, error, EINVAL,
                   "the chunk of sector %" PRIu64 " stands at offset %" PRIu64 ", behind the end of the file",
                   chunk->sector, chunk->offset);
}

static int
check_chunk (const Dmg *d, DmgChunk *chunk, uint64_t length, GError **error)
{
  if (chunk->sector > DMG_MAX_SECTORS || chunk->count > DMG_MAX_SECTORS - chunk->sector)
    return dmg_fail (d, error, EINVAL, "a chunk of %" PRIu64 " sectors at %" PRIu64 " is impossible",
                     chunk->count, chunk->sector);
  if (chunk->type == DMG_ZERO || chunk->type == DMG_IGNORE)
    return 0;
  if (chunk->type == DMG_RAW && length / DMG_SECTOR < chunk->count)
    return dmg_fail (d, error, EINVAL, "the raw chunk of sector %" PRIu64 " has only %" PRIu64 " bytes",
                     chunk->sector, length);
  if (chunk->type == DMG_RAW)
    return check_place (d, chunk, chunk->count * DMG_SECTOR, error);
  if (!is_compressed (chunk->type))
    return dmg_fail (d, error, ENOTSUP, "chunks of type 0x%08x are not supported", chunk->type);
  if (chunk->count > DMG_MAX_PACKED / DMG_SECTOR || length > DMG_MAX_PACKED || length == 0)
    return dmg_fail (d, error, EINVAL,
                     "the compressed chunk of sector %" PRIu64 " (%" PRIu64 " sectors in %" PRIu64
                     " bytes) is none of up to 16 MiB",
                     chunk->sector, chunk->count, length);
  chunk->packed_length = (uint32_t) length;
  return check_place (d, chunk, length, error);
}

static uint64_t
add_capped (uint64_t a, uint64_t b)
{
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static int
take_entry (Dmg *d, const DmgTable *table, GError **error)
{
  const uint8_t *bytes = table->bytes;
  DmgChunk chunk = { .type = tn_load_be32 (bytes),
                     .sector = add_capped (table->first_sector, tn_load_be64 (bytes + 8)),
                     .count = tn_load_be64 (bytes + 16),
                     .offset = add_capped (table->data_offset, tn_load_be64 (bytes + 24)) };
  if (chunk.type == DMG_END || chunk.type == DMG_COMMENT || chunk.count == 0)
    return 0;
  const int ret = check_chunk (d, &chunk, tn_load_be64 (bytes + 32), error);
  if (ret < 0)
    return ret;
  if (d->chunks->len >= DMG_MAX_CHUNKS)
    return dmg_fail (d, error, EFBIG, "it has more than %u chunks", DMG_MAX_CHUNKS);
  g_array_append_val (d->chunks, chunk);
  return 0;
}

/* ---- Tables ---- */

static int
take_header (Dmg *d, DmgTable *table, GError **error)
{
  const uint8_t *bytes = table->bytes;
  if (memcmp (bytes, "mish", 4) != 0)
    return dmg_fail (d, error, EINVAL, "a table of chunks does not begin with 'mish'");
  table->first_sector = tn_load_be64 (bytes + 8);
  table->data_offset = add_capped (d->data_offset, tn_load_be64 (bytes + 24));
  table->left = tn_load_be32 (bytes + 200);
  table->in_entries = true;
  return 0;
}

int
dmg_table_feed (Dmg *d, DmgTable *table, const uint8_t *bytes, size_t length, GError **error)
{
  while (length && !(table->in_entries && table->left == 0)) {
    const unsigned wanted = table->in_entries ? DMG_TABLE_ENTRY : DMG_TABLE_HEADER;
    const size_t part = MIN (length, wanted - table->have);
    memcpy (table->bytes + table->have, bytes, part);
    table->have += (unsigned) part;
    bytes += part;
    length -= part;
    if (table->have < wanted)
      return 0;
    table->have = 0;
    if (table->in_entries)
      table->left--;
    const int ret = table->in_entries ? take_entry (d, table, error) : take_header (d, table, error);
    if (ret < 0)
      return ret;
  }
  return 0;
}

int
dmg_table_end (Dmg *d, const DmgTable *table, GError **error)
{
  if (table->in_entries && table->left == 0)
    return 0;
  return dmg_fail (d, error, EINVAL, "a table of chunks ends too early");
}

/* ---- All of them ---- */

static int
compare_chunks (const void *a, const void *b)
{
  const DmgChunk *left = a, *right = b;
  return left->sector < right->sector ? -1 : left->sector > right->sector;
}

int
dmg_chunks_settle (Dmg *d, uint64_t sectors, GError **error)
{
  uint64_t end = 0;
  g_array_sort (d->chunks, compare_chunks);
  for (guint i = 0; i < d->chunks->len; i++) {
    const DmgChunk *chunk = &g_array_index (d->chunks, DmgChunk, i);
    if (chunk->sector < end)
      return dmg_fail (d, error, EINVAL, "two chunks overlap at sector %" PRIu64, chunk->sector);
    end = chunk->sector + chunk->count;
  }
  if (sectors > DMG_MAX_SECTORS)
    return dmg_fail (d, error, EINVAL, "a disk of %" PRIu64 " sectors is impossible", sectors);
  d->sectors = MAX (sectors, end);
  return 0;
}
