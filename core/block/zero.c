/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing zeroes and discarding in format nodes. */
#include "block/internal.h"

#define MAX_ZERO_IOV 64

int
tn_route_write_zero_bytes (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  size_t page;
  void *zeroes = (void *) tn_zero_page (&page);
  struct iovec iov[MAX_ZERO_IOV];
  for (unsigned i = 0; i < MAX_ZERO_IOV; i++)
    iov[i] = (struct iovec){ zeroes, page };
  while (length) {
    uint64_t step = MIN (length, page * MAX_ZERO_IOV);
    TnData data = { iov, MAX_ZERO_IOV, offset };
    int rc = tn_route_write (node, &data, offset, step, error);
    if (rc)
      return rc;
    offset += step;
    length -= step;
  }
  return 0;
}

/* Zeroes a range of which each byte lies in one extent as mapped. */
static int
zero_extent (TnNode *node, const TnExtent *extent, uint64_t offset, uint64_t length, uint32_t flags,
             GError **error)
{
  if (extent->kind == TN_EXTENT_ZERO || (extent->kind == TN_EXTENT_UNALLOCATED && !node->backing))
    return 0;
  if (extent->kind == TN_EXTENT_DATA && (extent->flags & TN_EXTENT_WRITABLE)
      && !(extent->flags & TN_EXTENT_ENCRYPTED))
    return tn_node_write_zeroes (extent->source, extent->source_offset + (offset - extent->offset), length,
                                 flags & (TN_REQUEST_MAY_UNMAP | TN_REQUEST_NO_FALLBACK), error);
  if (flags & TN_REQUEST_NO_FALLBACK)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: zeroes at %" G_GUINT64_FORMAT " would have to be written out",
                    tn_node_filename (node), offset);
  return tn_route_write_zero_bytes (node, offset, length, error);
}

/* Zeroes without the format's help. */
static int
zero_mapped (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  while (length) {
    TnExtent extent;
    int rc = tn_route_map (node, offset, length, TN_MAP_WRITE, &extent, error);
    if (rc)
      return rc;
    uint64_t step = MIN (length, extent.length - (offset - extent.offset));
    rc = zero_extent (node, &extent, offset, step, flags, error);
    if (rc)
      return rc;
    offset += step;
    length -= step;
  }
  return 0;
}

static int
unmap_zero (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  uint32_t how = TN_UNMAP_ZERO | (flags & TN_REQUEST_MAY_UNMAP ? TN_UNMAP_RELEASE : 0);
  g_autoptr (GError) local = NULL;
  int rc = tn_route_unmap (node, offset, length, how, &local);
  if (rc == -ENOTSUP)
    return zero_mapped (node, offset, length, flags, error);
  if (rc && local)
    g_propagate_error (error, g_steal_pointer (&local));
  return rc;
}

/* Less than one unit. */
static int
zero_part (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  uint64_t unit = node->unit, start = tn_round_down (offset, unit);
  uint64_t end = MIN (start + unit, tn_node_size_now (node));
  int zero = tn_route_reads_zero (node, offset, length, error);
  if (zero)
    return MIN (zero, 0);

  /* When the rest of the unit is zero, all of it is. */
  zero = tn_route_reads_zero (node, start, offset - start, error);
  if (zero > 0)
    zero = tn_route_reads_zero (node, offset + length, end - (offset + length), error);
  if (zero < 0)
    return zero;
  return zero ? unmap_zero (node, start, end - start, flags, error)
              : zero_mapped (node, offset, length, flags, error);
}

int
tn_route_zero (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  if (!node->format.unmap || node->unit < 2)
    return node->format.unmap ? unmap_zero (node, offset, length, flags, error)
                              : zero_mapped (node, offset, length, flags, error);
  uint64_t end = offset + length, size = tn_node_size_now (node);
  uint64_t first = tn_round_up (offset, node->unit);
  uint64_t last = end == size ? end : tn_round_down (end, node->unit);
  if (first >= last && !(first == offset && last == end))
    last = first = MIN (first, end); /* no whole unit */
  int rc = 0;
  if (offset < first)
    rc = zero_part (node, offset, first - offset, flags, error);
  if (!rc && first < last)
    rc = unmap_zero (node, first, last - first, flags, error);
  if (!rc && last < end)
    rc = zero_part (node, last, end - last, flags, error);
  return rc;
}

/* ---- Discard ---- */

static int
discard_below (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  while (length) {
    TnExtent extent;
    int rc = tn_route_map (node, offset, length, TN_MAP_WRITE, &extent, error);
    if (rc)
      return rc;
    uint64_t skip = offset - extent.offset, step = MIN (length, extent.length - skip);
    /* Of an encrypted disk it would show what is in use, and give back noise. */
    if (extent.kind == TN_EXTENT_DATA && (extent.flags & TN_EXTENT_WRITABLE)
        && !(extent.flags & TN_EXTENT_ENCRYPTED))
      rc = tn_node_discard (extent.source, extent.source_offset + skip, step, error);
    if (rc)
      return rc;
    offset += step;
    length -= step;
  }
  return 0;
}

static int
discard_units (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  uint64_t unit = MAX (node->unit, 1), size = tn_node_size_now (node);
  uint64_t start = tn_round_up (offset, unit), end = offset + length;
  if (end != size)
    end = tn_round_down (end, unit);
  if (start >= end)
    return 0;
  g_autoptr (GError) local = NULL;
  int rc = tn_route_unmap (node, start, end - start, TN_UNMAP_RELEASE, &local);
  if (rc == -ENOTSUP)
    return 0;
  if (rc && local)
    g_propagate_error (error, g_steal_pointer (&local));
  return rc;
}

int
tn_route_discard (TnNode *node, uint64_t offset, uint64_t length, GError **error)
{
  return node->format.unmap ? discard_units (node, offset, length, error)
                            : discard_below (node, offset, length, error);
}
