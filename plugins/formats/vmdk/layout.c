/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How new sparse extents are laid out: header, descriptor, the second directory and its tables, the first and
 * its tables, all of them empty; grains follow at the next grain border.
 */
#include "../common/tailspace.h"
#include "vmdk.h"

#define LAYOUT_GRAIN 65536u
#define LAYOUT_GT_ENTRIES 512u
#define LAYOUT_GT_BYTES (LAYOUT_GT_ENTRIES * 4u)
#define LAYOUT_DESCRIPTOR_BYTES (20u * VMDK_SECTOR)
#define LAYOUT_CHUNK 16384u /* entries written at a time */

typedef struct VmdkLayout {
  uint64_t tables, gd_bytes; /* directory, in whole sectors */
  uint64_t rgd_offset, gd_offset, overhead;
} VmdkLayout;

static uint64_t
vmdk_round_up (uint64_t n, uint64_t unit)
{
  return (n + unit - 1) / unit * unit;
}

static VmdkLayout
vmdk_layout (uint64_t capacity)
{
  const uint64_t span = (uint64_t) LAYOUT_GRAIN * LAYOUT_GT_ENTRIES;
  VmdkLayout l = { .tables = capacity / span + (capacity % span != 0) };
  l.gd_bytes = vmdk_round_up (l.tables * 4, VMDK_SECTOR);
  l.rgd_offset = VMDK_SECTOR + LAYOUT_DESCRIPTOR_BYTES;
  l.gd_offset = l.rgd_offset + l.gd_bytes + l.tables * LAYOUT_GT_BYTES;
  l.overhead = vmdk_round_up (l.gd_offset + l.gd_bytes + l.tables * LAYOUT_GT_BYTES, LAYOUT_GRAIN);
  return l;
}

uint64_t
vmdk_sparse_overhead (uint64_t capacity)
{
  return vmdk_layout (capacity).overhead;
}

/* A directory whose tables stand behind it. */
static int
vmdk_write_directory (TnNode *file, uint64_t at, const VmdkLayout *l, GError **error)
{
  g_autofree uint8_t *chunk = g_malloc0 (LAYOUT_CHUNK * 4);
  const uint64_t first = (at + l->gd_bytes) / VMDK_SECTOR;
  for (uint64_t i = 0; i < l->tables; i += LAYOUT_CHUNK) {
    const uint64_t n = MIN (LAYOUT_CHUNK, l->tables - i);
    for (uint64_t k = 0; k < n; k++) {
      tn_store_le32 (chunk + k * 4, (uint32_t) (first + (i + k) * (LAYOUT_GT_BYTES / VMDK_SECTOR)));
    }
    int ret = tn_node_write (file, at + i * 4, chunk, n * 4, error);
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

static int
vmdk_write_head (TnNode *file, const VmdkSparse *s, uint64_t gd_offset, const char *descriptor,
                 GError **error)
{
  const size_t length = descriptor ? strlen (descriptor) : 0;
  g_autofree uint8_t *head = g_malloc0 (VMDK_HEADER_BYTES + LAYOUT_DESCRIPTOR_BYTES);
  if (length > LAYOUT_DESCRIPTOR_BYTES) {
    return tn_fail (error, TN_BLOCK_ERROR, ENAMETOOLONG,
                    "vmdk: the descriptor has no room for names and options of %zu bytes", length);
  }
  vmdk_sparse_encode (s, gd_offset, head);
  if (length) {
    memcpy (head + VMDK_HEADER_BYTES, descriptor, length);
  }
  return tn_node_write (file, 0, head, VMDK_HEADER_BYTES + LAYOUT_DESCRIPTOR_BYTES, error);
}

int
vmdk_write_sparse (TnNode *file, const char *descriptor, uint64_t capacity, bool zeroed, GError **error)
{
  const VmdkLayout l = vmdk_layout (capacity);
  const VmdkSparse s = {
    .version = zeroed ? 2 : 1,
    .flags = VMDK_F_NEWLINES | VMDK_F_REDUNDANT | (zeroed ? VMDK_F_ZEROED : 0),
    .capacity = capacity,
    .grain = LAYOUT_GRAIN,
    .gt_entries = LAYOUT_GT_ENTRIES,
    .rgd_offset = l.rgd_offset,
    .descriptor_offset = descriptor ? VMDK_SECTOR : 0,
    .descriptor_bytes = descriptor ? LAYOUT_DESCRIPTOR_BYTES : 0,
    .overhead = l.overhead,
  };
  if (l.overhead / VMDK_SECTOR > UINT32_MAX) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "vmdk: the tables of a disk of %" PRIu64 " bytes are too large", capacity);
  }
  int ret = tail_space_make_zeroes (file, l.overhead, error);
  if (ret < 0 || (ret = vmdk_write_directory (file, l.rgd_offset, &l, error)) < 0
      || (ret = vmdk_write_directory (file, l.gd_offset, &l, error)) < 0) {
    return ret;
  }
  return vmdk_write_head (file, &s, l.gd_offset, descriptor, error);
}

/* A stream without grains: its directory, footer and end marker follow the header at once. */
int
vmdk_write_stream (TnNode *file, const char *descriptor, uint64_t capacity, GError **error)
{
  const VmdkLayout l = vmdk_layout (capacity);
  const VmdkSparse s = {
    .version = 3,
    .flags = VMDK_F_NEWLINES | VMDK_F_COMPRESSED | VMDK_F_MARKERS,
    .compressed = true,
    .capacity = capacity,
    .grain = LAYOUT_GRAIN,
    .gt_entries = LAYOUT_GT_ENTRIES,
    .descriptor_offset = VMDK_SECTOR,
    .descriptor_bytes = LAYOUT_DESCRIPTOR_BYTES,
    .overhead = LAYOUT_GRAIN,
  };
  const uint64_t gd_offset = s.overhead + VMDK_SECTOR, length = l.gd_bytes + 4 * VMDK_SECTOR;
  g_autofree uint8_t *tail = g_malloc0 (length);
  tn_store_le64 (tail, l.gd_bytes / VMDK_SECTOR);
  tn_store_le32 (tail + 12, VMDK_MARKER_GD);
  uint8_t *footer = tail + VMDK_SECTOR + l.gd_bytes;
  tn_store_le64 (footer, 1);
  tn_store_le32 (footer + 12, VMDK_MARKER_FOOTER);
  vmdk_sparse_encode (&s, gd_offset, footer + VMDK_SECTOR);
  int ret = tn_node_write_zeroes (file, 0, s.overhead, 0, error);
  if (ret < 0 || (ret = tn_node_write (file, s.overhead, tail, length, error)) < 0) {
    return ret;
  }
  return vmdk_write_head (file, &s, VMDK_GD_AT_END, descriptor, error);
}
