/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exports of any type. */
#include "monitor.h"

#include <tenon/sandbox.h>

static DaemonExport *
find_export (const Daemon *daemon, const char *id)
{
  for (guint i = 0; i < daemon->exports->len; i++) {
    DaemonExport *export = g_ptr_array_index (daemon->exports, i);
    if (strcmp (export->id, id) == 0)
      return export;
  }
  return NULL;
}

static void
noticed (const TnExportNotice *notice, void *opaque)
{
  DaemonExport *export = opaque;
  export->connections = notice->connections;
  if (notice->event == TN_EXPORT_PEER_ERROR)
    cli_warning (export->daemon->args, "export '%s': %s", export->id, notice->text);
}

/* ---- Making ---- */

static char *
take (TnOptions *options, const char *key)
{
  char *value = g_strdup (tn_options_get (options, key));
  tn_options_set (options, key, NULL);
  return value;
}

/* "bitmaps.0=a,bitmaps.1=b" and "bitmap=a" are what others write for "bitmaps=a:b". */
static void
join_bitmaps (TnOptions *options)
{
  g_autoptr (TnOptions) list = tn_options_take_prefix (options, "bitmaps");
  g_autofree char *one = take (options, "bitmap");
  g_autoptr (GString) names = g_string_new (one);
  for (size_t i = 0; i < tn_options_count (list); i++) {
    const char *key, *value;
    tn_options_pair (list, i, &key, &value);
    g_string_append_printf (names, "%s%s", names->len ? ":" : "", value);
  }
  if (names->len)
    tn_options_set (options, "bitmaps", names->str);
}

/* A socket's path is removed at the end. */
static int
keep_folder (const char *path, GError **error)
{
  g_autofree char *folder = path ? g_path_get_dirname (path) : NULL;
  return folder ? tn_sandbox_keep (folder, TN_SANDBOX_REMOVE, error) : 0;
}

static int
check_basics (const Daemon *daemon, const DaemonExport *export, GError **error)
{
  if (!export->type || !export->id || !export->node)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "an export needs type=TYPE,id=NAME,node-name=NODE");
  if (find_export (daemon, export->id))
    return tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is an export '%s' already", export->id);
  if (!daemon_find_node (daemon, export->node))
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no node '%s' for export '%s'", export->node,
                    export->id);
  return 0;
}

static int
open_export (DaemonExport *export, TnOptions *options, GError **error)
{
  Daemon *daemon = export->daemon;
  const bool nbd = strcmp (export->type, "nbd") == 0;
  g_autofree char *through = take (options, "writethrough");
  const bool writethrough = through && (strcmp (through, "on") == 0 || strcmp (through, "true") == 0);
  if (nbd && !daemon->nbd)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "export '%s': there is no NBD server yet: use --nbd-server", export->id);
  if (nbd) {
    join_bitmaps (options);
    if (!tn_options_has (options, "name"))
      tn_options_set (options, "name", export->node);
  }
  const int rc = keep_folder (tn_options_get (options, "addr.path"), error);
  if (rc < 0)
    return rc;
  export->drive = tn_drive_new (daemon_find_node (daemon, export->node),
                                writethrough ? TN_CACHE_WRITETHROUGH : TN_CACHE_WRITEBACK, true);
  return tn_export_new (export->type, nbd ? daemon->nbd : NULL, export->drive, options, &export->export,
                        error);
}

int
daemon_export_add (Daemon *daemon, TnOptions *options, GError **error)
{
  DaemonExport *export = g_new0 (DaemonExport, 1);
  export->daemon = daemon;
  export->type = take (options, "type");
  export->id = take (options, "id");
  export->node = take (options, "node-name");
  int rc = check_basics (daemon, export, error);
  if (rc == 0)
    rc = open_export (export, options, error);
  if (rc < 0) {
    daemon_export_free (export);
    return rc;
  }
  tn_export_on_event (export->export, noticed, export);
  g_ptr_array_add (daemon->exports, export);
  return 0;
}

void
daemon_export_free (DaemonExport *export)
{
  g_autoptr (GError) error = NULL;
  tn_export_free (export->export);
  if (export->drive && !tn_drive_is_read_only (export->drive) && tn_drive_flush (export->drive, &error) < 0)
    cli_error (export->daemon->args, "export '%s': %s", export->id, error->message);
  tn_drive_free (export->drive);
  g_free (export->type);
  g_free (export->id);
  g_free (export->node);
  g_free (export);
}

int
daemon_export_del (Daemon *daemon, const char *id, bool hard, GError **error)
{
  DaemonExport *export = find_export (daemon, id);
  g_autofree char *name = g_strdup (id);
  if (!export)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no export '%s'", id);
  if (export->connections > 0 && !hard)
    return tn_fail (error, TN_OPTION_ERROR, EBUSY,
                    "export '%s' is in use: give mode hard to end it all the same", id);
  g_ptr_array_remove (daemon->exports, export);
  daemon_event (daemon, "BLOCK_EXPORT_DELETED", name);
  return 0;
}

/* ---- Listing ---- */

void
daemon_list_exports (const Daemon *daemon, TnJson *json)
{
  tn_json_array_begin (json, "return");
  for (guint i = 0; i < daemon->exports->len; i++) {
    const DaemonExport *export = g_ptr_array_index (daemon->exports, i);
    tn_json_object_begin (json, NULL);
    tn_json_string (json, "id", export->id);
    tn_json_string (json, "type", export->type);
    tn_json_string (json, "node-name", export->node);
    tn_json_bool (json, "shutting-down", false);
    tn_json_object_end (json);
  }
  tn_json_array_end (json);
}
