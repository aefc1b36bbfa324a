/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tool.h"

typedef struct Search {
  const char *name;
  char *path;
  char *class_name; /* of one that is linked in */
  TnKind kind;
  bool found;
} Search;

static bool
is_called (const TnClassInfo *info, const char *name)
{
  return strcmp (info->plugin, name) == 0 || strcmp (info->name, name) == 0
         || g_strv_contains (info->aliases, name);
}

static void
consider (const TnClassInfo *info, void *opaque)
{
  Search *search = opaque;
  bool by_plugin = strcmp (info->plugin, search->name) == 0;
  if (!is_called (info, search->name) || (search->found && !by_plugin))
    return;
  g_free (search->path);
  g_free (search->class_name);
  search->path = g_strdup (info->path);
  search->class_name = g_strdup (info->name);
  search->kind = info->kind;
  search->found = true;
}

typedef struct Owner {
  const TnClass *class;
  const TnPlugin *plugin;
} Owner;

static void
find_owner (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  Owner *owner = opaque;
  for (const TnClass *const *class = plugin->classes; *class; class ++) {
    if (*class == owner->class)
      owner->plugin = plugin;
  }
}

static const TnPlugin *
plugin_of_class (TnKind kind, const char *name, GError **error)
{
  Owner owner = { .class = tn_class_find (kind, name, error) };
  if (owner.class)
    tn_plugins_foreach_loaded (find_owner, &owner);
  return owner.plugin;
}

const TnPlugin *
tool_find_plugin (const char *name, GError **error)
{
  if (strchr (name, '/') || g_str_has_suffix (name, ".so"))
    return tn_plugin_load_file (name, error);
  Search search = { .name = name };
  const TnPlugin *plugin = NULL;
  if (tn_plugins_foreach (0, consider, NULL, &search, error) < 0)
    return NULL;
  if (search.found)
    plugin = plugin_of_class (search.kind, search.class_name, error);
  else
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT, "there is no plugin or class '%s': see 'tenon-plugin list'",
             name);
  g_free (search.path);
  g_free (search.class_name);
  return plugin;
}
