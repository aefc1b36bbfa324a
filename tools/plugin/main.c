/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-plugin: what plugins there are, and what is right or wrong with one. */
#include "tool.h"

int
main (int argc, char **argv)
{
  const CliCommand commands[] = { plugin_list, plugin_show,     plugin_manual, plugin_check,
                                  plugin_new,  plugin_manifest, { 0 } };
  const CliTool tool = {
    .name = "tenon-plugin",
    .summary = "look at Tenon's plugins, and help to write them",
    .details = "NAME is that of a plugin (format-qcow2) or of a class (qcow2); FILE.so is a path.\n"
               "KIND is format, protocol, device, cpu or codec.\n\n"
               "Environment: TENON_PLUGIN_PATH (folders to search first), TENON_PLUGINS (plugins allowed).\n",
    .commands = commands,
  };
  return cli_main (&tool, argc, argv);
}
