/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Zeroed grains and discards, and emptying an image.
 *
 * Only images made with zeroed_grain can say that a grain is zero where a backing file has something else.
 */
#include "vmdk.h"

/* What becomes of a run of grains. */
typedef enum VmdkFate {
  FATE_LEAVE,
  FATE_FORGET,     /* entry 0, place freed */
  FATE_MARK_ZERO,  /* entry 1, place freed */
  FATE_WRITE_ZERO, /* where it is */
  FATE_UNKNOWN     /* the core must write zeroes */
} VmdkFate;

static VmdkFate
vmdk_fate (const Vmdk *v, const VmdkExtent *e, uint32_t kind, uint32_t flags)
{
  const bool backing = vmdk_has_backing (v), zero = flags & TN_UNMAP_ZERO, zeroed = e->sparse.zeroed;
  if (kind == TN_EXTENT_ZERO) {
    return FATE_LEAVE;
  }
  if (kind == TN_EXTENT_UNALLOCATED) {
    return !zero || !backing ? FATE_LEAVE : zeroed ? FATE_MARK_ZERO : FATE_UNKNOWN;
  }
  if (!(flags & TN_UNMAP_RELEASE)) {
    return FATE_WRITE_ZERO;
  }
  if (!backing) {
    return FATE_FORGET;
  }
  return zeroed ? FATE_MARK_ZERO : zero ? FATE_WRITE_ZERO : FATE_LEAVE;
}

/* A run of entries that are alike, and for data one behind the other in the file. */
static int
vmdk_find_run (VmdkExtent *e, uint64_t table, uint64_t at, uint64_t most, uint32_t *kind, uint64_t *place,
               uint64_t *n, GError **error)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t index = at / s->grain % s->gt_entries;
  VmdkEntries entries;
  int ret = vmdk_entries_look (e, e->gt, table + index * 4, MIN (most, s->gt_entries - index), false,
                               &entries, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t first = vmdk_entry (e, entries.bytes, 0);
  *kind = vmdk_entry_kind (e, first);
  *place = vmdk_entry_place (e, first);
  for (*n = 1; *n < entries.n; (*n)++) {
    const uint64_t entry = vmdk_entry (e, entries.bytes, (unsigned) *n);
    if (vmdk_entry_kind (e, entry) != *kind
        || (*kind == TN_EXTENT_DATA && vmdk_entry_place (e, entry) != *place + *n * s->grain)) {
      break;
    }
  }
  vmdk_entries_put (&entries);
  const uint64_t bytes = MIN (*n * s->grain, s->capacity - at);
  if (*kind == TN_EXTENT_DATA && (*place < s->overhead || !vmdk_valid_grain (e, *place, bytes))) {
    return vmdk_corrupt (
        e, error, "the grain at guest offset 0x%" PRIx64 " should be at 0x%" PRIx64 ", where none can be",
        e->start + at, *place);
  }
  return 0;
}

static int
vmdk_unmap_run (Vmdk *v, VmdkExtent *e, VmdkFate fate, uint32_t kind, uint64_t at, uint64_t place, uint64_t n,
                uint32_t flags, GError **error)
{
  const uint64_t grain = e->sparse.grain;
  int ret = 0;
  switch (fate) {
  case FATE_LEAVE:
    return 0;
  case FATE_UNKNOWN:
    return -ENOTSUP;
  case FATE_WRITE_ZERO:
    return tn_node_write_zeroes (e->file, place, n * grain,
                                 flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0, error);
  case FATE_FORGET:
  case FATE_MARK_ZERO:
    break;
  }
  ret = vmdk_set_entries (e, at, n, fate == FATE_MARK_ZERO ? 1 : 0, 0, error);
  if (ret == 0 && kind == TN_EXTENT_DATA) {
    vmdk_free_later (e, place, n * grain);
  }
  return ret;
}

/* Between offsets of the extent. */
static int
vmdk_unmap_sparse (Vmdk *v, VmdkExtent *e, uint64_t at, uint64_t end, uint32_t flags, GError **error)
{
  const uint64_t grain = e->sparse.grain, span = vmdk_gt_span (e);
  while (at < end) {
    uint64_t table, place = 0, n;
    uint32_t kind = TN_EXTENT_UNALLOCATED;
    const bool marks = vmdk_fate (v, e, kind, flags) == FATE_MARK_ZERO;
    int ret =
        marks ? vmdk_table_make (e, at, &table, error) : vmdk_table (e, false, at, false, &table, error);
    if (ret < 0) {
      return ret;
    }
    n = (MIN (end, at / span * span + span) - at + grain - 1) / grain;
    if (table && (ret = vmdk_find_run (e, table, at, n, &kind, &place, &n, error)) < 0) {
      return ret;
    }
    ret = vmdk_unmap_run (v, e, vmdk_fate (v, e, kind, flags), kind, at, place, n, flags, error);
    if (ret < 0) {
      return ret;
    }
    at += n * grain;
  }
  return 0;
}

/* Of a compressed image: only what has nothing yet. */
static int
vmdk_unmap_stream (Vmdk *v, uint64_t at, uint64_t end, GError **error)
{
  for (; at < end; at += v->extents[0].sparse.grain) {
    uint64_t entry;
    int ret = vmdk_stream_entry (v, at, &entry, error);
    if (ret < 0 || vmdk_entry_kind (&v->extents[0], entry) == TN_EXTENT_PACKED) {
      return ret < 0 ? ret : -ENOTSUP;
    }
  }
  return 0;
}

int
vmdk_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Vmdk *v = tn_node_state (node);
  const uint64_t end = offset + length;
  int ret = vmdk_need_writable (v, error);
  if (ret == 0 && !v->parent_checked) {
    ret = vmdk_check_parent (v, error);
  }
  if (ret < 0 || (ret = vmdk_touch (v, error)) < 0) {
    return ret;
  }
  if (v->stream) {
    return vmdk_unmap_stream (v, offset, end, error);
  }
  for (uint64_t at = offset; at < end;) {
    VmdkExtent *e = vmdk_extent_at (v, at);
    const uint64_t part = MIN (end, e->start + e->length);
    if (e->type != VMDK_SPARSE || !e->writable) {
      return -ENOTSUP;
    }
    if ((ret = vmdk_unmap_sparse (v, e, at - e->start, part - e->start, flags, error)) < 0) {
      return ret;
    }
    at = part;
  }
  return 0;
}

/* ---- Emptying ---- */

static int
vmdk_empty_extent (VmdkExtent *e, GError **error)
{
  const uint64_t grain = e->sparse.grain, span = vmdk_gt_span (e);
  for (uint64_t at = 0; at < e->length;) {
    uint64_t table, place, n = (MIN (e->length, at / span * span + span) - at + grain - 1) / grain;
    uint32_t kind = TN_EXTENT_UNALLOCATED;
    int ret = vmdk_table (e, false, at, false, &table, error);
    if (ret < 0 || (table && (ret = vmdk_find_run (e, table, at, n, &kind, &place, &n, error)) < 0)
        || (kind != TN_EXTENT_UNALLOCATED && (ret = vmdk_set_entries (e, at, n, 0, 0, error)) < 0)) {
      return ret;
    }
    if (kind == TN_EXTENT_DATA) {
      vmdk_free_later (e, place, n * grain);
    }
    at += n * grain;
  }
  return 0;
}

/* What was written to the parent meanwhile is meant to be there. */
static int
vmdk_adopt_parent (Vmdk *v, GError **error)
{
  TnNode *backing = tn_node_child (v->node, "backing");
  uint32_t cid;
  if (backing == NULL || !vmdk_node_cid (backing, &cid) || cid == v->descriptor.parent_cid) {
    return 0;
  }
  g_autofree char *value = g_strdup_printf ("%08x", cid);
  int ret =
      vmdk_write_descriptor (v, vmdk_descriptor_with (v->descriptor.text, "parentCID", value, false), error);
  if (ret == 0) {
    v->descriptor.parent_cid = cid;
  }
  return ret;
}

int
vmdk_make_empty (TnNode *node, GError **error)
{
  Vmdk *v = tn_node_state (node);
  int ret = vmdk_need_writable (v, error);
  for (size_t i = 0; ret == 0 && i < v->n_extents; i++) {
    if (v->stream || v->extents[i].type != VMDK_SPARSE || !v->extents[i].writable) {
      ret = vmdk_fail (v, error, ENOTSUP, "only an image with plain sparse extents can be emptied");
    }
  }
  if (ret < 0 || (ret = vmdk_touch (v, error)) < 0) {
    return ret;
  }
  for (size_t i = 0; ret == 0 && i < v->n_extents; i++) {
    ret = vmdk_empty_extent (&v->extents[i], error);
  }
  tn_node_bump_generation (node);
  if (ret < 0 || (ret = vmdk_sync (v, error)) < 0) {
    return ret;
  }
  return vmdk_adopt_parent (v, error);
}
