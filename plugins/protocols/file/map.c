/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the file has data and where holes, by lseek(2).
 *
 * The last run of data is remembered.  Data that has become a hole since then still reads right when taken
 * for data, so a stale run is harmless; a remembered hole would not be, and none is.
 */
#include "file.h"

#include <unistd.h>

static void
file_fill_extent (TnExtent *extent, TnExtentKind kind, uint64_t start, uint64_t end)
{
  *extent = (TnExtent){ .offset = start, .length = end - start, .kind = kind, .source_offset = start };
  if (kind == TN_EXTENT_DATA)
    extent->flags = TN_EXTENT_WRITABLE;
}

static bool
file_map_cached (FileState *s, uint64_t offset, TnExtent *extent)
{
  bool hit;

  g_mutex_lock (&s->map_lock);
  hit = offset >= s->data_start && offset < s->data_end;
  if (hit)
    file_fill_extent (extent, TN_EXTENT_DATA, s->data_start, s->data_end);
  g_mutex_unlock (&s->map_lock);
  return hit;
}

static void
file_map_remember (FileState *s, uint64_t start, uint64_t end)
{
  g_mutex_lock (&s->map_lock);
  s->data_start = start;
  s->data_end = end;
  g_mutex_unlock (&s->map_lock);
}

void
file_map_forget (FileState *s)
{
  file_map_remember (s, 0, 0);
}

/* Asked about places in no order, some file systems would look through the same run of data again and again.
 * Where all the data lies together, one look from its beginning finds the whole of it. */
static bool
file_seek_from_start (FileState *s, uint64_t offset, uint64_t size, TnExtent *extent)
{
  off_t hole;
  bool first;

  g_mutex_lock (&s->map_lock);
  first = !s->sought_from_start;
  s->sought_from_start = true;
  g_mutex_unlock (&s->map_lock);
  if (!first || offset == 0)
    return false;
  hole = lseek (s->fd, 0, SEEK_HOLE);
  if (hole < 0 || (uint64_t) hole <= offset)
    return false;
  file_fill_extent (extent, TN_EXTENT_DATA, 0, MIN ((uint64_t) hole, size));
  file_map_remember (s, 0, extent->length);
  return true;
}

/* Fills @extent for @offset, which lies before @size. */
static int
file_seek (FileState *s, uint64_t offset, uint64_t size, TnExtent *extent)
{
  off_t data, hole;

  if (file_seek_from_start (s, offset, size, extent))
    return 0;
  data = lseek (s->fd, (off_t) offset, SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    file_fill_extent (extent, TN_EXTENT_ZERO, offset, size);
    return 0;
  }
  if (data < 0)
    return -errno;
  if ((uint64_t) data > offset) {
    file_fill_extent (extent, TN_EXTENT_ZERO, offset, MIN ((uint64_t) data, size));
    return 0;
  }
  hole = lseek (s->fd, (off_t) offset, SEEK_HOLE);
  if (hole < 0 || (uint64_t) hole <= offset)
    return -EIO;
  file_fill_extent (extent, TN_EXTENT_DATA, offset, MIN ((uint64_t) hole, size));
  file_map_remember (s, offset, extent->offset + extent->length);
  return 0;
}

int
file_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  FileState *s = tn_node_state (node);
  uint64_t size = file_size (s);

  if (offset >= size) {
    file_fill_extent (extent, TN_EXTENT_ZERO, offset, offset + length);
    return 0;
  }
  if (s->block_device || file_lacks (s, FILE_LACKS_SEEK)) {
    file_fill_extent (extent, TN_EXTENT_DATA, 0, size);
    return 0;
  }
  if (file_map_cached (s, offset, extent))
    return 0;
  if ((flags & TN_MAP_NOWAIT) != 0)
    return -EAGAIN;
  /* Taking a hole for data is always right, so a file system that can't tell is no error. */
  if (file_seek (s, offset, size, extent) < 0) {
    file_set_lacks (s, FILE_LACKS_SEEK);
    file_fill_extent (extent, TN_EXTENT_DATA, 0, size);
  }
  return 0;
}
