/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Check: the refcount structures, compared with what was counted, corrected or made anew. */
#include "check.h"

/* ---- The structures themselves ---- */

static const char *
block_fault (Qcow2Walk *walk, uint64_t entry)
{
  const Qcow2 *q = walk->q;
  if (entry & (q->cluster_size - 1)) {
    return "is not cluster aligned";
  }
  if (entry >= walk->file_size) {
    return "points beyond the end of the file";
  }
  return qcow2_walk_is_metadata (walk, entry, q->cluster_size) ? "points to other metadata" : NULL;
}

int
qcow2_walk_refcounts (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  const uint64_t bytes = (uint64_t) q->header.reftable_clusters << q->cluster_bits;
  if (bytes == 0 || q->header.reftable_offset == 0 || q->header.reftable_offset >= walk->file_size) {
    qcow2_walk_corruption (walk, "ERROR there is no refcount table");
    walk->rebuild = true;
    return 0;
  }
  int ret = qcow2_walk_count (walk, q->header.reftable_offset, bytes, 1, error);
  for (uint32_t i = 0; ret == 0 && i < q->reftable_size; i++) {
    const uint64_t entry = q->reftable[i];
    const char *fault = entry ? block_fault (walk, entry) : NULL;
    if (fault) {
      qcow2_walk_corruption (walk, "ERROR refcount table entry %u (0x%016" PRIx64 ") %s", i, entry, fault);
      walk->rebuild = true;
      q->reftable[i] = 0; /* for this check: it can't be used */
      continue;
    }
    if (entry) {
      g_hash_table_add (walk->blocks, g_memdup2 (&entry, sizeof entry));
      ret = qcow2_walk_count (walk, entry, q->cluster_size, 1, error);
    }
  }
  return ret;
}

/* ---- Comparing ---- */

typedef enum Pass { PASS_REPORT, PASS_RAISE, PASS_LOWER } Pass;

static void
report_difference (Qcow2Walk *walk, uint64_t cluster, uint64_t kept, uint64_t counted)
{
  if (kept > counted) {
    qcow2_walk_leak (walk, "Leaked cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster,
                     kept, counted);
  } else {
    qcow2_walk_corruption (walk, "ERROR cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster,
                           kept, counted);
  }
}

static void
compare_one (Qcow2Walk *walk, Pass pass, uint64_t cluster, TnMetaSlice *slice, uint64_t index)
{
  Qcow2 *q = walk->q;
  const unsigned order = q->header.refcount_order;
  const uint64_t kept = slice ? qcow2_count_load (tn_meta_data (slice), index, order) : 0;
  const uint64_t counted = qcow2_counts_get (&walk->counts, cluster);
  if (kept || counted) {
    walk->end = MAX (walk->end, cluster + 1);
  }
  if (kept == counted) {
    return;
  }
  if (pass == PASS_REPORT) {
    report_difference (walk, cluster, kept, counted);
    walk->rebuild |= slice == NULL;
    return;
  }
  if (slice && (pass == PASS_RAISE) == (counted > kept) && counted <= q->refcount_max) {
    qcow2_count_store (tn_meta_data (slice), index, order, counted);
    tn_meta_dirty (slice);
    walk->changed = true;
  }
}

static int
compare_block (Qcow2Walk *walk, Pass pass, uint64_t block, GError **error)
{
  Qcow2 *q = walk->q;
  const uint64_t first = block << q->block_bits,
                 per_slice = 1ull << (q->slice_bits + 3 - q->header.refcount_order);
  for (uint64_t at = 0; at < q->cluster_size; at += 1ull << q->slice_bits) {
    TnMetaSlice *slice;
    int ret = tn_meta_get (q->refcount_cache, q->reftable[block] + at, &slice, error);
    if (ret < 0) {
      return ret;
    }
    for (uint64_t i = 0; i < per_slice; i++) {
      compare_one (walk, pass, first + (at >> q->slice_bits) * per_slice + i, slice, i);
    }
    tn_meta_put (slice);
  }
  return 0;
}

/* Clusters that are in use but have no refcount block. */
static void
compare_uncovered (Qcow2Walk *walk, Pass pass)
{
  g_autoptr (GArray) pages = qcow2_counts_pages (&walk->counts);
  for (guint i = 0; i < pages->len; i++) {
    const uint64_t first = g_array_index (pages, uint64_t, i) << QCOW2_COUNTS_PAGE_BITS;
    for (uint64_t at = first; at < first + QCOW2_COUNTS_PAGE; at++) {
      if (!qcow2_refcount_covered (walk->q, at)) {
        compare_one (walk, pass, at, NULL, 0);
      }
    }
  }
}

static int
compare_all (Qcow2Walk *walk, Pass pass, GError **error)
{
  int ret = 0;
  for (uint32_t i = 0; ret == 0 && i < walk->q->reftable_size; i++) {
    if (walk->q->reftable[i]) {
      ret = compare_block (walk, pass, i, error);
    }
  }
  if (ret == 0) {
    compare_uncovered (walk, pass);
  }
  return ret;
}

int
qcow2_walk_compare (Qcow2Walk *walk, GError **error)
{
  const uint64_t leaks = walk->leaks;
  int ret = compare_all (walk, PASS_REPORT, error);
  if (ret < 0 || walk->rebuild) {
    return ret;
  }
  if ((walk->fix & TN_CHECK_FIX_ERRORS) && walk->corruptions) {
    if ((ret = compare_all (walk, PASS_RAISE, error)) < 0) {
      return ret;
    }
  }
  if ((walk->fix & TN_CHECK_FIX_LEAKS) && walk->leaks > leaks) {
    /* What refers to these clusters no more must be gone from the disk first. */
    if ((ret = qcow2_sync (walk->q, error)) < 0) {
      return ret;
    }
    ret = compare_all (walk, PASS_LOWER, error);
    walk->q->free_hint = 0;
  }
  return ret;
}

/* ---- Made anew ---- */

typedef struct Plan {
  GTree *blocks; /* number of a refcount block (uint64_t *) in order */
  uint64_t start, block_count, table_clusters;
} Plan;

static gint
compare_numbers (gconstpointer a, gconstpointer b, gpointer unused)
{
  const uint64_t one = *(const uint64_t *) a, two = *(const uint64_t *) b;
  return one < two ? -1 : one > two;
}

static void
need_block (Plan *plan, uint64_t number)
{
  if (g_tree_lookup (plan->blocks, &number) == NULL) {
    g_tree_insert (plan->blocks, g_memdup2 (&number, sizeof number), GINT_TO_POINTER (1));
  }
}

static uint64_t
last_block (Plan *plan)
{
  GTreeNode *node = g_tree_node_last (plan->blocks);
  return node ? *(const uint64_t *) g_tree_node_key (node) : 0;
}

static void
need_blocks_in_use (Qcow2Walk *walk, Plan *plan)
{
  g_autoptr (GArray) pages = qcow2_counts_pages (&walk->counts);
  for (guint i = 0; i < pages->len; i++) {
    const uint64_t first = g_array_index (pages, uint64_t, i) << QCOW2_COUNTS_PAGE_BITS;
    for (uint64_t at = first; at < first + QCOW2_COUNTS_PAGE; at++) {
      if (qcow2_counts_get (&walk->counts, at)) {
        need_block (plan, at >> walk->q->block_bits);
      }
    }
  }
}

/* The new structures go behind all that is in use; their own clusters need counts too. */
static int
plan_rebuild (Qcow2Walk *walk, Plan *plan, GError **error)
{
  Qcow2 *q = walk->q;
  plan->start = MAX (walk->counts.end, qcow2_clusters (q, walk->file_size));
  need_blocks_in_use (walk, plan);
  uint64_t total = 0;
  for (;;) {
    const uint64_t per_cluster = q->cluster_size / 8;
    plan->block_count = (uint64_t) g_tree_nnodes (plan->blocks);
    plan->table_clusters = (last_block (plan) + per_cluster) / per_cluster;
    if (plan->block_count + plan->table_clusters == total) {
      break;
    }
    total = plan->block_count + plan->table_clusters;
    if (plan->table_clusters << q->cluster_bits > MAX (QCOW2_MAX_REFTABLE_BYTES, q->cluster_size)
        || plan->start + total > QCOW2_OFFSET_MASK >> q->cluster_bits) {
      return qcow2_fail (q, error, EFBIG, "its new refcount table would be too large");
    }
    for (uint64_t at = plan->start; at < plan->start + total; at++) {
      need_block (plan, at >> q->block_bits);
    }
  }
  if (qcow2_counts_add (&walk->counts, plan->start, total, 1)) {
    return 0;
  }
  return qcow2_fail (q, error, ENOMEM, "there is not enough memory to count references");
}

static int
write_block (Qcow2Walk *walk, uint64_t number, uint64_t offset, uint8_t *buffer, GError **error)
{
  Qcow2 *q = walk->q;
  const uint64_t first = number << q->block_bits;
  memset (buffer, 0, q->cluster_size);
  for (uint64_t i = 0; i < 1ull << q->block_bits; i++) {
    const uint64_t count = qcow2_counts_get (&walk->counts, first + i);
    if (count > q->refcount_max) {
      return qcow2_fail (q, error, ERANGE,
                         "%" PRIu64 " references to one cluster are more than its counts can hold", count);
    }
    qcow2_count_store (buffer, i, q->header.refcount_order, count);
  }
  return tn_node_write (q->file, offset, buffer, q->cluster_size, error);
}

static int
write_structures (Qcow2Walk *walk, Plan *plan, GError **error)
{
  Qcow2 *q = walk->q;
  const uint64_t table_bytes = plan->table_clusters << q->cluster_bits;
  uint64_t at = plan->start << q->cluster_bits;
  g_autofree uint64_t *table = g_try_malloc0 (table_bytes);
  g_autofree uint8_t *buffer = g_try_malloc (q->cluster_size);
  if (table == NULL || buffer == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for a refcount table of %" PRIu64 " bytes", table_bytes);
  }
  for (GTreeNode *node = g_tree_node_first (plan->blocks); node; node = g_tree_node_next (node)) {
    const uint64_t number = *(const uint64_t *) g_tree_node_key (node);
    int ret = write_block (walk, number, at, buffer, error);
    if (ret < 0) {
      return ret;
    }
    table[number] = GUINT64_TO_BE (at);
    at += q->cluster_size;
  }
  return tn_node_write (q->file, at, table, table_bytes, error);
}

/* The old structures count for nothing any more. */
static void
uncount_structures (Qcow2Walk *walk)
{
  Qcow2 *q = walk->q;
  GHashTableIter iter;
  gpointer offset;
  if (q->header.reftable_clusters && q->header.reftable_offset
      && q->header.reftable_offset < walk->file_size) {
    qcow2_counts_drop (&walk->counts, q->header.reftable_offset >> q->cluster_bits,
                       q->header.reftable_clusters);
  }
  for (uint32_t i = 0; i < q->reftable_size; i++) {
    if (q->reftable[i]) {
      qcow2_counts_drop (&walk->counts, q->reftable[i] >> q->cluster_bits, 1);
    }
  }
  g_hash_table_iter_init (&iter, walk->blocks);
  while (g_hash_table_iter_next (&iter, &offset, NULL)) {
    g_hash_table_iter_remove (&iter);
  }
}

static int
switch_to (Qcow2Walk *walk, const Plan *plan, GError **error)
{
  Qcow2 *q = walk->q;
  const Qcow2Header old = q->header;
  int ret = qcow2_barrier (q, error);
  if (ret < 0) {
    return ret;
  }
  q->header.reftable_offset = (plan->start + plan->block_count) << q->cluster_bits;
  q->header.reftable_clusters = (uint32_t) plan->table_clusters;
  ret = walk->new_order ? qcow2_header_write (q, error) : qcow2_header_write_tables (q, error);
  if (ret < 0 || (ret = qcow2_barrier (q, error)) < 0) {
    q->header = old;
    return ret;
  }
  tn_meta_drop (q->refcount_cache);
  tn_meta_drop (q->reftable_cache);
  g_clear_pointer (&q->reftable, g_free);
  q->reftable_size = 0;
  q->free_hint = 0;
  q->packed_next = 0;
  q->end_cluster = MAX (q->end_cluster, plan->start + plan->block_count + plan->table_clusters);
  walk->changed = true;
  return qcow2_reftable_load (q, error);
}

int
qcow2_rebuild_refcounts (Qcow2Walk *walk, GError **error)
{
  Plan plan = { .blocks = g_tree_new_full (compare_numbers, NULL, g_free, NULL) };
  int ret = qcow2_sync (walk->q, error);
  if (ret == 0) {
    uncount_structures (walk);
    ret = plan_rebuild (walk, &plan, error);
  }
  if (ret == 0 && (ret = write_structures (walk, &plan, error)) == 0) {
    ret = switch_to (walk, &plan, error);
  }
  g_tree_unref (plan.blocks);
  return ret;
}
