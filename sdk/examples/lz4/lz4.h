/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The image format "lz4": a disk as one LZ4 frame of independent blocks, so that `lz4 -d` gives the disk, and
 * behind it a skippable frame that says where each block is, so that it can be read anywhere.
 *
 *     frame header   magic, flags, block size, size of the disk, checksum of these
 *     block          4 bytes: its length, the highest bit set when it is plain; then its bytes
 *     …
 *     end mark       4 zero bytes
 *     seek table     magic and length of a skippable frame; padding to a multiple of 8; for each block 8
 * bytes, the offset of its length field, the highest bit set when it is plain; one more for the end mark; a
 * footer of 32 bytes
 *
 * All numbers are little-endian.  Frames by others, without a seek table, are read too: the lengths lead from
 * one block to the next.
 */
#ifndef LZ4_H
#define LZ4_H

#include <inttypes.h>

#include <tenon/codec.h>
#include <tenon/format.h>
#include <tenon/meta.h>

#define LZ4_FRAME_HEADER 15u /* ours */
#define LZ4_LENGTH_FIELD 4u
#define LZ4_PLAIN 0x80000000u /* in a length field */
#define LZ4_TABLE_PLAIN (1ull << 63)
#define LZ4_MAX_KEPT (8u << 20) /* blocks whose places are kept in memory */

typedef struct Lz4 {
  TnNode *file;
  uint64_t file_size, disk_size;
  uint32_t block_size;
  uint64_t blocks;
  uint32_t data_offset;    /* of the first block */
  uint32_t block_checksum; /* bytes behind each block */
  const TnCodecOps *codec;

  /* Entries of the seek table, one more than blocks: in the file, or in memory. */
  uint64_t table_offset;
  TnMetaCache *table;
  uint64_t *entries;

  /* In memory: blocks that are there; where the next one goes. */
  uint64_t present, end;
  bool writable, broken;
  bool complete; /* the frame has its end */
} Lz4;

typedef struct Lz4Block {
  uint64_t offset, length; /* of its bytes */
  bool plain;
} Lz4Block;

int lz4_fail (const Lz4 *z, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);

/* Bytes that block @number decodes to: the last may be short. */
uint64_t lz4_block_bytes (const Lz4 *z, uint64_t number);

/* ---- frame.c ---- */
int lz4_frame_open (Lz4 *z, GError **error);
void lz4_frame_header (const Lz4 *z, uint8_t header[LZ4_FRAME_HEADER]);
/* The code of a block size in a frame header, or 0. */
unsigned lz4_block_code (uint64_t block_size);

/* ---- table.c ---- */
int lz4_table_open (Lz4 *z, GError **error);
int lz4_table_block (const Lz4 *z, uint64_t number, bool nowait, Lz4Block *block, GError **error);
/* Ends the frame and writes the seek table behind it. */
int lz4_table_write (Lz4 *z, GError **error);

/* ---- write.c ---- */
int lz4_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int lz4_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error);
int lz4_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
              GError **error);
int lz4_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error);
int lz4_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void lz4_cancel (TnNode *node, TnExtent *extents, size_t n);
int lz4_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
/* What has not been written becomes zeroes; then the image is complete. */
int lz4_finish (Lz4 *z, GError **error);

#endif
