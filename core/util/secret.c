/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Secrets by id.  Users refer to them from anywhere, so there is one set per process, as with nodes' names.
 */
#include <tenon/authz.h>
#include <tenon/cipher.h>
#include <tenon/secret.h>
#include <tenon/tls.h>

#include <fcntl.h>
#include <unistd.h>

#include "util/fd.h"

#define MAX_LENGTH (1u << 20)

struct TnSecret {
  size_t length;
  char bytes[];
};

static GMutex secrets_lock;
static GHashTable *secrets;

static TnSecret *
new_secret (size_t length)
{
  TnSecret *secret = tn_secure_new (sizeof (TnSecret) + length + 1);
  secret->length = length;
  return secret;
}

void
tn_secret_free (TnSecret *secret)
{
  tn_secure_free (secret);
}

const void *
tn_secret_bytes (const TnSecret *secret, size_t *length)
{
  *length = secret->length;
  return secret->bytes;
}

/* ---- Where they come from ---- */

static TnSecret *
from_text (const char *text)
{
  size_t length = strlen (text);
  TnSecret *secret = new_secret (length);
  memcpy (secret->bytes, text, length);
  return secret;
}

static TnSecret *
from_file (const char *id, const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    tn_fail_errno (error, TN_OPTION_ERROR, errno, "secret '%s': cannot open '%s'", id, path);
    return NULL;
  }
  TnSecret *secret = new_secret (MAX_LENGTH + 1);
  ssize_t n = tn_fd_read (fd, secret->bytes, MAX_LENGTH + 1);
  close (fd);
  if (n >= 0 && n <= (ssize_t) MAX_LENGTH) {
    TnSecret *fitting = new_secret ((size_t) n);
    memcpy (fitting->bytes, secret->bytes, (size_t) n);
    tn_secret_free (secret);
    return fitting;
  }
  if (n < 0)
    tn_fail_errno (error, TN_OPTION_ERROR, (int) -n, "secret '%s': cannot read '%s'", id, path);
  else
    tn_fail (error, TN_OPTION_ERROR, EFBIG, "secret '%s': '%s' is longer than 1 MiB", id, path);
  tn_secret_free (secret);
  return NULL;
}

static int
base64_value (char c)
{
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = c ? strchr (digits, c) : NULL;
  return at ? (int) (at - digits) : -1;
}

/* In locked memory, unlike GLib's; false when it is not base64. */
static bool
decode_base64 (TnSecret *secret)
{
  uint32_t bits = 0;
  unsigned n_bits = 0, padding = 0;
  size_t out = 0;
  for (size_t i = 0; i < secret->length; i++) {
    char c = secret->bytes[i];
    if (g_ascii_isspace (c))
      continue;
    if (c == '=') {
      padding++;
      continue;
    }
    int value = base64_value (c);
    if (value < 0 || padding)
      return false;
    bits = bits << 6 | (uint32_t) value;
    n_bits += 6;
    if (n_bits < 8)
      continue;
    n_bits -= 8;
    secret->bytes[out++] = (char) (bits >> n_bits);
  }
  bool whole = n_bits == 0 ? padding == 0 : n_bits == 2 ? padding == 1 : n_bits == 4 && padding == 2;
  secret->length = out;
  return whole;
}

static TnSecret *
load (const TnOptions *options, const char *id, GError **error)
{
  const char *file = tn_options_get (options, "file"), *format = tn_options_get (options, "format");
  TnSecret *secret = file ? from_file (id, file, error) : from_text (tn_options_get (options, "data"));
  if (!secret || g_strcmp0 (format, "base64") != 0 || decode_base64 (secret))
    return secret;
  tn_secret_free (secret);
  tn_fail (error, TN_OPTION_ERROR, EINVAL, "secret '%s' is not base64, as format=base64 says", id);
  return NULL;
}

static const char *const format_choices[] = { "raw", "base64", NULL };

static const TnOption secret_options[] = {
  { "id", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "name to refer to it by" },
  { "data", TN_OPTION_STRING, TN_OPTION_OPEN, NULL,
    "the secret itself; others can see it in the process list" },
  { "file", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "file that holds the secret, to its last byte" },
  { "format", TN_OPTION_ENUM, TN_OPTION_OPEN, "raw", "how it is written", .choices = format_choices },
  { "keyid", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "not supported" },
  { "iv", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "not supported" },
  { NULL },
};

static int
check (TnOptions *options, GError **error)
{
  if (!tn_options_has (options, "id"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--object secret needs id=NAME");
  if (tn_options_has (options, "keyid") || tn_options_has (options, "iv"))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "--object secret,keyid= is not supported; give the secret with file=");
  if (tn_options_has (options, "data") == tn_options_has (options, "file"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--object secret needs either file=FILE or data=TEXT");
  return tn_options_check (options, secret_options, sizeof *secret_options, TN_OPTION_OPEN, "object 'secret'",
                           error);
}

/* ---- The set ---- */

static bool
same (const TnSecret *a, const TnSecret *b)
{
  return a->length == b->length && memcmp (a->bytes, b->bytes, a->length) == 0;
}

static int
add (const char *id, TnSecret *secret, GError **error)
{
  g_mutex_lock (&secrets_lock);
  if (!secrets)
    secrets = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) tn_secret_free);
  const TnSecret *known = g_hash_table_lookup (secrets, id);
  bool clash = known && !same (known, secret);
  if (!known)
    g_hash_table_insert (secrets, g_strdup (id), secret);
  g_mutex_unlock (&secrets_lock);
  if (known)
    tn_secret_free (secret);
  return clash ? tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is another secret called '%s' already", id)
               : 0;
}

static void
wipe_data (TnOptions *options)
{
  char *data = (char *) tn_options_get (options, "data");
  if (data)
    explicit_bzero (data, strlen (data));
}

int
tn_secret_define (const TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) checked = tn_options_copy (options);
  int rc = check (checked, error);
  if (rc)
    return rc;
  const char *id = tn_options_get (checked, "id");
  TnSecret *secret = load (checked, id, error);
  wipe_data (checked);
  return secret ? add (id, secret, error) : -EINVAL;
}

static int
define_other (TnOptions *options, GError **error)
{
  g_autofree char *type = g_strdup (tn_options_get (options, "qom-type"));
  tn_options_set (options, "qom-type", NULL);
  return g_str_has_prefix (type, "authz-") ? tn_authz_define (type, options, error)
                                           : tn_tls_define (type, options, error);
}

int
tn_secret_define_object (char *text, GError **error)
{
  if (!*text)
    return 0;
  g_autoptr (TnOptions) options = tn_options_new ();
  int rc = *text == '{' ? tn_options_parse_json (options, text, error)
                        : tn_options_parse (options, text, "qom-type", error);
  if (rc)
    return rc;
  const char *type = tn_options_get (options, "qom-type");
  if (type && (g_str_has_prefix (type, "tls-creds-") || g_str_has_prefix (type, "authz-")))
    return define_other (options, error);
  if (g_strcmp0 (type, "secret") != 0)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "--object '%s' is not supported; 'secret', 'tls-creds-x509', 'tls-creds-psk', "
                    "'authz-simple', 'authz-list', 'authz-listfile' and 'throttle-group' are",
                    type ? type : "");
  tn_options_set (options, "qom-type", NULL);
  rc = tn_secret_define (options, error);
  if (tn_options_has (options, "data"))
    explicit_bzero (text, strlen (text));
  wipe_data (options);
  return rc;
}

void
tn_secrets_clear (void)
{
  g_mutex_lock (&secrets_lock);
  g_clear_pointer (&secrets, g_hash_table_unref);
  g_mutex_unlock (&secrets_lock);
}

TnSecret *
tn_secret_get (const char *id, GError **error)
{
  TnSecret *copy = NULL;
  g_mutex_lock (&secrets_lock);
  const TnSecret *known = secrets ? g_hash_table_lookup (secrets, id) : NULL;
  if (known) {
    copy = new_secret (known->length);
    memcpy (copy->bytes, known->bytes, known->length);
  }
  g_mutex_unlock (&secrets_lock);
  if (!copy)
    tn_fail (error, TN_OPTION_ERROR, ENOENT,
             "there is no secret '%s': define it with --object secret,id=%s,file=FILE", id, id);
  return copy;
}
