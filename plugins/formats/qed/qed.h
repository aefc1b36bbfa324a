/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED format: what its parts share.
 *
 * header.c  header and backing file name, read, checked and written
 * open.c    opening, closing, flushing an image
 * table.c   L1 and L2 tables
 * map.c     where guest bytes live
 * write.c   reserve, commit, cancel
 * unmap.c   zero clusters and discards
 * resize.c  growing, emptying, another backing file
 * create.c, check.c
 *
 * A file has a header, one L1 table, L2 tables and data clusters in any order; there is no record of what is
 * free, so clusters are taken from the end of the file.
 */
#ifndef QED_H
#define QED_H

#include "../common/tailspace.h"

#include <tenon/format.h>
#include <tenon/meta.h>

#include <inttypes.h>

#define QED_MAGIC 0x00444551u /* "QED\0" */
#define QED_HEADER_BYTES 64u
#define QED_MIN_CLUSTER 4096u
#define QED_MAX_CLUSTER (64u << 20)
#define QED_MAX_TABLE_CLUSTERS 16u
#define QED_MAX_BACKING_NAME 1023u
#define QED_SECTOR 512u
#define QED_SLICE 4096u

#define QED_F_BACKING_FILE (UINT64_C (1) << 0)
#define QED_F_NEED_CHECK (UINT64_C (1) << 1)
#define QED_F_BACKING_RAW (UINT64_C (1) << 2)
#define QED_F_KNOWN UINT64_C (7)

#define QED_ENTRY_NONE 0u
#define QED_ENTRY_ZERO 1u

typedef struct QedHeader {
  uint32_t cluster_size, table_clusters, header_clusters;
  uint64_t features, compat_features, autoclear_features;
  uint64_t l1_offset;
  uint64_t size;
  uint32_t backing_offset, backing_length;
} QedHeader;

typedef struct Qed {
  TnNode *node, *file;
  uint32_t flags; /* TnOpenFlags */
  bool writable;
  bool touched;   /* what must change in the header before the first write has changed */
  bool zero_tail; /* what the file grows by reads as zeroes */

  QedHeader header;
  char *backing_name;
  uint32_t cluster_size;
  unsigned cluster_bits, table_bits; /* log2 of entries in a table */
  uint64_t table_bytes;

  TailSpace space; /* ends with the last cluster in the file, written or not */
  TnMetaCache *l1_cache, *l2_cache;
} Qed;

/* ---- header.c ---- */
int qed_header_read (Qed *q, GError **error);
int qed_header_write (Qed *q, GError **error);
/* @name may be NULL; only "raw" is a @format that an image can say. */
int qed_header_set_backing (Qed *q, const char *name, const char *format, GError **error);
/* Largest disk that tables of @table_bits and clusters of @cluster_bits reach. */
uint64_t qed_max_size (unsigned cluster_bits, unsigned table_bits);

/* ---- open.c ---- */
int qed_fail (const Qed *q, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
int qed_corrupt (const Qed *q, GError **error, const char *format, ...) TN_PRINTF (3, 4);
int qed_need_writable (const Qed *q, GError **error);
int qed_sync (Qed *q, GError **error);
/* Before any change of guest data. */
int qed_touch (Qed *q, GError **error);
/* Before clusters are taken: a crash may lose some of them. */
int qed_mark_need_check (Qed *q, GError **error);

/* ---- table.c ---- */
uint64_t qed_l1_index (const Qed *q, uint64_t guest);
/* Bytes of the disk that one L2 table maps. */
uint64_t qed_l2_span (const Qed *q);
bool qed_valid_cluster (const Qed *q, uint64_t offset);
bool qed_valid_table (const Qed *q, uint64_t offset);
/* The L2 table for @guest, 0: none.  @nowait: -EAGAIN rather than waiting or failing. */
int qed_l2_table (Qed *q, uint64_t guest, bool nowait, uint64_t *table, GError **error);
/* As above; makes a table where there is none. */
int qed_l2_table_make (Qed *q, uint64_t guest, uint64_t *table, GError **error);
/* Where the slice with the entry for @guest is in @table, and the entry's index in it. */
uint64_t qed_l2_slice (const Qed *q, uint64_t table, uint64_t guest, unsigned *index);
uint64_t qed_entry (const void *slice, unsigned index);
/* Sets entry @index of the L1 table. */
int qed_l1_set (Qed *q, uint64_t index, uint64_t entry, GError **error);

/* ---- write.c ---- */
int qed_alloc (Qed *q, uint64_t clusters, uint64_t *offset, GError **error);
int qed_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error);
int qed_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void qed_cancel (TnNode *node, TnExtent *extents, size_t n);

/* ---- adopt.c ---- */
int qed_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

/* ---- the other callbacks ---- */
int qed_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
             GError **error);
int qed_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
int qed_unmap_range (Qed *q, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
bool qed_has_backing (const Qed *q);
int qed_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
int qed_make_empty (TnNode *node, GError **error);
int qed_set_backing (TnNode *node, const char *filename, const char *format, GError **error);
int qed_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int qed_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error);
int qed_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);
int qed_check_image (Qed *q, uint32_t fix, TnCheck *check, GError **error);

#endif
