/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/format.h
 * Image formats.  A format says where bytes live; the core moves them.
 *
 * map() answers for a range; reserve() makes room for a write and commit() publishes it once the core
 * has written there; cancel() gives it back.  The core splits requests, fills the edges of new units
 * from the old contents (copy-on-write), follows backing chains, bends requests to alignment, excludes
 * overlapping requests while units are being allocated or unmapped, packs and unpacks on all
 * processors, and keeps statistics.
 *
 * Rules.
 *  - All callbacks but map() with TN_MAP_NOWAIT run in a coroutine and may wait by calling tn_node_… and
 *    tn_meta_… functions.  The core serialises the callbacks of one node, except pack, unpack, and
 *    everything for a class that sets TN_FORMAT_CONCURRENT_MAP.
 *  - map() with NOWAIT returns -EAGAIN (no error set) as soon as it would have to wait, and never waits.
 *  - Every value read from the image is checked before it is used.  Corruption is -EIO (or -EINVAL in
 *    open) with an error that names table and offset; nothing is written then.
 *  - Space that commit() or unmap() frees must not be handed out again, or punched out of the file, until
 *    the metadata that forgot it is on stable storage (i.e. after the next flush).
 *  - Extents never reach beyond the node's size, except that the last unit of a NEW one may.
 */
#ifndef TENON_FORMAT_H
#define TENON_FORMAT_H

#include <tenon/node.h>
#include <tenon/plugin.h>

#define TN_FORMAT_MAJOR 1
#define TN_FORMAT_MINOR 0

typedef enum TnFormatFlags {
  TN_FORMAT_CONCURRENT_MAP = 1 << 0, /**< locks for itself */
  TN_FORMAT_STATIC_MAP = 1 << 1,     /**< map() depends on nothing but offset and size (raw, fixed VHD) */
  TN_FORMAT_BACKING = 1 << 2,        /**< images may have a backing file */
  TN_FORMAT_PACKS = 1 << 3,          /**< has pack() and unpack() */
  TN_FORMAT_GROWS = 1 << 4,          /**< writing may grow the file child: it is opened with RESIZE */
  TN_FORMAT_ALWAYS_PACKS = 1 << 5, /**< every write is packed, asked for or not; the last unit of a disk comes
                                     to pack() as short as it is */
  TN_FORMAT_NO_GAPS = 1 << 6 /**< places in the file that no unit has count as leaks: in-place conversion
                                gives them to units that read as zeroes, with adopt() */
} TnFormatFlags;

typedef enum TnUnmapFlags {
  TN_UNMAP_ZERO = 1 << 0, /**< the range must read as zeroes afterwards, backing or not */
  TN_UNMAP_RELEASE =
      1 << 1 /**< give the space back (discard, or zeroes with MAY_UNMAP); else keep it allocated */
} TnUnmapFlags;

typedef enum TnReserveFlags {
  TN_RESERVE_PACKED = 1 << 0 /**< room for extent->packed_length encoded bytes of the one unit at offset */
} TnReserveFlags;

typedef struct TnFormatOps {
  uint32_t size;  /**< sizeof (TnFormatOps) */
  uint32_t flags; /**< TnFormatFlags */
  uint32_t instance_size;
  uint32_t reserved;

  /** Second look after the manifest's magic matched: 0 (no) to 100 (certain).  Optional. */
  int (*probe) (const void *head, size_t head_length, const void *tail, size_t tail_length,
                uint64_t file_size);

  /** Reads the headers from the child "file" (already open), sets size, backing, unit.  Must not write with
   *  a read-only node or with TN_OPEN_NO_IO or TN_OPEN_CHECK.  When it fails it frees what it has made:
   * close() is not called. */
  int (*open) (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
  /** Flushes and frees.  Called once, also after a failed flush; reports what could not be written. */
  int (*close) (TnNode *node, GError **error);
  /** Formats the empty, writable @file for a disk of @size bytes.  Options have been checked (backing_file,
   *  backing_fmt, preallocation … as the table says). */
  int (*create) (TnNode *file, const TnOptions *options, uint64_t size, GError **error);

  int (*map) (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);

  /** Makes room for [offset, offset + length): extent->offset is rounded down to a unit, extent->length a
   * multiple of units that covers at least the beginning of the range (the core calls again for the rest).
   * Sets kind DATA, flag NEW, source and source_offset, cookie.  For TN_RESERVE_PACKED: kind PACKED; however
   * long packing takes, packed writes of one node come here in the order in which they were submitted. */
  int (*reserve) (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);
  /** The core has written @n extents of reserve() in full: link them.  After a failure the core cancels those
   * not linked (extent->flags still has NEW). */
  int (*commit) (TnNode *node, TnExtent *extents, size_t n, GError **error);
  /** The write failed or was overtaken: free them. */
  void (*cancel) (TnNode *node, TnExtent *extents, size_t n);

  /** Whole units only (or up to the end of the disk).  -ENOTSUP: the core writes zeroes instead, or ignores a
   * discard. */
  int (*unmap) (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);

  /** Encodes one unit: *out_length ≤ @out_size.  -E2BIG: not smaller, store it plain.  Any thread, touches
   * nothing that changes. */
  int (*pack) (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
               GError **error);
  /** Decodes exactly @out_length bytes (the whole extent) from at most @in_length.  Any thread. */
  int (*unpack) (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                 size_t out_length, GError **error);

  /** All metadata to stable storage, ordered after the data it refers to.  The core flushes the children
   * afterwards, so the last barrier may be left to it (tn_meta_write()). */
  int (*flush) (TnNode *node, GError **error);
  int (*resize) (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
  int (*check) (TnNode *node, uint32_t fix, TnCheck *check, GError **error);
  /** Fills what it knows beyond sizes (cluster_size, dirty, corrupt, encrypted). */
  int (*info) (TnNode *node, TnInfo *info, GError **error);
  /** Members of the "data" object, as text of one JSON object; g_malloc'ed. */
  char *(*info_specific) (TnNode *node, GError **error);
  /** @data: bytes of @source (or of a new disk of @size bytes: 0) that would be allocated is found by calling
   *  tn_node_status() on @source (may be NULL). */
  int (*measure) (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                  GError **error);
  int (*set_backing) (TnNode *node, const char *filename, const char *format, GError **error);
  int (*make_empty) (TnNode *node, GError **error);
  int (*snapshots) (TnNode *node, void (*visit) (const TnSnapshot *snapshot, void *opaque), void *opaque,
                    GError **error);
  int (*amend) (TnNode *node, const TnOptions *options, GError **error);
  /** Runtime options changed, or read-only ↔ writable. */
  int (*reopen) (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
  /** After flush(), once the children are flushed: what flush() wrote is on stable storage.  Other callbacks
   * may have run in between.  Optional. */
  int (*flushed) (TnNode *node, GError **error);
  /** TnSnapshotAction; alone on the node. */
  int (*snapshot) (TnNode *node, uint32_t action, const char *name, GError **error);
  /** TnBitmapAction; alone on the node. */
  int (*bitmap) (TnNode *node, uint32_t action, const char *name, uint64_t granularity, GError **error);
  /** Tells of every run of bytes marked in @name, in ascending order, until @dirty returns less than 0. */
  int (*bitmap_visit) (TnNode *node, const char *name,
                       int (*dirty) (uint64_t offset, uint64_t length, void *opaque, GError **error),
                       void *opaque, GError **error);
  /** Marks a run of bytes in @name; what lies beyond the end is ignored. */
  int (*bitmap_mark) (TnNode *node, const char *name, uint64_t offset, uint64_t length, GError **error);
  /** Makes [@offset, @offset + @length), whole units without a place so far, live at @place of the child
   * "file", where the bytes stand already: they are neither read nor written.  Space that this call needs for
   * metadata is taken beyond the end that "file" had when the node was opened, since what lies before may be
   * adopted next; reserve(), which is not called before the last of these calls, may take what nobody
   * adopted. -ERANGE without an error: the format cannot name that place.  In-place conversion calls this on
   * images that were just made. */
  int (*adopt) (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);
  /** Tells of every bitmap in the image. */
  int (*bitmaps) (TnNode *node, void (*visit) (const TnBitmap *bitmap, void *opaque), void *opaque,
                  GError **error);
} TnFormatOps;

#endif
