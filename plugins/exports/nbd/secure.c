/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS: until it stands, a server that has credentials answers nothing else. */
#include "server.h"

int
nbd_secure_open (NbdServer *server, const TnOptions *options, GError **error)
{
  const char *credentials = tn_options_get (options, "tls-creds"),
             *authz = tn_options_get (options, "tls-authz");
  if (authz && !credentials)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "tls-authz=%s needs tls-creds: names come with TLS",
                    authz);
  int rc = credentials ? tn_tls_credentials_get (credentials, TN_TLS_SERVER, &server->tls, error) : 0;
  if (rc < 0 || !authz)
    return rc;
  if (!tn_tls_credentials_prove_names (server->tls))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "tls-authz=%s needs tls-creds-x509 with verify-peer=on: the names are those in clients' "
                    "certificates",
                    authz);
  return tn_authz_find (authz, &server->authz, error);
}

bool
nbd_secure_allows (NbdConnection *c, uint32_t option)
{
  if (!c->server->tls || c->channel.secret || option == NBD_OPT_STARTTLS || option == NBD_OPT_ABORT)
    return true;
  if (option == NBD_OPT_EXPORT_NAME)
    nbd_connection_drop (c, "it chose an export without TLS");
  else
    nbd_option_error (c, option, NBD_REP_ERR_TLS_REQD, "this server requires TLS");
  return false;
}

void
nbd_secure_option (NbdConnection *c, size_t length)
{
  if (!c->server->tls) {
    nbd_option_error (c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "TLS has not been set up for this server");
    return;
  }
  if (length || c->channel.secret) {
    nbd_option_error (c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID,
                      length ? "this option takes no data" : "TLS has been started already");
    return;
  }
  /* Bytes that come before the answer would be taken for what TLS protects. */
  if (nbd_connection_available (c)) {
    nbd_connection_drop (c, "it went on talking before TLS had been started");
    return;
  }
  nbd_option_reply (c, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
  c->structured = c->extended = false;
  c->n_contexts = 0;
  c->context_export = NULL;
  c->state = NBD_TLS_HANDSHAKE;
}

/* Whether whom the certificate names may come in. */
static int
check_name (NbdConnection *c, GError **error)
{
  g_autofree char *name = NULL;
  if (!c->server->authz)
    return 0;
  const int rc = tn_tls_peer_name (c->channel.tls, &name, error);
  if (rc < 0)
    return rc;
  if (!name)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "it has no certificate that names it");
  return tn_authz_check (c->server->authz, name, error);
}

void
nbd_secure_work (NbdConnection *c)
{
  g_autoptr (GError) error = NULL;
  c->tls_events = 0;
  if (c->control->len > c->control_sent)
    return;
  int rc = c->channel.tls ? 0 : tn_tls_begin (c->server->tls, c->channel.fd, NULL, &c->channel.tls, &error);
  if (rc == 0)
    rc = tn_tls_handshake (c->channel.tls, &c->tls_events, &error);
  if (rc == -EAGAIN)
    return;
  if (rc < 0) {
    nbd_connection_drop (c, error->message);
    return;
  }
  if (check_name (c, &error) < 0) {
    tn_tls_refuse (c->channel.tls);
    nbd_connection_refuse (c, error->message);
    return;
  }
  c->tls_events = 0;
  c->channel.secret = true;
  c->state = NBD_OPTIONS;
  c->again = true;
}
