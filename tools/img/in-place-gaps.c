/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In-place conversion to formats that want every place in the file to belong to something.
 *
 * Holes of a sparse file, and places of old metadata, are given to units that must move.  What remains
 * becomes units of zeroes: its space is given back to the file system all the same.
 */
#include "in-place.h"

/* Places that some unit of the disk has, ascending; and (as offsets) units that have none, those that move
 * first.
 */
typedef struct Units {
  GArray *places, *empty; /* TnRange */
} Units;

static int
compare_ranges (gconstpointer a, gconstpointer b)
{
  const TnRange *one = a, *two = b;
  return one->offset < two->offset ? -1 : one->offset > two->offset;
}

static void
add (GArray *list, uint64_t offset, uint64_t length)
{
  const TnRange range = { offset, length };
  g_array_append_val (list, range);
}

/* Whole units only: the last one of the disk may be shorter. */
static void
add_empty (const InPlaceLayout *layout, Units *units, uint64_t offset, uint64_t end)
{
  if (end > offset && end - offset >= layout->unit)
    add (units->empty, offset, (end - offset) / layout->unit * layout->unit);
}

/* What lies between ranges that move; *next is the first of these that may reach behind @offset. */
static void
add_unmoved (const InPlaceLayout *layout, Units *units, guint *next, uint64_t offset, uint64_t end)
{
  for (; *next < layout->moved->len; ++*next) {
    const TnRange *range = &g_array_index (layout->moved, TnRange, *next);
    if (range->offset >= end)
      break;
    add_empty (layout, units, offset, range->offset);
    offset = MAX (offset, range->offset + range->length);
    if (offset >= end)
      return;
  }
  add_empty (layout, units, offset, end);
}

static int
look (const InPlaceLayout *layout, Units *units, GError **error)
{
  const uint64_t size = tn_node_size (layout->target);
  guint next = 0;
  for (guint i = 0; i < layout->moved->len; i++) {
    const TnRange *range = &g_array_index (layout->moved, TnRange, i);
    add_empty (layout, units, range->offset, range->offset + range->length);
  }
  for (uint64_t at = 0; at < size;) {
    TnExtent extent;
    const int ret = tn_node_map (layout->target, at, size - at, 0, &extent, error);
    if (ret < 0)
      return ret;
    const uint64_t skip = at - extent.offset, length = MIN (extent.length - skip, size - at);
    if (extent.kind == TN_EXTENT_DATA)
      add (units->places, extent.source_offset + skip,
           (length + layout->unit - 1) / layout->unit * layout->unit);
    else
      add_unmoved (layout, units, &next, at, at + length);
    at += length;
  }
  g_array_sort (units->places, compare_ranges);
  return 0;
}

static int
fill (const InPlaceLayout *layout, Units *units, guint *next, uint64_t place, uint64_t end, GError **error)
{
  for (; place < end && *next < units->empty->len;) {
    TnRange *empty = &g_array_index (units->empty, TnRange, *next);
    const uint64_t length = MIN (empty->length, end - place);
    const int ret = tn_node_adopt (layout->target, empty->offset, length, place, error);
    if (ret == -ERANGE && *error == NULL)
      return 0;
    if (ret < 0)
      return ret;
    place += length;
    empty->offset += length;
    empty->length -= length;
    if (empty->length == 0)
      ++*next;
  }
  return 0;
}

static int
fill_all (const InPlaceLayout *layout, Units *units, GError **error)
{
  uint64_t at = layout->occupied;
  guint next = 0;
  for (guint i = 0; i <= units->places->len; i++) {
    const TnRange *used = i < units->places->len ? &g_array_index (units->places, TnRange, i) : NULL;
    const uint64_t start = used ? MIN (used->offset, layout->end) : layout->end;
    const uint64_t gap = start > at ? (start - at) / layout->unit * layout->unit : 0;
    const int ret = fill (layout, units, &next, at, at + gap, error);
    if (ret < 0)
      return ret;
    if (used)
      at = MAX (at, used->offset + used->length);
  }
  return 0;
}

int
in_place_fill_gaps (InPlaceLayout *layout, GError **error)
{
  Units units = { g_array_new (FALSE, FALSE, sizeof (TnRange)),
                  g_array_new (FALSE, FALSE, sizeof (TnRange)) };
  int ret = look (layout, &units, error);
  if (ret == 0)
    ret = fill_all (layout, &units, error);
  g_array_unref (units.places);
  g_array_unref (units.empty);
  return ret;
}
