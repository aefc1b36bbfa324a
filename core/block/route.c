/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The slow path of format nodes, in coroutines: requests that need several places, or a driver that waits.
 *
 * Parts go to the child nodes' own submit functions, many at a time.
 */
#include "block/crypt.h"

#define MAX_PARTS 32

/* ---- Several parts under way ---- */

typedef struct Part {
  TnRequest request;
  TnBatch *batch;
  struct iovec iov[];
} Part;

static void
batch_end_one (TnBatch *batch, int result)
{
  if (result < 0 && !batch->result)
    batch->result = result;
  batch->pending--;
  if (batch->waiter && batch->pending <= batch->wake_at)
    tn_co_wake (g_steal_pointer (&batch->waiter));
}

static void
part_done (TnRequest *request, int result)
{
  Part *part = request->opaque;
  TnBatch *batch = part->batch;
  g_free (part);
  batch_end_one (batch, result);
}

static void
batch_await (TnBatch *batch, unsigned most)
{
  if (batch->pending <= most)
    return;
  batch->wake_at = most;
  batch->waiter = tn_co_self ();
  tn_co_yield ();
}

void
tn_batch_submit (TnBatch *batch, TnNode *node, TnRequestOp op, uint64_t offset, const struct iovec *iov,
                 unsigned n_iov, uint64_t skip, uint64_t length, uint32_t flags)
{
  batch_await (batch, MAX_PARTS - 1);
  Part *part = g_try_malloc (sizeof (Part) + n_iov * sizeof (struct iovec));
  if (!part) {
    if (!batch->result)
      batch->result = -ENOMEM;
    return;
  }
  part->batch = batch;
  part->request.op = op;
  part->request.event = (uint8_t) (flags >> TN_REQUEST_EVENT_SHIFT);
  part->request.flags = (uint16_t) flags;
  part->request.n_iov = tn_iov_slice (iov, n_iov, skip, length, part->iov);
  part->request.iov = part->iov;
  part->request.offset = offset;
  part->request.length = length;
  part->request.done = part_done;
  part->request.opaque = part;
  batch->pending++;
  tn_node_submit (node, &part->request);
}

void
tn_batch_transfer (TnBatch *batch, TnNode *source, TnRequestOp op, uint64_t source_offset, const TnData *data,
                   uint64_t offset, uint64_t length)
{
  tn_batch_submit (batch, source, op, source_offset, data->iov, data->n_iov, offset - data->base, length, 0);
}

int
tn_batch_wait (TnBatch *batch)
{
  batch_await (batch, 0);
  return batch->result;
}

/* ---- Callbacks under the lock ---- */

static bool
is_serialised (const TnNode *node)
{
  return !(node->format.flags & TN_FORMAT_CONCURRENT_MAP);
}

void
tn_map_lock (TnNode *node)
{
  if (is_serialised (node))
    tn_co_mutex_lock (&node->map_mutex);
}

void
tn_map_unlock (TnNode *node)
{
  if (is_serialised (node))
    tn_co_mutex_unlock (&node->map_mutex);
}

static int
bad_extent (TnNode *node, uint64_t offset, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EIO,
                  "%s: format '%s' gave an impossible place for offset %" G_GUINT64_FORMAT
                  ": this is a defect of its plugin",
                  tn_node_filename (node), node->class->name, offset);
}

static bool
is_sound (const TnExtent *extent, uint64_t offset)
{
  if (extent->offset > offset || extent->length > INT64_MAX || extent->offset > INT64_MAX - extent->length
      || offset - extent->offset >= extent->length)
    return false;
  if (extent->kind == TN_EXTENT_UNALLOCATED || extent->kind == TN_EXTENT_ZERO)
    return true;
  if (!extent->source || extent->source_offset > INT64_MAX
      || extent->length > INT64_MAX - extent->source_offset)
    return false;
  if (extent->kind == TN_EXTENT_PACKED)
    return extent->length <= TN_MAX_PACKED && extent->packed_length <= TN_MAX_PACKED;
  return extent->kind == TN_EXTENT_DATA;
}

int
tn_route_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error)
{
  memset (extent, 0, sizeof *extent);
  if (node->locks_map)
    tn_map_lock (node);
  int rc = node->format.map (node, offset, length, flags, extent, error);
  if (node->locks_map)
    tn_map_unlock (node);
  if (rc < 0)
    return rc;
  return is_sound (extent, offset) ? 0 : bad_extent (node, offset, error);
}

int
tn_route_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error)
{
  if (!node->format.reserve || !node->format.commit)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: format '%s' cannot allocate at offset %" G_GUINT64_FORMAT, tn_node_filename (node),
                    node->class->name, offset);
  tn_map_lock (node);
  int rc = node->format.reserve (node, offset, length, flags, extent, error);
  tn_map_unlock (node);
  if (rc < 0)
    return rc;
  if (is_sound (extent, offset) && (extent->flags & TN_EXTENT_NEW) && extent->source)
    return 0;
  return bad_extent (node, offset, error);
}

int
tn_route_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  tn_map_lock (node);
  int rc = node->format.commit (node, extents, n, error);
  node->generation++;
  tn_map_unlock (node);
  for (size_t i = 0; i < n; i++)
    tn_unpacked_forget (node, extents[i].offset, extents[i].length);
  return MIN (rc, 0);
}

void
tn_route_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  if (!node->format.cancel)
    return;
  tn_map_lock (node);
  for (size_t i = 0; i < n; i++)
    if (extents[i].flags & TN_EXTENT_NEW)
      node->format.cancel (node, &extents[i], 1);
  tn_map_unlock (node);
}

int
tn_route_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  if (!node->format.unmap)
    return -ENOTSUP;
  tn_map_lock (node);
  int rc = node->format.unmap (node, offset, length, flags, error);
  node->generation++;
  tn_map_unlock (node);
  tn_unpacked_forget (node, offset, length);
  return MIN (rc, 0);
}

/* ---- Finding ---- */

/* Moves on to the backing node; false: there are zeroes. */
static bool
to_backing (TnResolved *resolved, const TnNode *base)
{
  TnNode *backing = resolved->node->backing;
  if (!backing || backing == base)
    return false;
  uint64_t size = tn_node_size_now (backing);
  if (resolved->offset >= size)
    return false;
  resolved->length = MIN (resolved->length, size - resolved->offset);
  resolved->node = backing;
  resolved->depth++;
  return true;
}

static int
resolve_encrypted (TnResolved *resolved, GError **error)
{
  int rc = tn_crypt_check (resolved->node, &resolved->extent, error);
  resolved->crypt = resolved->node;
  resolved->place = tn_crypt_place (resolved->node, &resolved->extent, resolved->offset);
  return rc;
}

int
tn_route_resolve (TnNode *node, TnNode *base, uint64_t offset, uint64_t length, uint32_t flags,
                  TnResolved *resolved, GError **error)
{
  *resolved = (TnResolved){ .kind = TN_EXTENT_DATA, .length = length, .node = node, .offset = offset };
  while (resolved->node->is_format && (resolved->node == node || !resolved->node->tracked)) {
    TnExtent *extent = &resolved->extent;
    int rc = tn_route_map (resolved->node, resolved->offset, resolved->length, flags, extent, error);
    if (rc)
      return rc;
    uint64_t skip = resolved->offset - extent->offset;
    resolved->length = MIN (resolved->length, extent->length - skip);
    if (extent->kind == TN_EXTENT_UNALLOCATED && to_backing (resolved, base))
      continue;
    resolved->kind = extent->kind == TN_EXTENT_UNALLOCATED ? TN_EXTENT_ZERO : extent->kind;
    resolved->allocated = extent->kind != TN_EXTENT_UNALLOCATED;
    if (extent->kind != TN_EXTENT_DATA)
      return 0;
    bool encrypted = extent->flags & TN_EXTENT_ENCRYPTED;
    rc = encrypted ? resolve_encrypted (resolved, error) : 0;
    resolved->node = extent->source;
    resolved->offset = extent->source_offset + skip;
    if (encrypted)
      return rc; /* what lies below may have a cipher of its own */
    base = NULL; /* what lies below is this node's own */
  }
  return 0;
}

int
tn_route_reads_zero (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  while (length) {
    TnResolved resolved;
    int rc = tn_route_resolve (node, NULL, offset, length, 0, &resolved, error);
    if (rc)
      return rc;
    if (resolved.kind != TN_EXTENT_ZERO)
      return 0;
    offset += resolved.length;
    length -= resolved.length;
  }
  return 1;
}

/* ---- Reading ---- */

static int
read_piece (TnBatch *batch, TnCryptReads *encrypted, TnPackedRun *packed, const TnData *data, uint64_t offset,
            const TnResolved *resolved, GError **error)
{
  switch (resolved->kind) {
  case TN_EXTENT_ZERO:
    tn_iov_zero (data->iov, data->n_iov, offset - data->base, resolved->length);
    return 0;
  case TN_EXTENT_PACKED:
    return tn_packed_read (packed, resolved, data, offset, error);
  default:
    if (resolved->crypt)
      return tn_crypt_read (encrypted, batch, resolved, data, offset);
    tn_batch_transfer (batch, resolved->node, TN_REQUEST_READ, resolved->offset, data, offset,
                       resolved->length);
    return 0;
  }
}

int
tn_route_read (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  TnBatch batch = { 0 };
  TnCryptReads encrypted = { 0 };
  TnPackedRun packed;
  int rc = 0;
  packed.n = 0;
  while (length && !rc && !batch.result) {
    TnResolved resolved;
    rc = tn_route_resolve (node, NULL, offset, length, 0, &resolved, error);
    if (rc)
      break;
    rc = read_piece (&batch, &encrypted, &packed, data, offset, &resolved, error);
    offset += resolved.length;
    length -= resolved.length;
  }
  if (!rc)
    rc = tn_packed_run_read (&packed, error);
  int io = tn_batch_wait (&batch);
  rc = rc ? rc : io;
  tn_crypt_reads_end (&encrypted, rc);
  return rc;
}

/* ---- Writing ---- */

static bool
is_writable (const TnExtent *extent)
{
  return extent->kind == TN_EXTENT_DATA && (extent->flags & TN_EXTENT_WRITABLE);
}

static int
write_piece (TnBatch *batch, TnCryptWrites *encrypted, TnNode *node, const TnExtent *extent,
             const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  if (extent->flags & TN_EXTENT_ENCRYPTED) {
    int rc = tn_crypt_check (node, extent, error);
    return rc ? rc : tn_crypt_write (encrypted, batch, node, extent, data, offset, length);
  }
  tn_batch_transfer (batch, extent->source, TN_REQUEST_WRITE,
                     extent->source_offset + (offset - extent->offset), data, offset, length);
  return 0;
}

/* Writes from *offset on as long as it can be done in place; *offset is where that ended. */
static int
write_in_place (TnNode *node, const TnData *data, uint64_t *offset, uint64_t end, GError **error)
{
  TnBatch batch = { 0 };
  TnCryptWrites encrypted = { 0 };
  int rc = 0;
  while (*offset < end && !batch.result) {
    TnExtent extent;
    rc = tn_route_map (node, *offset, end - *offset, TN_MAP_WRITE, &extent, error);
    if (rc || !is_writable (&extent))
      break;
    uint64_t skip = *offset - extent.offset, length = MIN (extent.length - skip, end - *offset);
    rc = write_piece (&batch, &encrypted, node, &extent, data, *offset, length, error);
    if (rc)
      break;
    *offset += length;
  }
  int io = tn_batch_wait (&batch);
  tn_crypt_writes_end (&encrypted);
  return rc ? rc : io;
}

/* How far from @offset nothing is writable in place. */
static int
find_unwritable (TnNode *node, uint64_t offset, uint64_t end, uint64_t *until, GError **error)
{
  *until = offset;
  while (*until < end) {
    TnExtent extent;
    int rc = tn_route_map (node, *until, end - *until, TN_MAP_WRITE, &extent, error);
    if (rc)
      return rc;
    if (is_writable (&extent))
      return 0;
    *until = MIN (extent.offset + extent.length, end);
  }
  return 0;
}

int
tn_route_write (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  if (tn_crypt_splits_sector (node, offset, length))
    return tn_crypt_write_parts (node, data, offset, length, error);
  uint64_t end = offset + length;
  while (offset < end) {
    int rc = write_in_place (node, data, &offset, end, error);
    if (rc)
      return rc;
    uint64_t until = offset;
    if (offset < end)
      rc = find_unwritable (node, offset, end, &until, error);
    if (rc)
      return rc;
    if (until > offset)
      rc = tn_cow_write (node, data, offset, until - offset, error);
    if (rc)
      return rc;
    offset = until;
  }
  return 0;
}

/* ---- Requests ---- */

static void
enter_units (TnTrack *track, TnNode *node, uint64_t start, uint64_t end)
{
  uint64_t unit = MAX (node->unit, 1);
  tn_track_enter (track, node, tn_round_down (start, unit), tn_round_up (end, unit), true);
}

static int
request_read (TnNode *node, const TnRequest *request, GError **error)
{
  TnData data = tn_request_data (request);
  if (!node->tracked)
    return tn_route_read (node, &data, request->offset, request->length, error);
  TnTrack track;
  tn_track_enter (&track, node, request->offset, request->offset + request->length, false);
  int rc = tn_route_read (node, &data, request->offset, request->length, error);
  tn_track_leave (&track);
  return rc;
}

/* The part that overwrites in place runs beside others; from the first byte that needs an allocation on the
 * request holds whole units for itself. */
static int
request_write (TnNode *node, const TnRequest *request, GError **error)
{
  TnData data = tn_request_data (request);
  uint64_t offset = request->offset, end = offset + request->length;
  if (!node->tracked)
    return tn_route_write (node, &data, offset, request->length, error);

  TnTrack track;
  if (!tn_crypt_splits_sector (node, offset, request->length)) {
    tn_track_enter (&track, node, offset, end, false);
    int rc = write_in_place (node, &data, &offset, end, error);
    tn_track_leave (&track);
    if (rc || offset == end)
      return rc;
  }

  enter_units (&track, node, offset, end);
  int rc = tn_route_write (node, &data, offset, end - offset, error);
  tn_track_leave (&track);
  return rc;
}

static int
request_packed (TnNode *node, const TnRequest *request, GError **error)
{
  TnData data = tn_request_data (request);
  TnTrack track;
  enter_units (&track, node, request->offset, request->offset + request->length);
  int rc = tn_pack_write (node, &data, request->offset, request->length, error);
  tn_track_leave (&track);
  return rc;
}

static uint32_t
allowed_flags (TnNode *node, uint32_t flags)
{
  return tn_node_flags_now (node) & TN_OPEN_UNMAP ? flags : flags & ~TN_REQUEST_MAY_UNMAP;
}

static int
request_zero (TnNode *node, const TnRequest *request, uint32_t flags, GError **error)
{
  flags = allowed_flags (node, flags);
  if (!node->tracked)
    return tn_route_zero (node, request->offset, request->length, flags, error);
  TnTrack track;
  enter_units (&track, node, request->offset, request->offset + request->length);
  int rc = tn_route_zero (node, request->offset, request->length, flags, error);
  tn_track_leave (&track);
  return rc;
}

static int
request_discard (TnNode *node, const TnRequest *request, GError **error)
{
  if (!(tn_node_flags_now (node) & TN_OPEN_UNMAP))
    return 0;
  if (!node->tracked)
    return tn_route_discard (node, request->offset, request->length, error);
  TnTrack track;
  enter_units (&track, node, request->offset, request->offset + request->length);
  int rc = tn_route_discard (node, request->offset, request->length, error);
  tn_track_leave (&track);
  return rc;
}

static int
request_any_write (TnNode *node, const TnRequest *request, GError **error)
{
  if ((request->flags & TN_REQUEST_PACKED) || node->always_packed
      || (node->format.flags & TN_FORMAT_ALWAYS_PACKS))
    return request_packed (node, request, error);
  if (node->probed_raw) {
    int rc = tn_probe_guard (node, request, error);
    if (rc)
      return rc;
  }
  if (!node->detect_zeroes || !tn_iov_is_zero (request->iov, request->n_iov))
    return request_write (node, request, error);
  return request_zero (node, request, node->detect_zeroes == 2 ? TN_REQUEST_MAY_UNMAP : 0, error);
}

static int
request_change (TnNode *node, const TnRequest *request, GError **error)
{
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_WRITE:
    return request_any_write (node, request, error);
  case TN_REQUEST_WRITE_ZEROES:
    return request_zero (node, request, request->flags, error);
  default:
    return request_discard (node, request, error);
  }
}

int
tn_route_request (TnNode *node, TnRequest *request, GError **error)
{
  if (request->op == TN_REQUEST_READ)
    return request_read (node, request, error);
  if (request->op == TN_REQUEST_FLUSH)
    return tn_route_flush (node, error);
  int rc = request_change (node, request, error);
  if (rc || !(request->flags & TN_REQUEST_FUA))
    return rc;
  return tn_route_flush (node, error);
}
