/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands about the program itself. */
#include "shell.h"

#include <signal.h>

static bool
io_number (const char *text, int64_t *value)
{
  char *end;

  errno = 0;
  *value = g_ascii_strtoll (text, &end, 0);
  return errno == 0 && end != text && *end == '\0' && *value >= 0;
}

static void
io_slept (void *opaque)
{
  *(bool *) opaque = true;
}

/* Requests under way go on meanwhile. */
int
io_sleep_run (CliArgs *args)
{
  IoShell *shell = io_shell (args);
  bool over = false;
  int64_t ms;
  TnTimer *timer;

  if (!io_number (args->words[0], &ms) || ms > INT64_MAX / 2000000) {
    cli_error (shell->args, "%s is not a valid number of milliseconds", args->words[0]);
    return EXIT_FAILURE;
  }
  timer = tn_timer_new (tn_loop_current (), io_slept, &over);
  tn_timer_set (timer, tn_clock_ns () + ms * 1000000);
  while (!over)
    tn_loop_iterate (tn_loop_current (), true);
  tn_timer_free (timer);
  return EXIT_SUCCESS;
}

int
io_sigraise_run (CliArgs *args)
{
  IoShell *shell = io_shell (args);
  int64_t number;

  if (!io_number (args->words[0], &number) || number < 1 || number >= NSIG) {
    cli_error (shell->args, "'%s' is not the number of a signal", args->words[0]);
    return EXIT_FAILURE;
  }
  cli_flush (shell->args);
  raise ((int) number);
  return EXIT_SUCCESS;
}

int
io_abort_run (CliArgs *args)
{
  cli_flush (io_shell (args)->args);
  abort ();
}

int
io_quit_run (CliArgs *args)
{
  io_shell (args)->quit = true;
  return EXIT_SUCCESS;
}

static void
io_print_commands (IoShell *shell)
{
  for (const CliCommand *command = io_tool.commands; command->name != NULL; command++) {
    g_autofree char *synopsis = cli_synopsis (command);

    cli_print (shell->args, "%s -- %s\n", synopsis, command->summary);
  }
  cli_print (shell->args, "\nUse 'help commandname' for extended help.\n");
}

int
io_help_run (CliArgs *args)
{
  IoShell *shell = io_shell (args);
  const CliCommand *command;

  if (args->n_words == 0) {
    io_print_commands (shell);
    return EXIT_SUCCESS;
  }
  command = cli_find_command (&io_tool, args->words[0]);
  if (command == NULL) {
    cli_error (shell->args, "command %s not found", args->words[0]);
    return EXIT_FAILURE;
  }
  g_autofree char *text = cli_help_command (&io_tool, command);
  cli_print (shell->args, "%s", text);
  return EXIT_SUCCESS;
}
