/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header: 512 bytes at the beginning of the file, little-endian. */
#include "vdi.h"

#define SIGNATURE 0xbeda107fu
#define VERSION_1_1 0x00010001u
#define LEAST_HEADER 0x180u

/* Places in the header. */
#define AT_SIGNATURE 0x40
#define AT_VERSION 0x44
#define AT_HEADER_SIZE 0x48
#define AT_TYPE 0x4c
#define AT_MAP 0x154
#define AT_DATA 0x158
#define AT_SECTOR_SIZE 0x168
#define AT_DISK_SIZE 0x170
#define AT_BLOCK_SIZE 0x178
#define AT_BLOCK_EXTRA 0x17c
#define AT_BLOCKS 0x180
#define AT_ALLOCATED 0x184
#define AT_UUID 0x188
#define AT_UUID_MODIFIED 0x198
#define AT_UUID_PARENT 0x1a8
#define AT_UUID_PARENT_MODIFIED 0x1b8

static void
vdi_header_decode (VdiHeader *h, const uint8_t *sector)
{
  *h = (VdiHeader){
    .type = tn_load_le32 (sector + AT_TYPE),
    .header_size = tn_load_le32 (sector + AT_HEADER_SIZE),
    .map_offset = tn_load_le32 (sector + AT_MAP),
    .data_offset = tn_load_le32 (sector + AT_DATA),
    .disk_size = tn_load_le64 (sector + AT_DISK_SIZE),
    .block_size = tn_load_le32 (sector + AT_BLOCK_SIZE),
    .block_extra = tn_load_le32 (sector + AT_BLOCK_EXTRA),
    .blocks = tn_load_le32 (sector + AT_BLOCKS),
    .allocated = tn_load_le32 (sector + AT_ALLOCATED),
  };
  memcpy (h->uuid, sector + AT_UUID, 16);
  memcpy (h->uuid_modified, sector + AT_UUID_MODIFIED, 16);
  memcpy (h->uuid_parent, sector + AT_UUID_PARENT, 16);
  memcpy (h->uuid_parent_modified, sector + AT_UUID_PARENT_MODIFIED, 16);
}

void
vdi_header_encode (const VdiHeader *h, uint8_t sector[VDI_SECTOR])
{
  memset (sector, 0, VDI_SECTOR);
  g_strlcpy ((char *) sector, "<<< Tenon virtual disk image >>>\n", AT_SIGNATURE);
  tn_store_le32 (sector + AT_SIGNATURE, SIGNATURE);
  tn_store_le32 (sector + AT_VERSION, VERSION_1_1);
  tn_store_le32 (sector + AT_HEADER_SIZE, h->header_size);
  tn_store_le32 (sector + AT_TYPE, h->type);
  tn_store_le32 (sector + AT_MAP, h->map_offset);
  tn_store_le32 (sector + AT_DATA, h->data_offset);
  tn_store_le32 (sector + AT_SECTOR_SIZE, VDI_SECTOR);
  tn_store_le64 (sector + AT_DISK_SIZE, h->disk_size);
  tn_store_le32 (sector + AT_BLOCK_SIZE, h->block_size);
  tn_store_le32 (sector + AT_BLOCKS, h->blocks);
  tn_store_le32 (sector + AT_ALLOCATED, h->allocated);
  memcpy (sector + AT_UUID, h->uuid, 16);
  memcpy (sector + AT_UUID_MODIFIED, h->uuid_modified, 16);
}

static int
vdi_check_kind (const Vdi *v, const uint8_t *sector, GError **error)
{
  const uint32_t version = tn_load_le32 (sector + AT_VERSION), type = tn_load_le32 (sector + AT_TYPE);
  if (tn_load_le32 (sector + AT_SIGNATURE) != SIGNATURE)
    return vdi_fail (v, error, EINVAL, "it is no VDI image: its signature is wrong");
  if (version != VERSION_1_1)
    return vdi_fail (v, error, ENOTSUP, "version %u.%u is not supported, only 1.1", version >> 16,
                     version & 0xffff);
  if (type != VDI_DYNAMIC && type != VDI_STATIC && type != VDI_DIFFERENCING)
    return vdi_fail (v, error, ENOTSUP, "images of type %u are not supported", type);
  return 0;
}

static int
vdi_check_sizes (const Vdi *v, uint32_t sector_size, GError **error)
{
  const VdiHeader *h = &v->header;
  if (sector_size != VDI_SECTOR)
    return vdi_fail (v, error, EINVAL, "sectors of %u bytes are not supported", sector_size);
  if (h->header_size < LEAST_HEADER)
    return vdi_fail (v, error, EINVAL, "a header of %u bytes is too small", h->header_size);
  if (h->block_size < VDI_SECTOR || h->block_size > VDI_MAX_BLOCK_SIZE
      || (h->block_size & (h->block_size - 1)))
    return vdi_fail (v, error, EINVAL, "blocks of %u bytes are no power of two from 512 to 64 MiB",
                     h->block_size);
  if (h->block_extra % VDI_SECTOR || h->block_extra > VDI_MAX_BLOCK_SIZE)
    return vdi_fail (v, error, EINVAL, "%u bytes in front of each block are impossible", h->block_extra);
  if (h->blocks > VDI_MAX_BLOCKS || h->disk_size > (uint64_t) INT64_MAX - VDI_SECTOR
      || v->size > (uint64_t) h->blocks * h->block_size)
    return vdi_fail (v, error, EINVAL, "%u blocks of %u bytes do not fit a disk of %" PRIu64 " bytes",
                     h->blocks, h->block_size, h->disk_size);
  return 0;
}

static int
vdi_check_layout (const Vdi *v, bool tolerant, GError **error)
{
  const VdiHeader *h = &v->header;
  const uint64_t map_end = h->map_offset + h->blocks * 4ull, file_size = tn_node_size (v->file);
  if (h->map_offset % VDI_SECTOR || h->data_offset % VDI_SECTOR || h->map_offset < VDI_SECTOR)
    return vdi_fail (v, error, EINVAL, "block map (%u) or data (%u) do not begin at a sector of their own",
                     h->map_offset, h->data_offset);
  if (map_end > h->data_offset)
    return vdi_fail (v, error, EINVAL, "a block map of %u entries at %u reaches into the data at %u",
                     h->blocks, h->map_offset, h->data_offset);
  if (map_end > file_size)
    return vdi_fail (v, error, EINVAL,
                     "its block map of %u entries reaches beyond the end of the file: it has been truncated",
                     h->blocks);
  if (h->allocated > h->blocks && !tolerant)
    return vdi_fail (v, error, EINVAL, "%u of its %u blocks are said to be allocated: run check",
                     h->allocated, h->blocks);
  return 0;
}

int
vdi_header_read (Vdi *v, bool tolerant, GError **error)
{
  uint8_t sector[VDI_SECTOR];
  if (tn_node_size (v->file) < sizeof sector)
    return vdi_fail (v, error, EINVAL, "%" PRIu64 " bytes are too few for a header", tn_node_size (v->file));
  int ret = tn_node_read (v->file, 0, sector, sizeof sector, error);
  if (ret < 0 || (ret = vdi_check_kind (v, sector, error)) < 0)
    return ret;
  vdi_header_decode (&v->header, sector);
  /* Sizes that are no whole number of sectors exist; what is missing reads as zeroes. */
  v->size = (v->header.disk_size + VDI_SECTOR - 1) & ~(uint64_t) (VDI_SECTOR - 1);
  v->stride = (uint64_t) v->header.block_size + v->header.block_extra;
  ret = vdi_check_sizes (v, tn_load_le32 (sector + AT_SECTOR_SIZE), error);
  return ret < 0 ? ret : vdi_check_layout (v, tolerant, error);
}

static int
vdi_header_put (Vdi *v, const VdiHeader *h, GError **error)
{
  TnMetaSlice *slice;
  const int ret = tn_meta_get (v->header_cache, 0, &slice, error);
  if (ret < 0)
    return ret;
  uint8_t *sector = tn_meta_data (slice);
  tn_store_le32 (sector + AT_MAP, h->map_offset);
  tn_store_le32 (sector + AT_DATA, h->data_offset);
  tn_store_le64 (sector + AT_DISK_SIZE, h->disk_size);
  tn_store_le32 (sector + AT_BLOCKS, h->blocks);
  tn_store_le32 (sector + AT_ALLOCATED, h->allocated);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

int
vdi_header_change (Vdi *v, const VdiHeader *header, GError **error)
{
  TnMetaCache *const caches[] = { v->header_cache };
  int ret = vdi_header_put (v, header, error);
  if (ret < 0)
    return ret;
  if ((ret = tn_meta_flush (caches, G_N_ELEMENTS (caches), error)) < 0) {
    /* What the file has now is not known: the next flush says that nothing has changed. */
    (void) vdi_header_put (v, &v->header, NULL);
    return ret;
  }
  v->header = *header;
  return 0;
}

int
vdi_header_set_count (Vdi *v, uint32_t count, GError **error)
{
  TnMetaSlice *slice;
  if (v->header.allocated == count)
    return 0;
  const int ret = tn_meta_get (v->header_cache, 0, &slice, error);
  if (ret < 0)
    return ret;
  tn_store_le32 ((uint8_t *) tn_meta_data (slice) + AT_ALLOCATED, count);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  v->header.allocated = count;
  return 0;
}
