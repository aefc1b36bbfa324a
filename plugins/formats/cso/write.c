/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing, from the first block to the last.  Blocks that are passed over are zeroes.  Index entries reach
 * the disk after the blocks they stand for: at a flush, and when the image is closed, which completes it.
 */
#include "cso.h"

#include "../common/used-bytes.h"

#define RUN (64u << 10) /* bytes of packed zeroes written at a time */
#define DEFAULT_BLOCK 2048u
#define MOST_ADDRESSED (1ull << 31) /* times the alignment */

static uint64_t
round_up (const Cso *c, uint64_t value)
{
  const uint64_t step = 1ull << c->align_bits;
  return (value + step - 1) / step * step;
}

static uint64_t
index_end (const Cso *c)
{
  return c->index_offset + ((uint64_t) c->blocks + 1) * 4;
}

/* ---- Creating ---- */

/* The smallest alignment with which every block can be addressed, even if none can be compressed. */
static int
choose_layout (Cso *c, const TnOptions *options, uint64_t size, GError **error)
{
  const uint64_t block = tn_options_uint (options, "block_size");
  c->block_size = block ? (uint32_t) block : DEFAULT_BLOCK;
  if (c->block_size & (c->block_size - 1))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "block_size must be a power of two");
  const uint64_t blocks = size / c->block_size + (size % c->block_size ? 1 : 0);
  if (blocks > CSO_MAX_BLOCKS)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "a disk of %" PRIu64 " bytes needs larger blocks than %u: choose block_size", size,
                    c->block_size);
  c->blocks = (uint32_t) blocks;
  c->disk_size = size;
  c->index_offset = CSO_HEADER;
  while (index_end (c) + (blocks + 1) * round_up (c, c->block_size) >= MOST_ADDRESSED << c->align_bits)
    c->align_bits++;
  return 0;
}

static void
fill_header (const Cso *c, uint8_t header[CSO_HEADER])
{
  memset (header, 0, CSO_HEADER);
  memcpy (header, c->kind == CSO_ZISO ? "ZISO" : "CISO", 4);
  tn_store_le32 (header + 4, CSO_HEADER);
  tn_store_le64 (header + 8, c->disk_size);
  tn_store_le32 (header + 16, c->block_size);
  header[20] = c->kind == CSO_2 ? 2 : 1;
  header[21] = (uint8_t) c->align_bits;
}

int
cso_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  uint8_t header[CSO_HEADER + 4];
  const bool two = g_strcmp0 (tn_options_get (options, "version"), "2") == 0;
  Cso c = { .file = file, .kind = tn_options_has (options, "version") ? (two ? CSO_2 : CSO_1) : CSO_ZISO };
  int ret = choose_layout (&c, options, size, error);
  if (ret < 0)
    return ret;
  fill_header (&c, header);
  /* A disk of nothing is complete at once: all that its index says is where the image ends. */
  tn_store_le32 (header + CSO_HEADER, c.blocks ? 0 : CSO_HEADER + 4);
  ret = tn_node_resize (file, index_end (&c), TN_PREALLOC_OFF, error);
  return ret < 0 ? ret : tn_node_write (file, 0, header, sizeof header, error);
}

int
cso_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  Cso c = { 0 };
  uint64_t used = 0;
  size = source ? tn_node_size (source) : size;
  int ret = choose_layout (&c, options, size, error);
  if (ret == 0 && source)
    ret = count_used_blocks (source, c.block_size, &used, error);
  if (ret < 0)
    return ret;
  measure->required = index_end (&c) + used * c.block_size;
  measure->fully_allocated = index_end (&c) + c.blocks * round_up (&c, c.block_size);
  measure->bitmaps = UINT64_MAX;
  return 0;
}

/* ---- Packing ---- */

static int
pack_block (Cso *c, const void *in, void *out, size_t *length, GError **error)
{
  const TnCodecOps *codec = cso_codec (c, c->packs, error);
  if (!codec)
    return -ENOTSUP;
  const int ret = codec->compress (0, 0, in, c->block_size, out, c->block_size - 1, length, error);
  if (ret < 0 && ret != -E2BIG)
    return ret;
  if (ret == 0 && round_up (c, *length) < c->block_size)
    return 0;
  if (error)
    g_clear_error (error);
  memcpy (out, in, c->block_size);
  *length = c->block_size;
  return 0;
}

int
cso_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
          GError **error)
{
  Cso *c = tn_node_state (node);
  if (in_length > c->block_size || out_size < c->block_size)
    return cso_fail (c, error, EINVAL, "%zu bytes are not one block", in_length);
  if (in_length == c->block_size)
    return pack_block (c, in, out, out_length, error);
  g_autofree uint8_t *whole = g_malloc0 (c->block_size); /* the last block is whole all the same */
  memcpy (whole, in, in_length);
  return pack_block (c, whole, out, out_length, error);
}

/* ---- Placing ---- */

/* The next block gets @length bytes. */
static void
place_next (Cso *c, uint64_t length)
{
  const bool plain = length == c->block_size, flag = c->kind == CSO_2 ? !plain : plain;
  c->index[c->next] = (uint32_t) (c->end >> c->align_bits) | (flag ? CSO_FLAG : 0);
  c->end = round_up (c, c->end + length);
  c->index[++c->next] = (uint32_t) (c->end >> c->align_bits);
}

/* Of images by others the alignment may be too small for what is to come. */
static int
check_room (const Cso *c, uint64_t length, GError **error)
{
  if (c->end + length < MOST_ADDRESSED << c->align_bits)
    return 0;
  return cso_fail (c, error, EFBIG, "an index with an alignment of %u bytes cannot address more than it has",
                   1u << c->align_bits);
}

static int
write_zeroes (Cso *c, const uint8_t *run, uint64_t stride, uint64_t length, uint32_t count, GError **error)
{
  int ret = check_room (c, stride * count, error);
  if (ret == 0)
    ret = tn_node_write (c->file, c->end, run, stride * count, error);
  for (uint32_t i = 0; ret == 0 && i < count; i++)
    place_next (c, length);
  return ret;
}

/* Blocks up to @end become zeroes. */
static int
fill (Cso *c, uint32_t end, GError **error)
{
  if (c->next >= end)
    return 0;
  g_autofree uint8_t *zeroes = g_malloc0 (c->block_size), *packed = g_malloc (c->block_size);
  size_t length;
  int ret = pack_block (c, zeroes, packed, &length, error);
  if (ret < 0)
    return ret;
  const uint64_t stride = round_up (c, length), most = MAX (1, RUN / stride);
  g_autofree uint8_t *run = g_malloc0 (stride * most);
  for (uint64_t i = 0; i < most; i++)
    memcpy (run + i * stride, packed, length);
  while (ret == 0 && c->next < end)
    ret = write_zeroes (c, run, stride, length, (uint32_t) MIN (most, end - c->next), error);
  return ret;
}

void
cso_write_open (Cso *c)
{
  c->next = cso_present (c);
  c->saved = c->next;
  c->end =
      c->next ? (uint64_t) (c->index[c->next] & ~CSO_FLAG) << c->align_bits : round_up (c, index_end (c));
  c->packs = c->kind == CSO_1 ? CSO_DEFLATE : CSO_LZ4;
  c->under_way = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  c->writable = true;
}

int
cso_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Cso *c = tn_node_state (node);
  const uint32_t number = (uint32_t) (offset / c->block_size);
  if (c->broken)
    return cso_fail (c, error, EIO, "an earlier block could not be written; begin again");
  if (!(flags & TN_RESERVE_PACKED) || number < c->next)
    return cso_fail (c, error, ENOTSUP,
                     "block %u has been passed: such images are written once, from the beginning to the end",
                     number);
  int ret = fill (c, number, error);
  if (ret < 0 || (ret = check_room (c, extent->packed_length, error)) < 0)
    return ret;
  extent->offset = (uint64_t) number * c->block_size;
  extent->length = c->block_size;
  extent->kind = TN_EXTENT_PACKED;
  extent->flags = TN_EXTENT_NEW;
  extent->source = c->file;
  extent->source_offset = c->end;
  extent->cookie[0] = number;
  place_next (c, extent->packed_length);
  g_array_append_val (c->under_way, number);
  return 0;
}

static void
end_under_way (Cso *c, uint32_t number)
{
  for (guint i = 0; i < c->under_way->len; i++) {
    if (g_array_index (c->under_way, uint32_t, i) == number) {
      g_array_remove_index_fast (c->under_way, i);
      return;
    }
  }
}

int
cso_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Cso *c = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    end_under_way (c, (uint32_t) extents[i].cookie[0]);
    extents[i].flags &= ~TN_EXTENT_NEW;
  }
  return 0;
}

/* The last one can be taken back.  Behind another there would be a hole, which the index cannot say. */
void
cso_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Cso *c = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    const uint32_t number = (uint32_t) extents[i].cookie[0];
    if (number + 1 != c->next) {
      c->broken = true;
      continue;
    }
    end_under_way (c, number);
    c->end = extents[i].source_offset;
    c->index[c->next--] = 0;
    c->index[c->next] &= ~CSO_FLAG;
  }
}

int
cso_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  const Cso *c = tn_node_state (node);
  return (flags & TN_UNMAP_ZERO) && offset / c->block_size >= c->next ? 0 : -ENOTSUP;
}

/* ---- Saving ---- */

/* Blocks that are written, all before them too. */
static uint32_t
settled (const Cso *c)
{
  uint32_t least = c->next;
  for (guint i = 0; i < c->under_way->len; i++)
    least = MIN (least, g_array_index (c->under_way, uint32_t, i));
  return least;
}

static int
write_index (Cso *c, uint32_t from, uint32_t to, GError **error)
{
  const uint32_t most = RUN / 4;
  g_autofree uint32_t *bytes = g_new (uint32_t, most);
  int ret = 0;
  for (uint32_t at = from; ret == 0 && at <= to; at += most) {
    const uint32_t count = MIN (most, to - at + 1);
    for (uint32_t i = 0; i < count; i++)
      tn_store_le32 (&bytes[i], c->index[at + i]);
    ret = tn_node_write (c->file, c->index_offset + (uint64_t) at * 4, bytes, (uint64_t) count * 4, error);
  }
  return ret;
}

int
cso_save (Cso *c, GError **error)
{
  const uint32_t to = settled (c);
  if (to <= c->saved)
    return tn_node_flush (c->file, error);
  int ret = tn_node_flush (c->file, error);
  if (ret < 0 || (ret = write_index (c, c->saved, to, error)) < 0)
    return ret;
  ret = tn_node_flush (c->file, error);
  if (ret == 0)
    c->saved = to;
  return ret;
}

int
cso_finish (Cso *c, GError **error)
{
  if (c->broken)
    return cso_fail (c, error, EIO, "it is not complete, since a block could not be written");
  const int ret = fill (c, c->blocks, error);
  return ret < 0 ? ret : cso_save (c, error);
}
