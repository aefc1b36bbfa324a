/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/registry.h"

#include "plugin/allow.h"
#include "plugin/kinds.h"
#include "plugin/load.h"
#include "plugin/lookup.h"
#include "plugin/scan.h"
#include "plugin/trust.h"

/* ---- Making one ---- */

static void
known_free (void *data)
{
  TnKnown *known = data;
  tn_manifest_free (known->manifest);
  tn_descriptor_free (known->descriptor);
  g_free (known->object);
  g_free (known->why);
  g_free (known);
}

static void
problem_free (void *data)
{
  TnProblem *problem = data;
  g_error_free (problem->why);
  g_free (problem->path);
  g_free (problem);
}

static void
add_static (const char *name, void *opaque)
{
  TnRegistry *registry = opaque;
  GError *why = NULL;
  TnDescriptor *descriptor = tn_object_load (NULL, name, NULL, &why);
  if (!descriptor) {
    TnProblem *problem = g_new (TnProblem, 1);
    problem->path = g_strdup (name);
    problem->why = why;
    g_ptr_array_add (registry->problems, problem);
    return;
  }
  TnKnown *known = tn_scan_add (registry, tn_manifest_from_plugin (&descriptor->plugin), NULL);
  known->descriptor = descriptor;
}

TnRegistry *
tn_registry_new (void)
{
  TnRegistry *registry = g_new0 (TnRegistry, 1);
  g_mutex_init (&registry->lock);
  registry->directories = g_ptr_array_new_with_free_func ((GDestroyNotify) tn_directory_free);
  registry->known = g_ptr_array_new_with_free_func (known_free);
  registry->files = g_ptr_array_new_with_free_func (known_free);
  registry->problems = g_ptr_array_new_with_free_func (problem_free);
  tn_static_foreach (add_static, registry);
  return registry;
}

void
tn_registry_free (TnRegistry *registry)
{
  g_ptr_array_unref (registry->directories);
  g_ptr_array_unref (registry->known);
  g_ptr_array_unref (registry->files);
  g_ptr_array_unref (registry->problems);
  g_strfreev (registry->allowed);
  g_free (registry->buffer);
  g_mutex_clear (&registry->lock);
  g_free (registry);
}

/* ---- Folders ---- */

void
tn_registry_append_directory (TnRegistry *registry, const char *path, bool optional)
{
  tn_registry_append (registry, tn_directory_new (path), optional);
}

void
tn_registry_append (TnRegistry *registry, TnDirectory *directory, bool optional)
{
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  directory->optional = optional;
  g_ptr_array_add (registry->directories, directory);
}

int
tn_registry_add_directory (TnRegistry *registry, const char *path, GError **error)
{
  TnDirectory *directory = tn_directory_new (path);
  int r = tn_directory_check (directory, error);
  if (r < 0) {
    tn_directory_free (directory);
    return r;
  }
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  g_ptr_array_insert (registry->directories, (gint) registry->n_added++, directory);
  return 0;
}

char **
tn_registry_directories (TnRegistry *registry)
{
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  char **paths = g_new0 (char *, registry->directories->len + 1);
  for (guint i = 0; i < registry->directories->len; i++) {
    const TnDirectory *directory = g_ptr_array_index (registry->directories, i);
    paths[i] = g_strdup (directory->path);
  }
  return paths;
}

/* ---- Loading ---- */

static int
check_before_loading (const TnRegistry *registry, const TnFound *found, GError **error)
{
  const TnClassInfo *info = &found->class->info;
  const char *kind = tn_kind_name (info->kind);
  if (!tn_allow_permits (registry, found->known))
    return tn_fail (error, TN_PLUGIN_ERROR, EPERM,
                    "%s '%s' is not allowed: add '%s' to --plugins or TENON_PLUGINS", kind, info->name,
                    info->plugin);
  if (!found->known->object)
    return 0;
  g_autoptr (GError) why = NULL;
  int r = tn_trust_check_path (found->known->object, &why);
  if (r == -ENOENT)
    return tn_fail (
        error, TN_PLUGIN_ERROR, ENOENT,
        "plugin file %s of %s '%s' is missing, although its manifest is there: install package '%s'",
        found->known->object, kind, info->name, info->package);
  if (r == 0)
    r = tn_trust_check_path (found->known->manifest->path, &why);
  if (r < 0)
    g_propagate_error (error, g_steal_pointer (&why));
  return r;
}

static const TnClass *
class_of (const TnKnown *known, const TnClassInfo *info)
{
  for (const TnClass *const *class = known->descriptor->plugin.classes; *class; class ++) {
    if ((*class)->kind == info->kind && strcmp ((*class)->name, info->name) == 0)
      return *class;
  }
  return NULL;
}

static const TnClass *
use (const TnRegistry *registry, const TnFound *found, const char *why, GError **error)
{
  TnKnown *known = found->known;
  const TnClassInfo *info = &found->class->info;
  if (check_before_loading (registry, found, error) < 0)
    return NULL;
  if (!known->descriptor)
    known->descriptor = tn_object_load (known->object, known->manifest->name, info->package, error);
  if (!known->descriptor)
    return NULL;
  const TnClass *class = class_of (known, info);
  if (!class) {
    tn_fail (error, TN_PLUGIN_ERROR, EINVAL,
             "%s does not match %s: it says that there is %s '%s', but there is none: reinstall package '%s'",
             known->manifest->path, known->object, tn_kind_name (info->kind), info->name, info->package);
    return NULL;
  }
  if (!known->why)
    known->why = g_strdup (why);
  return class;
}

/* The way of nearly every call: the class is loaded already. */
static const TnClass *
find_in_use (const TnRegistry *registry, TnKind kind, const char *name)
{
  TnFound found;
  if (!tn_lookup_known (registry, kind, tn_match_name, name, &found) || !found.known->why)
    return NULL;
  return tn_allow_permits (registry, found.known) ? class_of (found.known, &found.class->info) : NULL;
}

const TnClass *
tn_registry_find (TnRegistry *registry, TnKind kind, const char *name, GError **error)
{
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  if (tn_allow_check (registry, error) < 0)
    return NULL;
  const TnClass *class = find_in_use (registry, kind, name);
  if (class)
    return class;
  TnFound found;
  if (!tn_lookup_name (registry, kind, name, &found)) {
    tn_lookup_fail (registry, kind, name, error);
    return NULL;
  }
  g_autofree char *why = g_strdup_printf ("%s '%s'", tn_kind_name (kind), name);
  return use (registry, &found, why, error);
}

const TnClass *
tn_registry_find_scheme (TnRegistry *registry, const char *scheme, GError **error)
{
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  if (tn_allow_check (registry, error) < 0)
    return NULL;
  TnFound found;
  bool known = tn_lookup_known (registry, TN_KIND_PROTOCOL, tn_match_scheme, scheme, &found);
  for (int step = 0; !known && step < 2; step++) {
    tn_scan_prefix (registry, step == 0 ? "protocol-" : "", step > 0);
    known = tn_lookup_known (registry, TN_KIND_PROTOCOL, tn_match_scheme, scheme, &found);
  }
  if (!known) {
    g_autofree char *problems = tn_lookup_problems (registry);
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT,
             "no plugin provides the URI scheme '%s': install the package that does, or write file:%s:... if "
             "it is a "
             "file's name%s",
             scheme, scheme, problems);
    return NULL;
  }
  g_autofree char *why = g_strdup_printf ("URI scheme '%s'", scheme);
  return use (registry, &found, why, error);
}

/* The core's copy of what was loaded from @path before, or NULL. */
static TnKnown *
find_file (const TnRegistry *registry, const char *path)
{
  const GPtrArray *lists[] = { registry->known, registry->files };
  for (size_t i = 0; i < G_N_ELEMENTS (lists); i++) {
    for (guint j = 0; j < lists[i]->len; j++) {
      TnKnown *known = g_ptr_array_index (lists[i], j);
      if (known->descriptor && known->object && strcmp (known->object, path) == 0)
        return known;
    }
  }
  return NULL;
}

const TnPlugin *
tn_registry_load_file (TnRegistry *registry, const char *path, GError **error)
{
  g_autofree char *absolute = g_canonicalize_filename (path, NULL);
  g_autofree char *name = tn_plugin_name_of_path (absolute, TN_OBJECT_SUFFIX);
  if (!name) {
    tn_fail (error, TN_PLUGIN_ERROR, EINVAL, "%s: a plugin's file name ends in %s", path, TN_OBJECT_SUFFIX);
    return NULL;
  }
  if (tn_trust_check_path (absolute, error) < 0)
    return NULL;
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  TnKnown *known = find_file (registry, absolute);
  if (known)
    return &known->descriptor->plugin;
  TnDescriptor *descriptor = tn_object_load (absolute, name, NULL, error);
  if (!descriptor)
    return NULL;
  known = g_new0 (TnKnown, 1);
  known->descriptor = descriptor;
  known->manifest = tn_manifest_from_plugin (&descriptor->plugin);
  known->object = g_steal_pointer (&absolute);
  known->why = g_strdup ("named by its path");
  g_ptr_array_add (registry->files, known);
  return &descriptor->plugin;
}

/* ---- Listing ---- */

static int
compare_infos (const void *a, const void *b)
{
  const TnClassInfo *x = a;
  const TnClassInfo *y = b;
  int by_name = strcmp (x->name, y->name);
  return by_name ? by_name : (int) x->kind - (int) y->kind;
}

static GArray *
collect_infos (const TnRegistry *registry, TnKind kind)
{
  GArray *infos = g_array_new (FALSE, FALSE, sizeof (TnClassInfo));
  for (guint i = 0; i < registry->known->len; i++) {
    const TnKnown *known = g_ptr_array_index (registry->known, i);
    for (unsigned j = 0; tn_allow_permits (registry, known) && j < known->manifest->n_classes; j++) {
      TnClassInfo info = known->manifest->classes[j].info;
      info.loaded = known->why != NULL;
      if (!kind || info.kind == kind)
        g_array_append_val (infos, info);
    }
  }
  g_array_sort (infos, compare_infos);
  return infos;
}

static GPtrArray *
copy_problems (const TnRegistry *registry)
{
  GPtrArray *problems = g_ptr_array_new_with_free_func (problem_free);
  for (guint i = 0; i < registry->problems->len; i++) {
    const TnProblem *problem = g_ptr_array_index (registry->problems, i);
    TnProblem *copy = g_new (TnProblem, 1);
    copy->path = g_strdup (problem->path);
    copy->why = g_error_copy (problem->why);
    g_ptr_array_add (problems, copy);
  }
  return problems;
}

int
tn_registry_foreach (TnRegistry *registry, TnKind kind, void (*visit) (const TnClassInfo *info, void *opaque),
                     void (*damaged) (const char *path, const GError *why, void *opaque), void *opaque,
                     GError **error)
{
  g_mutex_lock (&registry->lock);
  int r = tn_allow_check (registry, error);
  if (r == 0)
    tn_scan_prefix (registry, "", true);
  g_autoptr (GArray) infos = collect_infos (registry, kind);
  g_autoptr (GPtrArray) problems = copy_problems (registry);
  g_mutex_unlock (&registry->lock);
  if (r < 0)
    return r;
  /* Without the lock: the callbacks may well look up classes. */
  for (guint i = 0; i < infos->len; i++)
    visit (&g_array_index (infos, TnClassInfo, i), opaque);
  for (guint i = 0; damaged && i < problems->len; i++) {
    const TnProblem *problem = g_ptr_array_index (problems, i);
    damaged (problem->path, problem->why, opaque);
  }
  return 0;
}

void
tn_registry_foreach_loaded (TnRegistry *registry,
                            void (*visit) (const TnPlugin *plugin, const char *path, const char *why,
                                           void *opaque),
                            void *opaque)
{
  g_autoptr (GPtrArray) loaded = g_ptr_array_new ();
  g_mutex_lock (&registry->lock);
  const GPtrArray *lists[] = { registry->known, registry->files };
  for (size_t i = 0; i < G_N_ELEMENTS (lists); i++) {
    for (guint j = 0; j < lists[i]->len; j++) {
      TnKnown *known = g_ptr_array_index (lists[i], j);
      if (known->why)
        g_ptr_array_add (loaded, known);
    }
  }
  g_mutex_unlock (&registry->lock);
  for (guint i = 0; i < loaded->len; i++) {
    const TnKnown *known = g_ptr_array_index (loaded, i);
    visit (&known->descriptor->plugin, known->object ? known->object : "linked in", known->why, opaque);
  }
}
