/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images: header, block map from 4 KiB on, blocks from a multiple of 1 MiB (of small blocks: of theirs)
 * on. */
#include "vdi.h"

#include "../common/used-bytes.h"

#define MAP_OFFSET 4096u
#define DATA_ALIGN (1u << 20)
#define CHUNK_ENTRIES 16384u

static TnPrealloc
vdi_prealloc (const TnOptions *options)
{
  static const char *const names[] = { "off", "metadata", "falloc", "full" };
  const char *text = tn_options_get (options, "preallocation");
  for (unsigned i = 1; text && i < G_N_ELEMENTS (names); i++)
    if (strcmp (names[i], text) == 0)
      return (TnPrealloc) i;
  return tn_options_bool (options, "static") ? TN_PREALLOC_METADATA : TN_PREALLOC_OFF;
}

static int
vdi_lay_out (const TnOptions *options, uint64_t size, VdiHeader *h, GError **error)
{
  const bool is_static = vdi_prealloc (options) != TN_PREALLOC_OFF;
  const uint64_t block = tn_options_uint (options, "block_size");
  const uint64_t rounded = (size + VDI_SECTOR - 1) & ~(uint64_t) (VDI_SECTOR - 1);
  if (block == 0 || (block & (block - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vdi: block_size must be a power of two from 4k to 64M");
  const uint64_t blocks = (rounded + block - 1) / block;
  if (size > INT64_MAX - 2 * block || blocks > VDI_MAX_BLOCKS)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "vdi: a disk of %" PRIu64 " bytes is too large: it may have up to %" PRIu64, size,
                    VDI_MAX_BLOCKS * block);
  const uint64_t map_end = MAP_OFFSET + blocks * 4,
                 data = (map_end + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
  *h = (VdiHeader){
    .type = is_static ? VDI_STATIC : VDI_DYNAMIC,
    .header_size = 0x190,
    .map_offset = MAP_OFFSET,
    .data_offset = (uint32_t) (block < DATA_ALIGN ? (map_end + block - 1) / block * block : data),
    .disk_size = rounded,
    .block_size = (uint32_t) block,
    .blocks = (uint32_t) blocks,
    .allocated = is_static ? (uint32_t) blocks : 0,
  };
  uuid_random (h->uuid, true);
  uuid_random (h->uuid_modified, true);
  return 0;
}

static int
vdi_write_map (TnNode *file, const VdiHeader *h, GError **error)
{
  g_autofree uint32_t *entries = g_new (uint32_t, CHUNK_ENTRIES);
  for (uint32_t first = 0; first < h->blocks;) {
    const uint32_t n = MIN (h->blocks - first, CHUNK_ENTRIES);
    for (uint32_t i = 0; i < n; i++)
      entries[i] = GUINT32_TO_LE (h->allocated ? first + i : VDI_UNALLOCATED);
    const int ret = tn_node_write (file, h->map_offset + first * 4ull, entries, n * 4ull, error);
    if (ret < 0)
      return ret;
    first += n;
  }
  return 0;
}

int
vdi_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  VdiHeader h;
  uint8_t sector[VDI_SECTOR];
  int ret = vdi_lay_out (options, size, &h, error);
  if (ret < 0 || (ret = tn_node_resize (file, h.data_offset, TN_PREALLOC_OFF, error)) < 0)
    return ret;
  if ((ret = vdi_write_map (file, &h, error)) < 0)
    return ret;
  if (h.allocated) {
    const TnPrealloc prealloc = vdi_prealloc (options);
    ret = tn_node_resize (file, h.data_offset + (uint64_t) h.blocks * h.block_size,
                          prealloc == TN_PREALLOC_METADATA ? TN_PREALLOC_OFF : prealloc, error);
    if (ret < 0)
      return ret;
  }
  vdi_header_encode (&h, sector);
  return tn_node_write (file, 0, sector, sizeof sector, error);
}

int
vdi_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  VdiHeader h;
  uint64_t used = 0;
  int ret = vdi_lay_out (options, source ? tn_node_size (source) : size, &h, error);
  if (ret == 0 && source)
    ret = count_used_blocks (source, h.block_size, &used, error);
  if (ret < 0)
    return ret;
  measure->fully_allocated = h.data_offset + (uint64_t) h.blocks * h.block_size;
  measure->required = h.allocated ? measure->fully_allocated : h.data_offset + used * h.block_size;
  measure->bitmaps = UINT64_MAX;
  return 0;
}
