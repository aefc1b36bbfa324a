/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The format extension: a cluster of features, of which dirty bitmaps are known.  They are shown, and kept
 * while nothing is written; a write drops them, since it is not recorded in them (open.c).
 */
#include "parallels.h"

#define EXTENSION_MAGIC 0xab234cef23dcea87u
#define EXTENSION_HEADER_BYTES 24u
#define FEATURE_HEADER_BYTES 24u
#define FEATURE_BITMAP 0x20385fae252cb34au
#define FEATURE_NECESSARY 1u
#define BITMAP_HEADER_BYTES 32u
#define MAX_EXTENSION_BYTES (64u << 20)

static void
parallels_bitmap_clear (gpointer data)
{
  ParallelsBitmap *bitmap = data;
  g_free (bitmap->l1);
}

void
parallels_extension_free (Parallels *p)
{
  g_clear_pointer (&p->bitmaps, g_array_unref);
}

static int
parallels_bad_extension (const Parallels *p, GError **error, const char *why)
{
  return parallels_fail (p, error, EINVAL,
                         "its format extension at sector %" PRIu64 " %s (check -r all drops it)",
                         p->header.ext_offset, why);
}

static int
parallels_read_bitmap (Parallels *p, const uint8_t *data, uint32_t length, GError **error)
{
  if (length < BITMAP_HEADER_BYTES) {
    return parallels_bad_extension (p, error, "has a dirty bitmap that is too short");
  }
  ParallelsBitmap bitmap = {
    .sectors = tn_load_le64 (data),
    .granularity = tn_load_le32 (data + 24),
    .l1_size = tn_load_le32 (data + 28),
  };
  memcpy (bitmap.id, data + 8, sizeof bitmap.id);
  if (bitmap.l1_size > (length - BITMAP_HEADER_BYTES) / 8) {
    return parallels_bad_extension (p, error, "has a dirty bitmap whose table reaches beyond it");
  }
  if (bitmap.granularity == 0 || (bitmap.granularity & (bitmap.granularity - 1))
      || bitmap.sectors != p->header.sectors) {
    return parallels_bad_extension (p, error, "has a dirty bitmap that does not fit the disk");
  }
  bitmap.l1 = g_new (uint64_t, MAX (bitmap.l1_size, 1u));
  for (uint32_t i = 0; i < bitmap.l1_size; i++) {
    bitmap.l1[i] = tn_load_le64 (data + BITMAP_HEADER_BYTES + i * 8u);
  }
  g_array_append_val (p->bitmaps, bitmap);
  return 0;
}

static int
parallels_read_features (Parallels *p, const uint8_t *bytes, uint32_t length, GError **error)
{
  for (uint32_t at = EXTENSION_HEADER_BYTES; length - at >= FEATURE_HEADER_BYTES;) {
    const uint64_t magic = tn_load_le64 (bytes + at), flags = tn_load_le64 (bytes + at + 8);
    const uint32_t size = tn_load_le32 (bytes + at + 16);
    at += FEATURE_HEADER_BYTES;
    if (magic == 0) {
      return 0;
    }
    if (size > length - at) {
      return parallels_bad_extension (p, error, "has a feature that reaches beyond it");
    }
    int ret = magic == FEATURE_BITMAP ? parallels_read_bitmap (p, bytes + at, size, error) : 0;
    if (ret < 0) {
      return ret;
    }
    p->must_not_write |= magic != FEATURE_BITMAP && (flags & FEATURE_NECESSARY);
    at = MIN (length, at + ((size + 7) & ~7u));
  }
  return parallels_bad_extension (p, error, "has no end");
}

static bool
parallels_sum_is_right (const uint8_t *bytes, uint32_t length)
{
  uint8_t found[16];
  gsize n = sizeof found;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_MD5);
  g_checksum_update (sum, bytes + EXTENSION_HEADER_BYTES, (gssize) length - EXTENSION_HEADER_BYTES);
  g_checksum_get_digest (sum, found, &n);
  return memcmp (found, bytes + 8, sizeof found) == 0;
}

int
parallels_extension_read (Parallels *p, GError **error)
{
  const uint64_t file_size = tn_node_size (p->file), sector = p->header.ext_offset;
  p->bitmaps = g_array_new (false, false, sizeof (ParallelsBitmap));
  g_array_set_clear_func (p->bitmaps, parallels_bitmap_clear);
  if (sector == 0 || p->header.in_use != PARALLELS_CLOSED) {
    return 0;
  }
  if (sector > file_size / PARALLELS_SECTOR || sector * PARALLELS_SECTOR < p->data_start
      || p->cluster_size > file_size - sector * PARALLELS_SECTOR) {
    return parallels_bad_extension (p, error, "is not within the file");
  }
  if (p->cluster_size > MAX_EXTENSION_BYTES) {
    return parallels_bad_extension (p, error, "is too large");
  }
  g_autofree uint8_t *bytes = g_malloc (p->cluster_size);
  int ret = tn_node_read (p->file, sector * PARALLELS_SECTOR, bytes, p->cluster_size, error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_le64 (bytes) != EXTENSION_MAGIC || !parallels_sum_is_right (bytes, p->cluster_size)) {
    return parallels_bad_extension (p, error, "is damaged: its checksum is wrong");
  }
  ret = parallels_read_features (p, bytes, p->cluster_size, error);
  p->extension_read = ret == 0;
  return ret;
}
