/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of units, and the options that they become. */
#include "iscsi.h"

#include <tenon/secret.h>

#define DEFAULT_PORT "3260"
/* What QEMU calls itself: access lists of targets know it. */
#define DEFAULT_INITIATOR "iqn.2008-11.org.linux-kvm"
#define MAX_NAME 223 /* of an iSCSI name, by RFC 7143 */

static int
fail_name (GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EINVAL,
      "this does not name an iSCSI unit: write iscsi://[USER[%%PASSWORD]@]HOST[:PORT]/TARGET/LUN");
}

/* The user name ends at a `%`, which here is no escape. */
static int
parse_user (const char *text, size_t length, TnOptions *options)
{
  g_autofree char *user = g_strndup (text, length);
  char *percent = strchr (user, '%');
  if (percent)
    *percent = '\0';
  if (!*user)
    return -EINVAL;
  tn_options_set (options, "user", user);
  if (percent) {
    tn_options_set (options, "password", percent + 1);
    memset (percent + 1, 0, strlen (percent + 1));
  }
  return 0;
}

static bool
is_number (const char *text, uint64_t most)
{
  char *end;
  if (!g_ascii_isdigit (*text))
    return false;
  errno = 0;
  const uint64_t value = g_ascii_strtoull (text, &end, 10);
  return errno == 0 && *end == '\0' && value <= most;
}

int
iscsi_name_parse (const char *text, TnOptions *options, GError **error)
{
  const char *rest = strstr (text, "://");
  if (!rest)
    return fail_name (error);
  if (g_str_has_prefix (text, "iser://"))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "iSER is not supported: write iscsi://, which reaches the target through TCP");
  rest += 3;
  const size_t authority = strcspn (rest, "/");
  const char *at = g_strrstr_len (rest, (gssize) authority, "@");
  if (at && parse_user (rest, (size_t) (at - rest), options) < 0)
    return fail_name (error);
  const char *host = at ? at + 1 : rest, *slash = rest + authority;
  const char *lun = strrchr (slash, '/');
  if (slash == host || !lun || lun == slash || !is_number (lun + 1, 16383))
    return fail_name (error);
  g_autofree char *portal = g_strndup (host, (gsize) (slash - host));
  g_autofree char *target = g_uri_unescape_segment (slash + 1, lun, NULL);
  if (!target || !*target)
    return fail_name (error);
  tn_options_set (options, "transport", "tcp");
  tn_options_set (options, "portal", portal);
  tn_options_set (options, "target", target);
  tn_options_set (options, "lun", lun + 1);
  return 0;
}

char *
iscsi_name_of (const TnOptions *options)
{
  const char *portal = tn_options_get (options, "portal"), *target = tn_options_get (options, "target"),
             *lun = tn_options_get (options, "lun");
  g_autofree char *escaped = target ? g_uri_escape_string (target, ":", FALSE) : NULL;
  return portal && escaped ? g_strdup_printf ("iscsi://%s/%s/%s", portal, escaped, lun ? lun : "0") : NULL;
}

/* ---- Options ---- */

/* HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT */
static int
read_portal (IscsiClient *client, const char *portal, GError **error)
{
  const char *colon, *end;
  if (*portal == '[') {
    end = strchr (portal, ']');
    if (!end)
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the portal '%s' lacks a closing bracket", portal);
    client->host = g_strndup (portal + 1, (gsize) (end - portal - 1));
    colon = end[1] == ':' ? end + 1 : NULL;
    if (end[1] && !colon)
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the portal '%s' is not HOST[:PORT]", portal);
  } else {
    colon = strchr (portal, ':');
    client->host = colon ? g_strndup (portal, (gsize) (colon - portal)) : g_strdup (portal);
  }
  client->port = g_strdup (colon ? colon + 1 : DEFAULT_PORT);
  if (!*client->host || !is_number (client->port, 65535))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the portal '%s' is not HOST[:PORT]", portal);
  return 0;
}

static int
read_credentials (IscsiClient *client, const TnOptions *options, GError **error)
{
  const char *id = tn_options_get (options, "password-secret"), *plain = tn_options_get (options, "password");
  client->user = g_strdup (tn_options_get (options, "user"));
  if (id && plain)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "give password-secret or a password in the name, not both");
  if (id) {
    size_t length;
    g_autoptr (TnSecret) secret = tn_secret_get (id, error);
    if (!secret)
      return -EINVAL;
    const void *bytes = tn_secret_bytes (secret, &length);
    if (length == 0 || length > MAX_STRING_SIZE || memchr (bytes, '\0', length))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "the secret '%s' is no password: it has to be 1 to %d bytes", id, MAX_STRING_SIZE);
    client->password = g_strndup (bytes, length);
  } else {
    client->password = g_strdup (plain);
  }
  if (client->password && !client->user)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a password needs a user beside it: give user=NAME");
  if ((client->user && strlen (client->user) > MAX_STRING_SIZE)
      || (client->password && strlen (client->password) > MAX_STRING_SIZE))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "user and password have at most %d bytes",
                    MAX_STRING_SIZE);
  return 0;
}

static enum iscsi_header_digest
digest_named (const char *name)
{
  if (g_strcmp0 (name, "crc32c") == 0)
    return ISCSI_HEADER_DIGEST_CRC32C;
  if (g_strcmp0 (name, "none") == 0)
    return ISCSI_HEADER_DIGEST_NONE;
  return g_strcmp0 (name, "crc32c-none") == 0 ? ISCSI_HEADER_DIGEST_CRC32C_NONE
                                              : ISCSI_HEADER_DIGEST_NONE_CRC32C;
}

int
iscsi_name_read_options (IscsiClient *client, const TnOptions *options, GError **error)
{
  const char *portal = tn_options_get (options, "portal"), *target = tn_options_get (options, "target"),
             *initiator = tn_options_get (options, "initiator-name");
  if (!portal || !target)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "an iSCSI unit needs portal=HOST[:PORT] and target=NAME");
  if (!initiator)
    initiator = DEFAULT_INITIATOR;
  if (!*target || strlen (target) > MAX_NAME || !*initiator || strlen (initiator) > MAX_NAME)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "names of targets and initiators have 1 to %d bytes",
                    MAX_NAME);
  int rc = read_portal (client, portal, error);
  if (rc == 0)
    rc = read_credentials (client, options, error);
  if (rc < 0)
    return rc;
  client->target = g_strdup (target);
  client->initiator = g_strdup (initiator);
  client->lun = (int) tn_options_uint (options, "lun");
  client->digest = digest_named (tn_options_get (options, "header-digest"));
  client->timeout = (int) tn_options_uint (options, "timeout");
  client->reconnect_ns = (int64_t) tn_options_uint (options, "reconnect-delay") * 1000000000;
  client->name = g_strdup_printf ("iSCSI target '%s' at %s", target, portal);
  return 0;
}
