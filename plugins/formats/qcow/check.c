/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: follows every table entry and looks for places that cannot be or that are used twice.  Room between
 * others that nothing uses is ordinary in this format; only what lies behind all that is used counts as
 * leaked.
 *
 * Repair clears entries that cannot be right, gives clusters that are used twice a copy each, and cuts the
 * file off behind the last use.
 */
#include "../common/clusterset.h"
#include "qcow.h"

#include <stdarg.h>

typedef struct QcowWalk {
  Qcow *q;
  TnCheck *check;
  uint32_t fix;
  ClusterSet *used; /* sectors of tables and plain clusters */
  uint64_t end;     /* of all that is used */
  uint64_t last;    /* cluster before, for counting fragments */
} QcowWalk;

static void qcow_report (QcowWalk *walk, bool is_error, const char *format, ...) TN_PRINTF (3, 4);

static void
qcow_report (QcowWalk *walk, bool is_error, const char *format, ...)
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
qcow_use (QcowWalk *walk, uint64_t offset, uint64_t length, GError **error)
{
  const uint64_t first = offset / QCOW_SECTOR, last = (offset + length - 1) / QCOW_SECTOR;
  int ret = cluster_set_add (walk->used, first, last - first + 1);
  if (ret < 0) {
    walk->check->check_errors++;
    return qcow_fail (walk->q, error, ENOMEM, "there is not enough memory to check it");
  }
  walk->end = MAX (walk->end, offset + length);
  return ret;
}

/* Writes an entry anew, when that was asked for. */
static int
qcow_repair (QcowWalk *walk, TnMetaCache *cache, uint32_t slice_bytes, uint64_t at, uint64_t entry,
             GError **error)
{
  int ret = qcow_table_set (cache, slice_bytes, at, entry, error);
  if (ret == 0) {
    walk->check->corruptions--;
    walk->check->corruptions_fixed++;
  }
  return ret;
}

static int
qcow_separate (QcowWalk *walk, uint64_t at, uint64_t entry, GError **error)
{
  Qcow *q = walk->q;
  uint64_t copy;
  walk->check->corruptions++;
  qcow_report (walk, true, "ERROR cluster at 0x%" PRIx64 ": used again by the L2 entry at 0x%" PRIx64, entry,
               at);
  if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
    return 0;
  }
  g_autofree uint8_t *bytes = g_malloc (q->cluster_size);
  int ret = qcow_alloc (q, q->cluster_size, q->cluster_size, &copy, error);
  if (ret < 0 || (ret = tn_node_read (q->file, entry, bytes, q->cluster_size, error)) < 0
      || (ret = tn_node_write (q->file, copy, bytes, q->cluster_size, error)) < 0
      || (ret = qcow_use (walk, copy, q->cluster_size, error)) < 0) {
    return ret;
  }
  return qcow_repair (walk, q->l2_cache, q->slice_bytes, at, copy, error);
}

static int
qcow_walk_cluster (QcowWalk *walk, uint64_t at, uint64_t entry, GError **error)
{
  Qcow *q = walk->q;
  if (!qcow_valid_entry (q, entry)) {
    walk->check->corruptions++;
    qcow_report (walk, true, "ERROR the L2 entry at 0x%" PRIx64 " is 0x%" PRIx64 ", where no cluster can be",
                 at, entry);
    return walk->fix & TN_CHECK_FIX_ERRORS ? qcow_repair (walk, q->l2_cache, q->slice_bytes, at, 0, error)
                                           : 0;
  }
  walk->check->allocated_clusters++;
  if (entry & QCOW_PACKED) {
    uint64_t offset, length;
    qcow_packed_place (q, entry, &offset, &length);
    walk->end = MAX (walk->end, offset + length);
    walk->check->compressed_clusters++;
    return 0; /* several may share a sector */
  }
  if (walk->last && walk->last + q->cluster_size != entry) {
    walk->check->fragmented_clusters++;
  }
  walk->last = entry;
  int twice = qcow_use (walk, entry, q->cluster_size, error);
  return twice > 0 ? qcow_separate (walk, at, entry, error) : twice;
}

static int
qcow_walk_l2 (QcowWalk *walk, uint64_t table, GError **error)
{
  Qcow *q = walk->q;
  g_autofree uint8_t *entries = g_malloc (q->l2_bytes);
  int ret = tn_node_read (q->file, table, entries, q->l2_bytes, error);
  if (ret < 0) {
    walk->check->check_errors++;
  }
  for (uint64_t at = 0; ret >= 0 && at < q->l2_bytes; at += 8) {
    const uint64_t entry = tn_load_be64 (entries + at);
    ret = entry ? qcow_walk_cluster (walk, table + at, entry, error) : 0;
  }
  return ret;
}

static int
qcow_walk_table (QcowWalk *walk, uint64_t at, uint64_t table, GError **error)
{
  Qcow *q = walk->q;
  const bool valid = qcow_valid_table (q, table);
  int twice = valid ? qcow_use (walk, table, q->l2_bytes, error) : 1;
  if (twice <= 0) {
    return twice < 0 ? twice : qcow_walk_l2 (walk, table, error);
  }
  walk->check->corruptions++;
  qcow_report (walk, true, "ERROR the L1 entry at 0x%" PRIx64 " is 0x%" PRIx64 ", %s", at, table,
               valid ? "where something else is" : "where no L2 table can be");
  return walk->fix & TN_CHECK_FIX_ERRORS ? qcow_repair (walk, q->l1_cache, QCOW_SECTOR, at, 0, error) : 0;
}

static int
qcow_walk_image (QcowWalk *walk, GError **error)
{
  Qcow *q = walk->q;
  enum { CHUNK = 65536 };
  const uint64_t l1 = q->header.l1_offset, l1_end = l1 + q->l1_entries * 8;
  g_autofree uint8_t *chunk = g_malloc (CHUNK);
  /* These may share a sector. */
  int ret = qcow_use (walk, 0, QCOW_HEADER_BYTES, error);
  if (ret >= 0 && l1_end > l1) {
    ret = qcow_use (walk, l1, l1_end - l1, error);
  }
  /* Also a name that is empty: what the header points to must stay within the file. */
  if (ret >= 0 && q->header.backing_offset && q->header.backing_length) {
    ret = qcow_use (walk, q->header.backing_offset, q->header.backing_length, error);
  }
  for (uint64_t at = l1; ret >= 0 && at < l1_end; at += CHUNK) {
    const uint64_t n = MIN (CHUNK, l1_end - at);
    if ((ret = tn_node_read (q->file, at, chunk, n, error)) < 0) {
      walk->check->check_errors++;
    }
    for (uint64_t i = 0; ret >= 0 && i < n; i += 8) {
      const uint64_t table = tn_load_be64 (chunk + i);
      ret = table ? qcow_walk_table (walk, at + i, table, error) : 0;
    }
  }
  return MIN (ret, 0);
}

static int
qcow_walk_leaks (QcowWalk *walk, GError **error)
{
  Qcow *q = walk->q;
  const uint64_t end = (walk->end + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1);
  const uint64_t leaked =
      q->space.end > end ? (q->space.end - end + q->cluster_size - 1) >> q->cluster_bits : 0;
  walk->check->leaks = leaked;
  if (leaked == 0) {
    return 0;
  }
  qcow_report (walk, false, "%" PRIu64 " clusters at the end of the file are not used by anything", leaked);
  if (!(walk->fix & TN_CHECK_FIX_LEAKS)) {
    return 0;
  }
  /* What was dropped must be forgotten on the disk before its place goes. */
  int ret = qcow_sync (q, error);
  if (ret == 0) {
    tail_space_reset (&q->space, end);
    ret = tail_space_cut (&q->space, q->file, error);
  }
  if (ret == 0) {
    walk->check->leaks = 0;
    walk->check->leaks_fixed += leaked;
  }
  return ret;
}

int
qcow_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Qcow *q = tn_node_state (node);
  g_autoptr (ClusterSet) used = cluster_set_new ();
  QcowWalk walk = { .q = q, .check = check, .fix = fix, .used = used };
  check->total_clusters = (q->size + q->cluster_size - 1) >> q->cluster_bits;
  int ret = fix ? qcow_need_writable (q, error) : 0;
  if (ret == 0 && q->writable) {
    ret = qcow_sync (q, error);
  }
  if (ret < 0 || (ret = qcow_walk_image (&walk, error)) < 0 || (ret = qcow_walk_leaks (&walk, error)) < 0) {
    return ret;
  }
  check->image_end_offset = walk.end;
  tn_node_bump_generation (node);
  return q->writable ? qcow_sync (q, error) : 0;
}
