/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making an image: header, a refcount table and one block for these three clusters.  The rest, an L1 table
 * and what is preallocated, comes from growing that image to its size.
 */
#include "crypt.h"

static TnPrealloc
parse_prealloc (const char *text)
{
  static const char *const names[] = { "off", "metadata", "falloc", "full" };
  for (unsigned i = 0; text && i < G_N_ELEMENTS (names); i++) {
    if (strcmp (names[i], text) == 0) {
      return (TnPrealloc) i;
    }
  }
  return TN_PREALLOC_OFF;
}

static int
refuse (GError **error, const char *why)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "qcow2: %s", why);
}

static int
check_version2 (const Qcow2Layout *layout, GError **error)
{
  if (layout->version >= 3) {
    return 0;
  }
  if (layout->lazy) {
    return refuse (error, "lazy_refcounts needs compat=1.1");
  }
  if (layout->refcount_order != 4) {
    return refuse (error, "refcount_bits other than 16 need compat=1.1");
  }
  if (layout->extended) {
    return refuse (error, "extended_l2 needs compat=1.1");
  }
  if (layout->compression_type) {
    return refuse (error, "compression_type other than zlib needs compat=1.1");
  }
  return layout->data_file ? refuse (error, "data_file needs compat=1.1") : 0;
}

int
qcow2_layout_from_options (const TnOptions *options, Qcow2Layout *layout, GError **error)
{
  const char *compat = tn_options_get (options, "compat");
  const bool has_backing = tn_options_has (options, "backing_file");
  uint64_t cluster = tn_options_uint (options, "cluster_size"),
           bits = tn_options_uint (options, "refcount_bits");
  cluster = cluster ? cluster : 65536;
  bits = bits ? bits : 16;
  *layout = (Qcow2Layout){
    .version = compat && (strcmp (compat, "0.10") == 0 || strcmp (compat, "v2") == 0) ? 2 : 3,
    .lazy = tn_options_bool (options, "lazy_refcounts"),
    .extended = tn_options_bool (options, "extended_l2"),
    .compression_type = g_strcmp0 (tn_options_get (options, "compression_type"), "zstd") == 0,
    .data_file = tn_options_has (options, "data_file"),
    .data_file_raw = tn_options_bool (options, "data_file_raw"),
    .prealloc = parse_prealloc (tn_options_get (options, "preallocation")),
  };
  if ((cluster & (cluster - 1)) || cluster < 512 || cluster > 2u << 20) {
    return refuse (error, "cluster_size must be a power of two from 512 to 2M");
  }
  if ((bits & (bits - 1)) || bits > 64) {
    return refuse (error, "refcount_bits must be 1, 2, 4, 8, 16, 32 or 64");
  }
  layout->cluster_bits = (uint32_t) g_bit_nth_msf (cluster, -1);
  layout->refcount_order = (uint32_t) g_bit_nth_msf (bits, -1);
  if (layout->extended && layout->cluster_bits < 14) {
    return refuse (error, "extended_l2 needs cluster_size=16k or more");
  }
  if (layout->data_file_raw && !layout->data_file) {
    return refuse (error, "data_file_raw needs data_file");
  }
  if (layout->data_file_raw && has_backing) {
    return refuse (error, "an image with a raw data file cannot have a backing file");
  }
  if (layout->prealloc != TN_PREALLOC_OFF && has_backing && !layout->extended) {
    return refuse (error, "preallocation and a backing file go together with extended_l2=on only");
  }
  int ret = qcow2_crypt_check_options (options, layout, error);
  if (ret < 0) {
    return ret;
  }
  if (layout->data_file_raw && layout->prealloc == TN_PREALLOC_OFF) {
    layout->prealloc = TN_PREALLOC_METADATA; /* every cluster is where its guest offset says */
  }
  return check_version2 (layout, error);
}

/* ---- Files ---- */

static void
fill_header (Qcow2 *q, const Qcow2Layout *layout, const TnOptions *options)
{
  const char *name = tn_options_get (options, "backing_file"),
             *format = tn_options_get (options, "backing_fmt");
  const uint64_t cluster = 1ull << layout->cluster_bits;
  q->cluster_bits = layout->cluster_bits;
  q->cluster_size = (uint32_t) cluster;
  q->backing_name = name && *name ? g_strdup (name) : NULL;
  q->backing_format = q->backing_name && format && *format ? g_strdup (format) : NULL;
  q->data_file_name = g_strdup (tn_options_get (options, "data_file"));
  q->header = (Qcow2Header){
    .version = layout->version,
    .cluster_bits = layout->cluster_bits,
    .reftable_offset = cluster,
    .reftable_clusters = 1,
    .refcount_order = layout->refcount_order,
    .compression_type = layout->compression_type,
    .incompatible = (layout->compression_type ? QCOW2_INCOMPAT_COMPRESSION : 0)
                    | (layout->extended ? QCOW2_INCOMPAT_EXTENDED_L2 : 0)
                    | (layout->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0),
    .compatible = layout->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
    .autoclear = layout->data_file_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0,
  };
}

static int
write_first_clusters (TnNode *file, const Qcow2Layout *layout, const TnOptions *options, GError **error)
{
  Qcow2 q = { .file = file, .creating = true };
  fill_header (&q, layout, options);
  const size_t cluster = q.cluster_size;
  g_autofree uint8_t *tables = g_malloc0 (2 * cluster);
  tn_store_be64 (tables, 2 * cluster);
  for (unsigned i = 0; i < 3; i++) {
    qcow2_count_store (tables + cluster, i, layout->refcount_order, 1);
  }
  int ret = qcow2_header_write (&q, error);
  if (ret == 0) {
    ret = tn_node_write (file, cluster, tables, 2 * cluster, error);
  }
  qcow2_header_clear (&q);
  return ret;
}

static int
grow_to_size (TnNode *file, const Qcow2Layout *layout, const TnOptions *options, uint64_t size,
              GError **error)
{
  Qcow2 q = { .flags = TN_OPEN_WRITE, .writable = true, .creating = true, .touched = true };
  int ret = qcow2_attach (&q, file, NULL, error);
  if (ret == 0) {
    q.lazy = false; /* nobody reads the image yet */
    ret = qcow2_load_tables (&q, error);
  }
  if (ret == 0 && (ret = qcow2_resize_state (&q, size, layout->prealloc, error)) == 0
      && (ret = qcow2_crypt_create (&q, options, error)) == 0) {
    ret = qcow2_settle (&q, error);
  }
  qcow2_detach (&q);
  return ret;
}

int
qcow2_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  Qcow2Layout layout;
  int ret = qcow2_layout_from_options (options, &layout, error);
  if (ret < 0) {
    return ret;
  }
  const unsigned table_bits = layout.cluster_bits * 2 - (layout.extended ? 4 : 3);
  if (size > (uint64_t) INT64_MAX || (size && (size - 1) >> table_bits >= QCOW2_MAX_L1_BYTES / 8)) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "qcow2: a disk of %" PRIu64 " bytes needs larger clusters than %u", size,
                    1u << layout.cluster_bits);
  }
  if ((ret = qcow2_crypt_check_secret (options, error)) < 0) {
    return ret;
  }
  if (layout.data_file
      && (ret = qcow2_create_data_file (file, tn_options_get (options, "data_file"), layout.prealloc, size,
                                        error))
             < 0) {
    return ret;
  }
  if ((ret = write_first_clusters (file, &layout, options, error)) < 0) {
    return ret;
  }
  return grow_to_size (file, &layout, options, size, error);
}
