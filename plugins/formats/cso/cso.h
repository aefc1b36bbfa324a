/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compressed disc images: CISO version 1 and 2, ZISO, DAX.  Blocks of equal size stand one behind the other,
 * and an index before them says where each begins.
 *
 * They are written from the beginning to the end.  The index on disk follows the blocks; entries that are still 0
 * mark an image that is not complete.
 */
#ifndef CSO_H
#define CSO_H

#include <inttypes.h>

#include <tenon/codec.h>
#include <tenon/format.h>

#define CSO_HEADER 24u
#define CSO_MAX_BLOCK (2u << 20)
#define CSO_MAX_BLOCKS (8u << 20)
#define CSO_GROUP (128u << 10) /* bytes that are read and decoded at a time */
#define CSO_FLAG 0x80000000u   /* in an index entry: plain, or (version 2) lz4 */

typedef enum CsoKind { CSO_1, CSO_2, CSO_ZISO, CSO_DAX } CsoKind;
typedef enum CsoCoding { CSO_PLAIN, CSO_DEFLATE, CSO_LZ4, CSO_ZLIB, CSO_CODINGS } CsoCoding;

typedef struct Cso {
  TnNode *file;
  uint64_t file_size;
  CsoKind kind;
  uint32_t block_size, blocks, align_bits;
  uint64_t disk_size, index_offset;
  uint32_t *index;   /* CISO, ZISO: as on disk, one more than blocks; DAX: where blocks are */
  uint16_t *lengths; /* DAX */
  bool *plain;       /* DAX: for each block */
  const TnCodecOps *codecs[CSO_CODINGS];

  /* Writing. */
  CsoCoding packs;       /* how new blocks are compressed */
  uint32_t next;         /* block to reserve */
  uint64_t end;          /* where it will be */
  GArray *under_way;     /* uint32_t: reserved, not committed */
  uint32_t saved;        /* blocks that the index on disk has */
  bool writable, broken; /* a block could not be written: nothing may follow */
} Cso;

typedef struct CsoBlock {
  uint64_t offset, length;
  CsoCoding coding;
} CsoBlock;

int cso_fail (const Cso *c, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);

/* ---- Header and index (index.c, dax.c) ---- */
int cso_index_open (Cso *c, GError **error);
int cso_dax_open (Cso *c, GError **error);
/* Where block @number is; only for blocks that are there. */
CsoBlock cso_block (const Cso *c, uint32_t number);
/* Blocks that are there: all, unless the image is not finished. */
uint32_t cso_present (const Cso *c);

/* ---- Writing (write.c) ---- */
int cso_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int cso_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error);
void cso_write_open (Cso *c);
int cso_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error);
int cso_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void cso_cancel (TnNode *node, TnExtent *extents, size_t n);
int cso_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
int cso_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
              GError **error);
int cso_save (Cso *c, GError **error);
/* What has not been written becomes zeroes; the image is complete then. */
int cso_finish (Cso *c, GError **error);
const TnCodecOps *cso_codec (Cso *c, CsoCoding coding, GError **error);

#endif
