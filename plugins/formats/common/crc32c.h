/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CRC-32C (Castagnoli), four bits at a time: for headers and logs, not for data. */
#ifndef FORMATS_COMMON_CRC32C_H
#define FORMATS_COMMON_CRC32C_H

#include <tenon/types.h>

#define CRC32C_BEGIN UINT32_MAX

/* Goes on with @crc, which is CRC32C_BEGIN at first; the complement of the last result is the checksum. */
static inline uint32_t
crc32c_add (uint32_t crc, const void *bytes, size_t length)
{
  static const uint32_t table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                      0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };
  const uint8_t *at = bytes;
  for (size_t i = 0; i < length; i++) {
    crc ^= at[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return crc;
}

/* Of @length bytes, four of which, at @skip, count as zeroes: where the checksum itself stands. */
static inline uint32_t
crc32c_without (const uint8_t *bytes, size_t length, size_t skip)
{
  static const uint8_t zero[4];
  uint32_t crc = crc32c_add (CRC32C_BEGIN, bytes, skip);
  crc = crc32c_add (crc, zero, sizeof zero);
  return ~crc32c_add (crc, bytes + skip + 4, length - skip - 4);
}

#endif
