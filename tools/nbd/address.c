/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where clients find the server. */
#include "nbd.h"

#include <unistd.h>

#define FIRST_PASSED_FD "3"

/* Sockets that the service manager has opened: their number, or 0. */
static int
passed_sockets (unsigned *count, GError **error)
{
  const char *pid = g_getenv ("LISTEN_PID"), *fds = g_getenv ("LISTEN_FDS");
  guint64 number = 0, n = 0;
  *count = 0;
  if (!pid || !fds)
    return 0;
  const bool ours =
      g_ascii_string_to_unsigned (pid, 10, 1, INT_MAX, &number, NULL) && number == (guint64) getpid ();
  if (ours && !g_ascii_string_to_unsigned (fds, 10, 1, 64, &n, NULL))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "LISTEN_FDS is '%s', not a number from 1 to 64", fds);
  *count = (unsigned) n;
  g_unsetenv ("LISTEN_PID");
  g_unsetenv ("LISTEN_FDS");
  return 0;
}

static int
use_passed (const CliArgs *args, unsigned count, TnOptions *options, GError **error)
{
  if (cli_text (args, "socket") || cli_text (args, "port") || cli_text (args, "bind"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the service manager has opened the socket: leave out -k, -p and -b");
  tn_options_set (options, "addr.fd", FIRST_PASSED_FD);
  tn_options_set_uint (options, "addr.count", count);
  return 0;
}

/* The kernel gets a connection of its own. */
int
nbd_check_device (const CliArgs *args, GError **error)
{
  static const char *const others[] = { "socket", "port", "bind", "tls-creds", "tls-authz", "persistent" };
  if (!cli_text (args, "connect"))
    return 0;
  for (size_t i = 0; i < G_N_ELEMENTS (others); i++)
    if (cli_flag (args, others[i]))
      return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                      "--connect does not go together with --%s: the device is the only client", others[i]);
  if (args->n_words != 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--connect takes one image, not %u", args->n_words);
  return 0;
}

int
nbd_address (const CliArgs *args, TnOptions *options, GError **error)
{
  const char *path = cli_text (args, "socket"), *host = cli_text (args, "bind");
  uint64_t port = 10809;
  unsigned passed;
  if (cli_text (args, "connect"))
    return 0;
  int rc = passed_sockets (&passed, error);
  if (rc < 0 || passed)
    return rc < 0 ? rc : use_passed (args, passed, options, error);
  if (path && (host || cli_text (args, "port")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-k is a Unix socket: it does not go together with -p and -b");
  rc = cli_uint (args, "port", 1, 65535, &port, error);
  if (rc < 0)
    return rc;
  if (path) {
    tn_options_set (options, "addr.path", path);
    return 0;
  }
  tn_options_set (options, "addr.host", host ? host : "");
  tn_options_set_uint (options, "addr.port", port);
  return 0;
}
