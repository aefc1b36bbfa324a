/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow2 format: what its parts share.
 *
 * header.c    header and its extensions, read, checked and written
 * open.c      opening, closing, flushing an image
 * map.c       where guest bytes live
 * l2.c        L1 and L2 tables
 * refcount.c  reference counts and their growth
 * alloc.c     finding and giving back host clusters
 * write.c     reserve, commit, cancel
 * unmap.c     zero clusters and discards
 * pack.c      compressed clusters
 * snapshot.c  the table of internal snapshots
 * snapshot-change.c  making, applying and deleting them
 * crypt.c     encrypted images
 * adopt.c     clusters that hold guest data already
 * bitmap.c    persistent bitmaps
 * bitmap-track.c  recording writes in them, changing and storing them
 * amend.c     changing what an image was created with
 * resize.c, create.c, measure.c, info.c, backing.c, check.c, repair.c
 *
 * Unless a comment says otherwise a function runs in one of the format's serialised callbacks and may wait.
 */
#ifndef QCOW2_H
#define QCOW2_H

#include <tenon/cipher.h>
#include <tenon/codec.h>
#include <tenon/format.h>
#include <tenon/meta.h>

#include <inttypes.h>

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_L1_BYTES (32u << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20)
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_SNAPSHOT_BYTES (64u << 20)
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024u
#define QCOW2_SNAPSHOT_EXTRA 24u /* bytes of extra data that we know */
#define QCOW2_MAX_BITMAPS 65535u
#define QCOW2_MAX_BITMAP_DIRECTORY (QCOW2_MAX_BITMAPS * 1024u)
#define QCOW2_SUBCLUSTERS 32u

#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPAT_KNOWN 0x1full
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (1ull << 1)
#define QCOW2_AUTOCLEAR_KNOWN 0x3ull

#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0)
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_L2_RESERVED 0x3f000000000001feull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

typedef struct Qcow2Header {
  uint32_t version, cluster_bits;
  uint64_t backing_offset;
  uint32_t backing_length;
  uint64_t size;
  uint32_t crypt_method;
  uint32_t l1_size;
  uint64_t l1_offset;
  uint64_t reftable_offset;
  uint32_t reftable_clusters;
  uint32_t snapshot_count;
  uint64_t snapshots_offset;
  uint64_t incompatible, compatible, autoclear;
  uint32_t refcount_order;
  uint32_t length; /* of the header proper */
  uint32_t compression_type;
  GBytes *tail; /* of a header longer than we know; kept as it is */
} Qcow2Header;

/* A header extension that is only kept. */
typedef struct Qcow2Extension {
  uint32_t type;
  GBytes *data;
} Qcow2Extension;

typedef struct Qcow2Snapshot {
  uint64_t l1_offset;
  uint32_t l1_size;
  char *id, *name;
  uint32_t date_sec, date_nsec;
  uint64_t vm_clock_nsec, vm_state_size, disk_size, icount;
  GBytes *extra; /* behind the extra data that we know; kept as it is */
} Qcow2Snapshot;

/* Clusters [first, first + count) lost one reference; it is taken off once the metadata that forgot them is
 * durable. */
typedef struct Qcow2Freed {
  uint64_t first, count;
  bool table; /* an L2 table: cached slices go too */
} Qcow2Freed;

/* A cluster with subclusters that is being written in part, perhaps by several requests at once. */
typedef struct Qcow2Inflight {
  uint64_t host;
  uint32_t users;
  bool linked; /* the L2 entry points to it */
} Qcow2Inflight;

typedef struct Qcow2 {
  TnNode *node; /* NULL while an image is being created */
  TnNode *file;
  TnNode *data;   /* where guest clusters are: file, or the external data file */
  uint32_t flags; /* TnOpenFlags */
  bool writable, corrupt, creating;
  bool touched;   /* what must change in the header before the first write has changed */
  bool lazy;      /* reference counts may lag while the dirty bit is set */
  bool extended;  /* extended L2 entries */
  bool external;  /* guest clusters are in the external data file */
  bool zero_tail; /* what the file grows by reads as zeroes */
  bool adopting;  /* nothing below free_hint is to be taken */

  Qcow2Header header;
  GArray *extensions; /* Qcow2Extension */
  char *backing_name, *backing_format, *data_file_name;
  uint64_t crypt_offset, crypt_length; /* of the LUKS header; 0: none */
  char *secret_id;                     /* of the secret that it was opened with */
  const TnSectorCipher *cipher;        /* the node's; NULL when nothing is encrypted or there is no key */
  uint32_t bitmap_count;
  uint64_t bitmap_directory_size, bitmap_directory_offset;

  uint64_t size; /* of the disk, or of the snapshot that was opened */
  uint32_t cluster_bits, cluster_size;
  uint32_t unit_bits;  /* subcluster, or cluster when there are none */
  uint32_t entry_bits; /* log2 of an L2 entry's size */
  uint32_t l2_bits;    /* log2 of entries in an L2 table */
  uint32_t slice_bits; /* log2 of a cached slice's size */
  uint32_t packed_shift;
  uint64_t packed_offset_mask, packed_sectors_mask;

  uint64_t *l1; /* host order */
  uint32_t l1_size;
  uint64_t l1_offset;
  uint64_t *reftable; /* host order; NULL until it is needed */
  uint32_t reftable_size;
  uint32_t block_bits; /* log2 of counts in a refcount block */
  uint64_t refcount_max;

  TnMetaCache *l1_cache, *l2_cache, *reftable_cache, *refcount_cache;
  uint64_t l2_budget, refcount_budget;

  uint64_t free_hint;   /* no free cluster below this one, except by pending frees */
  uint64_t end_cluster; /* end of what this session has allocated: tables there may not be on disk yet */
  uint64_t packed_next; /* byte after the last compressed cluster, 0: none */
  GArray *freed;        /* Qcow2Freed */
  GArray *forgotten;    /* Qcow2Freed in clusters of the data file, to be punched */
  guint freed_settled, forgotten_settled; /* of these, what the disk does not refer to any more */
  GHashTable *inflight;                   /* guest cluster -> Qcow2Inflight */

  Qcow2Snapshot *snapshots;
  uint32_t snapshot_count;
  uint64_t snapshots_length; /* bytes of the table */
  bool snapshots_loaded;

  GArray *bitmaps;       /* Qcow2Bitmap, while writing; NULL before the first write */
  bool bitmaps_changed;  /* the directory is to be written */
  bool bitmaps_tracking; /* some record writes */
  unsigned unfinished;   /* changes of qcow2_begin_change() that are under way, or have failed */

  const TnCodecOps *codec;
} Qcow2;

/* ---- header.c ---- */
int qcow2_header_read (Qcow2 *q, GError **error);
/* Rewrites the first cluster: header, extensions and backing file name. */
int qcow2_header_write (Qcow2 *q, GError **error);
/* Feature bits only: one sector. */
int qcow2_header_write_features (Qcow2 *q, GError **error);
/* Size, L1 and refcount table fields: one sector. */
int qcow2_header_write_tables (Qcow2 *q, GError **error);
void qcow2_header_clear (Qcow2 *q);
/* Has the header name (or, without bitmaps, not name) the bitmap directory that @q knows of. */
void qcow2_header_set_bitmaps (Qcow2 *q);

/* ---- open.c ---- */
/* Sets the state up from @file; @node may be NULL. */
int qcow2_attach (Qcow2 *q, TnNode *file, const TnOptions *options, GError **error);
void qcow2_detach (Qcow2 *q);
int qcow2_load_tables (Qcow2 *q, GError **error);
int qcow2_sync (Qcow2 *q, GError **error);
/* Flushes, applies pending frees and writes them. */
int qcow2_settle (Qcow2 *q, GError **error);
/* Stable storage for what was written to the file directly. */
int qcow2_barrier (Qcow2 *q, GError **error);
/* Before the first change of an image: autoclear bits, bitmaps in use. */
int qcow2_touch (Qcow2 *q, GError **error);
/* Before reference counts lag behind. */
int qcow2_mark_dirty (Qcow2 *q, GError **error);
/* While a large change of counts is under way: whoever finds the image so after a power cut repairs it. */
int qcow2_begin_change (Qcow2 *q, GError **error);
int qcow2_end_change (Qcow2 *q, GError **error);
int qcow2_clear_dirty (Qcow2 *q, GError **error);
int qcow2_fail (Qcow2 *q, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
/* -EIO; marks a writable image corrupt. */
int qcow2_corrupt (Qcow2 *q, GError **error, const char *format, ...) TN_PRINTF (3, 4);

/* ---- data file, datafile.c ---- */
int qcow2_open_data_file (Qcow2 *q, GError **error);
int qcow2_create_data_file (TnNode *file, const char *name, TnPrealloc prealloc, uint64_t size,
                            GError **error);

/* ---- map.c ---- */
int qcow2_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
               GError **error);
/* What one unit is. */
typedef enum Qcow2Kind {
  QCOW2_KIND_UNALLOCATED,
  QCOW2_KIND_RESERVED_SPACE, /* unallocated or zero subcluster of a cluster that has its place */
  QCOW2_KIND_ZERO,
  QCOW2_KIND_ZERO_PLACED,
  QCOW2_KIND_DATA,
  QCOW2_KIND_PACKED,
  QCOW2_KIND_INVALID
} Qcow2Kind;
typedef struct Qcow2Entry {
  uint64_t raw, bitmap;
} Qcow2Entry;
/* The kind of subcluster @sub (0 when there are none) by the entry's own bits. */
Qcow2Kind qcow2_entry_kind (const Qcow2 *q, Qcow2Entry entry, uint64_t guest, unsigned sub);
/* A compressed entry's place. */
void qcow2_packed_place (const Qcow2 *q, uint64_t raw, uint64_t *offset, uint64_t *length);
/* Whether host bytes touch metadata, as far as is cheap to tell. */
bool qcow2_overlaps_metadata (Qcow2 *q, uint64_t offset, uint64_t length);

static inline Qcow2Entry
qcow2_entry_load (const Qcow2 *q, const void *slice, unsigned index)
{
  const uint8_t *p = (const uint8_t *) slice + ((size_t) index << q->entry_bits);
  return (Qcow2Entry){ tn_load_be64 (p), q->extended ? tn_load_be64 (p + 8) : 0 };
}

static inline void
qcow2_entry_store (const Qcow2 *q, void *slice, unsigned index, Qcow2Entry entry)
{
  uint8_t *p = (uint8_t *) slice + ((size_t) index << q->entry_bits);
  tn_store_be64 (p, entry.raw);
  if (q->extended) {
    tn_store_be64 (p + 8, entry.bitmap);
  }
}

/* Index of @guest's entry in its slice, and entries per slice. */
static inline unsigned
qcow2_slice_entries (const Qcow2 *q)
{
  return 1u << (q->slice_bits - q->entry_bits);
}

static inline unsigned
qcow2_slice_index (const Qcow2 *q, uint64_t guest)
{
  return (unsigned) (guest >> q->cluster_bits) & (qcow2_slice_entries (q) - 1);
}

static inline uint64_t
qcow2_l1_index (const Qcow2 *q, uint64_t guest)
{
  return guest >> (q->cluster_bits + q->l2_bits);
}

static inline uint64_t
qcow2_slice_offset (const Qcow2 *q, uint64_t table, uint64_t guest)
{
  uint64_t index = (guest >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
  return table + ((index << q->entry_bits) & ~((1ull << q->slice_bits) - 1));
}

/* First byte that no table of ours lies behind. */
static inline uint64_t
qcow2_end (const Qcow2 *q)
{
  uint64_t end = tn_node_size (q->file), own = q->end_cluster << q->cluster_bits;
  return MAX (end, own);
}

static inline uint64_t
qcow2_clusters (const Qcow2 *q, uint64_t bytes)
{
  return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}

/* ---- l2.c ---- */
/* NULL when the entry can be used (or is 0), else what is wrong with it. */
const char *qcow2_l1_fault (const Qcow2 *q, uint64_t entry);
/* The slice that holds @guest's entry; *slice is NULL where there is no L2 table. */
int qcow2_l2_get (Qcow2 *q, uint64_t guest, TnMetaSlice **slice, GError **error);
/* As above, making or copying the L2 table when needed: the slice may be changed. */
int qcow2_l2_get_writable (Qcow2 *q, uint64_t guest, TnMetaSlice **slice, GError **error);
/* Declares what L2 changes to come depend on. */
int qcow2_l2_order (Qcow2 *q, bool data, GError **error);
/* Changes one L1 entry, in memory and (ordered after the L2 tables) on disk. */
int qcow2_l1_set (Qcow2 *q, uint64_t index, uint64_t entry, GError **error);
/* Forgets an L2 table with all that it maps; the L1 entry becomes 0. */
int qcow2_l2_drop (Qcow2 *q, uint64_t l1_index, GError **error);
/* Replaces the L1 table by one of @entries entries. */
int qcow2_l1_grow (Qcow2 *q, uint64_t entries, GError **error);
uint64_t qcow2_l1_needed (const Qcow2 *q, uint64_t size);

/* ---- refcount.c ---- */
int qcow2_reftable_load (Qcow2 *q, GError **error);
int qcow2_refcount_get (Qcow2 *q, uint64_t cluster, uint64_t *count, GError **error);
/* Adds @delta (+1 or -1) to the counts of [first, first + n); all or nothing.  Refcount blocks must exist. */
int qcow2_refcount_add (Qcow2 *q, uint64_t first, uint64_t n, int delta, GError **error);
uint64_t qcow2_count_load (const void *block, uint64_t index, unsigned order);
void qcow2_count_store (void *block, uint64_t index, unsigned order, uint64_t value);
/* Whether the count's refcount block exists. */
bool qcow2_refcount_covered (const Qcow2 *q, uint64_t cluster);
/* Makes the missing refcount block for @cluster and puts it there (the cluster is taken then). */
int qcow2_refcount_cover_self (Qcow2 *q, uint64_t cluster, GError **error);
/* Makes every missing refcount block for [first, first + n), placing them behind that. */
int qcow2_refcount_cover (Qcow2 *q, uint64_t first, uint64_t n, GError **error);
/* The same, placing them at or behind @place. */
int qcow2_refcount_cover_from (Qcow2 *q, uint64_t first, uint64_t n, uint64_t place, GError **error);
/* Enlarges the refcount table to cover @cluster. */
int qcow2_reftable_grow (Qcow2 *q, uint64_t cluster, GError **error);
/* The first run of free clusters at or behind @from: at least 1 and at most @want, within one refcount block.
 */
int qcow2_find_free (Qcow2 *q, uint64_t from, uint64_t want, uint64_t *first, uint64_t *count,
                     GError **error);

/* ---- alloc.c ---- */
/* Takes between 1 and @want neighbouring clusters. */
int qcow2_alloc_run (Qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *count, GError **error);
/* Takes exactly @n neighbouring clusters. */
int qcow2_alloc_contiguous (Qcow2 *q, uint64_t n, uint64_t *offset, GError **error);
/* Takes @length bytes for compressed data. */
int qcow2_alloc_packed (Qcow2 *q, uint64_t length, uint64_t *offset, GError **error);
/* Gives back at once what nothing on disk ever referred to. */
void qcow2_alloc_undo (Qcow2 *q, uint64_t offset, uint64_t length);
/* Notes that metadata no longer refers to these bytes; the count drops after the next flush. */
void qcow2_free_later (Qcow2 *q, uint64_t offset, uint64_t length, bool table);
void qcow2_free_entry (Qcow2 *q, Qcow2Entry entry);
/* Clusters of the data file that are written again must not be punched at the next flush. */
void qcow2_keep_external (Qcow2 *q, uint64_t first, uint64_t count);
/* Frees what is settled. */
int qcow2_apply_freed (Qcow2 *q, GError **error);

/* ---- adopt.c ---- */
int qcow2_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);

/* ---- write.c ---- */
int qcow2_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                   GError **error);
int qcow2_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void qcow2_cancel (TnNode *node, TnExtent *extents, size_t n);
int qcow2_reserve_state (Qcow2 *q, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                         GError **error);
int qcow2_commit_extent (Qcow2 *q, TnExtent *extent, GError **error);
void qcow2_cancel_extent (Qcow2 *q, TnExtent *extent);
/* Gives a shared or compressed cluster a place of its own with the same contents. */
int qcow2_unshare_cluster (Qcow2 *q, uint64_t guest, GError **error);

/* ---- unmap.c ---- */
int qcow2_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
int qcow2_unmap_range (Qcow2 *q, uint64_t offset, uint64_t length, uint32_t flags, GError **error);

/* ---- pack.c ---- */
int qcow2_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size,
                size_t *out_length, GError **error);
int qcow2_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
                  size_t out_length, GError **error);
int qcow2_unpack_bytes (Qcow2 *q, const void *in, size_t in_length, void *out, size_t out_length,
                        GError **error);

/* ---- snapshot.c ---- */
int qcow2_snapshots_load (Qcow2 *q, GError **error);
int qcow2_snapshot_use (Qcow2 *q, const char *name, GError **error);
int qcow2_snapshots (TnNode *node, void (*visit) (const TnSnapshot *snapshot, void *opaque), void *opaque,
                     GError **error);
void qcow2_snapshots_free (Qcow2 *q);
const Qcow2Snapshot *qcow2_snapshot_find (const Qcow2 *q, const char *name);

/* ---- snapshot-change.c ---- */
int qcow2_snapshot_change (TnNode *node, uint32_t action, const char *name, GError **error);
/* Writes the table of @n snapshots somewhere else and has the header name it. */
int qcow2_snapshots_store (Qcow2 *q, const Qcow2Snapshot *snapshots, uint32_t n, GError **error);

/* ---- bitmap.c ---- */
#define QCOW2_BITMAP_ENTRY_FIXED 24u
#define QCOW2_BITMAP_IN_USE 1u
#define QCOW2_BITMAP_AUTO 2u /* records writes */
#define QCOW2_BITMAP_EXTRA_OK 4u
#define QCOW2_BITMAP_KNOWN_FLAGS 7u
#define QCOW2_BITMAP_MIN_BITS 9u
#define QCOW2_BITMAP_MAX_BITS 31u
#define QCOW2_BITMAP_MAX_NAME 1023u

typedef struct Qcow2Bitmap {
  uint64_t table_offset;
  uint32_t table_size, flags; /* flags as the image will be left: not in use unless it is inconsistent */
  uint8_t type, granularity_bits;
  uint64_t entry_offset; /* of the directory entry in the file */
  char *name;
  GBytes *extra;
  uint8_t **pages; /* the bits, NULL until they are needed */
  uint64_t n_pages;
  bool changed; /* pages are to be written */
  bool removed; /* by the user; its space is freed once the directory does not name it */
} Qcow2Bitmap;
/* The bitmap directory; free the array with g_array_unref(). */
int qcow2_bitmaps_read (Qcow2 *q, GArray **bitmaps, GError **error);
Qcow2Bitmap *qcow2_bitmap_find (GArray *bitmaps, const char *name);
uint64_t qcow2_bitmap_pages (const Qcow2 *q, unsigned granularity_bits, uint64_t size);
int qcow2_bitmap_read_table (Qcow2 *q, const Qcow2Bitmap *bitmap, uint64_t **table, GError **error);
int qcow2_bitmap_load (Qcow2 *q, Qcow2Bitmap *bitmap, GError **error);
void qcow2_bitmap_set (const Qcow2 *q, Qcow2Bitmap *bitmap, uint64_t offset, uint64_t length);
void qcow2_bitmap_erase (const Qcow2 *q, Qcow2Bitmap *bitmap);
void qcow2_bitmap_fit (const Qcow2 *q, Qcow2Bitmap *bitmap, uint64_t size);
int qcow2_bitmap_visit (TnNode *node, const char *name,
                        int (*dirty) (uint64_t offset, uint64_t length, void *opaque, GError **error),
                        void *opaque, GError **error);

/* ---- bitmap-track.c ---- */
/* Before the first write: those that record writes are loaded, and marked as in use on the disk. */
int qcow2_bitmaps_begin (Qcow2 *q, GError **error);
/* After the last one: writes what has changed. */
int qcow2_bitmaps_end (Qcow2 *q, GError **error);
/* A write there, for those that record writes. */
void qcow2_bitmaps_dirty (Qcow2 *q, uint64_t offset, uint64_t length);
/* Before the disk gets another size. */
int qcow2_bitmaps_resize (Qcow2 *q, uint64_t size, GError **error);
int qcow2_bitmap_change (TnNode *node, uint32_t action, const char *name, uint64_t granularity,
                         GError **error);
int qcow2_bitmap_mark (TnNode *node, const char *name, uint64_t offset, uint64_t length, GError **error);

/* ---- the rest ---- */
int qcow2_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
int qcow2_resize_state (Qcow2 *q, uint64_t size, TnPrealloc prealloc, GError **error);
int qcow2_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int qcow2_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                   GError **error);
/* Bytes of a fully allocated image. */
uint64_t qcow2_full_size (uint64_t size, uint32_t cluster_bits, uint32_t refcount_order, bool extended);
int qcow2_info (TnNode *node, TnInfo *info, GError **error);
int qcow2_bitmaps (TnNode *node, void (*visit) (const TnBitmap *bitmap, void *opaque), void *opaque,
                   GError **error);
char *qcow2_info_specific (TnNode *node, GError **error);
int qcow2_set_backing (TnNode *node, const char *filename, const char *format, GError **error);
int qcow2_make_empty (TnNode *node, GError **error);
int qcow2_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);
int qcow2_check_state (Qcow2 *q, uint32_t fix, TnCheck *check, GError **error);
/* Makes the refcount structures anew with counts of 2^@order bits. */
int qcow2_change_refcount_order (Qcow2 *q, uint32_t order, GError **error);
int qcow2_amend (TnNode *node, const TnOptions *options, GError **error);

/* What create and measure understand. */
typedef struct Qcow2Layout {
  uint32_t version, cluster_bits, refcount_order, compression_type;
  bool lazy, extended, data_file, data_file_raw;
  TnPrealloc prealloc;
} Qcow2Layout;
int qcow2_layout_from_options (const TnOptions *options, Qcow2Layout *layout, GError **error);

#endif
