/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading entries of on-disk tables that begin anywhere, through a metadata cache. */
#ifndef FORMATS_COMMON_TABLE_H
#define FORMATS_COMMON_TABLE_H

#include <tenon/meta.h>

/* Copies @length bytes at @offset of the cached node to @out.  With @nowait: -EAGAIN without an error when
 * they are not in memory. */
static inline int
table_read (TnMetaCache *cache, uint32_t slice_size, uint64_t offset, void *out, size_t length, bool nowait,
            GError **error)
{
  uint8_t *to = out;
  while (length) {
    const uint64_t skip = offset % slice_size, part = MIN (length, slice_size - skip);
    TnMetaSlice *slice = NULL;
    const uint8_t *bytes = nowait ? tn_meta_peek (cache, offset - skip) : NULL;
    if (!bytes && nowait)
      return -EAGAIN;
    if (!bytes) {
      const int ret = tn_meta_get (cache, offset - skip, &slice, error);
      if (ret < 0)
        return ret;
      bytes = tn_meta_data (slice);
    }
    memcpy (to, bytes + skip, part);
    if (slice)
      tn_meta_put (slice);
    to += part;
    offset += part;
    length -= part;
  }
  return 0;
}

#endif
