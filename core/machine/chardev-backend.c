/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "machine/chardev.h"

/* Terminal input as a guest wants it: each key at once, none interpreted.  Output keeps its newline handling.
 */
static void *
terminal_make_raw (int fd, bool keep_signals)
{
  struct termios *saved = g_new (struct termios, 1);
  if (tcgetattr (fd, saved) != 0) {
    g_free (saved);
    return NULL;
  }
  struct termios raw = *saved;
  raw.c_iflag &= ~(tcflag_t) (IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  raw.c_oflag |= OPOST;
  raw.c_lflag &= ~(tcflag_t) (ECHO | ECHONL | ICANON | IEXTEN);
  if (!keep_signals)
    raw.c_lflag &= ~(tcflag_t) ISIG;
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  tcsetattr (fd, TCSANOW, &raw);
  return saved;
}

/* A description of standard output of our own, so that making it non-blocking concerns nobody else. */
static void
reopen_output (TnChardevBackend *backend)
{
  struct stat status;
  backend->out = STDOUT_FILENO;
  if (fstat (STDOUT_FILENO, &status) != 0) {
    backend->out = -1;
    return;
  }
  if (S_ISREG (status.st_mode))
    return;
  int fd = open ("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  backend->own_out = fd >= 0;
  backend->may_block = fd < 0;
  if (fd >= 0)
    backend->out = fd;
}

static void
open_stdio (TnChardevBackend *backend, bool mux)
{
  backend->mux = mux;
  backend->in = STDIN_FILENO;
  reopen_output (backend);
  if (isatty (STDIN_FILENO))
    backend->terminal = terminal_make_raw (STDIN_FILENO, !mux);
}

static int
open_file (TnChardevBackend *backend, const char *path, GError **error)
{
  backend->out = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  if (backend->out < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "cannot open '%s' for a character device", path);
  backend->own_out = true;
  return 0;
}

static int
open_pty (TnChardevBackend *backend, GError **error)
{
  int fd = posix_openpt (O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  char path[64];
  if (fd < 0 || grantpt (fd) != 0 || unlockpt (fd) != 0 || ptsname_r (fd, path, sizeof path) != 0) {
    int e = errno;
    if (fd >= 0)
      close (fd);
    return tn_fail_errno (error, TN_MACHINE_ERROR, e, "cannot make a pseudo-terminal");
  }
  backend->in = backend->out = fd;
  backend->own_in = true;
  backend->path = g_strdup (path);
  /* Without anybody on the other side reads would end; this one stays. */
  backend->keep = open (path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (backend->keep >= 0)
    g_free (terminal_make_raw (backend->keep, false));
  return 0;
}

int
tn_chardev_backend_open (const char *spec, TnChardevBackend *backend, GError **error)
{
  *backend = (TnChardevBackend){ .in = -1, .out = -1, .keep = -1 };
  if (strcmp (spec, "null") == 0)
    return 0;
  if (strcmp (spec, "stdio") == 0 || strcmp (spec, "mux:stdio") == 0) {
    open_stdio (backend, *spec == 'm');
    return 0;
  }
  if (strcmp (spec, "pty") == 0)
    return open_pty (backend, error);
  if (g_str_has_prefix (spec, "file:") && spec[5] != '\0')
    return open_file (backend, spec + 5, error);
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                  "'%s' is no character device: use stdio, mux:stdio, null, pty or file:PATH", spec);
}

void
tn_chardev_backend_close (TnChardevBackend *backend)
{
  if (backend->terminal != NULL)
    tcsetattr (backend->in, TCSANOW, backend->terminal);
  g_clear_pointer (&backend->terminal, g_free);
  if (backend->own_in)
    close (backend->in);
  if (backend->own_out)
    close (backend->out);
  if (backend->keep >= 0)
    close (backend->keep);
  g_clear_pointer (&backend->path, g_free);
}
