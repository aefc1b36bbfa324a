/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections and sessions. */
#include "ssh.h"

#include <tenon/secret.h>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* For the connection alone, and until files can be opened. */
#define CONNECT_MS 10000
#define HANDSHAKE_S INT64_C (30)

/* ---- The watchdog ---- */

static void
bite (void *opaque)
{
  SshTarget *target = opaque;
  g_mutex_lock (&target->lock);
  if (target->watched >= 0)
    shutdown (target->watched, SHUT_RDWR);
  g_mutex_unlock (&target->lock);
}

void
ssh_watch_begin (SshTarget *target)
{
  if (target->timeout_ns)
    tn_timer_set (target->watchdog, tn_clock_ns () + target->timeout_ns);
}

void
ssh_watch_end (SshTarget *target)
{
  if (target->timeout_ns)
    tn_timer_stop (target->watchdog);
}

static void
watch_fd (SshTarget *target, int fd)
{
  g_mutex_lock (&target->lock);
  target->watched = fd;
  g_mutex_unlock (&target->lock);
}

/* ---- Targets ---- */

static int
take_key (SshTarget *target, GError **error)
{
  const char *path = tn_options_get (target->options, "identity"),
             *id = tn_options_get (target->options, "key-secret");
  g_autoptr (TnSecret) secret = NULL;
  size_t length;
  if (!path)
    return 0;
  if (id && !(secret = tn_secret_get (id, error)))
    return -ENOENT;
  const int rc = ssh_pki_import_privkey_file (path, secret ? tn_secret_bytes (secret, &length) : "", NULL,
                                              NULL, &target->key);
  if (rc == SSH_OK)
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, EACCES,
      "the key '%s' (identity) cannot be read: it has to be a private key, and key-secret its passphrase",
      path);
}

int
ssh_target_init (SshTarget *target, const TnOptions *options, GError **error)
{
  target->watched = -1;
  g_mutex_init (&target->lock);
  target->watchdog = tn_timer_new (tn_loop_current (), bite, target);
  target->addresses = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  const int rc = ssh_settle_options (options, &target->options, error);
  if (rc < 0)
    return rc;
  g_autofree char *name = ssh_shown_name (target->options);
  target->server = g_strdup_printf ("server of '%s'", name);
  target->timeout_ns = (int64_t) tn_options_uint (target->options, "timeout") * 1000000000;
  return take_key (target, error);
}

void
ssh_target_clear (SshTarget *target)
{
  tn_timer_free (target->watchdog);
  g_ptr_array_unref (target->addresses);
  ssh_key_free (target->key);
  tn_options_free (target->options);
  g_free (target->server);
  g_free (target->pin);
  g_mutex_clear (&target->lock);
}

/* ---- Connections ---- */

static int
look_up (SshTarget *target, const char *host, const char *port, GError **error)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  struct addrinfo *found = NULL;
  if (target->addresses->len)
    return 0;
  const int rc = getaddrinfo (host, port, &hints, &found);
  if (rc)
    return tn_fail (error, TN_BLOCK_ERROR, EHOSTUNREACH, "the %s cannot be found: %s", target->server,
                    gai_strerror (rc));
  for (const struct addrinfo *one = found; one && target->addresses->len < SSH_MAX_ADDRESSES;
       one = one->ai_next)
    g_ptr_array_add (target->addresses, g_bytes_new (one->ai_addr, one->ai_addrlen));
  freeaddrinfo (found);
  return 0;
}

static int
wait_until_connected (int fd)
{
  struct pollfd ready = { .fd = fd, .events = POLLOUT };
  int failed = 0;
  socklen_t length = sizeof failed;
  const int n = poll (&ready, 1, CONNECT_MS);
  if (n <= 0)
    return n < 0 ? -errno : -ETIMEDOUT;
  return getsockopt (fd, SOL_SOCKET, SO_ERROR, &failed, &length) < 0 ? -errno : -failed;
}

static int
connect_one (GBytes *address, int *out)
{
  gsize length;
  const struct sockaddr *to = g_bytes_get_data (address, &length);
  const int on = 1;
  const int fd = socket (to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  int rc = connect (fd, to, (socklen_t) length) < 0 ? -errno : 0;
  if (rc == -EINPROGRESS)
    rc = wait_until_connected (fd);
  if (rc < 0) {
    close (fd);
    return rc;
  }
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  *out = fd;
  return 0;
}

static int
connect_any (const SshTarget *target, int *fd, GError **error)
{
  int rc = -EHOSTUNREACH;
  for (guint i = 0; i < target->addresses->len; i++) {
    rc = connect_one (g_ptr_array_index (target->addresses, i), fd);
    if (rc == 0)
      return 0;
  }
  return tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "cannot connect to the %s", target->server);
}

/* ---- Sessions ---- */

static int
fail_session (const SshTarget *target, ssh_session session, const char *what, int errnum, GError **error)
{
  const char *why = ssh_get_error (session);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "%s the %s: %s", what, target->server,
                  why && *why ? why : "the connection is lost");
}

/* `~/.ssh/config` may say where the host really is, and which keys to use; it counts the first time only:
 * later the sandbox hides it. */
static int
configure (SshTarget *target, ssh_session session, GError **error)
{
  const TnOptions *options = target->options;
  const long timeout = (long) HANDSHAKE_S;
  const bool no = false;
  const char *known = tn_options_get (options, "known-hosts");
  bool good = ssh_options_set (session, SSH_OPTIONS_HOST, tn_options_get (options, "server.host")) == SSH_OK;
  if (good && !target->pin)
    (void) ssh_options_parse_config (session, NULL);
  good = good && ssh_options_set (session, SSH_OPTIONS_PROCESS_CONFIG, &no) == SSH_OK
         && ssh_options_set (session, SSH_OPTIONS_PORT_STR, tn_options_get (options, "server.port")) == SSH_OK
         && ssh_options_set (session, SSH_OPTIONS_USER, tn_options_get (options, "user")) == SSH_OK
         && ssh_options_set (session, SSH_OPTIONS_TIMEOUT, &timeout) == SSH_OK;
  if (good && known)
    good = ssh_options_set (session, SSH_OPTIONS_KNOWNHOSTS, known) == SSH_OK
           && ssh_options_set (session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, known) == SSH_OK;
  return good ? 0 : fail_session (target, session, "wrong options for", EINVAL, error);
}

/* Where the configuration says that the host really is. */
static int
connect_socket (SshTarget *target, ssh_session session, int *fd, GError **error)
{
  char *host = NULL, *proxy = NULL;
  unsigned port = 0;
  int rc = 0;
  if (ssh_options_get (session, SSH_OPTIONS_PROXYCOMMAND, &proxy) == SSH_OK && proxy && *proxy)
    rc = tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "the configuration of SSH names a proxy for the %s, which is not supported: use a tunnel (ssh -L)",
        target->server);
  ssh_string_free_char (proxy);
  if (rc < 0)
    return rc;
  ssh_options_get_port (session, &port);
  if (ssh_options_get (session, SSH_OPTIONS_HOST, &host) == SSH_OK) {
    g_autofree char *service = g_strdup_printf ("%u", port);
    rc = look_up (target, host, service, error);
    ssh_string_free_char (host);
  } else {
    rc = fail_session (target, session, "wrong options for", EINVAL, error);
  }
  return rc < 0 ? rc : connect_any (target, fd, error);
}

static int
log_in (const SshTarget *target, ssh_session session, GError **error)
{
  const int rc = target->key ? ssh_userauth_publickey (session, NULL, target->key)
                             : ssh_userauth_publickey_auto (session, NULL, NULL);
  if (rc == SSH_AUTH_SUCCESS)
    return 0;
  if (rc == SSH_AUTH_ERROR && !ssh_is_connected (session))
    return fail_session (target, session, "cannot log in at", EIO, error);
  return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                  "the %s takes none of the keys of user '%s': add one to an agent, or name it (identity)",
                  target->server, tn_options_get (target->options, "user"));
}

static int
start_sftp (SshTarget *target, SshLink *link, GError **error)
{
  link->sftp = sftp_new (link->session);
  if (!link->sftp || sftp_init (link->sftp) != SSH_OK)
    return fail_session (target, link->session, "there is no SFTP at", EPROTO, error);
  return 0;
}

static int
make_session (SshTarget *target, SshLink *link, GError **error)
{
  int fd = -1, rc = configure (target, link->session, error);
  if (rc == 0)
    rc = connect_socket (target, link->session, &fd, error);
  if (rc < 0)
    return rc;
  link->fd = fd;
  watch_fd (target, fd);
  if (ssh_options_set (link->session, SSH_OPTIONS_FD, &fd) != SSH_OK || ssh_connect (link->session) != SSH_OK)
    return fail_session (target, link->session, "cannot speak SSH with", EPROTO, error);
  rc = ssh_check_host_key (target, link->session, error);
  if (rc == 0)
    rc = log_in (target, link->session, error);
  return rc < 0 ? rc : start_sftp (target, link, error);
}

int
ssh_link_up (SshTarget *target, SshLink *link, GError **error)
{
  *link = (SshLink){ .fd = -1, .session = ssh_new () };
  if (!link->session)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for a session");
  tn_timer_set (target->watchdog, tn_clock_ns () + HANDSHAKE_S * 1000000000);
  const int rc = make_session (target, link, error);
  tn_timer_stop (target->watchdog);
  if (rc < 0)
    ssh_link_down (target, link);
  return rc;
}

void
ssh_link_down (SshTarget *target, SshLink *link)
{
  /* Its last words may not wait for a server that is silent. */
  if (link->fd >= 0 && ssh_link_lost (link))
    shutdown (link->fd, SHUT_RDWR);
  ssh_watch_begin (target);
  if (link->file)
    sftp_close (link->file);
  sftp_free (link->sftp);
  watch_fd (target, -1);
  if (link->session)
    ssh_disconnect (link->session);
  ssh_free (link->session);
  ssh_watch_end (target);
  *link = (SshLink){ .fd = -1 };
}

bool
ssh_link_lost (const SshLink *link)
{
  if (!link->session || !ssh_is_connected (link->session) || !link->sftp
      || ssh_channel_is_eof (link->sftp->channel) || ssh_channel_is_closed (link->sftp->channel))
    return true;
  switch (sftp_get_error (link->sftp)) {
  case SSH_FX_OK:
  case SSH_FX_EOF:
  case SSH_FX_NO_SUCH_FILE:
  case SSH_FX_PERMISSION_DENIED:
  case SSH_FX_FAILURE:
  case SSH_FX_OP_UNSUPPORTED:
  case SSH_FX_FILE_ALREADY_EXISTS:
  case SSH_FX_WRITE_PROTECT:
  case SSH_FX_NO_MEDIA:
    return ssh_get_error_code (link->session) == SSH_FATAL;
  default:
    return true;
  }
}
