/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Credentials for TLS by id, and the way to the plugin that knows what to do with them. */
#include <tenon/tls.h>

/* The one class of its kind. */
#define PROVIDER "tls"

typedef struct Definition {
  char *type; /* "x509" or "psk" */
  TnOptions *options;
} Definition;

struct TnTlsCredentials {
  int references; /* atomic */
  const TnTlsOps *ops;
  void *inner;
  bool needs_hostname, proves_names;
};

struct TnTls {
  TnTlsCredentials *credentials;
  void *inner;
};

/* Users refer to them from anywhere, so there is one set per process, as with secrets. */
static GMutex definitions_lock;
static GHashTable *definitions;

/* ---- Definitions ---- */

static const char *const endpoint_choices[] = { "client", "server", NULL };

static const TnOption common_options[] = {
  { "id", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "name to refer to it by" },
  { "dir", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "folder that holds keys and certificates" },
  { "endpoint", TN_OPTION_ENUM, TN_OPTION_OPEN, "client", "end of the connection it is for",
    .choices = endpoint_choices },
  { "verify-peer", TN_OPTION_BOOL, TN_OPTION_OPEN, "on", "the other end has to have a good certificate" },
  { "priority", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "algorithms, as GnuTLS names them" },
  { "username", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "psk, client: name that goes with the key" },
  { "passwordid", TN_OPTION_STRING, TN_OPTION_OPEN, NULL,
    "x509: secret that the private key is encrypted with" },
  { NULL },
};

static void
definition_free (gpointer data)
{
  Definition *definition = data;
  g_free (definition->type);
  tn_options_free (definition->options);
  g_free (definition);
}

static bool
is_known (const char *type)
{
  return strcmp (type, "x509") == 0 || strcmp (type, "psk") == 0;
}

static int
check (const char *type, TnOptions *options, GError **error)
{
  g_autofree char *what = g_strdup_printf ("object 'tls-creds-%s'", type);
  if (!is_known (type))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "--object tls-creds-%s is not supported: use tls-creds-x509 or tls-creds-psk", type);
  if (!tn_options_has (options, "id") || !tn_options_has (options, "dir"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--object tls-creds-%s needs id=NAME and dir=FOLDER",
                    type);
  if (strcmp (type, "psk") != 0 && tn_options_has (options, "username"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "username is an option of --object tls-creds-psk");
  return tn_options_check (options, common_options, sizeof *common_options, TN_OPTION_OPEN, what, error);
}

int
tn_tls_define (const char *object, const TnOptions *options, GError **error)
{
  static const char prefix[] = "tls-creds-";
  const char *type = g_str_has_prefix (object, prefix) ? object + strlen (prefix) : object;
  TnOptions *checked = tn_options_copy (options);
  const int rc = check (type, checked, error);
  if (rc < 0) {
    tn_options_free (checked);
    return rc;
  }
  g_autofree char *id = g_strdup (tn_options_get (checked, "id"));
  Definition *definition = g_new (Definition, 1);
  *definition = (Definition){ g_strdup (type), checked };
  g_mutex_lock (&definitions_lock);
  if (!definitions)
    definitions = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, definition_free);
  const bool taken = g_hash_table_contains (definitions, id);
  if (!taken)
    g_hash_table_insert (definitions, g_strdup (id), definition);
  g_mutex_unlock (&definitions_lock);
  if (!taken)
    return 0;
  definition_free (definition);
  return tn_fail (error, TN_OPTION_ERROR, EEXIST, "there are other TLS credentials called '%s' already", id);
}

/* A copy of what has been defined, or NULL. */
static TnOptions *
find_definition (const char *id, char **type)
{
  TnOptions *options = NULL;
  g_mutex_lock (&definitions_lock);
  const Definition *known = definitions ? g_hash_table_lookup (definitions, id) : NULL;
  if (known) {
    options = tn_options_copy (known->options);
    *type = g_strdup (known->type);
  }
  g_mutex_unlock (&definitions_lock);
  return options;
}

/* ---- Credentials ---- */

static const TnTlsOps *
find_provider (GError **error)
{
  const TnClass *class = tn_class_find (TN_KIND_TLS, PROVIDER, error);
  const TnTlsOps *ops = class ? class->ops : NULL;
  if (!ops
      || (ops->load && ops->unload && ops->begin && ops->handshake && ops->receive && ops->send
          && ops->pending && ops->end))
    return ops;
  tn_fail (error, TN_PLUGIN_ERROR, EINVAL, "the plugin for TLS is incomplete: install a newer package of it");
  return NULL;
}

int
tn_tls_credentials_get (const char *id, TnTlsEnd end, TnTlsCredentials **credentials, GError **error)
{
  g_autofree char *type = NULL;
  g_autoptr (TnOptions) options = find_definition (id, &type);
  const char *wanted = endpoint_choices[end == TN_TLS_SERVER];
  void *inner = NULL;
  if (!options)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT,
                    "there are no TLS credentials '%s': define them with --object "
                    "tls-creds-x509,id=%s,endpoint=%s,dir=FOLDER",
                    id, id, wanted);
  if (strcmp (tn_options_get (options, "endpoint"), wanted) != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the TLS credentials '%s' are for the other end: this is the %s", id, wanted);
  const TnTlsOps *ops = find_provider (error);
  const int rc = ops ? ops->load (type, options, end, &inner, error) : -ENOTSUP;
  if (rc < 0) {
    g_prefix_error (error, "TLS credentials '%s': ", id);
    return rc;
  }
  TnTlsCredentials *made = g_new (TnTlsCredentials, 1);
  *made = (TnTlsCredentials){ .references = 1, .ops = ops, .inner = inner };
  const bool verified = strcmp (type, "x509") == 0 && tn_options_bool (options, "verify-peer");
  made->needs_hostname = verified && end == TN_TLS_CLIENT;
  made->proves_names = verified && end == TN_TLS_SERVER && ops->peer_name;
  *credentials = made;
  return 0;
}

TnTlsCredentials *
tn_tls_credentials_ref (TnTlsCredentials *credentials)
{
  g_atomic_int_inc (&credentials->references);
  return credentials;
}

void
tn_tls_credentials_unref (TnTlsCredentials *credentials)
{
  if (!credentials || !g_atomic_int_dec_and_test (&credentials->references))
    return;
  credentials->ops->unload (credentials->inner);
  g_free (credentials);
}

bool
tn_tls_credentials_need_hostname (const TnTlsCredentials *credentials)
{
  return credentials->needs_hostname;
}

bool
tn_tls_credentials_prove_names (const TnTlsCredentials *credentials)
{
  return credentials->proves_names;
}

/* ---- Connections ---- */

int
tn_tls_begin (TnTlsCredentials *credentials, int fd, const char *hostname, TnTls **tls, GError **error)
{
  void *inner = NULL;
  const int rc = credentials->ops->begin (credentials->inner, fd, hostname, &inner, error);
  if (rc < 0)
    return rc;
  *tls = g_new (TnTls, 1);
  **tls = (TnTls){ tn_tls_credentials_ref (credentials), inner };
  return 0;
}

int
tn_tls_handshake (TnTls *tls, short *events, GError **error)
{
  return tls->credentials->ops->handshake (tls->inner, events, error);
}

ssize_t
tn_tls_receive (TnTls *tls, const struct iovec *iov, unsigned n)
{
  return tls->credentials->ops->receive (tls->inner, iov, n);
}

ssize_t
tn_tls_send (TnTls *tls, const struct iovec *iov, unsigned n)
{
  return tls->credentials->ops->send (tls->inner, iov, n);
}

bool
tn_tls_pending (TnTls *tls)
{
  return tls->credentials->ops->pending (tls->inner);
}

int
tn_tls_peer_name (TnTls *tls, char **name, GError **error)
{
  *name = NULL;
  return tls->credentials->ops->peer_name ? tls->credentials->ops->peer_name (tls->inner, name, error) : 0;
}

void
tn_tls_refuse (TnTls *tls)
{
  if (tls->credentials->ops->refuse)
    tls->credentials->ops->refuse (tls->inner);
}

void
tn_tls_end (TnTls *tls)
{
  if (!tls)
    return;
  tls->credentials->ops->end (tls->inner);
  tn_tls_credentials_unref (tls->credentials);
  g_free (tls);
}
