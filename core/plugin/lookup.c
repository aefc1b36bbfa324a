/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/lookup.h"

#include "plugin/kinds.h"
#include "plugin/scan.h"
#include "util/nearest.h"

static bool
list_has (const char *const *list, const char *text)
{
  for (; *list; list++) {
    if (strcmp (*list, text) == 0)
      return true;
  }
  return false;
}

bool
tn_match_name (const TnClassInfo *info, const char *text)
{
  return strcmp (info->name, text) == 0;
}

bool
tn_match_alias (const TnClassInfo *info, const char *text)
{
  return list_has (info->aliases, text);
}

bool
tn_match_scheme (const TnClassInfo *info, const char *text)
{
  return list_has (info->schemes, text);
}

bool
tn_lookup_known (const TnRegistry *registry, TnKind kind, TnMatch *match, const char *text, TnFound *found)
{
  for (guint i = 0; i < registry->known->len; i++) {
    TnKnown *known = g_ptr_array_index (registry->known, i);
    for (unsigned j = 0; j < known->manifest->n_classes; j++) {
      const TnManifestClass *class = &known->manifest->classes[j];
      if ((kind && class->info.kind != kind) || !match (&class->info, text))
        continue;
      *found = (TnFound){ known, class };
      return true;
    }
  }
  return false;
}

static void
scan_name (TnRegistry *registry, unsigned kind, const char *name)
{
  g_autofree char *plugin = g_strconcat (tn_kind_name (kind), "-", name, NULL);
  tn_scan_plugin (registry, plugin);
}

/* Whether the name is that of a class of some other kind only. */
static bool
belongs_to_other_kind (TnRegistry *registry, TnKind kind, const char *name)
{
  TnFound found;
  for (unsigned other = TN_KIND_FORMAT; other <= TN_KIND_LAST; other++) {
    if (other == kind || !tn_kind_info (other))
      continue;
    scan_name (registry, other, name);
    if (tn_lookup_known (registry, 0, tn_match_name, name, &found))
      break;
  }
  return !tn_lookup_known (registry, kind, tn_match_name, name, &found)
         && !tn_lookup_known (registry, kind, tn_match_alias, name, &found)
         && tn_lookup_known (registry, 0, tn_match_name, name, &found);
}

bool
tn_lookup_name (TnRegistry *registry, TnKind kind, const char *name, TnFound *found)
{
  if (tn_lookup_known (registry, kind, tn_match_name, name, found))
    return true;
  if (tn_name_is_valid (name)) {
    scan_name (registry, kind, name);
    if (tn_lookup_known (registry, kind, tn_match_name, name, found)
        || tn_lookup_known (registry, kind, tn_match_alias, name, found))
      return true;
    if (belongs_to_other_kind (registry, kind, name))
      return false;
  }
  for (int step = 0; step < 3; step++) {
    g_autofree char *prefix = step == 1 ? g_strconcat (tn_kind_name (kind), "-", NULL) : g_strdup ("");
    if (step > 0)
      tn_scan_prefix (registry, prefix, step == 2);
    if (tn_lookup_known (registry, kind, tn_match_name, name, found)
        || tn_lookup_known (registry, kind, tn_match_alias, name, found))
      return true;
  }
  return false;
}

char *
tn_lookup_problems (const TnRegistry *registry)
{
  if (!registry->problems->len)
    return g_strdup ("");
  const TnProblem *first = g_ptr_array_index (registry->problems, 0);
  if (registry->problems->len == 1)
    return g_strdup_printf ("; not looked at: %s", first->why->message);
  return g_strdup_printf ("; not looked at: %s (and %u more, see 'tenon-plugin list')", first->why->message,
                          registry->problems->len - 1);
}

static char *
nearest_hint (const TnRegistry *registry, TnKind kind, const char *name)
{
  TnNearest nearest = { .wanted = name };
  for (guint i = 0; i < registry->known->len; i++) {
    const TnKnown *known = g_ptr_array_index (registry->known, i);
    for (unsigned j = 0; j < known->manifest->n_classes; j++) {
      const TnClassInfo *info = &known->manifest->classes[j].info;
      if (info->kind != kind)
        continue;
      tn_nearest_consider (&nearest, info->name);
      for (const char *const *alias = info->aliases; *alias; alias++)
        tn_nearest_consider (&nearest, *alias);
    }
  }
  return tn_nearest_hint (&nearest);
}

void
tn_lookup_fail (const TnRegistry *registry, TnKind kind, const char *name, GError **error)
{
  const char *kind_name = tn_kind_name (kind);
  TnFound other;
  if (tn_lookup_known (registry, 0, tn_match_name, name, &other)) {
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT, "'%s' is a %s, not a %s", name,
             tn_kind_name (other.class->info.kind), kind_name);
    return;
  }
  g_autofree char *nearest = nearest_hint (registry, kind, name);
  g_autofree char *problems = tn_lookup_problems (registry);
  if (tn_name_is_valid (name))
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT,
             "no plugin provides %s '%s': install the package that does (tenon-%s-%s)%s%s", kind_name, name,
             kind_name, name, nearest, problems);
  else
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT, "no plugin provides %s '%s'%s%s", kind_name, name, nearest,
             problems);
}
