/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making, applying and deleting internal snapshots.
 *
 * A snapshot is an L1 table of its own that shares L2 tables and clusters with the active one.  Each L1 table
 * counts once in all that can be reached through it.  An entry says "copied" when its target has the count 1,
 * so that these flags change along with the counts; meanwhile the image is marked dirty (version 3), and a
 * power cut is repaired by the next who writes.
 */
#include "qcow2.h"

#define ENTRY_FIXED 40u
#define MAX_FREED 4096u

/* ---- Everything below an L1 table ---- */

typedef enum Sharing { SHARE, UNSHARE, MEASURE, SET_FLAGS } Sharing;

static int
count_range (Qcow2 *q, uint64_t offset, uint64_t length, Sharing sharing, GError **error)
{
  const uint64_t first = offset >> q->cluster_bits, last = (offset + length - 1) >> q->cluster_bits;
  uint64_t count;
  int ret = 0;
  if (sharing == SHARE) {
    return qcow2_refcount_add (q, first, last - first + 1, 1, error);
  }
  for (uint64_t at = first; ret == 0 && at <= last; at++) {
    ret = qcow2_refcount_get (q, at, &count, error);
    if (ret == 0 && count >= q->refcount_max) {
      ret = qcow2_fail (q, error, ERANGE,
                        "cluster 0x%" PRIx64
                        " has as many references as %u bits can count: amend refcount_bits",
                        at << q->cluster_bits, 1u << q->header.refcount_order);
    }
  }
  return ret;
}

/* The entry's "copied" flag as it must be, in *entry. */
static int
right_flag (Qcow2 *q, Sharing sharing, Qcow2Entry *entry, GError **error)
{
  const uint64_t host = entry->raw & QCOW2_OFFSET_MASK;
  uint64_t count = 0;
  int ret = 0;
  if ((entry->raw & QCOW2_COMPRESSED) || host == 0) {
    return 0;
  }
  if (sharing == SET_FLAGS) {
    ret = qcow2_refcount_get (q, host >> q->cluster_bits, &count, error);
  }
  entry->raw = (entry->raw & ~QCOW2_COPIED) | (count == 1 ? QCOW2_COPIED : 0);
  return ret;
}

static int
change_entry (Qcow2 *q, Sharing sharing, Qcow2Entry *entry, GError **error)
{
  uint64_t offset = entry->raw & QCOW2_OFFSET_MASK, length = q->cluster_size;
  if (entry->raw & QCOW2_COMPRESSED) {
    qcow2_packed_place (q, entry->raw, &offset, &length);
  }
  if (offset == 0) {
    return 0;
  }
  if (sharing == UNSHARE) {
    qcow2_free_entry (q, *entry);
    return 0;
  }
  int ret = sharing == SET_FLAGS ? 0 : count_range (q, offset, length, sharing, error);
  return ret < 0 || sharing == MEASURE ? ret : right_flag (q, sharing, entry, error);
}

static int
change_slice (Qcow2 *q, uint64_t offset, Sharing sharing, GError **error)
{
  TnMetaSlice *slice;
  int ret = tn_meta_get (q->l2_cache, offset, &slice, error);
  if (ret < 0) {
    return ret;
  }
  for (unsigned i = 0; ret == 0 && i < qcow2_slice_entries (q); i++) {
    const Qcow2Entry old = qcow2_entry_load (q, tn_meta_data (slice), i);
    Qcow2Entry new = old;
    ret = change_entry (q, sharing, &new, error);
    if (ret == 0 && new.raw != old.raw) {
      qcow2_entry_store (q, tn_meta_data (slice), i, new);
      tn_meta_dirty (slice);
    }
  }
  tn_meta_put (slice);
  return ret;
}

static int
change_table (Qcow2 *q, uint64_t l1_entry, Sharing sharing, GError **error)
{
  const uint64_t table = l1_entry & QCOW2_OFFSET_MASK, step = 1ull << q->slice_bits;
  const char *fault = qcow2_l1_fault (q, l1_entry);
  int ret = fault ? qcow2_corrupt (q, error, "the L1 entry 0x%016" PRIx64 " %s", l1_entry, fault) : 0;
  if (ret == 0 && (sharing == SHARE || sharing == SET_FLAGS)) {
    ret = qcow2_l2_order (q, false, error);
  }
  for (uint64_t at = 0; ret == 0 && at < q->cluster_size; at += step) {
    ret = change_slice (q, table + at, sharing, error);
  }
  if (ret < 0 || sharing == SET_FLAGS) {
    return ret;
  }
  if (sharing == UNSHARE) {
    qcow2_free_later (q, table, q->cluster_size, true);
    return q->freed->len > MAX_FREED ? qcow2_settle (q, error) : 0;
  }
  return count_range (q, table, q->cluster_size, sharing, error);
}

static int
change_all (Qcow2 *q, const uint64_t *l1, uint32_t size, Sharing sharing, GError **error)
{
  int ret = qcow2_reftable_load (q, error);
  for (uint32_t i = 0; ret == 0 && i < size; i++) {
    ret = l1[i] ? change_table (q, l1[i], sharing, error) : 0;
  }
  return ret;
}

/* The flags of the active tables by the counts. */
static int
set_active_flags (Qcow2 *q, GError **error)
{
  int ret = change_all (q, q->l1, q->l1_size, SET_FLAGS, error);
  for (uint32_t i = 0; ret == 0 && i < q->l1_size; i++) {
    uint64_t count = 0, entry = q->l1[i];
    if (entry == 0) {
      continue;
    }
    ret = qcow2_refcount_get (q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, &count, error);
    const uint64_t right = (entry & ~QCOW2_COPIED) | (count == 1 ? QCOW2_COPIED : 0);
    if (ret == 0 && right != entry) {
      ret = qcow2_l1_set (q, i, right, error);
    }
  }
  return ret;
}

/* ---- L1 tables ---- */

static int
read_l1 (Qcow2 *q, const Qcow2Snapshot *s, uint64_t **table, GError **error)
{
  const uint64_t bytes = s->l1_size * 8ull;
  g_autofree uint64_t *l1 = g_try_malloc (MAX (bytes, 8));
  if (l1 == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for the L1 table of snapshot '%s'", s->name);
  }
  int ret = bytes ? tn_node_read (q->file, s->l1_offset, l1, bytes, error) : 0;
  for (uint32_t i = 0; ret == 0 && i < s->l1_size; i++) {
    l1[i] = GUINT64_FROM_BE (l1[i]);
  }
  if (ret == 0) {
    *table = g_steal_pointer (&l1);
  }
  return ret;
}

/* A copy of the table at a new place, nothing in it marked "copied". */
static int
write_l1 (Qcow2 *q, const uint64_t *l1, uint32_t size, uint64_t *offset, GError **error)
{
  const uint64_t clusters = qcow2_clusters (q, size * 8ull), bytes = clusters << q->cluster_bits;
  g_autofree uint64_t *disk = g_try_malloc0 (MAX (bytes, 8));
  *offset = 0;
  if (disk == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for an L1 table of %" PRIu64 " bytes", bytes);
  }
  for (uint32_t i = 0; i < size; i++) {
    disk[i] = GUINT64_TO_BE (l1[i] & ~QCOW2_COPIED);
  }
  int ret = clusters ? qcow2_alloc_contiguous (q, clusters, offset, error) : 0;
  return ret < 0 || clusters == 0 ? ret : tn_node_write (q->file, *offset, disk, bytes, error);
}

/* ---- The table of snapshots ---- */

static void
append_entry (GByteArray *out, const Qcow2Snapshot *s)
{
  static const uint8_t padding[8];
  uint8_t p[ENTRY_FIXED + QCOW2_SNAPSHOT_EXTRA] = { 0 };
  const size_t id_length = strlen (s->id), name_length = strlen (s->name);
  const gsize more = s->extra ? g_bytes_get_size (s->extra) : 0;
  tn_store_be64 (p, s->l1_offset);
  tn_store_be32 (p + 8, s->l1_size);
  tn_store_be16 (p + 12, (uint16_t) id_length);
  tn_store_be16 (p + 14, (uint16_t) name_length);
  tn_store_be32 (p + 16, s->date_sec);
  tn_store_be32 (p + 20, s->date_nsec);
  tn_store_be64 (p + 24, s->vm_clock_nsec);
  tn_store_be32 (p + 32, s->vm_state_size <= UINT32_MAX ? (uint32_t) s->vm_state_size : 0);
  tn_store_be32 (p + 36, (uint32_t) (QCOW2_SNAPSHOT_EXTRA + more));
  tn_store_be64 (p + 40, s->vm_state_size);
  tn_store_be64 (p + 48, s->disk_size);
  tn_store_be64 (p + 56, s->icount);
  g_byte_array_append (out, p, sizeof p);
  if (more) {
    g_byte_array_append (out, g_bytes_get_data (s->extra, NULL), (guint) more);
  }
  g_byte_array_append (out, (const uint8_t *) s->id, (guint) id_length);
  g_byte_array_append (out, (const uint8_t *) s->name, (guint) name_length);
  g_byte_array_append (out, padding, (8 - out->len % 8) % 8);
}

static int
write_table (Qcow2 *q, const Qcow2Snapshot *snapshots, uint32_t n, uint64_t *offset, GError **error)
{
  g_autoptr (GByteArray) out = g_byte_array_new ();
  *offset = 0;
  for (uint32_t i = 0; i < n; i++) {
    append_entry (out, &snapshots[i]);
    if (out->len > QCOW2_MAX_SNAPSHOT_BYTES) {
      return qcow2_fail (q, error, EFBIG, "the snapshot table would be larger than 64 MiB");
    }
  }
  const guint used = out->len;
  if (used == 0) {
    return 0;
  }
  const uint64_t clusters = qcow2_clusters (q, used);
  g_byte_array_set_size (out, (guint) (clusters << q->cluster_bits));
  memset (out->data + used, 0, out->len - used);
  int ret = qcow2_alloc_contiguous (q, clusters, offset, error);
  return ret < 0 ? ret : tn_node_write (q->file, *offset, out->data, out->len, error);
}

int
qcow2_snapshots_store (Qcow2 *q, const Qcow2Snapshot *snapshots, uint32_t n, GError **error)
{
  const Qcow2Header old = q->header;
  const uint64_t old_length = q->snapshots_length;
  uint64_t offset;
  int ret = write_table (q, snapshots, n, &offset, error);
  if (ret < 0 || (ret = qcow2_sync (q, error)) < 0) {
    return ret;
  }
  q->header.snapshot_count = n;
  q->header.snapshots_offset = offset;
  if ((ret = qcow2_header_write_tables (q, error)) < 0 || (ret = qcow2_barrier (q, error)) < 0) {
    q->header = old;
    return ret;
  }
  if (old_length) {
    qcow2_free_later (q, old.snapshots_offset, old_length, false);
  }
  qcow2_snapshots_free (q);
  return qcow2_snapshots_load (q, error);
}

/* ---- Creating ---- */

static char *
next_id (const Qcow2 *q)
{
  guint64 highest = 0;
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    highest = MAX (highest, g_ascii_strtoull (q->snapshots[i].id, NULL, 10));
  }
  return g_strdup_printf ("%" G_GUINT64_FORMAT, highest + 1);
}

static int
add_entry (Qcow2 *q, uint64_t l1_offset, const char *name, GError **error)
{
  const uint32_t n = q->snapshot_count;
  const gint64 now = g_get_real_time ();
  g_autofree char *id = next_id (q);
  g_autofree Qcow2Snapshot *list = g_new0 (Qcow2Snapshot, n + 1);
  if (n) {
    memcpy (list, q->snapshots, n * sizeof *list);
  }
  list[n] = (Qcow2Snapshot){
    .l1_offset = l1_offset,
    .l1_size = q->l1_size,
    .id = id,
    .name = (char *) name,
    .date_sec = (uint32_t) (now / G_USEC_PER_SEC),
    .date_nsec = (uint32_t) (now % G_USEC_PER_SEC) * 1000,
    .disk_size = q->size,
    .icount = UINT64_MAX,
  };
  return qcow2_snapshots_store (q, list, n + 1, error);
}

static int
create_snapshot (Qcow2 *q, const char *name, GError **error)
{
  uint64_t l1_offset;
  if (*name == '\0' || strlen (name) > UINT16_MAX) {
    return qcow2_fail (q, error, EINVAL, "a snapshot's name has 1 to 65535 bytes");
  }
  if (q->snapshot_count >= QCOW2_MAX_SNAPSHOTS) {
    return qcow2_fail (q, error, EFBIG, "it has %u snapshots, which is the most", q->snapshot_count);
  }
  int ret = change_all (q, q->l1, q->l1_size, MEASURE, error);
  if (ret < 0 || (ret = qcow2_begin_change (q, error)) < 0
      || (ret = write_l1 (q, q->l1, q->l1_size, &l1_offset, error)) < 0
      || (ret = change_all (q, q->l1, q->l1_size, SHARE, error)) < 0) {
    return ret;
  }
  for (uint32_t i = 0; ret == 0 && i < q->l1_size; i++) {
    ret = q->l1[i] & QCOW2_COPIED ? qcow2_l1_set (q, i, q->l1[i] & ~QCOW2_COPIED, error) : 0;
  }
  return ret < 0 ? ret : add_entry (q, l1_offset, name, error);
}

/* ---- Deleting ---- */

static int
delete_snapshot (Qcow2 *q, const Qcow2Snapshot *s, GError **error)
{
  const uint32_t n = q->snapshot_count, index = (uint32_t) (s - q->snapshots);
  const uint64_t l1_offset = s->l1_offset, l1_bytes = s->l1_size * 8ull;
  const uint32_t l1_size = s->l1_size;
  g_autofree Qcow2Snapshot *list = g_new0 (Qcow2Snapshot, n);
  g_autofree uint64_t *l1 = NULL;
  memcpy (list, q->snapshots, index * sizeof *list);
  memcpy (list + index, q->snapshots + index + 1, (n - index - 1) * sizeof *list);
  int ret = read_l1 (q, s, &l1, error);
  if (ret < 0 || (ret = qcow2_begin_change (q, error)) < 0
      || (ret = qcow2_snapshots_store (q, list, n - 1, error)) < 0
      || (ret = change_all (q, l1, l1_size, UNSHARE, error)) < 0) {
    return ret;
  }
  if (l1_bytes) {
    qcow2_free_later (q, l1_offset, l1_bytes, false);
  }
  ret = qcow2_settle (q, error);
  return ret < 0 ? ret : set_active_flags (q, error);
}

/* ---- Applying ---- */

static int
switch_active (Qcow2 *q, uint64_t *l1, uint32_t l1_size, uint64_t l1_offset, uint64_t size, GError **error)
{
  const Qcow2Header old = q->header;
  q->header.l1_offset = l1_offset;
  q->header.l1_size = l1_size;
  q->header.size = size;
  int ret = qcow2_header_write_tables (q, error);
  if (ret < 0) {
    q->header = old;
    return ret;
  }
  q->l1 = l1; /* also if the barrier fails: it is what the file says */
  q->l1_size = l1_size;
  q->l1_offset = l1_offset;
  q->size = size;
  if (q->node) {
    tn_node_set_size (q->node, size);
  }
  return 0;
}

static int
apply_snapshot (Qcow2 *q, const Qcow2Snapshot *s, GError **error)
{
  g_autofree uint64_t *l1 = NULL;
  g_autofree uint64_t *old_l1 = g_memdup2 (q->l1, MAX (q->l1_size * 8ull, 8));
  const uint32_t old_l1_size = q->l1_size, l1_size = s->l1_size;
  const uint64_t old_offset = q->l1_offset, size = s->disk_size;
  uint64_t offset;
  if (size > (uint64_t) INT64_MAX || qcow2_l1_needed (q, size) > l1_size) {
    return qcow2_fail (q, error, EINVAL, "the L1 table of snapshot '%s' is too small for its disk size",
                       s->name);
  }
  int ret = read_l1 (q, s, &l1, error);
  if (ret < 0 || (ret = qcow2_bitmaps_resize (q, size, error)) < 0
      || (ret = change_all (q, l1, l1_size, MEASURE, error)) < 0 || (ret = qcow2_begin_change (q, error)) < 0
      || (ret = write_l1 (q, l1, l1_size, &offset, error)) < 0
      || (ret = change_all (q, l1, l1_size, SHARE, error)) < 0 || (ret = qcow2_sync (q, error)) < 0) {
    return ret;
  }
  for (uint32_t i = 0; i < l1_size; i++) {
    l1[i] &= ~QCOW2_COPIED;
  }
  uint64_t *replaced = q->l1;
  if ((ret = switch_active (q, l1, l1_size, offset, size, error)) < 0) {
    return ret;
  }
  l1 = NULL; /* the image's now */
  g_free (replaced);
  if ((ret = qcow2_barrier (q, error)) < 0) {
    return ret;
  }
  if (old_l1_size) {
    tn_meta_forget (q->l1_cache, old_offset, qcow2_clusters (q, old_l1_size * 8ull) << q->cluster_bits);
    qcow2_free_later (q, old_offset, old_l1_size * 8ull, false);
  }
  if ((ret = change_all (q, old_l1, old_l1_size, UNSHARE, error)) < 0
      || (ret = qcow2_settle (q, error)) < 0) {
    return ret;
  }
  qcow2_bitmaps_dirty (q, 0, size);
  return set_active_flags (q, error);
}

int
qcow2_snapshot_change (TnNode *node, uint32_t action, const char *name, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  if (q->external) {
    return qcow2_fail (q, error, ENOTSUP,
                       "an image with an external data file cannot have internal snapshots");
  }
  int ret = qcow2_touch (q, error);
  if (ret < 0 || (ret = qcow2_snapshots_load (q, error)) < 0 || (ret = qcow2_settle (q, error)) < 0) {
    return ret;
  }
  const Qcow2Snapshot *s = action == TN_SNAPSHOT_CREATE ? NULL : qcow2_snapshot_find (q, name);
  if (action != TN_SNAPSHOT_CREATE && s == NULL) {
    return qcow2_fail (q, error, ENOENT, "there is no snapshot with the id or name '%s'", name);
  }
  switch (action) {
  case TN_SNAPSHOT_CREATE:
    ret = create_snapshot (q, name, error);
    break;
  case TN_SNAPSHOT_APPLY:
    ret = apply_snapshot (q, s, error);
    break;
  default:
    ret = delete_snapshot (q, s, error);
  }
  return ret < 0 ? ret : qcow2_end_change (q, error);
}
