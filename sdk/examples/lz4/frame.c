/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header of an LZ4 frame. */
#include "lz4.h"

#define FRAME_MAGIC 0x184d2204u

/* Flags of a frame. */
#define FLAG_VERSION_MASK 0xc0u
#define FLAG_VERSION 0x40u
#define FLAG_INDEPENDENT 0x20u
#define FLAG_BLOCK_CHECKSUM 0x10u
#define FLAG_CONTENT_SIZE 0x08u
#define FLAG_DICTIONARY 0x01u

static uint32_t
rotate (uint32_t value, unsigned bits)
{
  return value << bits | value >> (32 - bits);
}

/* xxHash32 with seed 0 of fewer than 16 bytes. */
static uint32_t
short_hash (const uint8_t *bytes, size_t length)
{
  uint32_t hash = 374761393u + (uint32_t) length;
  size_t i = 0;
  for (; i + 4 <= length; i += 4)
    hash = rotate (hash + tn_load_le32 (bytes + i) * 3266489917u, 17) * 668265263u;
  for (; i < length; i++)
    hash = rotate (hash + bytes[i] * 374761393u, 11) * 2654435761u;
  hash = (hash ^ hash >> 15) * 2246822519u;
  hash = (hash ^ hash >> 13) * 3266489917u;
  return hash ^ hash >> 16;
}

static uint8_t
header_checksum (const uint8_t *header)
{
  return (uint8_t) (short_hash (header + 4, LZ4_FRAME_HEADER - 5) >> 8);
}

unsigned
lz4_block_code (uint64_t block_size)
{
  for (unsigned code = 4; code <= 7; code++)
    if (block_size == 1ull << (8 + 2 * code))
      return code;
  return 0;
}

void
lz4_frame_header (const Lz4 *z, uint8_t header[LZ4_FRAME_HEADER])
{
  tn_store_le32 (header, FRAME_MAGIC);
  header[4] = FLAG_VERSION | FLAG_INDEPENDENT | FLAG_CONTENT_SIZE;
  header[5] = (uint8_t) (lz4_block_code (z->block_size) << 4);
  tn_store_le64 (header + 6, z->disk_size);
  header[14] = header_checksum (header);
}

static int
check_flags (const Lz4 *z, unsigned flags, GError **error)
{
  if ((flags & FLAG_VERSION_MASK) != FLAG_VERSION)
    return lz4_fail (z, error, ENOTSUP, "its frame has an unknown version");
  if (!(flags & FLAG_INDEPENDENT))
    return lz4_fail (z, error, ENOTSUP, "its blocks depend on each other: decode it with lz4 -d");
  if (!(flags & FLAG_CONTENT_SIZE))
    return lz4_fail (
        z, error, ENOTSUP,
        "its frame does not say how large the disk is (lz4 --content-size): decode it with lz4 -d");
  if (flags & FLAG_DICTIONARY)
    return lz4_fail (z, error, ENOTSUP, "it needs a dictionary");
  return 0;
}

int
lz4_frame_open (Lz4 *z, GError **error)
{
  uint8_t header[LZ4_FRAME_HEADER];
  if (z->file_size < LZ4_FRAME_HEADER)
    return lz4_fail (z, error, EINVAL, "%" PRIu64 " bytes are too few for one", z->file_size);
  int ret = tn_node_read (z->file, 0, header, sizeof header, error);
  if (ret < 0)
    return ret;
  if (tn_load_le32 (header) != FRAME_MAGIC)
    return lz4_fail (z, error, EINVAL, "it is no LZ4 frame");
  if ((ret = check_flags (z, header[4], error)) < 0)
    return ret;
  if (header[14] != header_checksum (header))
    return lz4_fail (z, error, EINVAL, "the checksum of its header is wrong");
  z->block_size = 1u << (8 + 2 * (header[5] >> 4 & 7));
  z->disk_size = tn_load_le64 (header + 6);
  z->block_checksum = header[4] & FLAG_BLOCK_CHECKSUM ? 4 : 0;
  z->data_offset = LZ4_FRAME_HEADER;
  if (!lz4_block_code (z->block_size))
    return lz4_fail (z, error, EINVAL, "blocks of %u bytes are impossible", z->block_size);
  if (z->disk_size > (uint64_t) INT64_MAX - z->block_size)
    return lz4_fail (z, error, EINVAL, "a disk of %" PRIu64 " bytes is impossible", z->disk_size);
  z->blocks = (z->disk_size + z->block_size - 1) / z->block_size;
  return 0;
}
