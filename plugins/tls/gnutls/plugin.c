/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS by GnuTLS. */
#include "gnutls.h"

static const TnTlsOps tls_ops = {
  .size = sizeof (TnTlsOps),
  .load = credentials_load,
  .unload = credentials_unload,
  .begin = session_begin,
  .handshake = session_handshake,
  .receive = session_receive,
  .send = session_send,
  .pending = session_pending,
  .end = session_end,
  .peer_name = session_peer_name,
  .refuse = session_refuse,
};

static const TnClass tls_class = {
  TN_CLASS_HEAD (TN_KIND_TLS, TN_TLS_MAJOR, TN_TLS_MINOR),
  .name = "tls",
  .summary = "TLS with certificates or shared keys (GnuTLS)",
  .ops = &tls_ops,
};

static const TnClass *const tls_classes[] = { &tls_class, NULL };

TN_PLUGIN_DEFINE (tls_gnutls, .security = TN_SECURITY_HARDENED, .name = "tls-gnutls", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-tls-gnutls", .classes = tls_classes);
