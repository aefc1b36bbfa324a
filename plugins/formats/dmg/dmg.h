/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Apple's disk images (UDIF): a data fork of chunks, tables of them ("blkx") in a property list or a resource
 * fork, and a trailer of 512 bytes that begins with "koly".
 */
#ifndef DMG_H
#define DMG_H

#include <inttypes.h>

#include <tenon/codec.h>
#include <tenon/format.h>

#define DMG_SECTOR 512u
#define DMG_TRAILER 512u
#define DMG_MAX_CHUNKS (1u << 20)
#define DMG_MAX_PACKED (16u << 20) /* bytes of a compressed chunk, packed or not */
#define DMG_MAX_SECTORS (1ull << 53)

typedef enum DmgType {
  DMG_ZERO = 0,
  DMG_RAW = 1,
  DMG_IGNORE = 2,
  DMG_ADC = 0x80000004,
  DMG_ZLIB = 0x80000005,
  DMG_BZIP2 = 0x80000006,
  DMG_LZFSE = 0x80000007,
  DMG_LZMA = 0x80000008,
  DMG_COMMENT = 0x7ffffffe,
  DMG_END = 0xffffffff
} DmgType;

/* One run of sectors. */
typedef struct DmgChunk {
  uint64_t sector, count;
  uint64_t offset;        /* in the file */
  uint32_t packed_length; /* compressed ones only */
  uint32_t type;
} DmgChunk;

#define DMG_CODECS 5

typedef struct Dmg {
  TnNode *file;
  uint64_t file_size, data_offset, data_length;
  GArray *chunks; /* DmgChunk, in order */
  uint64_t sectors;
  const TnCodecOps *codecs[DMG_CODECS];
} Dmg;

int dmg_fail (const Dmg *d, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);

/* ---- Tables of chunks, fed in pieces ---- */

#define DMG_TABLE_HEADER 204u
#define DMG_TABLE_ENTRY 40u

typedef struct DmgTable {
  uint8_t bytes[DMG_TABLE_HEADER]; /* what has come of the header or of an entry */
  unsigned have;
  bool in_entries;
  uint64_t first_sector, data_offset;
  uint32_t left; /* entries to come */
} DmgTable;

int dmg_table_feed (Dmg *d, DmgTable *table, const uint8_t *bytes, size_t length, GError **error);
/* Says whether the table was whole. */
int dmg_table_end (Dmg *d, const DmgTable *table, GError **error);
/* All tables have been read: sorts and checks. */
int dmg_chunks_settle (Dmg *d, uint64_t sectors, GError **error);

/* Finds the tables in [offset, offset + length) of the file. */
int dmg_plist_read (Dmg *d, uint64_t offset, uint64_t length, GError **error);
int dmg_resources_read (Dmg *d, uint64_t offset, uint64_t length, GError **error);

int dmg_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
             GError **error);
int dmg_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                size_t out_length, GError **error);

#endif
