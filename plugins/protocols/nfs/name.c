/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of files on NFS servers, and the options that they become. */
#include "nfs.h"

#define MAX_PATH 4096

/* What may stand behind the question mark, and the option that it is. */
static const struct {
  const char *word, *option;
} nfs_words[] = {
  { "uid", "user" },
  { "gid", "group" },
  { "version", "version" },
  { "nfsport", "server.port" },
  { "mountport", "mountport" },
  { "tcp-syncnt", "tcp-syn-count" },
  { "tcp-syn-cnt", "tcp-syn-count" },
  { "readahead", "readahead-size" },
  { "pagecache", "page-cache-size" },
};

static int
fail_name (GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EINVAL,
      "this does not name a file on an NFS server: write nfs://HOST/EXPORT/FILE[?NAME=NUMBER&...]");
}

static const char *
option_of (const char *word, size_t length)
{
  for (size_t i = 0; i < G_N_ELEMENTS (nfs_words); i++) {
    if (strlen (nfs_words[i].word) == length && strncmp (nfs_words[i].word, word, length) == 0)
      return nfs_words[i].option;
  }
  return NULL;
}

static int
parse_query (const char *query, TnOptions *options, GError **error)
{
  g_auto (GStrv) pairs = g_strsplit (query, "&", 32);
  for (char **pair = pairs; *pair; pair++) {
    const size_t length = strcspn (*pair, "=");
    const char *option = option_of (*pair, length);
    if (!option)
      return tn_fail (
          error, TN_BLOCK_ERROR, EINVAL,
          "a name of NFS has no '%.*s': it may have uid, gid, version, nfsport, mountport, tcp-syncnt, "
          "readahead, pagecache",
          (int) MIN (length, 40), *pair);
    if ((*pair)[length] != '=' || !g_ascii_isdigit ((*pair)[length + 1]))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "'%.40s' in a name of NFS lacks its number", *pair);
    tn_options_set (options, option, *pair + length + 1);
  }
  return 0;
}

static int
parse_host (const char *host, const char *end, TnOptions *options, GError **error)
{
  const char *colon = g_strrstr_len (host, end - host, ":");
  if (colon && *host == '[' && colon[-1] != ']')
    colon = NULL; /* a part of the address */
  const char *stop = colon ? colon : end;
  if (*host == '[' && stop - host > 2 && stop[-1] == ']') {
    host++;
    stop--;
  }
  g_autofree char *name = g_strndup (host, (gsize) (stop - host));
  if (!*name || strpbrk (name, "@ []?#"))
    return fail_name (error);
  tn_options_set (options, "server.host", name);
  if (colon) {
    g_autofree char *port = g_strndup (colon + 1, (gsize) (end - colon - 1));
    tn_options_set (options, "server.port", port);
  }
  return 0;
}

int
nfs_name_parse (const char *text, TnOptions *options, GError **error)
{
  const char *host = strstr (text, "://");
  if (!host)
    return fail_name (error);
  host += 3;
  const char *slash = host + strcspn (host, "/?#"), *query = strchr (text, '?');
  if (*slash != '/')
    return fail_name (error);
  g_autofree char *path = g_uri_unescape_segment (slash, query, NULL);
  if (!path || path[1] == '\0')
    return fail_name (error);
  int rc = parse_host (host, slash, options, error);
  if (rc < 0)
    return rc;
  tn_options_set (options, "path", path);
  return query && query[1] ? parse_query (query + 1, options, error) : 0;
}

char *
nfs_name_of (const TnOptions *options)
{
  const char *host = tn_options_get (options, "server.host"), *path = tn_options_get (options, "path");
  if (!host || !path)
    return NULL;
  g_autofree char *escaped = g_uri_escape_string (path, "/", FALSE);
  return strchr (host, ':') ? g_strdup_printf ("nfs://[%s]%s", host, escaped)
                            : g_strdup_printf ("nfs://%s%s", host, escaped);
}

/* ---- Options ---- */

static int64_t
id_option (const TnOptions *options, const char *name)
{
  return tn_options_get (options, name) ? (int64_t) tn_options_uint (options, name) : -1;
}

/* What is mounted is the folder of the file: servers let parts of an export be mounted. */
static int
split_path (NfsPlace *place, const char *path, GError **error)
{
  const char *slash = strrchr (path, '/');
  if (*path != '/' || strlen (path) > MAX_PATH || slash[1] == '\0' || strcmp (slash, "/..") == 0
      || strcmp (slash, "/.") == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "the path '%.80s' names no file: it begins with a slash and ends with the file's name",
                    path);
  place->folder = slash == path ? g_strdup ("/") : g_strndup (path, (gsize) (slash - path));
  place->file = g_strdup (slash);
  return 0;
}

int
nfs_place_init (NfsPlace *place, const TnOptions *options, GError **error)
{
  const char *host = tn_options_get (options, "server.host"), *path = tn_options_get (options, "path");
  if (!host || !*host || !path)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a file on an NFS server needs server.host and path");
  place->host = g_strdup (host);
  place->name = g_strdup_printf ("NFS server %s", host);
  place->version = (unsigned) tn_options_uint (options, "version");
  place->port = (unsigned) tn_options_uint (options, "server.port");
  place->mount_port = (unsigned) tn_options_uint (options, "mountport");
  place->syn_count = (unsigned) tn_options_uint (options, "tcp-syn-count");
  place->readahead = (unsigned) tn_options_uint (options, "readahead-size");
  place->page_cache = (unsigned) tn_options_uint (options, "page-cache-size");
  place->uid = id_option (options, "user");
  place->gid = id_option (options, "group");
  place->timeout_ns = (int64_t) tn_options_uint (options, "timeout") * 1000000000;
  if (place->version != 3 && place->version != 4)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "NFS has no version %u here: give version=3 or version=4",
                    place->version);
  return split_path (place, path, error);
}

void
nfs_place_clear (NfsPlace *place)
{
  g_free (place->host);
  g_free (place->folder);
  g_free (place->file);
  g_free (place->name);
  g_free (place->server);
}
