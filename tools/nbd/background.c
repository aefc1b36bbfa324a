/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --fork and --pid-file. */
#include "nbd.h"

#include <fcntl.h>
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
nbd_prepare (CliArgs *args)
{
  int ends[2];
  args->prepared = -1;
  if (!cli_flag (args, "fork"))
    return -1;
  if (g_getenv ("LISTEN_PID")) {
    cli_error (args, "--fork does not go together with a socket that the service manager has opened");
    return EXIT_FAILURE;
  }
  if (pipe (ends) < 0) {
    cli_error (args, "cannot make a pipe for --fork: %s", g_strerror (errno));
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
nbd_started (CliArgs *args, GError **error)
{
  const char *path = cli_text (args, "pid-file");
  const int rc = path ? write_pid_file (path, error) : 0;
  if (rc == 0 && args->prepared >= 0)
    detach (args->prepared);
  return rc;
}
