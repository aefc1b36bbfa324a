/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header: 48 bytes, then the name of the backing file, then the L1 table. */
#include "qcow.h"

uint64_t
qcow_l1_needed (unsigned cluster_bits, unsigned l2_bits, uint64_t size)
{
  const unsigned shift = cluster_bits + l2_bits;
  return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

static void
qcow_header_decode (QcowHeader *h, const uint8_t *p)
{
  *h = (QcowHeader){
    .backing_offset = tn_load_be64 (p + 8),
    .backing_length = tn_load_be32 (p + 16),
    .mtime = tn_load_be32 (p + 20),
    .size = tn_load_be64 (p + 24),
    .cluster_bits = p[32],
    .l2_bits = p[33],
    .crypt_method = tn_load_be32 (p + 36),
    .l1_offset = tn_load_be64 (p + 40),
  };
}

static int
qcow_check_geometry (const Qcow *q, GError **error)
{
  const QcowHeader *h = &q->header;
  if (h->cluster_bits < QCOW_MIN_CLUSTER_BITS || h->cluster_bits > QCOW_MAX_CLUSTER_BITS) {
    return qcow_fail (q, error, EINVAL, "the header gives clusters of 2^%u bytes", h->cluster_bits);
  }
  if (h->l2_bits < QCOW_MIN_L2_BITS || h->l2_bits > QCOW_MAX_L2_BITS) {
    return qcow_fail (q, error, EINVAL, "the header gives L2 tables of 2^%u entries", h->l2_bits);
  }
  if (h->crypt_method > QCOW_CRYPT_AES) {
    return qcow_fail (q, error, EINVAL, "the header names the unknown encryption method %u", h->crypt_method);
  }
  if (h->size < 2 || h->size > (uint64_t) INT64_MAX
      || qcow_l1_needed (h->cluster_bits, h->l2_bits, h->size) > QCOW_MAX_L1_ENTRIES) {
    return qcow_fail (q, error, EINVAL, "the header gives a disk size of %" PRIu64 " bytes", h->size);
  }
  return 0;
}

static int
qcow_check_l1 (const Qcow *q, uint64_t file_size, GError **error)
{
  const uint64_t at = q->header.l1_offset, bytes = q->l1_entries * 8;
  if (at < QCOW_HEADER_BYTES || at % 8 || at > file_size || bytes > file_size - at) {
    return qcow_fail (q, error, EINVAL,
                      "its L1 table of %" PRIu64 " bytes at 0x%" PRIx64
                      " is not within the file: is it truncated?",
                      bytes, at);
  }
  return 0;
}

static int
qcow_read_backing (Qcow *q, uint64_t file_size, GError **error)
{
  const QcowHeader *h = &q->header;
  if (h->backing_offset == 0 || h->backing_length == 0) {
    return 0;
  }
  if (h->backing_length > QCOW_MAX_BACKING_NAME || h->backing_offset > file_size
      || h->backing_length > file_size - h->backing_offset) {
    return qcow_fail (q, error, EINVAL,
                      "the backing file name (%u bytes at 0x%" PRIx64 ") is too long or not within the file",
                      h->backing_length, h->backing_offset);
  }
  g_autofree char *name = g_malloc0 (h->backing_length + 1u);
  int ret = tn_node_read (q->file, h->backing_offset, name, h->backing_length, error);
  if (ret < 0) {
    return ret;
  }
  if (*name) {
    q->backing_name = g_steal_pointer (&name);
  }
  return 0;
}

static void
qcow_set_geometry (Qcow *q)
{
  const QcowHeader *h = &q->header;
  q->cluster_bits = h->cluster_bits;
  q->cluster_size = 1u << h->cluster_bits;
  q->l2_bits = h->l2_bits;
  q->l2_bytes = 8ull << h->l2_bits;
  q->l1_entries = qcow_l1_needed (h->cluster_bits, h->l2_bits, h->size);
  q->size = h->size & ~(uint64_t) (QCOW_SECTOR - 1);
  /* No slice may reach beyond its table, which begins at a multiple of the cluster size. */
  q->slice_bytes = (uint32_t) MIN (4096u, MIN (q->l2_bytes, q->cluster_size));
  q->packed_mask = (UINT64_C (1) << (63 - q->cluster_bits)) - 1;
}

int
qcow_header_read (Qcow *q, GError **error)
{
  const uint64_t file_size = tn_node_size (q->file);
  uint8_t head[QCOW_HEADER_BYTES];
  if (file_size < sizeof head) {
    return qcow_fail (q, error, EINVAL, "a file of %" PRIu64 " bytes has no room for the header", file_size);
  }
  int ret = tn_node_read (q->file, 0, head, sizeof head, error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_be32 (head) != QCOW_MAGIC || tn_load_be32 (head + 4) != 1) {
    return qcow_fail (q, error, EINVAL, "it does not begin as a qcow image of version 1 does");
  }
  qcow_header_decode (&q->header, head);
  if ((ret = qcow_check_geometry (q, error)) < 0) {
    return ret;
  }
  qcow_set_geometry (q);
  if ((ret = qcow_check_l1 (q, file_size, error)) < 0) {
    return ret;
  }
  return qcow_read_backing (q, file_size, error);
}

int
qcow_header_write (Qcow *q, GError **error)
{
  const QcowHeader *h = &q->header;
  const size_t name_length = q->backing_name ? strlen (q->backing_name) : 0;
  g_autofree uint8_t *head = g_malloc0 (QCOW_HEADER_BYTES + name_length);
  tn_store_be32 (head, QCOW_MAGIC);
  tn_store_be32 (head + 4, 1);
  tn_store_be64 (head + 8, h->backing_offset);
  tn_store_be32 (head + 16, h->backing_length);
  tn_store_be32 (head + 20, h->mtime);
  tn_store_be64 (head + 24, h->size);
  head[32] = h->cluster_bits;
  head[33] = h->l2_bits;
  tn_store_be32 (head + 36, h->crypt_method);
  tn_store_be64 (head + 40, h->l1_offset);
  if (name_length) {
    memcpy (head + QCOW_HEADER_BYTES, q->backing_name, name_length);
  }
  return tn_node_write (q->file, 0, head, QCOW_HEADER_BYTES + name_length, error);
}
