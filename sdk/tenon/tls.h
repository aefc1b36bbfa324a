/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/tls.h
 * TLS over a connected socket: `--object tls-creds-x509,id=…` or `tls-creds-psk`, and then `tls-creds=ID`.
 *
 * A provider is a plugin of the kind `tls`, so that its library is mapped only when someone uses TLS.
 * Credentials are read as a whole when they are fetched; afterwards no file is opened.
 */
#ifndef TENON_TLS_H
#define TENON_TLS_H

#include <tenon/option.h>
#include <tenon/plugin.h>

/* ---- What plugins provide ---- */

#define TN_TLS_MAJOR 1
#define TN_TLS_MINOR 1

/** Which end of a connection. */
typedef enum TnTlsEnd { TN_TLS_CLIENT = 1, TN_TLS_SERVER = 2 } TnTlsEnd;

/** The provider ("tls").  Sessions are used by one thread at a time, credentials by many. */
typedef struct TnTlsOps {
  uint32_t size; /**< sizeof (TnTlsOps) */
  uint32_t reserved;
  /** Reads credentials.  @type is "x509" or "psk"; the options are those of the object: `dir`, `priority`,
   * `verify-peer`, `username`, `passwordid`. */
  int (*load) (const char *type, const TnOptions *options, TnTlsEnd end, void **credentials, GError **error);
  void (*unload) (void *credentials);
  /** A session over @fd, which does not wait and stays the caller's.  @hostname: whom a server's certificate
   * has to be for; NULL for a server, and where no certificate is looked at. */
  int (*begin) (void *credentials, int fd, const char *hostname, void **session, GError **error);
  /** 0 when it is done; -EAGAIN: again, when *@events (POLLIN or POLLOUT) has come true. */
  int (*handshake) (void *session, short *events, GError **error);
  /** As readv(2) and writev(2): -errno; 0 of receive() is an end in good order.  After -EAGAIN from send()
   * the same bytes come again first. */
  ssize_t (*receive) (void *session, const struct iovec *iov, unsigned n);
  ssize_t (*send) (void *session, const struct iovec *iov, unsigned n);
  /** Whether bytes have been decrypted that nobody has received. */
  bool (*pending) (void *session);
  /** Says goodbye when that needs no waiting, and frees the session. */
  void (*end) (void *session);
  /** Since 1.1, after the handshake: the name in the certificate of the other side, a distinguished name as
   * GnuTLS writes it, or NULL where no certificate was asked for; g_free() it. */
  int (*peer_name) (void *session, char **name, GError **error);
  /** Since 1.1: tells the other side, as far as that needs no waiting, that it may not come in. */
  void (*refuse) (void *session);
} TnTlsOps;

/* ---- Credentials ---- */

/** What both ends of TLS prove themselves by, and whom they trust. */
typedef struct TnTlsCredentials TnTlsCredentials;
/** One connection. */
typedef struct TnTls TnTls;

/** Remembers the object `tls-creds-x509` or `tls-creds-psk` (@type) with its options.  No file is read yet.
 * An id that is taken is refused. */
TN_API int tn_tls_define (const char *type, const TnOptions *options, GError **error);
/** Reads the credentials called @id for @end, which has to be the object's `endpoint`. */
TN_API int tn_tls_credentials_get (const char *id, TnTlsEnd end, TnTlsCredentials **credentials,
                                   GError **error);
TN_API TnTlsCredentials *tn_tls_credentials_ref (TnTlsCredentials *credentials);
TN_API void tn_tls_credentials_unref (TnTlsCredentials *credentials);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnTlsCredentials, tn_tls_credentials_unref)
/** Whether a client that uses them needs to know the server's name: it checks certificates. */
TN_API bool tn_tls_credentials_need_hostname (const TnTlsCredentials *credentials);

/** Whether whoever connects has proved a name by a certificate. */
TN_API bool tn_tls_credentials_prove_names (const TnTlsCredentials *credentials);

/* ---- Connections: see TnTlsOps ---- */

TN_API int tn_tls_begin (TnTlsCredentials *credentials, int fd, const char *hostname, TnTls **tls,
                         GError **error);
TN_API int tn_tls_handshake (TnTls *tls, short *events, GError **error);
TN_API ssize_t tn_tls_receive (TnTls *tls, const struct iovec *iov, unsigned n);
TN_API ssize_t tn_tls_send (TnTls *tls, const struct iovec *iov, unsigned n);
TN_API bool tn_tls_pending (TnTls *tls);
TN_API int tn_tls_peer_name (TnTls *tls, char **name, GError **error);
TN_API void tn_tls_refuse (TnTls *tls);
TN_API void tn_tls_end (TnTls *tls);

#endif
