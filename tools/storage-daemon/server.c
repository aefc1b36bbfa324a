/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The NBD server, of which there is one. */
#include "daemon.h"

#include <tenon/sandbox.h>

/* Takes @from to where it is spelled as @to. */
static void
rename_key (TnOptions *options, const char *from, const char *to)
{
  g_autofree char *value = g_strdup (tn_options_get (options, from));
  tn_options_set (options, from, NULL);
  if (value)
    tn_options_set (options, to, value);
}

/* Addresses as others write them: a type, and on monitors one level more. */
static int
flatten_address (TnOptions *options, GError **error)
{
  rename_key (options, "addr.data.path", "addr.path");
  rename_key (options, "addr.data.host", "addr.host");
  rename_key (options, "addr.data.port", "addr.port");
  g_autofree char *type = g_strdup (tn_options_get (options, "addr.type"));
  tn_options_set (options, "addr.type", NULL);
  const bool by_path = tn_options_has (options, "addr.path");
  if (!type || (strcmp (type, "unix") != 0 && strcmp (type, "inet") != 0))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the NBD server needs addr.type=unix,addr.path=PATH or "
                    "addr.type=inet,addr.host=HOST,addr.port=PORT");
  if ((strcmp (type, "unix") == 0) != by_path || (!by_path && !tn_options_has (options, "addr.port")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the NBD server's address has addr.type=%s, but not %s",
                    type, strcmp (type, "unix") == 0 ? "addr.path" : "addr.host and addr.port");
  return 0;
}

static void
noticed (const TnExportNotice *notice, void *opaque)
{
  const Daemon *daemon = opaque;
  if (notice->event == TN_EXPORT_REFUSED)
    cli_warning (daemon->args, "NBD server: client refused: %s", notice->text);
}

int
daemon_nbd_start (Daemon *daemon, TnOptions *options, GError **error)
{
  if (daemon->nbd)
    return tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is an NBD server already");
  int rc = flatten_address (options, error);
  if (rc < 0)
    return rc;
  const char *path = tn_options_get (options, "addr.path");
  g_autofree char *folder = path ? g_path_get_dirname (path) : NULL;
  rc = folder ? tn_sandbox_keep (folder, TN_SANDBOX_REMOVE, error) : 0;
  if (rc == 0)
    rc = tn_export_server_new ("nbd", options, &daemon->nbd, error);
  if (rc == 0)
    tn_export_server_on_event (daemon->nbd, noticed, daemon);
  return rc;
}

int
daemon_nbd_stop (Daemon *daemon, GError **error)
{
  if (!daemon->nbd)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no NBD server");
  for (guint i = daemon->exports->len; i > 0; i--) {
    const DaemonExport *export = g_ptr_array_index (daemon->exports, i - 1);
    if (strcmp (export->type, "nbd") == 0)
      g_ptr_array_remove_index (daemon->exports, i - 1);
  }
  g_clear_pointer (&daemon->nbd, tn_export_server_free);
  return 0;
}
