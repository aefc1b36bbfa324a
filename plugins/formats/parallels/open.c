/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, flushing and closing an image. */
#include "parallels.h"

#include <tenon/json.h>

#include <stdarg.h>

#define PARALLELS_BAT_BUDGET (16u << 20)

/* ---- Errors ---- */

int
parallels_fail (const Parallels *p, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "Parallels image '%s': %s", tn_node_filename (p->file),
                  text);
}

int
parallels_corrupt (const Parallels *p, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, EIO,
                  "Parallels image '%s' is corrupt: %s (check -r all may repair it)",
                  tn_node_filename (p->file), text);
}

int
parallels_need_writable (const Parallels *p, GError **error)
{
  return p->writable ? 0 : parallels_fail (p, error, EROFS, "it is open read-only");
}

/* ---- The in-use mark ---- */

/* Bitmaps that do not know of what is written now must not be believed any more: the extension goes at once.
 */
int
parallels_touch (Parallels *p, GError **error)
{
  const ParallelsHeader old = p->header;
  if (p->touched) {
    return 0;
  }
  p->header.in_use = PARALLELS_IN_USE;
  p->header.ext_offset = 0;
  int ret = parallels_header_write (p, error);
  if (ret < 0) {
    p->header = old;
    return ret;
  }
  p->touched = true;
  if (p->bitmaps) {
    g_array_set_size (p->bitmaps, 0);
  }
  return 0;
}

/* After a crash, before anything is written.  What is refused stays as it is. */
static int
parallels_recover (Parallels *p, GError **error)
{
  TnCheck check = { .size = sizeof check };
  uint64_t shared = 0;
  int ret = parallels_count_shared (p, &shared, error);
  if (ret < 0) {
    return ret;
  }
  if (shared) {
    return parallels_fail (p, error, EIO,
                           "it was not closed properly and has %" PRIu64
                           " clusters that are used twice: only check -r all may repair them",
                           shared);
  }
  return parallels_check_image (p, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, &check, error);
}

/* ---- Opening ---- */

static void
parallels_detach (Parallels *p)
{
  g_clear_pointer (&p->bat, tn_meta_cache_free);
  parallels_extension_free (p);
  tail_space_clear (&p->space);
}

static int
parallels_prepare_writing (Parallels *p, GError **error)
{
  if (p->must_not_write) {
    return parallels_fail (
        p, error, ENOTSUP,
        "its format extension has a necessary feature that is not known here: open it read-only");
  }
  p->zero_tail = tail_space_grows_with_zeroes (p->file);
  p->touched = false;
  if ((p->flags & TN_OPEN_CHECK) || p->header.in_use != PARALLELS_IN_USE) {
    return 0;
  }
  return parallels_recover (p, error);
}

static int
parallels_attach (Parallels *p, GError **error)
{
  int ret = parallels_header_read (p, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t file_size = tn_node_size (p->file);
  const uint64_t data = file_size > p->data_start ? file_size - p->data_start : 0;
  tail_space_init (&p->space, data / p->cluster_size + (data % p->cluster_size != 0));
  p->bat = tn_meta_cache_new (p->file, "BAT", p->slice_bytes, PARALLELS_BAT_BUDGET);
  tn_node_set_size (p->node, p->size);
  tn_node_set_allocation_unit (p->node, p->cluster_size);
  ret = parallels_extension_read (p, error);
  if (ret < 0 && (p->flags & TN_OPEN_CHECK)) {
    g_clear_error (error); /* check reports it */
    ret = 0;
  }
  return ret < 0 || !p->writable ? ret : parallels_prepare_writing (p, error);
}

static int
parallels_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Parallels *p = tn_node_state (node);
  p->node = node;
  p->file = tn_node_child (node, "file");
  p->flags = flags;
  p->writable = (flags & TN_OPEN_WRITE) && !(flags & TN_OPEN_NO_IO);
  int ret = parallels_attach (p, error);
  if (ret < 0) {
    parallels_detach (p);
  }
  return ret;
}

int
parallels_sync (Parallels *p, GError **error)
{
  TnMetaCache *const caches[] = { p->bat };
  return tn_meta_flush (caches, G_N_ELEMENTS (caches), error);
}

static int
parallels_flush (TnNode *node, GError **error)
{
  Parallels *p = tn_node_state (node);
  return p->writable ? parallels_sync (p, error) : 0;
}

/* Zero says, too, that whoever closed it has not kept a format extension. */
static int
parallels_finish_writing (Parallels *p, GError **error)
{
  int ret = parallels_sync (p, error);
  if (ret < 0 || !p->touched || (p->flags & TN_OPEN_CHECK) || (ret = parallels_cut (p, error)) < 0) {
    return ret;
  }
  p->header.in_use = 0;
  ret = parallels_header_write (p, error);
  p->touched = ret < 0;
  return ret;
}

static int
parallels_close (TnNode *node, GError **error)
{
  Parallels *p = tn_node_state (node);
  int ret = p->writable ? parallels_finish_writing (p, error) : 0;
  parallels_detach (p);
  return ret;
}

static int
parallels_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Parallels *p = tn_node_state (node);
  const bool want = (flags & TN_OPEN_WRITE) && !(p->flags & TN_OPEN_NO_IO);
  const uint32_t old = p->flags;
  int ret = p->writable && !want ? parallels_finish_writing (p, error) : 0;
  if (ret < 0) {
    return ret;
  }
  p->flags = flags;
  if (want && !p->writable) {
    p->writable = true;
    ret = parallels_prepare_writing (p, error);
  }
  p->writable = want && ret == 0;
  p->flags = ret < 0 ? old : flags;
  return ret;
}

/* ---- What it says of itself ---- */

static int
parallels_info (TnNode *node, TnInfo *info, GError **error)
{
  Parallels *p = tn_node_state (node);
  info->cluster_size = p->cluster_size;
  info->dirty = p->header.in_use == PARALLELS_IN_USE;
  return 0;
}

static void
parallels_put_bitmap (TnJson *json, const ParallelsBitmap *bitmap)
{
  g_autoptr (GString) id = g_string_new (NULL);
  for (unsigned i = 0; i < sizeof bitmap->id; i++) {
    g_string_append_printf (id, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bitmap->id[i]);
  }
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "name", id->str);
  tn_json_uint (json, "granularity", (uint64_t) bitmap->granularity * PARALLELS_SECTOR);
  tn_json_object_end (json);
}

static char *
parallels_info_specific (TnNode *node, GError **error)
{
  Parallels *p = tn_node_state (node);
  if (p->bitmaps == NULL || p->bitmaps->len == 0) {
    return NULL;
  }
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_array_begin (json, "bitmaps");
  for (guint i = 0; i < p->bitmaps->len; i++) {
    parallels_put_bitmap (json, &g_array_index (p->bitmaps, ParallelsBitmap, i));
  }
  tn_json_array_end (json);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

const TnFormatOps parallels_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_GROWS,
  .instance_size = sizeof (Parallels),
  .open = parallels_open,
  .close = parallels_close,
  .create = parallels_create,
  .map = parallels_map,
  .reserve = parallels_reserve,
  .commit = parallels_commit,
  .adopt = parallels_adopt,
  .cancel = parallels_cancel,
  .flush = parallels_flush,
  .resize = parallels_resize,
  .check = parallels_check,
  .info = parallels_info,
  .info_specific = parallels_info_specific,
  .measure = parallels_measure,
  .reopen = parallels_reopen,
};
