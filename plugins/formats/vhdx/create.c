/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images: headers in the first MiB, then log, metadata, BAT, and blocks. */
#include "vhdx.h"

#include "../common/crc32c.h"
#include "../common/used-bytes.h"
#include "../common/utf16.h"
#include "../common/windows-path.h"

#define ITEMS_AT 65536u /* in the metadata region */
#define LOCATOR_AT (ITEMS_AT + 4096u)
#define MAX_LOCATOR 4096u
#define GIB (UINT64_C (1) << 30)
#define ITEM_REQUIRED 4u
#define ITEM_OF_DISK 6u

typedef struct VhdxLayout {
  uint64_t size, blocks, bat_entries, bat_bytes;
  uint64_t metadata_at, bat_at, data_at;
  uint32_t block_size, log_size, sector_size, chunk_ratio;
  bool fixed, zero_state;
  /* The parent, if any: its name as locators have it. */
  char *relative, *absolute, *linkage;
} VhdxLayout;

static void
vhdx_layout_clear (VhdxLayout *layout)
{
  g_free (layout->relative);
  g_free (layout->absolute);
  g_free (layout->linkage);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (VhdxLayout, vhdx_layout_clear)

/* ---- Layout ---- */

static uint32_t
vhdx_default_block (uint64_t size)
{
  if (size > 32 * 1024 * GIB)
    return 64 * VHDX_MIB;
  if (size > 100 * GIB)
    return 32 * VHDX_MIB;
  return size > GIB ? 16 * VHDX_MIB : 8 * VHDX_MIB;
}

static void
vhdx_place_regions (VhdxLayout *layout)
{
  layout->chunk_ratio = (uint32_t) (VHDX_CHUNK_SECTORS * layout->sector_size / layout->block_size);
  layout->blocks = (layout->size + layout->block_size - 1) / layout->block_size;
  const uint64_t chunks = (layout->blocks + layout->chunk_ratio - 1) / layout->chunk_ratio;
  layout->bat_entries =
      layout->linkage ? chunks * (layout->chunk_ratio + 1) : layout->blocks + (chunks ? chunks - 1 : 0);
  layout->bat_bytes = (MAX (layout->bat_entries, 1) * 8 + VHDX_MIB - 1) / VHDX_MIB * VHDX_MIB;
  layout->metadata_at = VHDX_MIB + layout->log_size;
  layout->bat_at = layout->metadata_at + VHDX_MIB;
  layout->data_at = layout->bat_at + layout->bat_bytes;
}

static int
vhdx_lay_out (const TnOptions *options, uint64_t size, VhdxLayout *layout, GError **error)
{
  const uint64_t block = tn_options_uint (options, "block_size"), log = tn_options_uint (options, "log_size");
  const char *sector = tn_options_get (options, "logical_sector_size"),
             *backing = tn_options_get (options, "backing_file");
  *layout = (VhdxLayout){
    .block_size = block ? (uint32_t) block : vhdx_default_block (size),
    .log_size = (uint32_t) log,
    .sector_size = g_strcmp0 (sector, "4096") == 0 ? 4096 : 512,
    .fixed = g_strcmp0 (tn_options_get (options, "subformat"), "fixed") == 0,
    .zero_state = tn_options_bool (options, "block_state_zero"),
  };
  if (size > VHDX_MAX_SIZE)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "vhdx: a disk of %" PRIu64 " bytes is larger than 64 TiB",
                    size);
  if (layout->block_size < VHDX_MIB || (layout->block_size & (layout->block_size - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vhdx: block_size must be a power of two from 1M to 256M");
  if (log < VHDX_MIB || log % VHDX_MIB)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vhdx: log_size must be in whole MiB");
  if (layout->fixed && backing && *backing)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vhdx: a fixed image has no parent");
  layout->size = (size + layout->sector_size - 1) / layout->sector_size * layout->sector_size;
  vhdx_place_regions (layout);
  return 0;
}

/* ---- Parent ---- */

static int
vhdx_use_parent (TnNode *file, const TnOptions *options, VhdxLayout *layout, GError **error)
{
  const char *name = tn_options_get (options, "backing_file"),
             *format = tn_options_get (options, "backing_fmt");
  char text[UUID_TEXT_SIZE];
  if (!name || !*name)
    return 0;
  if (format && *format && strcmp (format, "vhdx") != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vhdx: the parent of a differencing image must be a VHDX");
  g_autofree char *folder = g_path_get_dirname (tn_node_filename (file));
  g_autofree char *beside = windows_path_beside (name);
  if (g_path_is_absolute (name) || g_strcmp0 (beside, name) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "vhdx: the parent '%s' must be named relative to the image, in its folder or below",
                    name);
  g_autofree char *path = g_build_filename (folder, name, NULL);
  g_autoptr (TnNode) parent = NULL;
  const int ret = tn_node_open_file (path, "vhdx", NULL, TN_OPEN_NO_BACKING | TN_OPEN_SHARED, &parent, error);
  if (ret < 0)
    return ret;
  const Vhdx *of = tn_node_state (parent);
  if (strcmp (tn_node_class_name (parent), "vhdx") != 0 || of->size != layout->size
      || of->sector_size != layout->sector_size)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "vhdx: a differencing image has the size and the sectors of its parent, %" PRIu64
                    " bytes in sectors of %u",
                    of->size, of->sector_size);
  g_autofree char *canonical = g_canonicalize_filename (path, NULL);
  uuid_to_text (of->header.data_guid, true, text);
  layout->linkage = g_strdup_printf ("{%s}", text);
  layout->relative = g_strdelimit (g_strconcat (".\\", name, NULL), "/", '\\');
  layout->absolute = g_strdelimit (g_steal_pointer (&canonical), "/", '\\');
  vhdx_place_regions (layout);
  return 0;
}

/* ---- Metadata ---- */

typedef struct VhdxLocator {
  uint8_t *bytes;
  unsigned entries;
  size_t end;
} VhdxLocator;

static bool
vhdx_locator_add (VhdxLocator *locator, const char *key, const char *value)
{
  uint8_t *entry = locator->bytes + 20 + locator->entries * 12;
  const size_t key_length =
      utf16_store (key, locator->bytes + locator->end, MAX_LOCATOR - locator->end, false);
  const size_t value_at = locator->end + key_length;
  const size_t value_length = utf16_store (value, locator->bytes + value_at, MAX_LOCATOR - value_at, false);
  if (key_length == 0 || value_length == 0)
    return false;
  tn_store_le32 (entry, (uint32_t) locator->end);
  tn_store_le32 (entry + 4, (uint32_t) value_at);
  tn_store_le16 (entry + 8, (uint16_t) key_length);
  tn_store_le16 (entry + 10, (uint16_t) value_length);
  locator->end = value_at + value_length;
  locator->entries++;
  return true;
}

/* Its length; 0: a name does not fit. */
static size_t
vhdx_put_locator (const VhdxLayout *layout, uint8_t *bytes)
{
  VhdxLocator locator = { .bytes = bytes, .end = 20 + 3 * 12 };
  memcpy (bytes, vhdx_guid_locator_type, 16);
  if (!vhdx_locator_add (&locator, "parent_linkage", layout->linkage)
      || !vhdx_locator_add (&locator, "relative_path", layout->relative)
      || !vhdx_locator_add (&locator, "absolute_win32_path", layout->absolute))
    return 0;
  tn_store_le16 (bytes + 18, (uint16_t) locator.entries);
  return locator.end;
}

static void
vhdx_put_item (uint8_t *table, const uint8_t guid[16], uint32_t at, uint32_t length, uint32_t flags)
{
  const uint16_t count = tn_load_le16 (table + 10);
  uint8_t *entry = table + 32 + count * 32u;
  memcpy (entry, guid, 16);
  tn_store_le32 (entry + 16, at);
  tn_store_le32 (entry + 20, length);
  tn_store_le32 (entry + 24, flags);
  tn_store_le16 (table + 10, (uint16_t) (count + 1));
}

static int
vhdx_write_metadata (TnNode *file, const VhdxLayout *layout, GError **error)
{
  g_autofree uint8_t *region = g_malloc0 (LOCATOR_AT + MAX_LOCATOR);
  uint8_t *items = region + ITEMS_AT;
  memcpy (region, "metadata", 8);
  tn_store_le32 (items, layout->block_size);
  tn_store_le32 (items + 4, (layout->fixed ? 1 : 0) | (layout->linkage ? 2 : 0));
  tn_store_le64 (items + 8, layout->size);
  uuid_random (items + 16, true);
  tn_store_le32 (items + 32, layout->sector_size);
  tn_store_le32 (items + 36, 4096);
  vhdx_put_item (region, vhdx_guid_file_parameters, ITEMS_AT, 8, ITEM_REQUIRED);
  vhdx_put_item (region, vhdx_guid_disk_size, ITEMS_AT + 8, 8, ITEM_OF_DISK);
  vhdx_put_item (region, vhdx_guid_page83, ITEMS_AT + 16, 16, ITEM_OF_DISK);
  vhdx_put_item (region, vhdx_guid_sector_size, ITEMS_AT + 32, 4, ITEM_OF_DISK);
  vhdx_put_item (region, vhdx_guid_physical_sector_size, ITEMS_AT + 36, 4, ITEM_OF_DISK);
  if (layout->linkage) {
    const size_t length = vhdx_put_locator (layout, region + LOCATOR_AT);
    if (length == 0)
      return tn_fail (error, TN_BLOCK_ERROR, ENAMETOOLONG,
                      "vhdx: the parent's name '%s' is too long or not UTF-8", layout->relative);
    vhdx_put_item (region, vhdx_guid_parent_locator, LOCATOR_AT, (uint32_t) length, ITEM_REQUIRED);
  }
  return tn_node_write (file, layout->metadata_at, region, LOCATOR_AT + MAX_LOCATOR, error);
}

/* ---- The rest ---- */

static uint64_t
vhdx_first_entry (const VhdxLayout *layout, uint64_t index)
{
  const uint64_t chunk = index / (layout->chunk_ratio + UINT64_C (1)), block = index - chunk;
  if (index % (layout->chunk_ratio + UINT64_C (1)) == layout->chunk_ratio || block >= layout->blocks)
    return 0;
  if (layout->fixed)
    return (layout->data_at + block * layout->block_size) | VHDX_PRESENT;
  return layout->zero_state && !layout->linkage ? VHDX_ZERO : VHDX_NOT_PRESENT;
}

static int
vhdx_write_bat (TnNode *file, const VhdxLayout *layout, GError **error)
{
  g_autofree uint64_t *entries = g_new (uint64_t, VHDX_MIB / 8);
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at < layout->bat_entries; at += VHDX_MIB / 8) {
    const uint64_t n = MIN (layout->bat_entries - at, VHDX_MIB / 8);
    for (uint64_t i = 0; i < n; i++)
      entries[i] = GUINT64_TO_LE (vhdx_first_entry (layout, at + i));
    ret = tn_node_write (file, layout->bat_at + at * 8, entries, n * 8, error);
  }
  return ret;
}

static int
vhdx_write_regions (TnNode *file, const VhdxLayout *layout, GError **error)
{
  g_autofree uint8_t *table = g_malloc0 (VHDX_REGION_SIZE);
  memcpy (table, "regi", 4);
  tn_store_le32 (table + 8, 2);
  memcpy (table + 16, vhdx_guid_bat, 16);
  tn_store_le64 (table + 32, layout->bat_at);
  tn_store_le32 (table + 40, (uint32_t) layout->bat_bytes);
  tn_store_le32 (table + 44, 1);
  memcpy (table + 48, vhdx_guid_metadata, 16);
  tn_store_le64 (table + 64, layout->metadata_at);
  tn_store_le32 (table + 72, VHDX_MIB);
  tn_store_le32 (table + 76, 1);
  tn_store_le32 (table + 4, crc32c_without (table, VHDX_REGION_SIZE, 4));
  const int ret = tn_node_write (file, VHDX_REGION_AT_1, table, VHDX_REGION_SIZE, error);
  return ret < 0 ? ret : tn_node_write (file, VHDX_REGION_AT_2, table, VHDX_REGION_SIZE, error);
}

static int
vhdx_write_headers (TnNode *file, const VhdxLayout *layout, GError **error)
{
  VhdxHeader header = { .version = 1, .log_length = layout->log_size, .log_offset = VHDX_MIB };
  uint8_t page[VHDX_PAGE] = "vhdxfile";
  (void) utf16_store ("Tenon", page + 8, 512, false);
  int ret = tn_node_write (file, 0, page, sizeof page, error);
  uuid_random (header.file_guid, true);
  uuid_random (header.data_guid, true);
  for (unsigned slot = 0; ret == 0 && slot < 2; slot++) {
    header.sequence = slot + 1;
    vhdx_header_encode (&header, page);
    ret = tn_node_write (file, (slot + 1) * UINT64_C (65536), page, sizeof page, error);
  }
  return ret;
}

int
vhdx_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  g_auto (VhdxLayout) layout = { 0 };
  int ret = vhdx_lay_out (options, size, &layout, error);
  if (ret < 0 || (ret = vhdx_use_parent (file, options, &layout, error)) < 0)
    return ret;
  const uint64_t end = layout.data_at + (layout.fixed ? layout.blocks * layout.block_size : 0);
  if ((ret = tn_node_resize (file, end, TN_PREALLOC_OFF, error)) < 0
      || (ret = vhdx_write_bat (file, &layout, error)) < 0
      || (ret = vhdx_write_metadata (file, &layout, error)) < 0
      || (ret = vhdx_write_regions (file, &layout, error)) < 0)
    return ret;
  return vhdx_write_headers (file, &layout, error);
}

int
vhdx_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  g_auto (VhdxLayout) layout = { 0 };
  uint64_t used = 0;
  int ret = vhdx_lay_out (options, source ? tn_node_size (source) : size, &layout, error);
  if (ret == 0 && source && !layout.fixed)
    ret = count_used_blocks (source, layout.block_size, &used, error);
  if (ret < 0)
    return ret;
  measure->fully_allocated = layout.data_at + layout.blocks * layout.block_size;
  measure->required = layout.data_at + (layout.fixed ? layout.blocks : used) * layout.block_size;
  measure->bitmaps = UINT64_MAX;
  return 0;
}
