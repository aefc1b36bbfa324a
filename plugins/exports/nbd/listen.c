/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses, and who comes in by them. */
#define _GNU_SOURCE /* accept4() */
#include "server.h"

#include "../../common/unix-socket/unix-socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128
/* Connections taken at a time. */
#define ACCEPT_BATCH 16
/* Bytes; the kernel doubles it, and cuts it to net.core.wmem_max. */
#define SOCKET_BUFFER (2 << 20)
#define PAUSE_NS INT64_C (100000000)

/* ---- Accepting ---- */

static void
resume (void *opaque)
{
  nbd_listen_update (opaque);
}

/* No descriptor or no memory: trying again at once would only burn time. */
static void
pause_accepting (NbdServer *server)
{
  server->accepting = false;
  for (unsigned i = 0; i < server->n_listeners; i++)
    tn_loop_watch_fd (server->loop, server->listeners[i], 0, NULL, NULL, NULL);
  if (!server->pause)
    server->pause = tn_timer_new (server->loop, resume, server);
  tn_timer_set (server->pause, tn_clock_ns () + PAUSE_NS);
}

static void
prepare_socket (int fd)
{
  const int on = 1, large = SOCKET_BUFFER;
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  /* Fails on sockets that are not TCP, where nothing waits anyhow. */
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  /* TCP finds its own size.  What a Unix socket has room for leaves in one call; bytes on their way count for
   * who sends them. */
  if (getsockname (fd, (struct sockaddr *) &address, &length) == 0 && address.ss_family == AF_UNIX)
    setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
}

static void
accept_ready (int fd, short events, void *opaque)
{
  NbdServer *server = opaque;
  for (unsigned i = 0; i < ACCEPT_BATCH && server->n_connections < server->max_connections; i++) {
    const int client = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        pause_accepting (server);
      break;
    }
    prepare_socket (client);
    nbd_lanes_connect (server, client);
  }
  nbd_listen_update (server);
}

/* Who comes when there are enough waits in the kernel's queue. */
void
nbd_listen_update (NbdServer *server)
{
  const bool accepting = server->n_connections < server->max_connections;
  if (accepting == server->accepting)
    return;
  server->accepting = accepting;
  for (unsigned i = 0; i < server->n_listeners; i++)
    tn_loop_watch_fd (server->loop, server->listeners[i], accepting ? POLLIN : 0, accept_ready, server, NULL);
}

void
nbd_listen_close (NbdServer *server)
{
  for (unsigned i = 0; i < server->n_listeners; i++) {
    tn_loop_watch_fd (server->loop, server->listeners[i], 0, NULL, NULL, NULL);
    close (server->listeners[i]);
  }
  if (server->path)
    unlink (server->path);
  g_clear_pointer (&server->pause, tn_timer_free);
  g_clear_pointer (&server->listeners, g_free);
  g_clear_pointer (&server->path, g_free);
  server->n_listeners = 0;
}

/* ---- Addresses ---- */

static void
add_listener (NbdServer *server, int fd)
{
  server->listeners = g_renew (int, server->listeners, server->n_listeners + 1);
  server->listeners[server->n_listeners++] = fd;
}

static int
listen_unix (NbdServer *server, const char *path, GError **error)
{
  int fd;
  const int rc = unix_socket_listen (path, BACKLOG, &fd, error);
  if (rc < 0)
    return rc;
  server->path = g_strdup (path);
  add_listener (server, fd);
  return 0;
}

static int
listen_one (const struct addrinfo *info)
{
  const int on = 1;
  const int fd = socket (info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, info->ai_protocol);
  if (fd < 0)
    return -errno;
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (info->ai_family == AF_INET6)
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind (fd, info->ai_addr, info->ai_addrlen) == 0 && listen (fd, BACKLOG) == 0)
    return fd;
  const int why = errno;
  close (fd);
  return -why;
}

/* All addresses that the name has; one of them is enough. */
static int
listen_inet (NbdServer *server, const char *host, const char *port, GError **error)
{
  const struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
  struct addrinfo *found = NULL;
  const int rc = getaddrinfo (host && *host ? host : NULL, port, &hints, &found);
  if (rc)
    return tn_fail (error, TN_BLOCK_ERROR, EADDRNOTAVAIL, "cannot find the address '%s', port '%s': %s",
                    host ? host : "*", port, gai_strerror (rc));
  int why = EADDRNOTAVAIL;
  for (const struct addrinfo *info = found; info; info = info->ai_next) {
    const int fd = listen_one (info);
    if (fd >= 0)
      add_listener (server, fd);
    else
      why = -fd;
  }
  freeaddrinfo (found);
  return server->n_listeners ? 0
                             : tn_fail_errno (error, TN_BLOCK_ERROR, why, "cannot listen at %s, port %s",
                                              host && *host ? host : "*", port);
}

/* Sockets that were opened for this process. */
static int
listen_given (NbdServer *server, uint64_t first, uint64_t count, GError **error)
{
  for (uint64_t i = 0; i < count; i++) {
    const int fd = (int) (first + i);
    int listening = 0;
    socklen_t length = sizeof listening;
    if (getsockopt (fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0 || !listening)
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "file descriptor %d is no socket that listens", fd);
    fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK);
    fcntl (fd, F_SETFD, FD_CLOEXEC);
    add_listener (server, fd);
  }
  return 0;
}

/* A socket that somebody is connected to: nobody else can come. */
static int
serve_peer (NbdServer *server, int fd, GError **error)
{
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt (fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "file descriptor %d is no connected socket", fd);
  fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK);
  fcntl (fd, F_SETFD, FD_CLOEXEC);
  prepare_socket (fd);
  nbd_lanes_connect (server, fd);
  return 0;
}

int
nbd_listen (NbdServer *server, const TnOptions *options, GError **error)
{
  const char *path = tn_options_get (options, "addr.path");
  int rc;
  if (tn_options_has (options, "peer-fd"))
    return serve_peer (server, (int) tn_options_uint (options, "peer-fd"), error);
  if (tn_options_has (options, "addr.fd"))
    rc = listen_given (server, tn_options_uint (options, "addr.fd"), tn_options_uint (options, "addr.count"),
                       error);
  else if (path)
    rc = listen_unix (server, path, error);
  else
    rc = listen_inet (server, tn_options_get (options, "addr.host"), tn_options_get (options, "addr.port"),
                      error);
  if (rc == 0)
    nbd_listen_update (server);
  return rc;
}
