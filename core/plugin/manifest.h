/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Manifests: what a plugin offers, in words that can be read without loading it. */
#ifndef TN_PLUGIN_MANIFEST_H
#define TN_PLUGIN_MANIFEST_H

#include <tenon/plugin.h>

#define TN_MANIFEST_MAX_SIZE 65536
#define TN_MANIFEST_SUFFIX ".tenon"
#define TN_OBJECT_SUFFIX ".so"

typedef struct TnManifestClass {
  TnClassInfo info;
  const TnMagic *magics; /* ended by length 0; or NULL */
} TnManifestClass;

typedef struct TnManifest {
  char *text; /* holds the strings */
  char *path;
  const char *name, *version, *licence, *package;
  uint16_t abi_major, abi_minor;
  uint32_t security;
  const char *const *requires_codecs; /* never NULL */
  TnManifestClass *classes;
  unsigned n_classes;
} TnManifest;

/* Parses a manifest in the syntax of GKeyFile.  The plugin's name must be that of the file.  Errors name
 * @path and the line.  Keys that are not known are taken for a newer Tenon's and passed over. */
TnManifest *tn_manifest_parse (const char *text, size_t length, const char *path, GError **error);

/* The same facts from a descriptor, whose strings it refers to, for a plugin that is linked in. */
TnManifest *tn_manifest_from_plugin (const TnPlugin *plugin);

void tn_manifest_free (TnManifest *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnManifest, tn_manifest_free)

/* Spelling of TnSecurity. */
const char *tn_security_name (uint32_t security);

/* "DIR/KIND-NAME.so" -> "KIND-NAME"; NULL when @path does not end in @suffix.  g_free() it. */
char *tn_plugin_name_of_path (const char *path, const char *suffix);

#endif
