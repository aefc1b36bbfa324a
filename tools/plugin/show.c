/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include <tenon/json.h>

#include "tool.h"

/* ---- Finding what the user means ---- */

typedef struct Search {
  const char *name;
  char *path;
  char *class_name; /* of one that is linked in */
  TnKind kind;
  bool found;
} Search;

static bool
is_called (const TnClassInfo *info, const char *name)
{
  return strcmp (info->plugin, name) == 0 || strcmp (info->name, name) == 0
         || g_strv_contains (info->aliases, name);
}

static void
consider (const TnClassInfo *info, void *opaque)
{
  Search *search = opaque;
  bool by_plugin = strcmp (info->plugin, search->name) == 0;
  if (!is_called (info, search->name) || (search->found && !by_plugin))
    return;
  g_free (search->path);
  g_free (search->class_name);
  search->path = g_strdup (info->path);
  search->class_name = g_strdup (info->name);
  search->kind = info->kind;
  search->found = true;
}

typedef struct Owner {
  const TnClass *class;
  const TnPlugin *plugin;
} Owner;

static void
find_owner (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  Owner *owner = opaque;
  for (const TnClass *const *class = plugin->classes; *class; class ++) {
    if (*class == owner->class)
      owner->plugin = plugin;
  }
}

static const TnPlugin *
plugin_of_class (TnKind kind, const char *name, GError **error)
{
  Owner owner = { .class = tn_class_find (kind, name, error) };
  if (owner.class)
    tn_plugins_foreach_loaded (find_owner, &owner);
  return owner.plugin;
}

static const TnPlugin *
find_plugin (const char *name, GError **error)
{
  if (strchr (name, '/') || g_str_has_suffix (name, ".so"))
    return tn_plugin_load_file (name, error);
  Search search = { .name = name };
  const TnPlugin *plugin = NULL;
  if (tn_plugins_foreach (0, consider, NULL, &search, error) < 0)
    return NULL;
  if (search.found)
    plugin = plugin_of_class (search.kind, search.class_name, error);
  else
    tn_fail (error, TN_PLUGIN_ERROR, ENOENT, "there is no plugin or class '%s': see 'tenon-plugin list'",
             name);
  g_free (search.path);
  g_free (search.class_name);
  return plugin;
}

/* ---- For people ---- */

static void
print_list (const char *title, const char *const *list)
{
  if (!list || !*list)
    return;
  g_autofree char *text = g_strjoinv (", ", (char **) list);
  printf ("%s%s\n", title, text);
}

static void
print_option (const TnOption *option)
{
  g_autofree char *when = tool_option_when (option->when);
  printf ("    %-20s %-8s %-16s %s", option->name, tool_option_type_name (option->type), when,
          option->help ? option->help : "");
  if (option->choices) {
    g_autofree char *choices = g_strjoinv ("|", (char **) option->choices);
    printf (" [%s]", choices);
  }
  if (option->max)
    printf (" [%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT "]", option->min, option->max);
  if (option->value)
    printf (" (default: %s)", option->value);
  putchar ('\n');
}

static void
print_class (const TnClass *class)
{
  printf ("\n%s %s (%s interface %u.%u)\n  %s\n", tool_kind_name (class->kind), class->name,
          tool_kind_name (class->kind), class->major, class->minor, class->summary);
  print_list ("  aliases:  ", class->aliases);
  print_list ("  suffixes: ", class->suffixes);
  print_list ("  schemes:  ", class->schemes);
  if (class->options)
    printf ("  options:\n");
  for (const TnOption *option = class->options; option && option->name; option++)
    print_option (option);
}

static void
print_plugin (const TnPlugin *plugin)
{
  printf ("plugin:   %s\nversion:  %s\nlicence:  %s\npackage:  %s\nABI:      %u.%u (this Tenon: %d.%d)\n"
          "security: %s\n",
          plugin->name, plugin->version, plugin->licence, plugin->package, plugin->abi_major,
          plugin->abi_minor, TN_ABI_MAJOR, TN_ABI_MINOR, tool_security_name (plugin->security));
  print_list ("codecs:   ", plugin->requires_codecs);
  for (const TnClass *const *class = plugin->classes; *class; class ++)
    print_class (*class);
}

/* ---- For programs ---- */

static void
json_list (TnJson *json, const char *name, const char *const *list)
{
  tn_json_array_begin (json, name);
  for (; list && *list; list++)
    tn_json_string (json, NULL, *list);
  tn_json_array_end (json);
}

static void
json_option (TnJson *json, const TnOption *option)
{
  g_autofree char *when = tool_option_when (option->when);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "name", option->name);
  tn_json_string (json, "type", tool_option_type_name (option->type));
  tn_json_string (json, "when", when);
  if (option->help)
    tn_json_string (json, "help", option->help);
  if (option->value)
    tn_json_string (json, "default", option->value);
  if (option->min)
    tn_json_uint (json, "min", option->min);
  if (option->max)
    tn_json_uint (json, "max", option->max);
  if (option->choices)
    json_list (json, "choices", option->choices);
  tn_json_object_end (json);
}

static void
json_class (TnJson *json, const TnClass *class)
{
  g_autofree char *version = g_strdup_printf ("%u.%u", class->major, class->minor);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "kind", tool_kind_name (class->kind));
  tn_json_string (json, "name", class->name);
  tn_json_string (json, "version", version);
  tn_json_string (json, "summary", class->summary);
  json_list (json, "aliases", class->aliases);
  json_list (json, "suffixes", class->suffixes);
  json_list (json, "schemes", class->schemes);
  tn_json_array_begin (json, "options");
  for (const TnOption *option = class->options; option && option->name; option++)
    json_option (json, option);
  tn_json_array_end (json);
  tn_json_object_end (json);
}

static void
print_plugin_json (const TnPlugin *plugin)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  g_autofree char *abi = g_strdup_printf ("%u.%u", plugin->abi_major, plugin->abi_minor);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "plugin", plugin->name);
  tn_json_string (json, "version", plugin->version);
  tn_json_string (json, "licence", plugin->licence);
  tn_json_string (json, "package", plugin->package);
  tn_json_string (json, "abi", abi);
  tn_json_string (json, "security", tool_security_name (plugin->security));
  json_list (json, "requires-codecs", plugin->requires_codecs);
  tn_json_array_begin (json, "classes");
  for (const TnClass *const *class = plugin->classes; *class; class ++)
    json_class (json, *class);
  tn_json_array_end (json);
  tn_json_object_end (json);
  puts (text->str);
}

int
tool_show (int argc, char **argv)
{
  bool json = false;
  int n = tool_arguments (argc, argv, &json);
  if (n < 0)
    return TOOL_USAGE;
  if (n != 1)
    return tool_fail (TOOL_USAGE, "show: give the name of one plugin or class, or one FILE.so");
  GError *error = NULL;
  const TnPlugin *plugin = find_plugin (argv[0], &error);
  if (!plugin)
    return tool_fail_error (error);
  if (json)
    print_plugin_json (plugin);
  else
    print_plugin (plugin);
  return TOOL_OK;
}
