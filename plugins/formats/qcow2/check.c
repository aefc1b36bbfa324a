/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: counts every reference that the image makes, and compares with the counts that it keeps.
 *
 * Repair changes table entries that cannot be right first, then the counts, or makes all refcount structures
 * anew when these are damaged, then the flags that follow from the counts.
 */
#include "check.h"

#include <stdarg.h>

static void
report (Qcow2Walk *walk, bool is_error, const char *format, va_list args)
{
  if (walk->quiet || walk->check->report == NULL) {
    return;
  }
  g_autofree char *line = g_strdup_vprintf (format, args);
  walk->check->report (line, is_error, walk->check->opaque);
}

void
qcow2_walk_corruption (Qcow2Walk *walk, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  report (walk, true, format, args);
  va_end (args);
  walk->corruptions++;
}

void
qcow2_walk_leak (Qcow2Walk *walk, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  report (walk, false, format, args);
  va_end (args);
  walk->leaks++;
}

int
qcow2_walk_count (Qcow2Walk *walk, uint64_t offset, uint64_t length, uint32_t weight, GError **error)
{
  const uint64_t first = offset >> walk->q->cluster_bits;
  const uint64_t last = (offset + length - 1) >> walk->q->cluster_bits;
  if (length == 0 || qcow2_counts_add (&walk->counts, first, last - first + 1, weight)) {
    return 0;
  }
  walk->check->check_errors++;
  return qcow2_fail (walk->q, error, ENOMEM, "there is not enough memory to count references");
}

static bool
meets (uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
  return a_length && b_length && a < b + b_length && b < a + a_length;
}

bool
qcow2_walk_is_metadata (Qcow2Walk *walk, uint64_t offset, uint64_t length)
{
  const Qcow2 *q = walk->q;
  const Qcow2Header *h = &q->header;
  if (meets (offset, length, 0, q->cluster_size) || meets (offset, length, h->l1_offset, h->l1_size * 8ull)
      || meets (offset, length, h->reftable_offset, (uint64_t) h->reftable_clusters << q->cluster_bits)
      || meets (offset, length, h->snapshots_offset, q->snapshots_length)
      || meets (offset, length, q->crypt_offset, q->crypt_length)) {
    return true;
  }
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    if (meets (offset, length, q->snapshots[i].l1_offset, q->snapshots[i].l1_size * 8ull)) {
      return true;
    }
  }
  for (uint64_t at = offset & ~(uint64_t) (q->cluster_size - 1); at < offset + length;
       at += q->cluster_size) {
    if (g_hash_table_contains (walk->blocks, &at)) {
      return true;
    }
  }
  return false;
}

static int
count_bitmaps (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  g_autoptr (GArray) list = NULL;
  if (q->bitmap_count == 0) {
    return 0;
  }
  GError *why = NULL;
  if (qcow2_bitmaps_read (q, &list, &why) < 0) {
    qcow2_walk_corruption (walk, "ERROR bitmap directory: %s", why->message);
    g_clear_error (&why);
    return 0;
  }
  int ret = qcow2_walk_count (walk, q->bitmap_directory_offset, q->bitmap_directory_size, 1, error);
  for (guint i = 0; ret == 0 && i < list->len; i++) {
    const Qcow2Bitmap *bitmap = &g_array_index (list, Qcow2Bitmap, i);
    const uint64_t bytes = bitmap->table_size * 8ull, at = bitmap->table_offset;
    if ((at & (q->cluster_size - 1)) || bytes > QCOW2_MAX_L1_BYTES || at > walk->file_size
        || bytes > walk->file_size - at) {
      qcow2_walk_corruption (walk, "ERROR bitmap '%s': its table at 0x%" PRIx64 " is not valid", bitmap->name,
                             at);
      continue;
    }
    g_autofree uint64_t *table = g_malloc (MAX (bytes, 8));
    if ((bytes && (ret = tn_node_read (q->file, at, table, bytes, error)) < 0)
        || (ret = qcow2_walk_count (walk, at, bytes, 1, error)) < 0) {
      return ret;
    }
    for (uint32_t j = 0; ret == 0 && j < bitmap->table_size; j++) {
      const uint64_t entry = GUINT64_FROM_BE (table[j]), place = entry & QCOW2_OFFSET_MASK;
      if ((entry & ~(QCOW2_OFFSET_MASK | 1)) || (place && (entry & 1)) || (place & (q->cluster_size - 1))
          || place >= walk->file_size) {
        qcow2_walk_corruption (walk, "ERROR bitmap '%s': table entry %u (0x%" PRIx64 ") is not valid",
                               bitmap->name, j, entry);
      } else if (place) {
        ret = qcow2_walk_count (walk, place, q->cluster_size, 1, error);
      }
    }
  }
  return ret;
}

/* Counts all references. */
static int
walk_references (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  GError *why = NULL;
  if (qcow2_snapshots_load (q, &why) < 0) {
    qcow2_walk_corruption (walk, "ERROR snapshot table: %s", why->message);
    g_clear_error (&why);
  }
  int ret = qcow2_walk_count (walk, 0, q->cluster_size, 1, error);
  if (ret == 0) {
    ret = qcow2_walk_refcounts (walk, error);
  }
  if (ret < 0 || (ret = qcow2_walk_tables (walk, error)) < 0) {
    return ret;
  }
  return count_bitmaps (walk, error);
}

static int
walk_image (Qcow2Walk *walk, GError **error)
{
  int ret = walk_references (walk, error);
  if (ret < 0 || (ret = qcow2_walk_compare (walk, error)) < 0) {
    return ret;
  }
  if (walk->rebuild && (walk->fix & TN_CHECK_FIX_ERRORS)) {
    if ((ret = qcow2_rebuild_refcounts (walk, error)) < 0) {
      return ret;
    }
  }
  return walk->rebuild && !(walk->fix & TN_CHECK_FIX_ERRORS) ? 0 : qcow2_walk_copied (walk, error);
}

static void
walk_begin (Qcow2Walk *walk)
{
  qcow2_counts_init (&walk->counts);
  walk->tables = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  walk->blocks = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
}

static void
walk_end (Qcow2Walk *walk)
{
  qcow2_counts_clear (&walk->counts);
  g_hash_table_unref (walk->tables);
  g_hash_table_unref (walk->blocks);
}

/* One pass over the image; with fix bits it repairs what it finds. */
static int
run_pass (Qcow2 *q, uint32_t fix, bool quiet, TnCheck *check, Qcow2Walk *walk, GError **error)
{
  *walk =
      (Qcow2Walk){ .q = q, .check = check, .fix = fix, .quiet = quiet, .file_size = tn_node_size (q->file) };
  check->total_clusters = qcow2_clusters (q, q->size);
  check->allocated_clusters = check->compressed_clusters = check->fragmented_clusters = 0;
  walk_begin (walk);
  int ret = walk_image (walk, error);
  check->image_end_offset = walk->end << q->cluster_bits;
  walk_end (walk);
  return ret;
}

/* ---- Counts of another width ---- */

static void
set_order (Qcow2 *q, uint32_t order)
{
  q->header.refcount_order = order;
  q->block_bits = q->cluster_bits + 3 - order;
  q->refcount_max = order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}

static int
rebuild_with_order (Qcow2Walk *walk, uint32_t order, GError **error)
{
  Qcow2 *q = walk->q;
  const uint32_t old = q->header.refcount_order;
  int ret = walk_references (walk, error);
  if (ret < 0) {
    return ret;
  }
  if (walk->corruptions || walk->rebuild) {
    return qcow2_fail (q, error, EIO, "it is damaged: repair it with check -r all first");
  }
  set_order (q, order);
  walk->new_order = true;
  if ((ret = qcow2_rebuild_refcounts (walk, error)) < 0) {
    set_order (q, old);
  }
  return ret;
}

int
qcow2_change_refcount_order (Qcow2 *q, uint32_t order, GError **error)
{
  TnCheck check = { .size = sizeof check };
  Qcow2Walk walk = { .q = q, .check = &check, .quiet = true };
  int ret = qcow2_reftable_load (q, error);
  if (ret < 0 || (ret = qcow2_settle (q, error)) < 0) {
    return ret;
  }
  walk.file_size = tn_node_size (q->file);
  walk_begin (&walk);
  ret = rebuild_with_order (&walk, order, error);
  walk_end (&walk);
  return ret;
}

/* ---- Check ---- */

/* The image is consistent again: whoever opens it next may write. */
static int
clear_marks (Qcow2 *q, GError **error)
{
  if (!(q->header.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))) {
    return 0;
  }
  q->header.incompatible &= ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
  q->corrupt = false;
  int ret = qcow2_header_write_features (q, error);
  return ret < 0 ? ret : qcow2_barrier (q, error);
}

int
qcow2_check_state (Qcow2 *q, uint32_t fix, TnCheck *check, GError **error)
{
  Qcow2Walk first, second;
  int ret = qcow2_reftable_load (q, error);
  if (ret == 0 && q->writable) {
    ret = qcow2_settle (q, error);
  }
  if (ret < 0 || (ret = run_pass (q, q->writable ? fix : 0, false, check, &first, error)) < 0) {
    check->check_errors += ret < 0;
    return ret;
  }
  check->corruptions = first.corruptions;
  check->leaks = first.leaks;
  if (!first.changed) {
    return fix && q->writable && first.corruptions == 0 && check->check_errors == 0 ? clear_marks (q, error)
                                                                                    : 0;
  }
  if ((ret = qcow2_settle (q, error)) < 0 || (ret = run_pass (q, 0, true, check, &second, error)) < 0) {
    return ret;
  }
  check->corruptions = second.corruptions;
  check->leaks = second.leaks;
  check->corruptions_fixed = first.corruptions - MIN (first.corruptions, second.corruptions);
  check->leaks_fixed = first.leaks - MIN (first.leaks, second.leaks);
  if (q->node) {
    tn_node_bump_generation (q->node);
  }
  return second.corruptions == 0 && check->check_errors == 0 ? clear_marks (q, error) : 0;
}

int
qcow2_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (fix && !q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only and cannot be repaired");
  }
  if (q->l1_offset != q->header.l1_offset) {
    return qcow2_fail (q, error, EINVAL, "check works on the whole image, not on a snapshot");
  }
  return qcow2_check_state (q, fix, check, error);
}
