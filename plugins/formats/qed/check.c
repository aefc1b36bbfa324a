/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: follows every table entry and looks for places that cannot be, that are used twice, or not at all.
 *
 * Repair clears entries that cannot be right, gives clusters that are used twice a copy each, and cuts unused
 * clusters off the end of the file.  Unused clusters between others stay: the format cannot record them.
 */
#include "../common/clusterset.h"
#include "qed.h"

#include <stdarg.h>

#define QED_CHUNK 65536u

typedef struct QedWalk {
  Qed *q;
  TnCheck *check;
  uint32_t fix;
  ClusterSet *used;
} QedWalk;

static void qed_report (QedWalk *walk, bool is_error, const char *format, ...) TN_PRINTF (3, 4);

static void
qed_report (QedWalk *walk, bool is_error, const char *format, ...)
{
  va_list args;
  if (walk->check->report == NULL) {
    return;
  }
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  walk->check->report (line, is_error, walk->check->opaque);
}

static int
qed_use (QedWalk *walk, uint64_t offset, uint64_t length, GError **error)
{
  Qed *q = walk->q;
  int ret = cluster_set_add (walk->used, offset >> q->cluster_bits, length >> q->cluster_bits);
  if (ret < 0) {
    walk->check->check_errors++;
    return qed_fail (q, error, ENOMEM, "there is not enough memory to check it");
  }
  return ret;
}

/* Sets an entry of the table at @table through @cache. */
static int
qed_repair_entry (Qed *q, TnMetaCache *cache, uint64_t table, uint64_t index, uint64_t entry, GError **error)
{
  const uint64_t at = table + index * 8, start = at & ~(uint64_t) (QED_SLICE - 1);
  TnMetaSlice *slice;
  int ret = tn_meta_get (cache, start, &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (cache);
  tn_store_le64 ((uint8_t *) tn_meta_data (slice) + (at - start), entry);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

/* An entry that cannot be right: nothing is there. */
static int
qed_drop_entry (QedWalk *walk, TnMetaCache *cache, uint64_t table, uint64_t index, GError **error)
{
  walk->check->corruptions++;
  if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
    return 0;
  }
  int ret = qed_repair_entry (walk->q, cache, table, index, QED_ENTRY_NONE, error);
  if (ret == 0) {
    walk->check->corruptions--;
    walk->check->corruptions_fixed++;
  }
  return ret;
}

/* Gives the second user of a cluster a copy. */
static int
qed_copy_cluster (Qed *q, uint64_t from, uint64_t *to, GError **error)
{
  g_autofree uint8_t *bytes = g_try_malloc (MIN (q->cluster_size, 1u << 20));
  const uint64_t step = MIN (q->cluster_size, 1u << 20);
  if (bytes == NULL) {
    return qed_fail (q, error, ENOMEM, "no memory to copy a cluster");
  }
  int ret = qed_alloc (q, 1, to, error);
  for (uint64_t at = 0; ret == 0 && at < q->cluster_size; at += step) {
    if ((ret = tn_node_read (q->file, from + at, bytes, step, error)) == 0) {
      ret = tn_node_write (q->file, *to + at, bytes, step, error);
    }
  }
  return ret;
}

static int
qed_separate (QedWalk *walk, uint64_t table, uint64_t index, uint64_t cluster, GError **error)
{
  Qed *q = walk->q;
  uint64_t copy;
  walk->check->corruptions++;
  qed_report (walk, true,
              "ERROR cluster at 0x%" PRIx64 ": used again by entry %" PRIu64 " of the L2 table at 0x%" PRIx64,
              cluster, index, table);
  /* Only who asks for a repair wants the file to grow. */
  if (!(walk->fix & TN_CHECK_FIX_ERRORS) || !(q->flags & TN_OPEN_CHECK)) {
    return 0;
  }
  int ret = qed_copy_cluster (q, cluster, &copy, error);
  if (ret < 0 || (ret = qed_repair_entry (q, q->l2_cache, table, index, copy, error)) < 0
      || (ret = qed_use (walk, copy, q->cluster_size, error)) < 0) {
    return ret;
  }
  walk->check->corruptions--;
  walk->check->corruptions_fixed++;
  return 0;
}

static int
qed_walk_l2_entry (QedWalk *walk, uint64_t table, uint64_t index, uint64_t entry, uint64_t *last,
                   GError **error)
{
  Qed *q = walk->q;
  if (entry <= QED_ENTRY_ZERO) {
    return 0;
  }
  if (!qed_valid_cluster (q, entry)) {
    qed_report (walk, true,
                "ERROR entry %" PRIu64 " of the L2 table at 0x%" PRIx64 " is 0x%" PRIx64
                ", where no cluster can be",
                index, table, entry);
    return qed_drop_entry (walk, q->l2_cache, table, index, error);
  }
  walk->check->allocated_clusters++;
  if (*last && *last + q->cluster_size != entry) {
    walk->check->fragmented_clusters++;
  }
  *last = entry;
  int twice = qed_use (walk, entry, q->cluster_size, error);
  return twice > 0 ? qed_separate (walk, table, index, entry, error) : twice;
}

/* Calls @visit with the entries of a table that are not 0, as they are on the disk. */
static int
qed_walk_table (QedWalk *walk, uint64_t table, uint64_t entries,
                int (*visit) (QedWalk *walk, uint64_t table, uint64_t index, uint64_t entry, uint64_t *last,
                              GError **error),
                GError **error)
{
  g_autofree uint8_t *chunk = g_malloc (QED_CHUNK);
  uint64_t last = 0;
  for (uint64_t index = 0; index < entries; index += QED_CHUNK / 8) {
    const uint64_t n = MIN (QED_CHUNK / 8, entries - index);
    int ret = tn_node_read (walk->q->file, table + index * 8, chunk, n * 8, error);
    if (ret < 0) {
      walk->check->check_errors++;
      return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
      const uint64_t entry = tn_load_le64 (chunk + i * 8);
      if (entry && (ret = visit (walk, table, index + i, entry, &last, error)) < 0) {
        return ret;
      }
    }
  }
  return 0;
}

static int
qed_walk_l1_entry (QedWalk *walk, uint64_t l1, uint64_t index, uint64_t entry, uint64_t *last, GError **error)
{
  Qed *q = walk->q;
  if (!qed_valid_table (q, entry) || entry == l1) {
    qed_report (walk, true,
                "ERROR entry %" PRIu64 " of the L1 table is 0x%" PRIx64 ", where no L2 table can be", index,
                entry);
    return qed_drop_entry (walk, q->l1_cache, l1, index, error);
  }
  int twice = qed_use (walk, entry, q->table_bytes, error);
  if (twice > 0) {
    qed_report (walk, true,
                "ERROR L2 table at 0x%" PRIx64 ": used again by entry %" PRIu64 " of the L1 table", entry,
                index);
    return qed_drop_entry (walk, q->l1_cache, l1, index, error);
  }
  return twice < 0 ? twice : qed_walk_table (walk, entry, 1ull << q->table_bits, qed_walk_l2_entry, error);
}

/* ---- Leaks ---- */

static int
qed_count_leaks (QedWalk *walk, GError **error)
{
  Qed *q = walk->q;
  const uint64_t clusters = q->space.end >> q->cluster_bits, used = cluster_set_count (walk->used);
  const uint64_t last = cluster_set_end (walk->used);
  walk->check->leaks = clusters > used ? clusters - used : 0;
  if (walk->check->leaks == 0) {
    return 0;
  }
  qed_report (walk, false, "%" PRIu64 " clusters are not used by anything", walk->check->leaks);
  if (!(walk->fix & TN_CHECK_FIX_LEAKS) || clusters <= last) {
    return 0;
  }
  /* What was dropped must be forgotten on the disk before its place goes. */
  int ret = qed_sync (q, error);
  if (ret < 0) {
    return ret;
  }
  tail_space_reset (&q->space, last << q->cluster_bits);
  if ((ret = tail_space_cut (&q->space, q->file, error)) < 0) {
    return ret;
  }
  walk->check->leaks -= clusters - last;
  walk->check->leaks_fixed += clusters - last;
  return 0;
}

static int
qed_walk_image (QedWalk *walk, GError **error)
{
  Qed *q = walk->q;
  const QedHeader *h = &q->header;
  int ret = qed_use (walk, 0, (uint64_t) h->header_clusters << q->cluster_bits, error);
  if (ret >= 0) {
    ret = qed_use (walk, h->l1_offset, q->table_bytes, error);
  }
  if (ret >= 0) {
    ret = qed_walk_table (walk, h->l1_offset, 1ull << q->table_bits, qed_walk_l1_entry, error);
  }
  return ret < 0 ? ret : qed_count_leaks (walk, error);
}

/* The tables are right: who opens the image next need not look. */
static int
qed_finish_repair (Qed *q, GError **error)
{
  int ret = qed_sync (q, error);
  if (ret < 0 || !(q->header.features & QED_F_NEED_CHECK)) {
    return ret;
  }
  q->header.features &= ~QED_F_NEED_CHECK;
  ret = qed_header_write (q, error);
  return ret < 0 ? ret : tn_node_flush (q->file, error);
}

int
qed_check_image (Qed *q, uint32_t fix, TnCheck *check, GError **error)
{
  g_autoptr (ClusterSet) used = cluster_set_new ();
  QedWalk walk = { .q = q, .check = check, .fix = fix, .used = used };
  check->total_clusters =
      (q->header.size >> q->cluster_bits) + ((q->header.size & (q->cluster_size - 1)) != 0);
  int ret = q->writable ? qed_sync (q, error) : 0;
  if (ret < 0 || (ret = qed_walk_image (&walk, error)) < 0) {
    return ret;
  }
  tn_node_bump_generation (q->node);
  return fix && check->corruptions == 0 && check->check_errors == 0 ? qed_finish_repair (q, error) : 0;
}

int
qed_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Qed *q = tn_node_state (node);
  int ret = fix ? qed_need_writable (q, error) : 0;
  return ret < 0 ? ret : qed_check_image (q, fix, check, error);
}
