/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, closing, and what the class offers. */
#include "vpc.h"

#include <stdarg.h>

#include <tenon/json.h>

int
vpc_fail (const Vpc *v, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "vpc image '%s': %s", tn_node_filename (v->file), text);
}

static int
vpc_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vpc *v = tn_node_state (node);
  bool at_end;
  v->node = node;
  v->file = tn_node_child (node, "file");
  v->writable = flags & TN_OPEN_WRITE;
  v->check_parent_time = tn_options_bool (options, "check_parent_time");
  int ret = vpc_footer_read (v, &at_end, error);
  if (ret == 0)
    ret = vpc_choose_size (v, tn_options_get (options, "force_size_calc"), error);
  if (ret == 0 && v->footer.type != VPC_FIXED)
    ret = vpc_dynamic_read (v, error);
  if (ret < 0) {
    g_clear_pointer (&v->parent_name, g_free);
    return ret;
  }
  tn_node_set_size (node, v->size);
  if (v->footer.type == VPC_FIXED)
    return 0;
  v->full = g_hash_table_new (NULL, NULL);
  v->spare = g_array_new (false, false, sizeof (uint64_t));
  v->bat.cache = tn_meta_cache_new (v->file, "BAT", v->bat.slice_size, VPC_BAT_BUDGET);
  v->bitmaps = tn_meta_cache_new (v->file, "sector bitmap", VPC_SECTOR, VPC_BITMAP_BUDGET);
  tn_node_set_allocation_unit (node, v->block_size);
  if (v->footer.type == VPC_DIFFERENCING)
    vpc_name_parent (v, flags);
  return 0;
}

static int
vpc_flush (TnNode *node, GError **error)
{
  return vpc_flush_state (tn_node_state (node), error);
}

static int
vpc_close (TnNode *node, GError **error)
{
  Vpc *v = tn_node_state (node);
  const bool dirty = v->bat.cache && (tn_meta_is_dirty (v->bat.cache) || tn_meta_is_dirty (v->bitmaps));
  const int ret = dirty ? vpc_flush_state (v, error) : 0;
  g_clear_pointer (&v->bat.cache, tn_meta_cache_free);
  g_clear_pointer (&v->bitmaps, tn_meta_cache_free);
  g_clear_pointer (&v->full, g_hash_table_unref);
  g_clear_pointer (&v->spare, g_array_unref);
  g_clear_pointer (&v->parent_name, g_free);
  return ret;
}

static int
vpc_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vpc *v = tn_node_state (node);
  const int ret = v->writable ? vpc_flush_state (v, error) : 0;
  if (ret == 0)
    v->writable = flags & TN_OPEN_WRITE;
  return ret;
}

static int
vpc_info (TnNode *node, TnInfo *info, GError **error)
{
  const Vpc *v = tn_node_state (node);
  info->cluster_size = v->block_size;
  return 0;
}

static const char *
vpc_type_name (uint32_t type)
{
  if (type == VPC_FIXED)
    return "fixed";
  return type == VPC_DYNAMIC ? "dynamic" : "differencing";
}

static void
vpc_put_uuid (TnJson *json, const char *name, const uint8_t uuid[16])
{
  char text[UUID_TEXT_SIZE];
  uuid_to_text (uuid, false, text);
  tn_json_string (json, name, text);
}

static char *
vpc_info_specific (TnNode *node, GError **error)
{
  const Vpc *v = tn_node_state (node);
  const VpcGeometry *geometry = &v->footer.geometry;
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "subformat", vpc_type_name (v->footer.type));
  tn_json_string (json, "creator", v->footer.creator);
  tn_json_string (json, "size-from", v->size_by_geometry ? "chs" : "current_size");
  tn_json_uint (json, "current-size", v->footer.current_size);
  tn_json_uint (json, "cylinders", geometry->cylinders);
  tn_json_uint (json, "heads", geometry->heads);
  tn_json_uint (json, "sectors", geometry->sectors);
  vpc_put_uuid (json, "uuid", v->footer.uuid);
  if (v->footer.type == VPC_DIFFERENCING)
    vpc_put_uuid (json, "parent-uuid", v->parent_uuid);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const char *const vpc_subformats[] = { "dynamic", "fixed", NULL };
static const char *const vpc_size_rules[] = { "chs", "current_size", NULL };

static const TnOption vpc_options[] = {
  { "force_size_calc", TN_OPTION_ENUM, TN_OPTION_OPEN, NULL,
    "which of the footer's two sizes the disk has (default: by the program that made it)",
    .choices = vpc_size_rules },
  { "check_parent_time", TN_OPTION_BOOL, TN_OPTION_OPEN, "off",
    "refuse a parent whose time stamp is another (copying a file changes it)" },
  { "subformat", TN_OPTION_ENUM, TN_OPTION_CREATE, "dynamic", "kind of image", .choices = vpc_subformats },
  { "force_size", TN_OPTION_BOOL, TN_OPTION_CREATE, "off",
    "exactly the size asked for, as Hyper-V and Azure have it, not the nearest with a geometry" },
  { "block_size", TN_OPTION_SIZE, TN_OPTION_CREATE, "2M", "bytes allocated at a time", 4096,
    VPC_MAX_BLOCK_SIZE },
  { "backing_file", TN_OPTION_STRING, TN_OPTION_CREATE, NULL,
    "parent of a differencing image, in its folder or below" },
  { "backing_fmt", TN_OPTION_STRING, TN_OPTION_CREATE, NULL, "its format: vpc" },
  { NULL },
};

static const TnFormatOps vpc_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_GROWS,
  .instance_size = sizeof (Vpc),
  .open = vpc_open,
  .close = vpc_close,
  .create = vpc_create,
  .map = vpc_map,
  .reserve = vpc_reserve,
  .commit = vpc_commit,
  .cancel = vpc_cancel,
  .unmap = vpc_unmap,
  .flush = vpc_flush,
  .resize = vpc_resize,
  .check = vpc_check,
  .info = vpc_info,
  .info_specific = vpc_info_specific,
  .measure = vpc_measure,
  .reopen = vpc_reopen,
};

static const char *const vpc_aliases[] = { "vhd", NULL };
static const char *const vpc_suffixes[] = { "vhd", "vpc", NULL };

static const TnMagic vpc_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "conectix" },
  { .offset = -512, .length = 8, .bytes = (const uint8_t *) "conectix" },
  { .offset = -511, .length = 8, .bytes = (const uint8_t *) "conectix" },
  { .length = 0 },
};

static const TnClass vpc_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "vpc",
  .summary = "VHD, the disk images of Virtual PC, Hyper-V and Azure",
  .aliases = vpc_aliases,
  .suffixes = vpc_suffixes,
  .magics = vpc_magics,
  .options = vpc_options,
  .ops = &vpc_ops,
};

static const TnClass *const vpc_classes[] = { &vpc_class, NULL };

TN_PLUGIN_DEFINE (format_vpc, .security = TN_SECURITY_HARDENED, .name = "format-vpc", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-vpc", .classes = vpc_classes);
