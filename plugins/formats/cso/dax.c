/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DAX: a table of offsets, one of lengths, and (version 1) areas of blocks that are not compressed. */
#include "cso.h"

#define DAX_HEADER 32u
#define DAX_BLOCK 8192u
#define DAX_MOST_AREAS 1024u

static int
read_offsets (Cso *c, GError **error)
{
  c->index = g_try_new (uint32_t, MAX (c->blocks, 1));
  if (!c->index)
    return cso_fail (c, error, ENOMEM, "no memory for an index of %u blocks", c->blocks);
  const int ret = tn_node_read (c->file, DAX_HEADER, c->index, (uint64_t) c->blocks * 4, error);
  for (uint32_t i = 0; ret == 0 && i < c->blocks; i++)
    c->index[i] = tn_load_le32 (&c->index[i]);
  return ret;
}

static int
read_lengths (Cso *c, GError **error)
{
  c->lengths = g_try_new (uint16_t, MAX (c->blocks, 1));
  if (!c->lengths)
    return cso_fail (c, error, ENOMEM, "no memory for an index of %u blocks", c->blocks);
  const int ret = tn_node_read (c->file, DAX_HEADER + (uint64_t) c->blocks * 4, c->lengths,
                                (uint64_t) c->blocks * 2, error);
  for (uint32_t i = 0; ret == 0 && i < c->blocks; i++)
    c->lengths[i] = tn_load_le16 (&c->lengths[i]);
  return ret;
}

static int
read_areas (Cso *c, uint32_t count, GError **error)
{
  g_autofree uint8_t *bytes = g_malloc (MAX (count, 1) * 8);
  c->plain = g_new0 (bool, MAX (c->blocks, 1));
  const int ret =
      tn_node_read (c->file, DAX_HEADER + (uint64_t) c->blocks * 6, bytes, (uint64_t) count * 8, error);
  for (uint32_t i = 0; ret == 0 && i < count; i++) {
    const uint32_t first = MIN (tn_load_le32 (bytes + 8 * i), c->blocks),
                   most = MIN (tn_load_le32 (bytes + 8 * i + 4), c->blocks - first);
    memset (c->plain + first, true, most * sizeof *c->plain);
  }
  return ret;
}

/* Plain blocks are whole, but for the last. */
static int
check_blocks (const Cso *c, GError **error)
{
  for (uint32_t i = 0; i < c->blocks; i++) {
    CsoBlock block = cso_block (c, i);
    if (block.offset > c->file_size || block.length > c->file_size - block.offset)
      return cso_fail (c, error, EINVAL, "block %u at offset %" PRIu64 " is behind the end of the file", i,
                       block.offset);
    const uint64_t needed = MIN (DAX_BLOCK, c->disk_size - (uint64_t) i * DAX_BLOCK);
    if (block.coding == CSO_PLAIN && block.length < needed)
      return cso_fail (c, error, EINVAL, "plain block %u has only %" PRIu64 " bytes", i, block.length);
  }
  return 0;
}

int
cso_dax_open (Cso *c, GError **error)
{
  uint8_t header[DAX_HEADER];
  if (c->file_size < DAX_HEADER)
    return cso_fail (c, error, EINVAL, "%" PRIu64 " bytes are too few for one", c->file_size);
  int ret = tn_node_read (c->file, 0, header, sizeof header, error);
  if (ret < 0)
    return ret;
  const uint32_t version = tn_load_le32 (header + 8), areas = version ? tn_load_le32 (header + 12) : 0;
  if (memcmp (header, "DAX", 4) != 0)
    return cso_fail (c, error, EINVAL, "it does not begin with 'DAX'");
  if (version > 1)
    return cso_fail (c, error, ENOTSUP, "version %u is unknown", version);
  if (areas > DAX_MOST_AREAS)
    return cso_fail (c, error, EFBIG, "%u areas of plain blocks are too many", areas);
  c->disk_size = tn_load_le32 (header + 4);
  c->block_size = DAX_BLOCK;
  c->blocks = (uint32_t) ((c->disk_size + DAX_BLOCK - 1) / DAX_BLOCK);
  c->index_offset = DAX_HEADER;
  if ((uint64_t) c->blocks * 6 + (uint64_t) areas * 8 > c->file_size - DAX_HEADER)
    return cso_fail (c, error, EINVAL, "its index of %u blocks is larger than the file", c->blocks);
  if ((ret = read_offsets (c, error)) < 0 || (ret = read_lengths (c, error)) < 0
      || (ret = read_areas (c, areas, error)) < 0)
    return ret;
  return check_blocks (c, error);
}
