/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bytes of a connection go through. */
#ifndef NBD_CHANNEL_H
#define NBD_CHANNEL_H

#include <tenon/error.h>
#include <tenon/tls.h>

typedef struct NbdChannel {
  int fd;
  TnTls *tls;  /* or NULL */
  bool secret; /* its handshake is done: all goes through it */
} NbdChannel;

/* As recvmsg(2) and sendmsg(2) on a socket that does not wait: -errno, -EAGAIN when it would. */
ssize_t nbd_channel_receive (NbdChannel *channel, const struct iovec *iov, unsigned n);
ssize_t nbd_channel_send (NbdChannel *channel, const struct iovec *iov, unsigned n);
/* Whether bytes have been received that the socket knows nothing of any more. */
bool nbd_channel_pending (const NbdChannel *channel);
void nbd_channel_close (NbdChannel *channel);

/* Waits for events (POLLIN, POLLOUT) until @deadline (CLOCK_MONOTONIC, nanoseconds), or until *@cancel (may
 * be NULL) is set: 0, -ETIMEDOUT, -ECANCELED.  These three block the calling thread. */
int nbd_channel_wait (const NbdChannel *channel, short events, int64_t deadline, const int *cancel);
/* Does the handshake of TLS as the client. */
int nbd_channel_start_tls (NbdChannel *channel, TnTlsCredentials *credentials, const char *hostname,
                           int64_t deadline, const int *cancel, GError **error);
/* The whole of it, or an error that says what failed, but not with whom. */
int nbd_channel_read_all (NbdChannel *channel, void *buffer, size_t length, int64_t deadline,
                          const int *cancel, GError **error);
int nbd_channel_write_all (NbdChannel *channel, const void *buffer, size_t length, int64_t deadline,
                           const int *cancel, GError **error);

#endif
