/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options, and what they mean to librados. */
#include "rbd.h"

#include <tenon/secret.h>

/* Of the key of a user of Ceph: its structure, as it is and in base64. */
#define KEY_BYTES 28
#define KEY_TEXT 40
#define MAX_KEY 1024

/* What may be set by name.  An image can name another one, with settings: those that have files written,
 * libraries loaded or sockets made stay in files, which nobody but the user writes. */
static const char *const rbd_settings[] = {
  "auth_client_required",
  "auth_cluster_required",
  "auth_service_required",
  "auth_supported",
  "client_mount_timeout",
  "key",
  "keyfile",
  "keyring",
  "mon_host",
  "ms_mode",
  "objecter_inflight_op_bytes",
  "objecter_inflight_ops",
  "rados_mon_op_timeout",
  "rados_osd_op_timeout",
  "rbd_balance_parent_reads",
  "rbd_balance_snap_reads",
  "rbd_cache",
  "rbd_cache_max_dirty",
  "rbd_cache_max_dirty_age",
  "rbd_cache_policy",
  "rbd_cache_size",
  "rbd_cache_target_dirty",
  "rbd_cache_writethrough_until_flush",
  "rbd_concurrent_management_ops",
  "rbd_default_data_pool",
  "rbd_default_features",
  "rbd_default_format",
  "rbd_default_order",
  "rbd_default_stripe_count",
  "rbd_default_stripe_unit",
  "rbd_discard_granularity_bytes",
  "rbd_read_from_replica_policy",
  "rbd_readahead_disable_after_bytes",
  "rbd_readahead_max_bytes",
  "rbd_readahead_trigger_requests",
  "rbd_skip_partial_discard",
  "rbd_sparse_read_threshold_bytes",
  NULL,
};

/* ---- Servers ---- */

static bool
rbd_is_port (const char *text)
{
  const size_t length = strspn (text, "0123456789");
  return length > 0 && length <= 5 && !text[length] && atoi (text) > 0 && atoi (text) <= 65535;
}

/* What would be more than a host to librados. */
static bool
rbd_is_host (const char *text)
{
  return *text && !strpbrk (text, ",;/[]()= \t\r\n");
}

static int
rbd_append_server (GString *list, const char *host, const char *port, GError **error)
{
  if (!rbd_is_host (host))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "'%s' is no name or address of a monitor", host);
  if (port && !rbd_is_port (port))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "'%s' is no port of monitor '%s': it is 1 to 65535", port,
                    host);
  const bool bare = strchr (host, ':') != NULL;
  g_string_append_printf (list, "%s%s%s%s%s%s", list->len ? "," : "", bare ? "[" : "", host, bare ? "]" : "",
                          port ? ":" : "", port ? port : "");
  return 0;
}

static size_t
rbd_count_prefix (const TnOptions *options, const char *prefix)
{
  size_t n = 0;
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    n += g_str_has_prefix (key, prefix);
  }
  return n;
}

int
rbd_place_monitors (const TnOptions *options, char **monitors, GError **error)
{
  const size_t given = rbd_count_prefix (options, "server.");
  size_t used = 0;
  g_autoptr (GString) list = g_string_new (NULL);
  for (unsigned i = 0; used < given; i++) {
    g_autofree char *host_key = g_strdup_printf ("server.%u.host", i);
    g_autofree char *port_key = g_strdup_printf ("server.%u.port", i);
    const char *host = tn_options_get (options, host_key), *port = tn_options_get (options, port_key);
    if (!host || i == RBD_MAX_SERVERS)
      return tn_fail (
          error, TN_BLOCK_ERROR, EINVAL,
          "the monitors of protocol 'rbd' are server.0.host and server.0.port, server.1.host and so "
          "on, %d at most",
          RBD_MAX_SERVERS);
    const int rc = rbd_append_server (list, host, port, error);
    if (rc < 0)
      return rc;
    used += port ? 2 : 1;
  }
  *monitors = given ? g_strdup (list->str) : NULL;
  return 0;
}

/* ---- Who we are ---- */

/* auth-client-required.0=cephx … as one text. */
static int
rbd_read_auth (RbdPlace *place, const TnOptions *options, GError **error)
{
  const size_t given = rbd_count_prefix (options, "auth-client-required.");
  g_autoptr (GString) list = g_string_new (NULL);
  for (unsigned i = 0; i < given; i++) {
    g_autofree char *key = g_strdup_printf ("auth-client-required.%u", i);
    const char *mode = tn_options_get (options, key);
    if (!mode || (strcmp (mode, "cephx") != 0 && strcmp (mode, "none") != 0))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "auth-client-required of protocol 'rbd' is a list of cephx and none: "
                      "auth-client-required.0=cephx");
    g_string_append_printf (list, "%s%s", i ? ";" : "", mode);
  }
  place->auth = given ? g_strdup (list->str) : NULL;
  return 0;
}

static bool
rbd_is_key_text (const char *text, size_t length)
{
  for (size_t i = 0; i < length; i++)
    if (!g_ascii_isalnum (text[i]) && !strchr ("+/=", text[i]))
      return false;
  return length == KEY_TEXT;
}

/* The secret is the key: its bytes, as format=base64 leaves them and QEMU wants them, or the text that
 * `ceph auth get-key` prints. */
static int
rbd_read_key (RbdPlace *place, const TnOptions *options, GError **error)
{
  const char *id = tn_options_get (options, "key-secret");
  size_t length;
  if (!id)
    return 0;
  if (tn_options_has (options, "config.key") || tn_options_has (options, "config.keyfile"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "give key-secret or a key in the name, not both");
  g_autoptr (TnSecret) secret = tn_secret_get (id, error);
  if (!secret)
    return -EINVAL;
  const char *bytes = tn_secret_bytes (secret, &length);
  size_t text = length;
  while (text > 0 && length <= MAX_KEY && g_ascii_isspace (bytes[text - 1]))
    text--;
  if (rbd_is_key_text (bytes, text)) {
    place->key = g_strndup (bytes, text);
    return 0;
  }
  if (length < KEY_BYTES || length > MAX_KEY)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "the secret '%s' is no key of a Ceph user: it has to be what 'ceph auth get-key' prints",
                    id);
  place->key = g_base64_encode ((const guchar *) bytes, length);
  return 0;
}

/* ---- All of it ---- */

static int
rbd_read_settings (RbdPlace *place, const TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) copy = tn_options_copy (options);
  place->settings = tn_options_take_prefix (copy, "config");
  for (size_t i = 0; i < tn_options_count (place->settings); i++) {
    const char *key, *value;
    tn_options_pair (place->settings, i, &key, &value);
    if (!g_strv_contains (rbd_settings, key))
      return tn_fail (error, TN_BLOCK_ERROR, EPERM,
                      "the setting '%s' of librados can't be given here: write it in a file and name that by "
                      "conf=",
                      key);
  }
  if (place->monitors && tn_options_has (place->settings, "mon_host"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "give the monitors as server.N.host or as mon_host, not both");
  return 0;
}

static char *
rbd_readable_name (const RbdPlace *place)
{
  const bool space = *place->space != '\0';
  return g_strdup_printf ("%s/%s%s%s%s%s", place->pool, place->space, space ? "/" : "", place->image,
                          place->snapshot ? "@" : "", place->snapshot ? place->snapshot : "");
}

int
rbd_place_read (RbdPlace *place, const TnOptions *options, GError **error)
{
  const char *pool = tn_options_get (options, "pool"), *image = tn_options_get (options, "image"),
             *space = tn_options_get (options, "namespace"), *snapshot = tn_options_get (options, "snapshot");
  if (!pool || !*pool || !image || !*image || (snapshot && !*snapshot))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "protocol 'rbd' needs pool=NAME and image=NAME, and no empty snapshot");
  if (rbd_count_prefix (options, "encrypt."))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "protocol 'rbd' does not support encryption by librbd: leave out encrypt, and where the "
                    "image holds LUKS open it with format luks");
  place->pool = g_strdup (pool);
  place->image = g_strdup (image);
  place->space = g_strdup (space ? space : "");
  place->snapshot = g_strdup (snapshot);
  place->user = g_strdup (tn_options_get (options, "user"));
  place->conf = g_strdup (tn_options_get (options, "conf"));
  place->timeout = tn_options_has (options, "timeout") ? (int) tn_options_uint (options, "timeout") : -1;
  place->name = rbd_readable_name (place);
  int rc = rbd_place_monitors (options, &place->monitors, error);
  if (rc == 0)
    rc = rbd_read_settings (place, options, error);
  if (rc == 0)
    rc = rbd_read_auth (place, options, error);
  return rc == 0 ? rbd_read_key (place, options, error) : rc;
}

void
rbd_place_clear (RbdPlace *place)
{
  if (place->key)
    explicit_bzero (place->key, strlen (place->key));
  g_free (place->key);
  g_free (place->pool);
  g_free (place->space);
  g_free (place->image);
  g_free (place->snapshot);
  g_free (place->user);
  g_free (place->conf);
  g_free (place->monitors);
  g_free (place->auth);
  g_free (place->name);
  tn_options_free (place->settings);
}
