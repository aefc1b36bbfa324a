/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "tool.h"

int
tool_manifest (int argc, char **argv)
{
  int n = tool_arguments (argc, argv, NULL);
  if (n < 0)
    return TOOL_USAGE;
  if (n != 1)
    return tool_fail (TOOL_USAGE, "manifest: give one FILE.so");
  GError *error = NULL;
  const TnPlugin *plugin = tn_plugin_load_file (argv[0], &error);
  if (!plugin)
    return tool_fail_error (error);
  g_autofree char *object_name = g_path_get_basename (argv[0]);
  g_autofree char *text = tn_plugin_manifest (plugin, object_name);
  if (fputs (text, stdout) == EOF || fflush (stdout) == EOF)
    return tool_fail (TOOL_FAILED, "cannot write the manifest: %s", g_strerror (errno));
  return TOOL_OK;
}
