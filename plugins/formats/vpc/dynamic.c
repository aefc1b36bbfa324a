/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header of dynamic and differencing images, big-endian. */
#include "vpc.h"

#include "../common/utf16.h"

#define VERSION_1_0 0x00010000u

/* Places in the header. */
#define AT_TABLE 16
#define AT_VERSION 24
#define AT_ENTRIES 28
#define AT_BLOCK_SIZE 32
#define AT_CHECKSUM 36
#define AT_PARENT_UUID 40
#define AT_PARENT_TIME 56
#define AT_PARENT_NAME 64
#define PARENT_NAME_BYTES 512u
#define AT_LOCATORS 576
#define LOCATOR_BYTES 24u

static void
vpc_decode_parent (Vpc *v, const uint8_t *header)
{
  memcpy (v->parent_uuid, header + AT_PARENT_UUID, 16);
  v->parent_time = tn_load_be32 (header + AT_PARENT_TIME);
  v->parent_name = utf16_to_utf8 (header + AT_PARENT_NAME, PARENT_NAME_BYTES, true);
  for (unsigned i = 0; i < VPC_LOCATORS; i++) {
    const uint8_t *locator = header + AT_LOCATORS + i * LOCATOR_BYTES;
    memcpy (v->locators[i].platform, locator, 4);
    v->locators[i].length = tn_load_be32 (locator + 8);
    v->locators[i].offset = tn_load_be64 (locator + 16);
  }
}

static int
vpc_check_header (const Vpc *v, const uint8_t *header, GError **error)
{
  const uint32_t version = tn_load_be32 (header + AT_VERSION);
  if (memcmp (header, "cxsparse", 8) != 0)
    return vpc_fail (v, error, EINVAL, "there is no header at %" PRIu64, v->footer.data_offset);
  if (vpc_checksum (header, VPC_HEADER_SIZE, AT_CHECKSUM) != tn_load_be32 (header + AT_CHECKSUM))
    return vpc_fail (v, error, EINVAL, "the checksum of its header at %" PRIu64 " is wrong",
                     v->footer.data_offset);
  if (version != VERSION_1_0)
    return vpc_fail (v, error, ENOTSUP, "a header of version 0x%x is not supported", version);
  return 0;
}

static int
vpc_check_table (Vpc *v, uint64_t table, GError **error)
{
  const uint64_t file_size = tn_node_size (v->file);
  if (v->block_size < VPC_SECTOR || v->block_size > VPC_MAX_BLOCK_SIZE
      || (v->block_size & (v->block_size - 1)))
    return vpc_fail (v, error, EINVAL, "blocks of %u bytes are no power of two from 512 to 64 MiB",
                     v->block_size);
  const uint64_t blocks = (v->size + v->block_size - 1) / v->block_size;
  if (blocks > v->entries)
    return vpc_fail (v, error, EINVAL,
                     "a BAT of %u entries is too small for %" PRIu64 " bytes in blocks of %u", v->entries,
                     v->size, v->block_size);
  if (table % VPC_SECTOR || table < VPC_SECTOR || table > file_size
      || v->entries * UINT64_C (4) > file_size - table)
    return vpc_fail (v, error, EINVAL,
                     "a BAT of %u entries at %" PRIu64 " reaches beyond the end of the file", v->entries,
                     table);
  v->blocks = (uint32_t) blocks;
  v->bitmap_bytes = (v->block_size / VPC_SECTOR / 8 + VPC_SECTOR - 1) / VPC_SECTOR * VPC_SECTOR;
  return 0;
}

int
vpc_dynamic_read (Vpc *v, GError **error)
{
  const uint64_t at = v->footer.data_offset, file_size = tn_node_size (v->file);
  uint8_t header[VPC_HEADER_SIZE];
  if (at % VPC_SECTOR || at < VPC_SECTOR || at > file_size || file_size - at < VPC_HEADER_SIZE)
    return vpc_fail (v, error, EINVAL, "its header cannot be at %" PRIu64 " of a file of %" PRIu64 " bytes",
                     at, file_size);
  int ret = tn_node_read (v->file, at, header, sizeof header, error);
  if (ret < 0 || (ret = vpc_check_header (v, header, error)) < 0)
    return ret;
  const uint64_t table = tn_load_be64 (header + AT_TABLE);
  v->entries = tn_load_be32 (header + AT_ENTRIES);
  v->block_size = tn_load_be32 (header + AT_BLOCK_SIZE);
  if ((ret = vpc_check_table (v, table, error)) < 0)
    return ret;
  if (v->footer.type == VPC_DIFFERENCING)
    vpc_decode_parent (v, header);
  /* Blocks may begin at any sector behind the table. */
  v->bat = (BlockTable){ .offset = table, .slice_size = VPC_SECTOR, .entry_size = 4 };
  return 0;
}

/* ---- Changing ---- */

static int
vpc_put_sector (Vpc *v, uint64_t at, const uint8_t *bytes, GError **error)
{
  TnMetaSlice *slice;
  const int ret = tn_meta_get (v->bat.cache, at, &slice, error);
  if (ret < 0)
    return ret;
  memcpy (tn_meta_data (slice), bytes, VPC_SECTOR);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
vpc_change_sector (Vpc *v, uint64_t at, const uint8_t bytes[VPC_SECTOR], GError **error)
{
  uint8_t old[VPC_SECTOR];
  int ret = tn_node_read (v->file, at, old, sizeof old, error);
  if (ret < 0 || (ret = vpc_put_sector (v, at, bytes, error)) < 0)
    return ret;
  /* What the file has after a failure is not known: the next flush says that nothing has changed. */
  if ((ret = vpc_flush_state (v, error)) < 0)
    (void) vpc_put_sector (v, at, old, NULL);
  return ret;
}

int
vpc_dynamic_change (Vpc *v, uint64_t table, uint32_t entries, GError **error)
{
  uint8_t header[VPC_HEADER_SIZE];
  int ret = tn_node_read (v->file, v->footer.data_offset, header, sizeof header, error);
  if (ret < 0)
    return ret;
  tn_store_be64 (header + AT_TABLE, table);
  tn_store_be32 (header + AT_ENTRIES, entries);
  tn_store_be32 (header + AT_CHECKSUM, vpc_checksum (header, sizeof header, AT_CHECKSUM));
  /* All of that is in its first sector. */
  if ((ret = vpc_change_sector (v, v->footer.data_offset, header, error)) < 0)
    return ret;
  v->bat.offset = table;
  v->entries = entries;
  return 0;
}
