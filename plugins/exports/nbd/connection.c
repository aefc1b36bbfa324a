/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One client: what is received when, and how it ends. */
#include "server.h"

#include <poll.h>
#include <sys/socket.h>

/* How often a connection that always has more receives before others have their turn. */
#define TURNS 4

/* ---- Its end ---- */

static void
free_ops (NbdConnection *c)
{
  while (c->free_ops) {
    NbdOp *op = c->free_ops;
    c->free_ops = op->next;
    nbd_memory_give (c, op->capacity);
    free (op->buffer);
    g_free (op);
  }
}

static void
drop_replies (NbdConnection *c)
{
  while (c->out_first) {
    NbdOp *op = c->out_first;
    c->out_first = op->next;
    nbd_op_recycle (op);
  }
  if (c->payload)
    nbd_op_recycle (g_steal_pointer (&c->payload));
}

static void
unlink_connection (NbdConnection *c)
{
  if (c->prev)
    c->prev->next = c->next;
  else
    c->lane->connections = c->next;
  if (c->next)
    c->next->prev = c->prev;
}

/* Requests under way hold on to it. */
static void
free_if_unused (NbdConnection *c)
{
  if (!c->dead || c->running || c->working || c->posted)
    return;
  NbdLane *lane = c->lane;
  drop_replies (c);
  free_ops (c);
  unlink_connection (c);
  g_byte_array_unref (c->control);
  g_free (c->in);
  g_free (c);
  nbd_lane_check_evictions (lane);
}

static void
drop (NbdConnection *c, TnExportEvent event, const char *why)
{
  if (c->dead)
    return;
  c->dead = true;
  nbd_memory_forget (c);
  if (c->watched)
    tn_loop_watch_fd (c->lane->loop, c->channel.fd, 0, NULL, NULL, NULL);
  g_clear_pointer (&c->deadline, tn_timer_free);
  nbd_channel_close (&c->channel);
  if (why)
    nbd_lane_tell (c->lane, event, c->ever_attached, why);
  nbd_lane_tell (c->lane, TN_EXPORT_DISCONNECTED, c->ever_attached, NULL);
}

void
nbd_connection_drop (NbdConnection *c, const char *why)
{
  drop (c, TN_EXPORT_PEER_ERROR, why);
}

void
nbd_connection_refuse (NbdConnection *c, const char *why)
{
  drop (c, TN_EXPORT_REFUSED, why);
}

/* ---- Receiving ---- */

static void
compact (NbdConnection *c)
{
  const size_t left = nbd_connection_available (c);
  if (left && c->in_start)
    memmove (c->in, c->in + c->in_start, left);
  c->in_start = 0;
  c->in_end = left;
}

/* The data of a large write goes straight to where it belongs. */
static unsigned
receive_into (NbdConnection *c, struct iovec iov[2])
{
  unsigned n = 0;
  compact (c);
  if (c->payload && c->in_end == 0)
    iov[n++] =
        (struct iovec){ c->payload->buffer + c->payload_got, c->payload->header.length - c->payload_got };
  if (c->in_end < NBD_IN_SIZE)
    iov[n++] = (struct iovec){ c->in + c->in_end, NBD_IN_SIZE - c->in_end };
  return n;
}

/* Whether there may be more. */
static bool
receive (NbdConnection *c)
{
  struct iovec iov[2];
  const bool direct = c->payload && nbd_connection_available (c) == 0;
  const unsigned n = receive_into (c, iov);
  if (n == 0)
    return false;
  const ssize_t got = nbd_channel_receive (&c->channel, iov, n);
  if (got == -EAGAIN)
    return false;
  if (got <= 0) {
    nbd_connection_drop (c, NULL);
    return false;
  }
  const size_t to_payload = direct ? MIN ((size_t) got, iov[0].iov_len) : 0;
  c->payload_got += to_payload;
  c->in_end += (size_t) got - to_payload;
  return n == 1 ? (size_t) got == iov[0].iov_len : (size_t) got == iov[0].iov_len + iov[1].iov_len;
}

static bool
wants_input (const NbdConnection *c)
{
  return !c->dead && !c->blocked && c->state != NBD_CLOSING && c->state != NBD_TLS_HANDSHAKE;
}

static void
handle (NbdConnection *c)
{
  while (!c->dead && c->state != NBD_TRANSMISSION && c->state != NBD_CLOSING && nbd_negotiate (c))
    continue;
  while (!c->dead && c->state == NBD_TRANSMISSION && nbd_request_parse (c))
    continue;
}

static void
receive_and_handle (NbdConnection *c, bool readable)
{
  handle (c);
  /* What has been decrypted already wakes nobody. */
  readable = readable || nbd_channel_pending (&c->channel);
  for (unsigned turn = 0; readable && turn < TURNS && wants_input (c); turn++) {
    readable = receive (c) || nbd_channel_pending (&c->channel);
    handle (c);
  }
}

/* ---- Waiting ---- */

static void
ready (int fd, short events, void *opaque)
{
  nbd_connection_work (opaque, (events & POLLIN) != 0);
}

static bool
has_output (const NbdConnection *c)
{
  return c->out_first || c->control->len > c->control_sent;
}

static void
watch (NbdConnection *c)
{
  const short events = (wants_input (c) ? POLLIN : 0) | (has_output (c) ? POLLOUT : 0) | c->tls_events;
  if (events == c->watched)
    return;
  GError *error = NULL;
  if (tn_loop_watch_fd (c->lane->loop, c->channel.fd, events, ready, c, &error) < 0) {
    g_clear_error (&error);
    c->watched = 0;
    nbd_connection_drop (c, "cannot wait for it");
    return;
  }
  c->watched = events;
}

void
nbd_connection_work (NbdConnection *c, bool readable)
{
  if (c->working) {
    c->again = true;
    return;
  }
  c->working = true;
  do {
    c->again = false;
    if (!c->dead)
      receive_and_handle (c, readable);
    if (!c->dead && c->state == NBD_TLS_HANDSHAKE && nbd_reply_flush_control (c))
      nbd_secure_work (c);
    /* Replies that leave make room for what had been blocked. */
    if (!c->dead && nbd_reply_send (c) && c->blocked)
      c->again = true;
    c->blocked = c->blocked && !c->again;
    readable = false;
  } while (c->again && !c->dead);
  c->working = false;
  if (!c->dead && c->state == NBD_CLOSING && !has_output (c) && c->n_ops == 0)
    nbd_connection_drop (c, NULL);
  if (!c->dead)
    watch (c);
  if (wants_input (c) && nbd_channel_pending (&c->channel))
    nbd_connection_work_soon (c);
  free_if_unused (c);
}

static void
posted_work (void *opaque)
{
  NbdConnection *c = opaque;
  c->posted = false;
  nbd_connection_work (c, false);
}

void
nbd_connection_work_soon (NbdConnection *c)
{
  if (c->posted)
    return;
  c->posted = true;
  tn_loop_post (c->lane->loop, posted_work, c);
}

/* ---- Its beginning ---- */

static void
too_slow (void *opaque)
{
  NbdConnection *c = opaque;
  nbd_connection_drop (c, "the negotiation took too long");
  free_if_unused (c);
}

void
nbd_connection_attach (NbdConnection *c, NbdExport *export)
{
  c->export = export;
  c->ever_attached = true;
  c->state = NBD_TRANSMISSION;
  g_clear_pointer (&c->deadline, tn_timer_free);
  nbd_lane_tell (c->lane, TN_EXPORT_ATTACHED, true, NULL);
}

void
nbd_connection_new (NbdLane *lane, int fd)
{
  NbdConnection *c = g_new0 (NbdConnection, 1);
  *c = (NbdConnection){ .server = lane->server,
                        .lane = lane,
                        .next = lane->connections,
                        .channel = { .fd = fd },
                        .state = NBD_CLIENT_FLAGS,
                        .in = g_malloc (NBD_IN_SIZE),
                        .control = g_byte_array_new () };
  if (c->next)
    c->next->prev = c;
  lane->connections = c;
  if (lane->server->handshake_ns) {
    c->deadline = tn_timer_new (lane->loop, too_slow, c);
    tn_timer_set (c->deadline, tn_clock_ns () + lane->server->handshake_ns);
  }
  nbd_negotiate_greet (c);
  nbd_connection_work (c, false);
}
