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

static void
end_call (NbdCall *call, int result)
{
  call->result = result;
  if (call->home == call->client->loop)
    call->done (call, result);
  else
    tn_loop_post (call->home, end_at_home, call);
}

void
nbd_line_end_call (NbdLine *line, unsigned slot)
{
  NbdCall *call = g_steal_pointer (&line->slots[slot].call);
  line->free_slots[line->n_free++] = (uint8_t) slot;
  line->n_calls--;
  end_call (call, call->result);
}

/* All of a list that no line knows any more. */
static void
fail_calls (NbdCall *call, int result)
{
  while (call) {
    NbdCall *next = call->next;
    end_call (call, result);
    call = next;
  }
}

static void
append_waiting (NbdLine *line, NbdCall *call)
{
  call->next = NULL;
  if (line->waiting)
    line->waiting_last->next = call;
  else
    line->waiting = call;
  line->waiting_last = call;
}

void
nbd_line_fail_waiting (NbdLine *line, int result)
{
  NbdCall *first = line->waiting;
  for (const NbdCall *call = first; call; call = call->next)
    line->n_calls--;
  line->waiting = line->waiting_last = NULL;
  fail_calls (first, result);
}

/* ---- Sending ---- */

static unsigned
slot_of (const NbdCall *call)
{
  return (unsigned) (call->header.cookie & 0xff);
}

/* Waiting calls get a slot and a header. */
static void
take_slots (NbdLine *line)
{
  while (line->waiting && line->n_free) {
    NbdCall *call = line->waiting;
    const unsigned slot = line->free_slots[--line->n_free];
    line->waiting = call->next;
    call->next = NULL;
    line->slots[slot].call = call;
    call->header.cookie = (uint64_t) ++line->slots[slot].uses << 8 | slot;
    call->covered = 0;
    call->result = 0;
    call->answered = false;
    call->tries++;
    nbd_put_request (line->heads[slot], line->client->offer.extended, &call->header);
    if (line->sending)
      line->sending_last->next = call;
    else
      line->sending = call;
    line->sending_last = call;
  }
}

static bool
has_data (const NbdCall *call)
{
  return call->header.type == NBD_CMD_WRITE;
}

static size_t
size_of (const NbdLine *line, const NbdCall *call)
{
  return nbd_request_size (line->client->offer.extended) + (has_data (call) ? call->header.length : 0);
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
gather (NbdLine *line, struct iovec *iov)
{
  const size_t head = nbd_request_size (line->client->offer.extended);
  size_t skip = line->sent;
  unsigned n = 0;
  for (const NbdCall *call = line->sending; call && n < IOV_BATCH; call = call->next) {
    add_part (iov, &n, &skip, line->heads[slot_of (call)], head);
    for (uint32_t i = 0; has_data (call) && i < call->request->n_iov && n < IOV_BATCH; i++)
      add_part (iov, &n, &skip, call->request->iov[i].iov_base, call->request->iov[i].iov_len);
  }
  return n;
}

static void
account (NbdLine *line, size_t sent)
{
  line->sent += sent;
  while (line->sending && line->sent >= size_of (line, line->sending)) {
    line->sent -= size_of (line, line->sending);
    line->sending = line->sending->next;
  }
}

/* False: the connection is lost. */
static bool
send_calls (NbdLine *line)
{
  take_slots (line);
  while (line->sending) {
    struct iovec iov[IOV_BATCH];
    const unsigned n = gather (line, iov);
    const ssize_t sent = nbd_channel_send (&line->channel, iov, n);
    if (sent == -EAGAIN)
      return true;
    if (sent < 0)
      return false;
    account (line, (size_t) sent);
  }
  return true;
}

/* ---- The connection ---- */

static void link_ready (int fd, short events, void *opaque);

static void
watch (NbdLine *line)
{
  const short events = POLLIN | (line->sending ? POLLOUT : 0);
  if (events == line->watched)
    return;
  if (tn_loop_watch_fd (line->client->loop, line->channel.fd, events, link_ready, line, NULL) < 0)
    nbd_line_lost (line, false);
  else
    line->watched = events;
}

static void
send_and_watch (NbdLine *line)
{
  if (line->link != NBD_LINK_UP)
    return;
  if (!send_calls (line))
    nbd_line_lost (line, false);
  else
    watch (line);
}

static void
link_ready (int fd, short events, void *opaque)
{
  NbdLine *line = opaque;
  bool broken = false;
  /* An error or a hang-up is found by receiving, too. */
  if ((events & ~POLLOUT) && !nbd_receive (line, &broken)) {
    nbd_line_lost (line, broken);
    return;
  }
  send_and_watch (line);
}

void
nbd_line_up (NbdLine *line)
{
  line->link = NBD_LINK_UP;
  line->sending = line->sending_last = NULL;
  line->sent = 0;
  line->rx.start = line->rx.end = 0;
  line->rx.data = NULL;
  line->watched = 0;
  for (line->n_free = 0; line->n_free < NBD_SLOTS; line->n_free++)
    line->free_slots[line->n_free] = (uint8_t) line->n_free;
  send_and_watch (line);
}

/* Calls under way wait again, those that have been tried too often fail. */
static NbdCall *
requeue (NbdLine *line, bool again)
{
  NbdCall *failed = NULL;
  for (unsigned i = 0; i < NBD_SLOTS; i++) {
    NbdCall *call = g_steal_pointer (&line->slots[i].call);
    if (!call)
      continue;
    if (again && call->tries < NBD_MAX_TRIES) {
      if (call->runs)
        g_array_set_size (call->runs, 0);
      append_waiting (line, call);
      continue;
    }
    call->next = failed;
    failed = call;
    line->n_calls--;
  }
  return failed;
}

void
nbd_line_lost (NbdLine *line, bool broken)
{
  NbdClient *client = line->client;
  if (line->watched)
    tn_loop_watch_fd (client->loop, line->channel.fd, 0, NULL, NULL, NULL);
  line->watched = 0;
  nbd_channel_close (&line->channel);
  line->link = NBD_LINK_DOWN;
  client->broken = client->broken || broken;
  const bool again = !client->broken && client->reconnect_ns > 0 && !g_atomic_int_get (&client->cancel);
  NbdCall *failed = requeue (line, again);
  line->sending = line->sending_last = NULL;
  if (again && line->waiting)
    nbd_line_reconnect (line);
  else if (!again)
    nbd_line_fail_waiting (line, -EIO);
  fail_calls (failed, -EIO);
}

/* ---- Its beginning and end ---- */

NbdLine *
nbd_line_new (NbdClient *client)
{
  NbdLine *line = g_new0 (NbdLine, 1);
  line->client = client;
  line->channel.fd = -1;
  line->rx.buffer = g_malloc (NBD_RX_SIZE);
  return line;
}

void
nbd_line_free (NbdLine *line)
{
  nbd_channel_close (&line->channel);
  g_free (line->rx.buffer);
  g_free (line);
}

/* ---- From the node ---- */

static void
send_posted (void *opaque)
{
  NbdLine *line = opaque;
  line->send_posted = false;
  send_and_watch (line);
}

/* The one with least to do; one that is up, if that makes no difference. */
static NbdLine *
choose_line (const NbdClient *client)
{
  NbdLine *best = client->lines[0];
  for (unsigned i = 1; i < client->n_lines; i++) {
    NbdLine *line = client->lines[i];
    if (line->n_calls < best->n_calls
        || (line->n_calls == best->n_calls && line->link == NBD_LINK_UP && best->link != NBD_LINK_UP))
      best = line;
  }
  return best;
}

/* In the client's own loop.  Sent a little later, so that what comes together goes together. */
static void
submit_here (void *opaque)
{
  NbdCall *call = opaque;
  const NbdClient *client = call->client;
  if (client->broken) {
    end_call (call, -EIO);
    return;
  }
  NbdLine *line = choose_line (client);
  line->n_calls++;
  append_waiting (line, call);
  if (line->link == NBD_LINK_DOWN)
    nbd_line_reconnect (line);
  else if (line->link == NBD_LINK_UP && !line->send_posted) {
    line->send_posted = true;
    tn_loop_post (client->loop, send_posted, line);
  }
}

void
nbd_client_submit (NbdCall *call)
{
  call->home = tn_loop_current ();
  if (call->home == call->client->loop)
    submit_here (call);
  else
    tn_loop_post (call->client->loop, submit_here, call);
}
