/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Credentials from the folder that the user names.  All of it is read here: later no file can be opened. */
#include "gnutls.h"

#include <tenon/secret.h>

#include <sys/stat.h>

#define MAX_FILE (1 << 20)

static int
fail (int rc, const char *what, const char *path, GError **error)
{
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s '%s': %s", what, path, gnutls_strerror (rc));
}

/* *@text is NULL when the file is not there and need not be. */
static int
read_file (const char *folder, const char *name, bool needed, char **text, size_t *length, GError **error)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  struct stat status;
  *text = NULL;
  if (stat (path, &status) < 0) {
    const int why = errno;
    if (why == ENOENT && !needed)
      return 0;
    return tn_fail_errno (error, TN_OPTION_ERROR, why, "cannot read '%s'", path);
  }
  if (!S_ISREG (status.st_mode) || status.st_size > MAX_FILE)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' is no file of at most 1 MiB", path);
  return g_file_get_contents (path, text, length, error) ? 0 : -EIO;
}

static void
wipe (char *text, size_t length)
{
  if (text)
    explicit_bzero (text, length);
  g_free (text);
}

/* ---- Certificates ---- */

static int
load_trust (Credentials *credentials, const char *folder, GError **error)
{
  g_autofree char *ca = NULL, *crl = NULL;
  size_t ca_length = 0, crl_length = 0;
  const bool needed = credentials->verify || credentials->end == TN_TLS_CLIENT;
  int rc = read_file (folder, "ca-cert.pem", needed, &ca, &ca_length, error);
  if (rc == 0)
    rc = read_file (folder, "ca-crl.pem", false, &crl, &crl_length, error);
  if (rc < 0)
    return rc;
  const gnutls_datum_t ca_data = { (unsigned char *) ca, (unsigned) ca_length },
                       crl_data = { (unsigned char *) crl, (unsigned) crl_length };
  if (ca) {
    rc = gnutls_certificate_set_x509_trust_mem (credentials->x509, &ca_data, GNUTLS_X509_FMT_PEM);
    if (rc <= 0)
      return fail (rc ? rc : GNUTLS_E_NO_CERTIFICATE_FOUND, "the CA certificate in", folder, error);
  }
  if (crl) {
    rc = gnutls_certificate_set_x509_crl_mem (credentials->x509, &crl_data, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
      return fail (rc, "the revocation list in", folder, error);
  }
  return 0;
}

static int
set_key (Credentials *credentials, const char *folder, const gnutls_datum_t *certificate,
         const gnutls_datum_t *key, const char *password_id, GError **error)
{
  g_autoptr (TnSecret) secret = NULL;
  size_t length;
  if (password_id) {
    secret = tn_secret_get (password_id, error);
    if (!secret)
      return -ENOENT;
  }
  /* The bytes of a secret are followed by a zero. */
  const char *password = secret ? tn_secret_bytes (secret, &length) : NULL;
  const int rc = gnutls_certificate_set_x509_key_mem2 (credentials->x509, certificate, key,
                                                       GNUTLS_X509_FMT_PEM, password, 0);
  return rc < 0 ? fail (rc, "the certificate and the key in", folder, error) : 0;
}

static int
load_own (Credentials *credentials, const char *folder, const char *password_id, GError **error)
{
  const bool server = credentials->end == TN_TLS_SERVER;
  g_autofree char *certificate = NULL;
  char *key = NULL;
  size_t certificate_length = 0, key_length = 0;
  int rc = read_file (folder, server ? "server-cert.pem" : "client-cert.pem", server, &certificate,
                      &certificate_length, error);
  if (rc < 0 || !certificate)
    return rc;
  rc = read_file (folder, server ? "server-key.pem" : "client-key.pem", true, &key, &key_length, error);
  if (rc == 0)
    rc = set_key (credentials, folder,
                  &(gnutls_datum_t){ (unsigned char *) certificate, (unsigned) certificate_length },
                  &(gnutls_datum_t){ (unsigned char *) key, (unsigned) key_length }, password_id, error);
  wipe (key, key_length);
  return rc;
}

static int
load_x509 (Credentials *credentials, const char *folder, const TnOptions *options, GError **error)
{
  int rc = gnutls_certificate_allocate_credentials (&credentials->x509);
  if (rc < 0)
    return fail (rc, "credentials from", folder, error);
  rc = load_trust (credentials, folder, error);
  return rc < 0 ? rc : load_own (credentials, folder, tn_options_get (options, "passwordid"), error);
}

/* ---- Keys that both ends know ---- */

/* The key of @user in lines of USER:HEX, or NULL; *@length is that of its digits. */
static const char *
find_key (const char *keys, const char *user, size_t *length)
{
  const size_t name = strlen (user);
  for (const char *line = keys; line; line = strchr (line, '\n')) {
    line += *line == '\n';
    if (strncmp (line, user, name) != 0 || line[name] != ':')
      continue;
    *length = strspn (line + name + 1, "0123456789abcdefABCDEF");
    return line + name + 1;
  }
  return NULL;
}

static int
give_key (gnutls_session_t session, const char *user, gnutls_datum_t *key)
{
  const Credentials *credentials = gnutls_session_get_ptr (session);
  size_t digits = 0;
  const char *found = find_key (credentials->keys, user, &digits);
  if (!found || digits < 2)
    return -1;
  size_t size = digits / 2;
  key->data = gnutls_malloc (size);
  if (!key->data)
    return -1;
  const int rc =
      gnutls_hex_decode (&(gnutls_datum_t){ (unsigned char *) found, (unsigned) digits }, key->data, &size);
  key->size = (unsigned) size;
  return rc < 0 ? -1 : 0;
}

static int
load_client_key (Credentials *credentials, const char *folder, const char *user, GError **error)
{
  size_t digits = 0;
  const char *key = find_key (credentials->keys, user, &digits);
  if (!key || digits < 2)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT,
                    "'%s/keys.psk' has no key for the user '%s': set username", folder, user);
  int rc = gnutls_psk_allocate_client_credentials (&credentials->psk_client);
  if (rc == 0)
    rc = gnutls_psk_set_client_credentials (credentials->psk_client, user,
                                            &(gnutls_datum_t){ (unsigned char *) key, (unsigned) digits },
                                            GNUTLS_PSK_KEY_HEX);
  return rc < 0 ? fail (rc, "the key in", folder, error) : 0;
}

static int
load_psk (Credentials *credentials, const char *folder, const TnOptions *options, GError **error)
{
  const char *user = tn_options_get (options, "username");
  int rc = read_file (folder, "keys.psk", true, &credentials->keys, &credentials->keys_length, error);
  if (rc < 0)
    return rc;
  if (credentials->end == TN_TLS_CLIENT)
    return load_client_key (credentials, folder, user ? user : "qemu", error);
  rc = gnutls_psk_allocate_server_credentials (&credentials->psk_server);
  if (rc < 0)
    return fail (rc, "the keys in", folder, error);
  gnutls_psk_set_server_credentials_function (credentials->psk_server, give_key);
  return 0;
}

/* ---- Both ---- */

int
credentials_load (const char *type, const TnOptions *options, TnTlsEnd end, void **result, GError **error)
{
  const char *folder = tn_options_get (options, "dir"), *priority = tn_options_get (options, "priority");
  const bool psk = strcmp (type, "psk") == 0;
  Credentials *credentials = g_new0 (Credentials, 1);
  credentials->end = end;
  credentials->verify = tn_options_bool (options, "verify-peer");
  credentials->priority =
      g_strconcat (priority ? priority : "NORMAL", psk ? ":+ECDHE-PSK:+DHE-PSK:+PSK" : "", NULL);
  const int rc =
      psk ? load_psk (credentials, folder, options, error) : load_x509 (credentials, folder, options, error);
  if (rc < 0)
    credentials_unload (credentials);
  else
    *result = credentials;
  return rc;
}

void
credentials_unload (void *opaque)
{
  Credentials *credentials = opaque;
  if (credentials->x509)
    gnutls_certificate_free_credentials (credentials->x509);
  if (credentials->psk_client)
    gnutls_psk_free_client_credentials (credentials->psk_client);
  if (credentials->psk_server)
    gnutls_psk_free_server_credentials (credentials->psk_server);
  wipe (credentials->keys, credentials->keys_length);
  g_free (credentials->priority);
  g_free (credentials);
}
