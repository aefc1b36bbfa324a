/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mapping shared objects, and plugins that are linked in.  The caller holds the registry's lock: libltdl
 * keeps global lists. */
#ifndef TN_PLUGIN_LOAD_H
#define TN_PLUGIN_LOAD_H

#include "plugin/descriptor.h"

/* Loads the object at the absolute @path, or, when @path is NULL, the linked-in plugin @name.  The object
 * stays mapped for the life of the process, unless it turns out not to be a usable plugin.  @package, where known,
 * is what an error about a missing library tells to install. */
TnDescriptor *tn_object_load (const char *path, const char *name, const char *package, GError **error);

/* Calls @visit with the name of each linked-in plugin. */
void tn_static_foreach (void (*visit) (const char *name, void *opaque), void *opaque);

#endif
