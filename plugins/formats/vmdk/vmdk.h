/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMDK format: what its parts share.
 *
 * descriptor.c  the text that names extents, content ids and the parent
 * sparse.c      headers of sparse extents: hosted (KDMV), COWD, seSparse
 * extents.c     from the descriptor to opened, checked extents
 * open.c        opening, closing, flushing an image
 * table.c       grain directories and grain tables
 * map.c         where guest bytes live
 * write.c       reserve, commit, cancel
 * adopt.c       grains that are in the file already
 * unmap.c       zeroed grains and discards
 * resize.c    the size of the disk
 * stream.c      streamOptimized: packing, and the order of its parts in the file
 * create.c, layout.c, measure.c, check.c, info.c
 *
 * A disk is a row of extents.  A flat extent is a piece of a file; a sparse one has a grain directory (GD) of
 * grain tables (GT) whose entries (GTE) say where each grain is.  There is no record of what is free, so
 * grains are taken from the end of the file.  Hosted sparse extents keep both GD and GTs twice.
 */
#ifndef VMDK_H
#define VMDK_H

#include <tenon/format.h>
#include <tenon/meta.h>

#include <inttypes.h>

#define VMDK_SECTOR 512u
#define VMDK_MAX_SLICE 16384u /* of tables in memory */
#define VMDK_NO_PARENT 0xffffffffu
#define VMDK_MAX_DESCRIPTOR (1u << 20)
#define VMDK_MAX_EXTENTS 4096u
#define VMDK_MAX_GD_ENTRIES (1u << 22) /* 128 TiB in the usual grains and tables */
#define VMDK_MIN_GRAIN 512u
#define VMDK_MAX_GRAIN (2u << 20)
#define VMDK_GD_AT_END UINT64_MAX

#define VMDK_HEADER_BYTES 512u
#define VMDK_F_NEWLINES 1u
#define VMDK_F_REDUNDANT 2u
#define VMDK_F_ZEROED 4u
#define VMDK_F_COMPRESSED 0x10000u
#define VMDK_F_MARKERS 0x20000u

#define VMDK_MARKER_BYTES 12u /* before compressed data: first sector of the disk, length */
enum { VMDK_MARKER_END = 0, VMDK_MARKER_GT = 1, VMDK_MARKER_GD = 2, VMDK_MARKER_FOOTER = 3 };

/* ---- The descriptor ---- */

typedef enum VmdkAccess { VMDK_NO_ACCESS, VMDK_READ_ONLY, VMDK_READ_WRITE } VmdkAccess;
typedef enum VmdkType { VMDK_FLAT, VMDK_ZERO, VMDK_SPARSE } VmdkType;

/* One extent line. */
typedef struct VmdkLine {
  VmdkAccess access;
  VmdkType type;
  uint64_t sectors;
  uint64_t first; /* flat: sector in the file */
  char *kind;     /* as written: SPARSE, VMFS … */
  char *name;
} VmdkLine;

typedef struct VmdkDescriptor {
  char *text; /* as it is on the disk, up to the first NUL */
  char *create_type;
  char *parent_hint;
  uint32_t cid, parent_cid;
  bool has_cid;
  GArray *lines; /* VmdkLine */
} VmdkDescriptor;

int vmdk_descriptor_parse (VmdkDescriptor *d, char *text, const char *where, GError **error);
void vmdk_descriptor_clear (VmdkDescriptor *d);
/* The text with another value for @key (NULL: without the line); new lines go below "version". */
char *vmdk_descriptor_with (const char *text, const char *key, const char *value, bool quoted);
/* The text with another length for its one extent, and a geometry to match. */
char *vmdk_descriptor_resized (const char *text, uint64_t sectors);
/* Whether a file that begins so is a descriptor. */
bool vmdk_descriptor_looks_right (const char *head, size_t length);

/* ---- Extents ---- */

/* A sparse extent's header, whichever of the three kinds it is; places in bytes. */
typedef struct VmdkSparse {
  uint32_t version, flags;
  uint64_t capacity; /* bytes */
  uint64_t grain;
  uint32_t gt_entries;
  unsigned entry_bytes; /* 4; seSparse 8 */
  uint64_t gd_offset, gd_entries;
  uint64_t rgd_offset; /* 0: none */
  uint64_t descriptor_offset, descriptor_bytes;
  uint64_t overhead;
  bool compressed, markers, zeroed, sesparse, cowd, at_end;
  uint64_t tables_offset, grains_offset; /* seSparse */
  uint64_t footer_offset;                /* of the header's copy at the end; 0: none */
} VmdkSparse;

/* Grains of this session that nothing refers to. */
typedef struct VmdkRun {
  uint64_t offset, length;
} VmdkRun;

typedef struct VmdkExtent {
  VmdkType type;
  bool may_write; /* the descriptor lets it be written */
  bool writable;
  uint64_t start, length; /* in the guest's disk, bytes */
  TnNode *file;
  char *path;
  uint64_t file_offset; /* flat */

  VmdkSparse sparse;
  uint32_t slice_bytes;
  bool zero_tail; /* what the file grows by reads as zeroes */
  uint64_t end;   /* behind the last grain, written or not */
  GArray *free;   /* VmdkRun: may be used */
  GArray *freed;  /* VmdkRun: may be used after the next flush */
  TnMetaCache *gd, *gt, *rgd, *rgt;
  uint64_t hole, hole_end; /* of the file, which no change of a table waits to be written to */
  uint64_t no_hole_end;    /* from hole_end to here there is no hole */
} VmdkExtent;

typedef struct VmdkStream VmdkStream;

typedef struct Vmdk {
  TnNode *node, *file;
  uint32_t flags; /* TnOpenFlags */
  bool writable, allow_outside;
  bool touched;        /* the content id has changed since it was opened */
  bool parent_checked; /* the parent is what the descriptor says */

  VmdkDescriptor descriptor;
  uint64_t descriptor_offset, descriptor_bytes; /* room for it; bytes 0: a file of its own */
  bool has_descriptor;

  VmdkExtent *extents;
  size_t n_extents;
  uint64_t size;
  uint32_t grain; /* of all sparse extents that can be written; 0: none */
  VmdkStream *stream;
} Vmdk;

/* ---- open.c ---- */
int vmdk_fail (const Vmdk *v, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
int vmdk_corrupt (const VmdkExtent *e, GError **error, const char *format, ...) TN_PRINTF (3, 4);
int vmdk_need_writable (const Vmdk *v, GError **error);
int vmdk_sync (Vmdk *v, GError **error);
/* Before any change of guest data: another content id. */
int vmdk_touch (Vmdk *v, GError **error);
/* The parent must have the content id that the descriptor names. */
int vmdk_check_parent (Vmdk *v, GError **error);
int vmdk_write_descriptor (Vmdk *v, char *text, GError **error);
bool vmdk_has_backing (const Vmdk *v);
/* Content id of a vmdk node; false: it is of another format or has none. */
bool vmdk_node_cid (TnNode *node, uint32_t *cid);

/* ---- sparse.c ---- */
/* @head: the first VMDK_HEADER_BYTES of @file. */
int vmdk_sparse_read (TnNode *file, const uint8_t *head, VmdkSparse *sparse, GError **error);
bool vmdk_sparse_known (const uint8_t *head);
void vmdk_sparse_encode (const VmdkSparse *sparse, uint64_t gd_offset, uint8_t *head);

/* ---- extents.c ---- */
int vmdk_open_extents (Vmdk *v, const uint8_t *head, GError **error);
void vmdk_close_extents (Vmdk *v);
/* Makes opened extents writable or read-only; all or none. */
int vmdk_set_writing (Vmdk *v, bool writing, GError **error);
VmdkExtent *vmdk_extent_at (Vmdk *v, uint64_t offset);

/* ---- table.c ---- */
/* A table entry's run in memory. */
typedef struct VmdkEntries {
  const uint8_t *bytes;
  unsigned n; /* in this slice, from the wanted one on */
  TnMetaSlice *slice;
} VmdkEntries;
int vmdk_entries_get (VmdkExtent *e, TnMetaCache *cache, uint64_t at, uint64_t most, bool nowait,
                      VmdkEntries *entries, GError **error);
/* The same for who only reads: where the file has a hole, it need not be read. */
int vmdk_entries_look (VmdkExtent *e, TnMetaCache *cache, uint64_t at, uint64_t most, bool nowait,
                       VmdkEntries *entries, GError **error);
void vmdk_entries_put (VmdkEntries *entries);
uint64_t vmdk_entry (const VmdkExtent *e, const uint8_t *bytes, unsigned index);
/* Bytes of the disk that one grain table maps. */
uint64_t vmdk_gt_span (const VmdkExtent *e);
uint64_t vmdk_gt_bytes (const VmdkExtent *e);
/* Place of the grain table for the extent's offset @at, 0: none.  @nowait: -EAGAIN rather than waiting or
 * failing. */
int vmdk_table (VmdkExtent *e, bool redundant, uint64_t at, bool nowait, uint64_t *table, GError **error);
/* As vmdk_table() of the first, with an empty table where there is none. */
int vmdk_table_make (VmdkExtent *e, uint64_t at, uint64_t *table, GError **error);
/* Clears a directory entry. */
int vmdk_forget_table (VmdkExtent *e, bool redundant, uint64_t at, GError **error);
/* Sets @n entries from @at (an offset in the extent) on, in both tables: @entry, and with @step that much
 * more for each. */
int vmdk_set_entries (VmdkExtent *e, uint64_t at, uint64_t n, uint32_t entry, uint32_t step, GError **error);
/* Whether a grain may be there. */
bool vmdk_valid_grain (const VmdkExtent *e, uint64_t offset, uint64_t length);
bool vmdk_valid_table (const VmdkExtent *e, uint64_t offset);

/* ---- map.c ---- */
int vmdk_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);
/* What a table entry says. */
uint32_t vmdk_entry_kind (const VmdkExtent *e, uint64_t entry);
uint64_t vmdk_entry_place (const VmdkExtent *e, uint64_t entry);

/* ---- write.c ---- */
int vmdk_alloc (VmdkExtent *e, uint64_t grains, uint64_t *offset, GError **error);
void vmdk_release (VmdkExtent *e, uint64_t offset, uint64_t length);
/* Not to be used again before the next flush. */
void vmdk_free_later (VmdkExtent *e, uint64_t offset, uint64_t length);
void vmdk_release_freed (Vmdk *v);
int vmdk_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);
int vmdk_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void vmdk_cancel (TnNode *node, TnExtent *extents, size_t n);

/* ---- adopt.c ---- */
int vmdk_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

/* ---- unmap.c ---- */
int vmdk_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
int vmdk_make_empty (TnNode *node, GError **error);

/* ---- resize.c ---- */
int vmdk_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);

/* ---- stream.c ---- */
int vmdk_stream_new (Vmdk *v, GError **error);
void vmdk_stream_free (VmdkStream *stream);
int vmdk_stream_entry (Vmdk *v, uint64_t at, uint64_t *entry, GError **error);
int vmdk_stream_reserve (Vmdk *v, uint64_t offset, TnExtent *extent, GError **error);
int vmdk_stream_commit (Vmdk *v, TnExtent *extent, GError **error);
void vmdk_stream_cancel (Vmdk *v, TnExtent *extent);
/* Writes what is left of the tables, the directory and the footer. */
int vmdk_stream_finish (Vmdk *v, GError **error);
int vmdk_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
               GError **error);
int vmdk_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                 size_t out_length, GError **error);
/* Most bytes that a compressed grain may have, marker included. */
uint64_t vmdk_packed_limit (const VmdkExtent *e);

/* ---- layout.c ---- */
/* Header, descriptor and empty tables of a hosted sparse extent of @capacity bytes into the empty @file. */
int vmdk_write_sparse (TnNode *file, const char *descriptor, uint64_t capacity, bool zeroed, GError **error);
int vmdk_write_stream (TnNode *file, const char *descriptor, uint64_t capacity, GError **error);
uint64_t vmdk_sparse_overhead (uint64_t capacity);

/* ---- the other callbacks ---- */
int vmdk_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int vmdk_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                  GError **error);
int vmdk_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);
int vmdk_info (TnNode *node, TnInfo *info, GError **error);
char *vmdk_info_specific (TnNode *node, GError **error);
int vmdk_set_backing (TnNode *node, const char *filename, const char *format, GError **error);

#endif
