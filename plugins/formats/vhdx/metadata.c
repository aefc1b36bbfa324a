/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The metadata region: what the disk is like. */
#include "vhdx.h"

#define TABLE_SIZE 65536u
#define ENTRY_SIZE 32u
#define MAX_ITEMS 2047u
#define MAX_ITEM (1u << 20)
#define REQUIRED 4u

const uint8_t vhdx_guid_file_parameters[16] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                                0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
const uint8_t vhdx_guid_disk_size[16] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                          0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
const uint8_t vhdx_guid_page83[16] = { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
                                       0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 };
const uint8_t vhdx_guid_sector_size[16] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                            0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f };
const uint8_t vhdx_guid_physical_sector_size[16] = { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
                                                     0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 };
const uint8_t vhdx_guid_parent_locator[16] = { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                               0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c };
const uint8_t vhdx_guid_locator_type[16] = { 0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a,
                                             0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13 };

/* Items that the format has, how long they are, and whether they were found. */
typedef struct VhdxItems {
  uint8_t parameters[8], size[8], sector[4], physical[4];
  bool has_parameters, has_size, has_sector, has_physical, has_page83, has_locator;
} VhdxItems;

static int
vhdx_read_item (Vhdx *v, uint32_t offset, uint32_t length, void *to, size_t wanted, bool *found,
                GError **error)
{
  if (length != wanted)
    return vhdx_fail (v, error, EINVAL, "metadata: the item at %u has %u bytes, not %zu", offset, length,
                      wanted);
  if (*found)
    return vhdx_fail (v, error, EINVAL, "metadata: an item is there twice");
  *found = true;
  return vhdx_read (v, v->metadata_region.offset + offset, to, wanted, error);
}

static int
vhdx_read_locator (Vhdx *v, uint32_t offset, uint32_t length, bool *found, GError **error)
{
  if (length < 20 || length > MAX_ITEM)
    return vhdx_fail (v, error, EINVAL, "metadata: a parent locator of %u bytes is impossible", length);
  g_autofree uint8_t *item = g_malloc (length);
  const int ret = vhdx_read_item (v, offset, length, item, length, found, error);
  if (ret == 0)
    vhdx_parse_locator (v, item, length);
  return ret;
}

static int
vhdx_take_item (Vhdx *v, const uint8_t *entry, VhdxItems *items, GError **error)
{
  const uint32_t offset = tn_load_le32 (entry + 16), length = tn_load_le32 (entry + 20);
  if (length == 0)
    return 0;
  if (offset < TABLE_SIZE || offset > v->metadata_region.length
      || length > v->metadata_region.length - offset)
    return vhdx_fail (v, error, EINVAL, "metadata: the item at %u does not lie in the region", offset);
  if (memcmp (entry, vhdx_guid_file_parameters, 16) == 0)
    return vhdx_read_item (v, offset, length, items->parameters, 8, &items->has_parameters, error);
  if (memcmp (entry, vhdx_guid_disk_size, 16) == 0) {
    v->size_at = v->metadata_region.offset + offset;
    return vhdx_read_item (v, offset, length, items->size, 8, &items->has_size, error);
  }
  if (memcmp (entry, vhdx_guid_page83, 16) == 0)
    return vhdx_read_item (v, offset, length, v->disk_guid, 16, &items->has_page83, error);
  if (memcmp (entry, vhdx_guid_sector_size, 16) == 0)
    return vhdx_read_item (v, offset, length, items->sector, 4, &items->has_sector, error);
  if (memcmp (entry, vhdx_guid_physical_sector_size, 16) == 0)
    return vhdx_read_item (v, offset, length, items->physical, 4, &items->has_physical, error);
  if (memcmp (entry, vhdx_guid_parent_locator, 16) == 0)
    return vhdx_read_locator (v, offset, length, &items->has_locator, error);
  if (tn_load_le32 (entry + 24) & REQUIRED)
    return vhdx_fail (v, error, ENOTSUP, "metadata: an item that must be understood is not known");
  return 0;
}

static int
vhdx_check_disk (Vhdx *v, GError **error)
{
  if (v->block_size < VHDX_MIB || v->block_size > VHDX_MAX_BLOCK || (v->block_size & (v->block_size - 1)))
    return vhdx_fail (v, error, EINVAL, "blocks of %u bytes are no power of two from 1 to 256 MiB",
                      v->block_size);
  if (v->sector_size != 512 && v->sector_size != 4096)
    return vhdx_fail (v, error, EINVAL, "sectors of %u bytes are neither of 512 nor of 4096", v->sector_size);
  if (v->size % v->sector_size || v->size > VHDX_MAX_SIZE)
    return vhdx_fail (v, error, EINVAL,
                      "a disk of %" PRIu64 " bytes is not in whole sectors or larger than 64 TiB", v->size);
  return 0;
}

uint64_t
vhdx_blocks_of (const Vhdx *v, uint64_t size)
{
  return (size + v->block_size - 1) / v->block_size;
}

uint64_t
vhdx_bat_entries_of (const Vhdx *v, uint64_t size)
{
  const uint64_t blocks = vhdx_blocks_of (v, size), chunks = (blocks + v->chunk_ratio - 1) / v->chunk_ratio;
  return v->has_parent ? chunks * (v->chunk_ratio + UINT64_C (1)) : blocks + (chunks ? chunks - 1 : 0);
}

static int
vhdx_size_bat (Vhdx *v, GError **error)
{
  v->chunk_ratio = (uint32_t) (VHDX_CHUNK_SECTORS * v->sector_size / v->block_size);
  v->blocks = vhdx_blocks_of (v, v->size);
  v->bat_entries = vhdx_bat_entries_of (v, v->size);
  if (v->bat_entries * 8 > v->bat_region.length)
    return vhdx_fail (v, error, EINVAL,
                      "a BAT of %" PRIu64 " bytes is too small for %" PRIu64 " bytes in blocks of %u",
                      v->bat_region.length, v->size, v->block_size);
  return 0;
}

int
vhdx_metadata_read (Vhdx *v, GError **error)
{
  g_autofree uint8_t *table = g_malloc (TABLE_SIZE);
  VhdxItems items = { 0 };
  int ret = vhdx_read (v, v->metadata_region.offset, table, TABLE_SIZE, error);
  if (ret < 0)
    return ret;
  const uint16_t count = tn_load_le16 (table + 10);
  if (memcmp (table, "metadata", 8) != 0 || count > MAX_ITEMS)
    return vhdx_fail (v, error, EINVAL, "there is no metadata at %" PRIu64, v->metadata_region.offset);
  for (unsigned i = 0; ret == 0 && i < count; i++)
    ret = vhdx_take_item (v, table + 32 + i * ENTRY_SIZE, &items, error);
  if (ret < 0)
    return ret;
  if (!items.has_parameters || !items.has_size || !items.has_sector)
    return vhdx_fail (v, error, EINVAL, "metadata: block, disk or sector size is missing");
  v->block_size = tn_load_le32 (items.parameters);
  v->leaves_allocated = items.parameters[4] & 1;
  v->has_parent = items.parameters[4] & 2;
  v->size = tn_load_le64 (items.size);
  v->sector_size = tn_load_le32 (items.sector);
  v->physical_sector_size = items.has_physical ? tn_load_le32 (items.physical) : v->sector_size;
  ret = vhdx_check_disk (v, error);
  return ret < 0 ? ret : vhdx_size_bat (v, error);
}
