/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls on their way, and what becomes of them when the session is lost. */
#include "nfs.h"

#include <poll.h>

#define TICK_NS INT64_C (500000000)
#define ATTEMPT_NS INT64_C (10000000000)
#define FIRST_PAUSE_NS INT64_C (50000000)
#define LONGEST_PAUSE_NS INT64_C (1000000000)

static void link_step (NfsClient *client);
static void link_reconnect (NfsClient *client);
static void start_call (NfsCall *call);

/* ---- The end of a call ---- */

static void
end_at_home (void *opaque)
{
  NfsCall *call = opaque;
  call->done (call, call->result);
}

static void
append (NfsCall **first, NfsCall **last, NfsCall *call)
{
  call->next = NULL;
  if (*first)
    (*last)->next = call;
  else
    *first = call;
  *last = call;
}

static void
finish (NfsCall *call, int result)
{
  NfsClient *client = call->client;
  if (result == 0 && call->kind == NFS_CALL_WRITE && !client->stable)
    client->n_unflushed++;
  call->result = result;
  append (&client->finished, &client->finished_last, call);
}

/* The last done() may have the node closed: nothing of the client is looked at while they run. */
static void
deliver (NfsClient *client)
{
  TnLoop *loop = client->loop;
  NfsCall *call = g_steal_pointer (&client->finished);
  while (call) {
    NfsCall *next = call->next;
    if (call->home == loop)
      call->done (call, call->result);
    else
      tn_loop_post (call->home, end_at_home, call);
    call = next;
  }
}

/* Those whose time is over, or all. */
static void
fail_waiting (NfsClient *client, int result, int64_t before)
{
  NfsCall *call = g_steal_pointer (&client->waiting);
  while (call) {
    NfsCall *next = call->next;
    if (call->deadline <= before)
      finish (call, result);
    else
      append (&client->waiting, &client->waiting_last, call);
    call = next;
  }
}

/* ---- Memory of requests ---- */

static void
scatter (const TnRequest *request, uint64_t skip, const uint8_t *from, uint64_t length)
{
  for (const struct iovec *iov = request->iov; length; iov++) {
    if (skip >= iov->iov_len) {
      skip -= iov->iov_len;
      continue;
    }
    const size_t n = MIN (iov->iov_len - (size_t) skip, length);
    memcpy ((uint8_t *) iov->iov_base + skip, from, n);
    from += n;
    length -= n;
    skip = 0;
  }
}

/* The bytes from @skip on, in one piece; *@copy is to be freed. */
static const void *
gather (const TnRequest *request, uint64_t skip, uint64_t length, void **copy)
{
  const struct iovec *iov = request->iov;
  for (; skip >= iov->iov_len; iov++)
    skip -= iov->iov_len;
  const uint8_t *start = (const uint8_t *) iov->iov_base + skip;
  if (iov->iov_len - skip >= length)
    return start;
  uint8_t *to = *copy = g_malloc (length);
  for (uint64_t have = 0; have < length; iov++) {
    const uint64_t n = MIN (iov->iov_len - skip, length - have);
    memcpy (to + have, (const uint8_t *) iov->iov_base + skip, n);
    have += n;
    skip = 0;
  }
  return *copy;
}

/* ---- Answers ---- */

/* What the server has decided.  All else may come of a session that is no more: an open file that the server
 * has forgotten, a lease that has run out, a connection that was cut. */
static bool
is_final (int errnum)
{
  switch (errnum) {
  case EACCES:
  case EPERM:
  case EROFS:
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
  case EINVAL:
  case EISDIR:
  case ENOENT:
    return true;
  default:
    return false;
  }
}

static void
send_again (NfsCall *call)
{
  NfsClient *client = call->client;
  client->lost = true;
  if (call->tries < NFS_MAX_TRIES)
    append (&client->waiting, &client->waiting_last, call);
  else
    finish (call, -EIO);
}

/* Bytes that were moved: the rest is asked for, too.  None moved: the file has become shorter, or the server
 * does not mean what it says. */
static void
moved (NfsCall *call, uint64_t n)
{
  if (n == 0 || n > call->length - call->moved) {
    finish (call, -EIO);
    return;
  }
  call->moved += n;
  if (call->moved == call->length)
    finish (call, 0);
  else
    start_call (call);
}

static bool
has_ended (NfsCall *call, int result)
{
  NfsClient *client = call->client;
  client->n_under_way--;
  client->heard = tn_clock_ns ();
  if (result >= 0)
    return false;
  if (is_final (-result))
    finish (call, result);
  else
    send_again (call);
  return true;
}

static void
read_come (int result, struct nfs_context *context, void *data, void *opaque)
{
  NfsCall *call = opaque;
  if (has_ended (call, result))
    return;
  if ((uint64_t) result <= call->length - call->moved)
    scatter (call->request, call->moved, data, (uint64_t) result);
  moved (call, (uint64_t) result);
}

static void
write_come (int result, struct nfs_context *context, void *data, void *opaque)
{
  NfsCall *call = opaque;
  if (!has_ended (call, result))
    moved (call, (uint64_t) result);
}

/* Writes that a session took with it, when it was lost, may not be on the disk: the server may have started
 * anew, and libnfs does not tell.  One flush says so. */
static void
flush_come (int result, struct nfs_context *context, void *data, void *opaque)
{
  NfsCall *call = opaque;
  NfsClient *client = call->client;
  if (has_ended (call, result))
    return;
  const bool doubted = client->doubted;
  client->doubted = false;
  client->n_unflushed -= MIN (call->length, client->n_unflushed);
  finish (call, doubted ? -EIO : 0);
}

static void
resize_come (int result, struct nfs_context *context, void *data, void *opaque)
{
  NfsCall *call = opaque;
  if (!has_ended (call, result))
    finish (call, 0);
}

static void
stat_come (int result, struct nfs_context *context, void *data, void *opaque)
{
  NfsCall *call = opaque;
  if (has_ended (call, result))
    return;
  if (data)
    call->offset = ((const struct nfs_stat_64 *) data)->nfs_used;
  finish (call, data ? 0 : -EIO);
}

/* ---- Sending ---- */

/* libnfs 4 has no room for more than 4 KiB in a message of version 4, and says so at once. */
static int
start_write (NfsCall *call)
{
  NfsSession *session = call->client->session;
  g_autofree void *copy = NULL;
  const uint64_t length = MIN (call->length - call->moved, session->max_write);
  const void *bytes = gather (call->request, call->moved, length, &copy);
  const int rc = nfs_pwrite_async (session->context, session->file, call->offset + call->moved, length, bytes,
                                   write_come, call);
  if (rc >= 0 || length <= NFS_SMALL_WRITE)
    return rc;
  session->max_write = NFS_SMALL_WRITE;
  return start_write (call);
}

static int
start_kind (NfsCall *call)
{
  NfsClient *client = call->client;
  const NfsSession *session = client->session;
  switch ((NfsCallKind) call->kind) {
  case NFS_CALL_READ:
    return nfs_pread_async (session->context, session->file, call->offset + call->moved,
                            MIN (call->length - call->moved, session->max_transfer), read_come, call);
  case NFS_CALL_WRITE:
    return start_write (call);
  case NFS_CALL_FLUSH:
    call->length = client->n_unflushed;
    return nfs_fsync_async (session->context, session->file, flush_come, call);
  case NFS_CALL_RESIZE:
    return nfs_ftruncate_async (session->context, session->file, call->offset, resize_come, call);
  case NFS_CALL_STAT:
    return nfs_fstat64_async (session->context, session->file, stat_come, call);
  }
  g_return_val_if_reached (-EINVAL);
}

static void
start_call (NfsCall *call)
{
  NfsClient *client = call->client;
  if (client->session && !client->lost) {
    if (client->n_under_way++ == 0)
      client->heard = tn_clock_ns ();
    if (start_kind (call) >= 0)
      return;
    client->n_under_way--;
  }
  send_again (call);
}

static void
send_waiting (NfsClient *client)
{
  while (client->waiting && client->link == NFS_LINK_UP && !client->lost) {
    NfsCall *call = client->waiting;
    client->waiting = call->next;
    call->tries++;
    if (!call->deadline)
      call->deadline = client->place.timeout_ns
                           ? tn_clock_ns () + client->place.timeout_ns + client->reconnect_ns
                           : INT64_MAX;
    start_call (call);
  }
}

/* ---- The session ---- */

static void link_ready (int fd, short events, void *opaque);

static void
unwatch (NfsClient *client)
{
  if (client->watched)
    tn_loop_watch_fd (client->loop, client->fd, 0, NULL, NULL, NULL);
  client->watched = 0;
}

static void
watch (NfsClient *client)
{
  const short events = (short) (nfs_which_events (client->session->context) | POLLIN);
  if (nfs_get_fd (client->session->context) != client->fd) {
    client->lost = true; /* libnfs has closed its socket */
    return;
  }
  if (events == client->watched)
    return;
  if (tn_loop_watch_fd (client->loop, client->fd, events, link_ready, client, NULL) < 0)
    client->lost = true;
  else
    client->watched = events;
}

/* The calls under way come back from here, to be sent again. */
static void
drop_session (NfsClient *client, bool friendly)
{
  unwatch (client);
  tn_timer_stop (client->tick);
  client->link = NFS_LINK_DOWN;
  nfs_session_free (g_steal_pointer (&client->session), friendly);
  client->lost = false;
  client->doubted = client->doubted || client->n_unflushed > 0;
  client->n_unflushed = 0;
}

static void
link_serve (NfsClient *client, short events)
{
  send_waiting (client);
  if (client->link == NFS_LINK_UP && !client->lost) {
    if (nfs_session_serve (client->session, events) < 0 || (events & (POLLERR | POLLHUP | POLLNVAL)))
      client->lost = true;
    send_waiting (client);
  }
  if (client->link == NFS_LINK_UP && !client->lost)
    watch (client);
  if (client->link == NFS_LINK_UP && client->lost)
    drop_session (client, false);
  if (client->link == NFS_LINK_DOWN && client->waiting) {
    fail_waiting (client, -ETIMEDOUT, tn_clock_ns ());
    if (g_atomic_int_get (&client->cancel))
      fail_waiting (client, -EIO, INT64_MAX);
    else if (client->waiting)
      link_reconnect (client);
  }
  if (client->n_under_way && client->link == NFS_LINK_UP)
    tn_timer_set (client->tick, tn_clock_ns () + TICK_NS);
  deliver (client);
}

static void
link_step (NfsClient *client)
{
  link_serve (client, POLLOUT);
}

static void
link_ready (int fd, short events, void *opaque)
{
  link_serve (opaque, events);
}

/* While something is under way: whether the server is there at all. */
static void
link_tick (void *opaque)
{
  NfsClient *client = opaque;
  if (client->link != NFS_LINK_UP || client->n_under_way == 0)
    return;
  if (client->place.timeout_ns && tn_clock_ns () - client->heard > client->place.timeout_ns)
    client->lost = true;
  link_step (client);
}

void
nfs_link_up (NfsClient *client, NfsSession *session)
{
  client->session = session;
  client->fd = nfs_get_fd (session->context);
  client->link = NFS_LINK_UP;
  client->lost = false;
  client->n_under_way = 0;
  if (!client->tick)
    client->tick = tn_timer_new (client->loop, link_tick, client);
  watch (client);
}

/* ---- Again ---- */

typedef struct Attempt {
  NfsClient *client;
  NfsSession *session;
  int64_t deadline;
  int rc;
} Attempt;

static void
attempt_work (void *opaque)
{
  Attempt *attempt = opaque;
  NfsClient *client = attempt->client;
  const NfsOpenHow how = !client->writes ? NFS_OPEN_READ : client->stable ? NFS_OPEN_STABLE : NFS_OPEN_WRITE;
  attempt->session = NULL;
  attempt->rc =
      nfs_session_open (&client->place, how, &client->cancel,
                        MIN (attempt->deadline, tn_clock_ns () + ATTEMPT_NS), &attempt->session, NULL);
}

/* A file that has become shorter is not the one that was opened. */
static bool
is_the_same (const NfsClient *client, const NfsSession *session)
{
  return client->writes || session->size == tn_node_size (client->node);
}

static void
reconnect_main (void *opaque)
{
  NfsClient *client = opaque;
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
  client->link = NFS_LINK_DOWN;
  if (attempt.rc == 0 && is_the_same (client, attempt.session) && !g_atomic_int_get (&client->cancel)) {
    nfs_link_up (client, attempt.session);
  } else {
    nfs_session_free (attempt.session, false);
    fail_waiting (client, attempt.rc == 0 ? -ESTALE : -EIO, INT64_MAX);
  }
  link_step (client);
}

static void
link_reconnect (NfsClient *client)
{
  client->link = NFS_LINK_CONNECTING;
  tn_co_start (reconnect_main, client);
}

/* ---- From the node ---- */

static void
kicked (void *opaque)
{
  NfsClient *client = opaque;
  client->kick_posted = false;
  link_step (client);
}

/* Sent a little later, so that what comes together goes together, and never from inside libnfs. */
static void
submit_here (void *opaque)
{
  NfsCall *call = opaque;
  NfsClient *client = call->client;
  append (&client->waiting, &client->waiting_last, call);
  if (client->kick_posted)
    return;
  client->kick_posted = true;
  tn_loop_post (client->loop, kicked, client);
}

void
nfs_link_submit (NfsCall *call)
{
  call->home = tn_loop_current ();
  if (call->home == call->client->loop)
    submit_here (call);
  else
    tn_loop_post (call->client->loop, submit_here, call);
}

static void
wake_waiter (NfsCall *call, int result)
{
  tn_co_wake (call->opaque);
}

static void
submit_and_wait (void *opaque)
{
  NfsCall *call = opaque;
  call->done = wake_waiter;
  call->opaque = tn_co_self ();
  nfs_link_submit (call);
  tn_co_yield ();
}

int
nfs_link_run (NfsCall *call)
{
  tn_co_run (submit_and_wait, call);
  return call->result;
}

/* ---- The end ---- */

static void
wait_until_idle (void *opaque)
{
  const NfsClient *client = opaque;
  while (client->link == NFS_LINK_CONNECTING || client->kick_posted)
    tn_co_sleep (1000000);
}

void
nfs_link_close (NfsClient *client)
{
  g_atomic_int_set (&client->cancel, 1);
  tn_co_run (wait_until_idle, client);
  if (client->link == NFS_LINK_UP)
    drop_session (client, true);
  g_clear_pointer (&client->tick, tn_timer_free);
}
