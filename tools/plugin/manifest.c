/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tool.h"

static int
manifest_run (CliArgs *args)
{
  GError *error = NULL;
  const TnPlugin *plugin = tn_plugin_load_file (args->words[0], &error);
  if (!plugin)
    return cli_fail (args, TOOL_FAILED, &error);
  g_autofree char *object_name = g_path_get_basename (args->words[0]);
  g_autofree char *text = tn_plugin_manifest (plugin, object_name);
  cli_print (args, "%s", text);
  return TOOL_OK;
}

const CliCommand plugin_manifest = {
  .name = "manifest",
  .summary = "print the manifest made from a plugin's descriptor",
  .words = "FILE.so",
  .min_words = 1,
  .max_words = 1,
  .run = manifest_run,
};
