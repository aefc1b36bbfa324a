/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets in the file system to listen at. */
#include "unix-socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_TRIES 20
#define PAUSE_US 50000

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

/* The kernel may still be closing the sockets of a process that has been killed and is gone: a moment later
 * its socket is stale. */
static int
bind_soon (int fd, const struct sockaddr_un *address)
{
  for (unsigned tries = 0; bind (fd, (const struct sockaddr *) address, sizeof *address) < 0; tries++) {
    if (errno != EADDRINUSE || tries == MOST_TRIES)
      return -errno;
    if (tries > 0)
      g_usleep (PAUSE_US);
    if (is_stale (address))
      unlink (address->sun_path);
  }
  return 0;
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
  int rc = bind_soon (fd, &address);
  if (rc == 0 && listen (fd, backlog) < 0)
    rc = -errno;
  if (rc < 0) {
    close (fd);
    return tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "cannot listen at the socket '%s'", path);
  }
  *listener = fd;
  return 0;
}
