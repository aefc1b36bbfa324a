/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the size of an image of one extent.
 *
 * Of a sparse extent the header decides, in which one sector has capacity and directories.  A larger one gets
 * new directories at the end of the file, with the old tables and new ones; the header turns to them when all
 * of that is on stable storage.  A smaller one forgets the grains behind its end first.  The descriptor says
 * the same in words; it never promises more than the extent has.
 */
#include "vmdk.h"

#define CHUNK_ENTRIES 16384u

static uint64_t
vmdk_round_up (uint64_t n, uint64_t unit)
{
  return (n + unit - 1) / unit * unit;
}

/* ---- The descriptor ---- */

static int
vmdk_describe_size (Vmdk *v, uint64_t size, GError **error)
{
  if (!v->has_descriptor || v->descriptor.lines->len != 1) {
    return 0;
  }
  int ret =
      vmdk_write_descriptor (v, vmdk_descriptor_resized (v->descriptor.text, size / VMDK_SECTOR), error);
  return ret < 0 ? ret : tn_node_flush (v->file, error);
}

/* ---- The header ---- */

static int
vmdk_put_header (VmdkExtent *e, const uint8_t *head, GError **error)
{
  TnMetaSlice *slice;
  int ret = tn_meta_get (e->gd, 0, &slice, error);
  if (ret < 0) {
    return ret;
  }
  memcpy (tn_meta_data (slice), head, VMDK_HEADER_BYTES);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* Everything else is on stable storage. */
static int
vmdk_change_header (Vmdk *v, VmdkExtent *e, const VmdkSparse *sparse, GError **error)
{
  uint8_t old[VMDK_HEADER_BYTES], head[VMDK_HEADER_BYTES];
  int ret = tn_node_read (e->file, 0, old, sizeof old, error);
  if (ret < 0) {
    return ret;
  }
  memcpy (head, old, sizeof head);
  tn_store_le64 (head + 12, sparse->capacity / VMDK_SECTOR);
  tn_store_le64 (head + 48, sparse->rgd_offset / VMDK_SECTOR);
  tn_store_le64 (head + 56, sparse->gd_offset / VMDK_SECTOR);
  if ((ret = vmdk_put_header (e, head, error)) < 0) {
    return ret;
  }
  if ((ret = vmdk_sync (v, error)) < 0) {
    /* What the file has now is not known: the next flush says that nothing has changed. */
    (void) vmdk_put_header (e, old, NULL);
    return ret;
  }
  e->sparse = *sparse;
  return 0;
}

/* ---- Longer directories ---- */

/* Entries of the old directory, and of @n new tables that stand behind the new one. */
static int
vmdk_write_longer (VmdkExtent *e, bool redundant, uint64_t at, uint64_t entries, GError **error)
{
  const uint64_t from = redundant ? e->sparse.rgd_offset : e->sparse.gd_offset;
  const uint64_t tables = (at + vmdk_round_up (entries * 4, VMDK_SECTOR)) / VMDK_SECTOR;
  g_autofree uint8_t *chunk = g_malloc (CHUNK_ENTRIES * 4);
  int ret = 0;
  for (uint64_t first = 0; ret == 0 && first < entries; first += CHUNK_ENTRIES) {
    const uint64_t n = MIN (CHUNK_ENTRIES, entries - first), old = e->sparse.gd_entries;
    const uint64_t kept = first < old ? MIN (n, old - first) : 0;
    ret = kept ? tn_node_read (e->file, from + first * 4, chunk, kept * 4, error) : 0;
    for (uint64_t i = kept; i < n; i++) {
      tn_store_le32 (chunk + i * 4,
                     (uint32_t) (tables + (first + i - old) * (vmdk_gt_bytes (e) / VMDK_SECTOR)));
    }
    if (ret == 0) {
      ret = tn_node_write (e->file, at + first * 4, chunk, n * 4, error);
    }
  }
  return ret;
}

/* Zeroes at @offset, as a hole where the file grows. */
static int
vmdk_clear_space (VmdkExtent *e, uint64_t offset, uint64_t length, GError **error)
{
  const uint64_t size = tn_node_size (e->file);
  TnMetaCache *const caches[] = { e->gd, e->gt, e->rgd, e->rgt };
  for (unsigned i = 0; i < G_N_ELEMENTS (caches); i++) {
    if (caches[i]) {
      tn_meta_forget (caches[i], offset, length);
    }
  }
  e->hole = e->hole_end = e->no_hole_end = 0;
  return e->zero_tail && offset >= size
             ? tn_node_resize (e->file, offset + length, TN_PREALLOC_OFF, error)
             : tn_node_write_zeroes (e->file, offset, length, TN_REQUEST_MAY_UNMAP, error);
}

/* Directories of @s->gd_entries entries, with tables; nothing leads to them yet. */
static int
vmdk_make_directories (Vmdk *v, VmdkExtent *e, VmdkSparse *s, GError **error)
{
  const uint64_t directory = vmdk_round_up (s->gd_entries * 4, VMDK_SECTOR);
  const uint64_t one = directory + (s->gd_entries - e->sparse.gd_entries) * vmdk_gt_bytes (e);
  const uint64_t length = vmdk_round_up (e->rgd ? 2 * one : one, s->grain);
  uint64_t offset;
  int ret = vmdk_sync (v, error);
  if (ret < 0 || (ret = vmdk_alloc (e, length / s->grain, &offset, error)) < 0) {
    return ret;
  }
  s->rgd_offset = e->rgd ? offset : 0;
  s->gd_offset = e->rgd ? offset + one : offset;
  ret = vmdk_clear_space (e, offset, length, error);
  if (ret == 0 && e->rgd) {
    ret = vmdk_write_longer (e, true, s->rgd_offset, s->gd_entries, error);
  }
  if (ret == 0) {
    ret = vmdk_write_longer (e, false, s->gd_offset, s->gd_entries, error);
  }
  if (ret == 0) {
    ret = tn_node_flush (e->file, error);
  }
  if (ret < 0) {
    vmdk_release (e, offset, length);
  }
  return ret;
}

/* ---- Sparse extents ---- */

/* Bytes between the old end and the end of its grain may hold anything, and so may the rest of the last
 * table: they must read as zeroes. */
static int
vmdk_clear_tail (Vmdk *v, VmdkExtent *e, GError **error)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t rest = s->capacity % s->grain, next = vmdk_round_up (s->capacity, s->grain),
                 end = vmdk_round_up (s->capacity, vmdk_gt_span (e));
  TnExtent extent = { 0 };
  uint64_t table = 0;
  int ret = rest ? vmdk_map (v->node, v->size - 1, 1, 0, &extent, error) : 0;
  if (ret == 0 && extent.kind == TN_EXTENT_DATA) {
    const uint64_t skip = v->size - extent.offset;
    ret = tn_node_write_zeroes (e->file, extent.source_offset + skip, s->grain - rest, 0, error);
  }
  if (ret == 0 && next < end) {
    ret = vmdk_table (e, false, next, false, &table, error);
  }
  return ret < 0 || table == 0 ? ret : vmdk_set_entries (e, next, (end - next) / s->grain, 0, 0, error);
}

static int
vmdk_grow_sparse (Vmdk *v, VmdkExtent *e, uint64_t size, GError **error)
{
  VmdkSparse s = e->sparse;
  const uint64_t span = vmdk_gt_span (e);
  s.capacity = size;
  s.gd_entries = size / span + (size % span != 0);
  if (s.gd_entries > VMDK_MAX_GD_ENTRIES) {
    return vmdk_fail (v, error, EFBIG, "a disk of %" PRIu64 " bytes would need too many grain tables", size);
  }
  int ret = vmdk_clear_tail (v, e, error);
  if (ret == 0) {
    ret =
        s.gd_entries > e->sparse.gd_entries ? vmdk_make_directories (v, e, &s, error) : vmdk_sync (v, error);
  }
  if (ret < 0 || (ret = vmdk_change_header (v, e, &s, error)) < 0) {
    return ret;
  }
  return vmdk_describe_size (v, size, error);
}

static int
vmdk_shrink_sparse (Vmdk *v, VmdkExtent *e, uint64_t size, GError **error)
{
  VmdkSparse s = e->sparse;
  const uint64_t first = vmdk_round_up (size, s.grain), span = vmdk_gt_span (e);
  s.capacity = size;
  s.gd_entries = size / span + (size % span != 0);
  int ret = first < v->size
                ? vmdk_unmap (v->node, first, v->size - first, TN_UNMAP_ZERO | TN_UNMAP_RELEASE, error)
                : 0;
  tn_node_bump_generation (v->node);
  if (ret < 0 || (ret = vmdk_sync (v, error)) < 0 || (ret = vmdk_describe_size (v, size, error)) < 0
      || (ret = vmdk_change_header (v, e, &s, error)) < 0) {
    return ret;
  }
  /* What is left behind the last grain is in nobody's way. */
  if (tn_node_size (e->file) > e->end) {
    (void) tn_node_resize (e->file, e->end, TN_PREALLOC_OFF, NULL);
  }
  return 0;
}

static int
vmdk_resize_sparse (Vmdk *v, VmdkExtent *e, uint64_t size, TnPrealloc prealloc, GError **error)
{
  if (prealloc != TN_PREALLOC_OFF) {
    return vmdk_fail (v, error, ENOTSUP, "space is set aside for flat extents only");
  }
  if (size == 0) {
    return vmdk_fail (v, error, EINVAL, "a sparse extent cannot have 0 bytes");
  }
  return size > v->size ? vmdk_grow_sparse (v, e, size, error) : vmdk_shrink_sparse (v, e, size, error);
}

/* ---- Flat extents ---- */

static int
vmdk_resize_flat (Vmdk *v, VmdkExtent *e, uint64_t size, TnPrealloc prealloc, GError **error)
{
  const uint64_t file_size = tn_node_size (e->file), old_end = e->file_offset + v->size,
                 end = e->file_offset + size;
  int ret = 0;
  if (size > v->size) {
    /* The file may have been longer than the extent. */
    if (file_size > old_end) {
      ret = tn_node_write_zeroes (e->file, old_end, MIN (file_size, end) - old_end, 0, error);
    }
    if (ret == 0 && end > file_size) {
      ret = tn_node_resize (e->file, end, prealloc, error);
    }
    if (ret == 0) {
      ret = tn_node_flush (e->file, error);
    }
    return ret < 0 ? ret : vmdk_describe_size (v, size, error);
  }
  ret = vmdk_describe_size (v, size, error);
  if (ret == 0 && file_size > end) {
    (void) tn_node_resize (e->file, end, TN_PREALLOC_OFF, NULL);
  }
  return ret;
}

/* ---- Both ---- */

static int
vmdk_check_resize (const Vmdk *v, uint64_t size, GError **error)
{
  const VmdkExtent *e = v->extents;
  if (v->n_extents != 1 || v->stream) {
    return vmdk_fail (v, error, ENOTSUP,
                      "only monolithicSparse and monolithicFlat images change their size: convert it");
  }
  if (vmdk_has_backing (v) || v->descriptor.parent_cid != VMDK_NO_PARENT) {
    return vmdk_fail (v, error, ENOTSUP, "one image of a chain cannot change its size alone");
  }
  if (!e->writable) {
    return vmdk_fail (v, error, EACCES, "its extent may not be written");
  }
  if (e->type == VMDK_SPARSE && e->length != e->sparse.capacity) {
    return vmdk_fail (v, error, ENOTSUP, "it takes only a part of its extent: convert it");
  }
  if (size % VMDK_SECTOR) {
    return vmdk_fail (v, error, EINVAL, "its size must be in whole sectors of %u bytes", VMDK_SECTOR);
  }
  return 0;
}

int
vmdk_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Vmdk *v = tn_node_state (node);
  VmdkExtent *e = v->extents;
  int ret = vmdk_need_writable (v, error);
  if (ret < 0 || (ret = vmdk_check_resize (v, size, error)) < 0 || size == v->size
      || (ret = vmdk_touch (v, error)) < 0) {
    return ret;
  }
  ret = e->type == VMDK_FLAT ? vmdk_resize_flat (v, e, size, prealloc, error)
                             : vmdk_resize_sparse (v, e, size, prealloc, error);
  if (ret == 0) {
    v->size = e->length = size;
  }
  return ret;
}
