/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clusters whose bytes stand in the file already. */
#include "parallels.h"

static int
parallels_entries_are_free (Parallels *p, uint64_t index, uint64_t n, GError **error)
{
  for (uint64_t i = 0; i < n; i++) {
    uint32_t entry = 0;
    const int ret = parallels_bat_get (p, index + i, &entry, error);
    if (ret < 0) {
      return ret;
    }
    if (entry) {
      return -ERANGE;
    }
  }
  return 0;
}

int
parallels_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Parallels *p = tn_node_state (node);
  const uint64_t index = offset / p->cluster_size, n = length / p->cluster_size;
  if (place < p->data_start || (place - p->data_start) % p->cluster_size
      || place + length > parallels_host (p, UINT32_MAX)
      || parallels_host (p, parallels_entry (p, place)) != place) {
    return -ERANGE;
  }
  int ret = parallels_touch (p, error);
  if (ret < 0 || (ret = parallels_entries_are_free (p, index, n, error)) < 0) {
    return ret;
  }
  if (!p->adopting) {
    tail_space_reset (&p->space, 0); /* what is not adopted behind the last one is to be cut off */
    p->adopting = true;
  }
  p->space.end = MAX (p->space.end, (place - p->data_start) / p->cluster_size + n);
  for (uint64_t i = 0; ret == 0 && i < n; i++) {
    ret = parallels_bat_set (p, index + i, parallels_entry (p, place + i * p->cluster_size), error);
  }
  return ret;
}
