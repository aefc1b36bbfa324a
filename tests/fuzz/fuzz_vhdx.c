/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image of 5 MiB, which no fuzzer gets past the checksums of: the input is a list of changes to a sound
 * one (where: 1 byte, offset there: 2, length: 1, bytes), after which the checksums are made right again.
 * Where is one of the structures below; with its highest bit set that structure's checksum stays wrong.
 */
#include "format-fuzz.h"

#include <tenon/types.h>

#include "../../plugins/formats/common/crc32c.h"

#define KIB UINT64_C (1024)
#define MIB (KIB * KIB)
#define SIZE (5 * MIB)
#define LOG_ENTRY 8192u

typedef struct Structure {
  uint32_t offset, summed; /* bytes that the checksum is over, 0: it has none */
} Structure;

static const Structure structures[] = {
  { 64 * KIB, 4096 },   { 128 * KIB, 4096 },       { 192 * KIB, 65536 },
  { 256 * KIB, 65536 }, { 1 * MIB, LOG_ENTRY },    { 1 * MIB + LOG_ENTRY, LOG_ENTRY },
  { 2 * MIB, 0 },       { 2 * MIB + 64 * KIB, 0 }, { 3 * MIB, 0 },
};

static const uint8_t guids[][16] = {
  { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 },
  { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e },
  { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b },
  { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 },
  { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f },
};

static void
put_header (uint8_t *header, uint64_t sequence)
{
  memcpy (header, "head", 4);
  tn_store_le64 (header + 8, sequence);
  memset (header + 48, 0x11, 16); /* there is a log */
  tn_store_le16 (header + 66, 1);
  tn_store_le32 (header + 68, MIB);
  tn_store_le64 (header + 72, MIB);
}

static void
put_regions (uint8_t *table)
{
  memcpy (table, "regi", 4);
  tn_store_le32 (table + 8, 2);
  for (unsigned i = 0; i < 2; i++) {
    uint8_t *entry = table + 16 + i * 32;
    memcpy (entry, guids[i], 16);
    tn_store_le64 (entry + 16, (3 - i) * MIB);
    tn_store_le32 (entry + 24, MIB);
    tn_store_le32 (entry + 28, 1);
  }
}

static void
put_metadata (uint8_t *region)
{
  static const uint32_t lengths[] = { 8, 8, 4 };
  memcpy (region, "metadata", 8);
  tn_store_le16 (region + 10, G_N_ELEMENTS (lengths));
  for (unsigned i = 0; i < G_N_ELEMENTS (lengths); i++) {
    uint8_t *entry = region + 32 + i * 32;
    memcpy (entry, guids[2 + i], 16);
    tn_store_le32 (entry + 16, (uint32_t) (64 * KIB + i * 8));
    tn_store_le32 (entry + 20, lengths[i]);
  }
  tn_store_le32 (region + 64 * KIB, MIB);
  tn_store_le64 (region + 64 * KIB + 8, 3 * MIB);
  tn_store_le32 (region + 64 * KIB + 16, 512);
}

/* One page, which the log writes to the end of the BAT's region. */
static void
put_log_entry (uint8_t *entry, uint64_t sequence)
{
  memcpy (entry, "loge", 4);
  tn_store_le32 (entry + 8, LOG_ENTRY);
  tn_store_le64 (entry + 16, sequence);
  tn_store_le32 (entry + 24, 1);
  memset (entry + 32, 0x11, 16);
  tn_store_le64 (entry + 56, SIZE);
  memcpy (entry + 64, "desc", 4);
  tn_store_le64 (entry + 80, 4 * MIB - 4096);
  tn_store_le64 (entry + 88, sequence);
  memcpy (entry + 4096, "data", 4);
  tn_store_le32 (entry + 8188, (uint32_t) sequence);
}

static void
put_image (uint8_t *image)
{
  memcpy (image, "vhdxfile", 8);
  for (unsigned i = 0; i < 2; i++) {
    put_header (image + structures[i].offset, i + 1);
    put_regions (image + structures[2 + i].offset);
    put_log_entry (image + structures[4 + i].offset, 10 + i);
  }
  put_metadata (image + 2 * MIB);
  tn_store_le64 (image + 3 * MIB, 4 * MIB | 6);
  tn_store_le64 (image + 3 * MIB + 8, 2);
}

/* Makes the changes; the bits of those whose checksums stay wrong. */
static uint32_t
change_image (uint8_t *image, const uint8_t *data, size_t size)
{
  uint32_t wrong = 0;
  while (size > 4) {
    const unsigned which = (data[0] & 0x7f) % G_N_ELEMENTS (structures);
    const size_t length = MIN (data[3], size - 4);
    wrong |= data[0] & 0x80 ? 1u << which : 0;
    memcpy (image + structures[which].offset + tn_load_le16 (data + 1), data + 4, length);
    data += 4 + length;
    size -= 4 + length;
  }
  return wrong;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const FormatFuzz vhdx = { .driver = "vhdx" };
  g_autofree uint8_t *image = g_malloc0 (SIZE);
  put_image (image);
  const uint32_t wrong = change_image (image, data, size);
  for (unsigned i = 0; i < G_N_ELEMENTS (structures); i++) {
    uint8_t *at = image + structures[i].offset;
    if (structures[i].summed && !(wrong & 1u << i)) {
      tn_store_le32 (at + 4, crc32c_without (at, structures[i].summed, 4));
    }
  }
  return format_fuzz (&vhdx, image, SIZE);
}
