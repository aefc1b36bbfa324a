/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets in the file system to listen at. */
#include "unix-socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A socket that nobody listens at any more is left over from a server that was killed. */
static bool
is_stale (const struct sockaddr_un *address)
{
  struct stat status;
  if (lstat (address->sun_path, &status) < 0 || !S_ISSOCK (status.st_mode))
    return false;
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const bool refused = fd >= 0 && connect (fd, (const struct sockaddr *) address, sizeof *address) < 0
                       && errno == ECONNREFUSED;
  if (fd >= 0)
    close (fd);
  return refused;
}

int
unix_socket_listen (const char *path, int backlog, int *listener, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (strlen (path) >= sizeof address.sun_path)
    return tn_fail (error, TN_BLOCK_ERROR, ENAMETOOLONG,
                    "the socket's path '%s' is longer than %zu bytes: choose a shorter one", path,
                    sizeof address.sun_path - 1);
  memcpy (address.sun_path, path, strlen (path) + 1);
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot make a socket for '%s'", path);
  if (is_stale (&address))
    unlink (path);
  if (bind (fd, (struct sockaddr *) &address, sizeof address) < 0 || listen (fd, backlog) < 0) {
    const int why = errno;
    close (fd);
    return tn_fail_errno (error, TN_BLOCK_ERROR, why, "cannot listen at the socket '%s'", path);
  }
  *listener = fd;
  return 0;
}
