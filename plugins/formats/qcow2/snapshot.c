/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Internal snapshots: their table, and one of them read in place of the current state. */
#include "qcow2.h"

#define ENTRY_FIXED 40u
#define MAX_ENTRY (ENTRY_FIXED + QCOW2_MAX_SNAPSHOT_EXTRA + 2 * 65536u + 8)

static void
clear_snapshot (Qcow2Snapshot *s)
{
  g_clear_pointer (&s->id, g_free);
  g_clear_pointer (&s->name, g_free);
  g_clear_pointer (&s->extra, g_bytes_unref);
}

void
qcow2_snapshots_free (Qcow2 *q)
{
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    clear_snapshot (&q->snapshots[i]);
  }
  g_clear_pointer (&q->snapshots, g_free);
  q->snapshot_count = 0;
  q->snapshots_length = 0;
  q->snapshots_loaded = false;
}

static char *
text_of (const uint8_t *p, size_t length)
{
  return g_strndup ((const char *) p, length);
}

/* Parses the entry at @p, of which @length bytes are there; *used is its padded length. */
static int
parse_entry (Qcow2 *q, uint32_t number, const uint8_t *p, uint64_t length, Qcow2Snapshot *s, uint64_t *used,
             GError **error)
{
  if (length < ENTRY_FIXED) {
    return qcow2_fail (q, error, EINVAL, "snapshot table entry %u is cut off", number);
  }
  const uint32_t id_length = tn_load_be16 (p + 12), name_length = tn_load_be16 (p + 14);
  const uint32_t extra = tn_load_be32 (p + 36);
  if (extra > QCOW2_MAX_SNAPSHOT_EXTRA) {
    return qcow2_fail (q, error, EFBIG, "snapshot table entry %u has %u bytes of extra data", number, extra);
  }
  const uint64_t total = ENTRY_FIXED + (uint64_t) extra + id_length + name_length;
  if (total > length) {
    return qcow2_fail (q, error, EINVAL, "snapshot table entry %u is cut off", number);
  }
  s->l1_offset = tn_load_be64 (p);
  s->l1_size = tn_load_be32 (p + 8);
  s->date_sec = tn_load_be32 (p + 16);
  s->date_nsec = tn_load_be32 (p + 20);
  s->vm_clock_nsec = tn_load_be64 (p + 24);
  s->vm_state_size = extra >= 8 ? tn_load_be64 (p + 40) : tn_load_be32 (p + 32);
  s->disk_size = extra >= 16 ? tn_load_be64 (p + 48) : q->header.size;
  s->icount = extra >= 24 ? tn_load_be64 (p + 56) : UINT64_MAX;
  if (extra > QCOW2_SNAPSHOT_EXTRA) {
    s->extra = g_bytes_new (p + ENTRY_FIXED + QCOW2_SNAPSHOT_EXTRA, extra - QCOW2_SNAPSHOT_EXTRA);
  }
  s->id = text_of (p + ENTRY_FIXED + extra, id_length);
  s->name = text_of (p + ENTRY_FIXED + extra + id_length, name_length);
  *used = (total + 7) & ~7ull;
  return 0;
}

static int
check_entry (Qcow2 *q, uint32_t number, const Qcow2Snapshot *s, GError **error)
{
  const uint64_t end = tn_node_size (q->file), bytes = s->l1_size * 8ull;
  if (bytes > QCOW2_MAX_L1_BYTES) {
    return qcow2_fail (q, error, EFBIG, "the L1 table of snapshot %u has %u entries", number, s->l1_size);
  }
  if ((s->l1_offset & ((1ull << q->header.cluster_bits) - 1))
      || (bytes && (s->l1_offset == 0 || s->l1_offset > end || end - s->l1_offset < bytes))) {
    return qcow2_fail (q, error, EINVAL,
                       "the L1 table of snapshot %u at 0x%" PRIx64 " is not within the file", number,
                       s->l1_offset);
  }
  return 0;
}

int
qcow2_snapshots_load (Qcow2 *q, GError **error)
{
  const uint32_t n = q->header.snapshot_count;
  uint64_t at = q->header.snapshots_offset;
  if (q->snapshots_loaded) {
    return 0;
  }
  const uint64_t file_end = tn_node_size (q->file);
  if (n && (at > file_end || (file_end - at) / ENTRY_FIXED < n)) {
    return qcow2_fail (q, error, EINVAL, "the table of %u snapshots at 0x%" PRIx64 " does not fit the file",
                       n, at);
  }
  q->snapshots = g_new0 (Qcow2Snapshot, MAX (n, 1));
  g_autofree uint8_t *buffer = g_malloc (n ? MAX_ENTRY : 1);
  for (uint32_t i = 0; i < n; i++) {
    const uint64_t length = MIN (MAX_ENTRY, file_end - MIN (at, file_end));
    uint64_t used = 0;
    int ret = length ? tn_node_read (q->file, at, buffer, length, error) : 0;
    if (ret == 0) {
      ret = parse_entry (q, i, buffer, length, &q->snapshots[i], &used, error);
      q->snapshot_count = i + 1;
    }
    if (ret < 0 || (ret = check_entry (q, i, &q->snapshots[i], error)) < 0) {
      qcow2_snapshots_free (q);
      return ret;
    }
    at += used;
    if (at - q->header.snapshots_offset > QCOW2_MAX_SNAPSHOT_BYTES) {
      qcow2_snapshots_free (q);
      return qcow2_fail (q, error, EFBIG, "the snapshot table is larger than 64 MiB");
    }
  }
  q->snapshots_length = at - q->header.snapshots_offset;
  q->snapshots_loaded = true;
  return 0;
}

const Qcow2Snapshot *
qcow2_snapshot_find (const Qcow2 *q, const char *name)
{
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    if (strcmp (q->snapshots[i].id, name) == 0) {
      return &q->snapshots[i];
    }
  }
  for (uint32_t i = 0; i < q->snapshot_count; i++) {
    if (strcmp (q->snapshots[i].name, name) == 0) {
      return &q->snapshots[i];
    }
  }
  return NULL;
}

int
qcow2_snapshot_use (Qcow2 *q, const char *name, GError **error)
{
  if (q->flags & TN_OPEN_WRITE) {
    return qcow2_fail (q, error, EROFS, "snapshot '%s' can only be opened read-only", name);
  }
  int ret = qcow2_snapshots_load (q, error);
  if (ret < 0) {
    return ret;
  }
  const Qcow2Snapshot *s = qcow2_snapshot_find (q, name);
  if (s == NULL) {
    return qcow2_fail (q, error, ENOENT, "there is no snapshot with the id or name '%s'", name);
  }
  if (s->disk_size > (uint64_t) INT64_MAX) {
    return qcow2_fail (q, error, EFBIG, "the disk size of snapshot '%s' is not sensible", name);
  }
  q->l1_offset = s->l1_offset;
  q->l1_size = s->l1_size;
  q->size = s->disk_size;
  return 0;
}

int
qcow2_snapshots (TnNode *node, void (*visit) (const TnSnapshot *snapshot, void *opaque), void *opaque,
                 GError **error)
{
  Qcow2 *q = tn_node_state (node);
  int ret = qcow2_snapshots_load (q, error);
  for (uint32_t i = 0; ret == 0 && i < q->snapshot_count; i++) {
    const Qcow2Snapshot *s = &q->snapshots[i];
    const TnSnapshot shown = {
      .size = sizeof shown,
      .id = s->id,
      .name = s->name,
      .vm_state_size = s->vm_state_size,
      .date_sec = s->date_sec,
      .date_nsec = s->date_nsec,
      .vm_clock_nsec = s->vm_clock_nsec,
      .icount = s->icount,
      .virtual_size = s->disk_size,
    };
    visit (&shown, opaque);
  }
  return ret;
}
