/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the log writes, kept in memory as long as the file must not change. */
#include "vhdx.h"

#define MAX_PAGES 16384u
#define MAX_ZEROES 16384u
#define MAX_PINS 16384u

void
vhdx_overlay_init (VhdxOverlay *overlay)
{
  *overlay = (VhdxOverlay){
    .pages = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free),
    .zeroes = g_array_new (false, false, sizeof (VhdxRange)),
    .pins = g_ptr_array_new_with_free_func ((GDestroyNotify) tn_meta_put),
  };
}

void
vhdx_overlay_clear (VhdxOverlay *overlay)
{
  g_clear_pointer (&overlay->pins, g_ptr_array_unref);
  g_clear_pointer (&overlay->pages, g_hash_table_unref);
  g_clear_pointer (&overlay->zeroes, g_array_unref);
}

bool
vhdx_overlay_is_empty (const VhdxOverlay *overlay)
{
  return g_hash_table_size (overlay->pages) == 0 && overlay->zeroes->len == 0;
}

uint64_t
vhdx_file_size (const Vhdx *v)
{
  return MAX (tn_node_size (v->file), v->overlay.file_size);
}

/* ---- Collecting ---- */

bool
vhdx_overlay_add_page (VhdxOverlay *overlay, uint64_t offset, const uint8_t page[VHDX_PAGE])
{
  if (g_hash_table_size (overlay->pages) >= MAX_PAGES)
    return false;
  g_hash_table_insert (overlay->pages, g_memdup2 (&offset, sizeof offset), g_memdup2 (page, VHDX_PAGE));
  return true;
}

static gboolean
vhdx_lies_within (gpointer key, gpointer value, gpointer opaque)
{
  const uint64_t offset = *(const uint64_t *) key;
  const VhdxRange *range = opaque;
  return offset >= range->offset && offset - range->offset < range->length;
}

bool
vhdx_overlay_add_zeroes (VhdxOverlay *overlay, uint64_t offset, uint64_t length)
{
  VhdxRange range = { offset, length };
  if (overlay->zeroes->len >= MAX_ZEROES)
    return false;
  g_hash_table_foreach_remove (overlay->pages, vhdx_lies_within, &range);
  g_array_append_val (overlay->zeroes, range);
  return true;
}

/* ---- Looking through it ---- */

static bool
vhdx_meets (const VhdxRange *range, uint64_t offset, uint64_t length)
{
  return range->offset < offset + length && offset < range->offset + range->length;
}

bool
vhdx_overlay_meets (const VhdxOverlay *overlay, uint64_t offset, uint64_t length)
{
  GHashTableIter iter;
  gpointer key;
  for (guint i = 0; i < overlay->zeroes->len; i++)
    if (vhdx_meets (&g_array_index (overlay->zeroes, VhdxRange, i), offset, length))
      return true;
  g_hash_table_iter_init (&iter, overlay->pages);
  while (g_hash_table_iter_next (&iter, &key, NULL)) {
    const VhdxRange page = { *(const uint64_t *) key, VHDX_PAGE };
    if (vhdx_meets (&page, offset, length))
      return true;
  }
  return false;
}

/* Puts what the log writes to [offset, offset + length) over @bytes. */
static void
vhdx_overlay_apply (const VhdxOverlay *overlay, uint64_t offset, uint8_t *bytes, uint64_t length)
{
  const uint64_t end = offset + length;
  for (guint i = 0; i < overlay->zeroes->len; i++) {
    const VhdxRange *range = &g_array_index (overlay->zeroes, VhdxRange, i);
    if (!vhdx_meets (range, offset, length))
      continue;
    const uint64_t from = MAX (range->offset, offset), to = MIN (range->offset + range->length, end);
    memset (bytes + (from - offset), 0, to - from);
  }
  for (uint64_t at = offset & ~(uint64_t) (VHDX_PAGE - 1); at < end; at += VHDX_PAGE) {
    const uint8_t *page = g_hash_table_lookup (overlay->pages, &at);
    if (!page)
      continue;
    const uint64_t from = MAX (at, offset), to = MIN (at + VHDX_PAGE, end);
    memcpy (bytes + (from - offset), page + (from - at), to - from);
  }
}

int
vhdx_read (Vhdx *v, uint64_t offset, void *buffer, uint64_t length, GError **error)
{
  const uint64_t file_size = tn_node_size (v->file);
  const uint64_t inside = offset < file_size ? MIN (length, file_size - offset) : 0;
  memset ((uint8_t *) buffer + inside, 0, length - inside);
  const int ret = inside ? tn_node_read (v->file, offset, buffer, inside, error) : 0;
  if (ret == 0)
    vhdx_overlay_apply (&v->overlay, offset, buffer, length);
  return ret;
}

/* ---- The caches ---- */

static int
vhdx_pin_page (Vhdx *v, TnMetaCache *cache, uint64_t offset, GError **error)
{
  TnMetaSlice *slice;
  if (v->overlay.pins->len >= MAX_PINS)
    return vhdx_fail (v, error, ENOMEM, "its log changes too much to be replayed in memory");
  const int ret = tn_meta_get (cache, offset, &slice, error);
  if (ret < 0)
    return ret;
  vhdx_overlay_apply (&v->overlay, offset, tn_meta_data (slice), VHDX_PAGE);
  g_ptr_array_add (v->overlay.pins, slice);
  return 0;
}

/* Zeroes in the BAT; elsewhere they are left to be found by the reader of the block. */
static int
vhdx_pin_zeroes (Vhdx *v, const VhdxRange *range, GError **error)
{
  const VhdxRange *bat = &v->bat_region;
  const uint64_t bat_end = bat->offset + (v->bat_entries * 8 + VHDX_PAGE - 1) / VHDX_PAGE * VHDX_PAGE;
  const uint64_t end = MIN (range->offset + range->length, bat_end);
  int ret = 0;
  for (uint64_t at = MAX (range->offset, bat->offset); ret == 0 && at < end; at += VHDX_PAGE)
    ret = vhdx_pin_page (v, v->bat.cache, at, error);
  return ret;
}

int
vhdx_overlay_pin (Vhdx *v, GError **error)
{
  GHashTableIter iter;
  gpointer key;
  int ret = 0;
  for (guint i = 0; ret == 0 && i < v->overlay.zeroes->len; i++)
    ret = vhdx_pin_zeroes (v, &g_array_index (v->overlay.zeroes, VhdxRange, i), error);
  g_hash_table_iter_init (&iter, v->overlay.pages);
  while (ret == 0 && g_hash_table_iter_next (&iter, &key, NULL)) {
    const uint64_t offset = *(const uint64_t *) key;
    const bool in_bat =
        offset >= v->bat_region.offset && offset - v->bat_region.offset < v->bat_region.length;
    ret = vhdx_pin_page (v, in_bat ? v->bat.cache : v->bitmaps, offset, error);
  }
  return ret;
}

/* ---- Into the file ---- */

int
vhdx_overlay_write (Vhdx *v, GError **error)
{
  GHashTableIter iter;
  gpointer key, page;
  int ret = 0;
  if (v->overlay.file_size > tn_node_size (v->file))
    ret = tn_node_resize (v->file, v->overlay.file_size, TN_PREALLOC_OFF, error);
  for (guint i = 0; ret == 0 && i < v->overlay.zeroes->len; i++) {
    const VhdxRange *range = &g_array_index (v->overlay.zeroes, VhdxRange, i);
    const uint64_t size = tn_node_size (v->file); /* zeroes behind that are there already */
    if (range->offset < size)
      ret =
          tn_node_write_zeroes (v->file, range->offset, MIN (range->length, size - range->offset), 0, error);
  }
  g_hash_table_iter_init (&iter, v->overlay.pages);
  while (ret == 0 && g_hash_table_iter_next (&iter, &key, &page))
    ret = tn_node_write (v->file, *(const uint64_t *) key, page, VHDX_PAGE, error);
  return ret < 0 ? ret : tn_node_flush (v->file, error);
}
