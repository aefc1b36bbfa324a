/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New images.  A dynamic one is: footer, header at 512, BAT at 1536, names of the parent, footer.
 *
 * Without force_size the disk is rounded up to a size that has a geometry, so that programs which go by the
 * geometry and those which go by the footer agree.  With it the geometry is the largest there is, which all
 * of them take as a sign to go by the footer.
 */
#include "vpc.h"

#include <glib/gstdio.h>

#include "../common/used-bytes.h"
#include "../common/utf16.h"
#include "../common/windows-path.h"

#define HEADER_AT 512u
#define BAT_AT 1536u
#define CREATOR "tnon"

typedef struct VpcLayout {
  VpcFooter footer;
  uint32_t block_size, entries;
  uint64_t size, bat_end;
  /* The parent, if any: its name as locators have it. */
  char *relative, *absolute;
  VpcFooter parent;
} VpcLayout;

static void
vpc_layout_clear (VpcLayout *layout)
{
  g_free (layout->relative);
  g_free (layout->absolute);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (VpcLayout, vpc_layout_clear)

/* ---- Size ---- */

static int
vpc_size_disk (VpcLayout *layout, uint64_t size, bool force, GError **error)
{
  const VpcGeometry largest = { VPC_MAX_CYLINDERS, VPC_MAX_HEADS, VPC_MAX_SPT };
  uint64_t sectors = (MIN (size, (uint64_t) INT64_MAX) + VPC_SECTOR - 1) / VPC_SECTOR;
  const VpcGeometry geometry = force ? largest : vpc_geometry_for (sectors);
  if (vpc_geometry_sectors (&geometry) != VPC_MAX_GEOMETRY)
    sectors = vpc_geometry_sectors (&geometry);
  if (sectors > VPC_MAX_SECTORS)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "vpc: a disk of %" PRIu64 " bytes is larger than 2040 GiB: use vhdx", size);
  layout->size = sectors * VPC_SECTOR;
  layout->footer.geometry = geometry;
  return 0;
}

static int
vpc_lay_out (const TnOptions *options, uint64_t size, VpcLayout *layout, GError **error)
{
  const uint64_t block = tn_options_uint (options, "block_size");
  const bool fixed = g_strcmp0 (tn_options_get (options, "subformat"), "fixed") == 0;
  const char *backing = tn_options_get (options, "backing_file");
  *layout = (VpcLayout){ .block_size = (uint32_t) block };
  if (block == 0 || (block & (block - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vpc: block_size must be a power of two from 4k to 64M");
  const int ret = vpc_size_disk (layout, size, tn_options_bool (options, "force_size"), error);
  if (ret < 0)
    return ret;
  if (fixed && backing && *backing)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vpc: a fixed image has no parent");
  layout->footer.type = fixed ? VPC_FIXED : VPC_DYNAMIC;
  layout->footer.data_offset = fixed ? VPC_NO_OFFSET : HEADER_AT;
  layout->footer.current_size = layout->footer.original_size = layout->size;
  layout->footer.time_stamp = vpc_time (g_get_real_time () / G_USEC_PER_SEC);
  memcpy (layout->footer.creator, CREATOR, 4);
  uuid_random (layout->footer.uuid, false);
  layout->entries = (uint32_t) ((layout->size + block - 1) / block);
  layout->bat_end = (BAT_AT + layout->entries * UINT64_C (4) + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
  return 0;
}

/* ---- Parent ---- */

static int
vpc_read_parent (VpcLayout *layout, TnNode *parent, uint64_t size, GError **error)
{
  const Vpc *of = tn_node_state (parent);
  if (strcmp (tn_node_class_name (parent), "vpc") != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vpc: the parent of a differencing image must be a VHD");
  if (of->size != size)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "vpc: a differencing image has the size of its parent, %" PRIu64 " bytes", of->size);
  layout->parent = of->footer;
  layout->footer.type = VPC_DIFFERENCING;
  layout->footer.geometry = of->footer.geometry;
  layout->size = of->size;
  /* This image goes by its geometry unless that is the largest. */
  if (vpc_geometry_sectors (&of->footer.geometry) * VPC_SECTOR != of->size)
    layout->footer.geometry = (VpcGeometry){ VPC_MAX_CYLINDERS, VPC_MAX_HEADS, VPC_MAX_SPT };
  layout->footer.current_size = layout->footer.original_size = of->size;
  layout->entries = (uint32_t) ((of->size + layout->block_size - 1) / layout->block_size);
  layout->bat_end = (BAT_AT + layout->entries * UINT64_C (4) + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
  return 0;
}

static int
vpc_use_parent (TnNode *file, const TnOptions *options, uint64_t size, VpcLayout *layout, GError **error)
{
  const char *name = tn_options_get (options, "backing_file"),
             *format = tn_options_get (options, "backing_fmt");
  if (!name || !*name)
    return 0;
  if (format && *format && strcmp (format, "vpc") != 0 && strcmp (format, "vhd") != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vpc: the parent of a differencing image must be a VHD");
  g_autofree char *folder = g_path_get_dirname (tn_node_filename (file));
  g_autofree char *beside = windows_path_beside (name);
  if (g_path_is_absolute (name) || g_strcmp0 (beside, name) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "vpc: the parent '%s' must be named relative to the image, in its folder or below", name);
  g_autofree char *path = g_build_filename (folder, name, NULL);
  g_autoptr (TnNode) parent = NULL;
  int ret = tn_node_open_file (path, "vpc", NULL, TN_OPEN_NO_BACKING | TN_OPEN_SHARED, &parent, error);
  if (ret < 0 || (ret = vpc_read_parent (layout, parent, size, error)) < 0)
    return ret;
  g_autofree char *canonical = g_canonicalize_filename (path, NULL);
  g_autofree char *relative = g_strconcat (".\\", name, NULL);
  layout->relative = g_strdelimit (g_steal_pointer (&relative), "/", '\\');
  layout->absolute = g_strdelimit (g_steal_pointer (&canonical), "/", '\\');
  return 0;
}

/* ---- Writing ---- */

static void
vpc_put_locator (uint8_t *header, unsigned number, const char *platform, uint64_t at, size_t length)
{
  uint8_t *locator = header + 576 + number * 24;
  memcpy (locator, platform, 4);
  tn_store_be32 (locator + 4, VPC_SECTOR);
  tn_store_be32 (locator + 8, (uint32_t) length);
  tn_store_be64 (locator + 16, at);
}

/* The sectors with the parent's names, and where they are into the header. */
static int
vpc_write_locators (TnNode *file, const VpcLayout *layout, uint8_t *header, GError **error)
{
  uint8_t sectors[2 * VPC_SECTOR] = { 0 };
  const size_t relative = utf16_store (layout->relative, sectors, VPC_SECTOR, false),
               absolute = utf16_store (layout->absolute, sectors + VPC_SECTOR, VPC_SECTOR, false);
  if (relative == 0)
    return tn_fail (error, TN_BLOCK_ERROR, ENAMETOOLONG,
                    "vpc: the parent's name '%s' is too long or not UTF-8", layout->relative);
  memcpy (header + 40, layout->parent.uuid, 16);
  tn_store_be32 (header + 56, layout->parent.time_stamp);
  (void) utf16_store (strrchr (layout->absolute, '\\') + 1, header + 64, 510, true);
  vpc_put_locator (header, 0, "W2ru", layout->bat_end, relative);
  if (absolute)
    vpc_put_locator (header, 1, "W2ku", layout->bat_end + VPC_SECTOR, absolute);
  return tn_node_write (file, layout->bat_end, sectors, sizeof sectors, error);
}

static int
vpc_write_header (TnNode *file, const VpcLayout *layout, GError **error)
{
  uint8_t header[VPC_HEADER_SIZE] = { 0 };
  memcpy (header, "cxsparse", 8);
  tn_store_be64 (header + 8, VPC_NO_OFFSET);
  tn_store_be64 (header + 16, BAT_AT);
  tn_store_be32 (header + 24, 0x00010000);
  tn_store_be32 (header + 28, layout->entries);
  tn_store_be32 (header + 32, layout->block_size);
  const int ret = layout->relative ? vpc_write_locators (file, layout, header, error) : 0;
  if (ret < 0)
    return ret;
  tn_store_be32 (header + 36, vpc_checksum (header, sizeof header, 36));
  return tn_node_write (file, HEADER_AT, header, sizeof header, error);
}

static int
vpc_write_bat (TnNode *file, const VpcLayout *layout, GError **error)
{
  uint8_t ones[16 * VPC_SECTOR];
  int ret = 0;
  memset (ones, 0xff, sizeof ones);
  for (uint64_t at = BAT_AT; ret == 0 && at < layout->bat_end; at += sizeof ones)
    ret = tn_node_write (file, at, ones, MIN (sizeof ones, layout->bat_end - at), error);
  return ret;
}

static int
vpc_create_dynamic (TnNode *file, const VpcLayout *layout, const uint8_t *footer, GError **error)
{
  const uint64_t end = layout->bat_end + (layout->relative ? 2 * VPC_SECTOR : 0);
  int ret = tn_node_resize (file, end + VPC_SECTOR, TN_PREALLOC_OFF, error);
  if (ret == 0)
    ret = vpc_write_header (file, layout, error);
  if (ret == 0)
    ret = vpc_write_bat (file, layout, error);
  if (ret == 0)
    ret = tn_node_write (file, end, footer, VPC_SECTOR, error);
  return ret < 0 ? ret : tn_node_write (file, 0, footer, VPC_SECTOR, error);
}

int
vpc_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  g_auto (VpcLayout) layout = { 0 };
  uint8_t footer[VPC_SECTOR];
  int ret = vpc_lay_out (options, size, &layout, error);
  if (ret < 0 || (ret = vpc_use_parent (file, options, size, &layout, error)) < 0)
    return ret;
  vpc_footer_encode (&layout.footer, footer);
  if (layout.footer.type != VPC_FIXED)
    return vpc_create_dynamic (file, &layout, footer, error);
  ret = tn_node_resize (file, layout.size + VPC_SECTOR, TN_PREALLOC_OFF, error);
  return ret < 0 ? ret : tn_node_write (file, layout.size, footer, sizeof footer, error);
}

int
vpc_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  g_auto (VpcLayout) layout = { 0 };
  uint64_t used = 0;
  int ret = vpc_lay_out (options, source ? tn_node_size (source) : size, &layout, error);
  if (ret == 0 && source && layout.footer.type != VPC_FIXED)
    ret = count_used_blocks (source, layout.block_size, &used, error);
  if (ret < 0)
    return ret;
  measure->bitmaps = UINT64_MAX;
  measure->required = measure->fully_allocated = layout.size + VPC_SECTOR;
  if (layout.footer.type == VPC_FIXED)
    return 0;
  /* Bitmaps are rounded up to where data begin. */
  const uint64_t bitmap = (layout.block_size / VPC_SECTOR / 8 + 4095) / 4096 * 4096,
                 block = layout.block_size + bitmap, tables = (layout.bat_end + 4095) / 4096 * 4096;
  measure->required = tables + used * block + VPC_SECTOR;
  measure->fully_allocated = tables + layout.entries * block + VPC_SECTOR;
  return 0;
}
