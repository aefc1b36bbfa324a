/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of allowed plugins.  The caller holds the registry's lock. */
#ifndef TN_PLUGIN_ALLOW_H
#define TN_PLUGIN_ALLOW_H

#include "plugin/registry.h"

/* A misspelt name must not go unnoticed, so all of the list is checked before it is first used. */
int tn_allow_check (TnRegistry *registry, GError **error);

bool tn_allow_permits (const TnRegistry *registry, const TnKnown *known);

#endif
