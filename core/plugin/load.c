/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/load.h"

#include <dlfcn.h>
#include <ltdl.h>

#include "io/coroutine.h"
#include "plugin/static.h"

/* libltdl finds it as NAME_LTX_tenon_plugin. */
#define DESCRIPTOR_SYMBOL "tenon_plugin"

static int
start_libltdl (GError **error)
{
  static bool started; /* under the registry's lock */
  if (started)
    return 0;
  if (lt_dlinit () != 0 || lt_dlpreload (tn_static_symbols) != 0)
    return tn_fail (error, TN_PLUGIN_ERROR, ENOMEM, "cannot start the plugin loader: %s", lt_dlerror ());
  started = true;
  return 0;
}

/* The file name of the library that @reason says is not there, or NULL. */
static char *
missing_library (const char *reason)
{
  const char *end = strstr (reason, ": cannot open shared object file");
  return end && !strchr (reason, '/') ? g_strndup (reason, (gsize) (end - reason)) : NULL;
}

static int
fail_to_open (const char *path, const char *package, GError **error)
{
  /* libltdl reports the reason of the last loader that it tried; the system's own names what is missing. */
  g_autofree char *why = g_strdup (lt_dlerror ());
  void *handle = dlopen (path, RTLD_NOW | RTLD_LOCAL);
  const char *reason = handle ? NULL : dlerror ();
  if (handle)
    dlclose (handle);
  if (!reason)
    reason = why ? why : "unknown reason";
  g_autofree char *library = missing_library (reason);
  if (library)
    return tn_fail (error, TN_PLUGIN_ERROR, ENOEXEC,
                    "%s: cannot load the plugin: the library %s is missing: install %s%s%s", path, library,
                    package ? "package '" : "what the plugin's package", package ? package : "",
                    package ? "' with all that it depends on" : " depends on");
  bool names_path = g_str_has_prefix (reason, path);
  return tn_fail (error, TN_PLUGIN_ERROR, ENOEXEC,
                  "%s%scannot load the plugin: %s: install what is missing, or "
                  "reinstall the plugin's package",
                  names_path ? "" : path, names_path ? "" : ": ", reason);
}

typedef struct Opening {
  const char *file, *package;
  lt_dlhandle handle;
  GError *error;
} Opening;

/* Runs what the libraries of the plugin do when they are loaded, too. */
static void
open_aside (void *opaque)
{
  Opening *opening = opaque;
  lt_dladvise advise;
  if (lt_dladvise_init (&advise) != 0) {
    tn_fail (&opening->error, TN_PLUGIN_ERROR, ENOMEM, "cannot start the plugin loader: %s", lt_dlerror ());
    return;
  }
  lt_dladvise_local (&advise);
  opening->handle = lt_dlopenadvise (opening->file, advise);
  lt_dladvise_destroy (&advise);
  if (!opening->handle)
    fail_to_open (opening->file, opening->package, &opening->error);
}

static lt_dlhandle
open_object (const char *file, const char *package, GError **error)
{
  Opening opening = { .file = file, .package = package };
  tn_co_call_aside (open_aside, &opening);
  if (opening.error)
    g_propagate_error (error, opening.error);
  return opening.handle;
}

static TnDescriptor *
adopt_from (lt_dlhandle handle, const char *file, const char *name, GError **error)
{
  const TnPlugin *raw = lt_dlsym (handle, DESCRIPTOR_SYMBOL);
  if (raw)
    return tn_descriptor_adopt (raw, file, name, error);
  tn_fail (error, TN_PLUGIN_ERROR, ENOEXEC,
           "%s: no symbol NAME_LTX_%s in it: it is not a Tenon plugin, or its file was renamed", file,
           DESCRIPTOR_SYMBOL);
  return NULL;
}

TnDescriptor *
tn_object_load (const char *path, const char *name, const char *package, GError **error)
{
  if (start_libltdl (error) < 0)
    return NULL;
  lt_dlhandle handle = open_object (path ? path : name, package, error);
  if (!handle)
    return NULL;
  TnDescriptor *descriptor = adopt_from (handle, path ? path : name, name, error);
  if (descriptor)
    lt_dlmakeresident (handle);
  else
    lt_dlclose (handle);
  return descriptor;
}

void
tn_static_foreach (void (*visit) (const char *name, void *opaque), void *opaque)
{
  /* The first entry names the table itself; then a name without address begins each plugin. */
  for (const lt_dlsymlist *symbol = tn_static_symbols + 1; symbol->name; symbol++) {
    if (!symbol->address)
      visit (symbol->name, opaque);
  }
}
