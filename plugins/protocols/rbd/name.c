/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of images.  They may hold a key: no message repeats them. */
#include "rbd.h"

#define SETTING "config."

static int
rbd_fail_name (GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "this does not name an image: write rbd:POOL/[NAMESPACE/]IMAGE[@SNAPSHOT][:KEY=VALUE]… or "
                  "rbd://[USER@]HOST[:PORT][,HOST…]/POOL/[NAMESPACE/]IMAGE[@SNAPSHOT][?KEY=VALUE&…]");
}

/* An image by its parts; empty ones are refused, apart from an absent namespace. */
static int
rbd_set_image (TnOptions *options, const char *pool, const char *space, const char *image,
               const char *snapshot, GError **error)
{
  if (!*pool || !*image || (space && !*space) || (snapshot && !*snapshot))
    return rbd_fail_name (error);
  tn_options_set (options, "pool", pool);
  tn_options_set (options, "namespace", space);
  tn_options_set (options, "image", image);
  tn_options_set (options, "snapshot", snapshot);
  return 0;
}

/* ---- rbd:POOL/IMAGE ---- */

/* Up to the first of @stops that has no backslash before it, without the backslashes.  *@text moves there. */
static char *
rbd_take_word (const char **text, const char *stops)
{
  GString *word = g_string_new (NULL);
  const char *at = *text;
  for (; *at && !strchr (stops, *at); at++) {
    if (*at == '\\' && at[1])
      at++;
    g_string_append_c (word, *at);
  }
  *text = at;
  return g_string_free (word, FALSE);
}

/* `id` and `conf` are options of ours, all else is for librados, which reads blanks and hyphens in the names
 * of its settings as underscores. */
static void
rbd_set_setting (TnOptions *options, const char *key, const char *value)
{
  if (strcmp (key, "id") == 0 || strcmp (key, "conf") == 0) {
    tn_options_set (options, *key == 'i' ? "user" : key, value);
    return;
  }
  g_autofree char *name = g_strconcat (SETTING, key, NULL);
  tn_options_set (options, g_strdelimit (name, " -", '_'), value);
}

static int
rbd_take_settings (const char *at, TnOptions *options, GError **error)
{
  while (*at) {
    at++;
    g_autofree char *key = rbd_take_word (&at, "=:");
    if (!*key || *at != '=')
      return rbd_fail_name (error);
    at++;
    g_autofree char *value = rbd_take_word (&at, ":");
    rbd_set_setting (options, key, value);
    memset (value, 0, strlen (value)); /* it may be a key */
  }
  return 0;
}

static int
rbd_parse_legacy (const char *at, TnOptions *options, GError **error)
{
  g_autofree char *space = NULL, *snapshot = NULL;
  g_autofree char *pool = rbd_take_word (&at, "/");
  if (*at != '/')
    return rbd_fail_name (error);
  at++;
  g_autofree char *image = rbd_take_word (&at, "/@:");
  if (*at == '/') {
    at++;
    space = g_steal_pointer (&image);
    image = rbd_take_word (&at, "/@:");
  }
  if (*at == '@') {
    at++;
    snapshot = rbd_take_word (&at, ":");
  }
  if (*at == '/')
    return rbd_fail_name (error);
  const int rc = rbd_set_image (options, pool, space, image, snapshot, error);
  return rc < 0 ? rc : rbd_take_settings (at, options, error);
}

/* ---- rbd://HOST/POOL/IMAGE ---- */

/* HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT */
static int
rbd_set_server (TnOptions *options, unsigned index, const char *text, GError **error)
{
  const char *bracket = *text == '[' ? strchr (text, ']') : NULL;
  const char *colon = strchr (bracket ? bracket : text, ':');
  if (*text == '[' && (!bracket || (bracket[1] && colon != bracket + 1)))
    return rbd_fail_name (error);
  const char *end = bracket ? bracket : colon ? colon : text + strlen (text);
  g_autofree char *host = g_strndup (text + (bracket ? 1 : 0), (gsize) (end - text) - (bracket ? 1 : 0));
  g_autofree char *host_key = g_strdup_printf ("server.%u.host", index);
  g_autofree char *port_key = g_strdup_printf ("server.%u.port", index);
  if (!*host)
    return rbd_fail_name (error);
  tn_options_set (options, host_key, host);
  tn_options_set (options, port_key, colon ? colon + 1 : NULL);
  return 0;
}

static int
rbd_take_authority (const char *text, size_t length, TnOptions *options, GError **error)
{
  g_autofree char *authority = g_strndup (text, length);
  char *at = strrchr (authority, '@');
  if (at) {
    *at = '\0';
    g_autofree char *user = g_uri_unescape_string (authority, NULL);
    if (!user || !*user || strchr (authority, ':'))
      return rbd_fail_name (error);
    tn_options_set (options, "user", user);
  }
  const char *servers = at ? at + 1 : authority;
  g_auto (GStrv) list = g_strsplit (servers, ",", RBD_MAX_SERVERS + 1);
  int rc = 0;
  for (unsigned i = 0; list[i] && rc == 0; i++)
    rc = rbd_set_server (options, i, list[i], error);
  return rc;
}

static int
rbd_take_query (const char *query, TnOptions *options, GError **error)
{
  static const char *const known[] = { "conf", "key-secret", "timeout" };
  g_autoptr (GHashTable) pairs = g_uri_parse_params (query, -1, "&", G_URI_PARAMS_NONE, NULL);
  unsigned n = 0;
  for (size_t i = 0; pairs && i < G_N_ELEMENTS (known); i++) {
    const char *value = g_hash_table_lookup (pairs, known[i]);
    n += value != NULL;
    if (value)
      tn_options_set (options, known[i], value);
  }
  if (!pairs || n != g_hash_table_size (pairs))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "an rbd:// name may have conf, key-secret and timeout behind its question mark; give the "
                    "rest as options");
  return 0;
}

static int
rbd_take_path (const char *path, TnOptions *options, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", 4);
  const unsigned n = g_strv_length (parts);
  if (n != 2 && n != 3)
    return rbd_fail_name (error);
  char *at = strchr (parts[n - 1], '@');
  if (at)
    *at = '\0';
  g_autofree char *pool = g_uri_unescape_string (parts[0], NULL);
  g_autofree char *space = n == 3 ? g_uri_unescape_string (parts[1], NULL) : NULL;
  g_autofree char *image = g_uri_unescape_string (parts[n - 1], NULL);
  g_autofree char *snapshot = at ? g_uri_unescape_string (at + 1, NULL) : NULL;
  if (!pool || !image || (n == 3 && !space) || (at && !snapshot))
    return rbd_fail_name (error);
  return rbd_set_image (options, pool, space, image, snapshot, error);
}

static int
rbd_parse_uri (const char *text, TnOptions *options, GError **error)
{
  const size_t authority = strcspn (text, "/?#");
  if (text[authority] != '/' || strchr (text, '#'))
    return rbd_fail_name (error);
  const char *path = text + authority + 1, *query = strchr (path, '?');
  g_autofree char *image = query ? g_strndup (path, (gsize) (query - path)) : g_strdup (path);
  int rc = authority ? rbd_take_authority (text, authority, options, error) : 0;
  if (rc == 0)
    rc = rbd_take_path (image, options, error);
  return rc == 0 && query ? rbd_take_query (query + 1, options, error) : rc;
}

int
rbd_name_parse (const char *text, TnOptions *options, GError **error)
{
  if (g_str_has_prefix (text, "rbd://"))
    return rbd_parse_uri (text + strlen ("rbd://"), options, error);
  return rbd_parse_legacy (text, options, error);
}

/* ---- From options ---- */

static void
rbd_append_word (GString *name, const char *before, const char *word, const char *stops)
{
  if (!word || !*word)
    return;
  g_string_append (name, before);
  for (; *word; word++) {
    if (*word == '\\' || strchr (stops, *word))
      g_string_append_c (name, '\\');
    g_string_append_c (name, *word);
  }
}

/* Everything that says where the image is, and no key. */
char *
rbd_name_of (const TnOptions *options)
{
  g_autofree char *monitors = NULL;
  const char *pool = tn_options_get (options, "pool"), *image = tn_options_get (options, "image");
  if (!pool || !image || rbd_place_monitors (options, &monitors, NULL) < 0)
    return NULL;
  GString *name = g_string_new (NULL);
  rbd_append_word (name, "rbd:", pool, "/");
  rbd_append_word (name, "/", tn_options_get (options, "namespace"), "/@:");
  rbd_append_word (name, "/", image, "/@:");
  rbd_append_word (name, "@", tn_options_get (options, "snapshot"), ":");
  rbd_append_word (name, ":id=", tn_options_get (options, "user"), ":");
  rbd_append_word (name, ":conf=", tn_options_get (options, "conf"), ":");
  rbd_append_word (name, ":mon_host=", monitors ? monitors : tn_options_get (options, SETTING "mon_host"),
                   ":");
  return g_string_free (name, FALSE);
}
