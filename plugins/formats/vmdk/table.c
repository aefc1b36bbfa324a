/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Grain directories and grain tables, in slices, since an image of some TiB has gigabytes of them.
 *
 * Hosted extents have all of it twice.  Readers take the first; a change is made to both.
 */
#include "vmdk.h"

#define VMDK_LOOK_AHEAD (64u << 20)

static const uint8_t vmdk_no_entries[VMDK_MAX_SLICE];

/* ---- Entries in memory ---- */

uint64_t
vmdk_entry (const VmdkExtent *e, const uint8_t *bytes, unsigned index)
{
  return e->sparse.entry_bytes == 8 ? tn_load_le64 (bytes + index * 8u) : tn_load_le32 (bytes + index * 4u);
}

int
vmdk_entries_get (VmdkExtent *e, TnMetaCache *cache, uint64_t at, uint64_t most, bool nowait,
                  VmdkEntries *entries, GError **error)
{
  const uint64_t start = at & ~(uint64_t) (e->slice_bytes - 1), skip = at - start;
  *entries = (VmdkEntries){ .bytes = tn_meta_peek (cache, start) };
  if (entries->bytes == NULL && nowait) {
    return -EAGAIN;
  }
  if (entries->bytes == NULL || !nowait) {
    int ret = tn_meta_get (cache, start, &entries->slice, error);
    if (ret < 0) {
      return ret;
    }
    entries->bytes = tn_meta_data (entries->slice);
  }
  entries->bytes += skip;
  entries->n = (unsigned) MIN ((e->slice_bytes - skip) / e->sparse.entry_bytes, most);
  return 0;
}

static bool
vmdk_has_changes (VmdkExtent *e)
{
  TnMetaCache *const caches[] = { e->gd, e->gt, e->rgd, e->rgt };
  for (unsigned i = 0; i < G_N_ELEMENTS (caches); i++) {
    if (caches[i] && tn_meta_is_dirty (caches[i])) {
      return true;
    }
  }
  return false;
}

/* Whether the file has a hole where a slice that is not in memory stands.  Empty tables of large images are
 * gigabytes of such. */
static bool
vmdk_is_hole (VmdkExtent *e, uint64_t start, bool nowait)
{
  const uint64_t end = start + e->slice_bytes;
  if (start >= e->hole && end <= e->hole_end) {
    return true;
  }
  if (nowait || (start >= e->hole_end && start < e->no_hole_end) || vmdk_has_changes (e)) {
    return false;
  }
  TnStatus status = { 0 };
  const uint64_t size = tn_node_size (e->file), most = MIN (size - MIN (start, size), VMDK_LOOK_AHEAD);
  if (most == 0 || tn_node_status (e->file, NULL, start, most, &status, NULL) < 0) {
    return false;
  }
  e->hole = start;
  e->hole_end = start + (status.zero ? status.length : 0);
  e->no_hole_end = start + status.length;
  return end <= e->hole_end;
}

int
vmdk_entries_look (VmdkExtent *e, TnMetaCache *cache, uint64_t at, uint64_t most, bool nowait,
                   VmdkEntries *entries, GError **error)
{
  const uint64_t start = at & ~(uint64_t) (e->slice_bytes - 1), skip = at - start;
  if (tn_meta_peek (cache, start) || !vmdk_is_hole (e, start, nowait)) {
    return vmdk_entries_get (e, cache, at, most, nowait, entries, error);
  }
  *entries = (VmdkEntries){ .bytes = vmdk_no_entries,
                            .n = (unsigned) MIN ((e->slice_bytes - skip) / e->sparse.entry_bytes, most) };
  return 0;
}

/* What was a hole will be written to. */
static void
vmdk_forget_hole (VmdkExtent *e)
{
  e->hole = e->hole_end = e->no_hole_end = 0;
}

void
vmdk_entries_put (VmdkEntries *entries)
{
  if (entries->slice) {
    tn_meta_put (entries->slice);
  }
}

/* ---- Places ---- */

uint64_t
vmdk_gt_span (const VmdkExtent *e)
{
  return e->sparse.grain * e->sparse.gt_entries;
}

uint64_t
vmdk_gt_bytes (const VmdkExtent *e)
{
  return (uint64_t) e->sparse.gt_entries * e->sparse.entry_bytes;
}

static bool
vmdk_meets (uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
  return a < b + b_length && b < a + a_length;
}

/* Neither a header, the descriptor nor a directory. */
static bool
vmdk_is_free_of_heads (const VmdkExtent *e, uint64_t offset, uint64_t length)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t gd_bytes = s->gd_entries * s->entry_bytes;
  return offset >= VMDK_SECTOR && !vmdk_meets (offset, length, s->gd_offset, gd_bytes)
         && !(s->rgd_offset && vmdk_meets (offset, length, s->rgd_offset, gd_bytes))
         && !(s->descriptor_offset && vmdk_meets (offset, length, s->descriptor_offset, s->descriptor_bytes));
}

bool
vmdk_valid_grain (const VmdkExtent *e, uint64_t offset, uint64_t length)
{
  const uint64_t end = tn_node_size (e->file);
  return offset < end && length <= end - offset && vmdk_is_free_of_heads (e, offset, length);
}

bool
vmdk_valid_table (const VmdkExtent *e, uint64_t offset)
{
  const uint64_t size = tn_node_size (e->file), bytes = vmdk_gt_bytes (e);
  return offset < size && bytes <= size - offset && vmdk_is_free_of_heads (e, offset, bytes);
}

/* ---- Grain tables ---- */

static bool
vmdk_decode_table (const VmdkExtent *e, uint64_t entry, uint64_t *table)
{
  if (!e->sparse.sesparse) {
    *table = entry * VMDK_SECTOR;
    return true;
  }
  *table = e->sparse.tables_offset + (entry & UINT32_MAX) * vmdk_gt_bytes (e);
  return (entry >> 32) == 0x10000000u;
}

int
vmdk_table (VmdkExtent *e, bool redundant, uint64_t at, bool nowait, uint64_t *table, GError **error)
{
  const uint64_t index = at / vmdk_gt_span (e);
  const uint64_t gd = redundant ? e->sparse.rgd_offset : e->sparse.gd_offset;
  VmdkEntries entries;
  int ret = vmdk_entries_look (e, redundant ? e->rgd : e->gd, gd + index * e->sparse.entry_bytes, 1, nowait,
                               &entries, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t entry = vmdk_entry (e, entries.bytes, 0);
  vmdk_entries_put (&entries);
  *table = 0;
  if (entry == 0) {
    return 0;
  }
  if (!vmdk_decode_table (e, entry, table) || !vmdk_valid_table (e, *table)) {
    return nowait ? -EAGAIN
                  : vmdk_corrupt (e, error,
                                  "entry %" PRIu64 " of the %sgrain directory is 0x%" PRIx64
                                  ", where no grain table can be",
                                  index, redundant ? "second " : "", entry);
  }
  return 0;
}

/* ---- Changing ---- */

static int
vmdk_set_in_table (VmdkExtent *e, TnMetaCache *cache, uint64_t at, uint64_t n, uint32_t entry, uint32_t step,
                   GError **error)
{
  while (n) {
    VmdkEntries entries;
    int ret = vmdk_entries_get (e, cache, at, n, false, &entries, error);
    if (ret < 0) {
      return ret;
    }
    vmdk_forget_hole (e);
    /* Guest data comes before the entry that shows it. */
    tn_meta_after_data (cache);
    uint8_t *bytes = (uint8_t *) entries.bytes;
    for (unsigned i = 0; i < entries.n; i++, entry += step) {
      tn_store_le32 (bytes + i * 4u, entry);
    }
    tn_meta_dirty (entries.slice);
    vmdk_entries_put (&entries);
    at += entries.n * 4u;
    n -= entries.n;
  }
  return 0;
}

static int
vmdk_set_one (VmdkExtent *e, bool redundant, uint64_t at, uint64_t n, uint32_t entry, uint32_t step,
              GError **error)
{
  uint64_t table;
  int ret = vmdk_table (e, redundant, at, false, &table, error);
  if (ret < 0) {
    return ret;
  }
  if (table == 0) {
    return vmdk_corrupt (e, error, "there is no %sgrain table for offset 0x%" PRIx64,
                         redundant ? "second " : "", at);
  }
  const uint64_t index = at / e->sparse.grain % e->sparse.gt_entries;
  return vmdk_set_in_table (e, redundant ? e->rgt : e->gt, table + index * 4, n, entry, step, error);
}

int
vmdk_set_entries (VmdkExtent *e, uint64_t at, uint64_t n, uint32_t entry, uint32_t step, GError **error)
{
  while (n) {
    const uint64_t index = at / e->sparse.grain % e->sparse.gt_entries;
    const uint64_t part = MIN (n, e->sparse.gt_entries - index);
    int ret = e->rgd ? vmdk_set_one (e, true, at, part, entry, step, error) : 0;
    if (ret < 0 || (ret = vmdk_set_one (e, false, at, part, entry, step, error)) < 0) {
      return ret;
    }
    at += part * e->sparse.grain;
    entry += (uint32_t) part * step;
    n -= part;
  }
  return 0;
}

/* ---- Tables that are missing ---- */

static int
vmdk_set_directory (VmdkExtent *e, bool redundant, uint64_t index, uint64_t table, GError **error)
{
  TnMetaCache *cache = redundant ? e->rgd : e->gd;
  VmdkEntries entries;
  int ret = vmdk_entries_get (e, cache, (redundant ? e->sparse.rgd_offset : e->sparse.gd_offset) + index * 4,
                              1, false, &entries, error);
  if (ret < 0) {
    return ret;
  }
  vmdk_forget_hole (e);
  tn_meta_after_data (cache);
  tn_store_le32 ((uint8_t *) entries.bytes, (uint32_t) (table / VMDK_SECTOR));
  tn_meta_dirty (entries.slice);
  vmdk_entries_put (&entries);
  return 0;
}

/* An empty table takes whole grains, so that everything stays where grains begin. */
static int
vmdk_new_table (VmdkExtent *e, bool redundant, uint64_t at, uint64_t *table, GError **error)
{
  const uint64_t grain = e->sparse.grain, grains = (vmdk_gt_bytes (e) + grain - 1) / grain;
  TnMetaCache *cache = redundant ? e->rgt : e->gt;
  int ret = vmdk_alloc (e, grains, table, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_forget (cache, *table, grains * grain);
  if ((ret = tn_node_write_zeroes (e->file, *table, grains * grain, 0, error)) < 0
      || (ret = vmdk_set_directory (e, redundant, at / vmdk_gt_span (e), *table, error)) < 0) {
    vmdk_release (e, *table, grains * grain);
  }
  return ret;
}

int
vmdk_table_make (VmdkExtent *e, uint64_t at, uint64_t *table, GError **error)
{
  uint64_t second;
  int ret = e->rgd ? vmdk_table (e, true, at, false, &second, error) : 0;
  if (ret == 0 && e->rgd && second == 0) {
    ret = vmdk_new_table (e, true, at, &second, error);
  }
  if (ret < 0 || (ret = vmdk_table (e, false, at, false, table, error)) < 0 || *table) {
    return ret;
  }
  return vmdk_new_table (e, false, at, table, error);
}

int
vmdk_forget_table (VmdkExtent *e, bool redundant, uint64_t at, GError **error)
{
  return vmdk_set_directory (e, redundant, at / vmdk_gt_span (e), 0, error);
}
