/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection. */
#include "gnutls.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <poll.h>

#define RECORD 16384

typedef struct Session {
  gnutls_session_t tls;
  bool established;
  bool unsent;         /* a record has been made that has not left in full */
  uint8_t out[RECORD]; /* where small pieces become one record */
} Session;

static int
to_errno (ssize_t rc)
{
  switch (rc) {
  case GNUTLS_E_AGAIN:
  case GNUTLS_E_INTERRUPTED:
    return -EAGAIN;
  case GNUTLS_E_FATAL_ALERT_RECEIVED:
    return -EACCES;
  case GNUTLS_E_PUSH_ERROR:
  case GNUTLS_E_PULL_ERROR:
  case GNUTLS_E_PREMATURE_TERMINATION:
    return -ECONNRESET;
  case GNUTLS_E_MEMORY_ERROR:
    return -ENOMEM;
  default:
    return -EPROTO;
  }
}

/* ---- Beginning ---- */

static int
set_up (Session *session, Credentials *credentials, const char *hostname)
{
  const bool server = credentials->end == TN_TLS_SERVER;
  struct in6_addr address;
  int rc = gnutls_priority_set_direct (session->tls, credentials->priority, NULL);
  if (rc == 0 && credentials->x509)
    rc = gnutls_credentials_set (session->tls, GNUTLS_CRD_CERTIFICATE, credentials->x509);
  if (rc == 0 && credentials->psk_client)
    rc = gnutls_credentials_set (session->tls, GNUTLS_CRD_PSK, credentials->psk_client);
  if (rc == 0 && credentials->psk_server)
    rc = gnutls_credentials_set (session->tls, GNUTLS_CRD_PSK, credentials->psk_server);
  if (rc < 0 || !credentials->x509)
    return rc;
  if (server)
    gnutls_certificate_server_set_request (session->tls,
                                           credentials->verify ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_IGNORE);
  if (credentials->verify)
    gnutls_session_set_verify_cert (session->tls, hostname, 0);
  if (!hostname || inet_pton (AF_INET, hostname, &address) == 1
      || inet_pton (AF_INET6, hostname, &address) == 1)
    return 0;
  return gnutls_server_name_set (session->tls, GNUTLS_NAME_DNS, hostname, strlen (hostname));
}

int
session_begin (void *opaque, int fd, const char *hostname, void **result, GError **error)
{
  Credentials *credentials = opaque;
  const unsigned end = credentials->end == TN_TLS_SERVER ? GNUTLS_SERVER : GNUTLS_CLIENT;
  Session *session = g_new (Session, 1);
  session->established = session->unsent = false;
  session->tls = NULL;
  int rc = gnutls_init (&session->tls, end | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
  if (rc == 0)
    rc = set_up (session, credentials, hostname);
  if (rc < 0) {
    session_end (session);
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "TLS cannot be set up: %s", gnutls_strerror (rc));
  }
  gnutls_session_set_ptr (session->tls, credentials);
  gnutls_transport_set_int (session->tls, fd);
  *result = session;
  return 0;
}

static int
fail_handshake (const Session *session, int rc, GError **error)
{
  gnutls_datum_t text = { 0 };
  if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR
      && gnutls_certificate_verification_status_print (gnutls_session_get_verify_cert_status (session->tls),
                                                       GNUTLS_CRT_X509, &text, 0)
             == 0) {
    tn_fail (error, TN_BLOCK_ERROR, EACCES, "TLS: the certificate of the other side is refused: %s",
             g_strchomp ((char *) text.data));
    gnutls_free (text.data);
    return -EACCES;
  }
  if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "TLS: the other side refuses: %s",
                    gnutls_alert_get_name (gnutls_alert_get (session->tls)));
  if (rc == GNUTLS_E_PREMATURE_TERMINATION || rc == GNUTLS_E_PULL_ERROR || rc == GNUTLS_E_PUSH_ERROR)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "TLS: the other side hung up during the handshake: check the credentials of both");
  return tn_fail (error, TN_BLOCK_ERROR, EACCES, "TLS: the handshake failed: %s", gnutls_strerror (rc));
}

/* A certificate that is refused, and the like, is told to the other side. */
static void
send_alert (Session *session, int rc)
{
  gnutls_alert_send_appropriate (session->tls, rc);
}

int
session_handshake (void *opaque, short *events, GError **error)
{
  Session *session = opaque;
  int rc;
  do
    rc = gnutls_handshake (session->tls);
  while (rc < 0 && !gnutls_error_is_fatal (rc) && rc != GNUTLS_E_AGAIN);
  if (rc == GNUTLS_E_AGAIN) {
    *events = gnutls_record_get_direction (session->tls) ? POLLOUT : POLLIN;
    return -EAGAIN;
  }
  if (rc < 0) {
    send_alert (session, rc);
    return fail_handshake (session, rc, error);
  }
  session->established = true;
  return 0;
}

/* ---- Who it is ---- */

static int
name_of (const gnutls_datum_t *certificate, gnutls_datum_t *name)
{
  gnutls_x509_crt_t read = NULL;
  int rc = gnutls_x509_crt_init (&read);
  if (rc < 0)
    return rc;
  rc = gnutls_x509_crt_import (read, certificate, GNUTLS_X509_FMT_DER);
  if (rc == 0)
    rc = gnutls_x509_crt_get_dn2 (read, name);
  gnutls_x509_crt_deinit (read);
  return rc;
}

int
session_peer_name (void *opaque, char **result, GError **error)
{
  const Session *session = opaque;
  unsigned n = 0;
  gnutls_datum_t name = { 0 };
  const gnutls_datum_t *chain = gnutls_certificate_type_get (session->tls) == GNUTLS_CRT_X509
                                    ? gnutls_certificate_get_peers (session->tls, &n)
                                    : NULL;
  if (!chain || n == 0)
    return 0;
  const int rc = name_of (&chain[0], &name);
  if (rc < 0)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "TLS: the name in the certificate cannot be read: %s",
                    gnutls_strerror (rc));
  if (memchr (name.data, '\0', name.size)) {
    gnutls_free (name.data);
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "TLS: the name in the certificate is no text");
  }
  *result = g_strndup ((const char *) name.data, name.size);
  gnutls_free (name.data);
  return 0;
}

void
session_refuse (void *opaque)
{
  const Session *session = opaque;
  gnutls_alert_send (session->tls, GNUTLS_AL_FATAL, GNUTLS_A_ACCESS_DENIED);
}

/* ---- Data ---- */

ssize_t
session_receive (void *opaque, const struct iovec *iov, unsigned n)
{
  Session *session = opaque;
  size_t done = 0, at = 0;
  for (unsigned i = 0; i < n;) {
    if (at == iov[i].iov_len) {
      i++;
      at = 0;
      continue;
    }
    const ssize_t got = gnutls_record_recv (session->tls, (char *) iov[i].iov_base + at, iov[i].iov_len - at);
    if (got <= 0)
      /* An end or an error is met again, once what came before it has been taken. */
      return done ? (ssize_t) done : got == 0 ? 0 : to_errno (got);
    at += (size_t) got;
    done += (size_t) got;
  }
  return (ssize_t) done;
}

/* The next record's worth of @iov from byte @skip on. */
static size_t
fill_record (Session *session, const struct iovec *iov, unsigned n, size_t skip)
{
  size_t length = 0;
  for (unsigned i = 0; i < n && length < RECORD; i++) {
    if (skip >= iov[i].iov_len) {
      skip -= iov[i].iov_len;
      continue;
    }
    const size_t part = MIN (iov[i].iov_len - skip, RECORD - length);
    memcpy (session->out + length, (const char *) iov[i].iov_base + skip, part);
    length += part;
    skip = 0;
  }
  return length;
}

ssize_t
session_send (void *opaque, const struct iovec *iov, unsigned n)
{
  Session *session = opaque;
  size_t done = 0;
  for (;;) {
    const size_t length = session->unsent ? 0 : fill_record (session, iov, n, done);
    if (!session->unsent && length == 0)
      return (ssize_t) done;
    /* Without data: what is left of the last record. */
    const ssize_t sent = gnutls_record_send (session->tls, session->unsent ? NULL : session->out, length);
    if (sent < 0) {
      const int rc = to_errno (sent);
      session->unsent = rc == -EAGAIN;
      return done ? (ssize_t) done : rc;
    }
    session->unsent = false;
    done += (size_t) sent;
  }
}

bool
session_pending (void *opaque)
{
  const Session *session = opaque;
  return gnutls_record_check_pending (session->tls) > 0;
}

void
session_end (void *opaque)
{
  Session *session = opaque;
  if (session->established)
    gnutls_bye (session->tls, GNUTLS_SHUT_WR);
  if (session->tls)
    gnutls_deinit (session->tls);
  explicit_bzero (session->out, sizeof session->out);
  g_free (session);
}
