/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The outermost part of every tool: options of the tool itself, then the command. */
#include <config.h>

#include "sandbox.h"

#include <tenon/plugin.h>
#include <tenon/secret.h>

#include <malloc.h>

const CliOption cli_tool_options[] = {
  { "version", 'V', NULL, "show the version and exit", NULL },
  { "plugins", 0, "LIST", "use these plugins only (comma-separated names)", NULL },
  { "plugin-dir", 0, "DIR", "look for plugins in this folder first", NULL },
  { "man", 0, NULL, "write the manual page to standard output", NULL },
  { "completion", 0, NULL, "write a completion script for bash to standard output", NULL },
  { 0 }
};

static int
finish (CliArgs *args, int status)
{
  cli_flush (args);
  if (args->out_failed) {
    cli_error (args, "cannot write to standard output: %s", g_strerror (args->out_errno));
    status = status ? status : EXIT_FAILURE;
  }
  if (args->out)
    g_string_free (args->out, TRUE);
  cli_args_clear (args);
  tn_secrets_clear ();
  return status;
}

static int
print_and_finish (CliArgs *args, char *text)
{
  cli_print_text (args, text, strlen (text));
  g_free (text);
  return finish (args, EXIT_SUCCESS);
}

static int
fail_usage (CliArgs *args, const char *command, GError *error)
{
  g_autofree char *of = command ? g_strdup_printf ("%s ", command) : g_strdup ("");
  g_autofree char *prefix = command ? g_strdup_printf ("%s: ", command) : g_strdup ("");
  cli_error (args, "%s%s; see '%s %s--help'", prefix, error->message, args->tool->name, of);
  g_error_free (error);
  return finish (args, EXIT_FAILURE);
}

static int
apply_plugin_options (const CliArgs *args, GError **error)
{
  const char *text;
  for (unsigned i = 0; (text = cli_text_nth (args, "plugin-dir", i)); i++) {
    int ret = tn_plugins_add_directory (text, error);
    if (ret < 0)
      return ret;
  }
  text = cli_text (args, "plugins");
  return text ? tn_plugins_allow (text, error) : 0;
}

/* Answers --help, --version and their like; -1 when there is a command to run. */
static int
answer_tool_options (CliArgs *args)
{
  if (cli_flag (args, "version"))
    return print_and_finish (args, g_strdup_printf ("%s version %s\n", args->tool->name, PACKAGE_VERSION));
  if (cli_flag (args, "man"))
    return print_and_finish (args, cli_manual (args->tool));
  if (cli_flag (args, "completion"))
    return print_and_finish (args, cli_completion (args->tool));
  if (cli_flag (args, "help"))
    return print_and_finish (args, cli_help_tool (args->tool));
  GError *error = NULL;
  if (apply_plugin_options (args, &error) < 0)
    return finish (args, cli_fail (args, EXIT_FAILURE, &error));
  return -1;
}

static int
confine_and_run (CliArgs *args, const CliCommand *command)
{
  GError *error = NULL;
  const int status = command->prepare ? command->prepare (args) : -1;
  if (status >= 0)
    return finish (args, status);
  if (cli_confine (args, &error) < 0)
    return finish (args, cli_fail (args, EXIT_FAILURE, &error));
  return finish (args, command->run (args));
}

static int
run_command (CliArgs *args, const CliCommand *command, int argc, char **argv)
{
  GError *error = NULL;
  cli_args_clear (args);
  if (cli_parse (args, command, argc, argv, &error) < 0)
    return fail_usage (args, command->name, error);
  if (cli_flag (args, "help"))
    return print_and_finish (args, cli_help_command (args->tool, command));
  return confine_and_run (args, command);
}

/* How many arguments from argv[0] on belong to the tool and not to the command. */
static int
count_tool_arguments (int argc, char **argv)
{
  int n = 0;
  while (n < argc && argv[n][0] == '-') {
    bool separate = strcmp (argv[n], "--plugins") == 0 || strcmp (argv[n], "--plugin-dir") == 0;
    n += separate ? 2 : 1;
  }
  return MIN (n, argc);
}

static int
main_with_commands (CliArgs *args, int argc, char **argv)
{
  const CliCommand self = { .name = args->tool->name, .words = "COMMAND", .options = cli_tool_options };
  GError *error = NULL;
  int n = count_tool_arguments (argc, argv);
  if (cli_parse (args, &self, n, argv, &error) < 0)
    return fail_usage (args, NULL, error);
  int status = answer_tool_options (args);
  if (status >= 0)
    return status;
  if (n == argc) {
    tn_fail (&error, TN_OPTION_ERROR, EINVAL, "a command is needed");
    return fail_usage (args, NULL, error);
  }
  const CliCommand *command = cli_find_command (args->tool, argv[n]);
  if (!command) {
    g_autofree char *hint = cli_command_hint (args->tool, argv[n]);
    tn_fail (&error, TN_OPTION_ERROR, EINVAL, "unknown command '%s'%s", argv[n], hint);
    return fail_usage (args, NULL, error);
  }
  return run_command (args, command, argc - n - 1, argv + n + 1);
}

/* One command line holds the options of the tool and of its only command. */
static int
main_without_commands (CliArgs *args, int argc, char **argv)
{
  const CliCommand *self = args->tool->self;
  g_autoptr (GArray) options = g_array_new (TRUE, TRUE, sizeof (CliOption));
  for (const CliOption *option = self->options; option && option->name; option++)
    g_array_append_val (options, *option);
  for (const CliOption *option = cli_tool_options; option->name; option++)
    g_array_append_val (options, *option);
  CliCommand both = *self;
  both.options = (const CliOption *) (void *) options->data;
  GError *error = NULL;
  if (cli_parse (args, &both, argc, argv, &error) < 0)
    return fail_usage (args, NULL, error);
  int status = answer_tool_options (args);
  return status >= 0 ? status : confine_and_run (args, self);
}

/* Buffers of a few clusters come and go with every request.  What the C library gives back to the kernel each
 * time must be faulted in again each time, which costs more than what is done with it. */
static void
keep_memory (void)
{
#ifdef M_TRIM_THRESHOLD
  mallopt (M_MMAP_THRESHOLD, 4 << 20);
  mallopt (M_TRIM_THRESHOLD, 32 << 20);
#endif
}

int
cli_main (const CliTool *tool, int argc, char **argv)
{
  CliArgs args = { .tool = tool };
  keep_memory ();
  if (tool->self)
    return main_without_commands (&args, argc - 1, argv + 1);
  return main_with_commands (&args, argc - 1, argv + 1);
}
