/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making an image, and how large one would be. */
#include "parallels.h"

#define HEADS 16u
#define SECTORS_PER_TRACK 32u

static int
parallels_layout (const TnOptions *options, uint64_t size, ParallelsHeader *h, GError **error)
{
  uint64_t cluster = tn_options_uint (options, "cluster_size");
  cluster = cluster ? (cluster + PARALLELS_SECTOR - 1) / PARALLELS_SECTOR * PARALLELS_SECTOR : 1u << 20;
  if (cluster / PARALLELS_SECTOR > PARALLELS_MAX_TRACKS) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "parallels: cluster_size can be 1G at most");
  }
  if (size > (uint64_t) INT64_MAX - PARALLELS_SECTOR || size / cluster >= PARALLELS_MAX_ENTRIES) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "parallels: a disk of %" PRIu64 " bytes needs larger clusters than %" PRIu64, size,
                    cluster);
  }
  const uint64_t sectors = (size + PARALLELS_SECTOR - 1) / PARALLELS_SECTOR;
  const uint64_t entries = (sectors * PARALLELS_SECTOR + cluster - 1) / cluster;
  const uint64_t clusters_before = (parallels_bat_end (entries) + cluster - 1) / cluster;
  *h = (ParallelsHeader){
    .ext = true,
    .heads = HEADS,
    .cylinders = (uint32_t) (sectors / HEADS / SECTORS_PER_TRACK),
    .tracks = (uint32_t) (cluster / PARALLELS_SECTOR),
    .entries = (uint32_t) entries,
    .sectors = sectors,
    .data_offset = (uint32_t) (clusters_before * cluster / PARALLELS_SECTOR),
  };
  return 0;
}

int
parallels_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  ParallelsHeader h;
  uint8_t bytes[PARALLELS_HEADER_BYTES] = { 0 };
  int ret = parallels_layout (options, size, &h, error);
  if (ret < 0
      || (ret = tail_space_make_zeroes (file, (uint64_t) h.data_offset * PARALLELS_SECTOR, error)) < 0) {
    return ret;
  }
  parallels_header_encode (&h, bytes);
  return tn_node_write (file, 0, bytes, sizeof bytes, error);
}

int
parallels_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                   GError **error)
{
  ParallelsHeader h;
  uint64_t used = 0;
  int ret = parallels_layout (options, source ? tn_node_size (source) : size, &h, error);
  const uint64_t cluster = ret < 0 ? 0 : (uint64_t) h.tracks * PARALLELS_SECTOR;
  if (ret < 0 || (source && (ret = tail_space_measure (source, cluster, &used, error)) < 0)) {
    return ret;
  }
  measure->required = (uint64_t) h.data_offset * PARALLELS_SECTOR + used;
  measure->fully_allocated = (uint64_t) h.data_offset * PARALLELS_SECTOR + h.entries * cluster;
  measure->bitmaps = UINT64_MAX;
  return 0;
}
