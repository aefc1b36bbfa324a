/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of disks in sheepdog clusters, and the options that they become. */
#include "sheepdog.h"

static int
sd_fail_name (GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EINVAL,
      "this does not name a disk of a sheepdog cluster: write sheepdog:[HOST:PORT:]VDI[:SNAPSHOT], "
      "sheepdog://[HOST[:PORT]]/VDI[#SNAPSHOT] or sheepdog+unix:///VDI?socket=PATH[#SNAPSHOT]");
}

/* A number is an id, all else a tag. */
static void
sd_set_snapshot (TnOptions *options, const char *text)
{
  guint64 id;
  if (g_ascii_string_to_unsigned (text, 10, 1, UINT32_MAX, &id, NULL))
    tn_options_set_uint (options, "snap-id", id);
  else
    tn_options_set (options, "tag", text);
}

static int
sd_set_unix (TnOptions *options, const GUri *uri, GError **error)
{
  const char *host = g_uri_get_host ((GUri *) uri), *query = g_uri_get_query ((GUri *) uri);
  g_autoptr (GHashTable) pairs = query ? g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, NULL) : NULL;
  const char *path = pairs ? g_hash_table_lookup (pairs, "socket") : NULL;
  if (!path || !*path || g_hash_table_size (pairs) != 1 || (host && *host))
    return sd_fail_name (error);
  tn_options_set (options, "server.type", "unix");
  tn_options_set (options, "server.path", path);
  return 0;
}

static int
sd_set_inet (TnOptions *options, const GUri *uri, GError **error)
{
  const char *host = g_uri_get_host ((GUri *) uri);
  if (g_uri_get_query ((GUri *) uri))
    return sd_fail_name (error);
  tn_options_set (options, "server.type", "inet");
  if (host && *host)
    tn_options_set (options, "server.host", host);
  if (g_uri_get_port ((GUri *) uri) > 0)
    tn_options_set_uint (options, "server.port", (uint64_t) g_uri_get_port ((GUri *) uri));
  return 0;
}

static int
sd_parse_uri (const char *text, TnOptions *options, GError **error)
{
  g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_ENCODED_QUERY, NULL);
  const char *path = uri ? g_uri_get_path (uri) : "";
  if (path[0] != '/' || path[1] == '\0')
    return sd_fail_name (error);
  const int rc = strcmp (g_uri_get_scheme (uri), "sheepdog+unix") == 0 ? sd_set_unix (options, uri, error)
                                                                       : sd_set_inet (options, uri, error);
  if (rc < 0)
    return rc;
  tn_options_set (options, "vdi", path + 1);
  const char *snapshot = g_uri_get_fragment (uri);
  if (snapshot && !*snapshot)
    return sd_fail_name (error);
  if (snapshot)
    sd_set_snapshot (options, snapshot);
  return 0;
}

/* [HOST:PORT:]VDI[:SNAPSHOT] */
static int
sd_parse_plain (const char *text, TnOptions *options, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (text, ":", 5);
  const guint n = g_strv_length (parts), vdi = n >= 3 ? 2 : 0;
  if (n == 0 || n > 4)
    return sd_fail_name (error);
  for (guint i = 0; i < n; i++)
    if (!*parts[i])
      return sd_fail_name (error);
  if (vdi) {
    tn_options_set (options, "server.type", "inet");
    tn_options_set (options, "server.host", parts[0]);
    tn_options_set (options, "server.port", parts[1]);
  }
  tn_options_set (options, "vdi", parts[vdi]);
  if (vdi + 1 < n)
    sd_set_snapshot (options, parts[vdi + 1]);
  return 0;
}

int
sd_name_parse (const char *text, TnOptions *options, GError **error)
{
  if (strstr (text, "://"))
    return sd_parse_uri (text, options, error);
  return sd_parse_plain (g_str_has_prefix (text, "sheepdog:") ? text + strlen ("sheepdog:") : text, options,
                         error);
}

char *
sd_name_of (const TnOptions *options)
{
  const char *vdi = tn_options_get (options, "vdi"), *host = tn_options_get (options, "server.host"),
             *port = tn_options_get (options, "server.port"), *path = tn_options_get (options, "server.path"),
             *tag = tn_options_get (options, "tag"), *id = tn_options_get (options, "snap-id");
  const char *snapshot = id && strcmp (id, "0") ? id : tag && *tag ? tag : NULL;
  if (!vdi)
    return NULL;
  g_autofree char *name = g_uri_escape_string (vdi, NULL, FALSE);
  g_autofree char *mark = snapshot ? g_uri_escape_string (snapshot, NULL, FALSE) : NULL;
  const char *hash = mark ? "#" : "", *end = mark ? mark : "";
  if (path) {
    g_autofree char *socket = g_uri_escape_string (path, "/", FALSE);
    return g_strdup_printf ("sheepdog+unix:///%s?socket=%s%s%s", name, socket, hash, end);
  }
  const bool six = host && strchr (host, ':');
  return g_strdup_printf ("sheepdog://%s%s%s%s%s/%s%s%s", six ? "[" : "", host ? host : "localhost",
                          six ? "]" : "", port ? ":" : "", port ? port : "", name, hash, end);
}

/* ---- Options ---- */

static int
sd_check_place (const SdPlace *place, const char *port, GError **error)
{
  guint64 number;
  if (!*place->vdi || strlen (place->vdi) >= SD_MAX_NAME)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the name of a VDI has from 1 to %d bytes",
                    SD_MAX_NAME - 1);
  if (strlen (place->tag) >= SD_MAX_NAME)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the tag of a snapshot has at most %d bytes",
                    SD_MAX_NAME - 1);
  if (!g_ascii_string_to_unsigned (port, 10, 1, 65535, &number, NULL))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "'%.20s' is no port: server.port is from 1 to 65535",
                    port);
  return 0;
}

int
sd_place_init (SdPlace *place, const TnOptions *options, GError **error)
{
  const char *vdi = tn_options_get (options, "vdi"), *tag = tn_options_get (options, "tag"),
             *type = tn_options_get (options, "server.type");
  place->options = tn_options_copy (options);
  if (!type)
    tn_options_set (place->options, "server.type", tn_options_has (options, "server.path") ? "unix" : "inet");
  if (!tn_options_has (options, "server.host"))
    tn_options_set (place->options, "server.host", "localhost");
  if (!tn_options_has (options, "server.port"))
    tn_options_set (place->options, "server.port", "7000");
  place->vdi = vdi ? tn_options_get (place->options, "vdi") : "";
  place->tag = tag ? tn_options_get (place->options, "tag") : "";
  place->snap_id = (uint32_t) tn_options_uint (options, "snap-id");
  place->timeout_ns = (int64_t) tn_options_uint (options, "timeout") * 1000000000;
  const char *path = tn_options_get (place->options, "server.path");
  const bool is_unix = strcmp (tn_options_get (place->options, "server.type"), "unix") == 0;
  if (is_unix && !path)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a server of type 'unix' needs the option server.path");
  place->server = is_unix ? g_strdup_printf ("sheepdog server at the socket '%s'", path)
                          : g_strdup_printf ("sheepdog server at %s, port %s",
                                             tn_options_get (place->options, "server.host"),
                                             tn_options_get (place->options, "server.port"));
  return sd_check_place (place, tn_options_get (place->options, "server.port"), error);
}

void
sd_place_clear (SdPlace *place)
{
  tn_options_free (place->options);
  g_free (place->server);
}
