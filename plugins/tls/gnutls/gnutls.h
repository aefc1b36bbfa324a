/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TLS_GNUTLS_H
#define TLS_GNUTLS_H

#include <gnutls/gnutls.h>
#include <tenon/tls.h>

typedef struct Credentials {
  TnTlsEnd end;
  bool verify;
  char *priority;
  gnutls_certificate_credentials_t x509; /* or NULL */
  gnutls_psk_client_credentials_t psk_client;
  gnutls_psk_server_credentials_t psk_server;
  char *keys; /* keys.psk, for a server; NULL-terminated */
  size_t keys_length;
} Credentials;

/* ---- credentials.c ---- */

int credentials_load (const char *type, const TnOptions *options, TnTlsEnd end, void **credentials,
                      GError **error);
void credentials_unload (void *credentials);

/* ---- session.c ---- */

int session_begin (void *credentials, int fd, const char *hostname, void **session, GError **error);
int session_handshake (void *session, short *events, GError **error);
ssize_t session_receive (void *session, const struct iovec *iov, unsigned n);
ssize_t session_send (void *session, const struct iovec *iov, unsigned n);
bool session_pending (void *session);
void session_end (void *session);
int session_peer_name (void *session, char **name, GError **error);
void session_refuse (void *session);

#endif
