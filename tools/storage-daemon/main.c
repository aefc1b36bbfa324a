/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-storage-daemon: the command line. */
#include "monitor.h"
#include "sandbox.h"
#include "service.h"

#include <unistd.h>

static const CliOption daemon_options[] = {
  { "blockdev", 0, "OPTIONS", "open a node of the block graph: driver=NAME,node-name=NAME,…", NULL },
  { "export", 0, "OPTIONS", "offer a node: type=TYPE,id=NAME,node-name=NODE,…", NULL },
  { "nbd-server", 0, "OPTIONS",
    "start the NBD server: addr.type=unix,addr.path=PATH or addr.type=inet,addr.host=HOST,addr.port=PORT",
    NULL },
  { "chardev", 0, "OPTIONS",
    "where a monitor is reached: socket,id=NAME,path=PATH,server=on,wait=off or stdio,id=NAME", NULL },
  { "monitor", 0, "OPTIONS", "take commands in JSON: chardev=NAME[,mode=control][,pretty=on]", NULL },
  { "daemonize", 0, NULL, "go to the background once everything is offered", NULL },
  { "pidfile", 0, "PATH", "write the process's number there once everything is offered", NULL },
  { 0 },
};

/* ---- The command line's definitions ---- */

typedef int (*Definition) (Daemon *daemon, TnOptions *options, GError **error);

/* Text in braces is JSON. */
static int
parse_definition (const char *text, const char *implied, TnOptions *options, GError **error)
{
  return *text == '{' ? tn_options_parse_json (options, text, error)
                      : tn_options_parse (options, text, implied, error);
}

static int
define_all (Daemon *daemon, const char *name, const char *implied, Definition define, GError **error)
{
  const char *text;
  int rc = 0;
  for (unsigned i = 0; rc == 0 && (text = cli_text_nth (daemon->args, name, i)); i++) {
    g_autoptr (TnOptions) options = tn_options_new ();
    rc = parse_definition (text, implied, options, error);
    if (rc == 0)
      rc = define (daemon, options, error);
    if (rc < 0)
      g_prefix_error (error, "--%s %s: ", name, text);
  }
  return rc;
}

/* ---- Beginning and end ---- */

static int
start (Daemon *daemon, GError **error)
{
  int rc = cli_catch_signals (daemon->loop, &daemon->signals, error);
  if (rc == 0)
    rc = cli_define_objects (daemon->args, error);
  if (rc == 0)
    rc = define_all (daemon, "chardev", "backend", daemon_chardev_add, error);
  if (rc == 0)
    rc = define_all (daemon, "blockdev", "driver", daemon_blockdev_add, error);
  if (rc == 0)
    rc = define_all (daemon, "nbd-server", NULL, daemon_nbd_start, error);
  if (rc == 0)
    rc = define_all (daemon, "export", "type", daemon_export_add, error);
  if (rc == 0)
    rc = define_all (daemon, "monitor", "chardev", daemon_monitor_add, error);
  if (rc == 0)
    rc = cli_started (daemon->args, cli_text (daemon->args, "pidfile"), error);
  /* A monitor's commands open files. */
  if (rc == 0 && daemon->monitors->len == 0)
    rc = cli_seal (daemon->args, TN_SANDBOX_PLUGINS, cli_text (daemon->args, "pidfile"), TN_SANDBOX_REMOVE,
                   error);
  return rc;
}

static int
close_nodes (Daemon *daemon, GError **error)
{
  int rc = 0;
  while (daemon->nodes->len) {
    TnNode *node = g_ptr_array_steal_index (daemon->nodes, daemon->nodes->len - 1);
    const int failed = tn_node_close (node, rc == 0 ? error : NULL);
    rc = rc == 0 ? failed : rc;
  }
  return rc;
}

static int
stop (Daemon *daemon, GError **error)
{
  daemon_monitors_close (daemon);
  while (daemon->exports->len)
    g_ptr_array_remove_index (daemon->exports, daemon->exports->len - 1);
  tn_export_server_free (daemon->nbd);
  const int rc = close_nodes (daemon, error);
  cli_release_signals (daemon->loop, daemon->signals);
  g_ptr_array_unref (daemon->monitors);
  g_ptr_array_unref (daemon->chardevs);
  g_ptr_array_unref (daemon->exports);
  g_ptr_array_unref (daemon->nodes);
  return rc;
}

static int
daemon_run (CliArgs *args)
{
  Daemon daemon = { .args = args,
                    .loop = tn_loop_current (),
                    .signals = -1,
                    .nodes = g_ptr_array_new (),
                    .monitors = g_ptr_array_new (),
                    .chardevs = g_ptr_array_new_with_free_func ((GDestroyNotify) tn_options_free),
                    .exports = g_ptr_array_new_with_free_func ((GDestroyNotify) daemon_export_free) };
  const char *pidfile = cli_text (args, "pidfile");
  GError *error = NULL;
  int status = EXIT_SUCCESS;
  if (start (&daemon, &error) < 0) {
    status = cli_fail (args, EXIT_FAILURE, &error);
  } else {
    tn_loop_run (daemon.loop);
    if (pidfile)
      unlink (pidfile);
  }
  if (stop (&daemon, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return status;
}

/* Mounting and unmounting are what a sandbox is there to refuse. */
static bool
mounts (const CliArgs *args)
{
  const char *text;
  for (unsigned i = 0; (text = cli_text_nth (args, "export", i)); i++)
    if (strstr (text, "mountpoint"))
      return true;
  return false;
}

static int
daemon_prepare (CliArgs *args)
{
  args->no_sandbox = args->no_sandbox || mounts (args);
  return cli_background (args, cli_flag (args, "daemonize"));
}

static const CliCommand daemon_self = {
  .name = "tenon-storage-daemon",
  .summary = "offer disk images to others: NBD, vhost-user-blk, FUSE",
  .standard = CLI_OBJECT | CLI_SANDBOX,
  .options = daemon_options,
  .details = "Objects come first, then nodes, the NBD server, exports and monitors, each in the order of the "
             "command\n"
             "line.  Their options can be written as JSON, too.  With a monitor the sandbox is not sealed, "
             "since its\n"
             "commands open files; with a FUSE export there is none, since it mounts.\n"
             "It ends at SIGINT, SIGTERM or SIGHUP, or when a monitor says quit.\n",
  .run = daemon_run,
  .prepare = daemon_prepare,
};

static const CliTool daemon_tool = {
  .name = "tenon-storage-daemon",
  .summary = "offer disk images to others: NBD, vhost-user-blk, FUSE",
  .self = &daemon_self,
  .sandboxed = true,
  .sockets = true,
};

int
main (int argc, char **argv)
{
  return cli_main (&daemon_tool, argc, argv);
}
