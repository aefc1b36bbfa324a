/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing, from the first block to the last.  Blocks that are passed over are zeroes.  The length of a block
 * is written when its place is chosen: after a crash all blocks up to the first that is not whole are found
 * again.
 */
#include "lz4.h"

#define DEFAULT_BLOCK (64u << 10)
#define RUN (64u << 10) /* bytes of packed zeroes written at a time, or one block of them */

uint64_t
lz4_block_bytes (const Lz4 *z, uint64_t number)
{
  return MIN (z->block_size, z->disk_size - number * z->block_size);
}

/* ---- Creating ---- */

static int
choose_layout (Lz4 *z, const TnOptions *options, uint64_t size, GError **error)
{
  const uint64_t block = tn_options_uint (options, "block_size");
  z->block_size = block ? (uint32_t) block : DEFAULT_BLOCK;
  z->disk_size = size;
  if (!lz4_block_code (z->block_size))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "block_size must be 64k, 256k, 1M or 4M");
  z->blocks = size / z->block_size + (size % z->block_size ? 1 : 0);
  if (z->blocks > LZ4_MAX_KEPT)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "a disk of %" PRIu64 " bytes needs larger blocks than %u: choose block_size", size,
                    z->block_size);
  return 0;
}

int
lz4_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  Lz4 z = { .file = file };
  uint8_t header[LZ4_FRAME_HEADER];
  const int ret = choose_layout (&z, options, size, error);
  if (ret < 0)
    return ret;
  lz4_frame_header (&z, header);
  return tn_node_write (file, 0, header, sizeof header, error);
}

/* At most: nobody knows how much smaller it will be. */
int
lz4_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  Lz4 z = { 0 };
  const int ret = choose_layout (&z, options, source ? tn_node_size (source) : size, error);
  if (ret < 0)
    return ret;
  measure->fully_allocated = LZ4_FRAME_HEADER + z.disk_size + z.blocks * (LZ4_LENGTH_FIELD + 8) + 64;
  measure->required = measure->fully_allocated;
  measure->bitmaps = UINT64_MAX;
  return 0;
}

/* ---- Packing ---- */

/* What does not become smaller stays as it is: a block is plain when it has as many bytes as it stands for.
 */
int
lz4_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
          GError **error)
{
  const Lz4 *z = tn_node_state (node);
  if (in_length > out_size || in_length == 0)
    return lz4_fail (z, error, EINVAL, "%zu bytes are not one block", in_length);
  const int ret = z->codec->compress (0, 0, in, in_length, out, in_length - 1, out_length, error);
  if (ret != -E2BIG)
    return ret;
  memcpy (out, in, in_length);
  *out_length = in_length;
  return 0;
}

/* ---- Placing ---- */

static uint32_t
length_field (const Lz4 *z, uint64_t number, uint64_t length)
{
  return (uint32_t) length | (length == lz4_block_bytes (z, number) ? LZ4_PLAIN : 0);
}

/* The next block gets @length bytes. */
static void
place_next (Lz4 *z, uint64_t length)
{
  const bool plain = length_field (z, z->present, length) & LZ4_PLAIN;
  z->entries[z->present] = z->end | (plain ? LZ4_TABLE_PLAIN : 0);
  z->end += LZ4_LENGTH_FIELD + length + z->block_checksum;
  z->entries[++z->present] = z->end;
}

/* One block of zeroes with its length field, repeated @count times. */
static int
write_zero_blocks (Lz4 *z, uint64_t count, GError **error)
{
  const uint64_t bytes = lz4_block_bytes (z, z->present);
  g_autofree uint8_t *zeroes = g_malloc0 (bytes), *packed = g_malloc (LZ4_LENGTH_FIELD + bytes);
  size_t length;
  const int ret = z->codec->compress (0, 0, zeroes, bytes, packed + LZ4_LENGTH_FIELD, bytes, &length, error);
  if (ret < 0)
    return ret;
  const uint64_t stride = LZ4_LENGTH_FIELD + length;
  const uint64_t many = MIN (count, MAX (1, RUN / stride));
  g_autofree uint8_t *run = g_malloc (stride * many);
  tn_store_le32 (packed, length_field (z, z->present, length));
  for (uint64_t i = 0; i < many; i++)
    memcpy (run + i * stride, packed, stride);
  for (uint64_t part; count; count -= part) {
    part = MIN (count, many);
    const int written = tn_node_write (z->file, z->end, run, part * stride, error);
    if (written < 0)
      return written;
    for (uint64_t i = 0; i < part; i++)
      place_next (z, length);
  }
  return 0;
}

/* Blocks up to @end become zeroes. */
static int
fill (Lz4 *z, uint64_t end, GError **error)
{
  const uint64_t whole = MIN (end, z->disk_size / z->block_size);
  int ret = z->present < whole ? write_zero_blocks (z, whole - z->present, error) : 0;
  if (ret == 0 && z->present < end)
    ret = write_zero_blocks (z, 1, error);
  return ret;
}

int
lz4_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Lz4 *z = tn_node_state (node);
  const uint64_t number = offset / z->block_size;
  uint8_t field[LZ4_LENGTH_FIELD];
  if (z->broken)
    return lz4_fail (z, error, EIO, "an earlier block could not be written; begin again");
  if (!(flags & TN_RESERVE_PACKED) || number < z->present)
    return lz4_fail (z, error, ENOTSUP,
                     "block %" PRIu64
                     " has been passed: such images are written once, from the beginning to the end",
                     number);
  int ret = fill (z, number, error);
  tn_store_le32 (field, length_field (z, number, extent->packed_length));
  if (ret == 0)
    ret = tn_node_write (z->file, z->end, field, sizeof field, error);
  if (ret < 0)
    return ret;
  extent->offset = number * z->block_size;
  extent->length = z->block_size;
  extent->kind = TN_EXTENT_PACKED;
  extent->flags = TN_EXTENT_NEW;
  extent->source = z->file;
  extent->source_offset = z->end + LZ4_LENGTH_FIELD;
  extent->cookie[0] = number;
  place_next (z, extent->packed_length);
  return 0;
}

int
lz4_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  for (size_t i = 0; i < n; i++)
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  return 0;
}

/* The last one can be taken back.  Another would leave a block that cannot be decoded. */
void
lz4_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Lz4 *z = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    if (extents[i].cookie[0] + 1 != z->present) {
      z->broken = true;
      continue;
    }
    z->present--;
    z->end = z->entries[z->present] = extents[i].source_offset - LZ4_LENGTH_FIELD;
  }
}

int
lz4_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  return (flags & TN_UNMAP_ZERO) && offset / z->block_size >= z->present ? 0 : -ENOTSUP;
}

int
lz4_finish (Lz4 *z, GError **error)
{
  if (z->broken)
    return lz4_fail (z, error, EIO, "it is not complete, since a block could not be written");
  if (z->complete)
    return 0;
  int ret = fill (z, z->blocks, error);
  if (ret == 0)
    ret = lz4_table_write (z, error);
  z->complete = ret == 0;
  return ret < 0 ? ret : tn_node_flush (z->file, error);
}
