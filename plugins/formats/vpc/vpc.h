/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VHD, the disk images of Virtual PC, Hyper-V and Azure.
 *
 * A fixed image is the disk and a footer of 512 bytes.  A dynamic one begins with a copy of its footer and a
 * header; a table (BAT) has the sector at which each block stands, a bitmap of its sectors in front of it;
 * the footer is behind the last block.  A differencing image is a dynamic one whose bitmaps say which sectors
 * it holds; the others are in its parent.
 *
 * In dynamic images all blocks that exist count in full, whatever their bitmaps say, as other programs have
 * it; bitmaps are made all ones before a block is written.  In differencing images a write completes its
 * block from the parent.
 *
 * Order on disk: the footer at the new end and the new block's bitmap and data, then the entry in the BAT.
 * For a block that a differencing image holds in part: data, then its bitmap.
 *
 * vpc.c      opening, closing, the class     footer.c   the footer, geometry, the size of the disk
 * dynamic.c  the header of dynamic images    parent.c   parents of differencing images
 * map.c      where sectors are               alloc.c    new blocks
 * create.c   new images                      check.c    check and repair
 * resize.c   the size of the disk
 */
#ifndef VPC_H
#define VPC_H

#include <inttypes.h>

#include <tenon/format.h>
#include <tenon/meta.h>

#include "../common/blocktable.h"
#include "../common/random-uuid.h"

#define VPC_SECTOR 512u
#define VPC_HEADER_SIZE 1024u
#define VPC_UNUSED 0xffffffffu
#define VPC_MAX_SECTORS UINT64_C (0xff000000) /* 2040 GiB */
#define VPC_MAX_CYLINDERS 65535u
#define VPC_MAX_HEADS 16u
#define VPC_MAX_SPT 255u
#define VPC_MAX_GEOMETRY ((uint64_t) VPC_MAX_CYLINDERS * VPC_MAX_HEADS * VPC_MAX_SPT)
#define VPC_MAX_BLOCK_SIZE (64u << 20)
#define VPC_NO_OFFSET UINT64_MAX
#define VPC_LOCATORS 8u
#define VPC_BAT_BUDGET (8u << 20)
#define VPC_BITMAP_BUDGET (4u << 20)

typedef enum VpcType { VPC_FIXED = 2, VPC_DYNAMIC = 3, VPC_DIFFERENCING = 4 } VpcType;

typedef struct VpcGeometry {
  uint16_t cylinders;
  uint8_t heads, sectors;
} VpcGeometry;

typedef struct VpcFooter {
  uint64_t data_offset, original_size, current_size;
  uint32_t time_stamp; /* seconds since 2000 */
  char creator[5];
  VpcGeometry geometry;
  uint32_t type;
  uint8_t uuid[16];
} VpcFooter;

typedef struct VpcLocator {
  char platform[5];
  uint32_t length;
  uint64_t offset;
} VpcLocator;

typedef struct Vpc {
  TnNode *node, *file;
  bool writable, parent_known, check_parent_time;
  VpcFooter footer;
  uint8_t footer_bytes[VPC_SECTOR]; /* the copy that is right */
  uint64_t size;
  bool size_by_geometry;

  /* Dynamic and differencing images. */
  uint32_t block_size, bitmap_bytes, entries;
  uint32_t blocks; /* entries that the disk needs */
  BlockTable bat;
  TnMetaCache *bitmaps;
  GHashTable *full; /* blocks whose bitmap is known to be all ones */
  uint8_t parent_uuid[16];
  uint32_t parent_time;
  char *parent_name;
  VpcLocator locators[VPC_LOCATORS];

  /* For allocating; from a walk over the BAT before the first time. */
  bool scanned;
  uint64_t end;        /* behind the last block */
  uint64_t fresh_from; /* what the file has from here on reads as zeroes */
  GArray *spare;       /* places of blocks that were cancelled */
} Vpc;

int TN_PRINTF (4, 5) vpc_fail (const Vpc *v, GError **error, int errnum, const char *format, ...);

/* footer.c */
bool vpc_footer_decode (const uint8_t bytes[VPC_SECTOR], VpcFooter *footer);
void vpc_footer_encode (const VpcFooter *footer, uint8_t bytes[VPC_SECTOR]);
uint32_t vpc_checksum (const uint8_t *bytes, size_t length, size_t at);
uint32_t vpc_time (int64_t unix_seconds);
VpcGeometry vpc_geometry (uint64_t sectors);
uint64_t vpc_geometry_sectors (const VpcGeometry *geometry);
/* A geometry of at least so many sectors that is as near as can be, or the largest there is. */
VpcGeometry vpc_geometry_for (uint64_t sectors);
/* The image's footer with another size. */
void vpc_footer_resized (const Vpc *v, uint64_t size, uint8_t bytes[VPC_SECTOR]);
/* Finds the footer; *at_end: of the two copies, whether that at the end is right. */
int vpc_footer_read (Vpc *v, bool *at_end, GError **error);
/* The size of the disk by the rules of the program that made the image; @rule overrides ("chs",
 * "current_size", or NULL). */
int vpc_choose_size (Vpc *v, const char *rule, GError **error);

/* dynamic.c */
int vpc_dynamic_read (Vpc *v, GError **error);
/* The BAT is somewhere else, or longer; both are on stable storage already. */
int vpc_dynamic_change (Vpc *v, uint64_t table, uint32_t entries, GError **error);
/* Another contents for a sector of the headers, at once. */
int vpc_change_sector (Vpc *v, uint64_t at, const uint8_t bytes[VPC_SECTOR], GError **error);

/* parent.c */
void vpc_name_parent (Vpc *v, uint32_t flags);
int vpc_check_parent (Vpc *v, uint32_t flags, GError **error);

/* map.c */
uint64_t vpc_block_end (const Vpc *v, uint32_t entry);
/* Why an entry cannot be right, or NULL. */
const char *vpc_entry_fault (const Vpc *v, uint32_t entry);
int vpc_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
             GError **error);

/* alloc.c */
void vpc_note_full (Vpc *v, uint32_t block);
bool vpc_is_full (const Vpc *v, uint32_t block);
/* Makes the bitmap of a block all ones, if it is not. */
int vpc_fill_bitmap (Vpc *v, uint64_t place, GError **error);
int vpc_get_entry (Vpc *v, uint32_t block, uint32_t *entry, GError **error);
int vpc_set_entry (Vpc *v, uint32_t block, uint32_t entry, GError **error);
/* Finds the end of the last block. */
int vpc_scan (Vpc *v, GError **error);
/* A place for a block, with its bitmap of ones, and the footer behind it. */
int vpc_take_place (Vpc *v, uint64_t *place, bool *fresh, GError **error);
int vpc_flush_state (Vpc *v, GError **error);
int vpc_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error);
int vpc_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void vpc_cancel (TnNode *node, TnExtent *extents, size_t n);
int vpc_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);

/* resize.c */
int vpc_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);

int vpc_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int vpc_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error);
int vpc_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);

#endif
