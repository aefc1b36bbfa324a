/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages on the wire: header, payload, and the descriptors that come along. */
#include "vhost-user.h"

#include <sys/socket.h>
#include <unistd.h>

#define VERSION 1u
#define VERSION_MASK 3u
#define FLAG_REPLY 4u
#define BACKEND_CONFIG_CHANGED 2u

/* ---- Receiving ---- */

static int
take_fds (VuInput *input, struct msghdr *header, GError **error)
{
  bool too_many = header->msg_flags & MSG_CTRUNC;
  for (struct cmsghdr *part = CMSG_FIRSTHDR (header); part; part = CMSG_NXTHDR (header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
      continue;
    const size_t n = (part->cmsg_len - CMSG_LEN (0)) / sizeof (int);
    for (size_t i = 0; i < n; i++) {
      int fd;
      memcpy (&fd, CMSG_DATA (part) + i * sizeof fd, sizeof fd);
      if (input->n_fds < VU_MAX_FDS) {
        input->fds[input->n_fds++] = fd;
      } else {
        close (fd);
        too_many = true;
      }
    }
  }
  return too_many ? tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                             "more than %d file descriptors came with one message", VU_MAX_FDS)
                  : 0;
}

/* Up to @want bytes in all. */
static int
receive_until (VuExport *export, size_t want, GError **error)
{
  VuInput *input = &export->input;
  while (input->have < want) {
    union {
      char bytes[CMSG_SPACE (VU_MAX_FDS * sizeof (int))];
      struct cmsghdr align;
    } control;
    struct iovec iov = { input->bytes + input->have, want - input->have };
    struct msghdr header = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    const ssize_t got = recvmsg (export->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      return 0;
    if (got <= 0)
      return -EPIPE;
    input->have += (size_t) got;
    const int rc = take_fds (input, &header, error);
    if (rc < 0)
      return rc;
  }
  return 1;
}

int
vu_receive (VuExport *export, GError **error)
{
  int rc = receive_until (export, VU_HEADER_SIZE, error);
  if (rc <= 0)
    return rc;
  VuMessage message;
  vu_message (export, &message);
  if ((message.flags & VERSION_MASK) != VERSION || (message.flags & FLAG_REPLY))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has the flags 0x%x", message.request,
                    message.flags);
  if (message.size > VU_MAX_PAYLOAD)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has %u bytes, more than any that is known",
                    message.request, message.size);
  return receive_until (export, VU_HEADER_SIZE + message.size, error);
}

void
vu_message (const VuExport *export, VuMessage *message)
{
  uint32_t head[3];
  memcpy (head, export->input.bytes, sizeof head); /* in the order of this machine, as the protocol has it */
  *message = (VuMessage){ head[0], head[1], head[2], export->input.bytes + VU_HEADER_SIZE };
}

int
vu_take_fd (VuExport *export)
{
  if (export->input.n_fds != 1)
    return -1;
  export->input.n_fds = 0;
  return export->input.fds[0];
}

void
vu_input_clear (VuExport *export)
{
  for (unsigned i = 0; i < export->input.n_fds; i++)
    close (export->input.fds[i]);
  export->input.n_fds = 0;
  export->input.have = 0;
}

/* ---- Sending ---- */

static bool
send_message (int fd, uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
  uint8_t bytes[VU_HEADER_SIZE + VU_MAX_PAYLOAD];
  const uint32_t head[3] = { request, flags, size };
  memcpy (bytes, head, sizeof head);
  if (size)
    memcpy (bytes + sizeof head, payload, size);
  /* A front end waits for each answer, so that there is room for it. */
  return send (fd, bytes, sizeof head + size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) (sizeof head + size);
}

int
vu_reply (VuExport *export, const VuMessage *message, const void *payload, uint32_t size, GError **error)
{
  if (send_message (export->fd, message->request, VERSION | FLAG_REPLY, payload, size))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "the front end does not take its answers");
}

int
vu_reply_u64 (VuExport *export, const VuMessage *message, uint64_t value, GError **error)
{
  return vu_reply (export, message, &value, sizeof value, error);
}

void
vu_tell_config_changed (VuExport *export)
{
  if (export->backend_fd >= 0 && (export->protocol & (1u << VU_PROTOCOL_CONFIG)))
    send_message (export->backend_fd, BACKEND_CONFIG_CHANGED, VERSION, NULL, 0);
}
