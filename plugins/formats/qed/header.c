/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header: 64 bytes, and the name of the backing file somewhere behind it in the header clusters. */
#include "qed.h"

static bool
qed_is_power_of_2 (uint64_t n)
{
  return n != 0 && (n & (n - 1)) == 0;
}

uint64_t
qed_max_size (unsigned cluster_bits, unsigned table_bits)
{
  const unsigned bits = cluster_bits + 2 * table_bits;
  return bits >= 63 ? (uint64_t) INT64_MAX & ~(uint64_t) (QED_SECTOR - 1) : 1ull << bits;
}

static void
qed_header_decode (QedHeader *h, const uint8_t *p)
{
  *h = (QedHeader){
    .cluster_size = tn_load_le32 (p + 4),
    .table_clusters = tn_load_le32 (p + 8),
    .header_clusters = tn_load_le32 (p + 12),
    .features = tn_load_le64 (p + 16),
    .compat_features = tn_load_le64 (p + 24),
    .autoclear_features = tn_load_le64 (p + 32),
    .l1_offset = tn_load_le64 (p + 40),
    .size = tn_load_le64 (p + 48),
    .backing_offset = tn_load_le32 (p + 56),
    .backing_length = tn_load_le32 (p + 60),
  };
}

static int
qed_check_geometry (const Qed *q, uint64_t file_size, GError **error)
{
  const QedHeader *h = &q->header;
  if (h->features & ~QED_F_KNOWN) {
    return qed_fail (q, error, ENOTSUP, "it needs features that are not known here (0x%" PRIx64 ")",
                     h->features & ~QED_F_KNOWN);
  }
  if (!qed_is_power_of_2 (h->cluster_size) || h->cluster_size < QED_MIN_CLUSTER
      || h->cluster_size > QED_MAX_CLUSTER) {
    return qed_fail (q, error, EINVAL, "the header gives a cluster size of %u", h->cluster_size);
  }
  if (!qed_is_power_of_2 (h->table_clusters) || h->table_clusters > QED_MAX_TABLE_CLUSTERS) {
    return qed_fail (q, error, EINVAL, "the header gives a table size of %u clusters", h->table_clusters);
  }
  if (h->header_clusters == 0 || h->header_clusters > file_size / h->cluster_size) {
    return qed_fail (q, error, EINVAL,
                     "the header says that it has %u clusters, in a file of %" PRIu64 " bytes",
                     h->header_clusters, file_size);
  }
  return 0;
}

static int
qed_check_places (const Qed *q, GError **error)
{
  const QedHeader *h = &q->header;
  if (h->size % QED_SECTOR || h->size > qed_max_size (q->cluster_bits, q->table_bits)) {
    return qed_fail (q, error, EINVAL,
                     "the header gives a disk size of %" PRIu64 " bytes, its tables reach to %" PRIu64,
                     h->size, qed_max_size (q->cluster_bits, q->table_bits));
  }
  if (!qed_valid_table (q, h->l1_offset)) {
    return qed_fail (q, error, EINVAL,
                     "the header puts the L1 table at 0x%" PRIx64
                     ", which is not in the file: is it truncated?",
                     h->l1_offset);
  }
  return 0;
}

static int
qed_read_backing (Qed *q, GError **error)
{
  const QedHeader *h = &q->header;
  const uint64_t limit = (uint64_t) h->header_clusters * h->cluster_size;
  if (!(h->features & QED_F_BACKING_FILE)) {
    return 0;
  }
  if (h->backing_length > QED_MAX_BACKING_NAME || h->backing_offset > limit
      || h->backing_length > limit - h->backing_offset) {
    return qed_fail (q, error, EINVAL, "the backing file name (%u bytes at 0x%x) is not within the header",
                     h->backing_length, h->backing_offset);
  }
  g_autofree char *name = g_malloc0 (h->backing_length + 1u);
  int ret = h->backing_length ? tn_node_read (q->file, h->backing_offset, name, h->backing_length, error) : 0;
  if (ret < 0) {
    return ret;
  }
  if (*name) {
    q->backing_name = g_steal_pointer (&name);
  }
  return 0;
}

int
qed_header_read (Qed *q, GError **error)
{
  const uint64_t file_size = tn_node_size (q->file);
  uint8_t head[QED_HEADER_BYTES];
  if (file_size < sizeof head) {
    return qed_fail (q, error, EINVAL, "a file of %" PRIu64 " bytes has no room for the header", file_size);
  }
  int ret = tn_node_read (q->file, 0, head, sizeof head, error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_le32 (head) != QED_MAGIC) {
    return qed_fail (q, error, EINVAL, "it does not begin as a QED image does");
  }
  qed_header_decode (&q->header, head);
  if ((ret = qed_check_geometry (q, file_size, error)) < 0) {
    return ret;
  }
  q->cluster_size = q->header.cluster_size;
  q->cluster_bits = (unsigned) g_bit_nth_msf (q->cluster_size, -1);
  q->table_bytes = (uint64_t) q->header.table_clusters * q->cluster_size;
  q->table_bits = (unsigned) g_bit_nth_msf (q->table_bytes / 8, -1);
  tail_space_init (&q->space, file_size & ~(uint64_t) (q->cluster_size - 1));
  ret = qed_check_places (q, error);
  return ret < 0 ? ret : qed_read_backing (q, error);
}

int
qed_header_write (Qed *q, GError **error)
{
  const QedHeader *h = &q->header;
  const size_t name_length = q->backing_name ? strlen (q->backing_name) : 0;
  uint8_t head[QED_HEADER_BYTES] = { 0 };
  tn_store_le32 (head, QED_MAGIC);
  tn_store_le32 (head + 4, h->cluster_size);
  tn_store_le32 (head + 8, h->table_clusters);
  tn_store_le32 (head + 12, h->header_clusters);
  tn_store_le64 (head + 16, h->features);
  tn_store_le64 (head + 24, h->compat_features);
  tn_store_le64 (head + 32, h->autoclear_features);
  tn_store_le64 (head + 40, h->l1_offset);
  tn_store_le64 (head + 48, h->size);
  tn_store_le32 (head + 56, h->backing_offset);
  tn_store_le32 (head + 60, h->backing_length);
  /* In one piece where the name is right behind, as all writers put it. */
  if (name_length == 0 || h->backing_offset != QED_HEADER_BYTES || h->backing_length != name_length) {
    return tn_node_write (q->file, 0, head, sizeof head, error);
  }
  g_autofree uint8_t *both = g_malloc (sizeof head + name_length);
  memcpy (both, head, sizeof head);
  memcpy (both + sizeof head, q->backing_name, name_length);
  return tn_node_write (q->file, 0, both, sizeof head + name_length, error);
}

int
qed_header_set_backing (Qed *q, const char *name, const char *format, GError **error)
{
  QedHeader *h = &q->header;
  const size_t length = name ? strlen (name) : 0;
  if (length > QED_MAX_BACKING_NAME) {
    return qed_fail (q, error, EINVAL,
                     "a backing file name of %zu bytes is too long: at most %u are possible", length,
                     QED_MAX_BACKING_NAME);
  }
  h->features &= ~(QED_F_BACKING_FILE | QED_F_BACKING_RAW);
  h->backing_offset = h->backing_length = 0;
  g_clear_pointer (&q->backing_name, g_free);
  if (length == 0) {
    return 0;
  }
  q->backing_name = g_strdup (name);
  h->backing_offset = QED_HEADER_BYTES;
  h->backing_length = (uint32_t) length;
  h->features |= QED_F_BACKING_FILE | (g_strcmp0 (format, "raw") == 0 ? QED_F_BACKING_RAW : 0);
  return 0;
}
