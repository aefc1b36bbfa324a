/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes of the block graph. */
#include "daemon.h"

TnNode *
daemon_find_node (const Daemon *daemon, const char *name)
{
  for (guint i = 0; i < daemon->nodes->len; i++) {
    TnNode *node = g_ptr_array_index (daemon->nodes, i);
    if (strcmp (tn_node_name (node), name) == 0)
      return node;
  }
  return NULL;
}

int
daemon_blockdev_add (Daemon *daemon, TnOptions *options, GError **error)
{
  TnNode *node = NULL;
  if (!tn_options_has (options, "node-name"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "a block device needs node-name=NAME");
  if (!tn_options_has (options, "driver"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "a block device needs driver=NAME");
  const int rc = tn_node_open (options, TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, error);
  if (rc == 0)
    g_ptr_array_add (daemon->nodes, node);
  return rc;
}

typedef struct Search {
  const TnNode *wanted;
  bool found;
} Search;

static void
look_at_child (TnNode *child, const char *role, void *opaque)
{
  Search *search = opaque;
  search->found = search->found || child == search->wanted;
  if (!search->found)
    tn_node_foreach_child (child, look_at_child, search);
}

/* What uses @node, as text, or NULL. */
static char *
find_user (const Daemon *daemon, const TnNode *node)
{
  for (guint i = 0; i < daemon->exports->len; i++) {
    const DaemonExport *export = g_ptr_array_index (daemon->exports, i);
    if (tn_drive_node (export->drive) == node)
      return g_strdup_printf ("export '%s'", export->id);
  }
  for (guint i = 0; i < daemon->nodes->len; i++) {
    TnNode *other = g_ptr_array_index (daemon->nodes, i);
    Search search = { .wanted = node };
    tn_node_foreach_child (other, look_at_child, &search);
    if (search.found)
      return g_strdup_printf ("node '%s'", tn_node_name (other));
  }
  return NULL;
}

int
daemon_blockdev_del (Daemon *daemon, const char *name, GError **error)
{
  TnNode *node = daemon_find_node (daemon, name);
  if (!node)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no node '%s'", name);
  g_autofree char *user = find_user (daemon, node);
  if (user)
    return tn_fail (error, TN_OPTION_ERROR, EBUSY, "node '%s' is in use by %s", name, user);
  guint at = 0;
  if (g_ptr_array_find (daemon->nodes, node, &at))
    g_ptr_array_steal_index (daemon->nodes, at);
  return tn_node_close (node, error);
}

int
daemon_resize (Daemon *daemon, const char *name, uint64_t size, GError **error)
{
  TnNode *node = daemon_find_node (daemon, name);
  if (!node)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no node '%s'", name);
  int rc = tn_node_resize (node, size, TN_PREALLOC_OFF, error);
  for (guint i = 0; i < daemon->exports->len && rc == 0; i++) {
    const DaemonExport *export = g_ptr_array_index (daemon->exports, i);
    if (tn_drive_node (export->drive) == node)
      rc = tn_drive_resize (export->drive, size, error); /* nothing to do but to tell */
  }
  return rc;
}

static void
describe (TnNode *node, TnJson *json)
{
  const uint32_t flags = tn_node_open_flags (node);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "node-name", tn_node_name (node));
  tn_json_string (json, "drv", tn_node_class_name (node));
  tn_json_string (json, "file", tn_node_filename (node));
  tn_json_bool (json, "ro", tn_node_is_read_only (node));
  tn_json_object_begin (json, "cache");
  tn_json_bool (json, "writeback", true);
  tn_json_bool (json, "direct", flags & TN_OPEN_DIRECT);
  tn_json_bool (json, "no-flush", flags & TN_OPEN_NO_FLUSH);
  tn_json_object_end (json);
  tn_json_object_begin (json, "image");
  tn_json_string (json, "filename", tn_node_filename (node));
  tn_json_string (json, "format", tn_node_class_name (node));
  tn_json_uint (json, "virtual-size", tn_node_size (node));
  tn_json_object_end (json);
  tn_json_object_end (json);
}

void
daemon_list_nodes (const Daemon *daemon, TnJson *json)
{
  tn_json_array_begin (json, "return");
  for (guint i = 0; i < daemon->nodes->len; i++)
    describe (g_ptr_array_index (daemon->nodes, i), json);
  tn_json_array_end (json);
}
