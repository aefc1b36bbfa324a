/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The region table: where the metadata and the BAT are. */
#include "vhdx.h"

#include "../common/crc32c.h"

#define MAX_REGIONS 2047u
#define ENTRY_SIZE 32u
#define REQUIRED 1u

const uint8_t vhdx_guid_bat[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                    0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
const uint8_t vhdx_guid_metadata[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                         0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };

static bool
vhdx_meets (const VhdxRange *a, const VhdxRange *b)
{
  return a->length && b->length && a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

static int
vhdx_check_region (const Vhdx *v, const VhdxRange *region, GError **error)
{
  const uint64_t file_size = vhdx_file_size (v);
  if (region->offset < VHDX_MIB || region->offset % VHDX_MIB || region->length == 0
      || region->length % VHDX_MIB)
    return vhdx_fail (v, error, EINVAL,
                      "region table: a region of %" PRIu64 " bytes at %" PRIu64 " is not in whole MiB",
                      region->length, region->offset);
  if (region->offset > file_size || region->length > file_size - region->offset)
    return vhdx_fail (v, error, EINVAL,
                      "region table: the region at %" PRIu64 " reaches beyond the end of the file",
                      region->offset);
  return 0;
}

static int
vhdx_take_region (Vhdx *v, const uint8_t *entry, GArray *all, GError **error)
{
  const VhdxRange region = { tn_load_le64 (entry + 16), tn_load_le32 (entry + 24) };
  VhdxRange *known = NULL;
  int ret = vhdx_check_region (v, &region, error);
  if (ret < 0)
    return ret;
  for (guint i = 0; i < all->len; i++)
    if (vhdx_meets (&g_array_index (all, VhdxRange, i), &region))
      return vhdx_fail (v, error, EINVAL, "region table: the region at %" PRIu64 " overlaps another",
                        region.offset);
  g_array_append_val (all, region);
  v->regions_end = MAX (v->regions_end, region.offset + region.length);
  if (memcmp (entry, vhdx_guid_bat, 16) == 0)
    known = &v->bat_region;
  else if (memcmp (entry, vhdx_guid_metadata, 16) == 0)
    known = &v->metadata_region;
  else if (tn_load_le32 (entry + 28) & REQUIRED)
    return vhdx_fail (v, error, ENOTSUP, "region table: a region that must be understood is not known");
  if (known && known->length)
    return vhdx_fail (v, error, EINVAL, "region table: a region is named twice");
  if (known)
    *known = region;
  return 0;
}

static bool
vhdx_region_table_is_right (const uint8_t *table)
{
  return memcmp (table, "regi", 4) == 0 && tn_load_le32 (table + 8) <= MAX_REGIONS
         && crc32c_without (table, VHDX_REGION_SIZE, 4) == tn_load_le32 (table + 4);
}

static int
vhdx_read_table (Vhdx *v, uint8_t *table, GError **error)
{
  static const uint32_t places[] = { VHDX_REGION_AT_1, VHDX_REGION_AT_2 };
  for (unsigned i = 0; i < G_N_ELEMENTS (places); i++) {
    const int ret = vhdx_read (v, places[i], table, VHDX_REGION_SIZE, error);
    if (ret < 0)
      return ret;
    if (vhdx_region_table_is_right (table))
      return 0;
  }
  return vhdx_fail (v, error, EINVAL, "neither copy of its region table has a right checksum");
}

int
vhdx_regions_read (Vhdx *v, GError **error)
{
  g_autofree uint8_t *table = g_malloc (VHDX_REGION_SIZE);
  g_autoptr (GArray) all = g_array_new (false, false, sizeof (VhdxRange));
  const VhdxRange log = { v->header.log_offset, v->header.log_length };
  g_array_append_val (all, log);
  v->regions_end = MAX (VHDX_MIB, log.offset + log.length);
  int ret = vhdx_read_table (v, table, error);
  for (uint32_t i = 0; ret == 0 && i < tn_load_le32 (table + 8); i++)
    ret = vhdx_take_region (v, table + 16 + i * ENTRY_SIZE, all, error);
  if (ret == 0 && (!v->bat_region.length || !v->metadata_region.length))
    ret = vhdx_fail (v, error, EINVAL, "region table: there is no BAT or no metadata");
  return ret;
}
