/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For measure: how many blocks of a new image the contents of a node would take. */
#ifndef FORMATS_COMMON_USED_BYTES_H
#define FORMATS_COMMON_USED_BYTES_H

#include <tenon/node.h>

static inline int
count_used_blocks (TnNode *source, uint64_t block_size, uint64_t *blocks, GError **error)
{
  const uint64_t size = tn_node_size (source);
  uint64_t behind = 0; /* blocks before are counted */
  *blocks = 0;
  for (uint64_t at = 0; at < size;) {
    TnStatus status = { 0 };
    const int ret = tn_node_status (source, NULL, at, size - at, &status, error);
    if (ret < 0)
      return ret;
    const uint64_t end = at + CLAMP (status.length, 1, size - at);
    if (!status.zero && status.allocated) {
      const uint64_t first = MAX (at / block_size, behind);
      behind = (end + block_size - 1) / block_size;
      *blocks += behind - first;
    }
    at = end;
  }
  return 0;
}

#endif
