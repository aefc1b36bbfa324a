/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a request starts and ends.
 *
 * A read or write whose bytes lie in one piece of one leaf, by maps that are in memory, goes straight to that
 * leaf: no coroutine, no allocation.  Everything else runs in a coroutine (route.c).
 */
#include "block/internal.h"

#define MAX_FAST_HOPS 16

/* ---- Counting what is under way ---- */

void
tn_node_leave (TnNode *node)
{
  tn_underway_leave (&node->underway);
}

bool
tn_node_enter (TnNode *node)
{
  tn_underway_enter (&node->underway);
  if (G_LIKELY (!__atomic_load_n (&node->gate, __ATOMIC_SEQ_CST)))
    return true;
  tn_node_leave (node);
  return false;
}

void
tn_node_enter_wait (TnNode *node)
{
  while (!tn_node_enter (node)) {
    tn_spin_lock (&node->gate_spin);
    bool closed = __atomic_load_n (&node->gate, __ATOMIC_SEQ_CST);
    if (closed)
      node->gated = g_slist_append (node->gated, tn_co_self ());
    tn_spin_unlock (&node->gate_spin);
    if (closed)
      tn_co_yield ();
  }
}

void
tn_node_quiesce (TnNode *node)
{
  for (GSList *parent = node->parents; parent; parent = parent->next)
    tn_node_quiesce (parent->data);
  __atomic_add_fetch (&node->gate, 1, __ATOMIC_SEQ_CST);
  tn_underway_wait (&node->underway);
}

void
tn_node_resume (TnNode *node)
{
  GSList *gated = NULL;
  tn_spin_lock (&node->gate_spin);
  if (!__atomic_sub_fetch (&node->gate, 1, __ATOMIC_SEQ_CST))
    gated = g_steal_pointer (&node->gated);
  tn_spin_unlock (&node->gate_spin);
  tn_wake_all (gated);
  for (GSList *parent = node->parents; parent; parent = parent->next)
    tn_node_resume (parent->data);
}

static void
drain_main (void *opaque)
{
  TnNode *node = opaque;
  tn_underway_wait (&node->underway);
  for (guint i = 0; i < node->children->len; i++)
    drain_main (g_array_index (node->children, TnChild, i).node);
}

void
tn_node_drain (TnNode *node)
{
  tn_co_run (drain_main, node);
}

/* ---- The end of a request ---- */

static void
leave_tracks (TnRequestState *state)
{
  while (state->n_tracks)
    tn_track_leave (&state->tracks[--state->n_tracks]);
}

static void
count_request (TnNode *node, const TnRequest *request, int result)
{
  TnNodeCounters *counters = &node->counters;
  tn_count (&counters->requests[request->op], 1);
  tn_count (&counters->bytes[request->op], request->length);
  if (G_UNLIKELY (result < 0))
    tn_count (&counters->failed, 1);
}

static void
finish (TnRequest *request, int result)
{
  TnRequestState *state = tn_request_state (request);
  count_request (state->node, request, result);
  if (state->entered)
    tn_node_leave (state->node);
  request->done (request, result);
}

static void
fast_done (TnRequest *request, int result)
{
  TnRequestState *state = tn_request_state (request);
  if (request->op == TN_REQUEST_WRITE)
    tn_leaf_written (state->leaf, request->offset, request->length, result);
  request->offset = state->offset;
  request->done = state->done;
  request->opaque = state->opaque;
  leave_tracks (state);
  tn_count (&state->node->counters.fast, 1);
  finish (request, result);
}

/* ---- The fast path ---- */

static int
map_nowait (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent)
{
  flags |= TN_MAP_NOWAIT;
  if (!node->locks_map)
    return node->format.map (node, offset, length, flags, extent, NULL);
  if (!tn_co_mutex_trylock (&node->map_mutex))
    return -EAGAIN;
  int rc = node->format.map (node, offset, length, flags, extent, NULL);
  tn_co_mutex_unlock (&node->map_mutex);
  return rc;
}

static bool
enter_track (TnRequestState *state, TnNode *node, uint64_t offset, uint64_t length)
{
  if (state->n_tracks == TN_MAX_FAST_TRACKS)
    return false;
  if (!tn_track_try (&state->tracks[state->n_tracks], node, offset, length))
    return false;
  state->n_tracks++;
  return true;
}

typedef enum Fast { FAST_NO, FAST_ZERO, FAST_LEAF } Fast;

static Fast
at_leaf (TnRequestState *state, const TnRequest *request, TnNode *leaf, uint64_t offset)
{
  if (!tn_leaf_fits (leaf, request, offset))
    return FAST_NO;
  if ((request->flags & TN_REQUEST_FUA) && !(leaf->protocol.flags & TN_PROTOCOL_FUA))
    return FAST_NO;
  if (leaf->tracked && request->op == TN_REQUEST_WRITE && !enter_track (state, leaf, offset, request->length))
    return FAST_NO;
  return FAST_LEAF;
}

/* Follows the maps that are in memory; *leaf and *leaf_offset are the request's place at the end. */
static Fast
resolve (TnRequestState *state, const TnRequest *request, TnNode **leaf, uint64_t *leaf_offset)
{
  TnNode *node = state->node;
  uint64_t offset = request->offset, length = request->length;
  bool write = request->op == TN_REQUEST_WRITE;

  for (unsigned hops = 0; hops < MAX_FAST_HOPS; hops++) {
    if (!node->is_format) {
      *leaf = node;
      *leaf_offset = offset;
      return at_leaf (state, request, node, offset);
    }
    if (node->tracked && !enter_track (state, node, offset, length))
      return FAST_NO;

    TnExtent extent;
    if (map_nowait (node, offset, length, write ? TN_MAP_WRITE : 0, &extent))
      return FAST_NO;
    uint64_t skip = offset - extent.offset;
    if (offset < extent.offset || skip >= extent.length || extent.length - skip < length)
      return FAST_NO;

    if (extent.kind == TN_EXTENT_DATA) {
      if ((write && !(extent.flags & TN_EXTENT_WRITABLE)) || (extent.flags & TN_EXTENT_ENCRYPTED)
          || !extent.source)
        return FAST_NO;
      node = extent.source;
      offset = extent.source_offset + skip;
      continue;
    }
    if (write || extent.kind == TN_EXTENT_PACKED)
      return FAST_NO;
    if (extent.kind == TN_EXTENT_ZERO || !node->backing)
      return FAST_ZERO;
    node = node->backing;
    uint64_t size = tn_node_size_now (node);
    if (offset > size || length > size - offset)
      return FAST_NO;
  }
  return FAST_NO;
}

/* Whether a write must be looked at before it may go on. */
static bool
is_delicate (TnNode *node, const TnRequest *request)
{
  if (node->detect_zeroes || tn_node_is_stale (node) || (request->flags & TN_REQUEST_PACKED))
    return true;
  return (request->flags & TN_REQUEST_FUA) && node->locks_map;
}

static bool
may_be_fast (TnNode *node, const TnRequest *request)
{
  if (request->op == TN_REQUEST_WRITE) {
    if (!(tn_node_flags_now (node) & TN_OPEN_WRITE) || node->probed_raw || is_delicate (node, request))
      return false;
  } else if (request->op != TN_REQUEST_READ) {
    return false;
  }
  if (!request->length || request->offset > INT64_MAX || request->length > INT64_MAX - request->offset)
    return false;
  /* A leaf checks for itself. */
  return !node->is_format || request->offset + request->length <= tn_node_size_now (node);
}

static bool
try_fast (TnNode *node, TnRequest *request)
{
  TnRequestState *state = tn_request_state (request);
  if (!may_be_fast (node, request))
    return false;
  uint64_t leaf_offset = 0;
  switch (resolve (state, request, &state->leaf, &leaf_offset)) {
  case FAST_LEAF:
    state->done = request->done;
    state->opaque = request->opaque;
    state->offset = request->offset;
    request->offset = leaf_offset;
    request->done = fast_done;
    tn_leaf_submit (state->leaf, request);
    return true;
  case FAST_ZERO:
    tn_iov_zero (request->iov, request->n_iov, 0, request->length);
    leave_tracks (state);
    tn_count (&node->counters.fast, 1);
    finish (request, 0);
    return true;
  case FAST_NO:
    break;
  }
  leave_tracks (state);
  return false;
}

/* ---- The slow path ---- */

static const char *
op_text (TnRequestOp op)
{
  switch (op) {
  case TN_REQUEST_READ:
    return "read";
  case TN_REQUEST_WRITE:
    return "write";
  case TN_REQUEST_WRITE_ZEROES:
    return "write zeroes to";
  case TN_REQUEST_DISCARD:
    return "discard";
  case TN_REQUEST_FLUSH:
    return "flush";
  }
  return "do an unknown operation on";
}

/* A format that grows has come to the end of what cannot: a device. */
static bool
is_full (TnNode *node, const TnRequest *request)
{
  bool write = request->op == TN_REQUEST_WRITE || request->op == TN_REQUEST_WRITE_ZEROES;
  return write && !node->is_format && (tn_node_flags_now (node) & TN_OPEN_RESIZE);
}

static int
check_range (TnNode *node, const TnRequest *request, GError **error)
{
  uint64_t size = tn_node_size_now (node);
  bool beyond_ok = !node->is_format && (request->op == TN_REQUEST_READ || node->grows);
  if (request->offset <= INT64_MAX && request->length <= INT64_MAX - request->offset
      && (beyond_ok || request->offset + request->length <= size))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, is_full (node, request) ? ENOSPC : EINVAL,
                  "%s: cannot %s %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT
                  ": the size is %" G_GUINT64_FORMAT,
                  tn_node_filename (node), op_text (request->op), request->length, request->offset, size);
}

/* A plain format below another one grows as its file would. */
static bool
may_grow_first (TnNode *node, const TnRequest *request)
{
  bool write = request->op == TN_REQUEST_WRITE || request->op == TN_REQUEST_WRITE_ZEROES;
  return write && node->is_format && !node->locks_map && node->parents && node->format.resize
         && (tn_node_flags_now (node) & TN_OPEN_RESIZE) && request->offset <= INT64_MAX
         && request->length <= INT64_MAX - request->offset;
}

static int
grow_first (TnNode *node, uint64_t end, GError **error)
{
  int rc = 0;
  tn_co_mutex_lock (&node->flush_mutex);
  if (end > tn_node_size_now (node))
    rc = tn_node_resize (node, end, TN_PREALLOC_OFF, error);
  tn_co_mutex_unlock (&node->flush_mutex);
  return rc;
}

static int
check_request (TnNode *node, const TnRequest *request, GError **error)
{
  if (request->op < TN_REQUEST_READ || request->op > TN_REQUEST_FLUSH)
    return -ENOTSUP;
  if (request->op == TN_REQUEST_FLUSH)
    return 0;
  if (request->op != TN_REQUEST_READ && !(tn_node_flags_now (node) & TN_OPEN_WRITE))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "%s: cannot %s: opened read-only", tn_node_filename (node),
                    op_text (request->op));
  if (request->op != TN_REQUEST_READ && tn_node_is_stale (node)) {
    int rc = tn_node_renew (node, error);
    if (rc)
      return rc;
  }
  if (may_grow_first (node, request)) {
    int rc = grow_first (node, request->offset + request->length, error);
    if (rc)
      return rc;
  }
  return check_range (node, request, error);
}

static int
run_request (TnNode *node, TnRequest *request, GError **error)
{
  int rc = check_request (node, request, error);
  if (rc)
    return rc;
  if (!request->length && request->op != TN_REQUEST_FLUSH)
    return 0;
  if (node->is_format)
    return tn_route_request (node, request, error);
  return tn_leaf_request (node, request, error);
}

static void
slow_main (void *opaque)
{
  TnRequest *request = opaque;
  TnRequestState *state = tn_request_state (request);
  if (!state->entered)
    tn_node_enter_wait (state->node);
  state->entered = true;
  finish (request, run_request (state->node, request, state->error));
}

void
tn_node_submit_with_error (TnNode *node, TnRequest *request, GError **error)
{
  TnRequestState *state = tn_request_state (request);
  state->node = node;
  state->error = error;
  state->n_tracks = 0;
  state->entered = tn_node_enter (node);
  if (state->entered && try_fast (node, request))
    return;
  if (G_UNLIKELY (request->op > TN_REQUEST_FLUSH)) {
    /* Counters are indexed by it. */
    if (state->entered)
      tn_node_leave (node);
    request->done (request, -ENOTSUP);
    return;
  }
  tn_co_start (slow_main, request);
}

void
tn_node_submit (TnNode *node, TnRequest *request)
{
  tn_node_submit_with_error (node, request, NULL);
}

/* ---- Synchronous calls ---- */

typedef struct Waiting {
  TnCoroutine *waiter;
  bool done;
  int result;
} Waiting;

static void
waiting_done (TnRequest *request, int result)
{
  Waiting *waiting = request->opaque;
  waiting->result = result;
  waiting->done = true;
  if (waiting->waiter)
    tn_co_wake (waiting->waiter);
}

static void
wait_here (Waiting *waiting)
{
  if (waiting->done)
    return;
  waiting->waiter = tn_co_self ();
  if (waiting->waiter) {
    tn_co_yield ();
    return;
  }
  TnLoop *loop = tn_loop_current ();
  while (!waiting->done)
    tn_loop_iterate (loop, true);
}

static int
explain (TnNode *node, const TnRequest *request, int result, GError **error)
{
  if (result >= 0 || !error || *error)
    return MIN (result, 0);
  if (request->op == TN_REQUEST_FLUSH)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -result, "%s: cannot flush", tn_node_filename (node));
  return tn_fail_errno (error, TN_BLOCK_ERROR, -result,
                        "%s: cannot %s %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT,
                        tn_node_filename (node), op_text (request->op), request->length, request->offset);
}

int
tn_node_do (TnNode *node, TnRequestOp op, uint64_t offset, uint64_t length, const struct iovec *iov,
            unsigned n_iov, uint32_t flags, GError **error)
{
  Waiting waiting = { 0 };
  TnRequest request; /* not initialised as a whole: its larger part is scratch */
  request.op = op;
  request.event = (uint8_t) (flags >> TN_REQUEST_EVENT_SHIFT);
  request.flags = (uint16_t) flags;
  request.iov = iov;
  request.n_iov = n_iov;
  request.offset = offset;
  request.length = length;
  request.done = waiting_done;
  request.opaque = &waiting;
  tn_node_submit_with_error (node, &request, error);
  wait_here (&waiting);
  return explain (node, &request, waiting.result, error);
}

int
tn_node_read (TnNode *node, uint64_t offset, void *buffer, uint64_t length, GError **error)
{
  struct iovec iov = { buffer, length };
  return tn_node_do (node, TN_REQUEST_READ, offset, length, &iov, 1, 0, error);
}

int
tn_node_write (TnNode *node, uint64_t offset, const void *buffer, uint64_t length, GError **error)
{
  struct iovec iov = { (void *) buffer, length };
  return tn_node_do (node, TN_REQUEST_WRITE, offset, length, &iov, 1, 0, error);
}

static uint64_t
iov_length (const struct iovec *iov, unsigned n_iov)
{
  uint64_t length = 0;
  for (unsigned i = 0; i < n_iov; i++)
    length += iov[i].iov_len;
  return length;
}

int
tn_node_readv (TnNode *node, uint64_t offset, const struct iovec *iov, unsigned n_iov, GError **error)
{
  return tn_node_do (node, TN_REQUEST_READ, offset, iov_length (iov, n_iov), iov, n_iov, 0, error);
}

int
tn_node_writev (TnNode *node, uint64_t offset, const struct iovec *iov, unsigned n_iov, uint32_t flags,
                GError **error)
{
  return tn_node_do (node, TN_REQUEST_WRITE, offset, iov_length (iov, n_iov), iov, n_iov, flags, error);
}

int
tn_node_write_zeroes (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  return tn_node_do (node, TN_REQUEST_WRITE_ZEROES, offset, length, NULL, 0, flags, error);
}

int
tn_node_discard (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  return tn_node_do (node, TN_REQUEST_DISCARD, offset, length, NULL, 0, 0, error);
}

int
tn_node_flush (TnNode *node, GError **error)
{
  return tn_node_do (node, TN_REQUEST_FLUSH, 0, 0, NULL, 0, 0, error);
}
