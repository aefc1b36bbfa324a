/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The directory of persistent bitmaps, and their bits. */
#include "qcow2.h"

#define ENTRY_FIXED QCOW2_BITMAP_ENTRY_FIXED

static void
drop_pages (Qcow2Bitmap *bitmap)
{
  for (uint64_t i = 0; bitmap->pages && i < bitmap->n_pages; i++) {
    g_free (bitmap->pages[i]);
  }
  g_clear_pointer (&bitmap->pages, g_free);
  bitmap->n_pages = 0;
}

static void
clear_bitmap (void *p)
{
  Qcow2Bitmap *bitmap = p;
  drop_pages (bitmap);
  g_clear_pointer (&bitmap->extra, g_bytes_unref);
  g_free (bitmap->name);
}

static int
parse_entry (Qcow2 *q, const uint8_t *p, uint64_t length, Qcow2Bitmap *bitmap, uint64_t *used, GError **error)
{
  const uint32_t name_length = length < ENTRY_FIXED ? 0 : tn_load_be16 (p + 18);
  const uint64_t extra = length < ENTRY_FIXED ? 0 : tn_load_be32 (p + 20);
  const uint64_t total = ENTRY_FIXED + extra + name_length;
  if (total > length || name_length == 0 || name_length > 1023) {
    return qcow2_fail (q, error, EINVAL, "the bitmap directory at 0x%" PRIx64 " is not valid",
                       q->bitmap_directory_offset);
  }
  bitmap->table_offset = tn_load_be64 (p);
  bitmap->table_size = tn_load_be32 (p + 8);
  bitmap->flags = tn_load_be32 (p + 12);
  bitmap->type = p[16];
  bitmap->granularity_bits = p[17];
  bitmap->extra = extra ? g_bytes_new (p + ENTRY_FIXED, extra) : NULL;
  bitmap->name = g_strndup ((const char *) p + ENTRY_FIXED + extra, name_length);
  *used = (total + 7) & ~7ull;
  return 0;
}

int
qcow2_bitmaps_read (Qcow2 *q, GArray **bitmaps, GError **error)
{
  const uint64_t length = q->bitmap_directory_size;
  g_autoptr (GArray) list = g_array_new (false, false, sizeof (Qcow2Bitmap));
  g_autofree uint8_t *directory = NULL;
  uint64_t at = 0;
  g_array_set_clear_func (list, clear_bitmap);
  if (q->bitmap_count) {
    const uint64_t end = tn_node_size (q->file);
    if (q->bitmap_directory_offset > end || length > end - q->bitmap_directory_offset) {
      return qcow2_fail (q, error, EINVAL, "the bitmap directory at 0x%" PRIx64 " is not within the file",
                         q->bitmap_directory_offset);
    }
    directory = g_malloc (length);
    int ret = tn_node_read (q->file, q->bitmap_directory_offset, directory, length, error);
    if (ret < 0) {
      return ret;
    }
  }
  for (uint32_t i = 0; i < q->bitmap_count; i++) {
    Qcow2Bitmap bitmap = { .entry_offset = q->bitmap_directory_offset + at };
    uint64_t used = 0;
    int ret = parse_entry (q, directory + at, length - at, &bitmap, &used, error);
    if (ret < 0) {
      return ret;
    }
    g_array_append_val (list, bitmap);
    at = MIN (at + used, length);
  }
  *bitmaps = g_steal_pointer (&list);
  return 0;
}

Qcow2Bitmap *
qcow2_bitmap_find (GArray *bitmaps, const char *name)
{
  for (guint i = 0; bitmaps && i < bitmaps->len; i++) {
    Qcow2Bitmap *bitmap = &g_array_index (bitmaps, Qcow2Bitmap, i);
    if (!bitmap->removed && strcmp (bitmap->name, name) == 0) {
      return bitmap;
    }
  }
  return NULL;
}

/* ---- Bits: in pages of a cluster each, NULL where all are 0 ---- */

/* log2 of the bytes of the disk that a page stands for. */
static unsigned
page_bits (const Qcow2 *q, const Qcow2Bitmap *bitmap)
{
  return q->cluster_bits + 3 + bitmap->granularity_bits;
}

uint64_t
qcow2_bitmap_pages (const Qcow2 *q, unsigned granularity_bits, uint64_t size)
{
  const unsigned bits = q->cluster_bits + 3 + granularity_bits;
  return (size >> bits) + ((size & ((1ull << bits) - 1)) != 0);
}

static int
load_page (Qcow2 *q, Qcow2Bitmap *bitmap, uint64_t index, uint64_t entry, GError **error)
{
  const uint64_t place = entry & QCOW2_OFFSET_MASK;
  if ((entry & ~(QCOW2_OFFSET_MASK | 1)) || (place && (entry & 1)) || (place & (q->cluster_size - 1))
      || place >= tn_node_size (q->file)) {
    return qcow2_fail (q, error, EIO,
                       "entry %" PRIu64 " (0x%016" PRIx64 ") of the table of bitmap '%s' cannot be right",
                       index, entry, bitmap->name);
  }
  if (entry == 0) {
    return 0;
  }
  bitmap->pages[index] = g_malloc (q->cluster_size);
  memset (bitmap->pages[index], 0xff, q->cluster_size);
  return place ? tn_node_read (q->file, place, bitmap->pages[index], q->cluster_size, error) : 0;
}

static int
check_bitmap (Qcow2 *q, const Qcow2Bitmap *bitmap, GError **error)
{
  const uint64_t end = tn_node_size (q->file), bytes = bitmap->table_size * 8ull;
  if (bitmap->flags & QCOW2_BITMAP_IN_USE) {
    return qcow2_fail (
        q, error, EINVAL,
        "bitmap '%s' is inconsistent, since it was in use when the image was last left: remove it",
        bitmap->name);
  }
  if (bitmap->type != 1 || (bitmap->flags & ~QCOW2_BITMAP_KNOWN_FLAGS)) {
    return qcow2_fail (q, error, ENOTSUP, "bitmap '%s' is of a kind (type %u, flags 0x%x) that is not known",
                       bitmap->name, bitmap->type, bitmap->flags);
  }
  if (bitmap->granularity_bits < QCOW2_BITMAP_MIN_BITS || bitmap->granularity_bits > QCOW2_BITMAP_MAX_BITS
      || bitmap->table_size != qcow2_bitmap_pages (q, bitmap->granularity_bits, q->header.size)
      || bytes > QCOW2_MAX_L1_BYTES || (bitmap->table_offset & (q->cluster_size - 1))
      || bitmap->table_offset > end || bytes > end - bitmap->table_offset) {
    return qcow2_fail (q, error, EINVAL, "the table of bitmap '%s' does not fit the disk and the file",
                       bitmap->name);
  }
  return 0;
}

int
qcow2_bitmap_read_table (Qcow2 *q, const Qcow2Bitmap *bitmap, uint64_t **table, GError **error)
{
  const uint64_t bytes = bitmap->table_size * 8ull, end = tn_node_size (q->file);
  if (bytes > QCOW2_MAX_L1_BYTES || bitmap->table_offset > end || bytes > end - bitmap->table_offset) {
    return qcow2_fail (q, error, EIO, "the table of bitmap '%s' is not within the file", bitmap->name);
  }
  g_autofree uint64_t *read = g_malloc (MAX (bytes, 8));
  int ret = bytes ? tn_node_read (q->file, bitmap->table_offset, read, bytes, error) : 0;
  for (uint64_t i = 0; ret == 0 && i < bitmap->table_size; i++) {
    read[i] = GUINT64_FROM_BE (read[i]);
  }
  if (ret == 0) {
    *table = g_steal_pointer (&read);
  }
  return ret;
}

int
qcow2_bitmap_load (Qcow2 *q, Qcow2Bitmap *bitmap, GError **error)
{
  g_autofree uint64_t *table = NULL;
  if (bitmap->pages) {
    return 0;
  }
  int ret = check_bitmap (q, bitmap, error);
  if (ret < 0 || (ret = qcow2_bitmap_read_table (q, bitmap, &table, error)) < 0) {
    return ret;
  }
  bitmap->n_pages = bitmap->table_size;
  bitmap->pages = g_new0 (uint8_t *, MAX (bitmap->n_pages, 1));
  for (uint64_t i = 0; ret == 0 && i < bitmap->n_pages; i++) {
    ret = load_page (q, bitmap, i, table[i], error);
  }
  if (ret < 0) {
    drop_pages (bitmap);
  }
  return ret;
}

/* Bits [first, last] of a page. */
static void
set_bits (uint8_t *page, uint64_t first, uint64_t last)
{
  const uint64_t first_byte = first / 8, last_byte = last / 8;
  const uint8_t head = (uint8_t) (0xff << (first % 8)), tail = (uint8_t) (0xff >> (7 - last % 8));
  if (first_byte == last_byte) {
    page[first_byte] |= head & tail;
    return;
  }
  page[first_byte] |= head;
  memset (page + first_byte + 1, 0xff, last_byte - first_byte - 1);
  page[last_byte] |= tail;
}

void
qcow2_bitmap_set (const Qcow2 *q, Qcow2Bitmap *bitmap, uint64_t offset, uint64_t length)
{
  const unsigned bits = bitmap->granularity_bits, per_page = q->cluster_bits + 3;
  const uint64_t size = q->size;
  if (offset >= size || length == 0) {
    return;
  }
  length = MIN (length, size - offset);
  uint64_t bit = offset >> bits;
  const uint64_t last = (offset + length - 1) >> bits;
  bitmap->changed = true;
  while (bit <= last) {
    const uint64_t index = bit >> per_page, page_last = MIN (last, ((index + 1) << per_page) - 1),
                   mask = (1ull << per_page) - 1;
    if (index >= bitmap->n_pages) {
      return;
    }
    if (bitmap->pages[index] == NULL) {
      bitmap->pages[index] = g_malloc0 (q->cluster_size);
    }
    set_bits (bitmap->pages[index], bit & mask, page_last & mask);
    bit = page_last + 1;
  }
}

void
qcow2_bitmap_erase (const Qcow2 *q, Qcow2Bitmap *bitmap)
{
  drop_pages (bitmap);
  bitmap->n_pages = qcow2_bitmap_pages (q, bitmap->granularity_bits, q->size);
  bitmap->pages = g_new0 (uint8_t *, MAX (bitmap->n_pages, 1));
  bitmap->changed = true;
}

/* Bits behind the end of a disk of @size bytes go. */
void
qcow2_bitmap_fit (const Qcow2 *q, Qcow2Bitmap *bitmap, uint64_t size)
{
  const uint64_t n = qcow2_bitmap_pages (q, bitmap->granularity_bits, size);
  for (uint64_t i = n; i < bitmap->n_pages; i++) {
    g_free (bitmap->pages[i]);
  }
  bitmap->pages = g_renew (uint8_t *, bitmap->pages, MAX (n, 1));
  for (uint64_t i = bitmap->n_pages; i < n; i++) {
    bitmap->pages[i] = NULL;
  }
  bitmap->n_pages = n;
  bitmap->changed = true;
  const uint64_t last_bit = size ? (size - 1) >> bitmap->granularity_bits : 0;
  uint8_t *page = n ? bitmap->pages[n - 1] : NULL;
  const uint64_t bits = (uint64_t) q->cluster_size * 8;
  for (uint64_t bit = (last_bit & (bits - 1)) + 1; page && bit < bits; bit++) {
    page[bit / 8] &= (uint8_t) ~(1u << (bit % 8));
  }
}

/* The next run of 1 bits in the page from *bit on; false: there is none. */
static bool
next_run (const uint8_t *page, uint64_t bits, uint64_t *bit, uint64_t *end)
{
  while (*bit < bits && !(page[*bit / 8] >> (*bit % 8) & 1)) {
    *bit += page[*bit / 8] == 0 && *bit % 8 == 0 ? 8 : 1;
  }
  *end = *bit;
  while (*end < bits && (page[*end / 8] >> (*end % 8) & 1)) {
    *end += page[*end / 8] == 0xff && *end % 8 == 0 ? 8 : 1;
  }
  return *bit < bits;
}

int
qcow2_bitmap_visit (TnNode *node, const char *name,
                    int (*dirty) (uint64_t offset, uint64_t length, void *opaque, GError **error),
                    void *opaque, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  g_autoptr (GArray) list = q->bitmaps ? g_array_ref (q->bitmaps) : NULL;
  int ret = list ? 0 : qcow2_bitmaps_read (q, &list, error);
  if (ret < 0) {
    return ret;
  }
  Qcow2Bitmap *bitmap = qcow2_bitmap_find (list, name);
  if (bitmap == NULL) {
    return qcow2_fail (q, error, ENOENT, "there is no bitmap '%s'", name);
  }
  ret = qcow2_bitmap_load (q, bitmap, error);
  const uint64_t bits = (uint64_t) q->cluster_size * 8;
  for (uint64_t i = 0; ret == 0 && i < bitmap->n_pages; i++) {
    const uint64_t base = i << page_bits (q, bitmap);
    uint64_t bit = 0, end;
    while (ret == 0 && bitmap->pages[i] && next_run (bitmap->pages[i], bits, &bit, &end)) {
      ret = dirty (base + (bit << bitmap->granularity_bits), (end - bit) << bitmap->granularity_bits, opaque,
                   error);
      bit = end;
    }
  }
  return MIN (ret, 0);
}
