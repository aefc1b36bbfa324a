/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Getting to know plugins, as few as possible.  The caller holds the registry's lock. */
#ifndef TN_PLUGIN_SCAN_H
#define TN_PLUGIN_SCAN_H

#include "plugin/registry.h"

/* Reads the manifest of the plugin called @plugin in the first folder that has one, by its path alone. */
void tn_scan_plugin (TnRegistry *registry, const char *plugin);

/* Reads every manifest whose name begins with @prefix ("format-", "": all).  The folders are listed once,
 * unless
 * @again.  What could not be read is in registry->problems. */
void tn_scan_prefix (TnRegistry *registry, const char *prefix, bool again);

TnKnown *tn_scan_known (const TnRegistry *registry, const char *plugin);
/* Adds a plugin; takes @manifest and @object. */
TnKnown *tn_scan_add (TnRegistry *registry, TnManifest *manifest, char *object);

#endif
