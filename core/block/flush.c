/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Flushing a format node: its metadata, then what lies below and can be written. */
#include "block/internal.h"

static int
flush_format (TnNode *node, GError **error)
{
  if (!node->format.flush)
    return 0;
  tn_map_lock (node);
  int rc = node->format.flush (node, error);
  tn_map_unlock (node);
  return MIN (rc, 0);
}

int
tn_route_flush (TnNode *node, GError **error)
{
  if (!(tn_node_flags_now (node) & TN_OPEN_WRITE))
    return 0;
  int rc = flush_format (node, error);
  for (guint i = 0; i < node->children->len; i++) {
    TnNode *child = g_array_index (node->children, TnChild, i).node;
    if (!(tn_node_flags_now (child) & TN_OPEN_WRITE))
      continue;
    int below = tn_node_do (child, TN_REQUEST_FLUSH, 0, 0, NULL, 0, 0, rc ? NULL : error);
    if (!rc)
      rc = below;
  }
  return rc;
}
