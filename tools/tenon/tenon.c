/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon: runs a virtual machine. */
#include <config.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <sys/signalfd.h>

#include <tenon/secret.h>

#include "build.h"
#include "list.h"
#include "options.h"

/* ---- Signals and the terminal ---- */

/* The terminal as it was found.  Global because a handler of a fatal signal needs it. */
static struct termios terminal_saved;
static volatile sig_atomic_t terminal_is_saved;

static void
crashed (int number)
{
  if (terminal_is_saved)
    tcsetattr (STDIN_FILENO, TCSANOW, &terminal_saved);
  signal (number, SIG_DFL);
  raise (number);
}

/* Even a crash leaves the terminal as it was. */
static void
guard_terminal (void)
{
  static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
  if (!isatty (STDIN_FILENO) || tcgetattr (STDIN_FILENO, &terminal_saved) != 0)
    return;
  terminal_is_saved = 1;
  for (size_t i = 0; i < G_N_ELEMENTS (fatal); i++)
    signal (fatal[i], crashed);
}

static void
signalled (int fd, short events, void *opaque)
{
  struct signalfd_siginfo info;
  if (read (fd, &info, sizeof info) == (ssize_t) sizeof info)
    tn_machine_quit (opaque, 128 + (int) info.ssi_signo);
}

/* Blocks the signals that end a program, before any thread exists. */
static int
catch_signals (void)
{
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGHUP);
  sigaddset (&set, SIGQUIT);
  signal (SIGPIPE, SIG_IGN);
  pthread_sigmask (SIG_BLOCK, &set, NULL);
  return signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- Running ---- */

static int
dump_fdt (TnMachine *machine, const char *path, GError **error)
{
  size_t length;
  const void *fdt = tn_machine_fdt (machine, &length);
  g_autoptr (GError) why = NULL;
  if (!g_file_set_contents (path, fdt, (gssize) length, &why))
    return tn_fail (error, TN_MACHINE_ERROR, EIO, "cannot write the device tree: %s", why->message);
  return 0;
}

static void
print_plugin (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  fprintf (stderr, "%-24s %s  %s\n", plugin->name, path != NULL ? path : "(built in)",
           why != NULL ? why : "");
}

/* Builds the machine and does what was asked with it; *status is the exit status. */
static int
run (const TenonArgs *args, int signals, int *status, GError **error)
{
  g_autoptr (TnMachine) machine = NULL;
  int r = tenon_build (args, &machine, error);
  if (r < 0)
    return r;
  if (args->action == TENON_DUMP) {
    g_autofree char *text = tn_machine_dump (machine);
    fputs (text, stdout);
    return 0;
  }
  if (args->action == TENON_DUMP_FDT)
    return dump_fdt (machine, args->dump_fdt, error);
  tn_machine_enable_monitor (machine);
  if (signals >= 0)
    tn_loop_watch_fd (tn_loop_current (), signals, POLLIN, signalled, machine, NULL);
  if (args->paused)
    tn_machine_pause (machine);
  r = tn_machine_run (machine, status, error);
  if (signals >= 0)
    tn_loop_watch_fd (tn_loop_current (), signals, 0, NULL, NULL, NULL);
  return r;
}

static int
act (const TenonArgs *args, int *status, GError **error)
{
  switch (args->action) {
  case TENON_HELP: {
    g_autofree char *text = tenon_help ();
    fputs (text, stdout);
    return 0;
  }
  case TENON_VERSION:
    printf ("tenon %s\n", PACKAGE_VERSION);
    return 0;
  case TENON_LIST_BOARDS:
    tenon_list_boards ();
    return 0;
  case TENON_LIST_DEVICES:
    return tenon_list_classes (TN_KIND_DEVICE, error);
  case TENON_LIST_CPUS:
    return tenon_list_classes (TN_KIND_CPU, error);
  case TENON_DEVICE_HELP:
    return tenon_list_options (TN_KIND_DEVICE, args->help_class, error);
  default:
    break;
  }
  guard_terminal ();
  int signals = catch_signals ();
  int r = run (args, signals, status, error);
  if (signals >= 0)
    close (signals);
  if (args->dump_plugins)
    tn_plugins_foreach_loaded (print_plugin, NULL);
  return r;
}

int
main (int argc, char **argv)
{
  TenonArgs args;
  g_autoptr (GError) error = NULL;
  int status = 0;
  int r = tenon_args_parse (&args, argc, argv, &error);
  for (guint i = 0; r == 0 && i < args.plugin_dirs->len; i++)
    r = tn_plugins_add_directory (g_ptr_array_index (args.plugin_dirs, i), &error);
  if (r == 0 && args.plugins != NULL)
    r = tn_plugins_allow (args.plugins, &error);
  if (r == 0)
    r = act (&args, &status, &error);
  tenon_args_clear (&args);
  tn_secrets_clear ();
  if (r < 0) {
    fflush (stdout);
    fprintf (stderr, "tenon: %s\n", error != NULL ? error->message : "failed");
    return EXIT_FAILURE;
  }
  return fflush (stdout) == 0 ? status : EXIT_FAILURE;
}
