/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: every entry of the map against the file and the others, and the header's count against them.
 *
 * Repair gives a block that shares its place with another a copy of its own, forgets places that the file
 * does not have, moves blocks from the end into gaps, and corrects the count.
 */
#include "vdi.h"

#include <stdarg.h>

typedef struct VdiWalk {
  Vdi *v;
  TnCheck *check;
  uint32_t fix;
  uint8_t *seen;      /* a bit for each place in use */
  uint32_t used, end; /* places in use; behind the last of them */
  uint32_t gap_hint;  /* there is no gap before */
  bool changed;
} VdiWalk;

static void TN_PRINTF (3, 4) vdi_report (VdiWalk *walk, bool is_error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  if (walk->check->report)
    walk->check->report (line, is_error, walk->check->opaque);
}

/* ---- Places ---- */

static bool
vdi_is_seen (const VdiWalk *walk, uint32_t place)
{
  return walk->seen[place / 8] >> (place % 8) & 1;
}

static void
vdi_note_place (VdiWalk *walk, uint32_t place)
{
  walk->seen[place / 8] |= (uint8_t) (1u << (place % 8));
  walk->used++;
  walk->end = MAX (walk->end, place + 1);
}

/* A place of its own for a block that shares one. */
static int
vdi_copy_to_gap (VdiWalk *walk, uint32_t block, uint32_t from, uint32_t to, GError **error)
{
  const int ret = vdi_move_block (walk->v, block, from, to, error);
  if (ret < 0)
    return ret;
  vdi_note_place (walk, to);
  walk->changed = true;
  return vdi_flush_state (walk->v, error);
}

static uint32_t
vdi_first_gap (VdiWalk *walk)
{
  while (vdi_is_seen (walk, walk->gap_hint))
    walk->gap_hint++;
  return walk->gap_hint;
}

/* ---- Entries ---- */

static int
vdi_check_entry (VdiWalk *walk, uint32_t block, uint32_t entry, GArray *shared, GError **error)
{
  Vdi *v = walk->v;
  const char *fault = vdi_entry_fault (v, entry);
  if (entry >= VDI_ZERO)
    return 0;
  walk->check->allocated_clusters++;
  if (fault) {
    vdi_report (walk, true, "ERROR: block map entry %u (%u) %s", block, entry, fault);
    walk->check->corruptions++;
    if (!(walk->fix & TN_CHECK_FIX_ERRORS))
      return 0;
    walk->check->corruptions_fixed++;
    walk->changed = true;
    return vdi_set_entry (v, block, v->header.type == VDI_DIFFERENCING ? VDI_ZERO : VDI_UNALLOCATED, error);
  }
  if (!vdi_is_seen (walk, entry)) {
    vdi_note_place (walk, entry);
    return 0;
  }
  vdi_report (walk, true, "ERROR: block map entry %u: place %u belongs to another block too", block, entry);
  walk->check->corruptions++;
  g_array_append_val (shared, block);
  return 0;
}

static int
vdi_walk_map (VdiWalk *walk, GArray *shared, GError **error)
{
  Vdi *v = walk->v;
  int ret = 0;
  for (uint32_t block = 0; ret == 0 && block < v->header.blocks; block++) {
    uint32_t entry = VDI_UNALLOCATED;
    if ((ret = vdi_get_entry (v, block, &entry, error)) == 0)
      ret = vdi_check_entry (walk, block, entry, shared, error);
  }
  return ret;
}

static int
vdi_separate (VdiWalk *walk, const GArray *shared, GError **error)
{
  int ret = 0;
  for (guint i = 0; ret == 0 && i < shared->len; i++) {
    const uint32_t block = g_array_index (shared, uint32_t, i);
    uint32_t entry = VDI_UNALLOCATED;
    if ((ret = vdi_get_entry (walk->v, block, &entry, error)) == 0
        && (ret = vdi_copy_to_gap (walk, block, entry, vdi_first_gap (walk), error)) == 0)
      walk->check->corruptions_fixed++;
  }
  return ret;
}

/* ---- Gaps and the count ---- */

/* Blocks that share places with others would need more gaps than there are: they are repaired before. */
static bool
vdi_may_move (const VdiWalk *walk)
{
  return (walk->fix & TN_CHECK_FIX_LEAKS) && walk->check->corruptions == walk->check->corruptions_fixed;
}

static int
vdi_check_count (VdiWalk *walk, GError **error)
{
  Vdi *v = walk->v;
  const uint32_t said = v->header.allocated;
  int ret = 0;
  if (walk->used < walk->end) {
    vdi_report (walk, false, "Leaked: %u places between blocks are not in use", walk->end - walk->used);
    walk->check->leaks += walk->end - walk->used;
    if (vdi_may_move (walk)) {
      walk->check->leaks_fixed += walk->end - walk->used;
      ret = vdi_fill_gaps (v, walk->seen, walk->used, error);
      walk->end = walk->used;
      walk->changed = true;
    }
  }
  if (ret < 0 || said == walk->end)
    return ret;
  const bool leak = said > walk->end;
  if (leak && walk->check->leaks == 0) {
    vdi_report (walk, false, "Leaked: the header counts %u blocks, %u are in use", said, walk->end);
    walk->check->leaks += said - walk->end;
    walk->check->leaks_fixed += walk->fix & TN_CHECK_FIX_LEAKS ? said - walk->end : 0;
  } else if (!leak) {
    vdi_report (walk, true, "ERROR: the header counts %u blocks, %u are in use", said, walk->end);
    walk->check->corruptions++;
    walk->check->corruptions_fixed += walk->fix & TN_CHECK_FIX_ERRORS ? 1 : 0;
  }
  if (!(walk->fix & (leak ? TN_CHECK_FIX_LEAKS : TN_CHECK_FIX_ERRORS)))
    return 0;
  walk->changed = true;
  return vdi_header_set_count (v, walk->end, error);
}

static int
vdi_check_all (VdiWalk *walk, GError **error)
{
  g_autoptr (GArray) shared = g_array_new (false, false, sizeof (uint32_t));
  int ret = vdi_walk_map (walk, shared, error);
  if (ret == 0 && (walk->fix & TN_CHECK_FIX_ERRORS))
    ret = vdi_separate (walk, shared, error);
  if (ret == 0)
    ret = vdi_check_count (walk, error);
  if (ret == 0 && walk->changed)
    ret = vdi_flush_state (walk->v, error);
  return ret;
}

int
vdi_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Vdi *v = tn_node_state (node);
  VdiWalk walk = { .v = v, .check = check, .fix = v->writable ? fix : 0 };
  check->total_clusters = v->header.blocks;
  /* One more than there are places: a gap is always found. */
  walk.seen = g_try_malloc0 (v->header.blocks / 8 + 1);
  if (!walk.seen)
    return vdi_fail (v, error, ENOMEM, "no memory for the places of %u blocks", v->header.blocks);
  const int ret = vdi_check_all (&walk, error);
  check->check_errors += ret < 0;
  check->corruptions -= check->corruptions_fixed;
  check->leaks -= check->leaks_fixed;
  check->image_end_offset = v->header.data_offset + walk.end * v->stride;
  g_free (walk.seen);
  vdi_forget_places (v);
  return ret;
}
