/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Host clusters: taken, given back.
 *
 * What metadata forgets is not free yet: until the change is on stable storage a power cut brings the old
 * reference back.  Such clusters wait in q->freed; qcow2_apply_freed() lowers their counts after a flush.
 */
#include "qcow2.h"

#define MAX_GROWTHS 64

static int
check_place (Qcow2 *q, uint64_t first, uint64_t count, GError **error)
{
  const uint64_t offset = first << q->cluster_bits, length = count << q->cluster_bits;
  if (first + count > QCOW2_OFFSET_MASK >> q->cluster_bits) {
    return qcow2_fail (q, error, EFBIG, "the image file cannot grow beyond 2^56 bytes");
  }
  if (qcow2_overlaps_metadata (q, offset, length)) {
    return qcow2_corrupt (q, error, "clusters at 0x%" PRIx64 " count as free but hold metadata", offset);
  }
  return 0;
}

static int
take (Qcow2 *q, uint64_t first, uint64_t count, GError **error)
{
  int ret = check_place (q, first, count, error);
  if (ret < 0 || (ret = qcow2_refcount_add (q, first, count, 1, error)) < 0) {
    return ret;
  }
  q->end_cluster = MAX (q->end_cluster, first + count);
  return 0;
}

int
qcow2_alloc_run (Qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *count, GError **error)
{
  uint64_t first = 0, n = 0;
  int ret = qcow2_reftable_load (q, error);
  while (ret == 0) {
    if ((ret = qcow2_find_free (q, q->free_hint, want, &first, &n, error)) < 0) {
      return ret;
    }
    if (qcow2_refcount_covered (q, first)) {
      break;
    }
    if (first >> q->block_bits >= q->reftable_size) {
      ret = qcow2_reftable_grow (q, first, error);
    } else if ((ret = check_place (q, first, 1, error)) == 0) {
      ret = qcow2_refcount_cover_self (q, first, error);
    }
  }
  if (ret < 0 || (ret = take (q, first, n, error)) < 0) {
    return ret;
  }
  q->free_hint = first + n;
  *offset = first << q->cluster_bits;
  *count = n;
  return 0;
}

/* The first run of @n free clusters at or behind @from. */
static int
find_contiguous (Qcow2 *q, uint64_t from, uint64_t n, uint64_t *first, GError **error)
{
  uint64_t have = 0;
  for (uint64_t at = from; have < n;) {
    uint64_t start, count;
    int ret = qcow2_find_free (q, at, n - have, &start, &count, error);
    if (ret < 0) {
      return ret;
    }
    if (have == 0 || start != at) {
      *first = start;
      have = 0;
    }
    have += count;
    at = start + count;
  }
  return 0;
}

int
qcow2_alloc_contiguous (Qcow2 *q, uint64_t n, uint64_t *offset, GError **error)
{
  uint64_t first = 0, count;
  if (n == 1) {
    return qcow2_alloc_run (q, 1, offset, &count, error);
  }
  int ret = qcow2_reftable_load (q, error);
  for (int round = 0; ret == 0; round++) {
    if ((ret = find_contiguous (q, q->free_hint, n, &first, error)) < 0) {
      return ret;
    }
    if (round == MAX_GROWTHS) {
      return qcow2_fail (q, error, EFBIG, "no room for %" PRIu64 " neighbouring clusters", n);
    }
    if ((first + n - 1) >> q->block_bits >= q->reftable_size) {
      ret = qcow2_reftable_grow (q, first + n, error);
      continue;
    }
    ret = qcow2_refcount_cover (q, first, n, error);
    if (ret == 0) {
      break;
    }
    ret = ret == -EAGAIN ? 0 : ret;
  }
  if (ret < 0 || (ret = take (q, first, n, error)) < 0) {
    return ret;
  }
  if (first == q->free_hint) {
    q->free_hint = first + n;
  }
  *offset = first << q->cluster_bits;
  return 0;
}

/* ---- Compressed clusters: several share a host cluster, each counts in each that it touches ---- */

/* Room right behind the last one, reaching into the next cluster when that is free. */
static int
extend_packed (Qcow2 *q, uint64_t length, uint64_t *offset, GError **error)
{
  const uint64_t at = q->packed_next, mask = q->cluster_size - 1, cluster = at >> q->cluster_bits;
  const uint64_t room = at & mask ? q->cluster_size - (at & mask) : 0;
  uint64_t count, next;
  if (room == 0) {
    return -ENOSPC;
  }
  int ret = qcow2_refcount_get (q, cluster, &count, error);
  if (ret < 0) {
    return ret;
  }
  if (count == 0 || count >= q->refcount_max) {
    return -ENOSPC;
  }
  if (length > room) {
    if (!qcow2_refcount_covered (q, cluster + 1)) {
      return -ENOSPC;
    }
    if ((ret = qcow2_refcount_get (q, cluster + 1, &next, error)) < 0) {
      return ret;
    }
    if (next || qcow2_overlaps_metadata (q, (cluster + 1) << q->cluster_bits, q->cluster_size)) {
      return -ENOSPC;
    }
  }
  const uint64_t n = length > room ? 2 : 1;
  if ((ret = qcow2_refcount_add (q, cluster, n, 1, error)) < 0) {
    return ret;
  }
  q->end_cluster = MAX (q->end_cluster, cluster + n);
  *offset = at;
  return 0;
}

int
qcow2_alloc_packed (Qcow2 *q, uint64_t length, uint64_t *offset, GError **error)
{
  uint64_t count;
  g_return_val_if_fail (length && length <= q->cluster_size, -EINVAL);
  int ret = qcow2_reftable_load (q, error);
  if (ret < 0) {
    return ret;
  }
  ret = q->packed_next ? extend_packed (q, length, offset, error) : -ENOSPC;
  if (ret == -ENOSPC) {
    ret = qcow2_alloc_run (q, 1, offset, &count, error);
  }
  if (ret < 0) {
    return ret;
  }
  if (*offset + length - 1 > q->packed_offset_mask) {
    qcow2_alloc_undo (q, *offset, length);
    return qcow2_fail (q, error, EFBIG, "compressed clusters cannot lie behind 0x%" PRIx64,
                       q->packed_offset_mask);
  }
  q->packed_next = *offset + length;
  return 0;
}

/* ---- Giving back ---- */

static void
cluster_range (const Qcow2 *q, uint64_t offset, uint64_t length, uint64_t *first, uint64_t *count)
{
  *first = offset >> q->cluster_bits;
  *count = ((offset + length - 1) >> q->cluster_bits) - *first + 1;
}

/* A cluster that is shared no more must not be filled further. */
static void
stop_packing_at (Qcow2 *q, uint64_t first, uint64_t count)
{
  const uint64_t cluster = q->packed_next >> q->cluster_bits;
  if (cluster >= first && cluster - first < count) {
    q->packed_next = 0;
  }
}

void
qcow2_alloc_undo (Qcow2 *q, uint64_t offset, uint64_t length)
{
  uint64_t first, count;
  cluster_range (q, offset, length, &first, &count);
  stop_packing_at (q, first, count);
  (void) qcow2_refcount_add (q, first, count, -1, NULL); /* else leaked, which check finds */
}

/* The first @settled entries stay as they are: they become free sooner. */
static void
append_freed (GArray *list, guint settled, uint64_t first, uint64_t count, bool table)
{
  Qcow2Freed *last = list->len > settled ? &g_array_index (list, Qcow2Freed, list->len - 1) : NULL;
  if (last && last->table == table && last->first + last->count == first) {
    last->count += count;
    return;
  }
  const Qcow2Freed freed = { first, count, table };
  g_array_append_val (list, freed);
}

void
qcow2_free_later (Qcow2 *q, uint64_t offset, uint64_t length, bool table)
{
  uint64_t first, count;
  cluster_range (q, offset, length, &first, &count);
  append_freed (q->freed, q->freed_settled, first, count, table);
}

void
qcow2_free_entry (Qcow2 *q, Qcow2Entry entry)
{
  if (entry.raw & QCOW2_COMPRESSED) {
    uint64_t place, length;
    qcow2_packed_place (q, entry.raw, &place, &length);
    qcow2_free_later (q, place, length, false);
    return;
  }
  const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
  if (q->external) {
    if (entry.raw & QCOW2_COPIED) {
      append_freed (q->forgotten, q->forgotten_settled, host >> q->cluster_bits, 1, false);
    }
    return;
  }
  if (host) {
    qcow2_free_later (q, host, q->cluster_size, false);
  }
}

/* What became free for good: cached slices go, and the space goes back to the file system if that is wanted.
 */
static int
release_unused (Qcow2 *q, const Qcow2Freed *freed, GError **error)
{
  const bool punch = (q->flags & TN_OPEN_UNMAP) && !q->creating;
  if (!punch && !freed->table && q->packed_next == 0) {
    return 0;
  }
  uint64_t start = freed->first, end = freed->first + freed->count;
  for (uint64_t at = start; at <= end; at++) {
    uint64_t count = 1;
    int ret = at < end ? qcow2_refcount_get (q, at, &count, error) : 0;
    if (ret < 0) {
      return ret;
    }
    if (count == 0) {
      stop_packing_at (q, at, 1);
      if (freed->table) {
        tn_meta_forget (q->l2_cache, at << q->cluster_bits, q->cluster_size);
      }
      continue;
    }
    if (punch && at > start) {
      (void) tn_node_discard (q->file, start << q->cluster_bits, (at - start) << q->cluster_bits, NULL);
    }
    start = at + 1;
  }
  return 0;
}

void
qcow2_keep_external (Qcow2 *q, uint64_t first, uint64_t count)
{
  for (guint i = 0; i < q->forgotten->len; i++) {
    Qcow2Freed *freed = &g_array_index (q->forgotten, Qcow2Freed, i);
    const uint64_t end = freed->first + freed->count, keep_end = first + count;
    if (first >= end || keep_end <= freed->first) {
      continue;
    }
    const Qcow2Freed behind = { keep_end, end > keep_end ? end - keep_end : 0, false };
    freed->count = first > freed->first ? first - freed->first : 0;
    if (behind.count) {
      g_array_append_val (q->forgotten, behind);
    }
  }
}

static void
punch_data_file (Qcow2 *q)
{
  for (guint i = 0; i < q->forgotten_settled; i++) {
    const Qcow2Freed *freed = &g_array_index (q->forgotten, Qcow2Freed, i);
    const uint64_t offset = freed->first << q->cluster_bits, size = tn_node_size (q->data);
    if ((q->flags & TN_OPEN_UNMAP) && freed->count && offset < size) {
      (void) tn_node_discard (q->data, offset, MIN (freed->count << q->cluster_bits, size - offset), NULL);
    }
  }
  g_array_remove_range (q->forgotten, 0, q->forgotten_settled);
  q->forgotten_settled = 0;
}

int
qcow2_apply_freed (Qcow2 *q, GError **error)
{
  punch_data_file (q);
  guint done = 0;
  int ret = q->freed_settled ? qcow2_reftable_load (q, error) : 0;
  for (; ret == 0 && done < q->freed_settled; done++) {
    const Qcow2Freed freed = g_array_index (q->freed, Qcow2Freed, done);
    if ((ret = qcow2_refcount_add (q, freed.first, freed.count, -1, error)) < 0) {
      break;
    }
    if ((ret = release_unused (q, &freed, error)) < 0) {
      done++;
      break;
    }
  }
  if (done) {
    g_array_remove_range (q->freed, 0, done);
    q->freed_settled -= done;
  }
  return ret;
}
