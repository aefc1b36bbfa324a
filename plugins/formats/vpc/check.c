/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: both copies of the footer, and every entry of the BAT against the file and the others.
 *
 * Repair writes the footers anew, forgets blocks that the file does not have, and gives a block that shares
 * space with another a copy of its own.
 */
#include "vpc.h"

#include <stdarg.h>
#include <stdlib.h>

#define COPY_CHUNK (1u << 20)
#define MAX_PLACES (16u << 20)

typedef struct VpcPlace {
  uint32_t entry, block;
} VpcPlace;

typedef struct VpcWalk {
  Vpc *v;
  TnCheck *check;
  uint32_t fix;
  GArray *places; /* VpcPlace of all blocks that can be right */
} VpcWalk;

/* Notes one finding; whether it is to be repaired. */
static bool TN_PRINTF (3, 4) vpc_find (VpcWalk *walk, bool is_error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  if (walk->check->report)
    walk->check->report (line, is_error, walk->check->opaque);
  const bool fix = walk->fix & (is_error ? TN_CHECK_FIX_ERRORS : TN_CHECK_FIX_LEAKS);
  *(is_error ? &walk->check->corruptions : &walk->check->leaks) += !fix;
  *(is_error ? &walk->check->corruptions_fixed : &walk->check->leaks_fixed) += fix;
  return fix;
}

/* ---- Footers ---- */

/* The footer that counts is the one in front; without one at the end nothing is lost. */
static int
vpc_check_footers (VpcWalk *walk, GError **error)
{
  Vpc *v = walk->v;
  uint8_t head[VPC_SECTOR], tail[VPC_SECTOR];
  const uint64_t file_size = tn_node_size (v->file), at = (file_size - 1) / VPC_SECTOR * VPC_SECTOR;
  if (v->footer.type == VPC_FIXED)
    return 0;
  int ret = tn_node_read (v->file, 0, head, sizeof head, error);
  if (ret == 0)
    ret = tn_node_read (v->file, file_size - sizeof tail, tail, sizeof tail, error);
  if (ret < 0)
    return ret;
  if (memcmp (head, v->footer_bytes, sizeof head) != 0
      && vpc_find (walk, true, "ERROR: the copy of the footer in front is damaged"))
    ret = tn_node_write (v->file, 0, v->footer_bytes, sizeof head, error);
  if (ret < 0 || memcmp (tail, v->footer_bytes, sizeof tail) == 0
      || !vpc_find (walk, false, "There is no footer at the end of the file"))
    return ret;
  const uint64_t end = MAX (v->end, file_size % VPC_SECTOR || file_size == v->end ? at + VPC_SECTOR : at);
  ret = tn_node_resize (v->file, end + VPC_SECTOR, TN_PREALLOC_OFF, error);
  return ret < 0 ? ret : tn_node_write (v->file, end, v->footer_bytes, VPC_SECTOR, error);
}

/* ---- The BAT ---- */

static int
vpc_check_entry (VpcWalk *walk, uint32_t block, uint32_t entry, GError **error)
{
  const char *fault = vpc_entry_fault (walk->v, entry);
  const VpcPlace place = { entry, block };
  if (entry == VPC_UNUSED)
    return 0;
  walk->check->allocated_clusters++;
  if (fault)
    return vpc_find (walk, true, "ERROR: BAT entry %u (%u) %s", block, entry, fault)
               ? vpc_set_entry (walk->v, block, VPC_UNUSED, error)
               : 0;
  if (walk->places->len >= MAX_PLACES)
    return vpc_fail (walk->v, error, ENOMEM, "more than %u blocks cannot be checked", MAX_PLACES);
  g_array_append_val (walk->places, place);
  walk->v->end = MAX (walk->v->end, vpc_block_end (walk->v, entry));
  return 0;
}

static gint
vpc_compare_places (gconstpointer a, gconstpointer b)
{
  const VpcPlace *one = a, *two = b;
  return one->entry < two->entry ? -1 : one->entry > two->entry;
}

/* Bitmap and data of a block, at a place of its own. */
static int
vpc_move_block (Vpc *v, const VpcPlace *from, GError **error)
{
  const uint64_t length = (uint64_t) v->bitmap_bytes + v->block_size,
                 source = from->entry * (uint64_t) VPC_SECTOR;
  g_autofree uint8_t *buffer = g_malloc (COPY_CHUNK);
  uint64_t place;
  bool fresh;
  int ret = vpc_flush_state (v, error);
  if (ret < 0 || (ret = vpc_take_place (v, &place, &fresh, error)) < 0)
    return ret;
  for (uint64_t at = 0; ret == 0 && at < length; at += COPY_CHUNK) {
    const uint64_t part = MIN (length - at, COPY_CHUNK);
    ret = tn_node_read (v->file, source + at, buffer, part, error);
    if (ret == 0)
      ret = tn_node_write (v->file, place + at, buffer, part, error);
  }
  if (ret < 0)
    return ret;
  tn_meta_forget (v->bitmaps, place, v->bitmap_bytes);
  tn_meta_after_data (v->bat.cache);
  return vpc_set_entry (v, from->block, (uint32_t) (place / VPC_SECTOR), error);
}

static int
vpc_check_overlaps (VpcWalk *walk, GError **error)
{
  Vpc *v = walk->v;
  uint64_t end = 0;
  int ret = 0;
  g_array_sort (walk->places, vpc_compare_places);
  for (guint i = 0; ret == 0 && i < walk->places->len; i++) {
    const VpcPlace *place = &g_array_index (walk->places, VpcPlace, i);
    if (place->entry * (uint64_t) VPC_SECTOR >= end)
      end = vpc_block_end (v, place->entry);
    else if (vpc_find (walk, true, "ERROR: BAT entry %u (%u): the block overlaps another", place->block,
                       place->entry))
      ret = vpc_move_block (v, place, error);
  }
  return ret;
}

static int
vpc_check_bat (VpcWalk *walk, GError **error)
{
  Vpc *v = walk->v;
  int ret = 0;
  for (uint32_t block = 0; ret == 0 && block < v->entries; block++) {
    uint32_t entry = VPC_UNUSED;
    ret = vpc_get_entry (v, block, &entry, error);
    if (ret == 0)
      ret = vpc_check_entry (walk, block, entry, error);
  }
  return ret < 0 ? ret : vpc_check_overlaps (walk, error);
}

int
vpc_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Vpc *v = tn_node_state (node);
  VpcWalk walk = { .v = v, .check = check, .fix = v->writable ? fix : 0 };
  check->image_end_offset = tn_node_size (v->file);
  if (v->footer.type == VPC_FIXED)
    return 0;
  check->total_clusters = v->blocks;
  walk.places = g_array_new (false, false, sizeof (VpcPlace));
  v->scanned = false;
  v->end = 0;
  int ret = vpc_check_bat (&walk, error);
  if (ret == 0)
    ret = vpc_check_footers (&walk, error);
  if (ret == 0 && walk.fix)
    ret = vpc_flush_state (v, error);
  check->image_end_offset = tn_node_size (v->file);
  check->check_errors += ret < 0;
  g_array_unref (walk.places);
  v->scanned = false;
  return ret;
}
