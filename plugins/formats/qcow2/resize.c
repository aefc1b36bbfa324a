/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growing and shrinking the disk, and allocating in advance. */
#include "crypt.h"

/* ---- Allocating in advance ---- */

/* Space for [host, host + length) that reads as zeroes: the file grows, and what was in the file before is
 * cleared. */
static int
prepare_space (Qcow2 *q, uint64_t host, uint64_t length, TnPrealloc prealloc, GError **error)
{
  const uint64_t old = tn_node_size (q->file), end = host + length;
  int ret = 0;
  if (host < old) {
    ret = tn_node_write_zeroes (q->file, host, MIN (old, end) - host, 0, error);
  }
  if (ret == 0 && end > old) {
    ret = tn_node_resize (q->file, end, prealloc == TN_PREALLOC_METADATA ? TN_PREALLOC_OFF : prealloc, error);
  }
  return ret;
}

/* Links a place to clusters that have none, from @offset to *done at most. */
static int
preallocate_run (Qcow2 *q, uint64_t offset, uint64_t end, TnPrealloc prealloc, uint64_t *done, GError **error)
{
  TnMetaSlice *slice;
  uint64_t host, n = 0;
  int ret = qcow2_l2_get_writable (q, offset, &slice, error);
  if (ret < 0) {
    return ret;
  }
  const unsigned index = qcow2_slice_index (q, offset);
  const unsigned most = (unsigned) MIN ((end - offset + q->cluster_size - 1) >> q->cluster_bits,
                                        qcow2_slice_entries (q) - index);
  while (n < most && qcow2_entry_load (q, tn_meta_data (slice), index + (unsigned) n).raw == 0) {
    n++;
  }
  tn_meta_put (slice);
  if (n == 0) {
    *done = offset + q->cluster_size;
    return 0;
  }
  if (q->external) {
    host = offset;
  } else if ((ret = qcow2_alloc_run (q, n, &host, &n, error)) < 0
             || (ret = prepare_space (q, host, n << q->cluster_bits, prealloc, error)) < 0) {
    return ret;
  }
  if ((ret = qcow2_l2_order (q, true, error)) < 0 || (ret = qcow2_l2_get (q, offset, &slice, error)) < 0) {
    return ret;
  }
  for (unsigned i = 0; i < n; i++) {
    const Qcow2Entry entry = { (host + ((uint64_t) i << q->cluster_bits)) | QCOW2_COPIED, 0 };
    qcow2_entry_store (q, tn_meta_data (slice), index + i, entry);
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  *done = offset + (n << q->cluster_bits);
  return 0;
}

static int
preallocate (Qcow2 *q, uint64_t from, uint64_t end, TnPrealloc prealloc, GError **error)
{
  uint64_t at = from & ~(uint64_t) (q->cluster_size - 1);
  int ret = 0;
  while (ret == 0 && at < end) {
    ret = preallocate_run (q, at, end, prealloc, &at, error);
  }
  return ret;
}

/* ---- What lies behind the end ---- */

static bool
is_empty_entry (Qcow2Entry entry)
{
  return entry.raw == 0 && entry.bitmap == 0;
}

static bool
slice_is_empty_from (const Qcow2 *q, const void *slice, unsigned index)
{
  while (index < qcow2_slice_entries (q) && is_empty_entry (qcow2_entry_load (q, slice, index))) {
    index++;
  }
  return index == qcow2_slice_entries (q);
}

/* Forgets the entries from @at to the end of its slice. */
static int
forget_rest_of_slice (Qcow2 *q, uint64_t at, GError **error)
{
  TnMetaSlice *slice;
  int ret = qcow2_l2_get (q, at, &slice, error);
  if (ret < 0 || slice == NULL) {
    return ret;
  }
  const bool empty = slice_is_empty_from (q, tn_meta_data (slice), qcow2_slice_index (q, at));
  tn_meta_put (slice);
  if (empty || (ret = qcow2_l2_order (q, false, error)) < 0
      || (ret = qcow2_l2_get_writable (q, at, &slice, error)) < 0) {
    return ret;
  }
  for (unsigned i = qcow2_slice_index (q, at); i < qcow2_slice_entries (q); i++) {
    qcow2_free_entry (q, qcow2_entry_load (q, tn_meta_data (slice), i));
    qcow2_entry_store (q, tn_meta_data (slice), i, (Qcow2Entry){ 0, 0 });
  }
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* Forgets all clusters behind the one in which a disk of @size bytes ends: what shrinking cuts off, or what
 * shrinking that was interrupted, or the state of a virtual machine, has left there. */
static int
forget_behind (Qcow2 *q, uint64_t size, GError **error)
{
  const uint64_t table = 1ull << (q->cluster_bits + q->l2_bits), step = (uint64_t) qcow2_slice_entries (q)
                                                                        << q->cluster_bits;
  uint64_t at = (size + q->cluster_size - 1) & ~(uint64_t) (q->cluster_size - 1);
  int ret = 0;
  while (ret == 0 && (at & (table - 1))) {
    ret = forget_rest_of_slice (q, at, error);
    at = (at | (step - 1)) + 1;
  }
  for (uint64_t i = qcow2_l1_index (q, at); ret == 0 && i < q->l1_size; i++) {
    ret = qcow2_l2_drop (q, i, error);
  }
  return ret;
}

/* ---- Growing ---- */

/* How far a backing file could show through behind the old end of the disk. */
static uint64_t
backing_end (const Qcow2 *q, uint64_t new_size)
{
  TnNode *backing = q->node ? tn_node_child (q->node, "backing") : NULL;
  if (backing) {
    return MIN (tn_node_size (backing), new_size);
  }
  return q->backing_name && q->node ? new_size : 0;
}

/* The unit in which the old disk ended gets a copy of the backing file's bytes, then zeroes. */
static int
fill_tail_from_backing (Qcow2 *q, uint64_t old_size, GError **error)
{
  TnNode *backing = tn_node_child (q->node, "backing");
  const uint64_t unit = 1ull << q->unit_bits, start = old_size & ~(unit - 1);
  g_autofree uint8_t *buffer = g_malloc0 (unit);
  TnExtent extent = { 0 };
  int ret = backing ? tn_node_read (backing, start, buffer, old_size - start, error)
                    : qcow2_fail (q, error, EINVAL, "it cannot grow without its backing file");
  if (ret < 0 || (ret = qcow2_reserve_state (q, start, unit, 0, &extent, error)) < 0) {
    return ret;
  }
  qcow2_encrypt (q, start, extent.source_offset, buffer, unit);
  if ((ret = tn_node_write (extent.source, extent.source_offset, buffer, unit, error)) < 0
      || (ret = qcow2_commit_extent (q, &extent, error)) < 0) {
    qcow2_cancel_extent (q, &extent);
  }
  return ret;
}

/* The same for a unit that has its place in an encrypted image. */
static int
clear_encrypted_tail (Qcow2 *q, uint64_t host, uint64_t start, uint64_t old_size, uint64_t end,
                      GError **error)
{
  g_autofree uint8_t *buffer = g_malloc (end - start);
  int ret = tn_node_read (q->data, host, buffer, end - start, error);
  if (ret < 0) {
    return ret;
  }
  qcow2_decrypt (q, start, host, buffer, end - start);
  memset (buffer + (old_size - start), 0, end - old_size);
  qcow2_encrypt (q, start, host, buffer, end - start);
  return tn_node_write (q->data, host, buffer, end - start, error);
}

/* Bytes between the old end and the end of its unit may hold anything: they must read as zeroes. */
static int
clear_tail (Qcow2 *q, uint64_t old_size, uint64_t new_size, GError **error)
{
  const uint64_t unit = 1ull << q->unit_bits, end = (old_size + unit - 1) & ~(unit - 1);
  const unsigned sub = (unsigned) (old_size >> q->unit_bits) & (q->extended ? QCOW2_SUBCLUSTERS - 1 : 0);
  TnMetaSlice *slice;
  if (old_size == end) {
    return 0;
  }
  int ret = qcow2_l2_get (q, old_size, &slice, error);
  if (ret < 0) {
    return ret;
  }
  Qcow2Entry entry = { 0, 0 };
  if (slice) {
    entry = qcow2_entry_load (q, tn_meta_data (slice), qcow2_slice_index (q, old_size));
    tn_meta_put (slice);
  }
  const Qcow2Kind kind = qcow2_entry_kind (q, entry, old_size, sub);
  if (kind == QCOW2_KIND_PACKED || (kind == QCOW2_KIND_DATA && !(entry.raw & QCOW2_COPIED))) {
    ret = qcow2_unshare_cluster (q, old_size, error);
    return ret < 0 ? ret : clear_tail (q, old_size, new_size, error);
  }
  if (kind == QCOW2_KIND_DATA) {
    const uint64_t host = (entry.raw & QCOW2_OFFSET_MASK) + (old_size & (q->cluster_size - 1));
    if (q->header.crypt_method) {
      const uint64_t start = old_size & ~(unit - 1);
      return clear_encrypted_tail (q, host - (old_size - start), start, old_size, end, error);
    }
    return tn_node_write_zeroes (q->data, host, end - old_size, 0, error);
  }
  const bool hole = kind == QCOW2_KIND_UNALLOCATED || kind == QCOW2_KIND_RESERVED_SPACE;
  return hole && backing_end (q, new_size) > old_size ? fill_tail_from_backing (q, old_size, error) : 0;
}

/* Whole units behind the old end: nothing of a larger backing file, or of an old life of theirs, may show. */
static int
clear_beyond (Qcow2 *q, uint64_t old_size, uint64_t new_size, GError **error)
{
  const uint64_t unit = 1ull << q->unit_bits, start = (old_size + unit - 1) & ~(unit - 1);
  const uint64_t cluster_end = (old_size + q->cluster_size - 1) & ~(uint64_t) (q->cluster_size - 1);
  uint64_t end = MAX (backing_end (q, new_size), q->extended ? cluster_end : 0);
  end = (end + unit - 1) & ~(unit - 1);
  if (end <= start) {
    return 0;
  }
  if (q->header.version < 3) {
    return qcow2_fail (
        q, error, ENOTSUP,
        "the backing file is larger than the disk, and version 2 has no zero clusters to hide that: "
        "convert the image to compat=1.1");
  }
  return qcow2_unmap_range (q, start, end - start, TN_UNMAP_ZERO | TN_UNMAP_RELEASE, error);
}

static int
write_size (Qcow2 *q, uint64_t size, GError **error)
{
  const uint64_t old = q->header.size;
  q->header.size = size;
  int ret = qcow2_header_write_tables (q, error);
  if (ret < 0) {
    q->header.size = old;
    return ret;
  }
  q->size = size;
  if (q->node) {
    tn_node_set_size (q->node, size); /* even if a later step fails */
  }
  return qcow2_barrier (q, error);
}

static int
grow (Qcow2 *q, uint64_t size, TnPrealloc prealloc, GError **error)
{
  const uint64_t old = q->size, needed = qcow2_l1_needed (q, size);
  const bool raw = q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
  int ret = 0;
  if (needed > QCOW2_MAX_L1_BYTES / 8) {
    return qcow2_fail (q, error, EFBIG, "a disk of %" PRIu64 " bytes needs larger clusters than %u", size,
                       q->cluster_size);
  }
  if (prealloc != TN_PREALLOC_OFF && q->backing_name && !q->extended) {
    return qcow2_fail (q, error, ENOTSUP,
                       "preallocation would hide the backing file (extended_l2=on allows both)");
  }
  if (needed > q->l1_size && (ret = qcow2_l1_grow (q, needed, error)) < 0) {
    return ret;
  }
  if (q->external && q->node && (ret = tn_node_resize (q->data, size, prealloc, error)) < 0) {
    return ret;
  }
  if ((ret = forget_behind (q, old, error)) < 0 || (ret = clear_tail (q, old, size, error)) < 0
      || (ret = clear_beyond (q, old, size, error)) < 0) {
    return ret;
  }
  if ((prealloc != TN_PREALLOC_OFF || raw) && (ret = preallocate (q, old, size, prealloc, error)) < 0) {
    return ret;
  }
  ret = qcow2_sync (q, error);
  return ret < 0 ? ret : write_size (q, size, error);
}

/* ---- Shrinking ---- */

/* Cuts free clusters off the end of the file. */
static int
trim_file (Qcow2 *q, GError **error)
{
  const uint64_t size = tn_node_size (q->file);
  uint64_t end = qcow2_clusters (q, size), count = 0;
  int ret = qcow2_reftable_load (q, error);
  while (ret == 0 && end > 0) {
    if ((ret = qcow2_refcount_get (q, end - 1, &count, error)) < 0 || count) {
      break;
    }
    end--;
  }
  if (ret < 0 || end << q->cluster_bits >= size || end == 0) {
    return ret;
  }
  /* A cluster that lost its last use must not be filled up behind the new end. */
  q->packed_next = 0;
  q->end_cluster = MIN (q->end_cluster, end);
  return tn_node_resize (q->file, end << q->cluster_bits, TN_PREALLOC_OFF, error);
}

static int
shrink (Qcow2 *q, uint64_t size, GError **error)
{
  int ret = qcow2_sync (q, error);
  if (ret < 0 || (ret = write_size (q, size, error)) < 0 || (ret = forget_behind (q, size, error)) < 0
      || (ret = qcow2_settle (q, error)) < 0 || (ret = trim_file (q, error)) < 0) {
    return ret;
  }
  return q->external ? tn_node_resize (q->data, size, TN_PREALLOC_OFF, error) : 0;
}

int
qcow2_resize_state (Qcow2 *q, uint64_t size, TnPrealloc prealloc, GError **error)
{
  int ret = qcow2_touch (q, error);
  if (ret < 0) {
    return ret;
  }
  if (q->header.version < 3 && q->header.snapshot_count) {
    return qcow2_fail (q, error, ENOTSUP,
                       "version 2 does not keep the disk size of its %u snapshots: delete them first",
                       q->header.snapshot_count);
  }
  if (size > (uint64_t) INT64_MAX) {
    return qcow2_fail (q, error, EFBIG, "a disk of %" PRIu64 " bytes is too large", size);
  }
  if ((ret = qcow2_bitmaps_resize (q, size, error)) < 0) {
    return ret;
  }
  return size < q->size ? shrink (q, size, error) : grow (q, size, prealloc, error);
}

int
qcow2_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  return qcow2_resize_state (q, size, prealloc, error);
}

/* ---- Emptying ---- */

int
qcow2_make_empty (TnNode *node, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  if (q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) {
    return qcow2_fail (q, error, ENOTSUP, "an image with a raw data file cannot be emptied");
  }
  int ret = qcow2_touch (q, error);
  for (uint64_t i = 0; ret == 0 && i < q->l1_size; i++) {
    ret = qcow2_l2_drop (q, i, error);
  }
  if (ret < 0) {
    return ret;
  }
  tn_node_bump_generation (node);
  ret = qcow2_settle (q, error);
  return ret < 0 ? ret : trim_file (q, error);
}
