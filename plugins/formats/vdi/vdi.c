/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, closing, and what the class offers. */
#include "vdi.h"

#include <stdarg.h>

#include <tenon/json.h>

int
vdi_fail (const Vdi *v, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "vdi image '%s': %s", tn_node_filename (v->file), text);
}

void
vdi_make_map_cache (Vdi *v)
{
  v->map = (BlockTable){ .offset = v->header.map_offset,
                         .slice_size = block_table_slice (v->header.map_offset, v->header.data_offset),
                         .entry_size = 4 };
  v->map.cache = tn_meta_cache_new (v->file, "block map", v->map.slice_size, VDI_MAP_BUDGET);
}

static int
vdi_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vdi *v = tn_node_state (node);
  v->node = node;
  v->file = tn_node_child (node, "file");
  v->writable = flags & TN_OPEN_WRITE;
  const int ret = vdi_header_read (v, flags & (TN_OPEN_CHECK | TN_OPEN_NO_IO), error);
  if (ret < 0)
    return ret;
  vdi_make_map_cache (v);
  v->header_cache = tn_meta_cache_new (v->file, "header", VDI_SECTOR, VDI_SECTOR);
  tn_node_set_allocation_unit (node, v->header.block_size);
  tn_node_set_size (node, v->size);
  return 0;
}

static int
vdi_flush (TnNode *node, GError **error)
{
  return vdi_flush_state (tn_node_state (node), error);
}

static int
vdi_close (TnNode *node, GError **error)
{
  Vdi *v = tn_node_state (node);
  const bool dirty = v->map.cache && (tn_meta_is_dirty (v->map.cache) || tn_meta_is_dirty (v->header_cache));
  const int ret = dirty ? vdi_flush_state (v, error) : 0;
  g_clear_pointer (&v->map.cache, tn_meta_cache_free);
  g_clear_pointer (&v->header_cache, tn_meta_cache_free);
  g_clear_pointer (&v->used, g_free);
  return ret;
}

static int
vdi_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vdi *v = tn_node_state (node);
  const int ret = v->writable ? vdi_flush_state (v, error) : 0;
  if (ret == 0)
    v->writable = flags & TN_OPEN_WRITE;
  return ret;
}

static int
vdi_info (TnNode *node, TnInfo *info, GError **error)
{
  const Vdi *v = tn_node_state (node);
  info->cluster_size = v->header.block_size;
  return 0;
}

static const char *
vdi_type_name (uint32_t type)
{
  if (type == VDI_STATIC)
    return "static";
  return type == VDI_DIFFERENCING ? "differencing" : "dynamic";
}

static void
vdi_put_uuid (TnJson *json, const char *name, const uint8_t uuid[16])
{
  char text[UUID_TEXT_SIZE];
  uuid_to_text (uuid, true, text);
  tn_json_string (json, name, text);
}

static char *
vdi_info_specific (TnNode *node, GError **error)
{
  const Vdi *v = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "image-type", vdi_type_name (v->header.type));
  tn_json_uint (json, "blocks", v->header.blocks);
  tn_json_uint (json, "allocated-blocks", v->header.allocated);
  vdi_put_uuid (json, "uuid", v->header.uuid);
  if (v->header.type == VDI_DIFFERENCING)
    vdi_put_uuid (json, "parent-uuid", v->header.uuid_parent);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const char *const vdi_prealloc_choices[] = { "off", "metadata", "falloc", "full", NULL };

static const TnOption vdi_options[] = {
  { "block_size", TN_OPTION_SIZE, TN_OPTION_CREATE, "1M", "bytes allocated at a time; QEMU reads 1M only",
    4096, VDI_MAX_BLOCK_SIZE },
  { "static", TN_OPTION_BOOL, TN_OPTION_CREATE, "off", "static image: every block has its place at once" },
  { "preallocation", TN_OPTION_ENUM, TN_OPTION_CREATE, "off",
    "what to set aside at once; other than off makes a static image", .choices = vdi_prealloc_choices },
  { NULL },
};

static const TnFormatOps vdi_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_GROWS | TN_FORMAT_NO_GAPS,
  .instance_size = sizeof (Vdi),
  .open = vdi_open,
  .close = vdi_close,
  .create = vdi_create,
  .map = vdi_map,
  .reserve = vdi_reserve,
  .commit = vdi_commit,
  .adopt = vdi_adopt,
  .cancel = vdi_cancel,
  .unmap = vdi_unmap,
  .flush = vdi_flush,
  .resize = vdi_resize,
  .check = vdi_check,
  .info = vdi_info,
  .info_specific = vdi_info_specific,
  .measure = vdi_measure,
  .reopen = vdi_reopen,
};

static const char *const vdi_suffixes[] = { "vdi", NULL };

static const TnMagic vdi_magics[] = {
  { .offset = 0x40, .length = 4, .bytes = (const uint8_t *) "\x7f\x10\xda\xbe" },
  { .length = 0 },
};

static const TnClass vdi_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "vdi",
  .summary = "VirtualBox's disk images",
  .suffixes = vdi_suffixes,
  .magics = vdi_magics,
  .options = vdi_options,
  .ops = &vdi_ops,
};

static const TnClass *const vdi_classes[] = { &vdi_class, NULL };

TN_PLUGIN_DEFINE (format_vdi, .security = TN_SECURITY_HARDENED, .name = "format-vdi", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-vdi", .classes = vdi_classes);
