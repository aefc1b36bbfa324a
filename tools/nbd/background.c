/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --fork and --pid-file. */
#include "nbd.h"
#include "service.h"

int
nbd_prepare (CliArgs *args)
{
  const bool wanted = cli_flag (args, "fork");
  if (wanted && g_getenv ("LISTEN_PID")) {
    cli_error (args, "--fork does not go together with a socket that the service manager has opened");
    return EXIT_FAILURE;
  }
  return cli_background (args, wanted);
}

int
nbd_started (CliArgs *args, GError **error)
{
  return cli_started (args, cli_text (args, "pid-file"), error);
}
