/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk block tables (VDI's block map, the BATs of VHD and VHDX): arrays of equal entries that are read in
 * slices through a metadata cache.  A cursor walks over neighbouring entries as far as they are in memory.
 */
#ifndef FORMATS_COMMON_BLOCKTABLE_H
#define FORMATS_COMMON_BLOCKTABLE_H

#include <tenon/meta.h>

typedef struct BlockTable {
  TnMetaCache *cache;
  uint64_t offset;     /* in the file, a multiple of the slice size */
  uint32_t slice_size; /* a power of two */
  uint32_t entry_size; /* a power of two */
} BlockTable;

typedef struct BlockCursor {
  const BlockTable *table;
  TnMetaSlice *pin;
  const uint8_t *slice;
  uint32_t at; /* in the slice */
  uint64_t slice_offset;
} BlockCursor;

/* The largest slices of whole sectors that neither begin before the table nor reach into what stands at
 * @behind, which may be written at the same time. */
static inline uint32_t
block_table_slice (uint64_t offset, uint64_t behind)
{
  uint32_t size = 512;
  while (size < 65536 && (offset | behind) % (size * 2ull) == 0)
    size *= 2;
  return size;
}

/* Points at entry @index.  With @nowait: -EAGAIN without an error when it is not in memory. */
static inline int
block_cursor_begin (BlockCursor *cursor, const BlockTable *table, uint64_t index, bool nowait, GError **error)
{
  const uint64_t place = table->offset + index * table->entry_size;
  *cursor = (BlockCursor){ .table = table,
                           .at = (uint32_t) (place % table->slice_size),
                           .slice_offset = place - place % table->slice_size };
  cursor->slice = tn_meta_peek (table->cache, cursor->slice_offset);
  if (nowait)
    return cursor->slice ? 0 : -EAGAIN;
  const int ret = tn_meta_get (table->cache, cursor->slice_offset, &cursor->pin, error);
  if (ret == 0)
    cursor->slice = tn_meta_data (cursor->pin);
  return ret;
}

static inline const void *
block_cursor_entry (const BlockCursor *cursor)
{
  return cursor->slice + cursor->at;
}

/* On to the next entry; false: that is not in memory. */
static inline bool
block_cursor_next (BlockCursor *cursor)
{
  cursor->at += cursor->table->entry_size;
  if (cursor->at < cursor->table->slice_size)
    return true;
  cursor->slice_offset += cursor->table->slice_size;
  cursor->at = 0;
  cursor->slice = tn_meta_peek (cursor->table->cache, cursor->slice_offset);
  return cursor->slice != NULL;
}

static inline void
block_cursor_end (BlockCursor *cursor)
{
  if (cursor->pin)
    tn_meta_put (cursor->pin);
  cursor->pin = NULL;
}

/* The entry in a pinned slice, to be changed: then tn_meta_dirty() and tn_meta_put(). */
static inline int
block_table_pin (const BlockTable *table, uint64_t index, TnMetaSlice **slice, void **entry, GError **error)
{
  const uint64_t place = table->offset + index * table->entry_size, skip = place % table->slice_size;
  const int ret = tn_meta_get (table->cache, place - skip, slice, error);
  if (ret == 0)
    *entry = (uint8_t *) tn_meta_data (*slice) + skip;
  return ret;
}

#endif
