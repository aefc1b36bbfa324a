/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public functions: the process's one registry.  It is the only global state of the plugin layer, because
 * what the dynamic linker has mapped is the process's, too. */
#define _GNU_SOURCE /* dladdr() */

#include <dlfcn.h>
#include <sys/auxv.h>

#include "plugin/registry.h"

/* The folder that stands beside the library itself, so that a build folder or a moved prefix finds its own
 * plugins; else the one chosen at configure time. */
static TnDirectory *
builtin_directory (void)
{
  Dl_info self;
  if (dladdr ((const void *) (uintptr_t) &tn_class_find, &self) && self.dli_fname) {
    g_autofree char *library = g_canonicalize_filename (self.dli_fname, NULL);
    g_autofree char *folder = g_path_get_dirname (library);
    g_autofree char *path = g_build_filename (folder, "tenon", "plugins", NULL);
    TnDirectory *directory = tn_directory_new (path);
    int r = tn_directory_check (directory, NULL);
    if (r != -ENOENT && r != -ENOTDIR)
      return directory;
    tn_directory_free (directory);
  }
  return tn_directory_new (TN_PLUGIN_DIR);
}

static void
append_environment (TnRegistry *registry)
{
  const char *paths = g_getenv ("TENON_PLUGIN_PATH");
  g_auto (GStrv) list = paths ? g_strsplit (paths, ":", -1) : NULL;
  for (char **path = list; path && *path; path++) {
    if (**path)
      tn_registry_append_directory (registry, *path, false);
  }
}

static TnRegistry *
make_registry (void)
{
  TnRegistry *registry = tn_registry_new ();
  bool privileged = getauxval (AT_SECURE) != 0;
  if (!privileged)
    append_environment (registry);
  tn_registry_append (registry, builtin_directory (), true);
  const char *allowed = privileged ? NULL : g_getenv ("TENON_PLUGINS");
  if (allowed && *allowed)
    tn_registry_allow_later (registry, allowed);
  return registry;
}

static TnRegistry *
the_registry (void)
{
  static gsize registry;
  if (g_once_init_enter (&registry))
    g_once_init_leave (&registry, (gsize) make_registry ());
  return (TnRegistry *) registry;
}

int
tn_plugins_allow (const char *list, GError **error)
{
  return tn_registry_allow (the_registry (), list, error);
}

int
tn_plugins_add_directory (const char *path, GError **error)
{
  return tn_registry_add_directory (the_registry (), path, error);
}

char **
tn_plugins_directories (void)
{
  return tn_registry_directories (the_registry ());
}

int
tn_plugins_foreach (TnKind kind, void (*visit) (const TnClassInfo *info, void *opaque),
                    void (*damaged) (const char *path, const GError *why, void *opaque), void *opaque,
                    GError **error)
{
  return tn_registry_foreach (the_registry (), kind, visit, damaged, opaque, error);
}

const TnClass *
tn_class_find (TnKind kind, const char *name, GError **error)
{
  return tn_registry_find (the_registry (), kind, name, error);
}

const TnClass *
tn_class_find_scheme (const char *scheme, GError **error)
{
  return tn_registry_find_scheme (the_registry (), scheme, error);
}

const char *
tn_format_probe (const void *head, size_t head_length, const void *tail, size_t tail_length, uint64_t size)
{
  return tn_format_probe_named (NULL, head, head_length, tail, tail_length, size);
}

const char *
tn_format_probe_named (const char *filename, const void *head, size_t head_length, const void *tail,
                       size_t tail_length, uint64_t size)
{
  return tn_registry_probe (the_registry (), filename, head, head_length, tail, tail_length, size);
}

void
tn_plugins_foreach_loaded (void (*visit) (const TnPlugin *plugin, const char *path, const char *why,
                                          void *opaque),
                           void *opaque)
{
  tn_registry_foreach_loaded (the_registry (), visit, opaque);
}

const TnPlugin *
tn_plugin_load_file (const char *path, GError **error)
{
  return tn_registry_load_file (the_registry (), path, error);
}
