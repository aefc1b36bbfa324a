/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kinds of class that this core can use. */
#ifndef TN_PLUGIN_KINDS_H
#define TN_PLUGIN_KINDS_H

#include <tenon/plugin.h>

typedef struct TnKindInfo {
  TnKind kind;
  const char *name;      /* as in file names and manifests: "format" */
  uint16_t major, minor; /* version of its ops that this core has */
  uint32_t ops_size;     /* of this core's ops structure */
} TnKindInfo;

/* NULL: this core has no such kind. */
const TnKindInfo *tn_kind_info (unsigned kind);
const TnKindInfo *tn_kind_by_name (const char *name, size_t length);
/* For messages; never NULL. */
const char *tn_kind_name (unsigned kind);

/* Whether @name may name a plugin, class, alias, suffix or scheme: it then is safe in file names, option
 * lists and messages. */
bool tn_name_is_valid (const char *name);

#endif
