/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reference counts of host clusters, and the growth of their tables. */
#include "qcow2.h"

uint64_t
qcow2_count_load (const void *block, uint64_t index, unsigned order)
{
  const uint8_t *p = block;
  switch (order) {
  case 3:
    return p[index];
  case 4:
    return tn_load_be16 (p + index * 2);
  case 5:
    return tn_load_be32 (p + index * 4);
  case 6:
    return tn_load_be64 (p + index * 8);
  default: {
    const uint64_t bit = index << order;
    return (p[bit / 8] >> (bit % 8)) & ((1u << (1u << order)) - 1);
  }
  }
}

void
qcow2_count_store (void *block, uint64_t index, unsigned order, uint64_t value)
{
  uint8_t *p = block;
  switch (order) {
  case 3:
    p[index] = (uint8_t) value;
    return;
  case 4:
    tn_store_be16 (p + index * 2, (uint16_t) value);
    return;
  case 5:
    tn_store_be32 (p + index * 4, (uint32_t) value);
    return;
  case 6:
    tn_store_be64 (p + index * 8, value);
    return;
  default: {
    const uint64_t bit = index << order;
    const unsigned mask = ((1u << (1u << order)) - 1) << (bit % 8);
    p[bit / 8] = (uint8_t) ((p[bit / 8] & ~mask) | ((unsigned) value << (bit % 8)));
    return;
  }
  }
}

/* ---- Finding counts ---- */

static int
check_reftable (Qcow2 *q, const uint64_t *table, uint32_t entries, GError **error)
{
  const uint64_t end = qcow2_end (q);
  for (uint32_t i = 0; i < entries; i++) {
    const uint64_t entry = table[i];
    if (entry == 0) {
      continue;
    }
    if ((entry & (q->cluster_size - 1)) || entry >= end) {
      return qcow2_fail (q, error, EIO,
                         "entry %u (0x%016" PRIx64 ") of the refcount table at 0x%" PRIx64
                         " cannot be right (check -r all may repair it)",
                         i, entry, q->header.reftable_offset);
    }
  }
  return 0;
}

int
qcow2_reftable_load (Qcow2 *q, GError **error)
{
  const size_t bytes = (size_t) q->header.reftable_clusters << q->cluster_bits;
  if (q->reftable) {
    return 0;
  }
  g_autofree uint64_t *table = g_try_malloc (MAX (bytes, 8));
  if (table == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for the refcount table of %zu bytes", bytes);
  }
  int ret = bytes ? tn_node_read (q->file, q->header.reftable_offset, table, bytes, error) : 0;
  if (ret < 0) {
    return ret;
  }
  for (size_t i = 0; i < bytes / 8; i++) {
    table[i] = GUINT64_FROM_BE (table[i]);
  }
  if (!(q->flags & TN_OPEN_CHECK) && (ret = check_reftable (q, table, (uint32_t) (bytes / 8), error)) < 0) {
    return ret;
  }
  q->reftable = g_steal_pointer (&table);
  q->reftable_size = (uint32_t) (bytes / 8);
  return 0;
}

bool
qcow2_refcount_covered (const Qcow2 *q, uint64_t cluster)
{
  const uint64_t block = cluster >> q->block_bits;
  return block < q->reftable_size && q->reftable[block];
}

static uint64_t
counts_per_slice (const Qcow2 *q)
{
  return 1ull << (q->slice_bits + 3 - q->header.refcount_order);
}

/* The slice with @cluster's count, which must be covered; *index within the slice. */
static int
count_slice (Qcow2 *q, uint64_t cluster, TnMetaSlice **slice, uint64_t *index, GError **error)
{
  const uint64_t per_slice = counts_per_slice (q), in_block = cluster & ((1ull << q->block_bits) - 1);
  const uint64_t block = q->reftable[cluster >> q->block_bits];
  *index = in_block & (per_slice - 1);
  return tn_meta_get (q->refcount_cache, block + ((in_block / per_slice) << q->slice_bits), slice, error);
}

int
qcow2_refcount_get (Qcow2 *q, uint64_t cluster, uint64_t *count, GError **error)
{
  TnMetaSlice *slice;
  uint64_t index;
  *count = 0;
  if (!qcow2_refcount_covered (q, cluster)) {
    return 0;
  }
  int ret = count_slice (q, cluster, &slice, &index, error);
  if (ret < 0) {
    return ret;
  }
  *count = qcow2_count_load (tn_meta_data (slice), index, q->header.refcount_order);
  tn_meta_put (slice);
  return 0;
}

/* Changes counts within one slice; *done says how many. */
static int
add_in_slice (Qcow2 *q, uint64_t first, uint64_t n, int delta, uint64_t *done, GError **error)
{
  const unsigned order = q->header.refcount_order;
  TnMetaSlice *slice;
  uint64_t index;
  *done = 0;
  if (!qcow2_refcount_covered (q, first)) {
    return qcow2_corrupt (q, error, "cluster 0x%" PRIx64 " is in use but has no refcount block",
                          first << q->cluster_bits);
  }
  int ret = count_slice (q, first, &slice, &index, error);
  if (ret < 0) {
    return ret;
  }
  void *counts = tn_meta_data (slice);
  n = MIN (n, counts_per_slice (q) - index);
  for (; *done < n; ++*done) {
    const uint64_t count = qcow2_count_load (counts, index + *done, order);
    const uint64_t at = (first + *done) << q->cluster_bits;
    if (delta > 0 && count == q->refcount_max) {
      ret = qcow2_fail (q, error, ERANGE, "the reference count of cluster 0x%" PRIx64 " is at its limit", at);
      break;
    }
    if (delta < 0 && count == 0) {
      ret = qcow2_corrupt (q, error,
                           "the reference count of cluster 0x%" PRIx64 " is zero although it is in use", at);
      break;
    }
    qcow2_count_store (counts, index + *done, order, delta > 0 ? count + 1 : count - 1);
  }
  if (*done) {
    tn_meta_dirty (slice);
  }
  tn_meta_put (slice);
  return ret;
}

int
qcow2_refcount_add (Qcow2 *q, uint64_t first, uint64_t n, int delta, GError **error)
{
  uint64_t at = 0;
  while (at < n) {
    uint64_t done;
    int ret = add_in_slice (q, first + at, n - at, delta, &done, error);
    at += done;
    if (ret < 0) {
      for (uint64_t undo = 0; undo < at; undo += done) {
        if (add_in_slice (q, first + undo, at - undo, -delta, &done, NULL) < 0 || done == 0) {
          break; /* a leak at worst, since decreases are undone into increases */
        }
      }
      return ret;
    }
  }
  if (delta < 0 && !q->adopting) {
    q->free_hint = MIN (q->free_hint, first);
  }
  return 0;
}

int
qcow2_find_free (Qcow2 *q, uint64_t from, uint64_t want, uint64_t *first, uint64_t *count, GError **error)
{
  const uint64_t per_slice = counts_per_slice (q);
  const unsigned order = q->header.refcount_order;
  for (uint64_t at = from;;) {
    if (!qcow2_refcount_covered (q, at)) {
      const uint64_t block_end = ((at >> q->block_bits) + 1) << q->block_bits;
      *first = at;
      *count = MIN (want, block_end - at);
      return 0;
    }
    TnMetaSlice *slice;
    uint64_t index;
    int ret = count_slice (q, at, &slice, &index, error);
    if (ret < 0) {
      return ret;
    }
    const void *counts = tn_meta_data (slice);
    uint64_t i = index;
    while (i < per_slice && qcow2_count_load (counts, i, order)) {
      i++;
    }
    uint64_t end = i;
    while (end < per_slice && end - i < want && qcow2_count_load (counts, end, order) == 0) {
      end++;
    }
    tn_meta_put (slice);
    if (i < per_slice) {
      *first = at + (i - index);
      *count = end - i;
      return 0;
    }
    at += per_slice - index;
  }
}

/* ---- Growing ---- */

static int
set_reftable_entry (Qcow2 *q, uint64_t block, uint64_t offset, GError **error)
{
  const uint64_t at = q->header.reftable_offset + block * 8, mask = (1ull << q->slice_bits) - 1;
  TnMetaSlice *slice;
  int ret = tn_meta_order (q->reftable_cache, q->refcount_cache, error);
  if (ret < 0 || (ret = tn_meta_get (q->reftable_cache, at & ~mask, &slice, error)) < 0) {
    return ret;
  }
  tn_store_be64 ((uint8_t *) tn_meta_data (slice) + (at & mask), offset);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  q->reftable[block] = offset;
  return 0;
}

/* An empty refcount block at cluster @place. */
static int
new_block (Qcow2 *q, uint64_t place, GError **error)
{
  const uint64_t offset = place << q->cluster_bits;
  for (uint64_t at = 0; at < q->cluster_size; at += 1ull << q->slice_bits) {
    TnMetaSlice *slice;
    int ret = tn_meta_new (q->refcount_cache, offset + at, &slice, error);
    if (ret < 0) {
      tn_meta_forget (q->refcount_cache, offset, q->cluster_size);
      return ret;
    }
    tn_meta_put (slice);
  }
  q->end_cluster = MAX (q->end_cluster, place + 1);
  return 0;
}

static int
drop_block (Qcow2 *q, uint64_t block, uint64_t place, int ret)
{
  q->reftable[block] = 0;
  tn_meta_forget (q->refcount_cache, place << q->cluster_bits, q->cluster_size);
  return ret;
}

int
qcow2_refcount_cover_self (Qcow2 *q, uint64_t cluster, GError **error)
{
  const uint64_t block = cluster >> q->block_bits;
  int ret = new_block (q, cluster, error);
  if (ret < 0) {
    return ret;
  }
  q->reftable[block] = cluster << q->cluster_bits;
  if ((ret = qcow2_refcount_add (q, cluster, 1, 1, error)) < 0
      || (ret = set_reftable_entry (q, block, cluster << q->cluster_bits, error)) < 0) {
    return drop_block (q, block, cluster, ret);
  }
  return 0;
}

/* The block numbered @block, put at a cluster whose own count is kept elsewhere. */
static int
cover_elsewhere (Qcow2 *q, uint64_t block, uint64_t place, GError **error)
{
  int ret = qcow2_refcount_add (q, place, 1, 1, error);
  if (ret < 0) {
    return ret;
  }
  if ((ret = new_block (q, place, error)) == 0
      && (ret = set_reftable_entry (q, block, place << q->cluster_bits, error)) < 0) {
    (void) drop_block (q, block, place, ret);
  }
  if (ret < 0) {
    (void) qcow2_refcount_add (q, place, 1, -1, NULL);
  }
  return ret;
}

/* -EAGAIN without an error: the refcount table must grow to *place first. */
static int
next_place (Qcow2 *q, uint64_t *place, GError **error)
{
  uint64_t count;
  int ret = qcow2_find_free (q, *place, 1, place, &count, error);
  if (ret < 0) {
    return ret;
  }
  return *place >> q->block_bits >= q->reftable_size ? -EAGAIN : 0;
}

int
qcow2_refcount_cover (Qcow2 *q, uint64_t first, uint64_t n, GError **error)
{
  return qcow2_refcount_cover_from (q, first, n, first + n, error);
}

int
qcow2_refcount_cover_from (Qcow2 *q, uint64_t first, uint64_t n, uint64_t place, GError **error)
{
  const uint64_t last_block = (first + n - 1) >> q->block_bits;
  for (uint64_t block = first >> q->block_bits; block <= last_block; block++) {
    while (q->reftable[block] == 0) {
      int ret = next_place (q, &place, error);
      if (ret == -EAGAIN) {
        if ((ret = qcow2_reftable_grow (q, place, error)) == 0) {
          return -EAGAIN; /* that may have taken some of the run */
        }
      }
      if (ret < 0) {
        return ret;
      }
      ret = qcow2_refcount_covered (q, place) ? cover_elsewhere (q, block, place, error)
                                              : qcow2_refcount_cover_self (q, place, error);
      if (ret < 0) {
        return ret;
      }
      place++;
    }
  }
  return 0;
}

typedef struct Growth {
  uint64_t start;          /* first cluster that the old table does not cover */
  uint64_t blocks;         /* refcount blocks for the new clusters, at start */
  uint64_t table_clusters; /* behind the blocks */
} Growth;

static int
plan_growth (Qcow2 *q, uint64_t cluster, Growth *plan, GError **error)
{
  const uint64_t per_cluster = q->cluster_size / 8, needed = (cluster >> q->block_bits) + 1;
  const uint64_t most = MAX (QCOW2_MAX_REFTABLE_BYTES, q->cluster_size) / 8;
  uint64_t entries = MAX (needed, q->reftable_size + (uint64_t) q->reftable_size / 2);
  plan->start = (uint64_t) q->reftable_size << q->block_bits;
  plan->blocks = 1;
  for (;;) {
    entries = MAX (entries, q->reftable_size + plan->blocks);
    entries = (entries + per_cluster - 1) / per_cluster * per_cluster;
    plan->table_clusters = entries / per_cluster;
    const uint64_t clusters = plan->blocks + plan->table_clusters;
    const uint64_t blocks = (clusters + (1ull << q->block_bits) - 1) >> q->block_bits;
    if (blocks == plan->blocks) {
      break;
    }
    plan->blocks = blocks;
  }
  if (entries > most && MAX (needed, q->reftable_size + plan->blocks) <= most) {
    plan->table_clusters = most / per_cluster;
    entries = most;
  }
  if (entries > most || plan->start > (QCOW2_OFFSET_MASK >> q->cluster_bits) - entries) {
    return qcow2_fail (q, error, EFBIG,
                       "the image file cannot grow further: its refcount table is at its limit");
  }
  return 0;
}

static int
fill_new_blocks (Qcow2 *q, const Growth *plan, GError **error)
{
  const uint64_t used = plan->blocks + plan->table_clusters;
  for (uint64_t i = 0; i < plan->blocks; i++) {
    int ret = new_block (q, plan->start + i, error);
    if (ret < 0) {
      return ret;
    }
    q->reftable[q->reftable_size + i] = (plan->start + i) << q->cluster_bits;
  }
  /* The counts of the new blocks and table are in the new blocks. */
  const uint32_t old_size = q->reftable_size;
  q->reftable_size += (uint32_t) plan->blocks;
  int ret = qcow2_refcount_add (q, plan->start, used, 1, error);
  q->reftable_size = old_size;
  return ret;
}

static int
write_new_table (Qcow2 *q, const Growth *plan, GError **error)
{
  const uint64_t bytes = plan->table_clusters << q->cluster_bits;
  g_autofree uint64_t *disk = g_try_malloc0 (bytes);
  if (disk == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for a refcount table of %" PRIu64 " bytes", bytes);
  }
  for (uint64_t i = 0; i < q->reftable_size + plan->blocks; i++) {
    disk[i] = GUINT64_TO_BE (q->reftable[i]);
  }
  return tn_node_write (q->file, (plan->start + plan->blocks) << q->cluster_bits, disk, bytes, error);
}

int
qcow2_reftable_grow (Qcow2 *q, uint64_t cluster, GError **error)
{
  const Qcow2Header old = q->header;
  const uint64_t old_size = q->reftable_size;
  Growth plan;
  int ret = plan_growth (q, cluster, &plan, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t entries = plan.table_clusters << (q->cluster_bits - 3);
  uint64_t *table = g_try_realloc_n (q->reftable, entries, 8);
  if (table == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for a refcount table of %" PRIu64 " entries", entries);
  }
  memset (table + old_size, 0, (entries - old_size) * 8);
  q->reftable = table;
  if ((ret = fill_new_blocks (q, &plan, error)) < 0 || (ret = write_new_table (q, &plan, error)) < 0
      || (ret = qcow2_sync (q, error)) < 0) {
    memset (table + old_size, 0, (entries - old_size) * 8);
    tn_meta_forget (q->refcount_cache, plan.start << q->cluster_bits, plan.blocks << q->cluster_bits);
    return ret;
  }
  q->header.reftable_offset = (plan.start + plan.blocks) << q->cluster_bits;
  q->header.reftable_clusters = (uint32_t) plan.table_clusters;
  if ((ret = qcow2_header_write_tables (q, error)) < 0) {
    q->header = old;
    memset (table + old_size, 0, (entries - old_size) * 8);
    tn_meta_forget (q->refcount_cache, plan.start << q->cluster_bits, plan.blocks << q->cluster_bits);
    return ret;
  }
  q->reftable_size = (uint32_t) entries;
  q->end_cluster = MAX (q->end_cluster, plan.start + plan.blocks + plan.table_clusters);
  const uint64_t old_bytes = (uint64_t) old.reftable_clusters << q->cluster_bits;
  tn_meta_forget (q->reftable_cache, old.reftable_offset, old_bytes);
  qcow2_free_later (q, old.reftable_offset, old_bytes, false);
  return qcow2_barrier (q, error);
}
