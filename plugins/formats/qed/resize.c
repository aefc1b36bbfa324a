/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changes of the image as a whole: size, contents, backing file. */
#include "qed.h"

/* ---- Growing ---- */

/* How far the backing file would show through beyond the old end. */
static uint64_t
qed_backing_end (const Qed *q, uint64_t size)
{
  TnNode *backing = tn_node_child (q->node, "backing");
  if (!qed_has_backing (q)) {
    return 0;
  }
  return backing ? MIN (tn_node_size (backing), size) : size;
}

/* A cluster across the old end that comes from the backing file so far: a copy of what the disk showed. */
static int
qed_fill_tail (Qed *q, uint64_t old_size, GError **error)
{
  const uint64_t start = old_size & ~(uint64_t) (q->cluster_size - 1);
  TnNode *backing = tn_node_child (q->node, "backing");
  if (backing == NULL) {
    return qed_fail (q, error, EINVAL, "growing it needs its backing file, which is not open");
  }
  g_autofree uint8_t *bytes = g_try_malloc0 (q->cluster_size);
  TnExtent extent = { 0 };
  if (bytes == NULL) {
    return qed_fail (q, error, ENOMEM, "no memory for a cluster of %u bytes", q->cluster_size);
  }
  const uint64_t end = MIN (old_size, tn_node_size (backing));
  int ret = end > start ? tn_node_read (backing, start, bytes, end - start, error) : 0;
  if (ret < 0 || (ret = qed_reserve (q->node, start, q->cluster_size, 0, &extent, error)) < 0) {
    return ret;
  }
  ret = tn_node_write (q->file, extent.source_offset, bytes, q->cluster_size, error);
  if (ret < 0 || (ret = qed_commit (q->node, &extent, 1, error)) < 0) {
    qed_cancel (q->node, &extent, 1);
  }
  return ret;
}

/* Bytes between the old end and the end of its cluster may hold anything: they must read as zeroes. */
static int
qed_clear_tail (Qed *q, uint64_t old_size, uint64_t new_size, GError **error)
{
  const uint64_t end = (old_size + q->cluster_size - 1) & ~(uint64_t) (q->cluster_size - 1);
  TnExtent extent = { 0 };
  if (old_size == end) {
    return 0;
  }
  int ret = qed_map (q->node, old_size - 1, 1, 0, &extent, error);
  if (ret < 0) {
    return ret;
  }
  if (extent.kind == TN_EXTENT_DATA) {
    const uint64_t host = extent.source_offset + (old_size - extent.offset);
    return tn_node_write_zeroes (q->file, host, end - old_size, 0, error);
  }
  const bool shows = extent.kind == TN_EXTENT_UNALLOCATED && qed_backing_end (q, new_size) > old_size;
  return shows ? qed_fill_tail (q, old_size, error) : 0;
}

/* Whole clusters of a larger backing file. */
static int
qed_hide_backing (Qed *q, uint64_t old_size, uint64_t new_size, GError **error)
{
  const uint64_t start = (old_size + q->cluster_size - 1) & ~(uint64_t) (q->cluster_size - 1);
  const uint64_t end = qed_backing_end (q, new_size);
  return end > start ? qed_unmap_range (q, start, end - start, TN_UNMAP_ZERO, error) : 0;
}

int
qed_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Qed *q = tn_node_state (node);
  const uint64_t old = q->header.size;
  int ret = qed_need_writable (q, error);
  if (ret < 0) {
    return ret;
  }
  if (prealloc != TN_PREALLOC_OFF) {
    return qed_fail (q, error, ENOTSUP, "the format has no preallocation");
  }
  if (size < old) {
    return qed_fail (q, error, ENOTSUP, "it cannot shrink: convert it to a smaller image");
  }
  if (size % QED_SECTOR || size > qed_max_size (q->cluster_bits, q->table_bits)) {
    return qed_fail (q, error, EINVAL,
                     "its disk size must be a multiple of %u up to %" PRIu64 ", which %" PRIu64 " is not",
                     QED_SECTOR, qed_max_size (q->cluster_bits, q->table_bits), size);
  }
  if ((ret = qed_touch (q, error)) < 0 || (ret = qed_clear_tail (q, old, size, error)) < 0
      || (ret = qed_hide_backing (q, old, size, error)) < 0 || (ret = qed_sync (q, error)) < 0) {
    return ret;
  }
  q->header.size = size;
  if ((ret = qed_header_write (q, error)) < 0) {
    q->header.size = old;
    return ret;
  }
  return tn_node_flush (q->file, error);
}

/* ---- Emptying ---- */

int
qed_make_empty (TnNode *node, GError **error)
{
  Qed *q = tn_node_state (node);
  const uint64_t l1_end = q->header.l1_offset + q->table_bytes;
  int ret = qed_need_writable (q, error);
  if (ret < 0 || (ret = qed_touch (q, error)) < 0 || (ret = qed_mark_need_check (q, error)) < 0
      || (ret = qed_sync (q, error)) < 0
      || (ret = tn_node_write_zeroes (q->file, q->header.l1_offset, q->table_bytes, 0, error)) < 0
      || (ret = tn_node_flush (q->file, error)) < 0) {
    return ret;
  }
  tn_meta_drop (q->l1_cache);
  tn_meta_drop (q->l2_cache);
  tn_node_bump_generation (node);
  /* An L1 table that is not at the front, as it always is, keeps what lies before it. */
  tail_space_reset (&q->space, l1_end);
  return tail_space_cut (&q->space, q->file, error);
}

/* ---- The backing file ---- */

int
qed_set_backing (TnNode *node, const char *filename, const char *format, GError **error)
{
  Qed *q = tn_node_state (node);
  const QedHeader old = q->header;
  g_autofree char *old_name = g_strdup (q->backing_name);
  int ret = qed_need_writable (q, error);
  if (ret < 0 || (ret = qed_touch (q, error)) < 0 || (ret = qed_sync (q, error)) < 0
      || (ret = qed_header_set_backing (q, filename, format, error)) < 0) {
    return ret;
  }
  if ((ret = qed_header_write (q, error)) < 0) {
    q->header = old;
    g_free (q->backing_name);
    q->backing_name = g_steal_pointer (&old_name);
    return ret;
  }
  return tn_node_flush (q->file, error);
}
