/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making an image, and how large one would be. */
#include "qed.h"

typedef struct QedLayout {
  uint64_t cluster_size, table_clusters;
  unsigned cluster_bits, table_bits;
} QedLayout;

static int
qed_layout (const TnOptions *options, uint64_t size, QedLayout *layout, GError **error)
{
  *layout =
      (QedLayout){ tn_options_uint (options, "cluster_size"), tn_options_uint (options, "table_size"), 0, 0 };
  layout->cluster_size = layout->cluster_size ? layout->cluster_size : 65536;
  layout->table_clusters = layout->table_clusters ? layout->table_clusters : 4;
  if (layout->cluster_size & (layout->cluster_size - 1)) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "qed: cluster_size must be a power of two from 4k to 64M");
  }
  /* Tables of one cluster are within the format, but QEMU opens no such image, not even its own. */
  if (layout->table_clusters == 1 || (layout->table_clusters & (layout->table_clusters - 1))) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "qed: table_size must be 2, 4, 8 or 16");
  }
  layout->cluster_bits = (unsigned) g_bit_nth_msf (layout->cluster_size, -1);
  layout->table_bits = (unsigned) g_bit_nth_msf (layout->cluster_size * layout->table_clusters / 8, -1);
  const uint64_t most = qed_max_size (layout->cluster_bits, layout->table_bits);
  if (size > most) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "qed: a disk of %" PRIu64 " bytes is too large for these tables, which reach to %" PRIu64
                    ": use a larger cluster_size or table_size",
                    size, most);
  }
  return 0;
}

int
qed_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  Qed q = { .file = file };
  QedLayout layout;
  if (size > (uint64_t) INT64_MAX - QED_SECTOR) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "qed: a disk of %" PRIu64 " bytes is too large", size);
  }
  size = (size + QED_SECTOR - 1) / QED_SECTOR * QED_SECTOR;
  int ret = qed_layout (options, size, &layout, error);
  if (ret < 0) {
    return ret;
  }
  q.header = (QedHeader){
    .cluster_size = (uint32_t) layout.cluster_size,
    .table_clusters = (uint32_t) layout.table_clusters,
    .header_clusters = 1,
    .l1_offset = layout.cluster_size,
    .size = size,
  };
  ret = qed_header_set_backing (&q, tn_options_get (options, "backing_file"),
                                tn_options_get (options, "backing_fmt"), error);
  const uint64_t length = layout.cluster_size * (1 + layout.table_clusters);
  if (ret == 0 && (ret = tail_space_make_zeroes (file, length, error)) == 0) {
    ret = qed_header_write (&q, error);
  }
  g_free (q.backing_name);
  return ret;
}

/* ---- Measuring ---- */

int
qed_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  QedLayout layout;
  size = source ? tn_node_size (source) : size;
  int ret = qed_layout (options, size, &layout, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t cluster = layout.cluster_size, table = cluster * layout.table_clusters;
  const uint64_t data = (size + cluster - 1) >> layout.cluster_bits << layout.cluster_bits;
  const uint64_t span = 1ull << MIN (layout.cluster_bits + layout.table_bits, 62);
  const uint64_t tables = size / span + (size % span != 0);
  const uint64_t metadata = cluster + table + tables * table;
  uint64_t used = 0;
  if (source && (ret = tail_space_measure (source, cluster, &used, error)) < 0) {
    return ret;
  }
  measure->required = metadata + used;
  measure->fully_allocated = metadata + data;
  measure->bitmaps = UINT64_MAX;
  return 0;
}
