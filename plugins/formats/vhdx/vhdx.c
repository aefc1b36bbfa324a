/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, closing, and what the class offers. */
#include "vhdx.h"

#include <stdarg.h>

#include <tenon/json.h>

int
vhdx_fail (const Vhdx *v, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "vhdx image '%s': %s", tn_node_filename (v->file), text);
}

static void
vhdx_clear (Vhdx *v)
{
  vhdx_overlay_clear (&v->overlay);
  g_clear_pointer (&v->bat.cache, tn_meta_cache_free);
  g_clear_pointer (&v->bitmaps, tn_meta_cache_free);
  g_clear_pointer (&v->freed, g_array_unref);
  g_clear_pointer (&v->spare, g_array_unref);
  for (unsigned i = 0; i < G_N_ELEMENTS (v->parent_linkage); i++)
    g_clear_pointer (&v->parent_linkage[i], g_free);
  for (unsigned i = 0; i < G_N_ELEMENTS (v->parent_paths); i++)
    g_clear_pointer (&v->parent_paths[i], g_free);
}

static int
vhdx_load (Vhdx *v, GError **error)
{
  int ret = vhdx_headers_read (v, error);
  if (ret < 0 || (ret = vhdx_log_replay (v, error)) < 0 || (ret = vhdx_regions_read (v, error)) < 0
      || (ret = vhdx_metadata_read (v, error)) < 0)
    return ret;
  v->bat = (BlockTable){ .offset = v->bat_region.offset, .slice_size = VHDX_PAGE, .entry_size = 8 };
  v->bat.cache = tn_meta_cache_new (v->file, "BAT", VHDX_PAGE, VHDX_CACHE_BUDGET);
  v->bitmaps = tn_meta_cache_new (v->file, "sector bitmap", VHDX_PAGE, VHDX_CACHE_BUDGET);
  return vhdx_overlay_pin (v, error);
}

static int
vhdx_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vhdx *v = tn_node_state (node);
  v->node = node;
  v->file = tn_node_child (node, "file");
  v->writable = flags & TN_OPEN_WRITE;
  v->freed = g_array_new (false, false, sizeof (uint64_t));
  v->spare = g_array_new (false, false, sizeof (uint64_t));
  vhdx_overlay_init (&v->overlay);
  const int ret = vhdx_load (v, error);
  if (ret < 0) {
    vhdx_clear (v);
    return ret;
  }
  tn_node_set_allocation_unit (node, v->block_size);
  tn_node_set_size (node, v->size);
  if (v->has_parent)
    vhdx_name_parent (v, flags);
  return 0;
}

static int
vhdx_flush (TnNode *node, GError **error)
{
  return vhdx_flush_state (tn_node_state (node), error);
}

static int
vhdx_close (TnNode *node, GError **error)
{
  Vhdx *v = tn_node_state (node);
  const int ret = v->bat.cache && tn_meta_is_dirty (v->bat.cache) ? vhdx_flush_state (v, error) : 0;
  vhdx_clear (v);
  return ret;
}

static int
vhdx_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vhdx *v = tn_node_state (node);
  const int ret = v->writable ? vhdx_flush_state (v, error) : 0;
  if (ret == 0)
    v->writable = flags & TN_OPEN_WRITE;
  return ret;
}

static int
vhdx_info (TnNode *node, TnInfo *info, GError **error)
{
  const Vhdx *v = tn_node_state (node);
  info->cluster_size = v->block_size;
  info->dirty = !vhdx_overlay_is_empty (&v->overlay);
  return 0;
}

static void
vhdx_put_uuid (TnJson *json, const char *name, const uint8_t uuid[16])
{
  char text[UUID_TEXT_SIZE];
  uuid_to_text (uuid, true, text);
  tn_json_string (json, name, text);
}

static char *
vhdx_info_specific (TnNode *node, GError **error)
{
  const Vhdx *v = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "subformat",
                  v->has_parent         ? "differencing"
                  : v->leaves_allocated ? "fixed"
                                        : "dynamic");
  tn_json_uint (json, "block-size", v->block_size);
  tn_json_uint (json, "log-size", v->header.log_length);
  tn_json_uint (json, "logical-sector-size", v->sector_size);
  tn_json_uint (json, "physical-sector-size", v->physical_sector_size);
  tn_json_bool (json, "log-to-replay", !vhdx_overlay_is_empty (&v->overlay));
  vhdx_put_uuid (json, "disk-guid", v->disk_guid);
  vhdx_put_uuid (json, "data-write-guid", v->header.data_guid);
  if (v->has_parent && v->parent_linkage[0])
    tn_json_string (json, "parent-linkage", v->parent_linkage[0]);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const char *const vhdx_subformats[] = { "dynamic", "fixed", NULL };
static const char *const vhdx_sector_sizes[] = { "512", "4096", NULL };

static const TnOption vhdx_options[] = {
  { "subformat", TN_OPTION_ENUM, TN_OPTION_CREATE, "dynamic", "kind of image", .choices = vhdx_subformats },
  { "block_size", TN_OPTION_SIZE, TN_OPTION_CREATE, "0",
    "bytes allocated at a time, 1M to 256M; 0: by the size of the disk", 0, VHDX_MAX_BLOCK },
  { "log_size", TN_OPTION_SIZE, TN_OPTION_CREATE, "1M", "size of the log, in whole MiB", VHDX_MIB,
    VHDX_MAX_LOG },
  { "block_state_zero", TN_OPTION_BOOL, TN_OPTION_CREATE, "on",
    "mark blocks as zeroes rather than as not present" },
  { "logical_sector_size", TN_OPTION_ENUM, TN_OPTION_CREATE, "512", "sectors as a guest sees them",
    .choices = vhdx_sector_sizes },
  { "backing_file", TN_OPTION_STRING, TN_OPTION_CREATE, NULL,
    "parent of a differencing image, in its folder or below" },
  { "backing_fmt", TN_OPTION_STRING, TN_OPTION_CREATE, NULL, "its format: vhdx" },
  { NULL },
};

static const TnFormatOps vhdx_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_GROWS,
  .instance_size = sizeof (Vhdx),
  .open = vhdx_open,
  .close = vhdx_close,
  .create = vhdx_create,
  .map = vhdx_map,
  .reserve = vhdx_reserve,
  .commit = vhdx_commit,
  .adopt = vhdx_adopt,
  .cancel = vhdx_cancel,
  .unmap = vhdx_unmap,
  .flush = vhdx_flush,
  .resize = vhdx_resize,
  .check = vhdx_check,
  .info = vhdx_info,
  .info_specific = vhdx_info_specific,
  .measure = vhdx_measure,
  .reopen = vhdx_reopen,
};

static const char *const vhdx_suffixes[] = { "vhdx", "avhdx", NULL };

static const TnMagic vhdx_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "vhdxfile" },
  { .length = 0 },
};

static const TnClass vhdx_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "vhdx",
  .summary = "VHDX, the disk images of Hyper-V",
  .suffixes = vhdx_suffixes,
  .magics = vhdx_magics,
  .options = vhdx_options,
  .ops = &vhdx_ops,
};

static const TnClass *const vhdx_classes[] = { &vhdx_class, NULL };

TN_PLUGIN_DEFINE (format_vhdx, .security = TN_SECURITY_HARDENED, .name = "format-vhdx", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-vhdx", .classes = vhdx_classes);
