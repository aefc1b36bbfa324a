/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-io: reads, writes and examines an image by commands, for tests and for curiosity. */
#include "sandbox.h"
#include "shell.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- The commands of the prompt ---- */

#define IO_TERSE                                                                                             \
  {                                                                                                          \
    "report-terse", 'C', NULL, "report in a form for programs", NULL                                         \
  }
#define IO_QUIET                                                                                             \
  {                                                                                                          \
    "quiet", 'q', NULL, "report nothing", NULL                                                               \
  }
#define IO_FUA                                                                                               \
  {                                                                                                          \
    "fua", 'f', NULL, "the data is on stable storage when the command ends", NULL                            \
  }
#define IO_ZEROES                                                                                            \
  {                                                                                                          \
    "zeroes", 'z', NULL, "write zeroes without transferring them", NULL                                      \
  }
#define IO_UNMAP                                                                                             \
  {                                                                                                          \
    "unmap", 'u', NULL, "with -z: space may be given back", NULL                                             \
  }
#define IO_DUMP                                                                                              \
  {                                                                                                          \
    "dump", 'v', NULL, "print the bytes", NULL                                                               \
  }
#define IO_VM_STATE                                                                                          \
  {                                                                                                          \
    "vm-state", 'b', NULL, "use the saved machine state instead of the disk", NULL                           \
  }
#define IO_OLD_P                                                                                             \
  {                                                                                                          \
    "positioned", 'p', NULL, "ignored, for old scripts", NULL                                                \
  }
#define IO_INVALID                                                                                           \
  {                                                                                                          \
    "invalid", 'i', NULL, "make a wrong request, to exercise error counters", NULL                           \
  }

static const CliOption io_read_options[] = {
  IO_TERSE,
  IO_QUIET,
  IO_DUMP,
  IO_VM_STATE,
  IO_OLD_P,
  { "pattern", 'P', "BYTE", "check that every byte read is this one", NULL },
  { "pattern-offset", 's', "OFFSET", "with -P: check from here in what was read", NULL },
  { "pattern-length", 'l', "LENGTH", "with -P: check as many bytes", NULL },
  { 0 },
};
static const CliOption io_readv_options[] = {
  IO_TERSE, IO_QUIET, IO_DUMP, { "pattern", 'P', "BYTE", "check that every byte read is this one", NULL },
  { 0 },
};
static const CliOption io_write_options[] = {
  IO_TERSE,
  IO_QUIET,
  IO_FUA,
  IO_ZEROES,
  IO_UNMAP,
  IO_VM_STATE,
  IO_OLD_P,
  { "compressed", 'c', NULL, "write compressed", NULL },
  { "no-fallback", 'n', NULL, "with -z: fail rather than transfer zeroes", NULL },
  { "pattern", 'P', "BYTE", "write this byte (default 0xcd)", NULL },
  { "source", 's', "FILE", "write the bytes of this file, over and over", NULL },
  { 0 },
};
static const CliOption io_writev_options[] = {
  IO_TERSE, IO_QUIET, IO_FUA, { "pattern", 'P', "BYTE", "write this byte (default 0xcd)", NULL }, { 0 },
};
static const CliOption io_aio_read_options[] = {
  IO_TERSE,
  IO_QUIET,
  IO_DUMP,
  IO_INVALID,
  { "pattern", 'P', "BYTE", "check that every byte read is this one", NULL },
  { 0 },
};
static const CliOption io_aio_write_options[] = {
  IO_TERSE,
  IO_QUIET,
  IO_FUA,
  IO_ZEROES,
  IO_UNMAP,
  IO_INVALID,
  { "pattern", 'P', "BYTE", "write this byte (default 0xcd)", NULL },
  { 0 },
};
static const CliOption io_discard_options[] = { IO_TERSE, IO_QUIET, { 0 } };
static const CliOption io_truncate_options[] = {
  { "preallocation", 'm', "MODE", "set the new space aside: off, metadata, falloc, full", NULL },
  { 0 },
};
static const CliOption io_open_command_options[] = {
  { "read-only", 'r', NULL, "open for reading only", NULL },
  { "snapshot", 's', NULL, "keep what is written in a temporary overlay", NULL },
  { "copy-on-read", 'C', NULL, "copy what is read from backing files", NULL },
  { "nocache", 'n', NULL, "bypass the host's cache: the same as -t none", NULL },
  { "force-share", 'U', NULL, "open even while another program writes to it", NULL },
  { "native-aio", 'k', NULL, "use Linux AIO: the same as -i native", NULL },
  { "aio", 'i', "MODE", "how requests reach the kernel: threads, native, io_uring", NULL },
  { "cache", 't', "MODE", "cache mode: writethrough (default), writeback, none, directsync, unsafe", NULL },
  { "discard", 'd', "MODE", "discards: unmap (default) or ignore", NULL },
  { "options", 'o', "OPTIONS", "key=value,… for the image", NULL },
  { 0 },
};
static const CliOption io_reopen_options[] = {
  { "read-only", 'r', NULL, "for reading only", NULL },
  { "writable", 'w', NULL, "for writing too", NULL },
  { "cache", 'c', "MODE", "another cache mode", NULL },
  { "options", 'o', "OPTIONS", "key=value,… to change", NULL },
  { 0 },
};

static const CliCommand io_commands[] = {
  { .name = "abort", .summary = "simulate a crash of the program by abort(3)", .run = io_abort_run },
  { .name = "aio_flush",
    .summary = "complete all outstanding asynchronous requests",
    .run = io_aio_flush_run },
  { .name = "aio_read",
    .summary = "read without waiting for the end",
    .words = "OFFSET LENGTH [LENGTH…]",
    .min_words = 2,
    .max_words = 1025,
    .options = io_aio_read_options,
    .details = "Use aio_flush to wait.  The command succeeds once the request is on its way.\n",
    .run = io_aio_read_run },
  { .name = "aio_write",
    .summary = "write without waiting for the end",
    .words = "OFFSET LENGTH [LENGTH…]",
    .min_words = 2,
    .max_words = 1025,
    .options = io_aio_write_options,
    .details = "Use aio_flush to wait.  The command succeeds once the request is on its way.\n",
    .run = io_aio_write_run },
  { .name = "alloc",
    .summary = "say how many bytes from an offset are allocated in the image itself",
    .words = "OFFSET [LENGTH]",
    .min_words = 1,
    .max_words = 2,
    .run = io_alloc_run },
  { .name = "break",
    .summary = "stop a request at an event",
    .words = "EVENT TAG",
    .min_words = 2,
    .max_words = 2,
    .run = io_break_run },
  { .name = "close", .alias = "c", .summary = "close the image", .run = io_close_run },
  { .name = "discard",
    .alias = "d",
    .summary = "give a range back",
    .words = "OFFSET LENGTH",
    .min_words = 2,
    .max_words = 2,
    .options = io_discard_options,
    .run = io_discard_run },
  { .name = "flush",
    .alias = "f",
    .summary = "bring everything written to stable storage",
    .run = io_flush_run },
  { .name = "help",
    .alias = "?",
    .summary = "help for one or all commands",
    .words = "[COMMAND]",
    .max_words = 1,
    .run = io_help_run },
  { .name = "info", .alias = "i", .summary = "describe the image", .run = io_info_run },
  { .name = "length", .alias = "l", .summary = "print the size of the disk", .run = io_length_run },
  { .name = "map", .summary = "print which areas are allocated in the image itself", .run = io_map_run },
  { .name = "open",
    .alias = "o",
    .summary = "open an image",
    .words = "[FILE]",
    .max_words = 1,
    .options = io_open_command_options,
    .run = io_open_run },
  { .name = "quit", .alias = "q", .summary = "end the program", .run = io_quit_run },
  { .name = "read",
    .alias = "r",
    .summary = "read a range",
    .words = "OFFSET LENGTH",
    .min_words = 2,
    .max_words = 2,
    .options = io_read_options,
    .details = "Sizes may end in k, M, G, T, P or E.  Example: read -v 512 1k\n",
    .run = io_read_run },
  { .name = "readv",
    .summary = "read a range into several buffers",
    .words = "OFFSET LENGTH [LENGTH…]",
    .min_words = 2,
    .max_words = 1025,
    .options = io_readv_options,
    .run = io_readv_run },
  { .name = "remove_break",
    .summary = "remove a breakpoint",
    .words = "TAG",
    .min_words = 1,
    .max_words = 1,
    .run = io_remove_break_run },
  { .name = "reopen",
    .summary = "change how the open image is used",
    .options = io_reopen_options,
    .run = io_reopen_run },
  { .name = "resume",
    .summary = "let a stopped request go on",
    .words = "TAG",
    .min_words = 1,
    .max_words = 1,
    .run = io_resume_run },
  { .name = "sigraise",
    .summary = "raise a signal",
    .words = "NUMBER",
    .min_words = 1,
    .max_words = 1,
    .run = io_sigraise_run },
  { .name = "sleep",
    .summary = "wait, while requests go on",
    .words = "MILLISECONDS",
    .min_words = 1,
    .max_words = 1,
    .run = io_sleep_run },
  { .name = "stat", .summary = "print how many requests there were", .run = io_stat_run },
  { .name = "truncate",
    .alias = "t",
    .summary = "change the size of the disk",
    .words = "SIZE",
    .min_words = 1,
    .max_words = 1,
    .options = io_truncate_options,
    .run = io_truncate_run },
  { .name = "wait_break",
    .summary = "wait until a request is stopped",
    .words = "TAG",
    .min_words = 1,
    .max_words = 1,
    .run = io_wait_break_run },
  { .name = "write",
    .alias = "w",
    .summary = "write a range",
    .words = "OFFSET LENGTH",
    .min_words = 2,
    .max_words = 2,
    .options = io_write_options,
    .details = "Sizes may end in k, M, G, T, P or E.  Example: write -P 0x42 512 1k\n",
    .run = io_write_run },
  { .name = "writev",
    .summary = "write a range from several buffers",
    .words = "OFFSET LENGTH [LENGTH…]",
    .min_words = 2,
    .max_words = 1025,
    .options = io_writev_options,
    .run = io_writev_run },
  { 0 },
};

/* ---- Running them
 * ------------------------------------------------------------------------------------------ */

IoShell *
io_image (CliArgs *args, bool writing)
{
  IoShell *shell = io_shell (args);

  if (shell->node == NULL) {
    cli_error (shell->args, "no file open, try 'help open'");
    return NULL;
  }
  if (writing && tn_drive_is_read_only (shell->drive)) {
    cli_error (shell->args, "Block node is read-only: '%s' was opened without write access (try 'reopen -w')",
               tn_node_filename (shell->node));
    return NULL;
  }
  return shell;
}

/* The words between blanks; quotes and backslashes are ordinary characters. */
static GPtrArray *
io_split (char *line)
{
  GPtrArray *words = g_ptr_array_new ();

  while (*(line += strspn (line, " \t\r\n")) != '\0') {
    g_ptr_array_add (words, line);
    line += strcspn (line, " \t\r\n");
    if (*line != '\0')
      *line++ = '\0';
  }
  return words;
}

static int
io_run_command (IoShell *shell, const CliCommand *command, int argc, char **argv)
{
  IoCall call = { .args = { .tool = &io_tool }, .shell = shell };
  GError *error = NULL;
  int status;

  if (cli_parse (&call.args, command, argc, argv, &error) < 0) {
    g_prefix_error (&error, "%s: ", command->name);
    status = cli_fail (shell->args, EXIT_FAILURE, &error);
  } else if (cli_flag (&call.args, "help")) {
    g_autofree char *text = cli_help_command (&io_tool, command);
    cli_print (shell->args, "%s", text);
    status = EXIT_SUCCESS;
  } else
    status = command->run (&call.args);
  cli_args_clear (&call.args);
  return status;
}

static int
io_run_line (IoShell *shell, const char *text)
{
  g_autofree char *line = g_strdup (text);
  g_autoptr (GPtrArray) words = io_split (line);
  const CliCommand *command;
  int status = EXIT_FAILURE;

  if (words->len == 0)
    return EXIT_SUCCESS;
  command = cli_find_command (&io_tool, words->pdata[0]);
  if (command != NULL)
    status = io_run_command (shell, command, (int) words->len - 1, (char **) words->pdata + 1);
  else {
    g_autofree char *hint = cli_command_hint (&io_tool, words->pdata[0]);
    cli_error (shell->args, "command \"%s\" not found%s", (char *) words->pdata[0], hint);
  }
  cli_flush (shell->args);
  return status;
}

static int
io_prompt_loop (IoShell *shell)
{
  char *line = NULL;
  size_t size = 0;
  int status = EXIT_SUCCESS;

  while (!shell->quit) {
    cli_print (shell->args, "tenon-io> ");
    cli_flush (shell->args);
    if (getline (&line, &size, stdin) < 0)
      break;
    if (io_run_line (shell, line) != EXIT_SUCCESS)
      status = EXIT_FAILURE;
    /* Requests under way move on between two lines. */
    while (shell->pending > 0 && tn_loop_iterate (tn_loop_current (), false))
      ;
  }
  free (line);
  return status;
}

static int
io_run_given (IoShell *shell)
{
  int status = EXIT_SUCCESS;
  const char *line;

  for (unsigned i = 0; !shell->quit && (line = cli_text_nth (shell->args, "cmd", i)) != NULL; i++)
    if (io_run_line (shell, line) != EXIT_SUCCESS)
      status = EXIT_FAILURE;
  return status;
}

/* ---- The command line
 * -------------------------------------------------------------------------------------- */

static int
io_check_unsupported (CliArgs *args, GError **error)
{
  if (cli_flag (args, "trace"))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP, "-T (--trace) is not supported; 'stat' counts requests");
  if (cli_flag (args, "image-opts") && cli_flag (args, "format"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--image-opts and -f are mutually exclusive");
  return cli_define_objects (args, error);
}

static int
io_open_given (IoShell *shell, GError **error)
{
  CliArgs *args = shell->args;
  IoOpening opening = {
    .filename = args->n_words > 0 ? args->words[0] : NULL,
    .image_opts = cli_flag (args, "image-opts"),
    .format = cli_text (args, "format"),
    .aio = cli_flag (args, "native-aio") ? "native" : cli_text (args, "aio"),
    .cache = cli_flag (args, "nocache") ? "none" : cli_text (args, "cache"),
    .discard = cli_text (args, "discard"),
    .read_only = cli_flag (args, "read-only"),
    .snapshot = cli_flag (args, "snapshot"),
    .copy_on_read = cli_flag (args, "copy-on-read"),
    .shared = cli_flag (args, "force-share"),
    .untrusted = cli_flag (args, "untrusted"),
    .misalign = cli_flag (args, "misalign"),
  };
  TnCacheMode mode;
  uint32_t flags = 0;

  if (opening.filename != NULL)
    return io_open (shell, &opening, error);
  /* Nothing to open yet, but what was given must make sense. */
  return opening.cache != NULL ? tn_cache_mode_parse (opening.cache, &mode, error) : (int) flags;
}

/* An image, or (write -s) a file with what to write. */
static bool
io_opens (const char *line)
{
  return strstr (line, "open") != NULL || strstr (line, " -s") != NULL || g_str_has_prefix (line, "o ");
}

/* Files may be opened later by a prompt, or by a command. */
static int
io_seal (const IoShell *shell, GError **error)
{
  const char *line;

  if (!cli_flag (shell->args, "cmd") || cli_flag (shell->args, "snapshot"))
    return 0;
  for (unsigned i = 0; (line = cli_text_nth (shell->args, "cmd", i)) != NULL; i++)
    if (io_opens (line))
      return 0;
  return cli_seal (shell->args, TN_SANDBOX_PLUGINS, NULL, 0, error);
}

static int
io_main (CliArgs *args)
{
  IoShell shell = { .args = args };
  GError *error = NULL;
  int status;

  if (io_check_unsupported (args, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  if (io_open_given (&shell, &error) < 0) {
    if (args->n_words > 0)
      g_prefix_error (&error, "can't open device %s: ", args->words[0]);
    return cli_fail (args, EXIT_FAILURE, &error);
  }
  if (io_seal (&shell, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  status = cli_flag (args, "cmd") ? io_run_given (&shell) : io_prompt_loop (&shell);
  if (io_close (&shell, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return status;
}

static const CliOption io_options[] = {
  { "cmd", 'c', "COMMAND", "run this command instead of asking for some; may be given several times", NULL },
  { "read-only", 'r', NULL, "open the image for reading only", NULL },
  { "snapshot", 's', NULL, "keep what is written in a temporary overlay", NULL },
  { "nocache", 'n', NULL, "bypass the host's cache: the same as -t none", NULL },
  { "copy-on-read", 'C', NULL, "copy what is read from backing files", NULL },
  { "misalign", 'm', NULL, "use buffers that are not aligned for O_DIRECT", NULL },
  { "native-aio", 'k', NULL, "use Linux AIO: the same as -i native", NULL },
  { "aio", 'i', "MODE", "how requests reach the kernel: threads, native, io_uring", NULL },
  { "discard", 'd', "MODE", "discards: unmap (default) or ignore", NULL },
  { "trace", 'T', "EVENTS", "trace events (not supported)", NULL },
  { 0 },
};

static const CliCommand io_self = {
  .name = "tenon-io",
  .summary = "read and write a disk image by commands",
  .words = "[FILE]",
  .max_words = 1,
  .standard = CLI_OPEN | CLI_CACHE | CLI_SANDBOX,
  .options = io_options,
  .run = io_main,
};

const CliTool io_tool = {
  .name = "tenon-io",
  .summary = "read and write a disk image by commands",
  .details =
      "Commands come from -c or from standard input; 'help' lists them.  The exit status is 1 when one "
      "failed.\n",
  .commands = io_commands,
  .self = &io_self,
  .sandboxed = true,
};

int
main (int argc, char **argv)
{
  return cli_main (&io_tool, argc, argv);
}
