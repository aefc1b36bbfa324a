/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls on their way, and what becomes of them when the connection is lost. */
#include "sheepdog.h"

#include <poll.h>

#define SD_IOV_BATCH 64
/* How often the socket is asked before others get their turn. */
#define SD_TURNS 64
#define SD_FIRST_PAUSE_NS INT64_C (50000000)
#define SD_LONGEST_PAUSE_NS INT64_C (1000000000)
#define SD_ATTEMPT_NS INT64_C (10000000000)

static void sd_link_lost (SdClient *client, bool broken);

/* ---- The end of a call ---- */

static void
sd_call_end (SdCall *call, int rc)
{
  call->rc = rc;
  tn_co_wake (call->waiter);
}

static void
sd_call_wait (SdLink *link, SdCall *call)
{
  call->next = NULL;
  if (link->waiting)
    link->waiting_last->next = call;
  else
    link->waiting = call;
  link->waiting_last = call;
}

static void
sd_link_fail_waiting (SdLink *link)
{
  SdCall *call = g_steal_pointer (&link->waiting);
  link->waiting_last = NULL;
  while (call) {
    SdCall *next = call->next;
    sd_call_end (call, -EIO);
    call = next;
  }
}

/* ---- A server that says nothing ---- */

static bool
sd_link_is_busy (const SdLink *link)
{
  return link->waiting || g_hash_table_size (link->flying);
}

static void
sd_link_watch_time (SdClient *client)
{
  if (client->place.timeout_ns && sd_link_is_busy (&client->link))
    tn_timer_set (client->link.tick, client->link.heard + client->place.timeout_ns);
}

static void
sd_link_tick (void *opaque)
{
  SdClient *client = opaque;
  SdLink *link = &client->link;
  if (link->state != SD_LINK_UP || !sd_link_is_busy (link))
    return;
  if (tn_clock_ns () >= link->heard + client->place.timeout_ns)
    sd_link_lost (client, false);
  else
    sd_link_watch_time (client);
}

/* ---- Sending ---- */

static void
sd_add_part (struct iovec *iov, unsigned *n, size_t *skip, const void *base, size_t length)
{
  if (*skip >= length) {
    *skip -= length;
    return;
  }
  iov[(*n)++] = (struct iovec){ (uint8_t *) base + *skip, length - *skip };
  *skip = 0;
}

static unsigned
sd_gather (const SdLink *link, struct iovec *iov)
{
  size_t skip = link->sent;
  unsigned n = 0;
  for (const SdCall *call = link->waiting; call && n + 2 <= SD_IOV_BATCH; call = call->next) {
    sd_add_part (iov, &n, &skip, call->head, SD_HEAD_SIZE);
    if (call->out_length)
      sd_add_part (iov, &n, &skip, call->out, call->out_length);
  }
  return n;
}

/* What has left in full is what the server has to answer. */
static void
sd_account (SdLink *link, size_t sent)
{
  link->sent += sent;
  while (link->waiting && link->sent >= SD_HEAD_SIZE + (size_t) link->waiting->out_length) {
    SdCall *call = link->waiting;
    link->sent -= SD_HEAD_SIZE + (size_t) call->out_length;
    link->waiting = call->next;
    g_hash_table_insert (link->flying, GUINT_TO_POINTER (call->id), call);
  }
}

/* False: the connection is lost. */
static bool
sd_send (SdLink *link)
{
  while (link->waiting) {
    struct iovec iov[SD_IOV_BATCH];
    const unsigned n = sd_gather (link, iov);
    const ssize_t sent = nbd_channel_send (&link->channel, iov, n);
    if (sent == -EAGAIN)
      return true;
    if (sent < 0)
      return false;
    link->heard = tn_clock_ns (); /* it takes what is sent: it is not silent */
    sd_account (link, (size_t) sent);
  }
  return true;
}

static void
sd_call_number (SdLink *link, SdCall *call)
{
  do
    call->id = ++link->last_id;
  while (call->id == 0 || g_hash_table_contains (link->flying, GUINT_TO_POINTER (call->id)));
  call->tries++;
  sd_call_put (call);
}

/* ---- Receiving ---- */

typedef enum SdTaken { SD_TAKEN, SD_LOST, SD_MALFORMED } SdTaken;

static void
sd_answered (SdLink *link, SdCall *call)
{
  link->data = NULL;
  link->head_got = 0;
  sd_call_end (call, 0);
}

static SdTaken
sd_take_head (SdLink *link)
{
  gpointer id = GUINT_TO_POINTER (tn_load_le32 (link->head + 8));
  const uint32_t length = tn_load_le32 (link->head + 12);
  SdCall *call = g_hash_table_lookup (link->flying, id);
  if (!call)
    return SD_MALFORMED;
  const uint32_t result = tn_load_le32 (link->head + 16);
  /* Calls that ask for no data get none, whatever the length says. */
  const uint32_t wanted = call->in_length ? length : 0;
  if (wanted > call->in_length || (result == SD_RES_SUCCESS && wanted != call->in_length))
    return SD_MALFORMED;
  call->result = result;
  memcpy (call->head, link->head, SD_HEAD_SIZE);
  link->data = call;
  link->data_got = 0;
  link->data_length = wanted;
  return SD_TAKEN;
}

/* The next bytes, to where they belong; -EAGAIN when there are none. */
static ssize_t
sd_fill (SdLink *link)
{
  struct iovec iov = { link->head + link->head_got, SD_HEAD_SIZE - link->head_got };
  if (link->data)
    iov = (struct iovec){ (uint8_t *) link->data->in + link->data_got, link->data_length - link->data_got };
  const ssize_t got = nbd_channel_receive (&link->channel, &iov, 1);
  if (got > 0 && link->data)
    link->data_got += (uint32_t) got;
  else if (got > 0)
    link->head_got += (size_t) got;
  return got;
}

static SdTaken
sd_receive (SdLink *link)
{
  for (unsigned turn = 0; turn < SD_TURNS; turn++) {
    const ssize_t got = sd_fill (link);
    if (got == -EAGAIN)
      return SD_TAKEN;
    if (got <= 0)
      return SD_LOST;
    link->heard = tn_clock_ns ();
    if (!link->data && link->head_got == SD_HEAD_SIZE && sd_take_head (link) == SD_MALFORMED)
      return SD_MALFORMED;
    if (link->data && link->data_got == link->data_length) {
      g_hash_table_remove (link->flying, GUINT_TO_POINTER (link->data->id));
      sd_answered (link, link->data);
    }
  }
  return SD_TAKEN;
}

/* ---- The connection ---- */

static void sd_link_ready (int fd, short events, void *opaque);

static void
sd_link_watch (SdClient *client)
{
  SdLink *link = &client->link;
  const short events = POLLIN | (link->waiting ? POLLOUT : 0);
  sd_link_watch_time (client);
  if (events == link->watched)
    return;
  if (tn_loop_watch_fd (client->loop, link->channel.fd, events, sd_link_ready, client, NULL) < 0)
    sd_link_lost (client, false);
  else
    link->watched = events;
}

static void
sd_link_send (SdClient *client)
{
  if (!sd_send (&client->link))
    sd_link_lost (client, false);
  else
    sd_link_watch (client);
}

static void
sd_link_ready (int fd, short events, void *opaque)
{
  SdClient *client = opaque;
  if (client->link.state != SD_LINK_UP)
    return;
  /* An error or a hang-up is found by receiving, too. */
  const SdTaken taken = events & ~POLLOUT ? sd_receive (&client->link) : SD_TAKEN;
  if (taken != SD_TAKEN)
    sd_link_lost (client, taken == SD_MALFORMED);
  else
    sd_link_send (client);
}

void
sd_link_up (SdClient *client, const NbdChannel *channel)
{
  SdLink *link = &client->link;
  if (!link->flying) {
    link->flying = g_hash_table_new (NULL, NULL);
    link->tick = tn_timer_new (client->loop, sd_link_tick, client);
  }
  link->channel = *channel;
  link->state = SD_LINK_UP;
  link->sent = link->head_got = 0;
  link->data = NULL;
  link->heard = tn_clock_ns ();
  for (SdCall *call = link->waiting; call; call = call->next)
    sd_call_number (link, call);
  sd_link_send (client);
}

/* ---- Again ---- */

typedef struct SdAttempt {
  SdSession session;
  int rc;
} SdAttempt;

static void
sd_attempt_work (void *opaque)
{
  SdAttempt *attempt = opaque;
  attempt->rc = sd_session_connect (&attempt->session, NULL);
  if (attempt->rc == 0)
    attempt->rc = sd_session_find (&attempt->session, true, NULL);
  if (attempt->rc < 0)
    nbd_channel_close (&attempt->session.channel);
}

static int
sd_attempt (SdClient *client, NbdChannel *channel)
{
  const int64_t ns = client->place.timeout_ns ? client->place.timeout_ns : SD_ATTEMPT_NS;
  SdAttempt attempt = { .session = { .place = &client->place,
                                     .lock = client->writes,
                                     .deadline = tn_clock_ns () + MIN (ns, SD_ATTEMPT_NS),
                                     .cancel = &client->cancel } };
  tn_co_work (sd_attempt_work, &attempt);
  if (attempt.rc < 0)
    return attempt.rc;
  /* Another disk of that name, or a snapshot was made meanwhile: the calls that wait are not for it. */
  if (attempt.session.inode.vdi_id != client->inode.vdi_id) {
    nbd_channel_close (&attempt.session.channel);
    return -EPROTO;
  }
  *channel = attempt.session.channel;
  return 0;
}

static void
sd_reconnect_main (void *opaque)
{
  SdClient *client = opaque;
  const int64_t deadline = tn_clock_ns () + client->reconnect_ns;
  int64_t pause = SD_FIRST_PAUSE_NS;
  NbdChannel channel = { .fd = -1 };
  int rc = sd_attempt (client, &channel);
  while (rc < 0 && rc != -EPROTO && tn_clock_ns () + pause < deadline
         && !g_atomic_int_get (&client->cancel)) {
    tn_co_sleep (pause);
    pause = MIN (pause * 2, SD_LONGEST_PAUSE_NS);
    rc = sd_attempt (client, &channel);
  }
  if (rc == 0) {
    sd_link_up (client, &channel);
    return;
  }
  client->broken = client->broken || rc == -EPROTO;
  client->link.state = SD_LINK_DOWN;
  sd_link_fail_waiting (&client->link);
}

static void
sd_link_reconnect (SdClient *client)
{
  client->link.state = SD_LINK_CONNECTING;
  tn_co_start (sd_reconnect_main, client);
}

/* What the server has not answered waits again; what has been tried too often fails. */
static void
sd_requeue (SdLink *link, bool again)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, link->flying);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    SdCall *call = value;
    g_hash_table_iter_remove (&iter);
    if (again && call->tries < SD_MAX_TRIES)
      sd_call_wait (link, call);
    else
      sd_call_end (call, -EIO);
  }
}

static void
sd_link_lost (SdClient *client, bool broken)
{
  SdLink *link = &client->link;
  if (link->watched)
    tn_loop_watch_fd (client->loop, link->channel.fd, 0, NULL, NULL, NULL);
  link->watched = 0;
  nbd_channel_close (&link->channel);
  link->state = SD_LINK_DOWN;
  link->data = NULL;
  tn_timer_stop (link->tick);
  client->broken = client->broken || broken;
  const bool again = !client->broken && client->reconnect_ns > 0 && !g_atomic_int_get (&client->cancel);
  sd_requeue (link, again);
  if (!again)
    sd_link_fail_waiting (link);
  else if (link->waiting)
    sd_link_reconnect (client);
}

int
sd_link_call (SdClient *client, SdCall *call)
{
  SdLink *link = &client->link;
  if (client->broken || g_atomic_int_get (&client->cancel))
    return -EIO;
  if (!sd_link_is_busy (link))
    link->heard = tn_clock_ns ();
  call->waiter = tn_co_self ();
  call->tries = 0;
  sd_call_wait (link, call);
  if (link->state == SD_LINK_UP) {
    sd_call_number (link, call);
    sd_link_send (client);
  } else if (link->state == SD_LINK_DOWN) {
    sd_link_reconnect (client);
  }
  tn_co_yield ();
  return call->rc < 0 ? call->rc : -sd_result_errno (call->result);
}

/* ---- From elsewhere ---- */

typedef struct SdTask {
  SdClient *client;
  int (*work) (SdClient *client, void *opaque);
  void *opaque;
  TnCoroutine *waiter;
  int rc;
} SdTask;

static void
sd_task_main (void *opaque)
{
  SdTask *task = opaque;
  task->rc = task->work (task->client, task->opaque);
  tn_co_wake (task->waiter);
}

static void
sd_task_start (void *opaque)
{
  tn_co_start (sd_task_main, opaque);
}

static void
sd_task_wait (void *opaque)
{
  SdTask *task = opaque;
  task->waiter = tn_co_self ();
  tn_loop_post (task->client->loop, sd_task_start, task);
  tn_co_yield ();
}

int
sd_link_run (SdClient *client, int (*work) (SdClient *client, void *opaque), void *opaque)
{
  SdTask task = { .client = client, .work = work, .opaque = opaque };
  tn_co_run (sd_task_wait, &task);
  return task.rc;
}

/* ---- The end ---- */

static void
sd_wait_connecting (void *opaque)
{
  const SdClient *client = opaque;
  while (client->link.state == SD_LINK_CONNECTING)
    tn_co_sleep (1000000);
}

void
sd_link_close (SdClient *client, NbdChannel *channel)
{
  SdLink *link = &client->link;
  channel->fd = -1;
  g_atomic_int_set (&client->cancel, 1);
  tn_co_run (sd_wait_connecting, client);
  if (link->state == SD_LINK_UP && !sd_link_is_busy (link)) {
    tn_loop_watch_fd (client->loop, link->channel.fd, 0, NULL, NULL, NULL);
    *channel = link->channel;
    link->state = SD_LINK_DOWN;
  } else if (link->state == SD_LINK_UP) {
    sd_link_lost (client, false);
  }
  tn_timer_free (link->tick);
  g_hash_table_unref (link->flying);
}
