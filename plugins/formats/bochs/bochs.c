/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bochs' redolog images: growing, undoable and volatile; read-only.
 *
 * A catalog has one number for each extent of the disk: its place among those in the file, or NONE.  Each
 * place is a bitmap, a bit for every sector that is there, and the sectors.  What an undoable or volatile
 * image does not have is in the base image, which the image does not name.
 */
#include <inttypes.h>
#include <stdarg.h>

#include <tenon/format.h>
#include <tenon/json.h>

#include "../common/table.h"

#define SECTOR 512u
#define HEADER_BYTES 512u
#define VERSION_1 0x00010000u
#define VERSION_2 0x00020000u
#define NONE UINT32_MAX
#define MAX_CATALOG (1u << 20)
#define MAX_EXTENT (8u << 20)
#define MAX_BITMAP (1u << 20)
#define BITMAP_SLICE 4096u
#define BITMAP_BUDGET (4u << 20)

/* Places in the header. */
#define AT_TYPE 32
#define AT_SUBTYPE 48
#define AT_VERSION 64
#define AT_HEADER_SIZE 68
#define AT_CATALOG 72
#define AT_BITMAP 76
#define AT_EXTENT 80
#define AT_DISK_1 84 /* version 1; version 2 has a time stamp there */
#define AT_DISK_2 88

typedef struct Bochs {
  TnNode *file;
  uint64_t file_size;
  char subtype[17];
  bool has_base;
  uint32_t version, header_size, catalog_entries, extent_size;
  uint32_t bitmap_bytes; /* rounded up to sectors */
  uint64_t data_offset;  /* of place 0 */
  uint64_t disk_size;
  uint32_t *catalog;
  TnMetaCache *bitmaps;
} Bochs;

static int TN_PRINTF (4, 5) bochs_fail (const Bochs *b, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "bochs image '%s': %s", tn_node_filename (b->file), text);
}

/* ---- Opening ---- */

static int
check_kind (Bochs *b, const uint8_t *header, GError **error)
{
  if (strncmp ((const char *) header, "Bochs Virtual HD Image", AT_TYPE) != 0
      || strncmp ((const char *) header + AT_TYPE, "Redolog", 16) != 0)
    return bochs_fail (b, error, EINVAL, "it is no redolog of Bochs");
  memcpy (b->subtype, header + AT_SUBTYPE, sizeof b->subtype - 1);
  b->has_base = strcmp (b->subtype, "Undoable") == 0 || strcmp (b->subtype, "Volatile") == 0;
  if (!b->has_base && strcmp (b->subtype, "Growing") != 0)
    return bochs_fail (b, error, ENOTSUP, "it is neither growing nor undoable nor volatile");
  b->version = tn_load_le32 (header + AT_VERSION);
  if (b->version != VERSION_1 && b->version != VERSION_2)
    return bochs_fail (b, error, ENOTSUP, "version 0x%x is unknown", b->version);
  return 0;
}

static int
check_layout (Bochs *b, uint32_t bitmap, GError **error)
{
  const uint64_t extents = b->disk_size / b->extent_size + (b->disk_size % b->extent_size ? 1 : 0);
  if (b->header_size < AT_DISK_2 + 8 || b->header_size > (1u << 20))
    return bochs_fail (b, error, EINVAL, "a header of %u bytes is impossible", b->header_size);
  if (b->disk_size % SECTOR || b->disk_size > INT64_MAX)
    return bochs_fail (b, error, EINVAL, "a disk of %" PRIu64 " bytes is impossible", b->disk_size);
  if (b->catalog_entries > MAX_CATALOG || extents > b->catalog_entries)
    return bochs_fail (b, error, EINVAL, "a catalog of %u extents does not fit a disk of %" PRIu64,
                       b->catalog_entries, extents);
  if (bitmap > MAX_BITMAP || (uint64_t) bitmap * 8 < b->extent_size / SECTOR)
    return bochs_fail (b, error, EINVAL, "bitmaps of %u bytes do not fit extents of %u", bitmap,
                       b->extent_size);
  b->bitmap_bytes = (bitmap + SECTOR - 1) / SECTOR * SECTOR;
  b->data_offset = b->header_size + (uint64_t) b->catalog_entries * 4;
  if (b->data_offset > b->file_size)
    return bochs_fail (b, error, EINVAL, "its catalog of %u extents is larger than the file",
                       b->catalog_entries);
  b->catalog_entries = (uint32_t) extents; /* what lies behind the disk says nothing */
  return 0;
}

static int
read_header (Bochs *b, GError **error)
{
  uint8_t header[HEADER_BYTES];
  if (b->file_size < HEADER_BYTES)
    return bochs_fail (b, error, EINVAL, "%" PRIu64 " bytes are too few for one", b->file_size);
  int ret = tn_node_read (b->file, 0, header, sizeof header, error);
  if (ret < 0 || (ret = check_kind (b, header, error)) < 0)
    return ret;
  b->header_size = tn_load_le32 (header + AT_HEADER_SIZE);
  b->catalog_entries = tn_load_le32 (header + AT_CATALOG);
  b->extent_size = tn_load_le32 (header + AT_EXTENT);
  b->disk_size = tn_load_le64 (header + (b->version == VERSION_1 ? AT_DISK_1 : AT_DISK_2));
  if (b->extent_size < SECTOR || (b->extent_size & (b->extent_size - 1)) || b->extent_size > MAX_EXTENT)
    return bochs_fail (b, error, EINVAL, "extents of %u bytes are no power of two from 512 to 8 MiB",
                       b->extent_size);
  return check_layout (b, tn_load_le32 (header + AT_BITMAP), error);
}

static int
read_catalog (Bochs *b, GError **error)
{
  b->catalog = g_try_new (uint32_t, MAX (b->catalog_entries, 1));
  if (!b->catalog)
    return bochs_fail (b, error, ENOMEM, "no memory for a catalog of %u extents", b->catalog_entries);
  const int ret =
      tn_node_read (b->file, b->header_size, b->catalog, (uint64_t) b->catalog_entries * 4, error);
  for (uint32_t i = 0; ret == 0 && i < b->catalog_entries; i++)
    b->catalog[i] = tn_load_le32 (&b->catalog[i]);
  return ret;
}

static int
bochs_load (TnNode *node, uint32_t flags, GError **error)
{
  Bochs *b = tn_node_state (node);
  b->file = tn_node_child (node, "file");
  b->file_size = tn_node_size (b->file);
  if (flags & TN_OPEN_WRITE)
    return bochs_fail (b, error, EROFS, "bochs images cannot be written; open it with read-only=on");
  int ret = read_header (b, error);
  if (ret < 0 || (ret = read_catalog (b, error)) < 0)
    return ret;
  b->bitmaps = tn_meta_cache_new (b->file, "extent bitmap", BITMAP_SLICE, BITMAP_BUDGET);
  tn_node_set_allocation_unit (node, SECTOR);
  tn_node_set_size (node, b->disk_size);
  return 0;
}

static void
bochs_clear (Bochs *b)
{
  g_clear_pointer (&b->bitmaps, tn_meta_cache_free);
  g_clear_pointer (&b->catalog, g_free);
}

static int
bochs_close (TnNode *node, GError **error)
{
  bochs_clear (tn_node_state (node));
  return 0;
}

static int
bochs_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const int ret = bochs_load (node, flags, error);
  if (ret < 0)
    bochs_clear (tn_node_state (node));
  return ret;
}

/* ---- Reading ---- */

/* Whether sector @at of an extent is in the file, and how many from there on are the same. */
static int
bitmap_run (Bochs *b, uint64_t bitmap, uint32_t at, bool nowait, bool *set, uint32_t *count, GError **error)
{
  const uint32_t sectors = b->extent_size / SECTOR;
  uint8_t bytes[64];
  *count = 0;
  for (uint32_t i = at; i < sectors; i++) {
    const uint32_t in_chunk = i % (8 * sizeof bytes);
    if (i == at || in_chunk == 0) {
      const uint32_t from = (i - in_chunk) / 8, left = b->bitmap_bytes - from;
      const int ret = table_read (b->bitmaps, BITMAP_SLICE, bitmap + from, bytes, MIN (sizeof bytes, left),
                                  nowait, i == at ? error : NULL);
      if (ret < 0)
        return i == at ? ret : 0; /* a shorter run is as true */
    }
    const bool bit = bytes[in_chunk / 8] >> (in_chunk % 8) & 1;
    if (i == at)
      *set = bit;
    else if (bit != *set)
      return 0;
    ++*count;
  }
  return 0;
}

/* Extents from @number on that the file does not have. */
static uint32_t
absent_run (const Bochs *b, uint32_t number)
{
  uint32_t end = number;
  while (end < b->catalog_entries && b->catalog[end] == NONE)
    end++;
  return end - number;
}

static int
missing (TnNode *node, const Bochs *b, TnExtent *extent, GError **error)
{
  extent->kind = TN_EXTENT_UNALLOCATED;
  if (!b->has_base || tn_node_child (node, "backing") || (tn_node_open_flags (node) & TN_OPEN_NO_BACKING))
    return 0;
  return bochs_fail (b, error, EINVAL,
                     "a redolog of type '%s' holds changes only; name the image that it was made for: "
                     "backing.driver=FORMAT,backing.file.filename=FILE",
                     b->subtype);
}

static int
bochs_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Bochs *b = tn_node_state (node);
  const uint32_t number = (uint32_t) (offset / b->extent_size), within = offset % b->extent_size / SECTOR;
  const uint32_t place = b->catalog[number];
  *extent = (TnExtent){ .offset = offset / SECTOR * SECTOR };
  if (place == NONE) {
    extent->length = (uint64_t) absent_run (b, number) * b->extent_size - within * SECTOR;
    extent->length = MIN (extent->length, b->disk_size - extent->offset);
    return missing (node, b, extent, error);
  }
  const uint64_t bitmap = b->data_offset + (uint64_t) place * (b->bitmap_bytes + b->extent_size);
  bool set = false;
  uint32_t count;
  if (bitmap > b->file_size || b->bitmap_bytes > b->file_size - bitmap)
    return bochs_fail (b, error, EIO, "extent %u has place %u, which is behind the end of the file", number,
                       place);
  const int ret = bitmap_run (b, bitmap, within, flags & TN_MAP_NOWAIT, &set, &count, error);
  if (ret < 0)
    return ret;
  extent->length = MIN ((uint64_t) count * SECTOR, b->disk_size - extent->offset);
  if (!set)
    return missing (node, b, extent, error);
  extent->kind = TN_EXTENT_DATA;
  extent->source = b->file;
  extent->source_offset = bitmap + b->bitmap_bytes + (uint64_t) within * SECTOR;
  if (extent->source_offset > b->file_size || extent->length > b->file_size - extent->source_offset)
    return bochs_fail (b, error, EIO, "sectors at %" PRIu64 " are behind the end of the file",
                       extent->offset);
  return 0;
}

/* ---- What it is ---- */

static int
bochs_info (TnNode *node, TnInfo *info, GError **error)
{
  const Bochs *b = tn_node_state (node);
  info->cluster_size = b->extent_size;
  return 0;
}

static char *
bochs_info_specific (TnNode *node, GError **error)
{
  const Bochs *b = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "subtype", b->subtype);
  tn_json_uint (json, "version", b->version >> 16);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const TnFormatOps bochs_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING,
  .instance_size = sizeof (Bochs),
  .open = bochs_open,
  .close = bochs_close,
  .map = bochs_map,
  .info = bochs_info,
  .info_specific = bochs_info_specific,
};

static const char *const bochs_suffixes[] = { "bochs", "redolog", NULL };

static const TnMagic bochs_magics[] = {
  { .offset = 0, .length = 23, .bytes = (const uint8_t *) "Bochs Virtual HD Image\0" },
  { .length = 0 },
};

static const TnClass bochs_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "bochs",
  .summary = "redolog images of Bochs, read-only",
  .suffixes = bochs_suffixes,
  .magics = bochs_magics,
  .ops = &bochs_ops,
};

static const TnClass *const bochs_classes[] = { &bochs_class, NULL };

TN_PLUGIN_DEFINE (format_bochs, .security = TN_SECURITY_HARDENED, .name = "format-bochs", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-bochs", .classes = bochs_classes);
