/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed loop images (Knoppix): blocks of equal size, each compressed, and an index of where they are. */
#ifndef CLOOP_H
#define CLOOP_H

#include <inttypes.h>

#include <tenon/codec.h>
#include <tenon/format.h>
#include <tenon/meta.h>

#define CLOOP_PREAMBLE 128u
#define CLOOP_HEADER (CLOOP_PREAMBLE + 8)
#define CLOOP_VERSION_AT 11u
#define CLOOP_MAX_BLOCK (16u << 20)
#define CLOOP_SLICE 4096u

/* How the index says where a block is. */
typedef enum CloopIndex {
  CLOOP_OFFSETS32,  /* V0.68: offsets, big-endian, one more than blocks */
  CLOOP_OFFSETS_LE, /* V1.0 */
  CLOOP_OFFSETS,    /* V2.0, V4.0: big-endian; in V4.0 the highest four bits are the coding */
  CLOOP_PAIRS,      /* accelerated Knoppix V1.0: offset, length and a number that says nothing to a reader */
  CLOOP_LENGTHS     /* V3.0: 32 bits each; the blocks follow one another */
} CloopIndex;

typedef enum CloopCoding {
  CLOOP_ZLIB = 0,
  CLOOP_PLAIN = 1,
  CLOOP_XZ = 2,
  CLOOP_LZ4 = 3,
  CLOOP_CODINGS = 4
} CloopCoding;

typedef struct Cloop {
  TnNode *file;
  uint64_t file_size;
  uint32_t block_size, blocks;
  unsigned version; /* as in "V2.0": 2; 0: not said */
  CloopIndex index;
  uint64_t index_offset;
  TnMetaCache *cache; /* over the index */
  uint64_t *offsets;  /* CLOOP_LENGTHS: made from the index, one more than blocks */
  const TnCodecOps *codecs[CLOOP_CODINGS];
} Cloop;

typedef struct CloopBlock {
  uint64_t offset, length; /* in the file */
  CloopCoding coding;
} CloopBlock;

int cloop_fail (const Cloop *c, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);

/* Finds and checks the index once the header's fields are set. */
int cloop_index_open (Cloop *c, GError **error);
int cloop_index_block (const Cloop *c, uint64_t number, bool nowait, CloopBlock *block, GError **error);
const char *cloop_index_name (const Cloop *c);

int cloop_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
               GError **error);
int cloop_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                  size_t out_length, GError **error);

#endif
