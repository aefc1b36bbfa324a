/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/json.h>

#include "tool.h"

typedef struct Listing {
  CliArgs *args;
  TnJson *json; /* NULL: for people */
  bool damaged;
} Listing;

static char *
join (const char *const *list)
{
  return g_strjoinv (",", (char **) list);
}

static void
json_list (TnJson *json, const char *name, const char *const *list)
{
  tn_json_array_begin (json, name);
  for (; *list; list++)
    tn_json_string (json, NULL, *list);
  tn_json_array_end (json);
}

static void
list_class_json (TnJson *json, const TnClassInfo *info)
{
  g_autofree char *version = g_strdup_printf ("%u.%u", info->major, info->minor);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "kind", tool_kind_name (info->kind));
  tn_json_string (json, "name", info->name);
  tn_json_string (json, "version", version);
  tn_json_string (json, "summary", info->summary);
  json_list (json, "aliases", info->aliases);
  json_list (json, "suffixes", info->suffixes);
  json_list (json, "schemes", info->schemes);
  tn_json_string (json, "plugin", info->plugin);
  tn_json_string (json, "plugin-version", info->plugin_version);
  tn_json_string (json, "package", info->package);
  tn_json_string (json, "security", tool_security_name (info->security));
  if (info->path)
    tn_json_string (json, "path", info->path);
  if (info->manifest_path)
    tn_json_string (json, "manifest", info->manifest_path);
  tn_json_bool (json, "linked-in", !info->path);
  tn_json_object_end (json);
}

static void
list_class (const TnClassInfo *info, void *opaque)
{
  Listing *listing = opaque;
  if (listing->json) {
    list_class_json (listing->json, info);
    return;
  }
  g_autofree char *aliases = join (info->aliases);
  g_autofree char *names =
      *aliases ? g_strdup_printf ("%s (%s)", info->name, aliases) : g_strdup (info->name);
  cli_print (listing->args, "%-9s %-20s %-24s %s\n", tool_kind_name (info->kind), names, info->plugin,
             info->summary);
}

static void
list_damaged (const char *path, const GError *why, void *opaque)
{
  Listing *listing = opaque;
  listing->damaged = true;
  cli_error (listing->args, "%s", why->message);
}

static int
list_human (CliArgs *args, GError **error)
{
  Listing listing = { .args = args };
  cli_print (args, "%-9s %-20s %-24s %s\n", "KIND", "NAME", "PLUGIN", "SUMMARY");
  int r = tn_plugins_foreach (0, list_class, list_damaged, &listing, error);
  return r < 0 || listing.damaged ? TOOL_FAILED : TOOL_OK;
}

static int
list_json (CliArgs *args, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  Listing listing = { .args = args, .json = json };
  tn_json_array_begin (json, NULL);
  int r = tn_plugins_foreach (0, list_class, list_damaged, &listing, error);
  tn_json_array_end (json);
  if (r < 0)
    return TOOL_FAILED;
  cli_print (args, "%s\n", text->str);
  return listing.damaged ? TOOL_FAILED : TOOL_OK;
}

static int
list_run (CliArgs *args)
{
  GError *error = NULL;
  int status = cli_json (args) ? list_json (args, &error) : list_human (args, &error);
  return error ? cli_fail (args, TOOL_FAILED, &error) : status;
}

const CliCommand plugin_list = {
  .name = "list",
  .summary = "list the classes that the plugins offer",
  .standard = CLI_OUTPUT,
  .run = list_run,
};
