/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls on their way, and what becomes of them when the session is lost. */
#include "iscsi.h"

#include <poll.h>

#define TICK_NS INT64_C (1000000000)
/* A target that has not said a word for so many ticks is asked whether it is there; after so many questions
 * it is taken for gone. */
#define SILENT_TICKS 5
#define MAX_UNANSWERED 3
#define ATTEMPT_NS INT64_C (10000000000)
#define FIRST_PAUSE_NS INT64_C (50000000)
#define LONGEST_PAUSE_NS INT64_C (1000000000)
#define FIRST_BUSY_NS INT64_C (2000000)

static void link_step (IscsiClient *client);
static void link_reconnect (IscsiClient *client);

/* ---- The end of a call ---- */

static void
end_at_home (void *opaque)
{
  IscsiCall *call = opaque;
  call->done (call, call->result);
}

static void
append (IscsiCall **first, IscsiCall **last, IscsiCall *call)
{
  call->next = NULL;
  if (*first)
    (*last)->next = call;
  else
    *first = call;
  *last = call;
}

static void
finish (IscsiCall *call, int result)
{
  IscsiClient *client = call->client;
  if (call->iov && call->iov != call->few)
    g_free (call->iov);
  call->iov = NULL;
  call->result = result;
  append (&client->finished, &client->finished_last, call);
}

/* The last done() may have the node closed: nothing of the client is looked at while they run. */
static void
deliver (IscsiClient *client)
{
  TnLoop *loop = client->loop;
  IscsiCall *call = g_steal_pointer (&client->finished);
  while (call) {
    IscsiCall *next = call->next;
    if (call->home == loop)
      call->done (call, call->result);
    else
      tn_loop_post (call->home, end_at_home, call);
    call = next;
  }
}

static void
fail_all (IscsiClient *client, int result)
{
  IscsiCall *call = g_steal_pointer (&client->waiting);
  while (call) {
    IscsiCall *next = call->next;
    finish (call, result);
    call = next;
  }
  call = g_steal_pointer (&client->busy);
  while (call) {
    IscsiCall *next = call->next;
    finish (call, result);
    call = next;
  }
}

/* ---- Answers ---- */

static void
send_later (IscsiCall *call)
{
  IscsiClient *client = call->client;
  if (++call->busy > ISCSI_MAX_BUSY) {
    finish (call, -EBUSY);
    return;
  }
  call->not_before = tn_clock_ns () + (FIRST_BUSY_NS << call->busy);
  call->next = client->busy;
  client->busy = call;
  int64_t first = call->not_before;
  for (const IscsiCall *at = client->busy; at; at = at->next)
    first = MIN (first, at->not_before);
  tn_timer_set (client->retry, first);
}

static void
answered (struct iscsi_context *context, int status, void *data, void *opaque)
{
  IscsiCall *call = opaque;
  IscsiClient *client = call->client;
  int result;
  client->n_under_way--;
  client->silent_ticks = 0;
  const IscsiVerdict verdict = iscsi_request_judge (call, status, data, &result);
  scsi_free_scsi_task (data);
  if (verdict == ISCSI_VERDICT_DONE) {
    finish (call, result);
  } else if (verdict == ISCSI_VERDICT_AGAIN) {
    send_later (call);
  } else {
    client->lost = true;
    if (call->tries < ISCSI_MAX_TRIES)
      append (&client->waiting, &client->waiting_last, call);
    else
      finish (call, -EIO);
  }
}

static void
capacity_come (struct iscsi_context *context, int status, void *data, void *opaque)
{
  IscsiClient *client = opaque;
  struct scsi_task *task = data;
  const struct scsi_readcapacity16 *capacity =
      status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall (task) : NULL;
  if (capacity && capacity->block_length == client->unit.block
      && capacity->returned_lba < (uint64_t) INT64_MAX / client->unit.block)
    __atomic_store_n (&client->size, (capacity->returned_lba + 1) * client->unit.block, __ATOMIC_RELAXED);
  scsi_free_scsi_task (task);
}

/* ---- Sending ---- */

static void
send_waiting (IscsiClient *client)
{
  while (client->waiting && client->link == ISCSI_LINK_UP && !client->lost) {
    IscsiCall *call = client->waiting;
    client->waiting = call->next;
    call->tries++;
    client->n_under_way++;
    if (iscsi_request_start (call, answered))
      continue;
    client->n_under_way--;
    call->tries < ISCSI_MAX_TRIES ? append (&client->waiting, &client->waiting_last, call)
                                  : finish (call, -EIO);
    client->lost = true;
  }
  if (client->size_stale && client->link == ISCSI_LINK_UP && !client->lost) {
    client->size_stale = false;
    iscsi_readcapacity16_task (client->session->context, client->lun, capacity_come, client);
  }
}

static void
send_busy (void *opaque)
{
  IscsiClient *client = opaque;
  const int64_t now = tn_clock_ns ();
  IscsiCall *call = g_steal_pointer (&client->busy);
  int64_t first = INT64_MAX;
  while (call) {
    IscsiCall *next = call->next;
    if (call->not_before <= now) {
      append (&client->waiting, &client->waiting_last, call);
    } else {
      call->next = client->busy;
      client->busy = call;
      first = MIN (first, call->not_before);
    }
    call = next;
  }
  if (client->busy)
    tn_timer_set (client->retry, first);
  link_step (client);
}

/* ---- The session ---- */

static void link_ready (int fd, short events, void *opaque);

static void
unwatch (IscsiClient *client)
{
  if (client->watched)
    tn_loop_watch_fd (client->loop, client->fd, 0, NULL, NULL, NULL);
  client->watched = 0;
}

static void
watch (IscsiClient *client)
{
  const short events = (short) (iscsi_which_events (client->session->context) | POLLIN);
  if (events == client->watched)
    return;
  if (tn_loop_watch_fd (client->loop, client->fd, events, link_ready, client, NULL) < 0)
    client->lost = true;
  else
    client->watched = events;
}

static void
drop_session (IscsiClient *client)
{
  unwatch (client);
  tn_timer_stop (client->tick);
  client->link = ISCSI_LINK_DOWN;
  iscsi_session_free (g_steal_pointer (&client->session));
  client->lost = false;
}

/* Lets libiscsi write and read, notices a loss, watches for what comes next, and ends what is done.  The
 * client may be gone afterwards. */
static void
link_serve (IscsiClient *client, short events)
{
  send_waiting (client);
  if (client->link == ISCSI_LINK_UP && !client->lost) {
    client->serving = true;
    if (iscsi_session_serve (client->session, events) != 0 || (events & (POLLERR | POLLHUP | POLLNVAL)))
      client->lost = true;
    client->serving = false;
    send_waiting (client);
  }
  if (client->link == ISCSI_LINK_UP && !client->lost)
    watch (client);
  if (client->link == ISCSI_LINK_UP && client->lost)
    drop_session (client);
  if (client->link == ISCSI_LINK_DOWN && client->waiting) {
    if (g_atomic_int_get (&client->cancel))
      fail_all (client, -EIO);
    else
      link_reconnect (client);
  }
  if (client->n_under_way && client->link == ISCSI_LINK_UP && client->silent_ticks == 0) {
    client->silent_ticks = 1;
    tn_timer_set (client->tick, tn_clock_ns () + TICK_NS);
  }
  deliver (client);
}

static void
link_step (IscsiClient *client)
{
  link_serve (client, POLLOUT);
}

static void
link_ready (int fd, short events, void *opaque)
{
  IscsiClient *client = opaque;
  link_serve (client, events);
}

static void
ping_come (struct iscsi_context *context, int status, void *data, void *opaque)
{
}

/* While something is under way: libiscsi's own deadlines, and whether the target is there at all. */
static void
link_tick (void *opaque)
{
  IscsiClient *client = opaque;
  if (client->link != ISCSI_LINK_UP || client->n_under_way == 0) {
    client->silent_ticks = 0;
    return;
  }
  struct iscsi_context *context = client->session->context;
  if (++client->silent_ticks % SILENT_TICKS == 0
      && (iscsi_get_nops_in_flight (context) >= MAX_UNANSWERED
          || iscsi_nop_out_async (context, ping_come, NULL, 0, NULL) != 0))
    client->lost = true;
  tn_timer_set (client->tick, tn_clock_ns () + TICK_NS);
  link_step (client);
}

void
iscsi_link_up (IscsiClient *client, IscsiSession *session)
{
  client->session = session;
  client->fd = iscsi_get_fd (session->context);
  client->link = ISCSI_LINK_UP;
  client->lost = false;
  client->silent_ticks = 0;
  client->n_under_way = 0;
  iscsi_set_timeout (session->context, client->timeout);
  if (!client->tick) {
    client->tick = tn_timer_new (client->loop, link_tick, client);
    client->retry = tn_timer_new (client->loop, send_busy, client);
  }
  watch (client);
}

/* ---- Again ---- */

typedef struct Attempt {
  IscsiClient *client;
  IscsiSession *session;
  IscsiUnit unit;
  int64_t deadline;
  int rc;
} Attempt;

static void
attempt_work (void *opaque)
{
  Attempt *attempt = opaque;
  attempt->session = NULL;
  attempt->rc = iscsi_session_open (attempt->client, &attempt->session, &attempt->unit,
                                    MIN (attempt->deadline, tn_clock_ns () + ATTEMPT_NS), NULL);
}

/* What was promised when the node was opened still holds; the size may be another one by now. */
static bool
is_the_same (const IscsiUnit *was, const IscsiUnit *is)
{
  return was->block == is->block && was->type == is->type && (!is->read_only || was->read_only);
}

static void
reconnect_main (void *opaque)
{
  IscsiClient *client = opaque;
  Attempt attempt = { .client = client, .deadline = tn_clock_ns () + MAX (client->reconnect_ns, 1000000000) };
  int64_t pause = FIRST_PAUSE_NS;
  for (;;) {
    tn_co_work (attempt_work, &attempt);
    if (attempt.rc == 0 || client->reconnect_ns == 0 || g_atomic_int_get (&client->cancel)
        || tn_clock_ns () + pause >= attempt.deadline)
      break;
    tn_co_sleep (pause);
    pause = MIN (pause * 2, LONGEST_PAUSE_NS);
  }
  client->link = ISCSI_LINK_DOWN;
  if (attempt.rc == 0 && is_the_same (&client->unit, &attempt.unit) && !g_atomic_int_get (&client->cancel)) {
    __atomic_store_n (&client->size, attempt.unit.blocks * attempt.unit.block, __ATOMIC_RELAXED);
    iscsi_link_up (client, attempt.session);
  } else {
    if (attempt.rc == 0 && !is_the_same (&client->unit, &attempt.unit))
      client->link = ISCSI_LINK_BROKEN;
    iscsi_session_free (attempt.session);
    fail_all (client, -EIO);
  }
  link_step (client);
}

static void
link_reconnect (IscsiClient *client)
{
  client->link = ISCSI_LINK_CONNECTING;
  tn_co_start (reconnect_main, client);
}

/* ---- From the node ---- */

static void
kicked (void *opaque)
{
  IscsiClient *client = opaque;
  client->kick_posted = false;
  link_step (client);
}

/* Sent a little later, so that what comes together goes together, and never from inside libiscsi. */
static void
submit_here (void *opaque)
{
  IscsiCall *call = opaque;
  IscsiClient *client = call->client;
  if (client->link == ISCSI_LINK_BROKEN)
    finish (call, -EIO);
  else
    append (&client->waiting, &client->waiting_last, call);
  if (client->kick_posted)
    return;
  client->kick_posted = true;
  tn_loop_post (client->loop, kicked, client);
}

void
iscsi_link_submit (IscsiCall *call)
{
  call->home = tn_loop_current ();
  if (call->home == call->client->loop)
    submit_here (call);
  else
    tn_loop_post (call->client->loop, submit_here, call);
}

/* ---- The end ---- */

static void
wait_until_idle (void *opaque)
{
  const IscsiClient *client = opaque;
  while (client->link == ISCSI_LINK_CONNECTING || client->kick_posted)
    tn_co_sleep (1000000);
}

void
iscsi_link_close (IscsiClient *client)
{
  g_atomic_int_set (&client->cancel, 1);
  tn_co_run (wait_until_idle, client);
  if (client->link == ISCSI_LINK_UP) {
    unwatch (client);
    iscsi_session_logout (client->session);
    drop_session (client);
  }
  g_clear_pointer (&client->tick, tn_timer_free);
  g_clear_pointer (&client->retry, tn_timer_free);
}
