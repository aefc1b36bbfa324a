/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* break, resume, wait_break, remove_break: for images that are opened through blkdebug. */
#include "shell.h"

static int
io_breakpoint (CliArgs *args, TnBreakAction action, const char *event, const char *tag)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (tn_node_breakpoint (shell->node, action, event, tag, &error) >= 0)
    return EXIT_SUCCESS;
  g_prefix_error (&error, "%s: ", args->command->name);
  return cli_fail (shell->args, EXIT_FAILURE, &error);
}

int
io_break_run (CliArgs *args)
{
  return io_breakpoint (args, TN_BREAK_SET, args->words[0], args->words[1]);
}

int
io_remove_break_run (CliArgs *args)
{
  return io_breakpoint (args, TN_BREAK_REMOVE, NULL, args->words[0]);
}

/* What can go on at once does so before the next command. */
int
io_resume_run (CliArgs *args)
{
  int status = io_breakpoint (args, TN_BREAK_RESUME, NULL, args->words[0]);

  while (status == EXIT_SUCCESS && tn_loop_iterate (tn_loop_current (), false))
    ;
  return status;
}

int
io_wait_break_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;
  int stopped = 0;

  if (shell == NULL)
    return EXIT_FAILURE;
  while ((stopped = tn_node_breakpoint (shell->node, TN_BREAK_STOPPED, NULL, args->words[0], &error)) == 0) {
    if (shell->pending == 0) {
      cli_error (shell->args, "wait_break: no request is under way that could come to '%s'", args->words[0]);
      return EXIT_FAILURE;
    }
    tn_loop_iterate (tn_loop_current (), true);
  }
  return stopped < 0 ? cli_fail (shell->args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
}
