/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making room for writes and linking what was written.
 *
 * Order on disk: guest data before the table entry that shows it.  A crash can therefore lose grains that
 * nothing refers to, and nothing else.
 */
#include "vmdk.h"

/* extent->cookie[0] */
enum { COOKIE_FRESH = 1, COOKIE_IN_PLACE = 2 };

/* ---- Grains ---- */

static void
vmdk_add_run (GArray *runs, uint64_t offset, uint64_t length)
{
  VmdkRun *last = runs->len ? &g_array_index (runs, VmdkRun, runs->len - 1) : NULL;
  if (last && last->offset + last->length == offset) {
    last->length += length;
    return;
  }
  const VmdkRun run = { offset, length };
  g_array_append_val (runs, run);
}

int
vmdk_alloc (VmdkExtent *e, uint64_t grains, uint64_t *offset, GError **error)
{
  const uint64_t length = grains * e->sparse.grain;
  for (guint i = 0; i < e->free->len; i++) {
    VmdkRun *run = &g_array_index (e->free, VmdkRun, i);
    if (run->length < length) {
      continue;
    }
    *offset = run->offset;
    run->offset += length;
    run->length -= length;
    if (run->length == 0) {
      g_array_remove_index_fast (e->free, i);
    }
    return 0;
  }
  if ((e->end + length) / VMDK_SECTOR > UINT32_MAX) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "VMDK extent '%s': the file cannot grow beyond 2 TiB",
                    tn_node_filename (e->file));
  }
  *offset = e->end;
  e->end += length;
  return 0;
}

/* Grains at the end of the file are given back, others wait for the next that needs some. */
void
vmdk_release (VmdkExtent *e, uint64_t offset, uint64_t length)
{
  vmdk_add_run (e->free, offset, length);
  for (guint i = 0; i < e->free->len; i++) {
    const VmdkRun run = g_array_index (e->free, VmdkRun, i);
    if (run.offset + run.length == e->end) {
      e->end = run.offset;
      g_array_remove_index_fast (e->free, i);
      i = (guint) -1;
    }
  }
}

void
vmdk_release_freed (Vmdk *v)
{
  for (size_t i = 0; i < v->n_extents; i++) {
    VmdkExtent *e = &v->extents[i];
    for (guint k = 0; e->freed && k < e->freed->len; k++) {
      const VmdkRun run = g_array_index (e->freed, VmdkRun, k);
      /* A host that gives nothing back is no failure. */
      (void) tn_node_discard (e->file, run.offset, run.length, NULL);
      vmdk_release (e, run.offset, run.length);
    }
    if (e->freed) {
      g_array_set_size (e->freed, 0);
    }
  }
}

void
vmdk_free_later (VmdkExtent *e, uint64_t offset, uint64_t length)
{
  vmdk_add_run (e->freed, offset, length);
}

/* ---- Reserving ---- */

/* Whether the entry's grain can be written where it is. */
static bool
vmdk_is_placed (const VmdkExtent *e, uint64_t entry, uint64_t at)
{
  if (vmdk_entry_kind (e, entry) != TN_EXTENT_DATA) {
    return false;
  }
  const uint64_t place = vmdk_entry_place (e, entry);
  return place >= e->sparse.overhead
         && vmdk_valid_grain (e, place, MIN (e->sparse.grain, e->sparse.capacity - at));
}

static unsigned
vmdk_count_alike (const VmdkExtent *e, const VmdkEntries *entries, uint64_t at, uint64_t grains)
{
  unsigned n = 1;
  while (n < grains && n < entries->n
         && !vmdk_is_placed (e, vmdk_entry (e, entries->bytes, n), at + n * e->sparse.grain)) {
    n++;
  }
  return n;
}

static int
vmdk_reserve_sparse (VmdkExtent *e, uint64_t offset, uint64_t length, TnExtent *extent, GError **error)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t at = (offset - e->start) & ~(s->grain - 1);
  const uint64_t end = MIN (offset - e->start + length, e->length);
  const uint64_t index = at / s->grain % s->gt_entries;
  uint64_t table, host;
  VmdkEntries entries;
  int ret = vmdk_table_make (e, at, &table, error);
  if (ret < 0
      || (ret =
              vmdk_entries_look (e, e->gt, table + index * 4, s->gt_entries - index, false, &entries, error))
             < 0) {
    return ret;
  }
  const uint64_t entry = vmdk_entry (e, entries.bytes, 0);
  const bool placed = vmdk_is_placed (e, entry, at);
  const unsigned n = placed ? 1 : vmdk_count_alike (e, &entries, at, (end - at + s->grain - 1) / s->grain);
  vmdk_entries_put (&entries);
  host = vmdk_entry_place (e, entry);
  if (!placed && (ret = vmdk_alloc (e, n, &host, error)) < 0) {
    return ret;
  }
  const bool untouched = !placed && e->zero_tail && host >= tn_node_size (e->file);
  *extent = (TnExtent){
    .offset = e->start + at,
    .length = n * s->grain,
    .kind = TN_EXTENT_DATA,
    .flags = TN_EXTENT_NEW | (untouched ? TN_EXTENT_READS_ZERO : 0),
    .source = e->file,
    .source_offset = host,
    .generation = extent->generation,
    .cookie = { placed ? COOKIE_IN_PLACE : COOKIE_FRESH, 0 },
  };
  return 0;
}

int
vmdk_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error)
{
  Vmdk *v = tn_node_state (node);
  VmdkExtent *e = vmdk_extent_at (v, offset);
  int ret = vmdk_need_writable (v, error);
  if (ret < 0 || (ret = vmdk_touch (v, error)) < 0) {
    return ret;
  }
  if (!e->writable || e->type != VMDK_SPARSE) {
    return vmdk_fail (v, error, EACCES, "its extent at offset %" PRIu64 " may not be written", e->start);
  }
  if (v->stream && !(flags & TN_RESERVE_PACKED)) {
    return vmdk_fail (
        v, error, ENOTSUP,
        "the grain at offset %" PRIu64 " has been written: a streamOptimized image is written once", offset);
  }
  return v->stream ? vmdk_stream_reserve (v, offset, extent, error)
                   : vmdk_reserve_sparse (e, offset, length, extent, error);
}

/* ---- Linking ---- */

static int
vmdk_commit_extent (Vmdk *v, TnExtent *extent, GError **error)
{
  VmdkExtent *e = vmdk_extent_at (v, extent->offset);
  if (v->stream) {
    return vmdk_stream_commit (v, extent, error);
  }
  /* Zeroes at the end of a grain need not have been written: readers want it whole all the same. */
  const uint64_t end = extent->source_offset + extent->length, grain = e->sparse.grain;
  int ret = end > tn_node_size (e->file) ? tn_node_resize (e->file, end, TN_PREALLOC_OFF, error) : 0;
  if (ret == 0 && extent->cookie[0] == COOKIE_FRESH) {
    ret = vmdk_set_entries (e, extent->offset - e->start, extent->length / grain,
                            (uint32_t) (extent->source_offset / VMDK_SECTOR),
                            (uint32_t) (grain / VMDK_SECTOR), error);
  }
  if (ret == 0) {
    extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return ret;
}

int
vmdk_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Vmdk *v = tn_node_state (node);
  int ret = 0;
  for (size_t i = 0; ret == 0 && i < n; i++) {
    ret = vmdk_commit_extent (v, &extents[i], error);
  }
  return ret;
}

void
vmdk_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  Vmdk *v = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    TnExtent *extent = &extents[i];
    if (!(extent->flags & TN_EXTENT_NEW)) {
      continue;
    }
    if (v->stream) {
      vmdk_stream_cancel (v, extent);
    } else if (extent->cookie[0] == COOKIE_FRESH) {
      vmdk_release (vmdk_extent_at (v, extent->offset), extent->source_offset, extent->length);
    }
    extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
}
