/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header and the index of CISO and ZISO. */
#include "cso.h"

static int
check_header (Cso *c, const uint8_t *header, GError **error)
{
  const bool is_ziso = memcmp (header, "ZISO", 4) == 0;
  const unsigned version = header[20];
  if (is_ziso != (c->kind == CSO_ZISO) || (!is_ziso && memcmp (header, "CISO", 4) != 0))
    return cso_fail (c, error, EINVAL, "it does not begin with '%s'", c->kind == CSO_ZISO ? "ZISO" : "CISO");
  if (version > 2 || (is_ziso && version > 1))
    return cso_fail (c, error, ENOTSUP, "version %u is unknown", version);
  if (!is_ziso)
    c->kind = version == 2 ? CSO_2 : CSO_1;
  c->disk_size = tn_load_le64 (header + 8);
  c->block_size = tn_load_le32 (header + 16);
  c->align_bits = header[21];
  if (c->block_size < 512 || (c->block_size & (c->block_size - 1)) || c->block_size > CSO_MAX_BLOCK)
    return cso_fail (c, error, EINVAL, "blocks of %u bytes are no power of two from 512 to %u", c->block_size,
                     CSO_MAX_BLOCK);
  if (c->align_bits > 20)
    return cso_fail (c, error, EINVAL, "blocks aligned to 2^%u bytes are impossible", c->align_bits);
  return 0;
}

static uint64_t
place (const Cso *c, uint32_t entry)
{
  return (uint64_t) (entry & ~CSO_FLAG) << c->align_bits;
}

/* Of a finished image every entry says something. */
uint32_t
cso_present (const Cso *c)
{
  if (c->writable)
    return c->next;
  if (c->kind == CSO_DAX || c->blocks == 0 || c->index[c->blocks])
    return c->blocks;
  uint32_t from = 0, to = c->blocks; /* the first entry that is 0 */
  while (from < to) {
    const uint32_t middle = from + (to - from) / 2;
    if (c->index[middle])
      from = middle + 1;
    else
      to = middle;
  }
  return from ? from - 1 : 0;
}

/* NULL: block @number has a possible place. */
static const char *
index_problem (const Cso *c, uint32_t number)
{
  const uint64_t here = place (c, c->index[number]), next = place (c, c->index[number + 1]);
  if (next < here)
    return "begins behind the next";
  if (next > c->file_size)
    return "is behind the end of the file";
  if (here < c->index_offset)
    return "is in the header";
  if (next - here > 2ull * c->block_size + (1ull << c->align_bits))
    return "is longer than a compressed block can be";
  return NULL;
}

static int
check_index (const Cso *c, GError **error)
{
  const uint32_t present = cso_present (c);
  for (uint32_t i = 0; i < present; i++) {
    const char *problem = index_problem (c, i);
    if (problem)
      return cso_fail (c, error, EINVAL, "block %u at offset %" PRIu64 " %s", i, place (c, c->index[i]),
                       problem);
  }
  return 0;
}

int
cso_index_open (Cso *c, GError **error)
{
  uint8_t header[CSO_HEADER];
  if (c->file_size < CSO_HEADER)
    return cso_fail (c, error, EINVAL, "%" PRIu64 " bytes are too few for one", c->file_size);
  int ret = tn_node_read (c->file, 0, header, sizeof header, error);
  if (ret < 0 || (ret = check_header (c, header, error)) < 0)
    return ret;
  const uint64_t blocks = c->disk_size / c->block_size + (c->disk_size % c->block_size ? 1 : 0);
  if (blocks > CSO_MAX_BLOCKS)
    return cso_fail (c, error, EFBIG, "%" PRIu64 " blocks are too many", blocks);
  c->blocks = (uint32_t) blocks;
  /* What writers put into the field of the header's size cannot be relied upon. */
  c->index_offset = CSO_HEADER;
  const uint64_t length = (blocks + 1) * 4;
  if (length > c->file_size - c->index_offset)
    return cso_fail (c, error, EINVAL, "its index of %u blocks is larger than the file", c->blocks);
  c->index = g_try_malloc (length);
  if (!c->index)
    return cso_fail (c, error, ENOMEM, "no memory for an index of %u blocks", c->blocks);
  ret = tn_node_read (c->file, c->index_offset, c->index, length, error);
  for (uint64_t i = 0; ret == 0 && i <= blocks; i++)
    c->index[i] = tn_load_le32 (&c->index[i]);
  return ret < 0 ? ret : check_index (c, error);
}

/* ---- One block ---- */

static CsoCoding
coding_of (const Cso *c, uint32_t entry, uint64_t length)
{
  const bool flag = entry & CSO_FLAG;
  if (c->kind == CSO_1)
    return flag ? CSO_PLAIN : CSO_DEFLATE;
  if (c->kind == CSO_ZISO)
    return flag ? CSO_PLAIN : CSO_LZ4;
  if (length >= c->block_size)
    return CSO_PLAIN;
  return flag ? CSO_LZ4 : CSO_DEFLATE;
}

CsoBlock
cso_block (const Cso *c, uint32_t number)
{
  if (c->kind == CSO_DAX)
    return (CsoBlock){ c->index[number], c->lengths[number], c->plain[number] ? CSO_PLAIN : CSO_ZLIB };
  const uint32_t entry = c->index[number];
  const uint64_t here = place (c, entry), length = place (c, c->index[number + 1]) - here;
  return (CsoBlock){ here, length, coding_of (c, entry, length) };
}
