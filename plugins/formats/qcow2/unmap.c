/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Zero clusters and discards.  What is discarded reads as zeroes from then on, also over a backing file;
 * without one, what is unallocated reads as zeroes already.
 */
#include "qcow2.h"

static bool
has_backing (const Qcow2 *q)
{
  return q->backing_name || (q->node && tn_node_child (q->node, "backing"));
}

/* Which subclusters of cluster @base the range covers, as a mask of 32 bits. */
static uint32_t
covered_subclusters (const Qcow2 *q, uint64_t base, uint64_t offset, uint64_t end)
{
  const uint64_t from = MAX (offset, base), to = MIN (end, base + q->cluster_size);
  const unsigned first = (unsigned) ((from - base) >> q->unit_bits);
  const unsigned n = (unsigned) ((to - from + (1u << q->unit_bits) - 1) >> q->unit_bits);
  return (uint32_t) (((1ull << n) - 1) << first);
}

/* The entry of a whole cluster after unmapping; false: it stays as it is. */
static bool
unmapped_cluster (const Qcow2 *q, Qcow2Entry old, Qcow2Kind kind, uint32_t flags, Qcow2Entry *new)
{
  const bool nothing = kind == QCOW2_KIND_UNALLOCATED || kind == QCOW2_KIND_ZERO;
  if (nothing && (kind == QCOW2_KIND_ZERO || !has_backing (q))) {
    return false;
  }
  if (q->header.version < 3) {
    *new = (Qcow2Entry){ 0, 0 };
    return true;
  }
  const bool keep = !(flags & TN_UNMAP_RELEASE) && (old.raw & QCOW2_COPIED);
  *new = keep ? (Qcow2Entry){ old.raw | QCOW2_ZERO, 0 } : (Qcow2Entry){ QCOW2_ZERO, 0 };
  return new->raw != old.raw;
}

static bool
unmapped_subclusters (Qcow2 *q, Qcow2Entry old, uint64_t base, uint32_t mask, uint32_t flags, Qcow2Entry *new)
{
  const uint64_t cluster = base >> q->cluster_bits, place = old.raw & (QCOW2_OFFSET_MASK | QCOW2_COPIED);
  const bool packed = old.raw & QCOW2_COMPRESSED;
  const uint32_t allocated = packed ? UINT32_MAX : (uint32_t) old.bitmap,
                 zero = (uint32_t) (old.bitmap >> 32);
  if (!packed && !has_backing (q) && !(allocated & mask)) {
    return false; /* unallocated reads as zeroes already */
  }
  *new = (Qcow2Entry){ place, (uint64_t) (allocated & ~mask) | (uint64_t) (zero | mask) << 32 };
  const bool whole = (uint32_t) new->bitmap == 0;
  const bool keep = !packed && (!(flags & TN_UNMAP_RELEASE) || g_hash_table_contains (q->inflight, &cluster));
  if (packed || (whole && !(keep && (place & QCOW2_COPIED)))) {
    new->raw = 0;
  }
  return new->raw != old.raw || new->bitmap != old.bitmap;
}

/* Changes the entries of one slice from @offset on; *done is where it ends. */
static int
unmap_in_slice (Qcow2 *q, TnMetaSlice *slice, uint64_t offset, uint64_t end, uint32_t flags, uint64_t *done,
                GError **error)
{
  void *entries = tn_meta_data (slice);
  const unsigned n = qcow2_slice_entries (q);
  uint64_t base = offset & ~(uint64_t) (q->cluster_size - 1);
  int ret = 0;
  for (unsigned i = qcow2_slice_index (q, offset); i < n && base < end; i++, base += q->cluster_size) {
    const Qcow2Entry old = qcow2_entry_load (q, entries, i);
    const Qcow2Kind kind = qcow2_entry_kind (q, old, base, 0);
    const uint32_t mask = q->extended ? covered_subclusters (q, base, offset, end) : 0;
    Qcow2Entry new = old;
    if (kind == QCOW2_KIND_INVALID) {
      ret = qcow2_corrupt (q, error,
                           "the L2 entry 0x%016" PRIx64 " of guest offset 0x%" PRIx64 " cannot be right",
                           old.raw, base);
      break;
    }
    if (q->extended && kind == QCOW2_KIND_PACKED && mask != UINT32_MAX) {
      ret = -EAGAIN; /* a part of a compressed cluster */
      break;
    }
    if (q->extended ? !unmapped_subclusters (q, old, base, mask, flags, &new)
                    : !unmapped_cluster (q, old, kind, flags, &new)) {
      continue;
    }
    qcow2_entry_store (q, entries, i, new);
    if ((old.raw & QCOW2_COMPRESSED) || (new.raw &QCOW2_OFFSET_MASK) != (old.raw & QCOW2_OFFSET_MASK)
        || (q->external && (old.raw & QCOW2_COPIED) && !(new.raw &QCOW2_COPIED))) {
      qcow2_free_entry (q, old);
    }
  }
  *done = MIN (base, end);
  tn_meta_dirty (slice);
  return ret;
}

int
qcow2_unmap_range (Qcow2 *q, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  const uint64_t end = offset + length, span = 1ull << (q->cluster_bits + q->l2_bits);
  while (offset < end) {
    const uint64_t index = qcow2_l1_index (q, offset);
    TnMetaSlice *slice;
    if (index < q->l1_size && q->l1[index] == 0 && !has_backing (q)) {
      offset = (index + 1) * span;
      continue;
    }
    int ret = qcow2_l2_get_writable (q, offset, &slice, error);
    if (ret < 0) {
      return ret;
    }
    if ((ret = qcow2_l2_order (q, false, error)) == 0) {
      ret = unmap_in_slice (q, slice, offset, end, flags, &offset, error);
    }
    tn_meta_put (slice);
    if (ret == -EAGAIN) {
      ret = qcow2_unshare_cluster (q, offset, error);
    }
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

int
qcow2_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  if (q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) {
    return -ENOTSUP; /* the zeroes must stand in the data file */
  }
  if (q->header.version < 3 && (has_backing (q) || !(flags & TN_UNMAP_RELEASE))) {
    return -ENOTSUP; /* version 2 has no zero clusters */
  }
  int ret = qcow2_touch (q, error);
  if (ret < 0) {
    return ret;
  }
  qcow2_bitmaps_dirty (q, offset, length);
  return qcow2_unmap_range (q, offset, length, flags, error);
}
