/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In-place conversion: what there is. */
#include "in-place.h"

static int
refuse (const InPlaceSource *source, const char *why, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: cannot be converted in place: %s",
                  tn_node_filename (source->node), why);
}

/* ---- Refusals ---- */

static void
count_snapshot (const TnSnapshot *snapshot, void *opaque)
{
  unsigned *n = opaque;
  ++*n;
}

static int
check_image (const InPlaceSource *source, GError **error)
{
  TnInfo info = { .size = sizeof info };
  unsigned snapshots = 0;
  if (tn_node_backing_name (source->node))
    return refuse (
        source, "it has a backing file; copy it with tenon-img convert, or rebase it first (-b '')", error);
  int ret = tn_node_info (source->node, &info, error);
  if (ret < 0)
    return ret;
  if (info.encrypted)
    return refuse (source, "it is encrypted; copy it with tenon-img convert", error);
  if (info.dirty || info.corrupt)
    return refuse (source, "it was not closed properly or is damaged; run tenon-img check -r all first",
                   error);
  ret = tn_node_snapshots (source->node, count_snapshot, &snapshots, error);
  if (ret < 0 && ret != -ENOTSUP)
    return ret;
  g_clear_error (error);
  if (snapshots)
    return refuse (source, "it has internal snapshots; delete them first (tenon-img snapshot -d)", error);
  g_autofree char *specific = tn_node_info_specific (source->node, NULL);
  if (specific && strstr (specific, "\"bitmaps\"") && strstr (specific, "\"granularity\""))
    return refuse (source, "it has dirty bitmaps; remove them first (tenon-img bitmap --remove)", error);
  return 0;
}

static int
check_extent (const InPlaceSource *source, const TnExtent *extent, GError **error)
{
  if (extent->kind == TN_EXTENT_PACKED)
    return refuse (source, "it has compressed clusters; copy it with tenon-img convert", error);
  if (extent->flags & TN_EXTENT_ENCRYPTED)
    return refuse (source, "it is encrypted; copy it with tenon-img convert", error);
  if (extent->kind == TN_EXTENT_DATA && extent->source != source->file)
    return refuse (source, "its data is in another file; copy it with tenon-img convert", error);
  return 0;
}

/* ---- The map ---- */

static void
add_extent (InPlaceSource *source, uint64_t offset, uint64_t length, uint64_t place)
{
  GArray *list = source->extents;
  InPlaceExtent *last = list->len ? &g_array_index (list, InPlaceExtent, list->len - 1) : NULL;
  if (last && last->offset + last->length == offset && last->place + last->length == place) {
    last->length += length;
    return;
  }
  const InPlaceExtent extent = { offset, length, place };
  g_array_append_val (list, extent);
}

static void
add_data (InPlaceSource *source, uint64_t offset, uint64_t length)
{
  GArray *list = source->data;
  TnRange *last = list->len ? &g_array_index (list, TnRange, list->len - 1) : NULL;
  if (last && last->offset + last->length == offset) {
    last->length += length;
    return;
  }
  const TnRange range = { offset, length };
  g_array_append_val (list, range);
}

/* Holes of the file are not data. */
static int
look_below (InPlaceSource *source, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  if (place >= source->file_size)
    return 0; /* reads as zeroes */
  length = MIN (length, source->file_size - place);
  add_extent (source, offset, length, place);
  while (length) {
    TnStatus status;
    const int ret = tn_node_status (source->file, NULL, place, length, &status, error);
    if (ret < 0)
      return ret;
    const uint64_t part = MIN (status.length, length);
    if (!status.zero)
      add_data (source, offset, part);
    offset += part;
    place += part;
    length -= part;
  }
  return 0;
}

static int
compare_places (gconstpointer a, gconstpointer b)
{
  const InPlaceExtent *one = a, *two = b;
  return one->place < two->place ? -1 : one->place > two->place;
}

/* Two ranges of the disk at one place cannot both stay. */
static int
check_overlaps (const InPlaceSource *source, GError **error)
{
  g_autoptr (GArray) sorted = g_array_sized_new (FALSE, FALSE, sizeof (InPlaceExtent), source->extents->len);
  if (source->extents->len)
    g_array_append_vals (sorted, source->extents->data, source->extents->len);
  g_array_sort (sorted, compare_places);
  for (guint i = 1; i < sorted->len; i++) {
    const InPlaceExtent *one = &g_array_index (sorted, InPlaceExtent, i - 1);
    if (one->place + one->length > g_array_index (sorted, InPlaceExtent, i).place)
      return refuse (source, "parts of its disk share a place in the file; run tenon-img check -r all first",
                     error);
  }
  return 0;
}

int
in_place_source (InPlaceSource *source, TnNode *node, GError **error)
{
  source->node = node;
  source->file = tn_node_child (node, "file");
  source->size = tn_node_size (node);
  source->extents = g_array_new (FALSE, FALSE, sizeof (InPlaceExtent));
  source->data = g_array_new (FALSE, FALSE, sizeof (TnRange));
  if (source->file == NULL || tn_node_child (source->file, "file"))
    return refuse (source, "it is not a format over a plain file", error);
  source->file_size = tn_node_size (source->file);
  int ret = check_image (source, error);
  for (uint64_t at = 0; ret == 0 && at < source->size;) {
    TnExtent extent;
    ret = tn_node_map (node, at, source->size - at, 0, &extent, error);
    if (ret == 0)
      ret = check_extent (source, &extent, error);
    if (ret < 0)
      return ret;
    const uint64_t skip = at - extent.offset, length = MIN (extent.length - skip, source->size - at);
    if (extent.kind == TN_EXTENT_DATA)
      ret = look_below (source, at, length, extent.source_offset + skip, error);
    at += length;
  }
  return ret < 0 ? ret : check_overlaps (source, error);
}

void
in_place_source_clear (InPlaceSource *source)
{
  g_clear_pointer (&source->extents, g_array_unref);
  g_clear_pointer (&source->data, g_array_unref);
}
