/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/json.h>

#include "tool.h"

/* ---- For people ---- */

static void
print_list (CliArgs *args, const char *title, const char *const *list)
{
  if (!list || !*list)
    return;
  g_autofree char *text = g_strjoinv (", ", (char **) list);
  cli_print (args, "%s%s\n", title, text);
}

static void
print_option (CliArgs *args, const TnOption *option)
{
  g_autofree char *when = tool_option_when (option->when);
  cli_print (args, "    %-20s %-8s %-16s %s", option->name, tool_option_type_name (option->type), when,
             option->help ? option->help : "");
  if (option->choices) {
    g_autofree char *choices = g_strjoinv ("|", (char **) option->choices);
    cli_print (args, " [%s]", choices);
  }
  if (option->max)
    cli_print (args, " [%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT "]", option->min, option->max);
  if (option->value)
    cli_print (args, " (default: %s)", option->value);
  cli_print (args, "\n");
}

static void
print_class (CliArgs *args, const TnClass *class)
{
  cli_print (args, "\n%s %s (%s interface %u.%u)\n  %s\n", tool_kind_name (class->kind), class->name,
             tool_kind_name (class->kind), class->major, class->minor, class->summary);
  print_list (args, "  aliases:  ", class->aliases);
  print_list (args, "  suffixes: ", class->suffixes);
  print_list (args, "  schemes:  ", class->schemes);
  if (class->options)
    cli_print (args, "  options:\n");
  for (const TnOption *option = class->options; option && option->name; option++)
    print_option (args, option);
}

static void
print_plugin (CliArgs *args, const TnPlugin *plugin)
{
  cli_print (args,
             "plugin:   %s\nversion:  %s\nlicence:  %s\npackage:  %s\nABI:      %u.%u (this Tenon: %d.%d)\n"
             "security: %s\n",
             plugin->name, plugin->version, plugin->licence, plugin->package, plugin->abi_major,
             plugin->abi_minor, TN_ABI_MAJOR, TN_ABI_MINOR, tool_security_name (plugin->security));
  print_list (args, "codecs:   ", plugin->requires_codecs);
  for (const TnClass *const *class = plugin->classes; *class; class ++)
    print_class (args, *class);
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
print_plugin_json (CliArgs *args, const TnPlugin *plugin)
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
  cli_print (args, "%s\n", text->str);
}

static int
show_run (CliArgs *args)
{
  GError *error = NULL;
  const TnPlugin *plugin = tool_find_plugin (args->words[0], &error);
  if (!plugin)
    return cli_fail (args, TOOL_FAILED, &error);
  if (cli_json (args))
    print_plugin_json (args, plugin);
  else
    print_plugin (args, plugin);
  return TOOL_OK;
}

const CliCommand plugin_show = {
  .name = "show",
  .summary = "show a plugin, its classes and their options",
  .words = "NAME|FILE.so",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_OUTPUT,
  .run = show_run,
};
