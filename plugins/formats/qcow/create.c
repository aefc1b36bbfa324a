/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making an image, and how large one would be. */
#include "qcow.h"

/* Over a backing file small clusters copy less; alone, larger ones need fewer tables. */
static void
qcow_choose_geometry (const TnOptions *options, QcowHeader *h)
{
  const char *backing = tn_options_get (options, "backing_file");
  const bool overlay = backing && *backing;
  h->cluster_bits = overlay ? 9 : 12;
  h->l2_bits = overlay ? 12 : 9;
}

static int
qcow_check_options (const TnOptions *options, uint64_t size, const QcowHeader *h, GError **error)
{
  const char *backing = tn_options_get (options, "backing_file");
  if (tn_options_bool (options, "encryption") || tn_options_has (options, "encrypt.format")
      || tn_options_has (options, "encrypt.key-secret")) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "qcow: encryption is not available: use the format luks");
  }
  if (backing && strlen (backing) > QCOW_MAX_BACKING_NAME) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "qcow: a backing file name may have %u bytes at most",
                    QCOW_MAX_BACKING_NAME);
  }
  if (size == 0) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "qcow: a disk of 0 bytes is not possible: choose a larger size");
  }
  if (size > (uint64_t) INT64_MAX - QCOW_SECTOR
      || qcow_l1_needed (h->cluster_bits, h->l2_bits, size) > QCOW_MAX_L1_ENTRIES) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "qcow: a disk of %" PRIu64 " bytes is too large", size);
  }
  return 0;
}

int
qcow_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  const char *backing = tn_options_get (options, "backing_file");
  Qcow q = { .file = file };
  QcowHeader *h = &q.header;
  qcow_choose_geometry (options, h);
  int ret = qcow_check_options (options, size, h, error);
  if (ret < 0) {
    return ret;
  }
  h->size = (size + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1);
  if (backing && *backing) {
    q.backing_name = g_strdup (backing);
    h->backing_offset = QCOW_HEADER_BYTES;
    h->backing_length = (uint32_t) strlen (backing);
  }
  h->l1_offset = (QCOW_HEADER_BYTES + h->backing_length + 7u) & ~7u;
  const uint64_t l1_bytes = qcow_l1_needed (h->cluster_bits, h->l2_bits, h->size) * 8;
  ret = tail_space_make_zeroes (file, h->l1_offset + l1_bytes, error);
  if (ret == 0) {
    ret = qcow_header_write (&q, error);
  }
  g_free (q.backing_name);
  return ret;
}

int
qcow_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  QcowHeader h = { 0 };
  qcow_choose_geometry (options, &h);
  size = source ? tn_node_size (source) : size;
  int ret = qcow_check_options (options, size, &h, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t cluster = 1ull << h.cluster_bits, data = (size + cluster - 1) & ~(cluster - 1);
  const uint64_t tables = qcow_l1_needed (h.cluster_bits, h.l2_bits, size);
  const uint64_t l1_end = (QCOW_HEADER_BYTES + tables * 8 + cluster - 1) & ~(cluster - 1);
  const uint64_t metadata = l1_end + tables * (8ull << h.l2_bits);
  uint64_t used = 0;
  if (source && (ret = tail_space_measure (source, cluster, &used, error)) < 0) {
    return ret;
  }
  measure->required = metadata + used;
  measure->fully_allocated = metadata + data;
  measure->bitmaps = UINT64_MAX;
  return 0;
}
