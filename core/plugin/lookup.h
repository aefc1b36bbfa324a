/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding classes among the known plugins.  The caller holds the registry's lock. */
#ifndef TN_PLUGIN_LOOKUP_H
#define TN_PLUGIN_LOOKUP_H

#include "plugin/registry.h"

/* Whether a class goes by @text. */
typedef bool TnMatch (const TnClassInfo *info, const char *text);
bool tn_match_name (const TnClassInfo *info, const char *text);
bool tn_match_alias (const TnClassInfo *info, const char *text);
bool tn_match_scheme (const TnClassInfo *info, const char *text);

/* A class and the plugin that has it. */
typedef struct TnFound {
  TnKnown *known;
  const TnManifestClass *class;
} TnFound;

/* Looks among what is known, reading nothing.  @kind 0: any. */
bool tn_lookup_known (const TnRegistry *registry, TnKind kind, TnMatch *match, const char *text,
                      TnFound *found);

/* By name or alias, reading as little as possible: the manifest that ought to have it; those of its kind; all
 * of them, anew.  A name that a plugin of another kind carries is not looked for any further: asking whether
 * "file" might be a format is frequent, and must not cost the reading of everything. */
bool tn_lookup_name (TnRegistry *registry, TnKind kind, const char *name, TnFound *found);

/* Says that there is no such class, and what to do. */
void tn_lookup_fail (const TnRegistry *registry, TnKind kind, const char *name, GError **error);

/* "; not looked at: PATH: reason (and 2 more)" about what could not be read, or "". */
char *tn_lookup_problems (const TnRegistry *registry);

#endif
