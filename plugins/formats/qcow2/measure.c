/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How large an image would be. */
#include "crypt.h"

static uint64_t
round_up (uint64_t value, uint64_t to)
{
  return (value + to - 1) / to * to;
}

/* Refcount table and blocks for @clusters others, themselves counted too. */
static uint64_t
refcount_clusters (uint64_t clusters, uint64_t cluster_size, uint32_t order)
{
  const uint64_t per_block = cluster_size * 8 >> order, per_table = cluster_size / 8;
  uint64_t blocks = 0, table = 0, total, last;
  do {
    last = blocks + table;
    total = clusters + last;
    blocks = (total + per_block - 1) / per_block;
    table = (blocks + per_table - 1) / per_table;
  } while (blocks + table != last);
  return last;
}

uint64_t
qcow2_full_size (uint64_t size, uint32_t cluster_bits, uint32_t refcount_order, bool extended)
{
  const uint64_t cluster = 1ull << cluster_bits, entry = extended ? 16 : 8, data = round_up (size, cluster);
  const uint64_t l2_entries = round_up (data / cluster, cluster / entry);
  const uint64_t l2 = l2_entries * entry;
  const uint64_t l1 = round_up (l2 / cluster, cluster / 8) * 8;
  const uint64_t meta = cluster + l2 + l1;
  return meta + data + refcount_clusters ((meta + data) / cluster, cluster, refcount_order) * cluster;
}

/* Bytes of clusters that hold data. */
static int
used_bytes (TnNode *source, uint64_t cluster, uint64_t *used, GError **error)
{
  const uint64_t size = tn_node_size (source);
  *used = 0;
  for (uint64_t at = 0; at < size;) {
    TnStatus status = { 0 };
    int ret = tn_node_status (source, NULL, at, size - at, &status, error);
    if (ret < 0) {
      return ret;
    }
    uint64_t length = MIN (status.length ? status.length : 1, size - at);
    if (!status.zero && status.allocated) {
      length = round_up (at + length, cluster) - at;
      *used += at % cluster + length;
    }
    at += length;
  }
  return 0;
}

typedef struct BitmapSizes {
  uint64_t size, cluster; /* of the disk, and of the clusters that the bitmaps go to */
  uint64_t bytes, directory;
} BitmapSizes;

/* Every bit of it stored, its table and its place in the directory. */
static void
add_bitmap (const TnBitmap *bitmap, void *opaque)
{
  BitmapSizes *sizes = opaque;
  if (bitmap->granularity == 0) {
    return;
  }
  const uint64_t bits = (sizes->size + bitmap->granularity - 1) / bitmap->granularity;
  const uint64_t pages = round_up ((bits + 7) / 8, sizes->cluster);
  sizes->bytes += pages + round_up (pages / sizes->cluster * 8, sizes->cluster);
  sizes->directory += round_up (QCOW2_BITMAP_ENTRY_FIXED + strlen (bitmap->name), 8);
}

static int
measure_bitmaps (TnNode *source, uint64_t cluster, uint64_t *bytes, GError **error)
{
  BitmapSizes sizes = { .size = tn_node_size (source), .cluster = cluster };
  int ret = tn_node_bitmaps (source, add_bitmap, &sizes, error);
  *bytes = sizes.bytes + round_up (sizes.directory, cluster);
  return ret;
}

int
qcow2_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  Qcow2Layout layout;
  int ret = qcow2_layout_from_options (options, &layout, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t cluster = 1ull << layout.cluster_bits;
  if (source) {
    size = tn_node_size (source);
  }
  const unsigned table_bits = layout.cluster_bits * 2 - (layout.extended ? 4 : 3);
  if (size > (uint64_t) INT64_MAX - cluster || (size && (size - 1) >> table_bits >= QCOW2_MAX_L1_BYTES / 8)) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "a disk of %" PRIu64 " bytes needs larger clusters than %" PRIu64, size, cluster);
  }
  const uint64_t virtual_size = round_up (size, cluster);
  uint64_t required = 0;
  if (layout.prealloc >= TN_PREALLOC_FALLOC || (source && tn_options_has (options, "backing_file"))) {
    required = virtual_size;
  } else if (source && (ret = used_bytes (source, cluster, &required, error)) < 0) {
    return ret;
  }
  measure->fully_allocated =
      qcow2_full_size (virtual_size, layout.cluster_bits, layout.refcount_order, layout.extended)
      + round_up (qcow2_crypt_size (options), cluster);
  measure->required = measure->fully_allocated - virtual_size + required;
  const bool may_have_bitmaps =
      source && layout.version >= 3 && g_strcmp0 (tn_node_class_name (source), "qcow2") == 0;
  measure->bitmaps = UINT64_MAX;
  return may_have_bitmaps ? measure_bitmaps (source, cluster, &measure->bitmaps, error) : 0;
}
