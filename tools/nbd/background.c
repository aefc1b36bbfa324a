/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --fork and --pid-file. */
#include "nbd.h"
#include "service.h"

int
nbd_prepare (CliArgs *args)
{
  const bool device = cli_flag (args, "connect") && !cli_flag (args, "verbose"),
             wanted = cli_flag (args, "fork") || device;
  /* What a device is asked for is what a sandbox is there to refuse. */
  args->no_sandbox = args->no_sandbox || cli_flag (args, "connect") || cli_flag (args, "disconnect");
  if (wanted && g_getenv ("LISTEN_PID")) {
    cli_error (args, "%s does not go together with a socket that the service manager has opened",
               device ? "--connect" : "--fork");
    return EXIT_FAILURE;
  }
  return cli_background (args, wanted);
}

int
nbd_started (CliArgs *args, GError **error)
{
  return cli_started (args, cli_text (args, "pid-file"), error);
}
