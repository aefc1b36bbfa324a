/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Programs that serve: in the background, with a pid file, until a signal. */
#include "service.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child writes one byte when it serves; if it ends without, its status is the parent's. */
static int
wait_for_child (CliArgs *args, pid_t child, int fd)
{
  char byte;
  ssize_t got;
  int status = 0;
  do
    got = read (fd, &byte, 1);
  while (got < 0 && errno == EINTR);
  if (got == 1)
    return EXIT_SUCCESS;
  if (waitpid (child, &status, 0) == child && WIFEXITED (status) && WEXITSTATUS (status))
    return WEXITSTATUS (status);
  cli_error (args, "the server ended before it could serve");
  return EXIT_FAILURE;
}

int
cli_background (CliArgs *args, bool wanted)
{
  int ends[2];
  args->prepared = -1;
  if (!wanted)
    return -1;
  if (pipe (ends) < 0) {
    cli_error (args, "cannot go to the background: no pipe: %s", g_strerror (errno));
    return EXIT_FAILURE;
  }
  const pid_t child = fork ();
  if (child < 0) {
    cli_error (args, "cannot go to the background: %s", g_strerror (errno));
    return EXIT_FAILURE;
  }
  close (ends[child ? 1 : 0]);
  if (child)
    return wait_for_child (args, child, ends[0]);
  setsid ();
  fcntl (ends[1], F_SETFD, FD_CLOEXEC);
  args->prepared = ends[1];
  return -1;
}

static int
write_pid_file (const char *path, GError **error)
{
  g_autofree char *text = g_strdup_printf ("%ld\n", (long) getpid ());
  const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0)
    return tn_fail_errno (error, TN_OPTION_ERROR, errno, "cannot write the pid file '%s'", path);
  const int failed = cli_write (fd, text, strlen (text));
  close (fd);
  return failed ? tn_fail_errno (error, TN_OPTION_ERROR, failed, "cannot write the pid file '%s'", path) : 0;
}

static void
detach (int ready)
{
  const int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2 && null >= 0; fd++)
    dup2 (null, fd);
  if (null > 2)
    close (null);
  cli_write (ready, "", 1);
  close (ready);
}

int
cli_started (CliArgs *args, const char *pid_file, GError **error)
{
  const int rc = pid_file ? write_pid_file (pid_file, error) : 0;
  if (rc == 0 && args->prepared >= 0)
    detach (args->prepared);
  return rc;
}

/* ---- Signals ---- */

static void
signalled (int fd, short events, void *opaque)
{
  struct signalfd_siginfo info;
  if (read (fd, &info, sizeof info) > 0)
    tn_loop_quit (opaque);
}

int
cli_catch_signals (TnLoop *loop, int *signals, GError **error)
{
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGHUP);
  sigprocmask (SIG_BLOCK, &set, NULL);
  *signals = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (*signals < 0)
    return tn_fail_errno (error, TN_OPTION_ERROR, errno, "cannot wait for signals");
  return tn_loop_watch_fd (loop, *signals, POLLIN, signalled, loop, error);
}

void
cli_release_signals (TnLoop *loop, int signals)
{
  if (signals < 0)
    return;
  tn_loop_watch_fd (loop, signals, 0, NULL, NULL, NULL);
  close (signals);
}
