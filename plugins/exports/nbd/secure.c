/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS: until it stands, a server that has credentials answers nothing else. */
#include "server.h"

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
  c->tls_events = 0;
  c->channel.secret = true;
  c->state = NBD_OPTIONS;
  c->again = true;
}
