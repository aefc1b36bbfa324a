/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The backend for kernels without io_uring: epoll for descriptors, worker threads for files. */
#define _GNU_SOURCE
#include "io/checkers.h"
#include "io/loop-private.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64

typedef struct TnEpoll {
  int fd;
  bool wake_added, no_pwait2;
  /* Found by wait(), not yet dispatched. */
  int next, n_events;
  struct epoll_event events[BATCH];
} TnEpoll;

static TnEpoll *
epoll_of (TnLoop *loop)
{
  TnEpoll *epoll = loop->engine;

  if (G_LIKELY (epoll))
    return epoll;
  epoll = g_new0 (TnEpoll, 1);
  epoll->fd = epoll_create1 (EPOLL_CLOEXEC);
  epoll->no_pwait2 = RUNNING_ON_VALGRIND;
  loop->engine = epoll;
  return epoll;
}

static void
epoll_submit (TnLoop *loop, TnFdOp *op)
{
  tn_fd_op_submit_threads (loop, op);
}

static void
epoll_wait_ns (TnEpoll *epoll, int64_t timeout)
{
  struct timespec time = { timeout / 1000000000, timeout % 1000000000 };
  int64_t ms = timeout / 1000000 + (timeout % 1000000 != 0);

  epoll->next = epoll->n_events = 0;
  if (!epoll->no_pwait2) {
    epoll->n_events =
        epoll_pwait2 (epoll->fd, epoll->events, BATCH, timeout == TN_NEVER ? NULL : &time, NULL);
    if (epoll->n_events >= 0 || (errno != ENOSYS && errno != EPERM))
      return;
    epoll->no_pwait2 = true;
  }
  epoll->n_events =
      epoll_wait (epoll->fd, epoll->events, BATCH, timeout == TN_NEVER ? -1 : (int) MIN (ms, INT_MAX));
}

/* The counter of the wake descriptor is never read: edge triggering reports each write to it. */
static void
add_wake (TnLoop *loop, TnEpoll *epoll)
{
  struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };

  if (!epoll->wake_added)
    epoll->wake_added = epoll_ctl (epoll->fd, EPOLL_CTL_ADD, tn_loop_event_fd (loop), &event) == 0;
}

static void
epoll_backend_wait (TnLoop *loop, int64_t timeout)
{
  TnEpoll *epoll = epoll_of (loop);

  add_wake (loop, epoll);
  epoll_wait_ns (epoll, timeout);
}

static void
epoll_flush (TnLoop *loop)
{
  TnEpoll *epoll = loop->engine;

  if (loop->watches && epoll->next >= epoll->n_events)
    epoll_wait_ns (epoll, 0);
}

/* Without system calls: only what flush() and wait() have found. */
static bool
epoll_reap (TnLoop *loop)
{
  TnEpoll *epoll = loop->engine;
  bool any = false;

  while (epoll && epoll->next < epoll->n_events) {
    struct epoll_event *event = &epoll->events[epoll->next++];
    TnWatch *watch = event->data.ptr;

    if (!watch)
      continue;
    /* The poll(2) and epoll bits that matter here have the same values. */
    tn_watch_deliver (watch, (short) event->events);
    any = true;
  }
  return any;
}

static void
forget_events (TnEpoll *epoll, const TnWatch *watch)
{
  for (int i = epoll->next; i < epoll->n_events; i++)
    if (epoll->events[i].data.ptr == watch)
      epoll->events[i].data.ptr = NULL;
}

static void
epoll_unwatch (TnLoop *loop, TnEpoll *epoll, TnWatch *watch)
{
  if (watch->always)
    loop->n_always--;
  else if (watch->armed)
    epoll_ctl (epoll->fd, EPOLL_CTL_DEL, watch->fd, NULL);
  forget_events (epoll, watch);
  tn_watch_drop (loop, watch);
}

static int
epoll_watch (TnLoop *loop, TnWatch *watch)
{
  TnEpoll *epoll = epoll_of (loop);
  struct epoll_event event = { .events = (uint32_t) watch->events, .data.ptr = watch };

  if (!watch->events) {
    epoll_unwatch (loop, epoll, watch);
    return 0;
  }
  if (watch->always || watch->armed == watch->events)
    return 0;
  if (epoll_ctl (epoll->fd, watch->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &event) == 0) {
    watch->armed = watch->events;
    return 0;
  }
  if (errno != EPERM)
    return -errno;
  watch->always = true;
  loop->n_always++;
  return 0;
}

static bool
epoll_found (TnLoop *loop)
{
  TnEpoll *epoll = loop->engine;

  return epoll && epoll->next < epoll->n_events;
}

static int
epoll_attach (TnLoop *loop)
{
  return epoll_of (loop)->fd;
}

static void
epoll_notify (TnLoop *loop, bool on)
{
}

static void
epoll_free (TnLoop *loop)
{
  TnEpoll *epoll = g_steal_pointer (&loop->engine);

  if (!epoll)
    return;
  if (epoll->fd >= 0)
    close (epoll->fd);
  g_free (epoll);
}

const TnBackend tn_backend_epoll = {
  .kind = TN_LOOP_EPOLL,
  .submit = epoll_submit,
  .flush = epoll_flush,
  .wait = epoll_backend_wait,
  .reap = epoll_reap,
  .found = epoll_found,
  .watch = epoll_watch,
  .attach = epoll_attach,
  .notify = epoll_notify,
  .free = epoll_free,
};
