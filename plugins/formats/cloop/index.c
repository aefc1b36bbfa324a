/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The index of blocks in all its historic forms. */
#include "cloop.h"

#include "../common/table.h"

#define V3_MARK UINT32_MAX           /* for a number of blocks: the index stands at the end */
#define V3_MAX_BLOCKS (4u << 20)     /* their offsets must be added up and kept */
#define V3_CHUNK 16384u              /* lengths read at a time */
#define V4_OFFSET ((1ull << 60) - 1) /* above it: the coding */
#define INDEX_BUDGET (4u << 20)

static const unsigned entry_size[] = { 4, 8, 8, 16, 4 };

const char *
cloop_index_name (const Cloop *c)
{
  static const char *const names[] = { "V0.68", "V1.0", "V2.0", "accelerated V1.0", "V3.0" };
  return c->version >= 4 ? "V4.0" : names[c->index];
}

/* ---- Finding it ---- */

static uint64_t
entries (const Cloop *c)
{
  const bool ends = c->index != CLOOP_PAIRS && c->index != CLOOP_LENGTHS;
  return (uint64_t) c->blocks + (ends ? 1 : 0);
}

/* Readers have always told the forms apart by what the first entries look like. */
static int
guess_index (Cloop *c, GError **error)
{
  uint8_t first[12];
  if (c->version >= 4) {
    c->index = CLOOP_OFFSETS;
    return 0;
  }
  const int ret = tn_node_read (c->file, c->index_offset, first, sizeof first, error);
  if (ret < 0)
    return ret;
  if (tn_load_be32 (first) == 0)
    c->index = tn_load_be32 (first + 8) ? CLOOP_PAIRS : CLOOP_OFFSETS;
  else if (tn_load_be32 (first + 4) == 0)
    c->index = CLOOP_OFFSETS_LE;
  else if (tn_load_be32 (first) == CLOOP_HEADER + 4 * ((uint64_t) c->blocks + 1))
    c->index = CLOOP_OFFSETS32;
  else
    return cloop_fail (c, error, EINVAL, "its index is of no known form");
  return 0;
}

/* The writer did not know how many blocks would come: a tail of eight bytes says. */
static int
read_v3_tail (Cloop *c, GError **error)
{
  uint8_t tail[8];
  const int ret = tn_node_read (c->file, c->file_size - sizeof tail, tail, sizeof tail, error);
  if (ret < 0)
    return ret;
  const uint32_t entry = tn_load_be32 (tail);
  c->blocks = tn_load_be32 (tail + 4);
  if (entry != entry_size[CLOOP_LENGTHS] && entry != entry_size[CLOOP_PAIRS])
    return cloop_fail (c, error, EINVAL, "index entries of %u bytes are unknown", entry);
  c->index = entry == entry_size[CLOOP_LENGTHS] ? CLOOP_LENGTHS : CLOOP_PAIRS;
  const uint64_t length = (uint64_t) c->blocks * entry;
  if (length > c->file_size - sizeof tail - CLOOP_HEADER)
    return cloop_fail (c, error, EINVAL, "its index of %u blocks is larger than the file", c->blocks);
  c->index_offset = c->file_size - sizeof tail - length;
  return 0;
}

/* ---- V3.0: from lengths to offsets ---- */

static int
add_up_chunk (Cloop *c, uint32_t first, uint32_t count, uint8_t *chunk, GError **error)
{
  const int ret =
      tn_node_read (c->file, c->index_offset + (uint64_t) first * 4, chunk, (uint64_t) count * 4, error);
  for (uint32_t i = 0; ret == 0 && i < count; i++)
    c->offsets[first + i + 1] = c->offsets[first + i] + tn_load_be32 (chunk + 4 * i);
  return ret;
}

static int
add_up_lengths (Cloop *c, GError **error)
{
  if (c->blocks > V3_MAX_BLOCKS)
    return cloop_fail (c, error, EFBIG, "%u blocks are too many for format V3.0 (at most %u)", c->blocks,
                       V3_MAX_BLOCKS);
  g_autofree uint8_t *chunk = g_malloc (V3_CHUNK * 4);
  c->offsets = g_try_new (uint64_t, (size_t) c->blocks + 1);
  if (!c->offsets)
    return cloop_fail (c, error, ENOMEM, "no memory for %u blocks", c->blocks);
  c->offsets[0] = CLOOP_HEADER;
  int ret = 0;
  for (uint32_t first = 0; ret == 0 && first < c->blocks; first += V3_CHUNK)
    ret = add_up_chunk (c, first, MIN (V3_CHUNK, c->blocks - first), chunk, error);
  return ret;
}

/* ---- One block ---- */

static int
read_entry (const Cloop *c, uint64_t number, size_t length, uint8_t *bytes, bool nowait, GError **error)
{
  const uint64_t at = c->index_offset + number * entry_size[c->index];
  return table_read (c->cache, CLOOP_SLICE, at, bytes, length, nowait, error);
}

static void
parse_offsets (const Cloop *c, const uint8_t *bytes, CloopBlock *block)
{
  uint64_t here = tn_load_be64 (bytes), next = tn_load_be64 (bytes + 8);
  block->coding = CLOOP_ZLIB;
  if (c->version >= 4) {
    block->coding = (CloopCoding) (here >> 60);
    here &= V4_OFFSET;
    next &= V4_OFFSET;
  }
  block->offset = here;
  block->length = next - here; /* gigantic when they are not in order */
}

static void
parse_block (const Cloop *c, const uint8_t *bytes, CloopBlock *block)
{
  block->coding = CLOOP_ZLIB;
  switch (c->index) {
  case CLOOP_OFFSETS32:
    block->offset = tn_load_be32 (bytes);
    block->length = (uint64_t) tn_load_be32 (bytes + 4) - block->offset;
    break;
  case CLOOP_OFFSETS_LE:
    block->offset = tn_load_le64 (bytes);
    block->length = tn_load_le64 (bytes + 8) - block->offset;
    break;
  case CLOOP_PAIRS:
    block->offset = tn_load_be64 (bytes);
    block->length = tn_load_be32 (bytes + 8);
    break;
  default:
    parse_offsets (c, bytes, block);
  }
}

static int
check_block (const Cloop *c, uint64_t number, const CloopBlock *block, GError **error)
{
  if (block->length == 0 || block->length > CLOOP_MAX_BLOCK || block->offset > c->file_size
      || block->length > c->file_size - block->offset)
    return cloop_fail (c, error, EIO, "block %" PRIu64 " has an impossible place (offset %" PRIu64 ")",
                       number, block->offset);
  if (block->coding >= CLOOP_CODINGS)
    return cloop_fail (c, error, ENOTSUP,
                       "block %" PRIu64 " is compressed by method %u%s, which is not supported", number,
                       (unsigned) block->coding, (unsigned) block->coding == 4 ? " (lzo)" : "");
  if (block->coding == CLOOP_PLAIN && block->length < c->block_size)
    return cloop_fail (c, error, EIO, "plain block %" PRIu64 " has only %" PRIu64 " bytes", number,
                       block->length);
  return 0;
}

int
cloop_index_block (const Cloop *c, uint64_t number, bool nowait, CloopBlock *block, GError **error)
{
  if (c->offsets) {
    *block = (CloopBlock){ c->offsets[number], c->offsets[number + 1] - c->offsets[number], CLOOP_ZLIB };
  } else {
    uint8_t bytes[16];
    const size_t length = c->index == CLOOP_OFFSETS32 ? 8 : 16;
    const int ret = read_entry (c, number, length, bytes, nowait, error);
    if (ret < 0)
      return ret;
    parse_block (c, bytes, block);
  }
  return check_block (c, number, block, error);
}

/* The ends are looked at when the image is opened, the rest when it is used. */
int
cloop_index_open (Cloop *c, GError **error)
{
  int ret = 0;
  if (c->blocks == V3_MARK && c->version < 4)
    ret = read_v3_tail (c, error);
  else if (c->blocks)
    ret = guess_index (c, error);
  if (ret < 0)
    return ret;
  const uint64_t length = entries (c) * entry_size[c->index];
  if (c->index_offset > c->file_size || length > c->file_size - c->index_offset)
    return cloop_fail (c, error, EINVAL, "its index of %u blocks is larger than the file", c->blocks);
  c->cache = tn_meta_cache_new (c->file, "block index", CLOOP_SLICE, INDEX_BUDGET);
  if (c->index == CLOOP_LENGTHS && (ret = add_up_lengths (c, error)) < 0)
    return ret;
  CloopBlock block;
  if (c->blocks)
    ret = cloop_index_block (c, 0, false, &block, error);
  if (ret == 0 && c->blocks)
    ret = cloop_index_block (c, c->blocks - 1, false, &block, error);
  return ret;
}
