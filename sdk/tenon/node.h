/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/node.h
 * The block graph: opening nodes, reading and writing them, asking where their bytes live.
 *
 * A node is one opened instance of a format, protocol or filter class.  Offsets and lengths are
 * bytes everywhere.  A format node has the child "file" and may have "backing" and others; a
 * protocol node is a leaf.  Nodes are counted references.
 *
 * Every function here that may wait can be called inside a coroutine (then it suspends it) or
 * outside (then it iterates the calling thread's loop until it is done).  Data functions may be
 * used from any thread that has a loop, at the same time; functions that change the graph
 * (open, unref of the last reference, resize, set_…) are for one thread at a time per graph.
 */
#ifndef TENON_NODE_H
#define TENON_NODE_H

#include <tenon/loop.h>
#include <tenon/option.h>

/* ---- Requests ---- */

typedef enum TnRequestOp {
  TN_REQUEST_READ = 1,
  TN_REQUEST_WRITE = 2,
  TN_REQUEST_WRITE_ZEROES = 3,
  TN_REQUEST_DISCARD = 4,
  TN_REQUEST_FLUSH = 5
} TnRequestOp;

typedef enum TnRequestFlags {
  TN_REQUEST_FUA = 1 << 0,         /**< the data is on stable storage before done() */
  TN_REQUEST_MAY_UNMAP = 1 << 1,   /**< WRITE_ZEROES: may give space back */
  TN_REQUEST_NO_FALLBACK = 1 << 2, /**< WRITE_ZEROES: fail with -ENOTSUP rather than write zero bytes */
  TN_REQUEST_PACKED = 1 << 3       /**< WRITE: compressed, for formats with pack; whole clusters */
} TnRequestFlags;

/**
 * What a request is for.  Formats and the core mark what they send downwards, for filters that inject faults
 * at named places; nobody else looks at it, and it changes nothing.
 */
typedef enum TnEvent {
  TN_EVENT_NONE = 0, /**< a user's own bytes, or unmarked */
  TN_EVENT_L1_UPDATE = 1,
  TN_EVENT_L2_LOAD = 2,
  TN_EVENT_L2_UPDATE = 3,
  TN_EVENT_REFTABLE_LOAD = 4,
  TN_EVENT_REFTABLE_UPDATE = 5,
  TN_EVENT_REFBLOCK_LOAD = 6,
  TN_EVENT_REFBLOCK_UPDATE = 7,
  TN_EVENT_COW_WRITE = 8 /**< old contents that complete a new unit */
} TnEvent;

/** Bits of the @flags of synchronous and batched requests that become TnRequest.event. */
#define TN_REQUEST_EVENT_SHIFT 16

/**
 * One asynchronous request.  The caller owns it and keeps it, its iovec and buffers until @done, which
 * is called once, in the submitting thread's loop, with 0 or a negative errno value.  @done may be called
 * before the submit function returns.  A read or write is whole or failed, never short.  `core` belongs
 * to the core while the request is under way and needs no initialisation.
 */
struct TnRequest {
  uint8_t op;
  uint8_t event; /**< TnEvent; 0 (NONE) when there is nothing to say */
  uint16_t flags;
  uint32_t n_iov;
  const struct iovec *iov; /**< READ and WRITE: exactly @length bytes in total */
  uint64_t offset;
  uint64_t length;
  void (*done) (TnRequest *request, int result);
  void *opaque;
  uintptr_t core[64];
};

/* ---- Extents ---- */

typedef enum TnExtentKind {
  TN_EXTENT_UNALLOCATED = 0, /**< ask the backing node; zeroes when there is none */
  TN_EXTENT_ZERO = 1,        /**< reads as zeroes */
  TN_EXTENT_DATA = 2,        /**< at @source_offset of @source, byte for byte */
  TN_EXTENT_PACKED = 3 /**< encoded: @packed_length bytes at @source_offset; unpack() gives the extent */
} TnExtentKind;

typedef enum TnExtentFlags {
  TN_EXTENT_WRITABLE = 1 << 0,     /**< DATA may be overwritten where it is (nothing else refers to it) */
  TN_EXTENT_NEW = 1 << 1,          /**< made by reserve(), not yet committed */
  TN_EXTENT_READS_ZERO = 1 << 2,   /**< NEW: the place reads as zeroes already, so no zero needs writing */
  TN_EXTENT_PREALLOCATED = 1 << 3, /**< ZERO with space set aside at @source_offset */
  TN_EXTENT_ENCRYPTED = 1 << 4     /**< pass through the node's cipher */
} TnExtentFlags;

/** Where a run of a node's bytes lives. */
typedef struct TnExtent {
  uint64_t offset, length; /**< in the node asked; a multiple of the allocation unit when NEW */
  uint32_t kind;           /**< TnExtentKind */
  uint32_t flags;          /**< TnExtentFlags */
  TnNode *source;          /**< DATA, PACKED; NULL for a protocol's own bytes */
  uint64_t source_offset;
  uint64_t packed_length; /**< PACKED: bytes to fetch; at least those that unpack() needs */
  uint64_t generation;    /**< the node's map generation when it was made */
  uint64_t cookie[2];     /**< the driver's own */
} TnExtent;

/* ---- Opening ---- */

typedef enum TnOpenFlags {
  TN_OPEN_WRITE = 1 << 0,      /**< else read-only */
  TN_OPEN_NO_BACKING = 1 << 1, /**< do not open the backing chain */
  TN_OPEN_NO_IO = 1 << 2,    /**< only metadata will be looked at (info): open nothing that the image names */
  TN_OPEN_CHECK = 1 << 3,    /**< for check: tolerate what check can report and repair */
  TN_OPEN_DIRECT = 1 << 4,   /**< bypass the host's page cache (cache.direct=on) */
  TN_OPEN_SHARED = 1 << 5,   /**< take no image locks for reading and let others write (force-share) */
  TN_OPEN_NO_FLUSH = 1 << 6, /**< ignore flushes (cache.no-flush=on) */
  TN_OPEN_RESIZE = 1 << 7,   /**< the size may change */
  TN_OPEN_UNTRUSTED = 1 << 8, /**< refuse every reference to another file */
  TN_OPEN_UNMAP = 1 << 9      /**< pass discards down (discard=unmap) */
} TnOpenFlags;

/**
 * Opens the graph that @options describe, as QEMU users write `-blockdev` or image options: `driver`
 * (a format or protocol), `node-name`, `read-only`, `cache.direct`, `cache.no-flush`, `discard`,
 * `force-share`, the class's own options, children as `file.driver=…` or `file=NODE-NAME`, `backing=` (empty:
 * none). Without `driver` the format is probed.  Unknown keys are refused.  *node gets a reference.
 */
TN_API int tn_node_open (const TnOptions *options, uint32_t flags, TnNode **node, GError **error);

/**
 * Opens @filename as tools take it: a path, `json:{…}`, `PROTOCOL:…`, or a URI; @format may be NULL (probe).
 * @options (may be NULL) are added to the top node's.
 */
TN_API int tn_node_open_file (const char *filename, const char *format, const TnOptions *options,
                              uint32_t flags, TnNode **node, GError **error);

TN_API TnNode *tn_node_ref (TnNode *node);
/** Gives a reference back; the last one flushes and closes.  NULL is ignored. */
TN_API void tn_node_unref (TnNode *node);
/** As unref of the last reference, reporting what failed while closing (the node is gone all the same). */
TN_API int tn_node_close (TnNode *node, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnNode, tn_node_unref)

/** The node called @name (`node-name`), without a new reference, or NULL. */
TN_API TnNode *tn_node_find (const char *name);

/** Turns a file name as a user or an image writes it into options; a relative path is taken relative to
 *  the folder of @base (may be NULL).  Paths within json:{…} stay as they are. */
TN_API int tn_node_parse_filename (const char *filename, const char *base, TnOptions **options,
                                   GError **error);

/* ---- Properties ---- */

TN_API const char *tn_node_name (TnNode *node);
/** As the user named it: a path, or json:{…} when there is no shorter spelling. */
TN_API const char *tn_node_filename (TnNode *node);
TN_API const char *tn_node_class_name (TnNode *node);
TN_API const TnClass *tn_node_class (TnNode *node);
TN_API uint64_t tn_node_size (TnNode *node);
TN_API bool tn_node_is_read_only (TnNode *node);
TN_API uint32_t tn_node_open_flags (TnNode *node);
/** The child with that role ("file", "backing", "data-file"), without a new reference, or NULL. */
TN_API TnNode *tn_node_child (TnNode *node, const char *role);
TN_API void tn_node_foreach_child (TnNode *node,
                                   void (*visit) (TnNode *child, const char *role, void *opaque),
                                   void *opaque);
/** Backing file name and format as the image names them, opened or not; NULL when it has none. */
TN_API const char *tn_node_backing_name (TnNode *node);
TN_API const char *tn_node_backing_format (TnNode *node);
/** The backing file name made absolute or relative to the current folder, ready to open; g_free() it; NULL
 * when none. */
TN_API char *tn_node_backing_path (TnNode *node);

/** Alignment and size limits of a node's data requests; the core bends requests to fit. */
typedef struct TnLimits {
  uint32_t request_alignment; /**< offset and length granularity, a power of two, ≥ 1 */
  uint32_t memory_alignment;  /**< buffer alignment, a power of two, ≥ 1 */
  uint64_t max_transfer;      /**< bytes; 0: no limit */
  uint32_t max_iov;           /**< segments; 0: IOV_MAX */
  uint32_t discard_alignment;
  uint64_t max_discard;
  uint64_t max_zeroes;
} TnLimits;
TN_API void tn_node_limits (TnNode *node, TnLimits *limits);
/** The block sizes of the device at the bottom: what it addresses, and what it writes at a time without
 * reading first.  A guest or a client that keeps to them is served best; nobody has to.  0: there is none, or
 * it is not known. */
TN_API void tn_node_block_sizes (TnNode *node, uint32_t *logical, uint32_t *physical);

/** What `info` shows. */
typedef struct TnInfo {
  uint32_t size;         /**< set by the caller to sizeof (TnInfo) */
  uint32_t cluster_size; /**< 0: none */
  uint64_t virtual_size;
  uint64_t allocated; /**< bytes that the file takes on its host; UINT64_MAX: unknown */
  bool dirty, corrupt, encrypted, compressed;
} TnInfo;
TN_API int tn_node_info (TnNode *node, TnInfo *info, GError **error);
/** The format's own particulars as one JSON object {"type": …, "data": {…}} or NULL when it has none;
 * g_free() it. */
TN_API char *tn_node_info_specific (TnNode *node, GError **error);

typedef struct TnSnapshot {
  uint32_t size; /**< sizeof (TnSnapshot) of the core */
  uint32_t reserved;
  const char *id, *name;
  uint64_t vm_state_size;
  uint32_t date_sec, date_nsec;
  uint64_t vm_clock_nsec;
  uint64_t icount;       /**< UINT64_MAX: none */
  uint64_t virtual_size; /**< disk size at the time */
} TnSnapshot;
TN_API int tn_node_snapshots (TnNode *node, void (*visit) (const TnSnapshot *snapshot, void *opaque),
                              void *opaque, GError **error);
typedef enum TnSnapshotAction {
  TN_SNAPSHOT_CREATE = 1, /**< keep the present contents under that name */
  TN_SNAPSHOT_APPLY = 2,  /**< make them the present contents again */
  TN_SNAPSHOT_DELETE = 3
} TnSnapshotAction;
/** Changes the internal snapshots; nothing else may be under way on @node.  @name is a name or an id. */
TN_API int tn_node_snapshot (TnNode *node, TnSnapshotAction action, const char *name, GError **error);

/* ---- Data ---- */

/*
 * A range must lie within the node; a read of a protocol node may go beyond its end, where there are zeroes,
 * and a write may where the node can grow (TN_OPEN_RESIZE).
 */

/** Starts @request; see TnRequest.  Never waits, in or outside coroutines. */
TN_API void tn_node_submit (TnNode *node, TnRequest *request);

TN_API int tn_node_read (TnNode *node, uint64_t offset, void *buffer, uint64_t length, GError **error);
TN_API int tn_node_write (TnNode *node, uint64_t offset, const void *buffer, uint64_t length, GError **error);
TN_API int tn_node_readv (TnNode *node, uint64_t offset, const struct iovec *iov, unsigned n_iov,
                          GError **error);
TN_API int tn_node_writev (TnNode *node, uint64_t offset, const struct iovec *iov, unsigned n_iov,
                           uint32_t flags, GError **error);
TN_API int tn_node_write_zeroes (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags,
                                 GError **error);
TN_API int tn_node_discard (TnNode *node, uint64_t offset, uint64_t length, GError **error);
/** Everything written before is on stable storage, metadata included, in crash-safe order. */
TN_API int tn_node_flush (TnNode *node, GError **error);

/** Copies between leaves inside the kernel (reflink, copy_file_range) when both ends allow it: bytes copied,
 * or -ENOTSUP. */
TN_API int64_t tn_node_copy_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset,
                                   uint64_t length, GError **error);

/** Lets @to share what @from stores, where the file system can (reflink): no byte is moved.  Where @to is a
 * format, places for it are allocated.  The bytes shared, from the beginning, or -ENOTSUP: then nothing has
 * been changed and the caller copies. */
TN_API int64_t tn_node_share_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset,
                                    uint64_t length, GError **error);

/* ---- Media ---- */

/*
 * For drives whose medium can be taken out; asked of the first node from @node downwards whose class can do
 * it. -ENOTSUP: there is none.  A node keeps the size that it was opened with: another medium is opened anew.
 */

/** Whether there is a medium: 1 or 0.  1 also where none can be taken out. */
TN_API int tn_node_is_inserted (TnNode *node, GError **error);
/** Whether it was exchanged since this was asked last: 1 or 0. */
TN_API int tn_node_medium_changed (TnNode *node, GError **error);
/** Puts the medium out, or (@open false) draws the tray in. */
TN_API int tn_node_eject (TnNode *node, bool open, GError **error);
/** Keeps it from being taken out by hand, or no longer. */
TN_API int tn_node_lock_medium (TnNode *node, bool locked, GError **error);

/* ---- Breakpoints ---- */

typedef enum TnBreakAction {
  TN_BREAK_SET = 1,    /**< the next request that comes to @event stops and is called @tag */
  TN_BREAK_RESUME = 2, /**< a request called @tag goes on */
  TN_BREAK_REMOVE = 3, /**< forget breakpoints called @tag, resume what they stopped; NULL: all */
  TN_BREAK_STOPPED = 4 /**< 1 if a request called @tag is stopped, else 0 */
} TnBreakAction;
/** Stops requests at named events, and lets them go on; done by the first node from @node downwards whose
 * class can do it (`blkdebug`).  -ENOTSUP: there is none; -ENOENT: no such event or tag.  @event is for SET
 * only. */
TN_API int tn_node_breakpoint (TnNode *node, TnBreakAction action, const char *event, const char *tag,
                               GError **error);

/* ---- Maps ---- */

typedef enum TnMapFlags {
  TN_MAP_NOWAIT = 1 << 0, /**< answer from memory or return -EAGAIN */
  TN_MAP_WRITE = 1 << 1,  /**< the caller wants to write there */
  TN_MAP_PRECISE = 1 << 2 /**< look for holes below too, even if that costs */
} TnMapFlags;

/** Asks one node where the bytes at @offset live: extent->offset ≤ @offset < extent->offset + extent->length.
 *  The extent may be shorter or longer than @length. */
TN_API int tn_node_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                        GError **error);

/** What a reader of the whole chain sees at @offset, and how far it goes on the same. */
typedef struct TnStatus {
  uint64_t length; /**< from the offset asked */
  bool data;       /**< false: nothing is stored there */
  bool zero;       /**< reads as zeroes */
  bool packed;
  bool allocated;  /**< in one of the nodes looked at */
  bool has_offset; /**< @host_offset is valid: bytes stand there unencoded */
  uint32_t depth;  /**< 0: the node itself; 1: its backing node … */
  uint64_t host_offset;
  TnNode *host; /**< leaf that holds them; no reference */
} TnStatus;

/** Block status of the chain from @node down to but not including @base (NULL: to the end). */
TN_API int tn_node_status (TnNode *node, TnNode *base, uint64_t offset, uint64_t length, TnStatus *status,
                           GError **error);

/* ---- Management ---- */

typedef enum TnPrealloc {
  TN_PREALLOC_OFF = 0,
  TN_PREALLOC_METADATA = 1,
  TN_PREALLOC_FALLOC = 2,
  TN_PREALLOC_FULL = 3
} TnPrealloc;

TN_API int tn_node_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
/** The size that the storage of a protocol or filter node has now: somebody else may have resized a device.
 * The node keeps its own until tn_node_resize(). */
TN_API int tn_node_current_size (TnNode *node, uint64_t *size, GError **error);

/**
 * Creates an image: the options hold `driver` (a format or protocol), `size`, the class's create options, and
 * `filename` for the protocol below.  Refuses without touching anything when an option is wrong; a file that
 * it made is removed again when a later step fails.
 */
TN_API int tn_image_create (const char *filename, const char *format, const TnOptions *options, uint64_t size,
                            GError **error);

typedef struct TnMeasure {
  uint32_t size; /**< set by the caller to sizeof (TnMeasure) */
  uint32_t reserved;
  uint64_t required;        /**< bytes that the image needs for the data it would hold now */
  uint64_t fully_allocated; /**< bytes when all is allocated */
  uint64_t bitmaps;         /**< bytes for bitmaps; UINT64_MAX: not applicable */
} TnMeasure;
/** How large an image of @format made with @options would be: for the contents of @source, or (NULL) for
 * @size bytes of nothing. */
TN_API int tn_image_measure (const char *format, const TnOptions *options, TnNode *source, uint64_t size,
                             TnMeasure *measure, GError **error);

typedef enum TnCheckFix { TN_CHECK_FIX_LEAKS = 1 << 0, TN_CHECK_FIX_ERRORS = 1 << 1 } TnCheckFix;

typedef struct TnCheck {
  uint32_t size; /**< set by the caller to sizeof (TnCheck) */
  uint32_t reserved;
  uint64_t corruptions, leaks, check_errors;
  uint64_t corruptions_fixed, leaks_fixed;
  uint64_t image_end_offset; /**< first byte after the last in use */
  uint64_t total_clusters, allocated_clusters, compressed_clusters, fragmented_clusters;
  /** Called for every finding, one line, no newline; may be NULL. */
  void (*report) (const char *line, bool is_error, void *opaque);
  void *opaque;
} TnCheck;
/** Checks and, with @fix (TnCheckFix bits), repairs.  -ENOTSUP when the format has no check. */
TN_API int tn_node_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error);

/** Writes another backing reference into the image (NULL: none), without touching data. */
TN_API int tn_node_set_backing_reference (TnNode *node, const char *filename, const char *format,
                                          GError **error);
/** Replaces the opened backing child in memory; takes its own reference. */
TN_API int tn_node_replace_backing (TnNode *node, TnNode *backing, GError **error);
/** Drops all data of this layer, so that every byte comes from the backing node. */
TN_API int tn_node_make_empty (TnNode *node, GError **error);
/** A dirty bitmap that an image keeps. */
typedef struct TnBitmap {
  uint32_t size;     /**< sizeof (TnBitmap) of the core */
  bool recording;    /**< marks what is written */
  bool inconsistent; /**< was not stored when it should have been: what it says cannot be trusted */
  const char *name;
  uint64_t granularity; /**< bytes per bit */
} TnBitmap;
/** Tells of every dirty bitmap of the image; none when its format has no such thing. */
TN_API int tn_node_bitmaps (TnNode *node, void (*visit) (const TnBitmap *bitmap, void *opaque), void *opaque,
                            GError **error);
/** Calls @dirty for every run of bytes that the bitmap @name of the image marks, in ascending order, until it
 * returns less than 0.  The last run may reach beyond the end of the disk.  For an export that tells its
 * clients what has changed. */
TN_API int tn_node_bitmap_visit (TnNode *node, const char *name,
                                 int (*dirty) (uint64_t offset, uint64_t length, void *opaque,
                                               GError **error),
                                 void *opaque, GError **error);
typedef enum TnBitmapAction {
  TN_BITMAP_ADD = 1,
  TN_BITMAP_REMOVE = 2,
  TN_BITMAP_CLEAR = 3,
  TN_BITMAP_ENABLE = 4,
  TN_BITMAP_DISABLE = 5
} TnBitmapAction;
/** Changes the dirty bitmap @name that the image keeps.  @granularity: bytes per bit, for ADD; 0: the usual.
 */
TN_API int tn_node_bitmap (TnNode *node, TnBitmapAction action, const char *name, uint64_t granularity,
                           GError **error);
/** Marks in @name of @node all that is marked in @from_name of @from (which may be @node). */
TN_API int tn_node_bitmap_merge (TnNode *node, const char *name, TnNode *from, const char *from_name,
                                 GError **error);
/** Changes what the image was created with, as far as its format can; see the format's options that can be
 * amended. */
TN_API int tn_node_amend (TnNode *node, const TnOptions *options, GError **error);
/** Makes whole units of a format node (see tn_node_allocation_unit()) live at @place of its child "file",
 * where their bytes stand already; see TnFormatOps.adopt.  Succeeds too when they live there anyhow.  -ERANGE
 * without an error: they cannot live there. */
TN_API int tn_node_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error);
/** Whether tn_node_adopt() can do more than find that bytes are in place anyhow. */
TN_API bool tn_node_can_adopt (TnNode *node);
/** Bytes that a format allocates at a time; 0: it does not allocate. */
TN_API uint32_t tn_node_allocation_unit (TnNode *node);
/** Changes open flags (WRITE, DIRECT, NO_FLUSH) and runtime options while requests may be under way.  Options
 * of nodes below have their role in front: `file.aio`. */
TN_API int tn_node_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
/** Waits until no request is under way in this graph. */
TN_API void tn_node_drain (TnNode *node);

/** Counters of one node; read without stopping anything. */
typedef struct TnNodeStats {
  uint32_t size; /**< set by the caller to sizeof (TnNodeStats) */
  uint32_t reserved;
  uint64_t read_requests, write_requests, flush_requests, discard_requests, zero_requests;
  uint64_t read_bytes, write_bytes, discard_bytes, zero_bytes;
  uint64_t fast; /**< requests that needed no coroutine */
  uint64_t failed;
  uint64_t cow_bytes; /**< copied to complete allocation units */
} TnNodeStats;
TN_API void tn_node_stats (TnNode *node, TnNodeStats *stats);

/* ---- For drivers ---- */

/** The driver's instance state (instance_size zeroed bytes). */
TN_API void *tn_node_state (TnNode *node);
/** Opens a further child from the options below @role (or from @options, when given), with what this node may
 * do. The node keeps the reference and drops it after close(): a driver must not. */
TN_API int tn_node_open_child (TnNode *node, const char *role, const TnOptions *options, TnNode **child,
                               GError **error);
/** Whether the options given for this node describe a child of that role (`data-file=…`,
 * `data-file.filename=…`). In open() only. */
TN_API bool tn_node_child_described (TnNode *node, const char *role);
/** Called by open(): the virtual size; by the core after resize(). */
TN_API void tn_node_set_size (TnNode *node, uint64_t size);
/** Called by open(): what the image says of its backing file.  The core opens it afterwards, by policy. */
TN_API void tn_node_set_backing (TnNode *node, const char *filename, const char *format);
/** Called by open(): bytes that reserve() hands out at a time (cluster, grain, block); requests that allocate
 *  exclude each other within one unit.  At most 256 MiB. */
TN_API void tn_node_set_allocation_unit (TnNode *node, uint32_t bytes);
/** Called by open(): bytes that pack() encodes at a time, where that is not the allocation unit (qcow2's
 * subclusters are allocated one by one, but only whole clusters are compressed). */
TN_API void tn_node_set_pack_unit (TnNode *node, uint32_t bytes);
/** Called by open() and reopen(), for formats of which only some images are so: every write to this node is
 * packed, as with TN_FORMAT_ALWAYS_PACKS.  Units that a request covers in part are completed with what is
 * there before, the last one of the disk with zeroes; pack() gets room for somewhat more than a unit and has
 * to make do with it. */
TN_API void tn_node_set_always_packed (TnNode *node, bool always);
/** Whether a node is of that kind.  Writing single units to it uses all processors. */
TN_API bool tn_node_always_packed (TnNode *node);
/** Called by open(): limits of this node's own requests. */
TN_API void tn_node_set_limits (TnNode *node, const TnLimits *limits);
/** Called by open(): see tn_node_block_sizes(). */
TN_API void tn_node_set_block_sizes (TnNode *node, uint32_t logical, uint32_t physical);
/** The map changed other than by commit and unmap through the core: extents made before are stale. */
TN_API void tn_node_bump_generation (TnNode *node);

#endif
