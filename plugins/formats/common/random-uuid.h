/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random (version 4) UUIDs in both byte orders, and as text. */
#ifndef FORMATS_COMMON_RANDOM_UUID_H
#define FORMATS_COMMON_RANDOM_UUID_H

#include <stdlib.h>
#include <string.h>

#include <tenon/types.h>

#define UUID_TEXT_SIZE 37u

/* In the order of RFC 4122, or with the first three fields little-endian as Microsoft's GUIDs are. */
static inline void
uuid_random (uint8_t uuid[16], bool little)
{
  for (unsigned i = 0; i < 16; i += 4)
    tn_store_le32 (uuid + i, g_random_int ());
  uint8_t *version = uuid + (little ? 7 : 6);
  *version = (uint8_t) ((*version & 0x0f) | 0x40);
  uuid[8] = (uint8_t) ((uuid[8] & 0x3f) | 0x80);
}

static inline bool
uuid_is_null (const uint8_t uuid[16])
{
  static const uint8_t null[16];
  return memcmp (uuid, null, sizeof null) == 0;
}

static inline void
uuid_to_text (const uint8_t uuid[16], bool little, char text[UUID_TEXT_SIZE])
{
  static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
  unsigned at = 0;
  for (unsigned i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      text[at++] = '-';
    g_snprintf (text + at, UUID_TEXT_SIZE - at, "%02x", uuid[little ? order[i] : i]);
    at += 2;
  }
}

#endif
