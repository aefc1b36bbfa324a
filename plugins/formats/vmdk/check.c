/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: follows every table entry and looks for places that cannot be, that are used twice, or not at all,
 * and for differences between the two sets of tables.
 *
 * Repair clears entries that cannot be right, gives grains that are used twice a copy each, makes the second
 * tables equal to the first, and cuts unused grains off the end.  Unused grains between others stay: the
 * format cannot record them.
 */
#include "../common/clusterset.h"
#include "vmdk.h"

#include <stdarg.h>

#define WINDOW_BYTES (1u << 20)
#define WINDOW_HOLE (1u << 30)

/* A part of the file, since tables stand one behind the other; bytes NULL: a hole. */
typedef struct VmdkWindow {
  uint64_t offset, length;
  uint8_t *bytes;
} VmdkWindow;

typedef struct VmdkWalk {
  Vmdk *v;
  VmdkExtent *e;
  TnCheck *check;
  uint32_t fix;
  ClusterSet *grains;       /* of grains, where they begin at multiples of their size */
  ClusterSet *sectors;      /* of everything else */
  uint64_t last;            /* place of the grain before */
  uint64_t end;             /* of what is in use */
  VmdkWindow first, second; /* of the tables */
} VmdkWalk;

static void vmdk_report (VmdkWalk *walk, bool is_error, const char *format, ...) TN_PRINTF (3, 4);

static void
vmdk_report (VmdkWalk *walk, bool is_error, const char *format, ...)
{
  va_list args;
  if (walk->check->report == NULL) {
    return;
  }
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  walk->check->report (line, is_error, walk->check->opaque);
}

static bool
vmdk_mends (const VmdkWalk *walk)
{
  return walk->fix & TN_CHECK_FIX_ERRORS;
}

static void
vmdk_mended (VmdkWalk *walk)
{
  walk->check->corruptions--;
  walk->check->corruptions_fixed++;
}

static int
vmdk_no_memory (VmdkWalk *walk, GError **error)
{
  walk->check->check_errors++;
  return vmdk_fail (walk->v, error, ENOMEM, "there is not enough memory to check it");
}

/* ---- What is in use ---- */

/* 1: some of it was in use. */
static int
vmdk_use_sectors (VmdkWalk *walk, uint64_t offset, uint64_t length, GError **error)
{
  const uint64_t first = offset / VMDK_SECTOR, n = (length + VMDK_SECTOR - 1) / VMDK_SECTOR;
  int twice = cluster_set_add (walk->sectors, first, n);
  walk->end = MAX (walk->end, (first + n) * VMDK_SECTOR);
  return twice < 0 ? vmdk_no_memory (walk, error) : twice;
}

static int
vmdk_use_grain (VmdkWalk *walk, uint64_t place, GError **error)
{
  const uint64_t grain = walk->e->sparse.grain;
  if (walk->e->sparse.compressed || place % grain) {
    return vmdk_use_sectors (walk, place, walk->e->sparse.compressed ? 1 : grain, error);
  }
  const uint64_t sectors = grain / VMDK_SECTOR;
  int twice = cluster_set_add (walk->grains, place / grain, 1);
  /* Other kinds of things, and grains elsewhere than at multiples, are few. */
  if (twice == 0) {
    twice = cluster_set_has_any (walk->sectors, place / VMDK_SECTOR, sectors);
  }
  walk->end = MAX (walk->end, place + grain);
  return twice < 0 ? vmdk_no_memory (walk, error) : twice;
}

/* ---- Grains ---- */

static int
vmdk_drop_grain (VmdkWalk *walk, uint64_t at, GError **error)
{
  walk->check->corruptions++;
  if (!vmdk_mends (walk)) {
    return 0;
  }
  int ret = vmdk_set_entries (walk->e, at, 1, 0, 0, error);
  if (ret == 0) {
    vmdk_mended (walk);
  }
  return ret;
}

/* Gives the second user of a grain a copy. */
static int
vmdk_separate (VmdkWalk *walk, uint64_t at, uint64_t place, GError **error)
{
  VmdkExtent *e = walk->e;
  const uint64_t grain = e->sparse.grain;
  uint64_t copy;
  walk->check->corruptions++;
  vmdk_report (walk, true, "ERROR %s: the grain at 0x%" PRIx64 " is used again, for offset 0x%" PRIx64,
               tn_node_filename (e->file), place, at);
  if (!vmdk_mends (walk)) {
    return 0;
  }
  g_autofree uint8_t *bytes = g_malloc (grain);
  int ret = tn_node_read (e->file, place, bytes, grain, error);
  if (ret < 0 || (ret = vmdk_alloc (e, 1, &copy, error)) < 0
      || (ret = tn_node_write (e->file, copy, bytes, grain, error)) < 0
      || (ret = vmdk_set_entries (e, at, 1, (uint32_t) (copy / VMDK_SECTOR), 0, error)) < 0
      || (ret = vmdk_use_grain (walk, copy, error)) < 0) {
    return ret;
  }
  vmdk_mended (walk);
  return 0;
}

static int
vmdk_walk_grain (VmdkWalk *walk, uint64_t at, uint64_t entry, GError **error)
{
  VmdkExtent *e = walk->e;
  const VmdkSparse *s = &e->sparse;
  const uint32_t kind = vmdk_entry_kind (e, entry);
  const uint64_t place = vmdk_entry_place (e, entry);
  if (kind != TN_EXTENT_DATA && kind != TN_EXTENT_PACKED) {
    return 0;
  }
  if (!vmdk_valid_grain (e, place, s->compressed ? VMDK_MARKER_BYTES : MIN (s->grain, s->capacity - at))) {
    vmdk_report (walk, true,
                 "ERROR %s: the grain of offset 0x%" PRIx64 " should be at 0x%" PRIx64 ", where none can be",
                 tn_node_filename (e->file), at, place);
    return vmdk_drop_grain (walk, at, error);
  }
  walk->check->allocated_clusters++;
  walk->check->compressed_clusters += s->compressed;
  walk->check->fragmented_clusters += walk->last && !s->compressed && walk->last + s->grain != place;
  walk->last = place;
  int twice = vmdk_use_grain (walk, place, error);
  return twice > 0 ? vmdk_separate (walk, at, place, error) : twice;
}

/* ---- Tables ---- */

static int
vmdk_window_move (VmdkWalk *walk, VmdkWindow *window, uint64_t at, GError **error)
{
  TnNode *file = walk->e->file;
  TnStatus status = { 0 };
  const uint64_t left = tn_node_size (file) - at, least = vmdk_gt_bytes (walk->e);
  *window = (VmdkWindow){ .offset = at, .bytes = window->bytes };
  if (tn_node_status (file, NULL, at, MIN (left, WINDOW_HOLE), &status, NULL) == 0 && status.zero
      && status.length >= least) {
    g_clear_pointer (&window->bytes, g_free);
    window->length = status.length;
    return 0;
  }
  const uint64_t length = MIN (left, MAX (WINDOW_BYTES, least));
  if (window->bytes == NULL) {
    window->bytes = g_malloc (MAX (WINDOW_BYTES, least));
  }
  int ret = tn_node_read (file, at, window->bytes, length, error);
  walk->check->check_errors += ret < 0;
  window->length = ret < 0 ? 0 : length;
  return ret;
}

/* The bytes of the table at @at; NULL: they are zeroes. */
static int
vmdk_window_table (VmdkWalk *walk, VmdkWindow *window, uint64_t at, const uint8_t **bytes, GError **error)
{
  const uint64_t length = vmdk_gt_bytes (walk->e);
  int ret = 0;
  if (at < window->offset || at - window->offset > window->length
      || length > window->length - (at - window->offset)) {
    ret = vmdk_window_move (walk, window, at, error);
  }
  *bytes = window->bytes ? window->bytes + (at - window->offset) : NULL;
  return ret;
}

static bool
vmdk_may_be (const VmdkExtent *e, uint64_t entry, uint64_t at)
{
  return vmdk_entry_kind (e, entry) != TN_EXTENT_DATA
         || vmdk_valid_grain (e, vmdk_entry_place (e, entry), MIN (e->sparse.grain, e->sparse.capacity - at));
}

/* Nobody reads the second table, and the two cannot be written at once: what a power cut leaves of that is as
 * harmless as a leak. */
static int
vmdk_mend_second (VmdkWalk *walk, uint64_t at, uint64_t entry, uint64_t second, GError **error)
{
  TnCheck *check = walk->check;
  const bool behind = vmdk_may_be (walk->e, entry, at) && vmdk_may_be (walk->e, second, at);
  vmdk_report (walk, !behind, "%s%s: the second grain table differs for offset 0x%" PRIx64,
               behind ? "" : "ERROR ", tn_node_filename (walk->e->file), at);
  *(behind ? &check->leaks : &check->corruptions) += 1;
  if (!(walk->fix & (behind ? TN_CHECK_FIX_LEAKS : TN_CHECK_FIX_ERRORS))) {
    return 0;
  }
  int ret = vmdk_set_entries (walk->e, at, 1, (uint32_t) entry, 0, error);
  if (ret == 0) {
    *(behind ? &check->leaks : &check->corruptions) -= 1;
    *(behind ? &check->leaks_fixed : &check->corruptions_fixed) += 1;
  }
  return ret;
}

/* The second table as the first. */
static int
vmdk_compare_second (VmdkWalk *walk, uint64_t at, const uint8_t *first, const uint8_t *second, GError **error)
{
  VmdkExtent *e = walk->e;
  int ret = 0;
  for (uint32_t i = 0; ret == 0 && i < e->sparse.gt_entries; i++) {
    const uint64_t entry = first ? vmdk_entry (e, first, i) : 0;
    const uint64_t offset = at + i * e->sparse.grain;
    const uint64_t other = second ? vmdk_entry (e, second, i) : 0;
    if (entry != other && offset < e->sparse.capacity) {
      ret = vmdk_mend_second (walk, offset, entry, other, error);
    }
  }
  return ret;
}

static int
vmdk_walk_table (VmdkWalk *walk, uint64_t at, uint64_t table, uint64_t other, GError **error)
{
  VmdkExtent *e = walk->e;
  const uint8_t *first, *second = NULL;
  int ret = vmdk_window_table (walk, &walk->first, table, &first, error);
  if (ret == 0 && other) {
    ret = vmdk_window_table (walk, &walk->second, other, &second, error);
  }
  if (ret == 0 && other && (first || second)) {
    ret = vmdk_compare_second (walk, at, first, second, error);
  }
  for (uint32_t i = 0; ret == 0 && first && i < e->sparse.gt_entries; i++, at += e->sparse.grain) {
    const uint64_t entry = vmdk_entry (e, first, i);
    if (entry && at < e->sparse.capacity) {
      ret = vmdk_walk_grain (walk, at, entry, error);
    }
  }
  return ret;
}

/* A directory entry that cannot be right: 0. */
static int
vmdk_drop_table (VmdkWalk *walk, uint64_t at, bool redundant, const char *why, GError **error)
{
  walk->check->corruptions++;
  vmdk_report (walk, true, "ERROR %s: %s", tn_node_filename (walk->e->file), why);
  if (!vmdk_mends (walk)) {
    return 0;
  }
  int ret = vmdk_forget_table (walk->e, redundant, at, error);
  if (ret == 0) {
    vmdk_mended (walk);
  }
  return ret;
}

/* Place of a table that nothing else uses; 0: none, or none that can be. */
static int
vmdk_look_up_table (VmdkWalk *walk, uint64_t at, bool redundant, uint64_t *table, GError **error)
{
  g_autoptr (GError) why = NULL;
  int ret = vmdk_table (walk->e, redundant, at, false, table, &why);
  if (ret == 0 && *table == 0) {
    return 0;
  }
  if (ret == 0 && (ret = vmdk_use_sectors (walk, *table, vmdk_gt_bytes (walk->e), error)) <= 0) {
    return ret;
  }
  g_autofree char *text =
      g_strdup_printf ("a %sgrain table for offset 0x%" PRIx64 " lies where something else is",
                       redundant ? "second " : "", at);
  *table = 0;
  return vmdk_drop_table (walk, at, redundant, why ? why->message : text, error);
}

/* ---- One extent ---- */

static int
vmdk_use_heads (VmdkWalk *walk, GError **error)
{
  const VmdkSparse *s = &walk->e->sparse;
  const uint64_t gd_bytes = s->gd_entries * s->entry_bytes;
  int ret = vmdk_use_sectors (walk, 0, VMDK_SECTOR, error);
  if (ret >= 0 && s->descriptor_offset) {
    ret = vmdk_use_sectors (walk, s->descriptor_offset, s->descriptor_bytes, error);
  }
  if (ret >= 0) {
    ret = vmdk_use_sectors (walk, s->gd_offset, gd_bytes, error);
  }
  if (ret >= 0 && s->rgd_offset) {
    ret = vmdk_use_sectors (walk, s->rgd_offset, gd_bytes, error);
  }
  return ret;
}

static int
vmdk_walk_tables (VmdkWalk *walk, GError **error)
{
  VmdkExtent *e = walk->e;
  const uint64_t span = vmdk_gt_span (e);
  int ret = 0;
  /* All tables are known before the first grain, so that it is the grain that is wrong. */
  g_autofree uint32_t *seconds = g_new0 (uint32_t, e->sparse.gd_entries);
  g_autofree uint64_t *firsts = g_new0 (uint64_t, e->sparse.gd_entries);
  for (uint64_t i = 0; ret == 0 && i < e->sparse.gd_entries; i++) {
    uint64_t table = 0;
    if ((ret = vmdk_look_up_table (walk, i * span, false, &firsts[i], error)) == 0 && e->sparse.rgd_offset) {
      ret = vmdk_look_up_table (walk, i * span, true, &table, error);
      seconds[i] = (uint32_t) (table / VMDK_SECTOR);
    }
  }
  for (uint64_t i = 0; ret == 0 && i < e->sparse.gd_entries; i++) {
    if (firsts[i]) {
      ret = vmdk_walk_table (walk, i * span, firsts[i], (uint64_t) seconds[i] * VMDK_SECTOR, error);
    }
  }
  return ret;
}

static int
vmdk_cut_leaks (VmdkWalk *walk, GError **error)
{
  VmdkExtent *e = walk->e;
  const uint64_t grain = e->sparse.grain;
  const uint64_t last = (MAX (walk->end, e->sparse.overhead) + grain - 1) / grain * grain;
  if (!(walk->fix & TN_CHECK_FIX_LEAKS) || last >= e->end || tn_node_size (e->file) <= last) {
    return 0;
  }
  /* What was dropped must be forgotten on the disk before its place goes. */
  int ret = vmdk_sync (walk->v, error);
  if (ret < 0 || (ret = tn_node_resize (e->file, last, TN_PREALLOC_OFF, error)) < 0) {
    return ret;
  }
  const uint64_t cut = MIN ((e->end - last) / grain, walk->check->leaks);
  walk->check->leaks -= cut;
  walk->check->leaks_fixed += cut;
  e->end = last;
  g_array_set_size (e->free, 0);
  return 0;
}

/* Grains between the tables at the front and the end of the file that nothing uses. */
static int
vmdk_count_leaks (VmdkWalk *walk, GError **error)
{
  VmdkExtent *e = walk->e;
  const uint64_t grain = e->sparse.grain;
  if (e->sparse.compressed || e->sparse.sesparse || e->sparse.cowd) {
    return 0;
  }
  const uint64_t file_end = tn_node_size (e->file) / grain;
  const uint64_t before = walk->check->leaks;
  for (uint64_t g = (e->sparse.overhead + grain - 1) / grain; g < file_end; g++) {
    bool used = cluster_set_has (walk->grains, g)
                || cluster_set_has_any (walk->sectors, g * (grain / VMDK_SECTOR), grain / VMDK_SECTOR);
    walk->check->leaks += !used;
  }
  if (walk->check->leaks == before) {
    return 0;
  }
  vmdk_report (walk, false, "%s: %" PRIu64 " grains are not used by anything", tn_node_filename (e->file),
               walk->check->leaks - before);
  return vmdk_cut_leaks (walk, error);
}

static int
vmdk_check_extent (Vmdk *v, VmdkExtent *e, uint32_t fix, TnCheck *check, GError **error)
{
  g_autoptr (ClusterSet) grains = cluster_set_new (), sectors = cluster_set_new ();
  VmdkWalk walk = { .v = v, .e = e, .check = check, .fix = fix, .grains = grains, .sectors = sectors };
  check->total_clusters += (e->length + e->sparse.grain - 1) / e->sparse.grain;
  int ret = vmdk_use_heads (&walk, error);
  if (ret == 0) {
    ret = vmdk_walk_tables (&walk, error);
  }
  g_free (walk.first.bytes);
  g_free (walk.second.bytes);
  if (ret < 0) {
    return ret;
  }
  check->image_end_offset = walk.end;
  return vmdk_count_leaks (&walk, error);
}

int
vmdk_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Vmdk *v = tn_node_state (node);
  int ret = fix ? vmdk_need_writable (v, error) : 0;
  if (ret < 0 || (ret = v->writable ? vmdk_sync (v, error) : 0) < 0) {
    return ret;
  }
  if (fix && v->stream) {
    return vmdk_fail (v, error, ENOTSUP, "a streamOptimized image cannot be repaired: convert it");
  }
  for (size_t i = 0; ret == 0 && i < v->n_extents; i++) {
    VmdkExtent *e = &v->extents[i];
    if (e->type == VMDK_SPARSE && e->file) {
      ret = vmdk_check_extent (v, e, e->writable ? fix : 0, check, error);
    }
  }
  tn_node_bump_generation (node);
  return ret < 0 || !fix ? ret : vmdk_sync (v, error);
}
