/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel.h"

#include <tenon/loop.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t
nbd_channel_receive (NbdChannel *channel, const struct iovec *iov, unsigned n)
{
  struct msghdr message = { .msg_iov = (struct iovec *) iov, .msg_iovlen = n };
  ssize_t got;
  if (channel->secret)
    return tn_tls_receive (channel->tls, iov, n);
  do
    got = recvmsg (channel->fd, &message, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

ssize_t
nbd_channel_send (NbdChannel *channel, const struct iovec *iov, unsigned n)
{
  struct msghdr message = { .msg_iov = (struct iovec *) iov, .msg_iovlen = n };
  ssize_t sent;
  if (channel->secret)
    return tn_tls_send (channel->tls, iov, n);
  do
    sent = sendmsg (channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

bool
nbd_channel_pending (const NbdChannel *channel)
{
  return channel->secret && tn_tls_pending (channel->tls);
}

void
nbd_channel_close (NbdChannel *channel)
{
  g_clear_pointer (&channel->tls, tn_tls_end);
  channel->secret = false;
  /* A poll that is under way in a ring may keep the socket open for a while: the other side is told now. */
  if (channel->fd >= 0) {
    shutdown (channel->fd, SHUT_RDWR);
    close (channel->fd);
  }
  channel->fd = -1;
}

/* ---- Blocking ---- */

/* How often *cancel is looked at. */
#define SLICE_MS 100

int
nbd_channel_wait (const NbdChannel *channel, short events, int64_t deadline, const int *cancel)
{
  for (;;) {
    struct pollfd poll_fd = { .fd = channel->fd, .events = events };
    const int64_t left = (deadline - tn_clock_ns ()) / 1000000;
    if (cancel && g_atomic_int_get (cancel))
      return -ECANCELED;
    if (left <= 0)
      return -ETIMEDOUT;
    const int rc = poll (&poll_fd, 1, (int) MIN (left, SLICE_MS));
    if (rc > 0)
      return 0;
    if (rc < 0 && errno != EINTR)
      return -errno;
  }
}

static int
fail_transfer (ssize_t rc, GError **error)
{
  if (rc == 0)
    return tn_fail (error, TN_BLOCK_ERROR, ECONNRESET, "the connection was closed by the other side");
  return tn_fail_errno (error, TN_BLOCK_ERROR, (int) -rc, "the connection failed");
}

int
nbd_channel_read_all (NbdChannel *channel, void *buffer, size_t length, int64_t deadline, const int *cancel,
                      GError **error)
{
  for (size_t done = 0; done < length;) {
    const struct iovec iov = { (char *) buffer + done, length - done };
    ssize_t got = nbd_channel_receive (channel, &iov, 1);
    if (got == -EAGAIN) {
      const int rc = nbd_channel_wait (channel, POLLIN, deadline, cancel);
      if (rc < 0)
        return fail_transfer (rc, error);
      continue;
    }
    if (got <= 0)
      return fail_transfer (got, error);
    done += (size_t) got;
  }
  return 0;
}

int
nbd_channel_write_all (NbdChannel *channel, const void *buffer, size_t length, int64_t deadline,
                       const int *cancel, GError **error)
{
  for (size_t done = 0; done < length;) {
    const struct iovec iov = { (char *) buffer + done, length - done };
    ssize_t sent = nbd_channel_send (channel, &iov, 1);
    if (sent == -EAGAIN) {
      const int rc = nbd_channel_wait (channel, POLLOUT, deadline, cancel);
      if (rc < 0)
        return fail_transfer (rc, error);
      continue;
    }
    if (sent < 0)
      return fail_transfer (sent, error);
    done += (size_t) sent;
  }
  return 0;
}

int
nbd_channel_start_tls (NbdChannel *channel, TnTlsCredentials *credentials, const char *hostname,
                       int64_t deadline, const int *cancel, GError **error)
{
  short events = 0;
  int rc = tn_tls_begin (credentials, channel->fd, hostname, &channel->tls, error);
  if (rc < 0)
    return rc;
  while ((rc = tn_tls_handshake (channel->tls, &events, error)) == -EAGAIN) {
    rc = nbd_channel_wait (channel, events, deadline, cancel);
    if (rc < 0)
      return fail_transfer (rc, error);
  }
  channel->secret = rc == 0;
  return rc;
}
