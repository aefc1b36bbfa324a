/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks whose bytes stand in the file already. */
#include "vdi.h"

static bool
vdi_places_are_free (const Vdi *v, uint64_t first, uint64_t n)
{
  for (uint64_t place = first; place < first + n; place++)
    if (v->used[place / 8] >> (place % 8) & 1)
      return false;
  return true;
}

static int
vdi_blocks_are_free (Vdi *v, uint64_t block, uint64_t n, GError **error)
{
  for (uint64_t i = 0; i < n; i++) {
    TnMetaSlice *slice;
    void *at = NULL;
    const int ret = block_table_pin (&v->map, block + i, &slice, &at, error);
    if (ret < 0)
      return ret;
    const uint32_t entry = tn_load_le32 (at);
    tn_meta_put (slice);
    if (entry < VDI_ZERO)
      return -ERANGE;
  }
  return 0;
}

int
vdi_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Vdi *v = tn_node_state (node);
  const uint64_t block = offset / v->header.block_size, n = length / v->header.block_size;
  if (v->header.block_extra || place < v->header.data_offset || (place - v->header.data_offset) % v->stride)
    return -ERANGE;
  const uint64_t first = (place - v->header.data_offset) / v->stride;
  if (first > v->header.blocks || n > v->header.blocks - first)
    return -ERANGE;
  int ret = vdi_scan (v, error);
  if (ret == 0)
    ret = vdi_places_are_free (v, first, n) ? vdi_blocks_are_free (v, block, n, error) : -ERANGE;
  if (ret < 0)
    return ret;
  for (uint64_t i = 0; i < n; i++)
    vdi_take_place (v, (uint32_t) (first + i));
  if (v->next > v->count && (ret = vdi_header_set_count (v, v->next, error)) < 0)
    return ret;
  v->count = MAX (v->count, v->next);
  for (uint64_t i = 0; ret == 0 && i < n; i++)
    ret = vdi_set_entry (v, block + i, (uint32_t) (first + i), error);
  return ret;
}
