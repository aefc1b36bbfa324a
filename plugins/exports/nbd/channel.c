/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "server.h"

#include <sys/socket.h>
#include <unistd.h>

ssize_t
nbd_channel_receive (NbdChannel *channel, const struct iovec *iov, unsigned n)
{
  struct msghdr message = { .msg_iov = (struct iovec *) iov, .msg_iovlen = n };
  ssize_t got;
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
  do
    sent = sendmsg (channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

bool
nbd_channel_pending (const NbdChannel *channel)
{
  return false;
}

void
nbd_channel_close (NbdChannel *channel)
{
  if (channel->fd >= 0)
    close (channel->fd);
  channel->fd = -1;
}
