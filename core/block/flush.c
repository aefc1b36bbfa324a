/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Flushing a format node: its metadata, then what lies below and can be written. */
#include "block/internal.h"

static int
call_locked (TnNode *node, int (*callback) (TnNode *, GError **), GError **error)
{
  if (!callback)
    return 0;
  tn_map_lock (node);
  int rc = callback (node, error);
  tn_map_unlock (node);
  return MIN (rc, 0);
}

static int
flush_children (TnNode *node, GError **error)
{
  int rc = 0;
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

static int
flush_node (TnNode *node, GError **error)
{
  int rc = call_locked (node, node->format.flush, error);
  int below = flush_children (node, rc ? NULL : error);
  return rc ? rc : below;
}

int
tn_route_flush (TnNode *node, GError **error)
{
  if (!(tn_node_flags_now (node) & TN_OPEN_WRITE))
    return 0;
  if (!node->format.flushed)
    return flush_node (node, error);
  /* What flushed() hears of is what this flush() wrote, not what another one is still writing. */
  tn_co_mutex_lock (&node->flush_mutex);
  int rc = flush_node (node, error);
  if (!rc)
    rc = call_locked (node, node->format.flushed, error);
  tn_co_mutex_unlock (&node->flush_mutex);
  return rc;
}
