/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In-place conversion: what stays, what moves. */
#include "in-place.h"

#define CHUNK (1u << 20)
#define BLOCK 4096u

/* ---- What stays ---- */

static void
add_range (GArray *list, uint64_t offset, uint64_t length)
{
  TnRange *last = list->len ? &g_array_index (list, TnRange, list->len - 1) : NULL;
  if (last && last->offset + last->length == offset) {
    last->length += length;
    return;
  }
  const TnRange range = { offset, length };
  g_array_append_val (list, range);
}

static void
move (InPlaceLayout *layout, uint64_t offset, uint64_t length)
{
  add_range (layout->moved, offset, length);
  layout->moved_bytes += length;
}

/* Whole units that stand one behind the other in the file; @length of disk, up to the end of the disk. */
static int
keep (InPlaceLayout *layout, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  const bool can = tn_node_can_adopt (layout->target);
  const uint64_t whole = (length + layout->unit - 1) / layout->unit * layout->unit;
  const int ret = tn_node_adopt (layout->target, offset, can ? whole : length, place, error);
  if (ret == 0) {
    add_range (layout->kept, place, length);
    layout->kept_bytes += length;
  } else if (ret == -ERANGE && *error == NULL) {
    move (layout, offset, length);
  } else {
    return ret;
  }
  return 0;
}

/* The place is the target's own: its header region, or (of the disk's last unit) not free to its end. */
static uint64_t
count_blocked (const InPlaceLayout *layout, const InPlaceSource *source, uint64_t length, uint64_t place)
{
  /* The file system keeps whole blocks: the last one of the disk would be the trailer's first. */
  if (!tn_node_can_adopt (layout->target))
    return layout->trailed && length < layout->unit ? length : 0;
  const uint64_t unit = layout->unit;
  if (place < layout->occupied)
    return MIN (length, (layout->occupied - place + unit - 1) / unit * unit);
  /* What a unit holds behind the end of the disk must read as zeroes if the disk ever grows. */
  const bool to_end =
      place + length >= source->file_size && place <= layout->end && unit <= layout->end - place;
  return length < unit && !to_end ? length : 0;
}

/* A run of the disk that begins with a unit and lies within one extent. */
static int
place_run (InPlaceLayout *layout, const InPlaceSource *source, uint64_t offset, uint64_t length,
           uint64_t place, GError **error)
{
  const uint64_t rest = length % layout->unit;
  if (rest && length > rest) {
    const int ret = place_run (layout, source, offset, length - rest, place, error);
    return ret < 0 ? ret
                   : place_run (layout, source, offset + length - rest, rest, place + length - rest, error);
  }
  const uint64_t blocked = count_blocked (layout, source, length, place);
  if (blocked)
    move (layout, offset, blocked);
  return blocked == length ? 0 : keep (layout, offset + blocked, length - blocked, place + blocked, error);
}

/* Places what begins at the unit @at and reaches to @end at most; *length tells how far it came. */
static int
place_at (InPlaceLayout *layout, const InPlaceSource *source, guint *next, uint64_t at, uint64_t end,
          uint64_t *length, GError **error)
{
  const InPlaceExtent *extent = NULL;
  const uint64_t unit_end = MIN (at + layout->unit, source->size);
  for (; *next < source->extents->len; ++*next) {
    extent = &g_array_index (source->extents, InPlaceExtent, *next);
    if (extent->offset + extent->length > at)
      break;
  }
  if (*next == source->extents->len || extent->offset > at || extent->offset + extent->length < unit_end) {
    *length = unit_end - at;
    move (layout, at, *length);
    return 0;
  }
  const uint64_t extent_end = extent->offset + extent->length;
  uint64_t last = MIN (end, extent_end);
  if (last < source->size)
    last -= (last - at) % layout->unit;
  *length = last - at;
  return place_run (layout, source, at, *length, extent->place + (at - extent->offset), error);
}

static int
compare_ranges (gconstpointer a, gconstpointer b)
{
  const TnRange *one = a, *two = b;
  return one->offset < two->offset ? -1 : one->offset > two->offset;
}

int
in_place_adopt (InPlaceLayout *layout, const InPlaceSource *source, GError **error)
{
  uint64_t at = 0;
  guint next = 0;
  layout->kept = g_array_new (FALSE, FALSE, sizeof (TnRange));
  layout->moved = g_array_new (FALSE, FALSE, sizeof (TnRange));
  for (guint i = 0; i < source->data->len; i++) {
    const TnRange *run = &g_array_index (source->data, TnRange, i);
    const uint64_t run_end = run->offset + run->length;
    const uint64_t end = MIN ((run_end + layout->unit - 1) / layout->unit * layout->unit, source->size);
    at = MAX (at, run->offset - run->offset % layout->unit);
    while (at < end) {
      uint64_t length;
      const int ret = place_at (layout, source, &next, at, end, &length, error);
      if (ret < 0)
        return ret;
      at += length;
    }
  }
  g_array_sort (layout->kept, compare_ranges);
  return 0;
}

/* ---- What moves ---- */

static bool
is_zero (const uint8_t *bytes, uint64_t length)
{
  return bytes[0] == 0 && memcmp (bytes, bytes + 1, length - 1) == 0;
}

/* The new image reads as zeroes where nothing is written. */
static int
write_data (const InPlaceLayout *layout, uint64_t offset, const uint8_t *bytes, uint64_t length,
            GError **error)
{
  uint64_t start = 0;
  for (uint64_t at = 0; at <= length; at += BLOCK) {
    if (at < length && !is_zero (bytes + at, MIN (BLOCK, length - at)))
      continue;
    const uint64_t end = MIN (at, length);
    const int ret =
        end > start ? tn_node_write (layout->target, offset + start, bytes + start, end - start, error) : 0;
    if (ret < 0)
      return ret;
    start = at + BLOCK;
  }
  return length % BLOCK && start < length
             ? tn_node_write (layout->target, offset + start, bytes + start, length - start, error)
             : 0;
}

int
in_place_move (InPlaceLayout *layout, const InPlaceSource *source, GError **error)
{
  g_autofree uint8_t *buffer = g_malloc (CHUNK);
  for (guint i = 0; i < layout->moved->len; i++) {
    const TnRange *range = &g_array_index (layout->moved, TnRange, i);
    for (uint64_t done = 0; done < range->length;) {
      const uint64_t at = range->offset + done, part = MIN (range->length - done, CHUNK);
      int ret = tn_node_read (source->node, at, buffer, part, error);
      if (ret == 0)
        ret = write_data (layout, at, buffer, part, error);
      if (ret < 0)
        return ret;
      cli_progress_add (&layout->progress, part);
      done += part;
    }
  }
  return 0;
}
