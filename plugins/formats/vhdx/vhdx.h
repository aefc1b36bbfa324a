/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VHDX, the disk images of Hyper-V.
 *
 * Two headers, of which that with the larger sequence number counts; two copies of a region table, which says
 * where the metadata and the BAT are; a log of changes to these.  The BAT has an entry for each block of the
 * disk, and after those of each chunk one for a bitmap of the chunk's sectors, which matters in differencing
 * images only.
 *
 * A log that was not empty is replayed in memory when the image is opened, and into the file before the first
 * write.  Tenon itself writes no log.  Order on disk: the header with new GUIDs before anything else; data
 * before the BAT's entry for it.  Entries are 8 bytes in a sector, so none is ever half written.  The space
 * of a discarded block is used again after the next flush.
 *
 * vhdx.c     opening, closing, the class     header.c   the headers
 * region.c   regions                         metadata.c what the disk is like
 * log.c      finding what the log has to say
 * overlay.c  the log replayed, in memory     parent.c   parents of differencing images
 * map.c      where blocks are                alloc.c    new blocks, discards
 * create.c   new images                      check.c    check and repair
 * resize.c   the size of the disk
 */
#ifndef VHDX_H
#define VHDX_H

#include <inttypes.h>

#include <tenon/format.h>
#include <tenon/meta.h>

#include "../common/blocktable.h"
#include "../common/random-uuid.h"

#define VHDX_MIB (1u << 20)
#define VHDX_PAGE 4096u
#define VHDX_REGION_AT_1 (192u << 10)
#define VHDX_REGION_AT_2 (256u << 10)
#define VHDX_REGION_SIZE 65536u
#define VHDX_MAX_SIZE (UINT64_C (64) << 40)
#define VHDX_MAX_BLOCK (256u << 20)
#define VHDX_MAX_LOG (64u << 20)
#define VHDX_CHUNK_SECTORS (UINT64_C (1) << 23)
#define VHDX_CACHE_BUDGET (8u << 20)
#define VHDX_OFFSET_MASK UINT64_C (0xfffffffffff00000)

typedef enum VhdxState {
  VHDX_NOT_PRESENT = 0,
  VHDX_UNDEFINED = 1,
  VHDX_ZERO = 2,
  VHDX_UNMAPPED = 3,
  VHDX_PRESENT = 6,
  VHDX_PARTIAL = 7
} VhdxState;

typedef struct VhdxHeader {
  uint64_t sequence;
  uint8_t file_guid[16], data_guid[16], log_guid[16];
  uint16_t log_version, version;
  uint32_t log_length;
  uint64_t log_offset;
} VhdxHeader;

typedef struct VhdxRange {
  uint64_t offset, length;
} VhdxRange;

/* What the log writes: pages over ranges of zeroes over the file. */
typedef struct VhdxOverlay {
  GHashTable *pages; /* uint64_t * → VHDX_PAGE bytes */
  GArray *zeroes;    /* VhdxRange */
  GPtrArray *pins;   /* cached slices that hold what the log writes there */
  uint64_t file_size;
} VhdxOverlay;

typedef struct Vhdx {
  TnNode *node, *file;
  bool writable, touched, parent_known;
  VhdxHeader header;
  unsigned header_slot; /* that holds it: 0 or 1 */
  VhdxOverlay overlay;

  VhdxRange bat_region, metadata_region;
  uint64_t regions_end; /* behind all regions and the log */
  uint64_t size, blocks, bat_entries;
  uint64_t size_at; /* where the file says how large the disk is */
  uint32_t block_size, sector_size, physical_sector_size, chunk_ratio;
  bool has_parent, leaves_allocated;
  uint8_t disk_guid[16];
  BlockTable bat;
  TnMetaCache *bitmaps;
  char *parent_linkage[2], *parent_paths[3]; /* as the locator has them; relative, absolute, volume */

  /* For allocating; from a walk over the BAT before the first time. */
  bool scanned;
  uint64_t end;        /* behind the last block */
  uint64_t fresh_from; /* what the file has from here on reads as zeroes */
  GArray *freed;       /* places given up since the last flush */
  GArray *spare;       /* places to be used again */
} Vhdx;

int TN_PRINTF (4, 5) vhdx_fail (const Vhdx *v, GError **error, int errnum, const char *format, ...);

/* header.c */
void vhdx_header_encode (const VhdxHeader *header, uint8_t page[VHDX_PAGE]);
int vhdx_headers_read (Vhdx *v, GError **error);
/* Before the first change: the log into the file, then a header that says that the image has changed. */
int vhdx_touch (Vhdx *v, GError **error);

/* region.c */
extern const uint8_t vhdx_guid_bat[16], vhdx_guid_metadata[16];
int vhdx_regions_read (Vhdx *v, GError **error);

/* metadata.c */
extern const uint8_t vhdx_guid_file_parameters[16], vhdx_guid_disk_size[16], vhdx_guid_page83[16],
    vhdx_guid_sector_size[16], vhdx_guid_physical_sector_size[16], vhdx_guid_parent_locator[16],
    vhdx_guid_locator_type[16];
int vhdx_metadata_read (Vhdx *v, GError **error);
/* Blocks of a disk of @size bytes, and entries of its BAT. */
uint64_t vhdx_blocks_of (const Vhdx *v, uint64_t size);
uint64_t vhdx_bat_entries_of (const Vhdx *v, uint64_t size);

/* log.c */
int vhdx_log_replay (Vhdx *v, GError **error);

/* overlay.c */
void vhdx_overlay_init (VhdxOverlay *overlay);
void vhdx_overlay_clear (VhdxOverlay *overlay);
bool vhdx_overlay_is_empty (const VhdxOverlay *overlay);
bool vhdx_overlay_add_page (VhdxOverlay *overlay, uint64_t offset, const uint8_t page[VHDX_PAGE]);
bool vhdx_overlay_add_zeroes (VhdxOverlay *overlay, uint64_t offset, uint64_t length);
bool vhdx_overlay_meets (const VhdxOverlay *overlay, uint64_t offset, uint64_t length);
/* Reads the file as it is after the log. */
int vhdx_read (Vhdx *v, uint64_t offset, void *buffer, uint64_t length, GError **error);
/* Puts what the log writes to the BAT and the bitmaps into the caches. */
int vhdx_overlay_pin (Vhdx *v, GError **error);
int vhdx_overlay_write (Vhdx *v, GError **error);
/* Size of the file after the log. */
uint64_t vhdx_file_size (const Vhdx *v);

/* parent.c */
void vhdx_parse_locator (Vhdx *v, const uint8_t *item, uint32_t length);
void vhdx_name_parent (Vhdx *v, uint32_t flags);
int vhdx_check_parent (Vhdx *v, uint32_t flags, GError **error);

/* map.c */
uint64_t vhdx_bat_index (const Vhdx *v, uint64_t block);
/* Why an entry cannot be right, or NULL. */
const char *vhdx_entry_fault (const Vhdx *v, uint64_t block, uint64_t entry);
bool vhdx_kind_is_data (uint64_t entry);
/* On to the entry of block @block, past that of a bitmap. */
bool vhdx_next_entry (const Vhdx *v, BlockCursor *cursor, uint64_t block);
int vhdx_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);

/* alloc.c */
int vhdx_get_entry (Vhdx *v, uint64_t index, uint64_t *entry, GError **error);
int vhdx_set_entry (Vhdx *v, uint64_t index, uint64_t entry, GError **error);
/* Finds the end of the last block or bitmap. */
int vhdx_scan (Vhdx *v, GError **error);
int vhdx_take_places (Vhdx *v, uint32_t *n, uint64_t *place, bool *fresh, GError **error);
int vhdx_flush_state (Vhdx *v, GError **error);
int vhdx_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);
int vhdx_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
/* adopt.c */
int vhdx_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

void vhdx_cancel (TnNode *node, TnExtent *extents, size_t n);
int vhdx_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);

/* resize.c */
int vhdx_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);

int vhdx_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int vhdx_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                  GError **error);
int vhdx_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);

#endif
