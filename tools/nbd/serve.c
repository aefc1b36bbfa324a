/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device.h"
#include "nbd.h"
#include "sandbox.h"
#include "service.h"

typedef struct Service {
  CliArgs *args;
  TnLoop *loop;
  bool persistent, verbose;
  int signals;
  TnExportServer *server;
  NbdAttachment *device; /* -c */
  int status;
  unsigned n;
  TnDrive **drives;
  TnExport **exports;
} Service;

/* ---- While it runs ---- */

static void
noticed (const TnExportNotice *notice, void *opaque)
{
  static const char *const events[] = { "?", "connected", "chose an export", "disconnected",
                                        "broke the protocol" };
  Service *service = opaque;
  if (notice->event == TN_EXPORT_REFUSED)
    cli_error (service->args, "client refused: %s", notice->text);
  else if (service->verbose)
    cli_error (service->args, "client %s%s%s (%u connected)", events[MIN (notice->event, 4)],
               notice->text ? ": " : "", notice->text ? notice->text : "", notice->connections);
  if (notice->event == TN_EXPORT_DISCONNECTED && notice->attached && notice->connections == 0
      && !service->persistent)
    tn_loop_quit (service->loop);
}

/* ---- A device of the kernel ---- */

static void
device_ended (const char *why, void *opaque)
{
  Service *service = opaque;
  if (why) {
    cli_error (service->args, "%s", why);
    service->status = EXIT_FAILURE;
  }
  tn_loop_quit (service->loop);
}

/* Before there is a server: it gets its end of the connection. */
static int
open_device (Service *service, TnOptions *options, GError **error)
{
  const char *path = cli_text (service->args, "connect");
  int fd;
  if (!path)
    return 0;
  const int rc = nbd_attach_new (&nbd_device_kernel, path, &service->device, &fd, error);
  if (rc == 0)
    tn_options_set_uint (options, "peer-fd", (uint64_t) fd);
  return rc;
}

static int
start_device (Service *service, GError **error)
{
  const char *name = cli_text (service->args, "export-name");
  return service->device ? nbd_attach_start (service->device, name ? name : "", device_ended, service, error)
                         : 0;
}

int
nbd_disconnect (CliArgs *args)
{
  GError *error = NULL;
  int rc = 0;
  if (args->n_words != 1 || cli_text (args, "connect"))
    rc = tn_fail (&error, TN_OPTION_ERROR, EINVAL, "--disconnect takes one device, such as /dev/nbd0");
  else
    rc = nbd_device_disconnect (&nbd_device_kernel, args->words[0], &error);
  if (rc < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  cli_print (args, "%s disconnected\n", args->words[0]);
  return EXIT_SUCCESS;
}

/* ---- Beginning and end ---- */

static int
start_server (Service *service, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  uint64_t most = 1, seconds = 10, threads = 1;
  int rc = cli_uint (service->args, "shared", 0, 100000, &most, error);
  if (rc == 0)
    rc = cli_uint (service->args, "handshake-limit", 0, 100000, &seconds, error);
  if (rc == 0)
    rc = cli_uint (service->args, "threads", 1, 4, &threads, error);
  if (rc == 0)
    rc = nbd_address (service->args, options, error);
  if (rc == 0)
    rc = open_device (service, options, error);
  if (rc < 0)
    return rc;
  if (cli_text (service->args, "tls-hostname"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--tls-hostname is for --list");
  if (cli_text (service->args, "tls-creds"))
    tn_options_set (options, "tls-creds", cli_text (service->args, "tls-creds"));
  if (cli_text (service->args, "tls-authz"))
    tn_options_set (options, "tls-authz", cli_text (service->args, "tls-authz"));
  tn_options_set_uint (options, "max-connections", most);
  tn_options_set_uint (options, "threads", threads);
  tn_options_set_uint (options, "handshake-max-seconds", seconds);
  rc = tn_export_server_new ("nbd", options, &service->server, error);
  if (rc == 0)
    tn_export_server_on_event (service->server, noticed, service);
  return rc;
}

static char *
join_bitmaps (const CliArgs *args)
{
  GString *names = g_string_new (NULL);
  const char *name;
  for (unsigned i = 0; (name = cli_text_nth (args, "bitmap", i)); i++)
    g_string_append_printf (names, "%s%s", i ? ":" : "", name);
  return g_string_free (names, FALSE);
}

static int
add_export (Service *service, unsigned index, GError **error)
{
  const CliArgs *args = service->args;
  const char *name = cli_text_nth (args, "export-name", index),
             *description = cli_text_nth (args, "description", index);
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autofree char *bitmaps = join_bitmaps (args);
  if (!name && service->n > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "several images need a name each: give -x for '%s', too",
                    args->words[index]);
  tn_options_set (options, "name", name ? name : "");
  tn_options_set (options, "description", description ? description : "");
  tn_options_set (options, "writable", nbd_is_read_only (args) ? "off" : "on");
  tn_options_set (options, "allocation-depth", cli_flag (args, "allocation-depth") ? "on" : "off");
  if (*bitmaps)
    tn_options_set (options, "bitmaps", bitmaps);
  return tn_export_new ("nbd", service->server, service->drives[index], options, &service->exports[index],
                        error);
}

/* Images first: who connects at once finds them there. */
static int
start (Service *service, GError **error)
{
  int rc = nbd_check_device (service->args, error);
  if (rc == 0)
    rc = cli_catch_signals (service->loop, &service->signals, error);
  if (rc == 0)
    rc = cli_define_objects (service->args, error);
  for (unsigned i = 0; i < service->n && rc == 0; i++)
    rc = nbd_open_drive (service->args, i, &service->drives[i], error);
  if (rc == 0)
    rc = start_server (service, error);
  for (unsigned i = 0; i < service->n && rc == 0; i++)
    rc = add_export (service, i, error);
  if (rc == 0)
    rc = start_device (service, error);
  if (rc == 0)
    rc = nbd_started (service->args, error);
  if (rc == 0)
    rc = cli_seal (service->args, TN_SANDBOX_PLUGINS, cli_text (service->args, "socket"), TN_SANDBOX_REMOVE,
                   error);
  return rc;
}

static int
stop (Service *service, GError **error)
{
  int rc = 0;
  nbd_attach_free (service->device);
  tn_export_server_free (service->server);
  for (unsigned i = 0; i < service->n; i++) {
    if (service->drives[i] && rc == 0 && !nbd_is_read_only (service->args))
      rc = tn_drive_flush (service->drives[i], error);
    tn_drive_free (service->drives[i]);
  }
  cli_release_signals (service->loop, service->signals);
  return rc;
}

int
nbd_serve (CliArgs *args)
{
  g_autofree TnDrive **drives = g_new0 (TnDrive *, args->n_words + 1);
  g_autofree TnExport **exports = g_new0 (TnExport *, args->n_words + 1);
  Service service = { .args = args,
                      .loop = tn_loop_current (),
                      .persistent = cli_flag (args, "persistent"),
                      .verbose = cli_flag (args, "verbose"),
                      .signals = -1,
                      .n = args->n_words,
                      .drives = drives,
                      .exports = exports };
  GError *error = NULL;
  int status = EXIT_SUCCESS;
  if (service.n == 0) {
    tn_fail (&error, TN_OPTION_ERROR, EINVAL, "an image is needed; see 'tenon-nbd --help'");
    return cli_fail (args, EXIT_FAILURE, &error);
  }
  if (start (&service, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  else
    tn_loop_run (service.loop);
  status = status ? status : service.status;
  if (stop (&service, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return status;
}
