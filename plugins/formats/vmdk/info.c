/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `info` shows. */
#include "vmdk.h"

#include <tenon/json.h>

int
vmdk_info (TnNode *node, TnInfo *info, GError **error)
{
  Vmdk *v = tn_node_state (node);
  info->cluster_size = v->grain;
  info->compressed = v->n_extents && v->extents[0].sparse.compressed;
  return 0;
}

static void
vmdk_info_extent (const Vmdk *v, size_t index, TnJson *json)
{
  const VmdkExtent *e = &v->extents[index];
  const GArray *lines = v->descriptor.lines;
  const bool single = e->file == v->file || lines == NULL || index >= lines->len;
  const VmdkLine *line = single ? NULL : &g_array_index (lines, VmdkLine, index);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "virtual-size", e->length);
  tn_json_string (json, "filename",
                  single       ? tn_node_filename (v->file)
                  : e->path    ? e->path
                  : line->name ? line->name
                               : "");
  if (e->sparse.grain) {
    tn_json_uint (json, "cluster-size", e->sparse.grain);
  }
  tn_json_string (json, "format",
                  line                 ? line->kind
                  : e->sparse.cowd     ? "VMFSSPARSE"
                  : e->sparse.sesparse ? "SESPARSE"
                                       : "SPARSE");
  if (e->sparse.compressed) {
    tn_json_bool (json, "compressed", true);
  }
  tn_json_object_end (json);
}

char *
vmdk_info_specific (TnNode *node, GError **error)
{
  Vmdk *v = tn_node_state (node);
  GString *text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "cid", v->descriptor.cid);
  tn_json_uint (json, "parent-cid", v->descriptor.parent_cid);
  tn_json_string (json, "create-type", v->descriptor.create_type ? v->descriptor.create_type : "");
  tn_json_array_begin (json, "extents");
  for (size_t i = 0; i < v->n_extents; i++) {
    vmdk_info_extent (v, i, json);
  }
  tn_json_array_end (json);
  tn_json_object_end (json);
  return g_string_free (text, false);
}
