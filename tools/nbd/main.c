/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-nbd: the command line. */
#include "nbd.h"

static const char *const cache_choices[] = {
  "none", "writeback", "writethrough", "directsync", "unsafe", NULL
};
static const char *const aio_choices[] = { "threads", "native", "io_uring", NULL };
static const char *const discard_choices[] = { "ignore", "off", "unmap", "on", NULL };
static const char *const detect_choices[] = { "off", "on", "unmap", NULL };

static const CliOption nbd_options[] = {
  { "socket", 'k', "PATH", "listen at a Unix socket", NULL },
  { "port", 'p', "PORT", "TCP port to listen at (default: 10809)", NULL },
  { "bind", 'b', "ADDRESS", "address to listen at (default: all)", NULL },
  { "export-name", 'x', "NAME", "name by which clients ask for the image; once for each image", NULL },
  { "description", 'D', "TEXT", "text that clients can show beside the name", NULL },
  { "read-only", 'r', NULL, "clients may not write", NULL },
  { "snapshot", 's', NULL, "keep what is written in a temporary file that is thrown away", NULL },
  { "load-snapshot", 'l', "SNAPSHOT",
    "export an internal snapshot, read-only: its name, id, or snapshot.id=ID", NULL },
  { "offset", 'o', "OFFSET", "export the image from this byte on", NULL },
  { "shared", 'e', "NUM", "how many clients there may be at a time (default: 1; 0: any number)", NULL },
  { "threads", 0, "NUM", "how many threads serve the clients, at most (default: 1; up to 4)", NULL },
  { "persistent", 't', NULL, "go on when the last client has gone", NULL },
  { "allocation-depth", 'A', NULL, "tell clients in which image of the chain bytes are stored", NULL },
  { "bitmap", 'B', "NAME", "tell clients what this dirty bitmap marks; may be given several times", NULL },
  { "cache", 0, "MODE", "cache mode (default: writeback)", cache_choices },
  { "nocache", 'n', NULL, "bypass the host's cache: the same as --cache=none", NULL },
  { "aio", 0, "MODE", "how requests reach the kernel", aio_choices },
  { "discard", 0, "MODE", "what becomes of discards (default: ignore)", discard_choices },
  { "detect-zeroes", 0, "MODE", "turn writes of zeroes into zero areas", detect_choices },
  { "fork", 0, NULL, "go to the background once clients can connect", NULL },
  { "pid-file", 0, "PATH", "write the process's number there once clients can connect", NULL },
  { "handshake-limit", 0, "SECONDS", "how long a client may take to choose an export (default: 10; 0: any)",
    NULL },
  { "connect", 'c', "DEV",
    "connect a block device of the kernel, such as /dev/nbd0, to the image; goes to the background unless -v "
    "is given",
    NULL },
  { "disconnect", 'd', NULL, "disconnect the block device that is named in place of an image", NULL },
  { "list", 'L', NULL, "show what the server at -k, or -b and -p, exports", NULL },
  { "tls-creds", 0, "ID", "credentials for TLS: id of an --object tls-creds-x509 or tls-creds-psk", NULL },
  { "tls-hostname", 0, "NAME", "with --list: name that the server's certificate has to bear", NULL },
  { "tls-authz", 0, "ID",
    "which clients may come in, by the names in their certificates: id of an --object authz-simple, "
    "authz-list or authz-listfile",
    NULL },
  { "verbose", 'v', NULL, "tell of clients that come and go", NULL },
  { 0 },
};

static int
nbd_run (CliArgs *args)
{
  if (cli_flag (args, "disconnect"))
    return nbd_disconnect (args);
  return cli_flag (args, "list") ? nbd_list (args) : nbd_serve (args);
}

static const CliCommand nbd_self = {
  .name = "tenon-nbd",
  .summary = "export disk images over the network block device protocol",
  .words = "FILE [FILE…]",
  .max_words = 64,
  .standard = CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_UNTRUSTED | CLI_SANDBOX | CLI_OUTPUT,
  .options = nbd_options,
  .details =
      "The server ends with the last client unless -t is given, and at SIGINT, SIGTERM or SIGHUP.\n"
      "With -c the kernel is its only client: whoever opens the device uses the image.  That takes root's "
      "rights\n"
      "and the kernel's driver ('modprobe nbd').  The server ends when the device is disconnected (-d).\n"
      "A socket that a service manager has opened (LISTEN_PID, LISTEN_FDS) is used when there is one.\n",
  .run = nbd_run,
  .prepare = nbd_prepare,
};

static const CliTool nbd_tool = {
  .name = "tenon-nbd",
  .summary = "export disk images over the network block device protocol",
  .self = &nbd_self,
  .sandboxed = true,
  .sockets = true,
};

int
main (int argc, char **argv)
{
  return cli_main (&nbd_tool, argc, argv);
}
