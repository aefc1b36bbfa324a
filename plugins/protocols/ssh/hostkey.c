/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the server is the one that is meant. */
#include "ssh.h"

/* ---- Hashes ---- */

static int
hash_of (const SshTarget *target, ssh_session session, enum ssh_publickey_hash_type type, char **hex,
         GError **error)
{
  static const char digits[] = "0123456789abcdef";
  ssh_key key = NULL;
  unsigned char *hash = NULL;
  size_t length = 0;
  int rc = ssh_get_server_publickey (session, &key);
  if (rc == SSH_OK)
    rc = ssh_get_publickey_hash (key, type, &hash, &length);
  ssh_key_free (key);
  if (rc != SSH_OK)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "the %s has no host key that can be checked",
                    target->server);
  *hex = g_malloc (2 * length + 1);
  for (size_t i = 0; i < length; i++) {
    (*hex)[2 * i] = digits[hash[i] >> 4];
    (*hex)[2 * i + 1] = digits[hash[i] & 15];
  }
  (*hex)[2 * length] = '\0';
  ssh_clean_pubkey_hash (&hash);
  return 0;
}

/* Colons between the digits, as other programs print them, are allowed. */
static bool
same_hash (const char *hex, const char *given)
{
  for (; *given; given++) {
    if (*given == ':')
      continue;
    if (*hex == '\0' || g_ascii_tolower (*given) != *hex++)
      return false;
  }
  return *hex == '\0';
}

static int
check_hash (const SshTarget *target, ssh_session session, GError **error)
{
  const char *name = tn_options_get (target->options, "host-key-check.type");
  enum ssh_publickey_hash_type type = SSH_PUBLICKEY_HASH_SHA256;
  if (strcmp (name, "md5") == 0)
    type = SSH_PUBLICKEY_HASH_MD5;
  else if (strcmp (name, "sha1") == 0)
    type = SSH_PUBLICKEY_HASH_SHA1;
  g_autofree char *hex = NULL;
  const int rc = hash_of (target, session, type, &hex, error);
  if (rc < 0)
    return rc;
  if (same_hash (hex, tn_options_get (target->options, "host-key-check.hash")))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                  "the %s has another host key than host-key-check.hash says: its %s hash is %s",
                  target->server, name, hex);
}

/* ---- Known hosts ---- */

static int
check_known (const SshTarget *target, ssh_session session, GError **error)
{
  switch (ssh_session_is_known_server (session)) {
  case SSH_KNOWN_HOSTS_OK:
    return 0;
  case SSH_KNOWN_HOSTS_CHANGED:
  case SSH_KNOWN_HOSTS_OTHER:
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "the %s has another host key than the file of known hosts says: it may be another server",
                    target->server);
  case SSH_KNOWN_HOSTS_UNKNOWN:
  case SSH_KNOWN_HOSTS_NOT_FOUND:
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "the %s is not in the file of known hosts: add it with ssh-keyscan, or give its hash "
                    "(host-key-check.mode=hash)",
                    target->server);
  case SSH_KNOWN_HOSTS_ERROR:
    break;
  }
  return tn_fail (error, TN_BLOCK_ERROR, EACCES, "the host key of the %s cannot be checked: %s",
                  target->server, ssh_get_error (session));
}

/* ---- All together ---- */

static int
check_as_told (const SshTarget *target, ssh_session session, GError **error)
{
  const char *mode = tn_options_get (target->options, "host-key-check.mode");
  if (strcmp (mode, "hash") == 0)
    return check_hash (target, session, error);
  return strcmp (mode, "none") == 0 ? 0 : check_known (target, session, error);
}

int
ssh_check_host_key (SshTarget *target, ssh_session session, GError **error)
{
  g_autofree char *hex = NULL;
  int rc = hash_of (target, session, SSH_PUBLICKEY_HASH_SHA256, &hex, error);
  if (rc < 0)
    return rc;
  if (target->pin && strcmp (target->pin, hex) == 0)
    return 0;
  if (target->pin)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "the %s has another host key than before", target->server);
  rc = check_as_told (target, session, error);
  if (rc == 0)
    target->pin = g_steal_pointer (&hex);
  return rc;
}
