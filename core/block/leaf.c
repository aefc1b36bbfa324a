/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lower end: requests to protocols and filters.
 *
 * A request that does not fit the leaf's alignment and size limits is split, copied through an aligned
 * buffer, or turned into read, modify, write; the last excludes other writes to the same blocks.
 */
#include "block/internal.h"

#include <stdlib.h>

#define MAX_SEGMENTS 1024 /* what preadv(2) takes on Linux */

/* ---- Does it fit? ---- */

static unsigned
max_iov (const TnNode *leaf)
{
  return leaf->limits.max_iov ? MIN (leaf->limits.max_iov, MAX_SEGMENTS) : MAX_SEGMENTS;
}

static bool
memory_fits (const TnNode *leaf, const struct iovec *iov, unsigned n_iov)
{
  uintptr_t memory = leaf->limits.memory_alignment - 1, length = leaf->limits.request_alignment - 1;
  for (unsigned i = 0; i < n_iov; i++)
    if (((uintptr_t) iov[i].iov_base & memory) || (iov[i].iov_len & length))
      return false;
  return true;
}

static bool
range_fits (const TnNode *leaf, uint64_t offset, uint64_t length)
{
  return !((offset | length) & (leaf->limits.request_alignment - 1));
}

bool
tn_leaf_fits (TnNode *leaf, const TnRequest *request, uint64_t offset)
{
  if (request->n_iov > MAX_SEGMENTS)
    return false;
  uint64_t size = tn_node_size_now (leaf), end = offset + request->length;
  if (end > size && !(request->op == TN_REQUEST_WRITE && leaf->grows))
    return false;
  if (!leaf->bends)
    return true;
  return range_fits (leaf, offset, request->length) && request->n_iov <= max_iov (leaf)
         && (!leaf->limits.max_transfer || request->length <= leaf->limits.max_transfer)
         && memory_fits (leaf, request->iov, request->n_iov);
}

/* ---- Protocols that block ---- */

static int
blocking_read (TnNode *leaf, const struct iovec *iov, unsigned n_iov, uint64_t offset)
{
  for (unsigned i = 0; i < n_iov; i++) {
    for (size_t done = 0; done < iov[i].iov_len;) {
      char *to = (char *) iov[i].iov_base + done;
      int64_t got = leaf->protocol.pread (leaf, to, iov[i].iov_len - done, offset, NULL);
      if (got < 0)
        return (int) got;
      if (!got || (uint64_t) got > iov[i].iov_len - done) {
        /* The end of the file. */
        memset (to, 0, iov[i].iov_len - done);
        got = (int64_t) (iov[i].iov_len - done);
      }
      done += (uint64_t) got;
      offset += (uint64_t) got;
    }
  }
  return 0;
}

static int
blocking_write (TnNode *leaf, const struct iovec *iov, unsigned n_iov, uint64_t offset)
{
  if (!leaf->protocol.pwrite)
    return -ENOTSUP;
  for (unsigned i = 0; i < n_iov; i++) {
    for (size_t done = 0; done < iov[i].iov_len;) {
      const char *from = (const char *) iov[i].iov_base + done;
      int64_t put = leaf->protocol.pwrite (leaf, from, iov[i].iov_len - done, offset, NULL);
      if (put < 0)
        return (int) put;
      if (!put || (uint64_t) put > iov[i].iov_len - done)
        return -EIO;
      done += (uint64_t) put;
      offset += (uint64_t) put;
    }
  }
  return 0;
}

static int
blocking_request (TnNode *leaf, const TnRequest *request)
{
  const TnProtocolOps *ops = &leaf->protocol;
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    return blocking_read (leaf, request->iov, request->n_iov, request->offset);
  case TN_REQUEST_WRITE:
    return blocking_write (leaf, request->iov, request->n_iov, request->offset);
  case TN_REQUEST_WRITE_ZEROES:
    return ops->zero ? ops->zero (leaf, request->offset, request->length, request->flags, NULL) : -ENOTSUP;
  case TN_REQUEST_DISCARD:
    return ops->trim ? ops->trim (leaf, request->offset, request->length, NULL) : -ENOTSUP;
  case TN_REQUEST_FLUSH:
    return ops->sync ? ops->sync (leaf, NULL) : 0;
  }
  return -ENOTSUP;
}

static void
work_on_request (void *opaque)
{
  TnRequest *request = opaque;
  intptr_t *result = tn_request_leaf_scratch (request);
  *result = blocking_request (tn_request_state (request)->leaf, request);
}

static void
work_done (void *opaque)
{
  TnRequest *request = opaque;
  intptr_t *result = tn_request_leaf_scratch (request);
  request->done (request, (int) *result);
}

/* While an image is being opened its few reads are made here and now. */
static bool
block_here (const TnNode *leaf, const TnRequest *request)
{
  if (!leaf->opening || !leaf->protocol.pread)
    return false;
  return request->op == TN_REQUEST_READ || (request->op == TN_REQUEST_WRITE && leaf->protocol.pwrite);
}

void
tn_leaf_submit (TnNode *leaf, TnRequest *request)
{
  tn_request_state (request)->leaf = leaf;
  if (G_UNLIKELY (block_here (leaf, request)))
    request->done (request, blocking_request (leaf, request));
  else if (leaf->protocol.submit)
    leaf->protocol.submit (leaf, request);
  else
    tn_loop_work (tn_loop_current (), work_on_request, work_done, request);
}

void
tn_leaf_written (TnNode *leaf, uint64_t offset, uint64_t length, int result)
{
  if (result >= 0 && leaf->grows) {
    uint64_t end = offset + length, size = tn_node_size_now (leaf);
    while (
        size < end
        && !__atomic_compare_exchange_n (&leaf->size, &size, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      ;
  }
  /* A failed write may have changed something, too. */
  __atomic_fetch_add (&leaf->written, 1, __ATOMIC_RELEASE);
}

/* ---- In coroutines ---- */

typedef struct Wait {
  TnCoroutine *waiter;
  bool done;
  int result;
} Wait;

static void
wait_done (TnRequest *request, int result)
{
  Wait *wait = request->opaque;
  wait->result = MIN (result, 0);
  wait->done = true;
  if (wait->waiter)
    tn_co_wake (wait->waiter);
}

/* One operation that fits. */
static int
leaf_io (TnNode *leaf, TnRequestOp op, uint64_t offset, uint64_t length, const struct iovec *iov,
         unsigned n_iov, uint32_t flags)
{
  Wait wait = { 0 };
  TnRequest request;
  request.op = op;
  request.event = (uint8_t) (flags >> TN_REQUEST_EVENT_SHIFT);
  request.flags = (uint16_t) flags;
  request.iov = iov;
  request.n_iov = n_iov;
  request.offset = offset;
  request.length = length;
  request.done = wait_done;
  request.opaque = &wait;
  tn_leaf_submit (leaf, &request);
  if (!wait.done) {
    wait.waiter = tn_co_self ();
    tn_co_yield ();
  }
  if (op != TN_REQUEST_READ && op != TN_REQUEST_FLUSH)
    tn_leaf_written (leaf, offset, op == TN_REQUEST_WRITE ? length : 0, wait.result);
  return wait.result;
}

static int
leaf_flush (TnNode *leaf)
{
  if (tn_node_flags_now (leaf) & TN_OPEN_NO_FLUSH)
    return 0;
  tn_co_mutex_lock (&leaf->flush_mutex);
  uint64_t written = __atomic_load_n (&leaf->written, __ATOMIC_ACQUIRE);
  int rc = 0;
  if (written != __atomic_load_n (&leaf->flushed, __ATOMIC_RELAXED)) {
    rc = leaf_io (leaf, TN_REQUEST_FLUSH, 0, 0, NULL, 0, 0);
    if (rc == -ENOTSUP)
      rc = 0; /* nothing there that could be lost */
    if (!rc)
      __atomic_store_n (&leaf->flushed, written, __ATOMIC_RELAXED);
  }
  tn_co_mutex_unlock (&leaf->flush_mutex);
  return rc;
}

/* ---- Bending ---- */

/* Of a request's flags those that its parts carry, and what it is for. */
static uint32_t
part_flags (const TnNode *leaf, const TnRequest *request)
{
  const uint32_t event = (uint32_t) request->event << TN_REQUEST_EVENT_SHIFT;
  return leaf->protocol.flags & TN_PROTOCOL_FUA ? event | (request->flags & TN_REQUEST_FUA) : event;
}

/* How many bytes from @skip on go into one request, whole blocks of them. */
static uint64_t
next_piece (const TnNode *leaf, const TnRequest *request, uint64_t skip, struct iovec *iov, unsigned *n_iov)
{
  uint64_t length = request->length - skip, align = leaf->limits.request_alignment;
  if (leaf->limits.max_transfer)
    length = MIN (length, MAX (tn_round_down (leaf->limits.max_transfer, align), align));
  unsigned n = tn_iov_slice (request->iov, request->n_iov, skip, length, iov);
  if (n <= max_iov (leaf)) {
    *n_iov = n;
    return length;
  }
  length = 0;
  for (unsigned i = 0; i < max_iov (leaf); i++)
    length += iov[i].iov_len;
  *n_iov = max_iov (leaf);
  return length;
}

/* Memory and range are aligned; there is only too much of it. */
static int
split (TnNode *leaf, const TnRequest *request)
{
  g_autofree struct iovec *iov = g_try_new (struct iovec, request->n_iov);
  if (!iov)
    return -ENOMEM;
  for (uint64_t done = 0; done < request->length;) {
    unsigned n_iov;
    uint64_t length = next_piece (leaf, request, done, iov, &n_iov);
    int rc =
        leaf_io (leaf, request->op, request->offset + done, length, iov, n_iov, part_flags (leaf, request));
    if (rc)
      return rc;
    done += length;
  }
  return 0;
}

static uint64_t
bounce_size (const TnNode *leaf, uint64_t length)
{
  uint64_t align = leaf->limits.request_alignment, most = TN_CHUNK;
  if (leaf->limits.max_transfer)
    most = MIN (most, leaf->limits.max_transfer);
  return MIN (MAX (tn_round_down (most, align), align), length);
}

static int
buffer_io (TnNode *leaf, TnRequestOp op, uint64_t offset, void *buffer, uint64_t length, uint32_t flags)
{
  struct iovec iov = { buffer, length };
  return leaf_io (leaf, op, offset, length, &iov, 1, flags);
}

/* The aligned range [start, start + length) that lies in the buffer, and the request's share of it. */
typedef struct Window {
  uint64_t start, length;
  uint64_t from, to; /* in the node */
} Window;

static Window
window_at (const TnRequest *request, uint64_t start, uint64_t length)
{
  return (Window){ start, length, MAX (start, request->offset),
                   MIN (start + length, request->offset + request->length) };
}

static int
bounce_in (TnNode *leaf, const TnRequest *request, const Window *window, char *buffer)
{
  int rc = buffer_io (leaf, TN_REQUEST_READ, window->start, buffer, window->length, 0);
  if (rc)
    return rc;
  tn_iov_from_buffer (request->iov, request->n_iov, window->from - request->offset,
                      buffer + (window->from - window->start), window->to - window->from);
  return 0;
}

/* Reads the blocks that the request covers in part. */
static int
read_edges (TnNode *leaf, const Window *window, char *buffer)
{
  uint64_t align = leaf->limits.request_alignment, end = window->start + window->length;
  bool head = window->from > window->start, tail = window->to < end;
  if (head) {
    int rc = buffer_io (leaf, TN_REQUEST_READ, window->start, buffer, align, 0);
    if (rc)
      return rc;
  }
  if (!tail || (head && window->length == align))
    return 0;
  return buffer_io (leaf, TN_REQUEST_READ, end - align, buffer + window->length - align, align, 0);
}

static int
bounce_out (TnNode *leaf, const TnRequest *request, const Window *window, char *buffer)
{
  int rc = read_edges (leaf, window, buffer);
  if (rc)
    return rc;
  tn_iov_to_buffer (request->iov, request->n_iov, window->from - request->offset,
                    buffer + (window->from - window->start), window->to - window->from);
  return buffer_io (leaf, TN_REQUEST_WRITE, window->start, buffer, window->length,
                    part_flags (leaf, request));
}

static int
bounce (TnNode *leaf, const TnRequest *request)
{
  uint64_t align = leaf->limits.request_alignment;
  uint64_t start = tn_round_down (request->offset, align);
  uint64_t end = tn_round_up (request->offset + request->length, align);
  uint64_t step = bounce_size (leaf, end - start);
  char *memory = tn_buffer_new (step);
  if (!memory)
    return -ENOMEM;
  int rc = 0;
  for (uint64_t at = start; at < end && !rc; at += step) {
    Window window = window_at (request, at, MIN (step, end - at));
    rc = request->op == TN_REQUEST_READ ? bounce_in (leaf, request, &window, memory)
                                        : bounce_out (leaf, request, &window, memory);
  }
  free (memory);
  return rc;
}

static int
transfer_bent (TnNode *leaf, const TnRequest *request)
{
  if (range_fits (leaf, request->offset, request->length) && memory_fits (leaf, request->iov, request->n_iov))
    return split (leaf, request);
  return bounce (leaf, request);
}

static int
transfer (TnNode *leaf, const TnRequest *request)
{
  if (tn_leaf_fits (leaf, request, request->offset))
    return leaf_io (leaf, request->op, request->offset, request->length, request->iov, request->n_iov,
                    part_flags (leaf, request));
  return transfer_bent (leaf, request);
}

/* ---- Each operation ---- */

/* A piece of a request with an iovec of its own. */
static TnRequest *
clip (const TnRequest *request, uint64_t length)
{
  TnRequest *part = g_try_new (TnRequest, 1);
  struct iovec *iov = g_try_new (struct iovec, request->n_iov);
  if (!part || !iov) {
    g_free (part);
    g_free (iov);
    return NULL;
  }
  memcpy (part, request, offsetof (TnRequest, core));
  part->length = length;
  part->n_iov = tn_iov_slice (request->iov, request->n_iov, 0, length, iov);
  part->iov = iov;
  return part;
}

static int
leaf_read (TnNode *leaf, const TnRequest *request)
{
  uint64_t size = tn_node_size_now (leaf);
  if (request->offset + request->length <= size)
    return transfer (leaf, request);
  if (request->offset >= size) {
    tn_iov_zero (request->iov, request->n_iov, 0, request->length);
    return 0;
  }
  uint64_t length = size - request->offset;
  tn_iov_zero (request->iov, request->n_iov, length, request->length - length);
  TnRequest *part = clip (request, length);
  if (!part)
    return -ENOMEM;
  int rc = transfer (leaf, part);
  g_free ((void *) part->iov);
  g_free (part);
  return rc;
}

static int
leaf_write (TnNode *leaf, const TnRequest *request)
{
  if (!leaf->tracked)
    return transfer (leaf, request);
  uint64_t align = leaf->limits.request_alignment;
  TnTrack track;
  tn_track_enter (&track, leaf, tn_round_down (request->offset, align),
                  tn_round_up (request->offset + request->length, align),
                  !range_fits (leaf, request->offset, request->length));
  int rc = transfer (leaf, request);
  tn_track_leave (&track);
  return rc;
}

static int
write_zero_bytes (TnNode *leaf, uint64_t offset, uint64_t length)
{
  size_t page;
  struct iovec iov[64];
  iov[0].iov_base = (void *) tn_zero_page (&page);
  while (length) {
    uint64_t step = MIN (length, page * G_N_ELEMENTS (iov));
    unsigned n = 0;
    for (uint64_t made = 0; made < step; n++) {
      iov[n] = (struct iovec){ iov[0].iov_base, MIN (page, step - made) };
      made += iov[n].iov_len;
    }
    TnRequest request = { .op = TN_REQUEST_WRITE, .iov = iov, .n_iov = n, .offset = offset, .length = step };
    int rc = leaf_write (leaf, &request);
    if (rc)
      return rc;
    offset += step;
    length -= step;
  }
  return 0;
}

/* Zeroes or discards of at most @most bytes at a time. */
static int
in_steps (TnNode *leaf, const TnRequest *request, uint64_t most, uint32_t flags)
{
  for (uint64_t done = 0; done < request->length;) {
    uint64_t step = MIN (request->length - done, most ? most : UINT64_MAX);
    int rc = leaf_io (leaf, request->op, request->offset + done, step, NULL, 0, flags);
    if (rc)
      return rc;
    done += step;
  }
  return 0;
}

static int
leaf_zero (TnNode *leaf, const TnRequest *request)
{
  uint32_t flags = request->flags & (TN_REQUEST_MAY_UNMAP | TN_REQUEST_NO_FALLBACK);
  if (!(tn_node_flags_now (leaf) & TN_OPEN_UNMAP))
    flags &= ~TN_REQUEST_MAY_UNMAP;
  int rc = -ENOTSUP;
  if (range_fits (leaf, request->offset, request->length))
    rc = in_steps (leaf, request, leaf->limits.max_zeroes, flags);
  if (rc == -ENOTSUP && !(request->flags & TN_REQUEST_NO_FALLBACK))
    rc = write_zero_bytes (leaf, request->offset, request->length);
  if (!rc && leaf->grows)
    tn_leaf_written (leaf, request->offset, request->length, 0);
  return rc;
}

static int
leaf_discard (TnNode *leaf, const TnRequest *request)
{
  if (!(tn_node_flags_now (leaf) & TN_OPEN_UNMAP))
    return 0;
  uint64_t align = MAX (leaf->limits.discard_alignment, leaf->limits.request_alignment);
  uint64_t start = tn_round_up (request->offset, align);
  uint64_t end = tn_round_down (request->offset + request->length, align);
  if (start >= end)
    return 0;
  TnRequest aligned = { .op = request->op, .offset = start, .length = end - start };
  int rc = in_steps (leaf, &aligned, leaf->limits.max_discard, 0);
  return rc == -ENOTSUP ? 0 : rc;
}

static int
change (TnNode *leaf, const TnRequest *request)
{
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_WRITE:
    return leaf_write (leaf, request);
  case TN_REQUEST_WRITE_ZEROES:
    return leaf_zero (leaf, request);
  default:
    return leaf_discard (leaf, request);
  }
}

int
tn_leaf_request (TnNode *leaf, TnRequest *request, GError **error)
{
  if (request->op == TN_REQUEST_READ)
    return leaf_read (leaf, request);
  if (request->op == TN_REQUEST_FLUSH)
    return leaf_flush (leaf);
  int rc = change (leaf, request);
  bool stable = request->op == TN_REQUEST_WRITE && (leaf->protocol.flags & TN_PROTOCOL_FUA);
  if (rc || stable || !(request->flags & TN_REQUEST_FUA))
    return rc;
  return leaf_flush (leaf);
}
