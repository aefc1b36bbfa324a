/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Check: L1 and L2 tables. */
#include "check.h"

/* ---- L1 tables ---- */

static const char *
l1_fault (Qcow2Walk *walk, uint64_t entry)
{
  const Qcow2 *q = walk->q;
  const uint64_t table = entry & QCOW2_OFFSET_MASK;
  if (entry & QCOW2_L1_RESERVED) {
    return "has reserved bits set";
  }
  if (table == 0 || (table & (q->cluster_size - 1))) {
    return "is not cluster aligned";
  }
  if (table >= walk->file_size) {
    return "points beyond the end of the file";
  }
  return qcow2_walk_is_metadata (walk, table, q->cluster_size) ? "points to other metadata" : NULL;
}

static int
clear_l1_entry (Qcow2Walk *walk, bool active, uint64_t l1_offset, uint64_t index, GError **error)
{
  Qcow2 *q = walk->q;
  static const uint8_t zero[8];
  if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
    return 0;
  }
  walk->changed = true;
  return active ? qcow2_l1_set (q, index, 0, error)
                : tn_node_write (q->file, l1_offset + index * 8, zero, sizeof zero, error);
}

/* false: this L1 table refers to that L2 table a second time. */
static bool
note_table (Qcow2Walk *walk, uint64_t offset, uint64_t index, bool active, GHashTable *seen)
{
  const Qcow2 *q = walk->q;
  Qcow2Table *table = g_hash_table_lookup (walk->tables, &offset);
  if (table == NULL) {
    table = g_new0 (Qcow2Table, 1);
    table->offset = offset;
    table->guest = index << (q->cluster_bits + q->l2_bits);
    g_hash_table_insert (walk->tables, &table->offset, table);
  }
  if (!g_hash_table_add (seen, &table->offset)) {
    return false;
  }
  if (active) {
    table->active = true;
    table->guest = index << (q->cluster_bits + q->l2_bits);
  }
  table->weight++;
  return true;
}

static int
walk_l1 (Qcow2Walk *walk, const uint64_t *l1, uint32_t size, uint64_t offset, bool active, GError **error)
{
  g_autoptr (GHashTable) seen = g_hash_table_new (g_int64_hash, g_int64_equal);
  int ret = qcow2_walk_count (walk, offset, size * 8ull, 1, error);
  for (uint64_t i = 0; ret == 0 && i < size; i++) {
    const uint64_t entry = l1[i], table = entry & QCOW2_OFFSET_MASK;
    if (entry == 0) {
      continue;
    }
    const char *fault = l1_fault (walk, entry);
    if (fault == NULL && !note_table (walk, table, i, active, seen)) {
      fault = "points to an L2 table that another entry uses";
    }
    if (fault) {
      qcow2_walk_corruption (walk, "ERROR L1 table at 0x%" PRIx64 ": entry %" PRIu64 " (0x%016" PRIx64 ") %s",
                             offset, i, entry, fault);
      ret = clear_l1_entry (walk, active, offset, i, error);
      continue;
    }
    ret = qcow2_walk_count (walk, table, walk->q->cluster_size, 1, error);
  }
  return ret;
}

static int
walk_snapshots (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  int ret = qcow2_walk_count (walk, q->header.snapshots_offset, q->snapshots_length, 1, error);
  if (ret == 0) {
    ret = qcow2_walk_count (walk, q->crypt_offset, q->crypt_length, 1, error);
  }
  for (uint32_t i = 0; ret == 0 && i < q->snapshot_count; i++) {
    const Qcow2Snapshot *s = &q->snapshots[i];
    g_autofree uint64_t *l1 = g_try_malloc (MAX (s->l1_size * 8ull, 8));
    if (l1 == NULL) {
      return qcow2_fail (q, error, ENOMEM, "no memory for the L1 table of snapshot %u", i);
    }
    if (s->l1_size && (ret = tn_node_read (q->file, s->l1_offset, l1, s->l1_size * 8ull, error)) < 0) {
      return ret;
    }
    for (uint32_t j = 0; j < s->l1_size; j++) {
      l1[j] = GUINT64_FROM_BE (l1[j]);
    }
    ret = walk_l1 (walk, l1, s->l1_size, s->l1_offset, false, error);
  }
  return ret;
}

/* ---- L2 tables ---- */

static const char *
place_fault (Qcow2Walk *walk, uint64_t offset, uint64_t length)
{
  const Qcow2 *q = walk->q;
  if (offset + length >= walk->file_size + q->cluster_size) {
    return "points beyond the end of the file";
  }
  if (qcow2_walk_is_metadata (walk, offset, length)) {
    return "points to metadata";
  }
  for (uint64_t at = offset & ~(uint64_t) (q->cluster_size - 1); at < offset + length;
       at += q->cluster_size) {
    if (g_hash_table_contains (walk->tables, &at)) {
      return "points to an L2 table";
    }
  }
  return NULL;
}

static const char *
l2_fault (Qcow2Walk *walk, Qcow2Entry entry, uint64_t guest)
{
  const Qcow2 *q = walk->q;
  const uint32_t allocated = (uint32_t) entry.bitmap;
  const unsigned sub = q->extended && allocated ? (unsigned) __builtin_ctz (allocated) : 0;
  const Qcow2Kind kind = qcow2_entry_kind (q, entry, guest, sub);
  if (kind == QCOW2_KIND_INVALID) {
    return "cannot be right";
  }
  if (kind == QCOW2_KIND_PACKED) {
    uint64_t place, length;
    qcow2_packed_place (q, entry.raw, &place, &length);
    return place > q->packed_offset_mask ? "points beyond the end of the file"
                                         : place_fault (walk, place, length);
  }
  const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
  return host && !q->external ? place_fault (walk, host, q->cluster_size) : NULL;
}

/* Without bits that must not be set; nothing at all when that does not help. */
static Qcow2Entry
repaired_entry (Qcow2Walk *walk, Qcow2Entry entry, uint64_t guest)
{
  const Qcow2 *q = walk->q;
  const uint64_t extra = q->extended || q->header.version < 3 ? QCOW2_ZERO : 0;
  Qcow2Entry tried = entry;
  if (entry.raw & QCOW2_COMPRESSED) {
    tried = (Qcow2Entry){ entry.raw & ~QCOW2_COPIED, 0 };
  } else {
    tried.raw &= ~(QCOW2_L2_RESERVED | extra);
    tried.bitmap &= ~(entry.bitmap << 32);
  }
  if (l2_fault (walk, tried, guest) == NULL) {
    return tried;
  }
  if (q->extended) {
    return (Qcow2Entry){ 0, (uint64_t) UINT32_MAX << 32 };
  }
  return (Qcow2Entry){ q->header.version < 3 ? 0 : QCOW2_ZERO, 0 };
}

typedef struct Statistics {
  uint64_t next; /* where an unfragmented disk would go on */
} Statistics;

static void
count_statistics (Qcow2Walk *walk, Qcow2Entry entry, Statistics *statistics)
{
  const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
  if (entry.raw & QCOW2_COMPRESSED) {
    walk->check->allocated_clusters++;
    walk->check->compressed_clusters++;
    walk->check->fragmented_clusters++;
    return;
  }
  if (host == 0 && !(walk->q->external && (entry.raw & QCOW2_COPIED))) {
    return;
  }
  walk->check->allocated_clusters++;
  if (statistics->next && host != statistics->next) {
    walk->check->fragmented_clusters++;
  }
  statistics->next = host + walk->q->cluster_size;
}

static int
count_entry (Qcow2Walk *walk, const Qcow2Table *table, Qcow2Entry entry, GError **error)
{
  const Qcow2 *q = walk->q;
  const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
  if (entry.raw & QCOW2_COMPRESSED) {
    uint64_t place, length;
    qcow2_packed_place (q, entry.raw, &place, &length);
    return qcow2_walk_count (walk, place, length, table->weight, error);
  }
  return host && !q->external ? qcow2_walk_count (walk, host, q->cluster_size, table->weight, error) : 0;
}

static int
walk_l2_slice (Qcow2Walk *walk, const Qcow2Table *table, uint64_t at, uint64_t *guest, Statistics *statistics,
               GError **error)
{
  Qcow2 *q = walk->q;
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l2_cache, table->offset + at, &slice, error);
  if (ret < 0) {
    return ret;
  }
  for (unsigned i = 0; ret == 0 && i < qcow2_slice_entries (q); i++, *guest += q->cluster_size) {
    Qcow2Entry entry = qcow2_entry_load (q, tn_meta_data (slice), i);
    if (entry.raw == 0 && entry.bitmap == 0) {
      continue;
    }
    const char *fault = l2_fault (walk, entry, *guest);
    if (fault) {
      qcow2_walk_corruption (walk,
                             "ERROR L2 table at 0x%" PRIx64 ": the entry 0x%016" PRIx64
                             " of guest offset 0x%" PRIx64 " %s",
                             table->offset, entry.raw, *guest, fault);
      if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
        continue;
      }
      entry = repaired_entry (walk, entry, *guest);
      qcow2_entry_store (q, tn_meta_data (slice), i, entry);
      tn_meta_dirty (slice);
      walk->changed = true;
    }
    if (table->active) {
      count_statistics (walk, entry, statistics);
    }
    ret = count_entry (walk, table, entry, error);
  }
  tn_meta_put (slice);
  return ret;
}

static gint
compare_tables (gconstpointer a, gconstpointer b)
{
  const Qcow2Table *one = *(Qcow2Table *const *) a, *two = *(Qcow2Table *const *) b;
  return one->guest < two->guest ? -1 : one->guest > two->guest;
}

static GPtrArray *
sorted_tables (Qcow2Walk *walk)
{
  GPtrArray *tables = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer table;
  g_hash_table_iter_init (&iter, walk->tables);
  while (g_hash_table_iter_next (&iter, NULL, &table)) {
    g_ptr_array_add (tables, table);
  }
  g_ptr_array_sort (tables, compare_tables);
  return tables;
}

static int
walk_l2 (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  g_autoptr (GPtrArray) tables = sorted_tables (walk);
  int ret = 0;
  for (guint i = 0; ret == 0 && i < tables->len; i++) {
    const Qcow2Table *table = tables->pdata[i];
    uint64_t guest = table->guest;
    Statistics statistics = { 0 };
    for (uint64_t at = 0; ret == 0 && at < q->cluster_size; at += 1ull << q->slice_bits) {
      ret = walk_l2_slice (walk, table, at, &guest, &statistics, error);
    }
  }
  return ret;
}

int
qcow2_walk_tables (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  int ret = walk_l1 (walk, q->l1, q->l1_size, q->l1_offset, true, error);
  if (ret == 0) {
    ret = walk_snapshots (walk, error);
  }
  return ret < 0 ? ret : walk_l2 (walk, error);
}

/* ---- Flags ---- */

static int
check_l1_flag (Qcow2Walk *walk, uint64_t index, GError **error)
{
  Qcow2 *q = walk->q;
  const uint64_t entry = q->l1[index];
  uint64_t count;
  int ret = qcow2_refcount_get (q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, &count, error);
  if (ret < 0 || (count == 1) == !!(entry & QCOW2_COPIED)) {
    return ret;
  }
  qcow2_walk_corruption (
      walk, "ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64 " refcount=%" PRIu64,
      index, entry, count);
  if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
    return 0;
  }
  walk->changed = true;
  return qcow2_l1_set (q, index, entry ^ QCOW2_COPIED, error);
}

static int
check_l2_flags (Qcow2Walk *walk, uint64_t offset, GError **error)
{
  Qcow2 *q = walk->q;
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l2_cache, offset, &slice, error);
  if (ret < 0) {
    return ret;
  }
  for (unsigned i = 0; ret == 0 && i < qcow2_slice_entries (q); i++) {
    Qcow2Entry entry = qcow2_entry_load (q, tn_meta_data (slice), i);
    const uint64_t host = entry.raw & QCOW2_OFFSET_MASK;
    uint64_t count;
    if ((entry.raw & QCOW2_COMPRESSED) || host == 0) {
      continue;
    }
    if ((ret = qcow2_refcount_get (q, host >> q->cluster_bits, &count, error)) < 0
        || (count == 1) == !!(entry.raw & QCOW2_COPIED)) {
      continue;
    }
    qcow2_walk_corruption (walk, "ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                           entry.raw, count);
    if (walk->fix & TN_CHECK_FIX_ERRORS) {
      entry.raw ^= QCOW2_COPIED;
      qcow2_entry_store (q, tn_meta_data (slice), i, entry);
      tn_meta_dirty (slice);
      walk->changed = true;
    }
  }
  tn_meta_put (slice);
  return ret;
}

int
qcow2_walk_copied (Qcow2Walk *walk, GError **error)
{
  Qcow2 *q = walk->q;
  int ret = 0;
  for (uint64_t i = 0; ret == 0 && i < q->l1_size; i++) {
    const uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK;
    if (q->l1[i] == 0 || !g_hash_table_contains (walk->tables, &table)) {
      continue;
    }
    ret = check_l1_flag (walk, i, error);
    for (uint64_t at = 0; ret == 0 && !q->external && at < q->cluster_size; at += 1ull << q->slice_bits) {
      ret = check_l2_flags (walk, table + at, error);
    }
  }
  return ret;
}
