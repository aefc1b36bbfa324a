/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/scan.h"

/* Manifests aren't checked one by one for who may write them: that costs a system call each at every start.
 * The folder is checked here, so nobody else can put one there, and a plugin's manifest is when it is loaded.
 */

static TnProblem *
find_problem (const TnRegistry *registry, const char *path)
{
  for (guint i = 0; i < registry->problems->len; i++) {
    TnProblem *problem = g_ptr_array_index (registry->problems, i);
    if (strcmp (problem->path, path) == 0)
      return problem;
  }
  return NULL;
}

/* Takes @why; NULL: the path is in order (again). */
static void
note_problem (TnRegistry *registry, const char *path, GError *why)
{
  TnProblem *problem = find_problem (registry, path);
  if (problem && !why) {
    g_ptr_array_remove (registry->problems, problem);
  } else if (problem) {
    g_error_free (problem->why);
    problem->why = why;
  } else if (why) {
    problem = g_new (TnProblem, 1);
    problem->path = g_strdup (path);
    problem->why = why;
    g_ptr_array_add (registry->problems, problem);
  }
}

TnKnown *
tn_scan_known (const TnRegistry *registry, const char *plugin)
{
  for (guint i = 0; i < registry->known->len; i++) {
    TnKnown *known = g_ptr_array_index (registry->known, i);
    if (strcmp (known->manifest->name, plugin) == 0)
      return known;
  }
  return NULL;
}

TnKnown *
tn_scan_add (TnRegistry *registry, TnManifest *manifest, char *object)
{
  TnKnown *known = g_new0 (TnKnown, 1);
  known->manifest = manifest;
  known->object = object;
  for (unsigned i = 0; i < manifest->n_classes; i++)
    manifest->classes[i].info.path = object;
  g_ptr_array_add (registry->known, known);
  return known;
}

static char *
object_path (const TnDirectory *directory, const TnManifest *manifest)
{
  return g_strconcat (directory->path, "/", manifest->name, TN_OBJECT_SUFFIX, NULL);
}

/* Whether the folder has a manifest of that name, good or bad. */
static bool
read_manifest (TnRegistry *registry, const TnDirectory *directory, const char *file_name)
{
  g_autofree char *path = tn_directory_path (directory, file_name);
  if (!registry->buffer)
    registry->buffer = g_malloc (TN_MANIFEST_MAX_SIZE + 1);
  GError *why = NULL;
  ssize_t length = tn_file_read (path, registry->buffer, TN_MANIFEST_MAX_SIZE + 1, &why);
  if (length == -ENOENT && !why)
    return false;
  TnManifest *manifest =
      length < 0 ? NULL : tn_manifest_parse (registry->buffer, (size_t) length, path, &why);
  note_problem (registry, path, why);
  if (manifest)
    tn_scan_add (registry, manifest, object_path (directory, manifest));
  return true;
}

static bool
is_usable (TnRegistry *registry, TnDirectory *directory)
{
  GError *why = NULL;
  int r = tn_directory_check (directory, &why);
  if (r == -ENOENT && directory->optional)
    g_clear_error (&why);
  note_problem (registry, directory->path, why);
  return r == 0;
}

void
tn_scan_plugin (TnRegistry *registry, const char *plugin)
{
  if (tn_scan_known (registry, plugin))
    return;
  g_autofree char *file_name = g_strconcat (plugin, TN_MANIFEST_SUFFIX, NULL);
  for (guint i = 0; i < registry->directories->len; i++) {
    TnDirectory *directory = g_ptr_array_index (registry->directories, i);
    if (is_usable (registry, directory) && read_manifest (registry, directory, file_name))
      return;
  }
}

static void
scan_directory (TnRegistry *registry, TnDirectory *directory, const char *prefix, bool again)
{
  GError *why = NULL;
  if (!is_usable (registry, directory))
    return;
  int r = tn_directory_list (directory, again, &why);
  note_problem (registry, directory->path, why);
  if (r < 0)
    return;
  for (guint i = 0; i < directory->names->len; i++) {
    const char *file_name = g_ptr_array_index (directory->names, i);
    if (!g_str_has_prefix (file_name, prefix))
      continue;
    g_autofree char *plugin = tn_plugin_name_of_path (file_name, TN_MANIFEST_SUFFIX);
    if (!tn_scan_known (registry, plugin))
      read_manifest (registry, directory, file_name);
  }
}

void
tn_scan_prefix (TnRegistry *registry, const char *prefix, bool again)
{
  for (guint i = 0; i < registry->directories->len; i++)
    scan_directory (registry, g_ptr_array_index (registry->directories, i), prefix, again);
}
