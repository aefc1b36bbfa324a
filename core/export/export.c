/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers and exports: finding their class, checking their options, ending them in order. */
#include <tenon/export.h>

struct TnExportServer {
  const TnClass *class;
  const TnExportOps *ops;
  void *state;
  GPtrArray *exports; /* not owned */
  void (*notice) (const TnExportNotice *notice, void *opaque);
  void *opaque;
};

struct TnExport {
  const TnClass *class;
  const TnExportOps *ops;
  TnExportServer *server;
  TnDrive *drive;
  void *state;
  void (*notice) (const TnExportNotice *notice, void *opaque);
  void *opaque;
};

static int
check_options (const TnClass *class, const TnOption *table, const char *what, const TnOptions *options,
               TnOptions **checked, GError **error)
{
  static const TnOption none[] = { { .name = NULL } };
  g_autofree char *owner = g_strdup_printf ("%s '%s'", what, class->name);
  g_autoptr (TnOptions) copy = tn_options_copy (options);
  int rc = tn_options_check (copy, table ? table : none, table ? class->option_size : sizeof *none,
                             TN_OPTION_OPEN, owner, error);
  if (rc == 0)
    *checked = g_steal_pointer (&copy);
  return rc;
}

/* ---- Servers ---- */

static void
server_dispose (TnExportServer *server)
{
  g_ptr_array_unref (server->exports);
  g_free (server->state);
  g_free (server);
}

int
tn_export_server_new (const char *type, const TnOptions *options, TnExportServer **server, GError **error)
{
  const TnClass *class = tn_class_find (TN_KIND_EXPORT, type, error);
  if (!class)
    return -ENOENT;
  const TnExportOps *ops = class->ops;
  if (!(ops->flags & TN_EXPORT_SERVER) || !ops->server_open || !ops->server_close)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "exports of type '%s' stand alone: they have no server",
                    class->name);
  g_autoptr (TnOptions) checked = NULL;
  int rc = check_options (class, ops->server_options, "server", options, &checked, error);
  if (rc < 0)
    return rc;
  TnExportServer *made = g_new0 (TnExportServer, 1);
  *made = (TnExportServer){ .class = class, .ops = ops, .exports = g_ptr_array_new () };
  made->state = g_malloc0 (MAX (ops->server_size, 1));
  rc = ops->server_open (made, checked, error);
  if (rc < 0)
    server_dispose (made);
  else
    *server = made;
  return rc;
}

void
tn_export_server_free (TnExportServer *server)
{
  if (!server)
    return;
  while (server->exports->len)
    tn_export_free (g_ptr_array_index (server->exports, server->exports->len - 1));
  server->notice = NULL;
  server->ops->server_close (server);
  server_dispose (server);
}

void
tn_export_server_on_event (TnExportServer *server, void (*notice) (const TnExportNotice *, void *),
                           void *opaque)
{
  server->notice = notice;
  server->opaque = opaque;
}

void *
tn_export_server_state (TnExportServer *server)
{
  return server->state;
}

void
tn_export_server_notify (TnExportServer *server, const TnExportNotice *notice)
{
  TnExportNotice copy = *notice;
  copy.size = sizeof copy;
  if (server->notice)
    server->notice (&copy, server->opaque);
}

/* ---- Exports ---- */

static int
check_server (const TnClass *class, const TnExportOps *ops, const TnExportServer *server, GError **error)
{
  const bool wanted = ops->flags & TN_EXPORT_SERVER;
  if (!ops->open || !ops->close)
    return tn_fail (error, TN_PLUGIN_ERROR, EINVAL, "the plugin of export '%s' lacks open or close",
                    class->name);
  if (wanted && !server)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "an export of type '%s' needs a server: start one first",
                    class->name);
  if (server && (!wanted || server->class != class))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "an export of type '%s' does not belong to a '%s' server",
                    class->name, server->class->name);
  return 0;
}

int
tn_export_new (const char *type, TnExportServer *server, TnDrive *drive, const TnOptions *options,
               TnExport **export, GError **error)
{
  const TnClass *class = tn_class_find (TN_KIND_EXPORT, type, error);
  if (!class)
    return -ENOENT;
  const TnExportOps *ops = class->ops;
  g_autoptr (TnOptions) checked = NULL;
  int rc = check_server (class, ops, server, error);
  if (rc == 0)
    rc = check_options (class, class->options, "export", options, &checked, error);
  if (rc < 0)
    return rc;
  TnExport *made = g_new0 (TnExport, 1);
  *made = (TnExport){ .class = class, .ops = ops, .server = server, .drive = drive };
  made->state = g_malloc0 (MAX (ops->instance_size, 1));
  rc = ops->open (made, checked, error);
  if (rc < 0) {
    g_free (made->state);
    g_free (made);
    return rc;
  }
  if (server)
    g_ptr_array_add (server->exports, made);
  *export = made;
  return 0;
}

void
tn_export_free (TnExport *export)
{
  if (!export)
    return;
  export->notice = NULL;
  export->ops->close (export);
  if (export->server)
    g_ptr_array_remove (export->server->exports, export);
  g_free (export->state);
  g_free (export);
}

void *
tn_export_state (TnExport *export)
{
  return export->state;
}

TnDrive *
tn_export_drive (TnExport *export)
{
  return export->drive;
}

TnExportServer *
tn_export_server (TnExport *export)
{
  return export->server;
}

void
tn_export_on_event (TnExport *export, void (*notice) (const TnExportNotice *, void *), void *opaque)
{
  export->notice = notice;
  export->opaque = opaque;
}

void
tn_export_notify (TnExport *export, const TnExportNotice *notice)
{
  TnExportNotice copy = *notice;
  copy.size = sizeof copy;
  if (export->notice)
    export->notice (&copy, export->opaque);
}
