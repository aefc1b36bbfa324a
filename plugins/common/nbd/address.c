/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "address.h"

#include "resolve.h"
#include "wire.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_PORT_TEXT "10809"

/* ---- Names ---- */

static int
fail_name (const char *text, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "'%s' does not name an NBD server: write nbd://HOST[:PORT]/[EXPORT] or "
                  "nbd+unix:///[EXPORT]?socket=PATH",
                  text);
}

static int
set_export (TnOptions *options, const char *name, GError **error)
{
  if (strlen (name) > NBD_MAX_STRING)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the name of an NBD export is longer than %d bytes",
                    NBD_MAX_STRING);
  tn_options_set (options, "export", name);
  return 0;
}

/* Scheme and transport: nbd, nbds, nbd+tcp, nbds+unix … */
static bool
parse_scheme (const char *scheme, TnOptions *options, const char **transport)
{
  *transport = "tcp";
  const char *plus = strchr (scheme, '+');
  const size_t length = plus ? (size_t) (plus - scheme) : strlen (scheme);
  if (length == 4 && strncmp (scheme, "nbds", 4) == 0)
    tn_options_set (options, "tls", "on");
  else if (length != 3 || strncmp (scheme, "nbd", 3) != 0)
    return false;
  if (plus)
    *transport = plus + 1;
  return strcmp (*transport, "tcp") == 0 || strcmp (*transport, "unix") == 0
         || strcmp (*transport, "vsock") == 0;
}

/* The one parameter that there is; NULL: it is missing, or there are others. */
static char *
socket_of (const char *query, GError **error)
{
  g_autoptr (GHashTable) pairs = g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, error);
  const char *path = pairs ? g_hash_table_lookup (pairs, "socket") : NULL;
  return path && g_hash_table_size (pairs) == 1 ? g_strdup (path) : NULL;
}

static int
parse_unix_uri (const char *text, GUri *uri, TnOptions *options, GError **error)
{
  g_autofree char *path = g_uri_get_query (uri) ? socket_of (g_uri_get_query (uri), NULL) : NULL;
  if (!path || !*path || (g_uri_get_host (uri) && *g_uri_get_host (uri)))
    return fail_name (text, error);
  tn_options_set (options, "server.type", "unix");
  tn_options_set (options, "server.path", path);
  return 0;
}

static int
parse_host_uri (const char *text, GUri *uri, const char *transport, TnOptions *options, GError **error)
{
  const char *host = g_uri_get_host (uri);
  if (g_uri_get_query (uri) || !host || !*host)
    return fail_name (text, error);
  if (strcmp (transport, "vsock") == 0) {
    tn_options_set (options, "server.type", "vsock");
    tn_options_set (options, "server.cid", host);
  } else {
    tn_options_set (options, "server.type", "inet");
    tn_options_set (options, "server.host", host);
  }
  if (g_uri_get_port (uri) > 0)
    tn_options_set_uint (options, "server.port", (uint64_t) g_uri_get_port (uri));
  else
    tn_options_set (options, "server.port", DEFAULT_PORT_TEXT);
  return 0;
}

static int
parse_uri (const char *text, TnOptions *options, GError **error)
{
  g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_ENCODED_QUERY, NULL);
  const char *transport;
  if (!uri || !parse_scheme (g_uri_get_scheme (uri), options, &transport))
    return fail_name (text, error);
  const int rc = strcmp (transport, "unix") == 0 ? parse_unix_uri (text, uri, options, error)
                                                 : parse_host_uri (text, uri, transport, options, error);
  const char *path = g_uri_get_path (uri);
  return rc < 0 ? rc : set_export (options, path[0] == '/' ? path + 1 : path, error);
}

/* The form from before there were URIs. */
static int
parse_plain (const char *text, TnOptions *options, GError **error)
{
  static const char export_mark[] = ":exportname=";
  const char *mark = strstr (text, export_mark);
  g_autofree char *address = mark ? g_strndup (text, (gsize) (mark - text)) : g_strdup (text);
  if (g_str_has_prefix (address, "unix:")) {
    tn_options_set (options, "server.type", "unix");
    tn_options_set (options, "server.path", address + 5);
  } else {
    char *colon = strrchr (address, ':');
    if (!colon || colon == address || !colon[1])
      return fail_name (text, error);
    *colon = '\0';
    const bool bracketed = address[0] == '[' && colon[-1] == ']';
    if (bracketed)
      colon[-1] = '\0';
    tn_options_set (options, "server.type", "inet");
    tn_options_set (options, "server.host", address + (bracketed ? 1 : 0));
    tn_options_set (options, "server.port", colon + 1);
  }
  return set_export (options, mark ? mark + strlen (export_mark) : "", error);
}

int
nbd_parse_name (const char *text, TnOptions *options, GError **error)
{
  return strstr (text, "://") ? parse_uri (text, options, error) : parse_plain (text, options, error);
}

/* ---- Addresses ---- */

static const char *
kind (const TnOptions *options)
{
  const char *type = tn_options_get (options, "server.type");
  if (type)
    return type;
  return tn_options_has (options, "server.path") ? "unix" : "inet";
}

int
nbd_address_check (const TnOptions *options, GError **error)
{
  const char *type = kind (options);
  const char *missing = NULL;
  if (strcmp (type, "unix") == 0)
    missing = tn_options_has (options, "server.path") ? NULL : "server.path";
  else if (strcmp (type, "inet") == 0)
    missing = tn_options_has (options, "server.host") ? NULL : "server.host";
  else if (strcmp (type, "vsock") == 0)
    missing = tn_options_has (options, "server.cid") ? NULL : "server.cid";
  if (!missing)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "an NBD server of type '%s' needs the option %s", type,
                  missing);
}

char *
nbd_address_text (const TnOptions *options)
{
  const char *type = kind (options), *port = tn_options_get (options, "server.port");
  if (strcmp (type, "unix") == 0)
    return g_strdup_printf ("NBD server at the socket '%s'", tn_options_get (options, "server.path"));
  return g_strdup_printf ("NBD server at %s, port %s",
                          tn_options_get (options, strcmp (type, "vsock") ? "server.host" : "server.cid"),
                          port ? port : DEFAULT_PORT_TEXT);
}

const char *
nbd_address_hostname (const TnOptions *options)
{
  const char *name = tn_options_get (options, "tls-hostname");
  return name || strcmp (kind (options), "inet") != 0 ? name : tn_options_get (options, "server.host");
}

int
nbd_address_credentials (const TnOptions *options, TnTlsCredentials **credentials, GError **error)
{
  const char *id = tn_options_get (options, "tls-creds");
  *credentials = NULL;
  if (!id && tn_options_has (options, "tls") && tn_options_bool (options, "tls"))
    return tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "TLS needs credentials: define some with --object tls-creds-x509,id=ID,dir=FOLDER and give "
        "tls-creds=ID");
  if (!id)
    return 0;
  const int rc = tn_tls_credentials_get (id, TN_TLS_CLIENT, credentials, error);
  if (rc < 0 || nbd_address_hostname (options) || !tn_tls_credentials_need_hostname (*credentials))
    return rc;
  g_clear_pointer (credentials, tn_tls_credentials_unref);
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "the server's certificate cannot be checked without a name: give tls-hostname=NAME");
}

/* ---- Connecting ---- */

static int
connect_to (NbdChannel *channel, int family, const void *address, socklen_t length, int64_t deadline,
            const int *cancel)
{
  int why = 0;
  socklen_t size = sizeof why;
  channel->fd = socket (family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (channel->fd < 0)
    return -errno;
  int rc = connect (channel->fd, address, length) < 0 ? -errno : 0;
  if (rc == -EINPROGRESS)
    rc = nbd_channel_wait (channel, POLLOUT, deadline, cancel);
  if (rc == 0 && getsockopt (channel->fd, SOL_SOCKET, SO_ERROR, &why, &size) == 0)
    rc = -why;
  if (rc < 0)
    nbd_channel_close (channel);
  return rc;
}

static int
connect_unix (const TnOptions *options, NbdChannel *channel, int64_t deadline, const int *cancel)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const char *path = tn_options_get (options, "server.path");
  if (strlen (path) >= sizeof address.sun_path)
    return -ENAMETOOLONG;
  memcpy (address.sun_path, path, strlen (path) + 1);
  return connect_to (channel, AF_UNIX, &address, sizeof address, deadline, cancel);
}

static int
connect_vsock (const TnOptions *options, NbdChannel *channel, int64_t deadline, const int *cancel)
{
  const char *port = tn_options_get (options, "server.port");
  struct sockaddr_vm address = { .svm_family = AF_VSOCK };
  guint64 cid, number;
  if (!g_ascii_string_to_unsigned (tn_options_get (options, "server.cid"), 10, 0, UINT32_MAX, &cid, NULL)
      || !g_ascii_string_to_unsigned (port ? port : DEFAULT_PORT_TEXT, 10, 1, UINT32_MAX, &number, NULL))
    return -EINVAL;
  address.svm_cid = (unsigned) cid;
  address.svm_port = (unsigned) number;
  return connect_to (channel, AF_VSOCK, &address, sizeof address, deadline, cancel);
}

static int
connect_inet (const TnOptions *options, NbdChannel *channel, int64_t deadline, const int *cancel,
              GError **error)
{
  const char *host = tn_options_get (options, "server.host"), *port = tn_options_get (options, "server.port");
  struct addrinfo *found = NULL;
  const int on = 1;
  int rc = nbd_resolve (host, port ? port : DEFAULT_PORT_TEXT, deadline, cancel, &found, error);
  if (rc < 0)
    return rc;
  rc = -EHOSTUNREACH;
  for (const struct addrinfo *info = found; info && rc < 0; info = info->ai_next)
    rc = connect_to (channel, info->ai_family, info->ai_addr, info->ai_addrlen, deadline, cancel);
  freeaddrinfo (found);
  if (rc < 0)
    return tn_fail (error, TN_BLOCK_ERROR, -rc, "%s", g_strerror (-rc));
  setsockopt (channel->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt (channel->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return 0;
}

int
nbd_address_connect (const TnOptions *options, NbdChannel *channel, int64_t deadline, const int *cancel,
                     GError **error)
{
  const char *type = kind (options);
  if (strcmp (type, "inet") == 0)
    return connect_inet (options, channel, deadline, cancel, error);
  const int rc = strcmp (type, "unix") == 0 ? connect_unix (options, channel, deadline, cancel)
                                            : connect_vsock (options, channel, deadline, cancel);
  return rc < 0 ? tn_fail (error, TN_BLOCK_ERROR, -rc, "%s", g_strerror (-rc)) : 0;
}
