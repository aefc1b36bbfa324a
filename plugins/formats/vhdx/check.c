/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: every entry of the BAT against the file, the image's tables and the others.  (Headers, regions and
 * metadata have been checked by opening.)
 *
 * Repair replays the log into the file, forgets blocks that the file does not have, and gives a block that
 * shares space with another a copy of its own.
 */
#include "vhdx.h"

#include <stdarg.h>

#define COPY_CHUNK (1u << 20)
#define MAX_PLACES (8u << 20)

typedef struct VhdxPlace {
  uint64_t offset, block;
} VhdxPlace;

typedef struct VhdxWalk {
  Vhdx *v;
  TnCheck *check;
  uint32_t fix;
  GArray *places; /* VhdxPlace of all blocks that can be right */
} VhdxWalk;

/* Notes one error; whether it is to be repaired. */
static bool TN_PRINTF (2, 3) vhdx_find (VhdxWalk *walk, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  if (walk->check->report)
    walk->check->report (line, true, walk->check->opaque);
  const bool fix = walk->fix & TN_CHECK_FIX_ERRORS;
  walk->check->corruptions += !fix;
  walk->check->corruptions_fixed += fix;
  return fix;
}

static int
vhdx_check_block (VhdxWalk *walk, uint64_t block, GError **error)
{
  Vhdx *v = walk->v;
  const uint64_t index = vhdx_bat_index (v, block);
  uint64_t entry = 0;
  int ret = vhdx_get_entry (v, index, &entry, error);
  const char *fault = ret < 0 ? NULL : vhdx_entry_fault (v, block, entry);
  if (ret < 0 || (!fault && !vhdx_kind_is_data (entry)))
    return ret;
  walk->check->allocated_clusters++;
  if (fault)
    return vhdx_find (walk, "ERROR: the BAT's entry for block %" PRIu64 " (0x%" PRIx64 ") %s", block, entry,
                      fault)
               ? vhdx_set_entry (v, index, VHDX_ZERO, error)
               : 0;
  const VhdxPlace place = { entry & VHDX_OFFSET_MASK, block };
  if (walk->places->len >= MAX_PLACES)
    return vhdx_fail (v, error, ENOMEM, "more than %u blocks cannot be checked", MAX_PLACES);
  g_array_append_val (walk->places, place);
  return 0;
}

static gint
vhdx_compare_places (gconstpointer a, gconstpointer b)
{
  const VhdxPlace *one = a, *two = b;
  return one->offset < two->offset ? -1 : one->offset > two->offset;
}

static int
vhdx_move_block (Vhdx *v, const VhdxPlace *from, GError **error)
{
  const uint64_t index = vhdx_bat_index (v, from->block);
  g_autofree uint8_t *buffer = g_malloc (COPY_CHUNK);
  uint64_t entry = 0, place = 0;
  uint32_t n = 1;
  bool fresh;
  int ret = vhdx_flush_state (v, error);
  if (ret < 0 || (ret = vhdx_get_entry (v, index, &entry, error)) < 0
      || (ret = vhdx_take_places (v, &n, &place, &fresh, error)) < 0)
    return ret;
  for (uint64_t at = 0; ret == 0 && at < v->block_size; at += COPY_CHUNK) {
    ret = tn_node_read (v->file, from->offset + at, buffer, COPY_CHUNK, error);
    if (ret == 0)
      ret = tn_node_write (v->file, place + at, buffer, COPY_CHUNK, error);
  }
  if (ret < 0)
    return ret;
  tn_meta_after_data (v->bat.cache);
  return vhdx_set_entry (v, index, place | (entry & 7), error);
}

static int
vhdx_check_overlaps (VhdxWalk *walk, GError **error)
{
  Vhdx *v = walk->v;
  uint64_t end = 0;
  int ret = 0;
  g_array_sort (walk->places, vhdx_compare_places);
  for (guint i = 0; ret == 0 && i < walk->places->len; i++) {
    const VhdxPlace *place = &g_array_index (walk->places, VhdxPlace, i);
    if (place->offset >= end)
      end = place->offset + v->block_size;
    else if (vhdx_find (walk, "ERROR: block %" PRIu64 " at 0x%" PRIx64 " overlaps another", place->block,
                        place->offset))
      ret = vhdx_move_block (v, place, error);
  }
  return ret;
}

static int
vhdx_check_all (VhdxWalk *walk, GError **error)
{
  Vhdx *v = walk->v;
  int ret = walk->fix ? vhdx_touch (v, error) : 0;
  for (uint64_t block = 0; ret == 0 && block < v->blocks; block++)
    ret = vhdx_check_block (walk, block, error);
  if (ret == 0)
    ret = vhdx_check_overlaps (walk, error);
  return ret == 0 && walk->fix ? vhdx_flush_state (v, error) : ret;
}

int
vhdx_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Vhdx *v = tn_node_state (node);
  VhdxWalk walk = { .v = v, .check = check, .fix = v->writable ? fix : 0 };
  check->total_clusters = v->blocks;
  walk.places = g_array_new (false, false, sizeof (VhdxPlace));
  const int ret = vhdx_check_all (&walk, error);
  check->image_end_offset = vhdx_file_size (v);
  check->check_errors += ret < 0;
  g_array_unref (walk.places);
  v->scanned = false;
  return ret;
}
