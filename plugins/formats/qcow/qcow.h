/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow format, version 1: what its parts share.
 *
 * header.c  header and backing file name, read, checked and written
 * open.c    opening, closing, flushing an image
 * crypt.c   old encryption
 * table.c   L1 and L2 tables
 * map.c     where guest bytes live
 * write.c   reserve, commit, cancel
 * pack.c    compressed clusters
 * create.c, check.c
 *
 * There is no record of what is free: clusters and compressed clusters are taken from the end of the file,
 * and what is overwritten in another place stays behind.
 */
#ifndef QCOW_H
#define QCOW_H

#include "../common/tailspace.h"

#include <tenon/codec.h>
#include <tenon/format.h>
#include <tenon/meta.h>

#include <inttypes.h>

#define QCOW_MAGIC 0x514649fbu
#define QCOW_HEADER_BYTES 48u
#define QCOW_MIN_CLUSTER_BITS 9u
#define QCOW_MAX_CLUSTER_BITS 16u
#define QCOW_MIN_L2_BITS 6u
#define QCOW_MAX_L2_BITS 13u
#define QCOW_MAX_BACKING_NAME 1023u
#define QCOW_MAX_L1_ENTRIES ((uint64_t) INT32_MAX / 8)
#define QCOW_SECTOR 512u
#define QCOW_PACKED (UINT64_C (1) << 63)
#define QCOW_CRYPT_NONE 0u
#define QCOW_CRYPT_AES 1u

typedef struct QcowHeader {
  uint64_t backing_offset;
  uint32_t backing_length;
  uint32_t mtime;
  uint64_t size;
  uint8_t cluster_bits, l2_bits;
  uint32_t crypt_method;
  uint64_t l1_offset;
} QcowHeader;

typedef struct Qcow {
  TnNode *node, *file;
  uint32_t flags; /* TnOpenFlags */
  bool writable;
  bool zero_tail; /* what the file grows by reads as zeroes */

  QcowHeader header;
  char *backing_name;
  uint64_t size; /* whole sectors of what the header says */
  uint32_t cluster_size;
  unsigned cluster_bits, l2_bits; /* l2_bits: log2 of entries in a table */
  uint64_t l1_entries, l2_bytes;
  uint32_t slice_bytes; /* of an L2 table */
  uint64_t packed_mask; /* of the place of a compressed cluster */

  TailSpace space;
  TnMetaCache *l1_cache, *l2_cache;
  const TnCodecOps *codec;
} Qcow;

/* ---- header.c ---- */
int qcow_header_read (Qcow *q, GError **error);
/* Header and backing file name. */
int qcow_header_write (Qcow *q, GError **error);
/* Entries of the L1 table for @size bytes. */
uint64_t qcow_l1_needed (unsigned cluster_bits, unsigned l2_bits, uint64_t size);

/* ---- open.c ---- */
int qcow_fail (const Qcow *q, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
int qcow_corrupt (const Qcow *q, GError **error, const char *format, ...) TN_PRINTF (3, 4);
int qcow_need_writable (const Qcow *q, GError **error);
int qcow_sync (Qcow *q, GError **error);

/* ---- crypt.c ---- */
int qcow_crypt_open (Qcow *q, const TnOptions *options, GError **error);

/* ---- table.c ---- */
uint64_t qcow_l1_index (const Qcow *q, uint64_t guest);
uint64_t qcow_l2_span (const Qcow *q);
bool qcow_valid_table (const Qcow *q, uint64_t offset);
/* Whether an L2 entry that is not 0 can be right. */
bool qcow_valid_entry (const Qcow *q, uint64_t entry);
/* Where a compressed cluster is. */
void qcow_packed_place (const Qcow *q, uint64_t entry, uint64_t *offset, uint64_t *length);
/* The L2 table for @guest, 0: none.  @nowait: -EAGAIN rather than waiting or failing. */
int qcow_l2_table (Qcow *q, uint64_t guest, bool nowait, uint64_t *table, GError **error);
/* As above; makes a table where there is none. */
int qcow_l2_table_make (Qcow *q, uint64_t guest, uint64_t *table, GError **error);
/* Where the slice with the entry for @guest is in @table, and the entry's index in it. */
uint64_t qcow_l2_slice (const Qcow *q, uint64_t table, uint64_t guest, unsigned *index);
unsigned qcow_slice_entries (const Qcow *q);
uint64_t qcow_entry (const void *slice, unsigned index);
/* Sets the 8 bytes at @at of the file, which belong to a table in @cache of slices of @slice_bytes. */
int qcow_table_set (TnMetaCache *cache, uint32_t slice_bytes, uint64_t at, uint64_t entry, GError **error);

/* ---- write.c ---- */
int qcow_alloc (Qcow *q, uint64_t length, uint64_t align, uint64_t *offset, GError **error);
int qcow_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);
int qcow_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void qcow_cancel (TnNode *node, TnExtent *extents, size_t n);

/* ---- the other callbacks ---- */
int qcow_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);
int qcow_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
               GError **error);
int qcow_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                 size_t out_length, GError **error);
int qcow_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int qcow_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                  GError **error);
int qcow_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);

#endif
