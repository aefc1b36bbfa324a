/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What plugins exist, which are loaded, and which may be used.  A process has one registry; tests make more.
 */
#ifndef TN_PLUGIN_REGISTRY_H
#define TN_PLUGIN_REGISTRY_H

#include "plugin/descriptor.h"
#include "plugin/directory.h"
#include "plugin/manifest.h"

/* A plugin that some manifest describes or that is linked in. */
typedef struct TnKnown {
  TnManifest *manifest;
  char *object;             /* path of the shared object; NULL: linked in */
  TnDescriptor *descriptor; /* NULL: not loaded */
  char *why;                /* what asked for it first */
} TnKnown;

/* A manifest or folder that could not be used. */
typedef struct TnProblem {
  char *path;
  GError *why;
} TnProblem;

typedef struct TnRegistry {
  GMutex lock;            /* held by every function of plugins.c and lookup.c while it runs */
  GPtrArray *directories; /* TnDirectory, in order of precedence */
  unsigned n_added;       /* of them, by tn_plugins_add_directory() */
  GPtrArray *known;       /* TnKnown; grows only */
  GPtrArray *problems;    /* TnProblem */
  GPtrArray *files;       /* TnKnown made by tn_registry_load_file() */
  char **allowed;         /* NULL: everything */
  bool allowed_checked;
  char *buffer; /* one manifest's text */
} TnRegistry;

typedef TnRegistry TnRegistryLocked;

/* `g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);` until the end of the block.  GLib's
 * own locker does the same in code that ThreadSanitizer can't see.
 */
static inline TnRegistryLocked *
tn_registry_lock (TnRegistry *registry)
{
  g_mutex_lock (&registry->lock);
  return registry;
}

static inline void
tn_registry_unlock (TnRegistryLocked *registry)
{
  g_mutex_unlock (&registry->lock);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnRegistryLocked, tn_registry_unlock)

/* An empty registry that knows the linked-in plugins. */
TnRegistry *tn_registry_new (void);
/* For tests; objects that were loaded stay mapped. */
void tn_registry_free (TnRegistry *registry);

/* The functions below take the lock themselves. */

/* @optional: nothing is said when the folder doesn't exist. */
void tn_registry_append_directory (TnRegistry *registry, const char *path, bool optional);
/* The same; takes over @directory. */
void tn_registry_append (TnRegistry *registry, TnDirectory *directory, bool optional);
int tn_registry_add_directory (TnRegistry *registry, const char *path, GError **error);
/* Their paths; g_strfreev() them. */
char **tn_registry_directories (TnRegistry *registry);
/* The same of the process's registry (plugins.c). */
char **tn_plugins_directories (void);
int tn_registry_allow (TnRegistry *registry, const char *list, GError **error);
/* The same; a mistake in @list is reported by the first look-up. */
void tn_registry_allow_later (TnRegistry *registry, const char *list);
const TnClass *tn_registry_find (TnRegistry *registry, TnKind kind, const char *name, GError **error);
const TnClass *tn_registry_find_scheme (TnRegistry *registry, const char *scheme, GError **error);
const char *tn_registry_probe (TnRegistry *registry, const char *filename, const void *head,
                               size_t head_length, const void *tail, size_t tail_length, uint64_t size);
int tn_registry_foreach (TnRegistry *registry, TnKind kind,
                         void (*visit) (const TnClassInfo *info, void *opaque),
                         void (*damaged) (const char *path, const GError *why, void *opaque), void *opaque,
                         GError **error);
void tn_registry_foreach_loaded (TnRegistry *registry,
                                 void (*visit) (const TnPlugin *plugin, const char *path, const char *why,
                                                void *opaque),
                                 void *opaque);
const TnPlugin *tn_registry_load_file (TnRegistry *registry, const char *path, GError **error);

#endif
