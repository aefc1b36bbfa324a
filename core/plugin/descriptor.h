/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors: checking what a plugin exports and making the core's own copy of it. */
#ifndef TN_PLUGIN_DESCRIPTOR_H
#define TN_PLUGIN_DESCRIPTOR_H

#include <tenon/plugin.h>

/* The core's copy: structures of this core's size, zeroed where the plugin's are shorter.  Strings and
 * callbacks stay in the plugin, which must stay loaded. */
typedef struct TnDescriptor {
  TnPlugin plugin;
  GPtrArray *blocks; /* what the copy is made of */
} TnDescriptor;

/* Checks every field of @raw.  @file (for messages) is where it came from, @name what the file name says. */
TnDescriptor *tn_descriptor_adopt (const TnPlugin *raw, const char *file, const char *name, GError **error);
void tn_descriptor_free (TnDescriptor *descriptor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnDescriptor, tn_descriptor_free)

#endif
