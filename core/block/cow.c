/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing where nothing can be overwritten in place: reserve units, complete their edges with the old
 * contents, write all in one piece where possible, commit.
 */
#include "block/crypt.h"

#include <stdlib.h>

#define MAX_EXTENTS 16
#define MAX_GATHERED_EDGE (256u << 10) /* longer edges are copied on their own */

/* Extents that follow each other in the node and in the same source. */
typedef struct Run {
  TnNode *source;
  uint64_t start, end; /* in the node */
  uint64_t source_offset;
  bool reads_zero, encrypted;
} Run;

/* One edge of a run: old contents around the new ones. */
typedef struct Edge {
  uint64_t start, length;
  char *bytes; /* NULL: zeroes */
} Edge;

/* ---- Edges ---- */

static int
read_old (TnNode *node, uint64_t offset, uint64_t length, char *to, GError **error)
{
  uint64_t size = tn_node_size_now (node);
  uint64_t inside = offset < size ? MIN (length, size - offset) : 0;
  memset (to + inside, 0, length - inside);
  if (!inside)
    return 0;
  struct iovec iov = { to, inside };
  TnData data = { &iov, 1, offset };
  tn_count (&node->counters.cow_bytes, inside);
  return tn_route_read (node, &data, offset, inside, error);
}

/* Whether the old contents are zeroes, as far as can be known without reading. */
static int
old_is_zero (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  uint64_t size = tn_node_size_now (node);
  if (offset >= size)
    return 1;
  return tn_route_reads_zero (node, offset, MIN (length, size - offset), error);
}

/* A long edge, a chunk at a time. */
static int
copy_edge (TnNode *node, const Run *run, const Edge *edge, GError **error)
{
  char *buffer = tn_buffer_new (MIN (edge->length, TN_CHUNK));
  if (!buffer)
    return -ENOMEM;
  int rc = 0;
  for (uint64_t done = 0; done < edge->length && !rc;) {
    uint64_t length = MIN (edge->length - done, TN_CHUNK), offset = edge->start + done;
    rc = read_old (node, offset, length, buffer, error);
    if (!rc) {
      struct iovec iov = { buffer, length };
      rc = tn_node_do (run->source, TN_REQUEST_WRITE, run->source_offset + (offset - run->start), length,
                       &iov, 1, TN_EVENT_COW_WRITE << TN_REQUEST_EVENT_SHIFT, error);
    }
    done += length;
  }
  free (buffer);
  return rc;
}

/* Makes the edge ready to be gathered, or does away with it (length 0). */
static int
load_edge (TnNode *node, const Run *run, Edge *edge, GError **error)
{
  if (!edge->length)
    return 0;
  int zero = old_is_zero (node, edge->start, edge->length, error);
  if (zero < 0)
    return zero;
  if (zero && run->reads_zero) {
    edge->length = 0;
    return 0;
  }
  if (edge->length > MAX_GATHERED_EDGE) {
    int rc = zero ? tn_node_write_zeroes (run->source, run->source_offset + (edge->start - run->start),
                                          edge->length, 0, error)
                  : copy_edge (node, run, edge, error);
    edge->length = 0;
    return rc;
  }
  if (zero)
    return 0;
  edge->bytes = tn_buffer_new (edge->length);
  return edge->bytes ? read_old (node, edge->start, edge->length, edge->bytes, error) : -ENOMEM;
}

/* ---- One run ---- */

static unsigned
gather_edge (const Edge *edge, struct iovec *iov)
{
  if (!edge->length)
    return 0;
  if (edge->bytes) {
    iov[0] = (struct iovec){ edge->bytes, edge->length };
    return 1;
  }
  size_t page;
  void *zeroes = (void *) tn_zero_page (&page);
  unsigned n = 0;
  for (uint64_t done = 0; done < edge->length; n++) {
    iov[n] = (struct iovec){ zeroes, MIN (page, edge->length - done) };
    done += iov[n].iov_len;
  }
  return n;
}

#define MAX_EDGE_IOV 8

static int
submit_run (TnBatch *batch, const Run *run, const Edge *head, const Edge *tail, const TnData *data,
            uint64_t from, uint64_t to)
{
  g_autofree struct iovec *iov = g_try_new (struct iovec, data->n_iov + 2 * MAX_EDGE_IOV);
  if (!iov)
    return -ENOMEM;
  unsigned n = gather_edge (head, iov);
  n += tn_iov_slice (data->iov, data->n_iov, from - data->base, to - from, iov + n);
  n += gather_edge (tail, iov + n);
  uint64_t start = from - head->length;
  tn_batch_submit (batch, run->source, TN_REQUEST_WRITE, run->source_offset + (start - run->start), iov, n, 0,
                   head->length + (to - from) + tail->length, 0);
  return 0;
}

/* The edges' memory is handed to @buffers, since the write is still under way. */
static int
fill_run (TnNode *node, TnBatch *batch, const Run *run, const TnData *data, uint64_t offset, uint64_t end,
          GPtrArray *buffers, GError **error)
{
  uint64_t from = MAX (offset, run->start), to = MIN (end, run->end);
  Edge head = { run->start, from - run->start, NULL };
  Edge tail = { to, run->end - to, NULL };
  int rc = load_edge (node, run, &head, error);
  if (!rc)
    rc = load_edge (node, run, &tail, error);
  if (!rc)
    rc = submit_run (batch, run, &head, &tail, data, from, to);
  g_ptr_array_add (buffers, head.bytes);
  g_ptr_array_add (buffers, tail.bytes);
  return rc;
}

/* ---- Encrypted runs: all of their units is written, zeroes too ---- */

/* One buffer's worth: new contents for what lies within [@from, @to), old ones around. */
static int
fill_buffer (TnNode *node, uint64_t start, uint64_t length, const TnData *data, uint64_t from, uint64_t to,
             char *buffer, GError **error)
{
  uint64_t end = start + length, first = CLAMP (from, start, end), last = CLAMP (to, first, end);
  int rc = first > start ? read_old (node, start, first - start, buffer, error) : 0;
  if (!rc && end > last)
    rc = read_old (node, last, end - last, buffer + (last - start), error);
  if (!rc && last > first)
    tn_iov_to_buffer (data->iov, data->n_iov, first - data->base, buffer + (first - start), last - first);
  return rc;
}

static int
fill_encrypted (TnNode *node, TnBatch *batch, TnCryptWrites *writes, const Run *run, const TnData *data,
                uint64_t from, uint64_t to, GError **error)
{
  TnExtent extent = { .offset = run->start, .source = run->source, .source_offset = run->source_offset };
  int rc = tn_crypt_check (node, &extent, error);
  for (uint64_t start = run->start; start < run->end && !rc;) {
    uint64_t length = MIN (run->end - start, TN_CHUNK);
    char *buffer = tn_crypt_buffer (writes, batch, length);
    rc = buffer ? fill_buffer (node, start, length, data, from, to, buffer, error) : -ENOMEM;
    if (!rc)
      tn_crypt_store (node, batch, run->source, run->source_offset + (start - run->start),
                      tn_crypt_place (node, &extent, start), buffer, length);
    start += length;
  }
  return rc;
}

/* ---- Many extents ---- */

/* Reserves from *until on, up to MAX_EXTENTS extents that follow each other. */
static int
reserve_some (TnNode *node, uint64_t *until, uint64_t end, TnExtent *extents, size_t *n, GError **error)
{
  *n = 0;
  uint64_t unit = MAX (node->unit, 1);
  while (*until < end && *n < MAX_EXTENTS) {
    TnExtent *extent = &extents[*n];
    memset (extent, 0, sizeof *extent);
    int rc = tn_route_reserve (node, *until, end - *until, 0, extent, error);
    if (rc)
      return rc;
    (*n)++;
    uint64_t extent_end = extent->offset + extent->length;
    if (extent->offset < tn_round_down (*until, unit) || extent_end > tn_round_up (end, unit)
        || (*n > 1 && extent->offset != extent[-1].offset + extent[-1].length))
      return tn_fail (error, TN_BLOCK_ERROR, EIO,
                      "%s: format '%s' reserved more than was asked for at %" G_GUINT64_FORMAT
                      ": this is a defect of its plugin",
                      tn_node_filename (node), node->class->name, *until);
    *until = MIN (extent_end, end);
  }
  return 0;
}

static bool
continues (const Run *run, const TnExtent *extent)
{
  return run->source == extent->source
         && run->source_offset + (run->end - run->start) == extent->source_offset
         && run->reads_zero == !!(extent->flags & TN_EXTENT_READS_ZERO)
         && run->encrypted == !!(extent->flags & TN_EXTENT_ENCRYPTED);
}

static int
fill_extents (TnNode *node, const TnExtent *extents, size_t n, const TnData *data, uint64_t offset,
              uint64_t end, GError **error)
{
  g_autoptr (GPtrArray) buffers = g_ptr_array_new_with_free_func (free);
  TnBatch batch = { 0 };
  TnCryptWrites encrypted = { 0 };
  int rc = 0;
  for (size_t i = 0; i < n && !rc;) {
    Run run = { extents[i].source,
                extents[i].offset,
                extents[i].offset + extents[i].length,
                extents[i].source_offset,
                extents[i].flags & TN_EXTENT_READS_ZERO,
                extents[i].flags & TN_EXTENT_ENCRYPTED };
    while (++i < n && continues (&run, &extents[i]))
      run.end += extents[i].length;
    rc = run.encrypted ? fill_encrypted (node, &batch, &encrypted, &run, data, offset, end, error)
                       : fill_run (node, &batch, &run, data, offset, end, buffers, error);
  }
  int io = tn_batch_wait (&batch);
  tn_crypt_writes_end (&encrypted);
  return rc ? rc : io;
}

/* Writes from *offset on; *offset moves behind what has been linked. */
static int
write_some (TnNode *node, const TnData *data, uint64_t *offset, uint64_t end, GError **error)
{
  TnExtent extents[MAX_EXTENTS];
  size_t n;
  uint64_t until = *offset;
  int rc = reserve_some (node, &until, end, extents, &n, error);
  if (!rc)
    rc = fill_extents (node, extents, n, data, *offset, until, error);
  if (!rc)
    rc = tn_route_commit (node, extents, n, error);
  if (rc) {
    tn_route_cancel (node, extents, n);
    return rc;
  }
  *offset = until;
  return 0;
}

int
tn_cow_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  uint64_t end = offset + length;
  while (offset < end) {
    int rc = write_some (node, data, &offset, end, error);
    if (rc)
      return rc;
  }
  return 0;
}

/* ---- Sharing ---- */

int64_t
tn_leaf_share (TnNode *source, uint64_t from, TnNode *target, uint64_t to, uint64_t length, GError **error)
{
  if (source->class != target->class)
    return -ENOTSUP;
  int64_t shared = source->protocol.share_range (source, from, target, to, length, error);
  tn_leaf_written (target, to, shared > 0 ? (uint64_t) shared : 0, MIN (shared, 0));
  return shared;
}

static int
share_extents (const TnExtent *extents, size_t n, TnNode *leaf, uint64_t from, GError **error)
{
  for (size_t i = 0; i < n; i++) {
    const TnExtent *extent = &extents[i];
    if (extent->source->is_format || extent->source->is_filter || (extent->flags & TN_EXTENT_ENCRYPTED))
      return -ENOTSUP;
    int64_t shared = tn_leaf_share (leaf, from, extent->source, extent->source_offset, extent->length, error);
    if (shared != (int64_t) extent->length)
      return shared < 0 ? (int) shared : -ENOTSUP;
    from += extent->length;
  }
  return 0;
}

/* Asked before anything is reserved: taking that back would leave the places in another order. */
static bool
may_share (TnNode *leaf, const TnNode *node)
{
  TnNode *below = node->file;
  while (below && below->is_format)
    below = below->file;
  return below && !below->is_filter
         && below->class == leaf->class && leaf->protocol.share_range (leaf, 0, below, 0, 0, NULL) == 0;
}

int64_t
tn_cow_share (TnNode *node, uint64_t offset, uint64_t length, TnNode *leaf, uint64_t from, GError **error)
{
  uint64_t unit = MAX (node->unit, 1), start = offset, end = tn_round_down (offset + length, unit);
  if (offset % unit || end <= offset || !node->format.reserve || !may_share (leaf, node))
    return -ENOTSUP;
  while (offset < end) {
    TnExtent extents[MAX_EXTENTS];
    size_t n;
    uint64_t until = offset;
    int rc = reserve_some (node, &until, end, extents, &n, error);
    if (!rc)
      rc = share_extents (extents, n, leaf, from + (offset - start), error);
    if (!rc)
      rc = tn_route_commit (node, extents, n, error);
    if (rc) {
      tn_route_cancel (node, extents, n);
      return offset > start ? (int64_t) (offset - start) : rc;
    }
    offset = until;
  }
  return (int64_t) (offset - start);
}
