/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block status: where bytes live, for tools and jobs. */
#include "block/internal.h"

typedef struct Map {
  uint64_t offset, length;
  uint32_t flags;
  TnExtent *extent;
  bool zero; /* what see_through() found */
} Map;

/* Shortens the range to what is all zeroes, or is not, below a filter. */
static int
see_through (TnNode *filter, Map *map, GError **error)
{
  uint64_t size = tn_node_size_now (filter->file);
  map->zero = false;
  if ((map->flags & TN_MAP_NOWAIT) || map->offset >= size)
    return 0;
  TnStatus status;
  int rc =
      tn_node_status (filter->file, NULL, map->offset, MIN (map->length, size - map->offset), &status, error);
  if (rc)
    return rc;
  map->length = status.length;
  map->zero = status.zero;
  return 0;
}

/* A protocol's own map; one without knows only data. */
static int
map_leaf (TnNode *leaf, Map *map, GError **error)
{
  TnExtent *extent = map->extent;
  memset (extent, 0, sizeof *extent);
  if (leaf->is_filter && leaf->file) {
    int rc = see_through (leaf, map, error);
    if (rc)
      return rc;
    *extent = (TnExtent){ .offset = map->offset,
                          .length = map->length,
                          .kind = map->zero ? TN_EXTENT_ZERO : TN_EXTENT_DATA,
                          .flags = TN_EXTENT_WRITABLE,
                          .source = leaf->file,
                          .source_offset = map->offset };
    return 0;
  }
  if (leaf->protocol.map)
    return tn_failure (leaf->protocol.map (leaf, map->offset, map->length, map->flags, extent, error));
  *extent = (TnExtent){ .offset = map->offset,
                        .length = map->length,
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_WRITABLE,
                        .source_offset = map->offset };
  return 0;
}

static int
map_nowait (TnNode *node, Map *map)
{
  if (node->locks_map && !tn_co_mutex_trylock (&node->map_mutex))
    return -EAGAIN;
  int rc = node->format.map (node, map->offset, map->length, map->flags, map->extent, NULL);
  if (node->locks_map)
    tn_co_mutex_unlock (&node->map_mutex);
  return MIN (rc, 0);
}

static int
map_main (TnNode *node, void *opaque, GError **error)
{
  Map *map = opaque;
  int rc = node->is_format ? tn_route_map (node, map->offset, map->length, map->flags, map->extent, error)
                           : map_leaf (node, map, error);
  if (!rc)
    map->extent->generation = node->generation;
  return rc;
}

int
tn_node_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Map map = { offset, length, flags, extent, false };
  if (offset >= tn_node_size_now (node))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: offset %" G_GUINT64_FORMAT " is beyond the end",
                    tn_node_filename (node), offset);
  if (!(flags & TN_MAP_NOWAIT))
    return tn_node_co_run (node, map_main, &map, error);
  if (node->is_format)
    return map_nowait (node, &map);
  return map_leaf (node, &map, NULL);
}

/* ---- Block status ---- */

typedef struct Query {
  TnNode *base;
  uint64_t offset, length;
  TnStatus *status;
} Query;

/* Whether the node that gave the answer keeps a map: what it has allocated is data to it, even where the file
 * below has a hole and it reads as zeroes. */
static bool
has_map (TnNode *node, uint32_t depth)
{
  while (depth-- && node->backing)
    node = node->backing;
  return node->is_format && !(node->format.flags & TN_FORMAT_STATIC_MAP);
}

/* Looks below a leaf for holes. */
static int
look_below (const TnResolved *resolved, bool data, TnStatus *status, GError **error)
{
  TnNode *leaf = resolved->node;
  uint64_t offset = resolved->offset, size = tn_node_size_now (leaf);
  if (offset >= size) {
    /* The file ends before the place where the bytes should be: they read as zeroes. */
    status->zero = true;
    status->data = data;
    return 0;
  }
  status->length = MIN (status->length, size - offset);
  TnExtent extent;
  Map map = { offset, status->length, TN_MAP_PRECISE, &extent, false };
  int rc = map_main (leaf, &map, error);
  if (rc)
    return rc;
  if (extent.offset > offset || offset - extent.offset >= extent.length)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "%s: protocol '%s' gave an impossible map",
                    tn_node_filename (leaf), leaf->class->name);
  status->length = MIN (status->length, extent.length - (offset - extent.offset));
  if (extent.kind == TN_EXTENT_ZERO || extent.kind == TN_EXTENT_UNALLOCATED) {
    status->zero = true;
    status->data = data;
  }
  return 0;
}

static int
describe (TnNode *node, const TnResolved *resolved, TnStatus *status, GError **error)
{
  *status =
      (TnStatus){ .length = resolved->length, .depth = resolved->depth, .allocated = resolved->allocated };
  switch (resolved->kind) {
  case TN_EXTENT_ZERO:
    status->zero = true;
    if (resolved->allocated && (resolved->extent.flags & TN_EXTENT_PREALLOCATED) && resolved->extent.source) {
      status->has_offset = true;
      status->host = resolved->extent.source;
      status->host_offset = resolved->extent.source_offset + (resolved->offset - resolved->extent.offset);
    }
    return 0;
  case TN_EXTENT_PACKED:
    status->data = status->packed = true;
    return 0;
  default:
    if (resolved->crypt) {
      /* A hole below is not zero to a reader, and no bytes stand there as they are. */
      status->data = status->allocated = true;
      return 0;
    }
    status->data = status->has_offset = true;
    status->allocated = true;
    status->host = resolved->node;
    status->host_offset = resolved->offset;
    return resolved->node->is_format ? 0
                                     : look_below (resolved, has_map (node, resolved->depth), status, error);
  }
}

static bool
same (const TnStatus *a, const TnStatus *b)
{
  if (a->data != b->data || a->zero != b->zero || a->packed != b->packed || a->allocated != b->allocated
      || a->has_offset != b->has_offset || a->depth != b->depth)
    return false;
  return !a->has_offset || (a->host == b->host && a->host_offset + a->length == b->host_offset);
}

static int
status_once (TnNode *node, TnNode *base, uint64_t offset, uint64_t length, TnStatus *status, GError **error)
{
  TnResolved resolved;
  int rc = tn_route_resolve (node, base, offset, length, TN_MAP_PRECISE, &resolved, error);
  return rc ? rc : describe (node, &resolved, status, error);
}

static int
status_main (TnNode *node, void *opaque, GError **error)
{
  Query *query = opaque;
  int rc = status_once (node, query->base, query->offset, query->length, query->status, error);
  while (!rc && query->status->length < query->length) {
    TnStatus next;
    uint64_t done = query->status->length;
    if (status_once (node, query->base, query->offset + done, query->length - done, &next, NULL)
        || !same (query->status, &next))
      break;
    query->status->length += next.length;
  }
  return rc;
}

int
tn_node_status (TnNode *node, TnNode *base, uint64_t offset, uint64_t length, TnStatus *status,
                GError **error)
{
  uint64_t size = tn_node_size_now (node);
  if (offset >= size || !length)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "%s: no bytes at offset %" G_GUINT64_FORMAT ": the size is %" G_GUINT64_FORMAT,
                    tn_node_filename (node), offset, size);
  Query query = { base, offset, MIN (length, size - offset), status };
  return tn_node_co_run (node, status_main, &query, error);
}
