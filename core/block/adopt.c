/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Units of an image that take over bytes which stand in its file already. */
#include "block/internal.h"

typedef struct Adopt {
  uint64_t offset, length, place;
} Adopt;

/* Whether the map says so already: disks that are stored one to one. */
static int
is_there (TnNode *node, const Adopt *adopt, bool *there, GError **error)
{
  uint64_t at = adopt->offset;
  const uint64_t end = MIN (adopt->offset + adopt->length, tn_node_size_now (node));
  *there = false;
  while (at < end) {
    TnExtent extent;
    int rc = tn_route_map (node, at, end - at, 0, &extent, error);
    if (rc < 0)
      return rc;
    if (extent.kind != TN_EXTENT_DATA || extent.source != node->file || (extent.flags & TN_EXTENT_ENCRYPTED)
        || extent.source_offset + (at - extent.offset) != adopt->place + (at - adopt->offset))
      return 0;
    at = extent.offset + extent.length;
  }
  *there = true;
  return 0;
}

static int
adopt_main (TnNode *node, void *opaque, GError **error)
{
  const Adopt *adopt = opaque;
  TnTrack track;
  bool there;
  int rc = is_there (node, adopt, &there, error);
  if (rc < 0 || there)
    return tn_failure (rc);
  if (!node->format.adopt)
    return -ERANGE;
  if (node->tracked)
    tn_track_enter (&track, node, adopt->offset, adopt->offset + adopt->length, true);
  tn_map_lock (node);
  rc = tn_failure (node->format.adopt (node, adopt->offset, adopt->length, adopt->place, error));
  tn_node_bump_generation (node);
  tn_map_unlock (node);
  if (node->tracked)
    tn_track_leave (&track);
  return rc;
}

int
tn_node_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  int rc = tn_node_need_writable (node, "take over data", error);
  if (rc)
    return rc;
  const uint64_t unit = MAX (node->unit, 1), size = tn_node_size_now (node);
  if (!node->is_format || !length || offset % unit || offset >= size
      || length > tn_round_up (size, unit) - offset || length % unit || place > INT64_MAX - length)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "%s: %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT " are not whole units",
                    tn_node_filename (node), length, offset);
  Adopt adopt = { offset, length, place };
  return tn_node_co_run (node, adopt_main, &adopt, error);
}

bool
tn_node_can_adopt (TnNode *node)
{
  return node->is_format && node->format.adopt;
}

uint32_t
tn_node_allocation_unit (TnNode *node)
{
  return node->unit;
}
