/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/allow.h"

#include "plugin/kinds.h"
#include "plugin/lookup.h"
#include "plugin/scan.h"
#include "util/nearest.h"

static bool
names_plugin (const TnKnown *known, const char *name)
{
  if (strcmp (known->manifest->name, name) == 0)
    return true;
  for (unsigned i = 0; i < known->manifest->n_classes; i++) {
    const TnClassInfo *info = &known->manifest->classes[i].info;
    if (tn_match_name (info, name) || tn_match_alias (info, name))
      return true;
  }
  return false;
}

bool
tn_allow_permits (const TnRegistry *registry, const TnKnown *known)
{
  for (char **name = registry->allowed; name && *name; name++) {
    if (names_plugin (known, *name))
      return true;
  }
  return !registry->allowed;
}

static int
check_allowed_name (const TnRegistry *registry, const char *name, GError **error)
{
  TnNearest nearest = { .wanted = name };
  for (guint i = 0; i < registry->known->len; i++) {
    const TnKnown *known = g_ptr_array_index (registry->known, i);
    if (names_plugin (known, name))
      return 0;
    tn_nearest_consider (&nearest, known->manifest->name);
    for (unsigned j = 0; j < known->manifest->n_classes; j++)
      tn_nearest_consider (&nearest, known->manifest->classes[j].info.name);
  }
  g_autofree char *hint = tn_nearest_hint (&nearest);
  g_autofree char *problems = tn_lookup_problems (registry);
  return tn_fail (
      error, TN_PLUGIN_ERROR, ENOENT,
      "the list of allowed plugins (--plugins or TENON_PLUGINS) names '%s', which is no plugin%s%s", name,
      hint, problems);
}

int
tn_allow_check (TnRegistry *registry, GError **error)
{
  if (!registry->allowed || registry->allowed_checked)
    return 0;
  tn_scan_prefix (registry, "", true);
  for (char **name = registry->allowed; *name; name++) {
    int r = check_allowed_name (registry, *name, error);
    if (r < 0)
      return r;
  }
  registry->allowed_checked = true;
  return 0;
}

void
tn_registry_allow_later (TnRegistry *registry, const char *list)
{
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  g_strfreev (registry->allowed);
  registry->allowed = g_strsplit (list, ",", -1);
  registry->allowed_checked = false;
}

int
tn_registry_allow (TnRegistry *registry, const char *list, GError **error)
{
  g_auto (GStrv) names = list ? g_strsplit (list, ",", -1) : NULL;
  for (char **name = names; name && *name; name++) {
    g_strstrip (*name);
    if (!tn_name_is_valid (*name))
      return tn_fail (
          error, TN_PLUGIN_ERROR, EINVAL,
          "'%s' in the list of allowed plugins is not a name: write names with commas between them", *name);
  }
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  g_strfreev (registry->allowed);
  registry->allowed = g_steal_pointer (&names);
  registry->allowed_checked = false;
  return 0;
}
