/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the block layer share. */
#ifndef TN_BLOCK_INTERNAL_H
#define TN_BLOCK_INTERNAL_H

#include <tenon/cipher.h>
#include <tenon/drive.h>
#include <tenon/format.h>
#include <tenon/meta.h>
#include <tenon/protocol.h>

/* What a file name without a protocol, and an image without a known magic number, are taken for. */
#define TN_DEFAULT_PROTOCOL "file"
#define TN_DEFAULT_FORMAT "raw"

#define TN_MAX_CHAIN 200          /* nodes of one backing chain */
#define TN_MAX_UNIT (256u << 20)  /* the largest allocation unit that is believed */
#define TN_MAX_PACKED (16u << 20) /* the largest encoded extent, either side */
#define TN_CHUNK (1u << 20)       /* how much is copied or bounced at a time */
#define TN_PROBE_HEAD 4096
#define TN_PROBE_TAIL 1024

#define TN_SHARED_ALL (TN_PERM_CONSISTENT_READ | TN_PERM_WRITE | TN_PERM_WRITE_UNCHANGED | TN_PERM_RESIZE)

/* ---- Small tools ---- */

/* A lock for a few instructions; zero-filled is free. */
typedef struct TnSpin {
  uint32_t taken;
} TnSpin;

static inline void
tn_spin_lock (TnSpin *spin)
{
  while (__atomic_exchange_n (&spin->taken, 1, __ATOMIC_ACQUIRE))
    while (__atomic_load_n (&spin->taken, __ATOMIC_RELAXED))
      g_thread_yield ();
}

static inline void
tn_spin_unlock (TnSpin *spin)
{
  __atomic_store_n (&spin->taken, 0, __ATOMIC_RELEASE);
}

static inline uint64_t
tn_round_down (uint64_t value, uint64_t unit)
{
  return value - value % unit;
}

/* Rounds up, to the last multiple below 2^64 when there is none above. */
static inline uint64_t
tn_round_up (uint64_t value, uint64_t unit)
{
  uint64_t rest = value % unit;
  if (!rest)
    return value;
  return value > UINT64_MAX - unit ? value - rest : value - rest + unit;
}

/* What a callback returned, without counts.  MIN would call it twice. */
static inline int
tn_failure (int rc)
{
  return rc < 0 ? rc : 0;
}

static inline bool
tn_is_power_of_2 (uint64_t value)
{
  return value && !(value & (value - 1));
}

/* iov.c: parts of a vector.  @out must have room for as many elements as @iov; returns how many were made. */
unsigned tn_iov_slice (const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length,
                       struct iovec *out);
void tn_iov_zero (const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length);
void tn_iov_from_buffer (const struct iovec *iov, unsigned n, uint64_t skip, const void *buffer,
                         uint64_t length);
void tn_iov_to_buffer (const struct iovec *iov, unsigned n, uint64_t skip, void *buffer, uint64_t length);
bool tn_iov_is_zero (const struct iovec *iov, unsigned n);
/* Zero bytes, never written to. */
const void *tn_zero_page (size_t *length);
/* Aligned memory that may be free()d, or NULL. */
void *tn_buffer_new (size_t length);

/* ---- Conflicts (inflight.c) ---- */

/* A range of a node being read or written.  Exclusive ones wait for all that overlap, plain ones only for
 * exclusive ones; whoever asks first is served first. */
typedef struct TnTrack {
  struct TnTrack *next, **link;
  uint64_t start, end;
  TnNode *node;
  TnCoroutine *waiter; /* while queued */
  bool exclusive;
} TnTrack;

typedef struct TnInflight {
  TnSpin spin;
  TnTrack *plain, *exclusive;
  TnTrack *queue, **queue_end;
} TnInflight;

/* Enters a plain range unless that would have to wait. */
bool tn_track_try (TnTrack *track, TnNode *node, uint64_t offset, uint64_t length);
/* Enters, waiting in a coroutine. */
void tn_track_enter (TnTrack *track, TnNode *node, uint64_t start, uint64_t end, bool exclusive);
void tn_track_leave (TnTrack *track);

/* ---- What is under way (underway.c) ---- */

/* A count that coroutines can wait for to become 0.  Zero-filled is none. */
typedef struct TnUnderway {
  uint32_t count; /* atomic; the highest bit: somebody waits */
  TnSpin spin;
  GSList *waiters; /* TnCoroutine * */
} TnUnderway;

#define TN_UNDERWAY_AWAITED 0x80000000u

void tn_underway_wake (TnUnderway *underway);
/* In a coroutine. */
void tn_underway_wait (TnUnderway *underway);

static inline void
tn_underway_enter (TnUnderway *underway)
{
  __atomic_add_fetch (&underway->count, 1, __ATOMIC_SEQ_CST);
}

static inline void
tn_underway_leave (TnUnderway *underway)
{
  /* One access tells both: afterwards the object may be gone, unless somebody waits. */
  if (__atomic_sub_fetch (&underway->count, 1, __ATOMIC_SEQ_CST) == TN_UNDERWAY_AWAITED)
    tn_underway_wake (underway);
}

void tn_wake_all (GSList *coroutines);

/* ---- Nodes ---- */

typedef struct TnChild {
  char *role;
  TnNode *node;
} TnChild;

/* Packed writes reserve in the order in which they came (pack.c). */
typedef struct TnPackOrder {
  TnSpin spin;
  uint64_t tickets, turn; /* given out; whose turn it is */
  GSList *waiters;        /* TnPackWaiter * */
} TnPackOrder;

/* Decoded contents of packed extents (pack.c). */
typedef struct TnUnpacked TnUnpacked;

typedef struct TnNodeCounters {
  uint64_t requests[6], bytes[6]; /* by TnRequestOp */
  uint64_t fast, failed, cow_bytes;
} TnNodeCounters;

/* What is being opened, from the top down; lives as long as one tn_node_open(). */
typedef struct TnOpening {
  unsigned depth;
  GPtrArray *identities; /* char *, of the leaves opened so far along this chain */
} TnOpening;

/* Empties a file that is about to be formatted (create.c). */
typedef struct TnRenewal TnRenewal;

struct TnNode {
  /* Set while opening, or while no request is under way. */
  const TnClass *class;
  void *state;
  TnNode *file, *backing;
  bool is_format;
  bool is_filter;
  bool locks_map;        /* map() must be called under map_mutex */
  bool tracked;          /* requests are entered in `inflight` */
  bool bends;            /* requests may have to be bent to the limits */
  bool own_limits;       /* the driver has set them */
  bool grows;            /* writes may go beyond the end */
  bool probed_raw;       /* taken for raw because nothing was recognised: must not become something else */
  uint8_t detect_zeroes; /* 1: on, 2: unmap */
  bool opened;           /* the driver's open() has succeeded */
  bool cipher_by_place;
  bool opening;       /* one thread, no requests but open()'s own */
  TnRenewal *renewal; /* atomic: holds what is to be overwritten, until the first change; or NULL */
  uint32_t unit;
  uint32_t pack_unit; /* 0: the same */
  bool always_packed; /* this one of several kinds of images: every write is packed */
  uint32_t flags;     /* atomic */
  uint64_t size;      /* atomic */
  TnLimits limits;
  uint32_t logical_block, physical_block; /* of a device */
  TnSectorCipher *cipher;                 /* of extents that are encrypted */

  /* Under way. */
  TnUnderway underway;
  uint32_t gate;    /* atomic: new requests wait */
  uint64_t written; /* atomic: writes that have completed here */
  uint64_t flushed; /* atomic: value of `written` that the last flush covered */
  uint64_t generation;
  TnCoMutex map_mutex;
  TnCoMutex flush_mutex; /* also: growing */
  TnInflight inflight;
  TnSpin gate_spin;
  GSList *gated; /* TnCoroutine *, under gate_spin */
  TnUnpacked *unpacked;
  TnPackOrder pack_order;
  void *meta_domain; /* meta.c: what the caches over this node share */
  TnNodeCounters counters;

  TnFormatOps format;
  TnProtocolOps protocol;
  gint references;
  char *name, *filename, *identity;
  char *backing_name, *backing_format;
  GArray *children;             /* TnChild */
  GSList *parents;              /* TnNode *, once per edge */
  TnOptions *options;           /* of this node, checked */
  TnOptions *open_options;      /* not yet taken, while opening */
  TnOpening *context;           /* while opening */
  uint32_t permissions, shared; /* as set_permissions() was last told */
};

static inline uint64_t
tn_node_size_now (TnNode *node)
{
  return __atomic_load_n (&node->size, __ATOMIC_RELAXED);
}

static inline uint32_t
tn_node_flags_now (TnNode *node)
{
  return __atomic_load_n (&node->flags, __ATOMIC_RELAXED);
}

static inline void
tn_count (uint64_t *counter, uint64_t amount)
{
  __atomic_fetch_add (counter, amount, __ATOMIC_RELAXED);
}

/* ---- Requests (request.c) ---- */

/* TnRequest.core: the drive's words, the node's, the leaf's (TN_REQUEST_LEAF_WORDS). */
#define TN_REQUEST_DRIVE_WORDS 6
#define TN_MAX_FAST_TRACKS 3

typedef struct TnRequestState {
  TnNode *node;
  TnNode *leaf; /* that got the request in the end */
  void (*done) (TnRequest *request, int result);
  void *opaque;
  uint64_t offset;
  GError **error; /* may be NULL; wanted by synchronous callers only */
  uint32_t n_tracks;
  bool entered; /* counted in node->underway */
  TnTrack tracks[TN_MAX_FAST_TRACKS];
} TnRequestState;

G_STATIC_ASSERT (sizeof (TnRequestState) / sizeof (uintptr_t) + TN_REQUEST_DRIVE_WORDS + TN_REQUEST_LEAF_WORDS
                 <= G_N_ELEMENTS (((TnRequest *) 0)->core));

static inline TnRequestState *
tn_request_state (TnRequest *request)
{
  return (TnRequestState *) (request->core + TN_REQUEST_DRIVE_WORDS);
}

static inline void *
tn_request_drive_state (TnRequest *request)
{
  return request->core;
}

/* As tn_node_submit(); a driver's error goes to *error before done(). */
void tn_node_submit_with_error (TnNode *node, TnRequest *request, GError **error);
/* Runs one request to its end, in or outside a coroutine. */
int tn_node_do (TnNode *node, TnRequestOp op, uint64_t offset, uint64_t length, const struct iovec *iov,
                unsigned n_iov, uint32_t flags, GError **error);

/* Keeps new requests out and waits for those under way; counted.  In a coroutine. */
void tn_node_quiesce (TnNode *node);
void tn_node_resume (TnNode *node);
/* Counts something under way, or refuses because of a gate. */
bool tn_node_enter (TnNode *node);
/* Ends what tn_node_enter() began. */
void tn_node_leave (TnNode *node);
/* In a coroutine: enters, waiting at the gate. */
void tn_node_enter_wait (TnNode *node);

/* ---- Leaves (leaf.c) ---- */

/* Whether a READ or WRITE may be given to the leaf as it is. */
bool tn_leaf_fits (TnNode *leaf, const TnRequest *request, uint64_t offset);
/* Hands over a request that fits, or another operation that needs no bending. */
void tn_leaf_submit (TnNode *leaf, TnRequest *request);
/* After a write of any kind: counts it for flushes, and growth. */
void tn_leaf_written (TnNode *leaf, uint64_t offset, uint64_t length, int result);
/* In a coroutine: any request, bent to the limits. */
int tn_leaf_request (TnNode *leaf, TnRequest *request, GError **error);

/* ---- The slow path, in coroutines (route.c, cow.c, zero.c) ---- */

/* Several requests to children under way at a time, of one coroutine. */
typedef struct TnBatch {
  TnCoroutine *waiter;
  unsigned pending;
  unsigned wake_at; /* wakes the waiter when no more than this are pending */
  int result;
} TnBatch;

/* Starts a part: @length bytes at @skip in @iov, of which the array (not the bytes) is copied; waits while
 * many are under way. */
void tn_batch_submit (TnBatch *batch, TnNode *node, TnRequestOp op, uint64_t offset, const struct iovec *iov,
                      unsigned n_iov, uint64_t skip, uint64_t length, uint32_t flags);
/* Waits for all; the first failure. */
int tn_batch_wait (TnBatch *batch);

/* The caller's bytes: those of node offset X stand X - @base into the vector. */
typedef struct TnData {
  const struct iovec *iov;
  unsigned n_iov;
  uint64_t base;
} TnData;

static inline TnData
tn_request_data (const TnRequest *request)
{
  return (TnData){ request->iov, request->n_iov, request->offset };
}

/* Starts a transfer of the bytes of @data that belong at @offset to @source_offset of @source. */
void tn_batch_transfer (TnBatch *batch, TnNode *source, TnRequestOp op, uint64_t source_offset,
                        const TnData *data, uint64_t offset, uint64_t length);

/* Asks map() under the lock, and checks the answer. */
int tn_route_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);

/* Where a reader finds its bytes. */
typedef struct TnResolved {
  uint32_t kind; /* ZERO; DATA: at @offset of @node; PACKED: in @extent of @node, where they are at @offset */
  uint32_t depth;  /* backing nodes passed */
  bool allocated;  /* some node has an entry for it */
  uint64_t length; /* at most what was asked for */
  TnNode *node;
  uint64_t offset;
  TnNode *crypt;  /* DATA: encrypted by the cipher of this node; or NULL */
  uint64_t place; /* what the cipher numbers the first sector by */
  TnExtent extent;
} TnResolved;

/* Follows maps and backing nodes, short of @base, to a leaf, a filter, or a node with conflicts of its own.
 */
int tn_route_resolve (TnNode *node, TnNode *base, uint64_t offset, uint64_t length, uint32_t flags,
                      TnResolved *resolved, GError **error);
/* Whether all of the range is known to read as zeroes without reading it: 1, 0 or -errno. */
int tn_route_reads_zero (TnNode *node, uint64_t offset, uint64_t length, GError **error);

/* A format node's request, with nothing entered in its in-flight list yet. */
int tn_route_request (TnNode *node, TnRequest *request, GError **error);
/* The same for a caller that holds the range (whole units where something may be allocated) already. */
int tn_route_read (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error);
int tn_route_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error);
int tn_route_zero (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
int tn_route_discard (TnNode *node, uint64_t offset, uint64_t length, GError **error);
/* Writes zero bytes without a buffer of that size. */
int tn_route_write_zero_bytes (TnNode *node, uint64_t offset, uint64_t length, GError **error);
/* Writes a range of which nothing can be overwritten in place: reserve, copy the edges, write, commit. */
int tn_cow_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error);
/* Shares what @leaf stores at @from with new places of @node, in whole units: bytes, or -ENOTSUP. */
int64_t tn_cow_share (TnNode *node, uint64_t offset, uint64_t length, TnNode *leaf, uint64_t from,
                      GError **error);
/* The same between two leaves, all or nothing. */
int64_t tn_leaf_share (TnNode *source, uint64_t from, TnNode *target, uint64_t to, uint64_t length,
                       GError **error);

/* The driver's callbacks, under the map lock. */
int tn_route_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                      GError **error);
int tn_route_commit (TnNode *node, TnExtent *extents, size_t n, GError **error);
void tn_route_cancel (TnNode *node, TnExtent *extents, size_t n);
int tn_route_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
void tn_map_lock (TnNode *node);
void tn_map_unlock (TnNode *node);

/* flush.c: in a coroutine, a format node and all below it. */
int tn_route_flush (TnNode *node, GError **error);

/* pack.c */
int tn_pack_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error);

/* unpack.c */
#define TN_PACKED_RUN 16
/* Whole extents whose encoded bytes lie one behind the other: one read and one turn of a worker for all.
 * Empty when @n is 0; the rest needs no initialisation. */
typedef struct TnPackedRun {
  unsigned n;
  TnNode *node, *source;
  uint64_t start, end; /* of the encoded bytes in @source */
  uint64_t length;     /* decoded */
  TnExtent extents[TN_PACKED_RUN];
  char *places[TN_PACKED_RUN];
} TnPackedRun;
/* Reads a packed piece to @to in @data, or adds it to @run to be read with its neighbours. */
int tn_packed_read (TnPackedRun *run, const TnResolved *resolved, const TnData *data, uint64_t to,
                    GError **error);
/* Reads what has been added, and empties the run. */
int tn_packed_run_read (TnPackedRun *run, GError **error);
void tn_unpacked_forget (TnNode *node, uint64_t offset, uint64_t length);
void tn_unpacked_free (TnNode *node);

/* ---- Graph (graph.c, open.c, filename.c, manage.c, probe.c) ---- */

TnNode *tn_node_alloc (const TnClass *class, uint32_t flags);
/* Takes over the caller's reference of @child. */
void tn_node_attach (TnNode *node, const char *role, TnNode *child);
/* Hands the edge's reference to the caller. */
TnNode *tn_node_detach (TnNode *node, const char *role);
int tn_node_register (TnNode *node, const char *name, GError **error);
/* Sets what follows from class, flags, size and children. */
void tn_node_settle (TnNode *node);
/* permission.c: takes the locks that the users of the leaf below a node ask for; fails where they exclude
 * each other.  To be called when a leaf has got another user or other flags. */
int tn_leaf_set_permissions (TnNode *leaf, GError **error);
/* The leaf at the end of the "file" children. */
TnNode *tn_node_leaf (TnNode *node);

/* Runs a driver's callback in a coroutine with the map lock held. */
typedef int (*TnNodeCall) (TnNode *node, void *opaque, GError **error);
int tn_node_call (TnNode *node, TnNodeCall call, void *opaque, GError **error);
/* As tn_node_call(), with nothing under way on the node or above it. */
int tn_node_call_alone (TnNode *node, TnNodeCall call, void *opaque, GError **error);
/* manage.c: errors for what a driver, or a node opened read-only, cannot do. */
int tn_node_unsupported (TnNode *node, const char *what, GError **error);
int tn_node_need_writable (TnNode *node, const char *what, GError **error);
/* Runs anything in a coroutine, with no lock. */
int tn_node_co_run (TnNode *node, TnNodeCall call, void *opaque, GError **error);

/* create.c: in a coroutine, before the first change of a node with a renewal. */
int tn_node_renew (TnNode *node, GError **error);

static inline bool
tn_node_is_stale (TnNode *node)
{
  return __atomic_load_n (&node->renewal, __ATOMIC_ACQUIRE) != NULL;
}

/* common-options.c: moves what every node has out of @options, and what comes of it. */
int tn_block_take_common (TnOptions *options, TnOptions **common, GError **error);
uint32_t tn_block_apply_common (const TnOptions *common, uint32_t flags);
uint8_t tn_block_detect_zeroes (const TnOptions *common);

/* Whether the part before the first colon can only be a protocol. */
bool tn_filename_has_protocol (const char *filename);
/* @filename as seen from the folder of @base; g_free() it. */
char *tn_filename_combine (const char *base, const char *filename);
/* A file name that stands for a protocol's options; g_free() it. */
char *tn_filename_from_options (const char *driver, const TnOptions *options);
/* Options of the whole graph for a name as tools take it. */
int tn_filename_to_graph (const char *filename, const char *format, const TnOptions *more,
                          TnOptions **options, GError **error);

/* The format of an opened file by its contents, or NULL. */
int tn_probe_node (TnNode *file, const char **format, GError **error);
/* Refuses a write that would turn a disk taken for raw into an image of some format. */
int tn_probe_guard (TnNode *node, const TnRequest *request, GError **error);

/* meta.c */
void tn_meta_domain_free (TnNode *node);

#endif
