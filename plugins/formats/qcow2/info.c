/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an image says of itself. */
#include "crypt.h"

#include <tenon/json.h>

int
qcow2_info (TnNode *node, TnInfo *info, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  info->cluster_size = q->cluster_size;
  info->dirty = q->header.incompatible & QCOW2_INCOMPAT_DIRTY;
  info->corrupt = q->corrupt;
  info->encrypted = q->header.crypt_method != 0;
  return 0;
}

static int
put_bitmaps (Qcow2 *q, TnJson *json, GError **error)
{
  g_autoptr (GArray) list = NULL;
  int ret = q->bitmap_count ? qcow2_bitmaps_read (q, &list, error) : 0;
  if (ret < 0 || list == NULL) {
    return ret;
  }
  tn_json_array_begin (json, "bitmaps");
  for (guint i = 0; i < list->len; i++) {
    const Qcow2Bitmap *bitmap = &g_array_index (list, Qcow2Bitmap, i);
    tn_json_object_begin (json, NULL);
    tn_json_array_begin (json, "flags");
    if (bitmap->flags & 1) {
      tn_json_string (json, NULL, "in-use");
    }
    if (bitmap->flags & 2) {
      tn_json_string (json, NULL, "auto");
    }
    tn_json_array_end (json);
    tn_json_string (json, "name", bitmap->name);
    tn_json_uint (json, "granularity", 1ull << (bitmap->granularity_bits & 63));
    tn_json_object_end (json);
  }
  tn_json_array_end (json);
  return 0;
}

int
qcow2_bitmaps (TnNode *node, void (*visit) (const TnBitmap *bitmap, void *opaque), void *opaque,
               GError **error)
{
  Qcow2 *q = tn_node_state (node);
  g_autoptr (GArray) list = NULL;
  int ret = q->bitmap_count ? qcow2_bitmaps_read (q, &list, error) : 0;
  for (guint i = 0; list && i < list->len; i++) {
    const Qcow2Bitmap *stored = &g_array_index (list, Qcow2Bitmap, i);
    const TnBitmap bitmap = {
      .size = sizeof bitmap,
      .recording = stored->flags & QCOW2_BITMAP_AUTO,
      .inconsistent = stored->flags & QCOW2_BITMAP_IN_USE,
      .name = stored->name,
      .granularity = 1ull << (stored->granularity_bits & 63),
    };
    visit (&bitmap, opaque);
  }
  return ret;
}

/* In the order in which QEMU has them. */
static int
put_version3 (Qcow2 *q, TnJson *json, GError **error)
{
  tn_json_bool (json, "lazy-refcounts", q->header.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
  int ret = put_bitmaps (q, json, error);
  if (ret < 0) {
    return ret;
  }
  tn_json_uint (json, "refcount-bits", 1ull << q->header.refcount_order);
  tn_json_bool (json, "corrupt", q->corrupt);
  tn_json_bool (json, "extended-l2", q->extended);
  if (!q->external) {
    return 0;
  }
  if (q->data_file_name) {
    tn_json_string (json, "data-file", q->data_file_name);
  }
  tn_json_bool (json, "data-file-raw", q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW);
  return 0;
}

char *
qcow2_info_specific (TnNode *node, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "compat", q->header.version < 3 ? "0.10" : "1.1");
  tn_json_string (json, "compression-type", q->header.compression_type == 0 ? "zlib" : "zstd");
  if (q->header.version < 3) {
    tn_json_uint (json, "refcount-bits", 16);
  } else if (put_version3 (q, json, error) < 0) {
    return NULL;
  }
  qcow2_crypt_describe (q, json);
  tn_json_object_end (json);
  return g_strdup (text->str);
}
