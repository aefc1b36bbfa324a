/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growing: there is room for more BAT entries in front of the first cluster, for 256 GiB as images are made.
 */
#include "parallels.h"

/* What stood in the new entries' place is nobody's. */
static int
parallels_clear_entries (Parallels *p, uint64_t first, uint64_t end, GError **error)
{
  int ret = 0;
  for (uint64_t i = first; ret == 0 && i < end; i++) {
    ret = parallels_bat_set (p, i, 0, error);
  }
  return ret;
}

/* Bytes between the old end and the end of its cluster may hold anything: they must read as zeroes. */
static int
parallels_clear_tail (Parallels *p, GError **error)
{
  const uint64_t rest = p->size % p->cluster_size;
  TnExtent extent = { 0 };
  if (rest == 0) {
    return 0;
  }
  int ret = parallels_map (p->node, p->size - 1, 1, TN_MAP_WRITE, &extent, error);
  if (ret < 0 || extent.kind != TN_EXTENT_DATA) {
    return ret;
  }
  const uint64_t host = extent.source_offset + (p->size - extent.offset);
  return tn_node_write_zeroes (p->file, host, p->cluster_size - rest, 0, error);
}

int
parallels_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Parallels *p = tn_node_state (node);
  const uint64_t sectors = size / PARALLELS_SECTOR;
  const uint64_t entries = size / p->cluster_size + (size % p->cluster_size != 0);
  int ret = parallels_need_writable (p, error);
  if (ret < 0) {
    return ret;
  }
  if (prealloc != TN_PREALLOC_OFF) {
    return parallels_fail (p, error, ENOTSUP, "the format has no preallocation");
  }
  if (size < p->size || size % PARALLELS_SECTOR) {
    return parallels_fail (p, error, ENOTSUP, "it can only grow, by whole sectors of %u bytes",
                           PARALLELS_SECTOR);
  }
  if (tn_node_child (node, "backing")) {
    return parallels_fail (p, error, ENOTSUP, "one image of a chain cannot grow alone");
  }
  if (parallels_bat_end (entries) > p->data_start || (!p->header.ext && sectors > UINT32_MAX)) {
    return parallels_fail (p, error, EFBIG,
                           "there is no room for a BAT of %" PRIu64 " entries: convert it to a larger image",
                           entries);
  }
  if ((ret = parallels_touch (p, error)) < 0 || (ret = parallels_clear_tail (p, error)) < 0
      || (ret = parallels_clear_entries (p, p->header.entries, entries, error)) < 0
      || (ret = parallels_sync (p, error)) < 0) {
    return ret;
  }
  const ParallelsHeader old = p->header;
  p->header.sectors = sectors;
  p->header.entries = (uint32_t) MAX (entries, p->header.entries);
  if ((ret = parallels_header_write (p, error)) < 0) {
    p->header = old;
    return ret;
  }
  p->size = size;
  return 0;
}
