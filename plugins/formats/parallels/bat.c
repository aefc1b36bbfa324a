/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The block allocation table: where guest bytes live, making room for writes, linking what was written.
 *
 * Order on disk: the in-use mark before everything else; guest data before the BAT entry that shows it.  A
 * crash can therefore lose clusters at the end of the file, and nothing else.
 */
#include "parallels.h"

/* extent->cookie[0] */
enum { COOKIE_FRESH = 1, COOKIE_IN_PLACE = 2 };

/* ---- Places ---- */

uint64_t
parallels_host (const Parallels *p, uint32_t entry)
{
  return (uint64_t) entry * (p->header.ext ? p->cluster_size : PARALLELS_SECTOR);
}

uint32_t
parallels_entry (const Parallels *p, uint64_t host)
{
  return (uint32_t) (host / (p->header.ext ? p->cluster_size : PARALLELS_SECTOR));
}

/* The last cluster of a disk may be cut off where the disk ends. */
bool
parallels_valid_host (const Parallels *p, uint64_t host, uint64_t index)
{
  const uint64_t end = p->data_start + p->space.end * p->cluster_size;
  const uint64_t start = index * p->cluster_size;
  const uint64_t needed = start < p->size ? MIN (p->size - start, p->cluster_size) : p->cluster_size;
  return host >= p->data_start && host < end && needed <= end - host
         && (host - p->data_start) % p->cluster_size == 0;
}

static uint64_t
parallels_slice_of (const Parallels *p, uint64_t index, unsigned *in_slice)
{
  const uint64_t at = PARALLELS_HEADER_BYTES + index * 4;
  *in_slice = (unsigned) (at % p->slice_bytes);
  return at - *in_slice;
}

int
parallels_bat_get (Parallels *p, uint64_t index, uint32_t *entry, GError **error)
{
  unsigned at;
  TnMetaSlice *slice;
  int ret = tn_meta_get (p->bat, parallels_slice_of (p, index, &at), &slice, error);
  if (ret < 0) {
    return ret;
  }
  *entry = tn_load_le32 ((const uint8_t *) tn_meta_data (slice) + at);
  tn_meta_put (slice);
  return 0;
}

int
parallels_bat_set (Parallels *p, uint64_t index, uint32_t entry, GError **error)
{
  unsigned at;
  TnMetaSlice *slice;
  int ret = tn_meta_get (p->bat, parallels_slice_of (p, index, &at), &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (p->bat);
  tn_store_le32 ((uint8_t *) tn_meta_data (slice) + at, entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* ---- Space ---- */

int
parallels_alloc (Parallels *p, uint64_t n, uint64_t *host, GError **error)
{
  const uint64_t most = parallels_host (p, UINT32_MAX);
  uint64_t cluster;
  if (tail_space_take (&p->space, n, 1, &cluster) < 0) {
    return parallels_fail (p, error, EFBIG, "the file cannot grow");
  }
  if (cluster + n > (most - p->data_start) / p->cluster_size) {
    tail_space_give (&p->space, cluster, n);
    return parallels_fail (p, error, EFBIG, "its BAT cannot name places beyond %" PRIu64 " bytes", most);
  }
  *host = p->data_start + cluster * p->cluster_size;
  return 0;
}

int
parallels_extend (Parallels *p, GError **error)
{
  const uint64_t end = p->data_start + p->space.end * p->cluster_size;
  return tn_node_size (p->file) < end ? tn_node_resize (p->file, end, TN_PREALLOC_OFF, error) : 0;
}

int
parallels_cut (Parallels *p, GError **error)
{
  const uint64_t end = p->data_start + p->space.end * p->cluster_size;
  return tn_node_size (p->file) > end ? tn_node_resize (p->file, end, TN_PREALLOC_OFF, error) : 0;
}

/* ---- Mapping ---- */

static int
parallels_bad_entry (Parallels *p, uint64_t index, uint32_t entry, GError **error)
{
  return parallels_corrupt (p, error, "BAT entry %" PRIu64 " is 0x%x, where no cluster can be", index, entry);
}

/* Clusters that are all absent, or one behind the other in the file. */
static int
parallels_map_run (Parallels *p, const uint8_t *slice, unsigned at, uint64_t index, uint64_t most,
                   bool nowait, TnExtent *extent, GError **error)
{
  const uint32_t entry = tn_load_le32 (slice + at);
  const uint64_t host = parallels_host (p, entry);
  uint64_t n = 1;
  if (entry && !parallels_valid_host (p, host, index)) {
    return nowait ? -EAGAIN : parallels_bad_entry (p, index, entry, error);
  }
  for (; n < most && at + n * 4 < p->slice_bytes; n++) {
    const uint32_t next = tn_load_le32 (slice + at + n * 4);
    if ((next == 0) != (entry == 0)
        || (next
            && (parallels_host (p, next) != host + n * p->cluster_size
                || !parallels_valid_host (p, parallels_host (p, next), index + n)))) {
      break;
    }
  }
  extent->offset = index * p->cluster_size;
  extent->length = MIN (n * p->cluster_size, p->size - extent->offset);
  extent->kind = TN_EXTENT_UNALLOCATED;
  if (entry) {
    extent->kind = TN_EXTENT_DATA;
    extent->source = p->file;
    extent->source_offset = host;
    extent->flags = p->writable ? TN_EXTENT_WRITABLE : 0;
  }
  return 0;
}

int
parallels_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
               GError **error)
{
  Parallels *p = tn_node_state (node);
  const bool nowait = flags & TN_MAP_NOWAIT;
  TnMetaSlice *slice;
  unsigned at;
  int ret = 0;
  if (offset >= p->size || p->bat == NULL) {
    return nowait ? -EAGAIN : parallels_fail (p, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  }
  if ((flags & TN_MAP_WRITE) && !p->touched) {
    ret = nowait ? -EAGAIN : parallels_touch (p, error);
  }
  if (ret < 0) {
    return ret;
  }
  length = CLAMP (length, 1, p->size - offset);
  const uint64_t index = offset / p->cluster_size, most = (offset + length - 1) / p->cluster_size - index + 1;
  const uint64_t place = parallels_slice_of (p, index, &at);
  *extent = (TnExtent){ .generation = extent->generation };
  const void *known = tn_meta_peek (p->bat, place);
  if (known) {
    return parallels_map_run (p, known, at, index, most, nowait, extent, error);
  }
  if (nowait) {
    return -EAGAIN;
  }
  if ((ret = tn_meta_get (p->bat, place, &slice, error)) < 0) {
    return ret;
  }
  ret = parallels_map_run (p, tn_meta_data (slice), at, index, most, nowait, extent, error);
  tn_meta_put (slice);
  return ret;
}

/* ---- Writing ---- */

int
parallels_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                   GError **error)
{
  Parallels *p = tn_node_state (node);
  const uint64_t index = offset / p->cluster_size, most = (offset + length - 1) / p->cluster_size - index + 1;
  TnMetaSlice *slice;
  unsigned at;
  int ret = parallels_need_writable (p, error);
  if (ret < 0 || (ret = parallels_touch (p, error)) < 0
      || (ret = tn_meta_get (p->bat, parallels_slice_of (p, index, &at), &slice, error)) < 0) {
    return ret;
  }
  const uint8_t *entries = tn_meta_data (slice);
  const uint32_t entry = tn_load_le32 (entries + at);
  uint64_t n = 1, host = parallels_host (p, entry);
  while (entry == 0 && n < most && at + n * 4 < p->slice_bytes && tn_load_le32 (entries + at + n * 4) == 0) {
    n++;
  }
  tn_meta_put (slice);
  if (entry && !parallels_valid_host (p, host, index)) {
    return parallels_bad_entry (p, index, entry, error);
  }
  if (entry == 0 && (ret = parallels_alloc (p, n, &host, error)) < 0) {
    return ret;
  }
  const bool untouched = entry == 0 && p->zero_tail && host >= tn_node_size (p->file);
  *extent = (TnExtent){
    .offset = index * p->cluster_size,
    .length = n * p->cluster_size,
    .kind = TN_EXTENT_DATA,
    .flags = TN_EXTENT_NEW | (untouched ? TN_EXTENT_READS_ZERO : 0),
    .source = p->file,
    .source_offset = host,
    .generation = extent->generation,
    .cookie = { entry ? COOKIE_IN_PLACE : COOKIE_FRESH, 0 },
  };
  return 0;
}

static int
parallels_commit_extent (Parallels *p, TnExtent *extent, GError **error)
{
  const uint64_t index = extent->offset / p->cluster_size, n = extent->length / p->cluster_size;
  /* Zeroes at the end of a cluster need not have been written: readers want it whole all the same. */
  int ret = extent->source_offset + extent->length > tn_node_size (p->file) ? parallels_extend (p, error) : 0;
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    ret = parallels_bat_set (p, index + i, parallels_entry (p, extent->source_offset + i * p->cluster_size),
                             error);
  }
  if (ret == 0) {
    extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return ret;
}

int
parallels_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Parallels *p = tn_node_state (node);
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++) {
    ret = parallels_commit_extent (p, &extents[i], error);
  }
  return ret;
}

void
parallels_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Parallels *p = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    if ((extents[i].flags & TN_EXTENT_NEW) && extents[i].cookie[0] == COOKIE_FRESH) {
      tail_space_give (&p->space, (extents[i].source_offset - p->data_start) / p->cluster_size,
                       extents[i].length / p->cluster_size);
    }
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}
