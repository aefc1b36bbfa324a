/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket, and who comes in by it: one front end at a time. */
#define _GNU_SOURCE /* accept4() */
#include "vhost-user.h"

#include "../../common/unix-socket/unix-socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void
accept_ready (int fd, short events, void *opaque)
{
  VuExport *export = opaque;
  const int client = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client >= 0)
    vu_front_new (export, client);
}

void
vu_listen_update (VuExport *export)
{
  if (export->listener >= 0)
    tn_loop_watch_fd (export->loop, export->listener, export->fd < 0 ? POLLIN : 0, accept_ready, export,
                      NULL);
}

void
vu_listen_close (VuExport *export)
{
  if (export->listener < 0)
    return;
  tn_loop_watch_fd (export->loop, export->listener, 0, NULL, NULL, NULL);
  close (export->listener);
  export->listener = -1;
  if (export->path)
    unlink (export->path);
  g_clear_pointer (&export->path, g_free);
}

/* A socket that was opened for this process. */
static int
listen_given (const char *text, int *listener, GError **error)
{
  guint64 fd;
  int listening = 0;
  socklen_t length = sizeof listening;
  if (!g_ascii_string_to_unsigned (text, 10, 0, INT_MAX, &fd, NULL)
      || getsockopt ((int) fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0 || !listening)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "vhost-user-blk: addr.str=%s is not the number of a socket that listens", text);
  fcntl ((int) fd, F_SETFL, fcntl ((int) fd, F_GETFL) | O_NONBLOCK);
  fcntl ((int) fd, F_SETFD, FD_CLOEXEC);
  *listener = (int) fd;
  return 0;
}

int
vu_listen (VuExport *export, const TnOptions *options, GError **error)
{
  const char *path = tn_options_get (options, "addr.path"), *given = tn_options_get (options, "addr.str");
  const bool by_fd = strcmp (tn_options_get (options, "addr.type"), "fd") == 0;
  if (by_fd ? !given || path : !path || given)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "vhost-user-blk: where to listen is not said: give addr.type=unix,addr.path=PATH or "
                    "addr.type=fd,addr.str=NUMBER");
  const int rc = by_fd ? listen_given (given, &export->listener, error)
                       : unix_socket_listen (path, 4, &export->listener, error);
  if (rc < 0)
    return rc;
  export->path = g_strdup (path);
  vu_listen_update (export);
  return 0;
}
