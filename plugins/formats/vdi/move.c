/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks that get another place in the file. */
#include "vdi.h"

#define COPY_CHUNK (1u << 20)

static int
vdi_copy_block (Vdi *v, uint32_t from, uint32_t to, GError **error)
{
  const uint64_t size = v->header.block_size;
  g_autofree uint8_t *buffer = g_malloc (MIN (size, COPY_CHUNK));
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at < size; at += COPY_CHUNK) {
    const uint64_t part = MIN (size - at, COPY_CHUNK);
    ret = tn_node_read (v->file, vdi_place (v, from) + at, buffer, part, error);
    if (ret == 0)
      ret = tn_node_write (v->file, vdi_place (v, to) + at, buffer, part, error);
  }
  return ret;
}

int
vdi_move_block (Vdi *v, uint64_t block, uint32_t from, uint32_t to, GError **error)
{
  const int ret = vdi_copy_block (v, from, to, error);
  if (ret < 0)
    return ret;
  tn_meta_after_data (v->map.cache);
  return vdi_set_entry (v, block, to, error);
}

int
vdi_fill_gaps (Vdi *v, uint8_t *used, uint32_t n_used, GError **error)
{
  uint32_t gap = 0;
  int ret = 0;
  for (uint32_t block = 0; ret == 0 && block < v->header.blocks; block++) {
    uint32_t entry = VDI_UNALLOCATED;
    if ((ret = vdi_get_entry (v, block, &entry, error)) < 0 || entry < n_used || entry >= VDI_ZERO
        || vdi_entry_fault (v, entry))
      continue;
    while (gap < n_used && (used[gap / 8] >> (gap % 8) & 1))
      gap++;
    if (gap == n_used)
      return vdi_fail (v, error, EIO, "two blocks share a place: run check -r all");
    ret = vdi_move_block (v, block, entry, gap, error);
    used[gap / 8] |= (uint8_t) (1u << (gap % 8));
  }
  return ret;
}
