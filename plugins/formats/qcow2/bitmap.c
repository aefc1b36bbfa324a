/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Persistent bitmaps.  They are kept, and those that should have recorded our writes are marked as not
 * to be trusted; nothing here tracks writes.
 */
#include "qcow2.h"

#define ENTRY_FIXED 24u
#define FLAG_IN_USE 1u
#define FLAG_AUTO 2u

static void
clear_bitmap (void *p)
{
  g_free (((Qcow2Bitmap *) p)->name);
}

static int
parse_entry (Qcow2 *q, const uint8_t *p, uint64_t length, Qcow2Bitmap *bitmap, uint64_t *used, GError **error)
{
  const uint32_t name_length = length < ENTRY_FIXED ? 0 : tn_load_be16 (p + 18);
  const uint64_t extra = length < ENTRY_FIXED ? 0 : tn_load_be32 (p + 20);
  const uint64_t total = ENTRY_FIXED + extra + name_length;
  if (total > length || name_length == 0 || name_length > 1023) {
    return qcow2_fail (q, error, EINVAL, "the bitmap directory at 0x%" PRIx64 " is not valid",
                       q->bitmap_directory_offset);
  }
  bitmap->table_offset = tn_load_be64 (p);
  bitmap->table_size = tn_load_be32 (p + 8);
  bitmap->flags = tn_load_be32 (p + 12);
  bitmap->type = p[16];
  bitmap->granularity_bits = p[17];
  bitmap->name = g_strndup ((const char *) p + ENTRY_FIXED + extra, name_length);
  *used = (total + 7) & ~7ull;
  return 0;
}

int
qcow2_bitmaps_read (Qcow2 *q, GArray **bitmaps, GError **error)
{
  const uint64_t length = q->bitmap_directory_size;
  g_autoptr (GArray) list = g_array_new (false, false, sizeof (Qcow2Bitmap));
  g_autofree uint8_t *directory = NULL;
  uint64_t at = 0;
  g_array_set_clear_func (list, clear_bitmap);
  if (q->bitmap_count) {
    const uint64_t end = tn_node_size (q->file);
    if (q->bitmap_directory_offset > end || length > end - q->bitmap_directory_offset) {
      return qcow2_fail (q, error, EINVAL, "the bitmap directory at 0x%" PRIx64 " is not within the file",
                         q->bitmap_directory_offset);
    }
    directory = g_malloc (length);
    int ret = tn_node_read (q->file, q->bitmap_directory_offset, directory, length, error);
    if (ret < 0) {
      return ret;
    }
  }
  for (uint32_t i = 0; i < q->bitmap_count; i++) {
    Qcow2Bitmap bitmap = { .entry_offset = q->bitmap_directory_offset + at };
    uint64_t used = 0;
    int ret = parse_entry (q, directory + at, length - at, &bitmap, &used, error);
    if (ret < 0) {
      return ret;
    }
    g_array_append_val (list, bitmap);
    at = MIN (at + used, length);
  }
  *bitmaps = g_steal_pointer (&list);
  return 0;
}

int
qcow2_bitmaps_mark_in_use (Qcow2 *q, GError **error)
{
  g_autoptr (GArray) list = NULL;
  int ret = qcow2_bitmaps_read (q, &list, error);
  for (guint i = 0; ret == 0 && i < list->len; i++) {
    const Qcow2Bitmap *bitmap = &g_array_index (list, Qcow2Bitmap, i);
    uint8_t flags[4];
    if (!(bitmap->flags & FLAG_AUTO) || (bitmap->flags & FLAG_IN_USE)) {
      continue;
    }
    tn_store_be32 (flags, bitmap->flags | FLAG_IN_USE);
    ret = tn_node_write (q->file, bitmap->entry_offset + 12, flags, sizeof flags, error);
  }
  return ret;
}
