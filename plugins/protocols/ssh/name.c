/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "name.h"

#define DEFAULT_PORT 22

/* ---- host_key_check ---- */

/* `no`, `yes`, or `md5:`, `sha1:`, `sha256:` and the hash. */
static int
set_check (TnOptions *options, const char *text, GError **error)
{
  static const char *const types[] = { "md5:", "sha1:", "sha256:" };
  for (size_t i = 0; i < G_N_ELEMENTS (types); i++) {
    if (!g_str_has_prefix (text, types[i]))
      continue;
    g_autofree char *type = g_strndup (types[i], strlen (types[i]) - 1);
    tn_options_set (options, "host-key-check.mode", "hash");
    tn_options_set (options, "host-key-check.type", type);
    tn_options_set (options, "host-key-check.hash", text + strlen (types[i]));
    return 0;
  }
  const bool yes = strcmp (text, "yes") == 0;
  if (!yes && strcmp (text, "no") != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "host_key_check=%s: write yes, no, md5:HASH, sha1:HASH or sha256:HASH", text);
  tn_options_set (options, "host-key-check.mode", yes ? "known_hosts" : "none");
  return 0;
}

/* ---- URIs ---- */

static int
fail_name (const char *text, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "'%s' does not name a file: write ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=…]", text);
}

static int
take_query (const char *text, const char *query, TnOptions *options, GError **error)
{
  g_autoptr (GHashTable) pairs = g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, NULL);
  const char *check = pairs ? g_hash_table_lookup (pairs, "host_key_check") : NULL;
  if (!check || g_hash_table_size (pairs) != 1)
    return fail_name (text, error);
  return set_check (options, check, error);
}

int
ssh_parse_name (const char *text, TnOptions *options, GError **error)
{
  g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_ENCODED_QUERY | G_URI_FLAGS_HAS_PASSWORD, NULL);
  if (!uri || g_strcmp0 (g_uri_get_scheme (uri), "ssh") != 0)
    return fail_name ("this", error);
  const char *host = g_uri_get_host (uri), *path = g_uri_get_path (uri), *user = g_uri_get_user (uri);
  if (g_uri_get_password (uri))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "a password in the name is not supported: log in with a key (identity) or an agent");
  if (!host || !*host || path[0] != '/' || !path[1] || g_uri_get_fragment (uri))
    return fail_name (text, error);
  tn_options_set (options, "server.host", host);
  tn_options_set_uint (options, "server.port",
                       g_uri_get_port (uri) > 0 ? (uint64_t) g_uri_get_port (uri) : DEFAULT_PORT);
  tn_options_set (options, "path", path);
  if (user && *user)
    tn_options_set (options, "user", user);
  return g_uri_get_query (uri) ? take_query (text, g_uri_get_query (uri), options, error) : 0;
}

/* ---- Options ---- */

static int
rename_option (TnOptions *options, const char *old, const char *now, GError **error)
{
  const char *value = tn_options_get (options, old);
  if (!value)
    return 0;
  if (tn_options_has (options, now))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "options '%s' and '%s' of protocol 'ssh' say the same: leave '%s' out", old, now, old);
  tn_options_set (options, now, value);
  tn_options_set (options, old, NULL);
  return 0;
}

static int
check_hash (const TnOptions *options, GError **error)
{
  const char *hash = tn_options_get (options, "host-key-check.hash"),
             *type = tn_options_get (options, "host-key-check.type");
  const bool wanted = g_strcmp0 (tn_options_get (options, "host-key-check.mode"), "hash") == 0;
  if (wanted != (hash && type) || !hash != !type)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "options 'host-key-check.type' and 'host-key-check.hash' of protocol 'ssh' go with "
                    "host-key-check.mode=hash, both of them");
  return 0;
}

static int
settle (TnOptions *options, GError **error)
{
  const char *check = tn_options_get (options, "host_key_check");
  int rc = rename_option (options, "host", "server.host", error);
  if (rc == 0)
    rc = rename_option (options, "port", "server.port", error);
  if (rc == 0 && check)
    rc = set_check (options, check, error);
  if (rc < 0)
    return rc;
  tn_options_set (options, "host_key_check", NULL);
  if (!tn_options_has (options, "server.host"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "protocol 'ssh' needs to know the server: add server.host=HOST");
  if (!tn_options_has (options, "server.port"))
    tn_options_set_uint (options, "server.port", DEFAULT_PORT);
  if (!tn_options_has (options, "user"))
    tn_options_set (options, "user", g_get_user_name ());
  return check_hash (options, error);
}

int
ssh_settle_options (const TnOptions *options, TnOptions **settled, GError **error)
{
  g_autoptr (TnOptions) copy = tn_options_copy (options);
  const int rc = settle (copy, error);
  if (rc == 0)
    *settled = g_steal_pointer (&copy);
  return rc;
}

char *
ssh_shown_name (const TnOptions *options)
{
  g_autoptr (TnOptions) settled = NULL;
  if (ssh_settle_options (options, &settled, NULL) < 0)
    return NULL;
  const char *host = tn_options_get (settled, "server.host"), *path = tn_options_get (settled, "path");
  const bool bare = strchr (host, ':');
  return g_strdup_printf ("ssh://%s@%s%s%s:%s%s%s", tn_options_get (settled, "user"), bare ? "[" : "", host,
                          bare ? "]" : "", tn_options_get (settled, "server.port"), path[0] == '/' ? "" : "/",
                          path);
}
