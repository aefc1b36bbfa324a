/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VirtualBox's disk images, version 1.1.
 *
 * A header, a block map with a number for each block of the disk, and the blocks.  A number is the block's
 * place among those in the file; there are no gaps between them, and the header says how many there are.
 * A block that is written for the first time goes behind the last one.
 *
 * Order on disk: data, then the header's count, then the entry in the map.  So a cut leaves at worst a place
 * that no entry names; the next block that is allocated fills it.
 *
 * vdi.c      opening, closing, the class     header.c   the header on disk
 * map.c      where blocks are                alloc.c    new blocks, discards
 * move.c     blocks to another place         resize.c   the size of the disk
 * create.c   new images                      check.c    check and repair
 */
#ifndef VDI_H
#define VDI_H

#include <inttypes.h>

#include <tenon/format.h>
#include <tenon/meta.h>

#include "../common/blocktable.h"
#include "../common/random-uuid.h"

#define VDI_SECTOR 512u
#define VDI_UNALLOCATED 0xffffffffu /* in the parent, or zeroes when there is none */
#define VDI_ZERO 0xfffffffeu        /* discarded: zeroes */
#define VDI_MAX_BLOCKS 0x3fffffffu
#define VDI_MAX_BLOCK_SIZE (64u << 20)
#define VDI_MAP_BUDGET (8u << 20)

typedef enum VdiType { VDI_DYNAMIC = 1, VDI_STATIC = 2, VDI_DIFFERENCING = 4 } VdiType;

typedef struct VdiHeader {
  uint32_t type, header_size, map_offset, data_offset;
  uint64_t disk_size;
  uint32_t block_size, block_extra, blocks, allocated;
  uint8_t uuid[16], uuid_modified[16], uuid_parent[16], uuid_parent_modified[16];
} VdiHeader;

typedef struct Vdi {
  TnNode *node, *file;
  bool writable, parent_known;
  VdiHeader header;
  uint64_t size, stride; /* of the disk; from one place in the file to the next */
  BlockTable map;
  TnMetaCache *header_cache;

  /* For allocating; from a walk over the whole map before the first time. */
  bool scanned;
  uint8_t *used;       /* a bit for each place */
  uint32_t next;       /* no place from here on is in use */
  uint32_t holes;      /* places before that which are not */
  uint32_t hole_hint;  /* there is none before */
  uint32_t count;      /* what the header is to say */
  uint64_t fresh_from; /* what the file has from here on reads as zeroes */
} Vdi;

int TN_PRINTF (4, 5) vdi_fail (const Vdi *v, GError **error, int errnum, const char *format, ...);

/* header.c */
int vdi_header_read (Vdi *v, bool tolerant, GError **error);
void vdi_header_encode (const VdiHeader *header, uint8_t sector[VDI_SECTOR]);
/* Another size or another layout: writes these, and nothing else, at once. */
int vdi_header_change (Vdi *v, const VdiHeader *header, GError **error);
/* The count of blocks in the file, in the cached header. */
int vdi_header_set_count (Vdi *v, uint32_t count, GError **error);

/* map.c */
uint64_t vdi_place (const Vdi *v, uint32_t entry);
/* Why an entry cannot be right, or NULL. */
const char *vdi_entry_fault (const Vdi *v, uint32_t entry);
int vdi_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
             GError **error);

/* adopt.c */
int vdi_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

/* alloc.c */
/* Finds all places in use, once. */
int vdi_scan (Vdi *v, GError **error);
/* Takes that very place, which must be free. */
void vdi_take_place (Vdi *v, uint32_t place);
/* What vdi_scan() found is no longer so. */
void vdi_forget_places (Vdi *v);
int vdi_get_entry (Vdi *v, uint64_t block, uint32_t *entry, GError **error);
int vdi_set_entry (Vdi *v, uint64_t block, uint32_t entry, GError **error);
int vdi_flush_state (Vdi *v, GError **error);
int vdi_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error);
int vdi_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void vdi_cancel (TnNode *node, TnExtent *extents, size_t n);
int vdi_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);

/* move.c */
/* Gives @block, which is at place @from, the free place @to; the map is to be flushed before @from is used.
 */
int vdi_move_block (Vdi *v, uint64_t block, uint32_t from, uint32_t to, GError **error);
/* Moves blocks from places behind the first @n_used, of which @used has a bit for each in use, into gaps. */
int vdi_fill_gaps (Vdi *v, uint8_t *used, uint32_t n_used, GError **error);

/* resize.c */
int vdi_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);

/* vdi.c */
void vdi_make_map_cache (Vdi *v);

int vdi_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int vdi_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error);
int vdi_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);

#endif
