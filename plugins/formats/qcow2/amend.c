/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing what an image was created with: version, width of the counts, lazy counts, backing file, size.
 * Everything that can be refused is looked at before anything is changed.
 */
#include "crypt.h"

typedef struct Wanted {
  uint32_t version, order;
  bool lazy, slots;
} Wanted;

static int
refuse_fixed (Qcow2 *q, const char *name, GError **error)
{
  return qcow2_fail (q, error, ENOTSUP, "%s cannot be changed: convert the image instead", name);
}

/* Options that can only be given as they are already. */
static int
check_fixed (Qcow2 *q, const TnOptions *options, GError **error)
{
  const char *compression = tn_options_get (options, "compression_type");
  const bool raw = q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
  if (tn_options_has (options, "cluster_size")
      && tn_options_uint (options, "cluster_size") != q->cluster_size) {
    return refuse_fixed (q, "cluster_size", error);
  }
  if (tn_options_has (options, "extended_l2") && tn_options_bool (options, "extended_l2") != q->extended) {
    return refuse_fixed (q, "extended_l2", error);
  }
  if (compression && strcmp (compression, q->header.compression_type ? "zstd" : "zlib") != 0) {
    return refuse_fixed (q, "compression_type", error);
  }
  if (tn_options_has (options, "preallocation")) {
    return refuse_fixed (q, "preallocation", error);
  }
  if (tn_options_has (options, "data_file") && !q->external) {
    return refuse_fixed (q, "data_file", error);
  }
  if (tn_options_has (options, "data_file_raw") && tn_options_bool (options, "data_file_raw") != raw) {
    return refuse_fixed (q, "data_file_raw", error);
  }
  if (tn_options_has (options, "encryption")) {
    return refuse_fixed (q, "encryption", error);
  }
  return 0;
}

static int
parse_wanted (Qcow2 *q, const TnOptions *options, Wanted *wanted, GError **error)
{
  const char *compat = tn_options_get (options, "compat");
  const uint64_t bits = tn_options_uint (options, "refcount_bits");
  *wanted = (Wanted){ .version = q->header.version,
                      .order = q->header.refcount_order,
                      .lazy = q->header.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS };
  if (compat) {
    wanted->version = strcmp (compat, "0.10") == 0 || strcmp (compat, "v2") == 0 ? 2 : 3;
  }
  if (tn_options_has (options, "refcount_bits")) {
    if (bits == 0 || bits > 64 || (bits & (bits - 1))) {
      return qcow2_fail (q, error, EINVAL, "refcount_bits must be 1, 2, 4, 8, 16, 32 or 64");
    }
    wanted->order = (uint32_t) g_bit_nth_msf (bits, -1);
  }
  if (wanted->version < 3) {
    wanted->lazy = false; /* unless it is asked for, below */
  }
  if (tn_options_has (options, "lazy_refcounts")) {
    wanted->lazy = tn_options_bool (options, "lazy_refcounts");
  }
  return qcow2_crypt_check_amend (q, options, &wanted->slots, error);
}

static int
check_version2 (Qcow2 *q, const Wanted *wanted, GError **error)
{
  const uint64_t features = q->header.incompatible & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
  if (wanted->version >= 3) {
    return 0;
  }
  if (wanted->order != 4 || wanted->lazy) {
    return qcow2_fail (q, error, EINVAL, "version 2 has counts of 16 bits only, and none that are lazy");
  }
  if (q->header.version < 3) {
    return 0;
  }
  if (features) {
    return qcow2_fail (q, error, ENOTSUP,
                       "version 2 has no extended L2 entries, zstd compression or external data file");
  }
  if (q->bitmap_count) {
    return qcow2_fail (q, error, ENOTSUP, "version 2 has no bitmaps: remove its %u first", q->bitmap_count);
  }
  return q->header.snapshot_count
             ? qcow2_fail (q, error, ENOTSUP,
                           "its %u snapshots would lose their zero clusters: delete them first",
                           q->header.snapshot_count)
             : 0;
}

/* ---- To version 2 ---- */

static int
fill_with_zeroes (Qcow2 *q, uint64_t offset, GError **error)
{
  TnExtent extent = { 0 };
  int ret = qcow2_reserve_state (q, offset, q->cluster_size, 0, &extent, error);
  if (ret < 0) {
    return ret;
  }
  if ((ret = qcow2_crypt_write_zeroes (q, &extent, error)) < 0
      || (ret = qcow2_commit_extent (q, &extent, error)) < 0) {
    qcow2_cancel_extent (q, &extent);
  }
  return ret;
}

static int
forget_zero (Qcow2 *q, uint64_t offset, GError **error)
{
  TnMetaSlice *slice;
  int ret = qcow2_l2_order (q, false, error);
  if (ret < 0 || (ret = qcow2_l2_get_writable (q, offset, &slice, error)) < 0) {
    return ret;
  }
  const unsigned index = qcow2_slice_index (q, offset);
  qcow2_free_entry (q, qcow2_entry_load (q, tn_meta_data (slice), index));
  qcow2_entry_store (q, tn_meta_data (slice), index, (Qcow2Entry){ 0, 0 });
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* Version 2 has no zero clusters: what hides a backing file becomes data, the rest is unallocated. */
static int
expand_zeroes (Qcow2 *q, GError **error)
{
  const bool hides = q->backing_name != NULL;
  const uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at < q->size;) {
    TnMetaSlice *slice;
    if ((ret = qcow2_l2_get (q, at, &slice, error)) < 0) {
      return ret;
    }
    if (slice == NULL) {
      at = (at / span + 1) * span;
      continue;
    }
    const Qcow2Entry entry = qcow2_entry_load (q, tn_meta_data (slice), qcow2_slice_index (q, at));
    const Qcow2Kind kind = qcow2_entry_kind (q, entry, at, 0);
    tn_meta_put (slice);
    if (kind == QCOW2_KIND_ZERO || kind == QCOW2_KIND_ZERO_PLACED) {
      ret = hides ? fill_with_zeroes (q, at, error) : forget_zero (q, at, error);
    }
    at += q->cluster_size;
  }
  return ret;
}

static int
downgrade (Qcow2 *q, GError **error)
{
  int ret = expand_zeroes (q, error);
  if (ret < 0 || (ret = qcow2_settle (q, error)) < 0 || (ret = qcow2_clear_dirty (q, error)) < 0) {
    return ret;
  }
  const Qcow2Header old = q->header;
  q->header.version = 2;
  q->header.incompatible = q->header.compatible = q->header.autoclear = 0;
  g_clear_pointer (&q->header.tail, g_bytes_unref);
  if ((ret = qcow2_header_write (q, error)) < 0) {
    q->header = old;
    q->header.tail = NULL;
    return ret;
  }
  q->lazy = false;
  return qcow2_barrier (q, error);
}

/* ---- The rest ---- */

static int
upgrade (Qcow2 *q, GError **error)
{
  int ret = qcow2_settle (q, error);
  if (ret < 0) {
    return ret;
  }
  q->header.version = 3;
  q->header.refcount_order = 4;
  if ((ret = qcow2_header_write (q, error)) < 0) {
    q->header.version = 2;
    return ret;
  }
  return qcow2_barrier (q, error);
}

static int
set_lazy (Qcow2 *q, bool lazy, GError **error)
{
  const uint64_t old = q->header.compatible;
  int ret = qcow2_settle (q, error);
  if (ret < 0 || (ret = qcow2_clear_dirty (q, error)) < 0) {
    return ret;
  }
  q->header.compatible = (old & ~QCOW2_COMPAT_LAZY_REFCOUNTS) | (lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
  if ((ret = qcow2_header_write_features (q, error)) < 0) {
    q->header.compatible = old;
    return ret;
  }
  q->lazy = lazy;
  return qcow2_barrier (q, error);
}

static int
set_names (Qcow2 *q, const TnOptions *options, GError **error)
{
  const char *data_file = tn_options_get (options, "data_file");
  if (tn_options_has (options, "backing_file") || tn_options_has (options, "backing_fmt")) {
    const bool renamed = tn_options_has (options, "backing_file"),
               typed = tn_options_has (options, "backing_fmt");
    g_autofree char *name = g_strdup (renamed ? tn_options_get (options, "backing_file") : q->backing_name);
    g_autofree char *format = g_strdup (typed ? tn_options_get (options, "backing_fmt") : q->backing_format);
    int ret = qcow2_set_backing (q->node, name, format, error);
    if (ret < 0) {
      return ret;
    }
    tn_node_set_backing (q->node, q->backing_name, q->backing_format);
  }
  if (data_file == NULL) {
    return 0;
  }
  g_free (q->data_file_name);
  q->data_file_name = g_strdup (*data_file ? data_file : NULL);
  int ret = qcow2_header_write (q, error);
  return ret < 0 ? ret : qcow2_barrier (q, error);
}

static int
apply (Qcow2 *q, const TnOptions *options, const Wanted *wanted, GError **error)
{
  const bool lazy = q->header.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
  int ret = wanted->slots ? qcow2_crypt_amend (q, options, error) : 0;
  if (ret == 0 && wanted->version > q->header.version) {
    ret = upgrade (q, error);
  }
  if (ret == 0 && wanted->order != q->header.refcount_order) {
    ret = qcow2_change_refcount_order (q, wanted->order, error);
  }
  if (ret == 0) {
    ret = set_names (q, options, error);
  }
  if (ret == 0 && wanted->version >= 3 && wanted->lazy != lazy) {
    ret = set_lazy (q, wanted->lazy, error);
  }
  if (ret == 0 && tn_options_has (options, "size")) {
    ret = qcow2_resize_state (q, tn_options_uint (options, "size"), TN_PREALLOC_OFF, error);
  }
  return ret == 0 && wanted->version < q->header.version ? downgrade (q, error) : ret;
}

int
qcow2_amend (TnNode *node, const TnOptions *options, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  Wanted wanted;
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  int ret = check_fixed (q, options, error);
  if (ret < 0 || (ret = parse_wanted (q, options, &wanted, error)) < 0
      || (ret = check_version2 (q, &wanted, error)) < 0) {
    return ret;
  }
  if (wanted.version < 3 && q->header.version < 3 && wanted.order != q->header.refcount_order) {
    return qcow2_fail (q, error, EINVAL, "refcount_bits other than 16 need compat=1.1");
  }
  if ((ret = qcow2_touch (q, error)) < 0) {
    return ret;
  }
  return apply (q, options, &wanted, error);
}
