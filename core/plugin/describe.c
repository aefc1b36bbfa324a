/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing a manifest from a descriptor. */
#include "plugin/kinds.h"
#include "plugin/manifest.h"

static size_t
list_length (const char *const *list)
{
  return list ? g_strv_length ((char **) list) : 0;
}

static void
set_list (GKeyFile *file, const char *group, const char *key, const char *const *list)
{
  if (list_length (list))
    g_key_file_set_string_list (file, group, key, list, list_length (list));
}

static void
append_hex (GString *text, const uint8_t *bytes, uint32_t length)
{
  for (uint32_t i = 0; i < length; i++)
    g_string_append_printf (text, "%02x", bytes[i]);
}

static void
set_magics (GKeyFile *file, const char *group, const TnMagic *magics)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (; magics && magics->length; magics++) {
    g_string_append_printf (text, "%" G_GINT64_FORMAT ":", magics->offset);
    append_hex (text, magics->bytes, magics->length);
    if (magics->mask) {
      g_string_append_c (text, '/');
      append_hex (text, magics->mask, magics->length);
    }
    g_string_append_c (text, ';');
  }
  if (text->len)
    g_key_file_set_value (file, group, "magics", text->str);
}

static void
set_version (GKeyFile *file, const char *group, const char *key, unsigned major, unsigned minor)
{
  g_autofree char *text = g_strdup_printf ("%u.%u", major, minor);
  g_key_file_set_value (file, group, key, text);
}

static void
describe_class (GKeyFile *file, const TnClass *class)
{
  g_autofree char *group = g_strdup_printf ("%s %s", tn_kind_name (class->kind), class->name);
  set_version (file, group, "version", class->major, class->minor);
  g_key_file_set_string (file, group, "summary", class->summary);
  set_list (file, group, "aliases", class->aliases);
  set_list (file, group, "suffixes", class->suffixes);
  set_list (file, group, "schemes", class->schemes);
  set_magics (file, group, class->magics);
}

char *
tn_plugin_manifest (const TnPlugin *plugin, const char *object_name)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();
  g_key_file_set_string (file, "plugin", "name", plugin->name);
  set_version (file, "plugin", "abi", plugin->abi_major, plugin->abi_minor);
  g_key_file_set_string (file, "plugin", "version", plugin->version);
  g_key_file_set_string (file, "plugin", "licence", plugin->licence);
  g_key_file_set_string (file, "plugin", "package", plugin->package);
  g_key_file_set_value (file, "plugin", "security", tn_security_name (plugin->security));
  set_list (file, "plugin", "requires-codecs", plugin->requires_codecs);
  for (const TnClass *const *class = plugin->classes; *class; class ++)
    describe_class (file, *class);
  g_autofree char *body = g_key_file_to_data (file, NULL, NULL);
  return g_strdup_printf ("# Made from the descriptor in %s; changes are lost.\n%s", object_name, body);
}
