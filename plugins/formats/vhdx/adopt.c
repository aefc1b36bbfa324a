/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks whose bytes stand in the file already. */
#include "vhdx.h"

int
vhdx_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Vhdx *v = tn_node_state (node);
  const uint64_t block = offset / v->block_size, n = length / v->block_size;
  if (v->has_parent || place % VHDX_MIB || place < v->regions_end || place > INT64_MAX / 2 - length)
    return -ERANGE;
  int ret = vhdx_touch (v, error);
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    const uint64_t index = vhdx_bat_index (v, block + i);
    uint64_t entry = 0;
    ret = vhdx_get_entry (v, index, &entry, error);
    if (ret == 0 && (entry & VHDX_OFFSET_MASK))
      return -ERANGE;
    if (ret == 0)
      ret = vhdx_set_entry (v, index, (place + i * v->block_size) | VHDX_PRESENT, error);
  }
  v->scanned = false; /* the end of the last block may be another */
  return ret;
}
