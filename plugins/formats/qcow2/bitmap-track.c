/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recording writes in the persistent bitmaps.
 *
 * While the image is being written to, bits are kept in memory, and the bitmaps that record writes are marked
 * as in use on the disk: after a power cut nobody trusts them.  What has changed is written when the image is
 * closed, to new places, and the header then names a new directory.
 */
#include "qcow2.h"

#define MAX_BITMAP_BYTES (512u << 20)

static Qcow2Bitmap *
bitmap_at (const Qcow2 *q, guint index)
{
  return &g_array_index (q->bitmaps, Qcow2Bitmap, index);
}

static bool
is_tracking (const Qcow2Bitmap *bitmap)
{
  return (bitmap->flags & QCOW2_BITMAP_AUTO) && !(bitmap->flags & QCOW2_BITMAP_IN_USE) && !bitmap->removed;
}

static void
update_tracking (Qcow2 *q)
{
  q->bitmaps_tracking = false;
  for (guint i = 0; q->bitmaps && i < q->bitmaps->len; i++) {
    q->bitmaps_tracking |= is_tracking (bitmap_at (q, i));
  }
}

/* Nobody is to trust the bitmap before the directory is written again. */
static int
mark_in_use (Qcow2 *q, const Qcow2Bitmap *bitmap, GError **error)
{
  uint8_t flags[4];
  tn_store_be32 (flags, bitmap->flags | QCOW2_BITMAP_IN_USE);
  q->bitmaps_changed = true;
  return tn_node_write (q->file, bitmap->entry_offset + 12, flags, sizeof flags, error);
}

static int
load_list (Qcow2 *q, GError **error)
{
  return q->bitmaps ? 0 : qcow2_bitmaps_read (q, &q->bitmaps, error);
}

int
qcow2_bitmaps_begin (Qcow2 *q, GError **error)
{
  if (q->bitmaps) {
    return 0;
  }
  int ret = load_list (q, error);
  for (guint i = 0; ret == 0 && i < q->bitmaps->len; i++) {
    Qcow2Bitmap *bitmap = bitmap_at (q, i);
    if (!is_tracking (bitmap)) {
      continue;
    }
    GError *why = NULL;
    ret = mark_in_use (q, bitmap, error);
    if (ret == 0 && qcow2_bitmap_load (q, bitmap, &why) < 0) {
      bitmap->flags |= QCOW2_BITMAP_IN_USE; /* it can't record anything: it stays inconsistent */
      g_clear_error (&why);
    }
  }
  if (ret < 0) {
    g_clear_pointer (&q->bitmaps, g_array_unref);
  }
  update_tracking (q);
  return ret;
}

void
qcow2_bitmaps_dirty (Qcow2 *q, uint64_t offset, uint64_t length)
{
  for (guint i = 0; q->bitmaps_tracking && i < q->bitmaps->len; i++) {
    Qcow2Bitmap *bitmap = bitmap_at (q, i);
    if (is_tracking (bitmap) && bitmap->pages) {
      qcow2_bitmap_set (q, bitmap, offset, length);
    }
  }
}

int
qcow2_bitmaps_resize (Qcow2 *q, uint64_t size, GError **error)
{
  if (q->bitmap_count == 0 && (q->bitmaps == NULL || q->bitmaps->len == 0)) {
    return 0;
  }
  int ret = load_list (q, error);
  for (guint i = 0; ret == 0 && i < q->bitmaps->len; i++) {
    ret = bitmap_at (q, i)->removed ? 0 : qcow2_bitmap_load (q, bitmap_at (q, i), error);
  }
  for (guint i = 0; ret == 0 && i < q->bitmaps->len; i++) {
    ret = bitmap_at (q, i)->entry_offset ? mark_in_use (q, bitmap_at (q, i), error) : 0;
  }
  if (ret < 0 || (ret = qcow2_barrier (q, error)) < 0) {
    return ret;
  }
  for (guint i = 0; i < q->bitmaps->len; i++) {
    if (!bitmap_at (q, i)->removed) {
      qcow2_bitmap_fit (q, bitmap_at (q, i), size);
    }
  }
  q->bitmaps_changed = true;
  return 0;
}

/* ---- Storing ---- */

/* What the bitmap has on the disk now. */
static int
free_stored (Qcow2 *q, const Qcow2Bitmap *bitmap, GError **error)
{
  g_autofree uint64_t *table = NULL;
  if (bitmap->table_offset == 0 || bitmap->table_size == 0) {
    return 0;
  }
  int ret = qcow2_bitmap_read_table (q, bitmap, &table, error);
  if (ret < 0) {
    return ret;
  }
  for (uint32_t i = 0; i < bitmap->table_size; i++) {
    if (table[i] & QCOW2_OFFSET_MASK) {
      qcow2_free_later (q, table[i] & QCOW2_OFFSET_MASK, q->cluster_size, false);
    }
  }
  qcow2_free_later (q, bitmap->table_offset, bitmap->table_size * 8ull, false);
  return 0;
}

static bool
is_zero_page (const Qcow2 *q, const uint8_t *page)
{
  return page[0] == 0 && memcmp (page, page + 1, q->cluster_size - 1) == 0;
}

/* Writes @length bytes, padded with zeroes, to new clusters. */
static int
write_new (Qcow2 *q, const void *data, uint64_t length, uint64_t *offset, GError **error)
{
  const uint64_t clusters = qcow2_clusters (q, length), bytes = clusters << q->cluster_bits;
  g_autofree uint8_t *padded = g_try_malloc0 (bytes);
  if (padded == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for %" PRIu64 " bytes of bitmaps", bytes);
  }
  memcpy (padded, data, length);
  int ret = qcow2_alloc_contiguous (q, clusters, offset, error);
  return ret < 0 ? ret : tn_node_write (q->file, *offset, padded, bytes, error);
}

static int
store_pages (Qcow2 *q, Qcow2Bitmap *bitmap, GError **error)
{
  g_autofree uint64_t *table = g_new0 (uint64_t, MAX (bitmap->n_pages, 1));
  int ret = free_stored (q, bitmap, error);
  for (uint64_t i = 0; ret == 0 && i < bitmap->n_pages; i++) {
    uint64_t offset;
    if (bitmap->pages[i] == NULL || is_zero_page (q, bitmap->pages[i])) {
      continue;
    }
    ret = write_new (q, bitmap->pages[i], q->cluster_size, &offset, error);
    table[i] = GUINT64_TO_BE (offset);
  }
  bitmap->table_offset = 0;
  bitmap->table_size = (uint32_t) bitmap->n_pages;
  if (ret == 0 && bitmap->n_pages) {
    ret = write_new (q, table, bitmap->n_pages * 8, &bitmap->table_offset, error);
  }
  return ret;
}

static GByteArray *
make_directory (const Qcow2 *q)
{
  static const uint8_t padding[8];
  GByteArray *out = g_byte_array_new ();
  for (guint i = 0; i < q->bitmaps->len; i++) {
    const Qcow2Bitmap *bitmap = bitmap_at (q, i);
    const gsize extra = bitmap->extra ? g_bytes_get_size (bitmap->extra) : 0;
    uint8_t p[QCOW2_BITMAP_ENTRY_FIXED] = { 0 };
    tn_store_be64 (p, bitmap->table_offset);
    tn_store_be32 (p + 8, bitmap->table_size);
    tn_store_be32 (p + 12, bitmap->flags);
    p[16] = bitmap->type;
    p[17] = bitmap->granularity_bits;
    tn_store_be16 (p + 18, (uint16_t) strlen (bitmap->name));
    tn_store_be32 (p + 20, (uint32_t) extra);
    g_byte_array_append (out, p, sizeof p);
    if (extra) {
      g_byte_array_append (out, g_bytes_get_data (bitmap->extra, NULL), (guint) extra);
    }
    g_byte_array_append (out, (const uint8_t *) bitmap->name, (guint) strlen (bitmap->name));
    g_byte_array_append (out, padding, (8 - out->len % 8) % 8);
  }
  return out;
}

static int
store_directory (Qcow2 *q, GError **error)
{
  g_autoptr (GByteArray) directory = make_directory (q);
  const uint64_t old_offset = q->bitmap_directory_offset,
                 old_size = q->bitmap_count ? q->bitmap_directory_size : 0;
  uint64_t offset = 0;
  int ret = directory->len ? write_new (q, directory->data, directory->len, &offset, error) : 0;
  if (ret < 0 || (ret = qcow2_sync (q, error)) < 0) {
    return ret;
  }
  q->bitmap_count = q->bitmaps->len;
  q->bitmap_directory_offset = offset;
  q->bitmap_directory_size = directory->len;
  qcow2_header_set_bitmaps (q);
  if ((ret = qcow2_header_write (q, error)) < 0 || (ret = qcow2_barrier (q, error)) < 0) {
    return ret;
  }
  if (old_size) {
    qcow2_free_later (q, old_offset, old_size, false);
  }
  return qcow2_settle (q, error);
}

int
qcow2_bitmaps_end (Qcow2 *q, GError **error)
{
  int ret = 0;
  for (guint i = 0; ret == 0 && q->bitmaps_changed && i < q->bitmaps->len; i++) {
    Qcow2Bitmap *bitmap = bitmap_at (q, i);
    if (bitmap->removed) {
      ret = free_stored (q, bitmap, error);
      g_array_remove_index (q->bitmaps, i--);
      continue;
    }
    ret = bitmap->changed ? store_pages (q, bitmap, error) : 0;
  }
  if (ret == 0 && q->bitmaps_changed) {
    ret = store_directory (q, error);
  }
  g_clear_pointer (&q->bitmaps, g_array_unref);
  q->bitmaps_changed = q->bitmaps_tracking = false;
  return ret;
}

/* ---- Changes that a user asks for ---- */

static unsigned
granularity_bits (const Qcow2 *q, uint64_t granularity)
{
  return (unsigned) g_bit_nth_msf (granularity ? granularity : MAX (q->cluster_size, 4096), -1);
}

static int
check_new (Qcow2 *q, const char *name, uint64_t granularity, GError **error)
{
  const size_t length = strlen (name);
  if (q->header.version < 3) {
    return qcow2_fail (q, error, ENOTSUP, "version 2 has no bitmaps: amend it with compat=1.1 first");
  }
  if (length == 0 || length > QCOW2_BITMAP_MAX_NAME) {
    return qcow2_fail (q, error, EINVAL, "a bitmap's name has 1 to %u bytes", QCOW2_BITMAP_MAX_NAME);
  }
  if (granularity
      && ((granularity & (granularity - 1)) || granularity < 1u << QCOW2_BITMAP_MIN_BITS
          || granularity > 1u << QCOW2_BITMAP_MAX_BITS)) {
    return qcow2_fail (q, error, EINVAL, "a bitmap's granularity is a power of two from 512 to 2G");
  }
  const uint64_t pages = qcow2_bitmap_pages (q, granularity_bits (q, granularity), q->size);
  if (pages << q->cluster_bits > MAX_BITMAP_BYTES || pages * 8 > QCOW2_MAX_L1_BYTES) {
    return qcow2_fail (q, error, EFBIG, "the bitmap would have too many bits: give a larger granularity");
  }
  if (q->bitmaps->len >= QCOW2_MAX_BITMAPS) {
    return qcow2_fail (q, error, EFBIG, "it has %u bitmaps, which is the most", q->bitmaps->len);
  }
  return 0;
}

static int
add_bitmap (Qcow2 *q, const char *name, uint64_t granularity, GError **error)
{
  int ret = check_new (q, name, granularity, error);
  if (ret < 0) {
    return ret;
  }
  Qcow2Bitmap bitmap = {
    .flags = QCOW2_BITMAP_AUTO,
    .type = 1,
    .granularity_bits = (uint8_t) granularity_bits (q, granularity),
    .name = g_strdup (name),
  };
  qcow2_bitmap_erase (q, &bitmap);
  g_array_append_val (q->bitmaps, bitmap);
  return 0;
}

static int
change_bitmap (Qcow2 *q, Qcow2Bitmap *bitmap, uint32_t action, GError **error)
{
  if (action == TN_BITMAP_REMOVE) {
    bitmap->removed = true;
    return 0;
  }
  int ret = qcow2_bitmap_load (q, bitmap, error);
  if (ret < 0) {
    return ret;
  }
  switch (action) {
  case TN_BITMAP_CLEAR:
    qcow2_bitmap_erase (q, bitmap);
    return 0;
  case TN_BITMAP_ENABLE:
    bitmap->flags |= QCOW2_BITMAP_AUTO;
    return 0;
  default:
    bitmap->flags &= ~QCOW2_BITMAP_AUTO;
    return 0;
  }
}

static int
begin_change (Qcow2 *q, GError **error)
{
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  int ret = qcow2_touch (q, error);
  return ret < 0 ? ret : load_list (q, error);
}

int
qcow2_bitmap_change (TnNode *node, uint32_t action, const char *name, uint64_t granularity, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  int ret = begin_change (q, error);
  if (ret < 0) {
    return ret;
  }
  Qcow2Bitmap *bitmap = qcow2_bitmap_find (q->bitmaps, name);
  if (action == TN_BITMAP_ADD && bitmap) {
    return qcow2_fail (q, error, EEXIST, "there is a bitmap '%s' already", name);
  }
  if (action != TN_BITMAP_ADD && bitmap == NULL) {
    return qcow2_fail (q, error, ENOENT, "there is no bitmap '%s'", name);
  }
  ret = bitmap ? change_bitmap (q, bitmap, action, error) : add_bitmap (q, name, granularity, error);
  q->bitmaps_changed |= ret == 0;
  update_tracking (q);
  return ret;
}

int
qcow2_bitmap_mark (TnNode *node, const char *name, uint64_t offset, uint64_t length, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  int ret = begin_change (q, error);
  if (ret < 0) {
    return ret;
  }
  Qcow2Bitmap *bitmap = qcow2_bitmap_find (q->bitmaps, name);
  if (bitmap == NULL) {
    return qcow2_fail (q, error, ENOENT, "there is no bitmap '%s'", name);
  }
  if ((ret = qcow2_bitmap_load (q, bitmap, error)) == 0) {
    qcow2_bitmap_set (q, bitmap, offset, length);
    q->bitmaps_changed = true;
  }
  return ret;
}
