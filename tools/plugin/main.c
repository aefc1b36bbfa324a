/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-plugin: what plugins there are, and what is right or wrong with one. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool.h"

static const ToolCommand commands[] = {
  { "list", "[--output=json]", "list the classes that the plugins offer", tool_list },
  { "show", "NAME|FILE.so [--output=json]", "show a plugin, its classes and their options", tool_show },
  { "check", "FILE.so...", "check ABI, symbols, descriptor and manifest", tool_check },
  { "new", "KIND NAME [FOLDER]", "write the beginnings of a plugin, ready to build", tool_new },
  { "manifest", "FILE.so", "print the manifest made from a plugin's descriptor", tool_manifest },
};

int
tool_fail (int status, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  fprintf (stderr, "tenon-plugin: %s\n", text);
  return status;
}

int
tool_fail_error (GError *error)
{
  tool_fail (TOOL_FAILED, "%s", error->message);
  g_error_free (error);
  return TOOL_FAILED;
}

/* -1: not an output option; else whether it is in order. */
static int
output_option (const char *argument, bool *json)
{
  if (!json || !g_str_has_prefix (argument, "--output="))
    return -1;
  const char *format = argument + strlen ("--output=");
  *json = strcmp (format, "json") == 0;
  return *json || strcmp (format, "human") == 0;
}

int
tool_arguments (int argc, char **argv, bool *json)
{
  int n = 0;
  bool options = true;
  for (int i = 1; i < argc; i++) {
    if (!options || argv[i][0] != '-' || !argv[i][1]) {
      argv[n++] = argv[i];
      continue;
    }
    if (strcmp (argv[i], "--") == 0) {
      options = false;
      continue;
    }
    int output = output_option (argv[i], json);
    if (output > 0)
      continue;
    if (output == 0)
      tool_fail (TOOL_USAGE, "'%s': the output is 'human' or 'json'", argv[i]);
    else
      tool_fail (TOOL_USAGE, "unknown option '%s': see 'tenon-plugin --help'", argv[i]);
    return -1;
  }
  return n;
}

static void
print_help (void)
{
  printf ("Usage: tenon-plugin [--plugin-dir=DIR] COMMAND [ARGUMENT]...\n"
          "Looks at Tenon's plugins and helps to write them.\n\nCommands:\n");
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++) {
    g_autofree char *usage = g_strdup_printf ("%s %s", commands[i].name, commands[i].arguments);
    printf ("  %-34s %s\n", usage, commands[i].summary);
  }
  printf ("\nOptions:\n"
          "  --plugin-dir=DIR   search DIR before the other plugin folders\n"
          "  --help, --version  print this help, or the version\n"
          "\nExit status: 0 success, 1 failure or a failed check, 2 wrong usage.\n"
          "Environment: TENON_PLUGIN_PATH (folders to search first), TENON_PLUGINS (plugins allowed).\n");
}

static void
print_version (void)
{
  printf ("tenon-plugin, ABI %d.%d\n", TN_ABI_MAJOR, TN_ABI_MINOR);
}

static int
run_command (int argc, char **argv)
{
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++) {
    if (strcmp (argv[0], commands[i].name) == 0)
      return commands[i].run (argc, argv);
  }
  return tool_fail (TOOL_USAGE, "unknown command '%s': see 'tenon-plugin --help'", argv[0]);
}

int
main (int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    const char *argument = argv[i];
    if (strcmp (argument, "--help") == 0 || strcmp (argument, "-h") == 0) {
      print_help ();
      return TOOL_OK;
    }
    if (strcmp (argument, "--version") == 0) {
      print_version ();
      return TOOL_OK;
    }
    if (g_str_has_prefix (argument, "--plugin-dir=")) {
      GError *error = NULL;
      if (tn_plugins_add_directory (strchr (argument, '=') + 1, &error) < 0)
        return tool_fail_error (error);
      continue;
    }
    if (argument[0] == '-')
      return tool_fail (TOOL_USAGE, "unknown option '%s': see 'tenon-plugin --help'", argument);
    return run_command (argc - i, argv + i);
  }
  return tool_fail (TOOL_USAGE, "no command: see 'tenon-plugin --help'");
}
