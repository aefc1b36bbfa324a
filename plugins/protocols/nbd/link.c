/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls on their way out, and what becomes of them when the connection is lost. */
#include "client.h"

#include <poll.h>

#define IOV_BATCH 64

/* ---- The end of a call ---- */

static void
end_at_home (void *opaque)
{
  NbdCall *call = opaque;
  call->done (call, call->result);
}

void
nbd_link_end_call (NbdCall *call, int result)
{
  call->result = result;
  if (call->home == call->client->loop)
    call->done (call, result);
  else
    tn_loop_post (call->home, end_at_home, call);
}

static void
append_waiting (NbdClient *client, NbdCall *call)
{
  call->next = NULL;
  if (client->waiting)
    client->waiting_last->next = call;
  else
    client->waiting = call;
  client->waiting_last = call;
}

void
nbd_link_fail_waiting (NbdClient *client, int result)
{
  NbdCall *call = client->waiting;
  client->waiting = client->waiting_last = NULL;
  while (call) {
    NbdCall *next = call->next;
    nbd_link_end_call (call, result);
    call = next;
  }
}

/* ---- Sending ---- */

static unsigned
slot_of (const NbdCall *call)
{
  return (unsigned) (call->header.cookie & 0xff);
}

/* Waiting calls get a slot and a header. */
static void
take_slots (NbdClient *client)
{
  while (client->waiting && client->n_free) {
    NbdCall *call = client->waiting;
    const unsigned slot = client->free_slots[--client->n_free];
    client->waiting = call->next;
    call->next = NULL;
    client->slots[slot].call = call;
    call->header.cookie = (uint64_t) ++client->slots[slot].uses << 8 | slot;
    call->covered = 0;
    call->result = 0;
    call->answered = false;
    call->tries++;
    nbd_put_request (client->heads[slot], client->offer.extended, &call->header);
    if (client->sending)
      client->sending_last->next = call;
    else
      client->sending = call;
    client->sending_last = call;
  }
}

static bool
has_data (const NbdCall *call)
{
  return call->header.type == NBD_CMD_WRITE;
}

static size_t
size_of (const NbdClient *client, const NbdCall *call)
{
  return nbd_request_size (client->offer.extended) + (has_data (call) ? call->header.length : 0);
}

static void
add_part (struct iovec *iov, unsigned *n, size_t *skip, void *base, size_t length)
{
  if (*skip >= length) {
    *skip -= length;
    return;
  }
  iov[(*n)++] = (struct iovec){ (uint8_t *) base + *skip, length - *skip };
  *skip = 0;
}

static unsigned
gather (NbdClient *client, struct iovec *iov)
{
  const size_t head = nbd_request_size (client->offer.extended);
  size_t skip = client->sent;
  unsigned n = 0;
  for (const NbdCall *call = client->sending; call && n < IOV_BATCH; call = call->next) {
    add_part (iov, &n, &skip, client->heads[slot_of (call)], head);
    for (uint32_t i = 0; has_data (call) && i < call->request->n_iov && n < IOV_BATCH; i++)
      add_part (iov, &n, &skip, call->request->iov[i].iov_base, call->request->iov[i].iov_len);
  }
  return n;
}

static void
account (NbdClient *client, size_t sent)
{
  client->sent += sent;
  while (client->sending && client->sent >= size_of (client, client->sending)) {
    client->sent -= size_of (client, client->sending);
    client->sending = client->sending->next;
  }
}

/* False: the connection is lost. */
static bool
send_calls (NbdClient *client)
{
  take_slots (client);
  while (client->sending) {
    struct iovec iov[IOV_BATCH];
    const unsigned n = gather (client, iov);
    const ssize_t sent = nbd_channel_send (&client->channel, iov, n);
    if (sent == -EAGAIN)
      return true;
    if (sent < 0)
      return false;
    account (client, (size_t) sent);
  }
  return true;
}

/* ---- The connection ---- */

static void link_ready (int fd, short events, void *opaque);

static void
watch (NbdClient *client)
{
  const short events = POLLIN | (client->sending ? POLLOUT : 0);
  if (events == client->watched)
    return;
  if (tn_loop_watch_fd (client->loop, client->channel.fd, events, link_ready, client, NULL) < 0)
    nbd_link_lost (client, false);
  else
    client->watched = events;
}

static void
send_and_watch (NbdClient *client)
{
  if (client->link != NBD_LINK_UP)
    return;
  if (!send_calls (client))
    nbd_link_lost (client, false);
  else
    watch (client);
}

static void
link_ready (int fd, short events, void *opaque)
{
  NbdClient *client = opaque;
  bool broken = false;
  /* An error or a hang-up is found by receiving, too. */
  if ((events & ~POLLOUT) && !nbd_receive (client, &broken)) {
    nbd_link_lost (client, broken);
    return;
  }
  send_and_watch (client);
}

void
nbd_link_up (NbdClient *client)
{
  client->link = NBD_LINK_UP;
  client->sending = client->sending_last = NULL;
  client->sent = 0;
  client->rx.start = client->rx.end = 0;
  client->rx.data = NULL;
  client->watched = 0;
  for (client->n_free = 0; client->n_free < NBD_SLOTS; client->n_free++)
    client->free_slots[client->n_free] = (uint8_t) client->n_free;
  send_and_watch (client);
}

void
nbd_link_release (NbdClient *client, unsigned slot)
{
  client->slots[slot].call = NULL;
  client->free_slots[client->n_free++] = (uint8_t) slot;
}

/* Calls under way wait again, those that have been tried too often fail. */
static NbdCall *
requeue (NbdClient *client, bool again)
{
  NbdCall *failed = NULL;
  for (unsigned i = 0; i < NBD_SLOTS; i++) {
    NbdCall *call = g_steal_pointer (&client->slots[i].call);
    if (!call)
      continue;
    if (again && call->tries < NBD_MAX_TRIES) {
      if (call->runs)
        g_array_set_size (call->runs, 0);
      append_waiting (client, call);
      continue;
    }
    call->next = failed;
    failed = call;
  }
  return failed;
}

void
nbd_link_lost (NbdClient *client, bool broken)
{
  if (client->watched)
    tn_loop_watch_fd (client->loop, client->channel.fd, 0, NULL, NULL, NULL);
  client->watched = 0;
  nbd_channel_close (&client->channel);
  client->link = broken ? NBD_LINK_BROKEN : NBD_LINK_DOWN;
  const bool again = !broken && client->reconnect_ns > 0 && !g_atomic_int_get (&client->cancel);
  NbdCall *failed = requeue (client, again);
  client->sending = client->sending_last = NULL;
  if (again && client->waiting)
    nbd_client_reconnect (client);
  else if (!again)
    nbd_link_fail_waiting (client, -EIO);
  while (failed) {
    NbdCall *next = failed->next;
    nbd_link_end_call (failed, -EIO);
    failed = next;
  }
}

/* ---- From the node ---- */

static void
send_posted (void *opaque)
{
  NbdClient *client = opaque;
  client->send_posted = false;
  send_and_watch (client);
}

/* In the client's own loop.  Sent a little later, so that what comes together goes together. */
static void
submit_here (void *opaque)
{
  NbdCall *call = opaque;
  NbdClient *client = call->client;
  if (client->link == NBD_LINK_BROKEN) {
    nbd_link_end_call (call, -EIO);
    return;
  }
  append_waiting (client, call);
  if (client->link == NBD_LINK_DOWN)
    nbd_client_reconnect (client);
  else if (client->link == NBD_LINK_UP && !client->send_posted) {
    client->send_posted = true;
    tn_loop_post (client->loop, send_posted, client);
  }
}

void
nbd_link_submit (NbdCall *call)
{
  call->home = tn_loop_current ();
  if (call->home == call->client->loop)
    submit_here (call);
  else
    tn_loop_post (call->client->loop, submit_here, call);
}
