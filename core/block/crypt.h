/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Data of encrypted extents on its way (crypt.c). */
#ifndef TN_BLOCK_CRYPT_H
#define TN_BLOCK_CRYPT_H

#include "block/internal.h"

#include <tenon/cipher.h>

/* Refuses an encrypted extent of @node that cannot be used: no key, or not in whole sectors. */
int tn_crypt_check (TnNode *node, const TnExtent *extent, GError **error);
/* What the cipher numbers the sector at @offset of @extent by. */
uint64_t tn_crypt_place (TnNode *node, const TnExtent *extent, uint64_t offset);

/* Encrypted pieces of one read.  They are decrypted once all have arrived.  Zero-filled is none. */
typedef struct TnCryptReads {
  GArray *pieces;
} TnCryptReads;

/* Starts to read a piece that belongs at @offset of @data. */
int tn_crypt_read (TnCryptReads *reads, TnBatch *batch, const TnResolved *resolved, const TnData *data,
                   uint64_t offset);
/* After tn_batch_wait(): decrypts, unless that has failed (@result), and frees. */
void tn_crypt_reads_end (TnCryptReads *reads, int result);

/* Buffers of one write: they live until all parts have ended.  Zero-filled is none. */
typedef struct TnCryptWrites {
  GPtrArray *buffers;
  uint64_t bytes;
} TnCryptWrites;

/* Memory for the next piece; waits while much is under way.  NULL: there is none. */
char *tn_crypt_buffer (TnCryptWrites *writes, TnBatch *batch, size_t length);
/* Encrypts @length bytes of the last buffer where they are and starts to write them. */
void tn_crypt_store (TnNode *node, TnBatch *batch, TnNode *source, uint64_t source_offset, uint64_t place,
                     char *buffer, size_t length);
/* Encrypts @data's bytes for [@offset, @offset + @length) of @extent and starts to write them. */
int tn_crypt_write (TnCryptWrites *writes, TnBatch *batch, TnNode *node, const TnExtent *extent,
                    const TnData *data, uint64_t offset, uint64_t length);
/* After tn_batch_wait(). */
void tn_crypt_writes_end (TnCryptWrites *writes);

/* Whether a write to @node covers a sector in part. */
bool tn_crypt_splits_sector (TnNode *node, uint64_t offset, uint64_t length);
/* Writes such a range, completing its sectors; the caller holds them. */
int tn_crypt_write_parts (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error);

#endif
