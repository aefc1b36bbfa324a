/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Parallels' expanding disk images: what their parts share.
 *
 * header.c     header, read, checked and changed
 * extension.c  the format extension: dirty bitmaps
 * open.c       opening, closing, flushing an image
 * bat.c        the block allocation table (BAT), mapping, reserve, commit, cancel
 * resize.c     growing
 * create.c, check.c
 * plugin.c     the classes
 *
 * bundle.c     .hdd bundles: one disk of several images
 * descriptor.c their DiskDescriptor.xml
 *
 * A file has a header, one BAT and clusters; there is no record of what is free.
 */
#ifndef PARALLELS_H
#define PARALLELS_H

#include "../common/tailspace.h"

#include <tenon/format.h>
#include <tenon/meta.h>

#include <inttypes.h>

#define PARALLELS_MAGIC "WithoutFreeSpace"
#define PARALLELS_MAGIC_EXT "WithouFreSpacExt"
#define PARALLELS_HEADER_BYTES 64u
#define PARALLELS_SECTOR 512u
#define PARALLELS_MAX_TRACKS ((256u << 20) / PARALLELS_SECTOR) /* what the core takes as a unit */
#define PARALLELS_MAX_ENTRIES (INT32_MAX / 4u)
#define PARALLELS_IN_USE 0x746f6e59u
/* Closed by who keeps the format extension; 0: by who does not know of it. */
#define PARALLELS_CLOSED 0x312e3276u

typedef struct ParallelsHeader {
  bool ext; /* offsets count clusters, and sizes have 64 bits */
  uint32_t heads, cylinders;
  uint32_t tracks; /* sectors in a cluster */
  uint32_t entries;
  uint64_t sectors;
  uint32_t in_use;
  uint32_t data_offset; /* in sectors */
  uint32_t flags;
  uint64_t ext_offset; /* in sectors */
} ParallelsHeader;

/* A dirty bitmap in the format extension. */
typedef struct ParallelsBitmap {
  uint8_t id[16];
  uint64_t sectors;
  uint32_t granularity; /* in sectors */
  uint32_t l1_size;
  uint64_t *l1; /* 0, 1, or a place in sectors */
} ParallelsBitmap;

typedef struct Parallels {
  TnNode *node, *file;
  uint32_t flags; /* TnOpenFlags */
  bool writable;
  bool touched;   /* the header says that the image is in use */
  bool zero_tail; /* what the file grows by reads as zeroes */

  ParallelsHeader header;
  uint64_t size;
  uint32_t cluster_size;
  uint64_t data_start; /* of the first cluster */
  uint32_t slice_bytes;
  GArray *bitmaps;     /* ParallelsBitmap */
  bool extension_read; /* and found valid */
  bool must_not_write; /* there is something necessary that is not known here */

  bool adopting;   /* space.end is that of what has been adopted */
  TailSpace space; /* in clusters from data_start on */
  TnMetaCache *bat;
} Parallels;

/* ---- header.c ---- */
int parallels_header_read (Parallels *p, GError **error);
void parallels_header_encode (const ParallelsHeader *h, uint8_t *bytes);
/* Puts the header into the file, and everything else that waits. */
int parallels_header_write (Parallels *p, GError **error);
/* First byte behind a BAT of that many entries. */
uint64_t parallels_bat_end (uint64_t entries);

/* ---- extension.c ---- */
/* Reads the format extension, unless whoever wrote last did not keep it. */
int parallels_extension_read (Parallels *p, GError **error);
void parallels_extension_free (Parallels *p);

/* ---- open.c ---- */
int parallels_fail (const Parallels *p, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
int parallels_corrupt (const Parallels *p, GError **error, const char *format, ...) TN_PRINTF (3, 4);
int parallels_need_writable (const Parallels *p, GError **error);
int parallels_sync (Parallels *p, GError **error);
/* Before the first change. */
int parallels_touch (Parallels *p, GError **error);
extern const TnFormatOps parallels_ops;

/* ---- bat.c ---- */
/* Bytes of the file from a place on that are in clusters, and clusters for bytes. */
uint64_t parallels_host (const Parallels *p, uint32_t entry);
uint32_t parallels_entry (const Parallels *p, uint64_t host);
bool parallels_valid_host (const Parallels *p, uint64_t host, uint64_t index);
int parallels_bat_get (Parallels *p, uint64_t index, uint32_t *entry, GError **error);
int parallels_bat_set (Parallels *p, uint64_t index, uint32_t entry, GError **error);
/* Takes @n clusters; *host is where the first is. */
int parallels_alloc (Parallels *p, uint64_t n, uint64_t *host, GError **error);
/* Makes the file as long as what was taken; cuts it there. */
int parallels_extend (Parallels *p, GError **error);
int parallels_cut (Parallels *p, GError **error);
int parallels_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                   GError **error);
int parallels_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                       GError **error);
int parallels_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void parallels_cancel (TnNode *node, TnExtent *extents, size_t n);

/* adopt.c */
int parallels_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

/* ---- the other callbacks ---- */
int parallels_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
int parallels_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int parallels_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                       GError **error);
int parallels_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);
/* How many BAT entries name a cluster that another one names as well.  Changes nothing. */
int parallels_count_shared (Parallels *p, uint64_t *shared, GError **error);
int parallels_check_image (Parallels *p, uint32_t fix, TnCheck *check, GError **error);

#endif
