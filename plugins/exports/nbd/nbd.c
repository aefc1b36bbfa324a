/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers and exports as the core makes and ends them; the plugin. */
#include "server.h"

/* ---- Servers ---- */

static void
server_close (TnExportServer *base)
{
  NbdServer *server = tn_export_server_state (base);
  server->closing = true;
  nbd_listen_close (server);
  nbd_lanes_evict (server, NULL);
  nbd_lanes_close (server);
  tn_tls_credentials_unref (server->tls);
  g_ptr_array_unref (server->exports);
  g_mutex_clear (&server->exports_lock);
}

static int
server_open (TnExportServer *base, const TnOptions *options, GError **error)
{
  NbdServer *server = tn_export_server_state (base);
  const uint64_t most = tn_options_uint (options, "max-connections");
  *server = (NbdServer){ .base = base,
                         .loop = tn_loop_current (),
                         .max_connections = most ? (unsigned) most : UINT_MAX,
                         .exports = g_ptr_array_new () };
  server->handshake_ns = (int64_t) tn_options_uint (options, "handshake-max-seconds") * 1000000000;
  g_mutex_init (&server->exports_lock);
  nbd_lanes_open (server, (unsigned) tn_options_uint (options, "threads"));
  int rc = nbd_secure_open (server, options, error);
  if (rc == 0)
    rc = nbd_listen (server, options, error);
  if (rc < 0)
    server_close (base);
  return rc;
}

/* ---- Exports ---- */

static int
add_bitmaps (NbdExport *export, const char *names, GError **error)
{
  g_auto (GStrv) list = g_strsplit (names ? names : "", ":", -1);
  if (g_strv_length (list) > NBD_MAX_CONTEXTS - 2)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "at most %d dirty bitmaps can be exported at a time",
                    NBD_MAX_CONTEXTS - 2);
  for (char **name = list; *name; name++) {
    NbdBitmap *bitmap = NULL;
    const int rc = nbd_bitmap_new (export->drive, *name, &bitmap, error);
    if (rc < 0)
      return rc;
    g_ptr_array_add (export->bitmaps, bitmap);
  }
  return 0;
}

static void
export_clear (NbdExport *export)
{
  g_ptr_array_unref (export->bitmaps);
  g_free (export->name);
  g_free (export->description);
}

static int
check_texts (const char *name, const char *description, GError **error)
{
  if (strlen (name) > NBD_MAX_STRING || strlen (description) > NBD_MAX_STRING)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "the name or the description of an NBD export is longer than %d bytes", NBD_MAX_STRING);
  return 0;
}

static int
export_open (TnExport *base, const TnOptions *options, GError **error)
{
  NbdExport *export = tn_export_state (base);
  NbdServer *server = tn_export_server_state (tn_export_server (base));
  const char *name = tn_options_get (options, "name"), *description = tn_options_get (options, "description");
  int rc = check_texts (name, description, error);
  if (rc < 0)
    return rc;
  if (nbd_server_find (server, (const uint8_t *) name, strlen (name)))
    return tn_fail (error, TN_BLOCK_ERROR, EEXIST, "there is an export called '%s' already", name);
  TnDrive *drive = tn_export_drive (base);
  const bool writable = tn_options_bool (options, "writable");
  if (writable && tn_drive_is_read_only (drive))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "the image is read-only: export it without writable=on");
  *export = (NbdExport){ .base = base,
                         .server = server,
                         .drive = drive,
                         .name = g_strdup (name),
                         .description = g_strdup (description),
                         .writable = writable,
                         .allocation_depth = tn_options_bool (options, "allocation-depth"),
                         .bitmaps = g_ptr_array_new_with_free_func ((GDestroyNotify) nbd_bitmap_free) };
  rc = add_bitmaps (export, tn_options_get (options, "bitmaps"), error);
  if (rc < 0) {
    export_clear (export);
    return rc;
  }
  g_mutex_lock (&server->exports_lock);
  g_ptr_array_add (server->exports, export);
  g_mutex_unlock (&server->exports_lock);
  return 0;
}

static void
export_close (TnExport *base)
{
  NbdExport *export = tn_export_state (base);
  g_mutex_lock (&export->server->exports_lock);
  g_ptr_array_remove (export->server->exports, export);
  g_mutex_unlock (&export->server->exports_lock);
  nbd_lanes_evict (export->server, export);
  export_clear (export);
}

/* ---- The plugin ---- */

static const TnOption server_options[] = {
  { .name = "addr.host", .type = TN_OPTION_STRING, .value = "", .help = "address or name to listen at" },
  { .name = "addr.port", .type = TN_OPTION_STRING, .value = "10809", .help = "TCP port to listen at" },
  { .name = "addr.path", .type = TN_OPTION_STRING, .help = "path of a Unix socket to listen at" },
  { .name = "addr.fd",
    .type = TN_OPTION_UINT,
    .max = INT_MAX,
    .help = "number of a file descriptor that listens already" },
  { .name = "addr.count",
    .type = TN_OPTION_UINT,
    .value = "1",
    .max = 64,
    .help = "how many descriptors there are, from addr.fd on" },
  { .name = "peer-fd",
    .type = TN_OPTION_UINT,
    .max = INT_MAX,
    .help = "number of a file descriptor that the only client is connected to already" },
  { .name = "max-connections",
    .type = TN_OPTION_UINT,
    .value = "100",
    .max = 100000,
    .help = "how many clients there may be at a time; 0: any number" },
  { .name = "threads",
    .type = TN_OPTION_UINT,
    .value = "1",
    .min = 1,
    .max = NBD_MAX_LANES,
    .help = "how many threads the connections are spread over, at most" },
  { .name = "handshake-max-seconds",
    .type = TN_OPTION_UINT,
    .value = "10",
    .max = 100000,
    .help = "how long a client may take to choose an export; 0: as long as it likes" },
  { .name = "tls-creds",
    .type = TN_OPTION_STRING,
    .help = "id of the credentials for TLS, which clients then have to use" },
  { .name = "tls-authz",
    .type = TN_OPTION_STRING,
    .help =
        "id of the authz object that says which clients may come in, by the names in their certificates" },
  { .name = NULL },
};

static const TnOption export_options[] = {
  { .name = "name", .type = TN_OPTION_STRING, .value = "", .help = "name by which clients ask for it" },
  { .name = "description",
    .type = TN_OPTION_STRING,
    .value = "",
    .help = "text that clients can show beside the name" },
  { .name = "writable", .type = TN_OPTION_BOOL, .value = "off", .help = "clients may write" },
  { .name = "allocation-depth",
    .type = TN_OPTION_BOOL,
    .value = "off",
    .help = "clients may ask in which image of the chain bytes are stored" },
  { .name = "bitmaps",
    .type = TN_OPTION_STRING,
    .help = "dirty bitmaps that clients may read, separated by colons" },
  { .name = NULL },
};

static const TnExportOps nbd_ops = {
  .size = sizeof (TnExportOps),
  .flags = TN_EXPORT_SERVER,
  .instance_size = sizeof (NbdExport),
  .server_size = sizeof (NbdServer),
  .server_options = server_options,
  .server_open = server_open,
  .server_close = server_close,
  .open = export_open,
  .close = export_close,
};

static const TnClass nbd_class = {
  TN_CLASS_HEAD (TN_KIND_EXPORT, TN_EXPORT_MAJOR, TN_EXPORT_MINOR),
  .name = "nbd",
  .summary = "network block device server",
  .options = export_options,
  .ops = &nbd_ops,
};

static const TnClass *const nbd_classes[] = { &nbd_class, NULL };

TN_PLUGIN_DEFINE (export_nbd, .security = TN_SECURITY_HARDENED, .name = "export-nbd", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-nbd", .classes = nbd_classes);
