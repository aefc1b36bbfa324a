/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loops: what runs in which order, and how other threads reach one. */
#define _GNU_SOURCE
#include "io/loop-private.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How long a loop that can't be woken sleeps, in nanoseconds. */
#define DEAF_TIMEOUT 10000000

/* libtenon is loaded with the program or early, so this fits the static TLS block. */
static __thread TnLoop *current_loop __attribute__ ((tls_model ("initial-exec")));

/* Frees the loop that tn_loop_current() made for a thread which then ended. */
static void
free_at_thread_end (void *loop)
{
  if (current_loop == loop)
    tn_loop_free (loop);
}

static GPrivate thread_end = G_PRIVATE_INIT (free_at_thread_end);

/* ---- Making and ending ---- */

static int
backend_from_environment (TnLoopBackend *backend, GError **error)
{
  const char *name = g_getenv ("TENON_LOOP");

  if (!name || !*name || g_str_equal (name, "auto"))
    return 0;
  if (g_str_equal (name, "uring"))
    *backend = TN_LOOP_URING;
  else if (g_str_equal (name, "epoll"))
    *backend = TN_LOOP_EPOLL;
  else
    return tn_fail (error, TN_IO_ERROR, EINVAL, "TENON_LOOP is '%s': set it to uring, epoll or auto", name);
  return 0;
}

static TnLoop *
loop_create (TnLoopBackend wanted)
{
  TnLoop *loop = g_aligned_alloc0 (1, sizeof *loop, 64);

  atomic_init (&loop->refs, 1);
  atomic_init (&loop->event_fd, -1);
  loop->wanted = wanted;
  loop->direct_left = TN_LOOP_DIRECT_OPS;
  tn_timers_init (&loop->timers);
  current_loop = loop;
  return loop;
}

TnLoop *
tn_loop_new (TnLoopBackend backend, GError **error)
{
  int failed;

  g_return_val_if_fail (!current_loop, NULL);
  if (backend == TN_LOOP_AUTO && backend_from_environment (&backend, error))
    return NULL;
  failed = backend == TN_LOOP_URING ? tn_uring_probe () : 0;
  if (failed) {
    tn_fail_errno (error, TN_IO_ERROR, -failed, "io_uring cannot be used here (TENON_LOOP=epoll can)");
    return NULL;
  }
  return loop_create (backend);
}

TnLoop *
tn_loop_current (void)
{
  TnLoopBackend backend = TN_LOOP_AUTO;

  if (G_LIKELY (current_loop))
    return current_loop;
  /* A misspelt override is reported by tn_loop_new(); here it counts as none. */
  backend_from_environment (&backend, NULL);
  loop_create (backend);
  g_private_set (&thread_end, current_loop);
  return current_loop;
}

bool
tn_loop_is_current (const TnLoop *loop)
{
  return loop == current_loop;
}

void
tn_loop_ref (TnLoop *loop)
{
  atomic_fetch_add (&loop->refs, 1);
}

void
tn_loop_unref (TnLoop *loop)
{
  int event_fd;

  if (atomic_fetch_sub (&loop->refs, 1) != 1)
    return;
  event_fd = atomic_load (&loop->event_fd);
  if (event_fd >= 0)
    close (event_fd);
  tn_timers_free (&loop->timers);
  g_aligned_free (loop);
}

void
tn_loop_free (TnLoop *loop)
{
  if (!loop)
    return;
  tn_loop_detach (loop);
  tn_aio_free (loop);
  if (loop->backend)
    loop->backend->free (loop);
  tn_watches_free (loop);
  if (current_loop == loop)
    current_loop = NULL;
  tn_loop_unref (loop);
}

/* The main thread ends without running thread-specific destructors. */
static void __attribute__ ((destructor)) free_at_process_end (void)
{
  /* Operations may still be under way when a program exits early: they keep what they use. */
  if (current_loop && current_loop->in_flight == 0)
    tn_loop_free (current_loop);
}

/* ---- The backend ---- */

const TnBackend *
tn_loop_ensure_backend (TnLoop *loop)
{
  if (G_LIKELY (loop->backend))
    return loop->backend;
  if (loop->wanted == TN_LOOP_EPOLL || !tn_uring_open (loop))
    loop->backend = &tn_backend_epoll;
  if (loop->source)
    tn_loop_source_add_backend (loop);
  return loop->backend;
}

TnLoopBackend
tn_loop_backend (TnLoop *loop)
{
  if (!loop->backend && loop->wanted != TN_LOOP_AUTO)
    return loop->wanted;
  return tn_loop_ensure_backend (loop)->kind;
}

/* ---- From other threads ---- */

/* -1 when the process has no descriptor left. */
int
tn_loop_event_fd (TnLoop *loop)
{
  int fd = atomic_load (&loop->event_fd);

  if (fd >= 0)
    return fd;
  fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd >= 0)
    atomic_store (&loop->event_fd, fd);
  return fd;
}

/* Pairs with sleep_begin(): either this sees `sleeping`, or the sleeper sees what was published
 * before the call. */
void
tn_loop_wake (TnLoop *loop)
{
  uint64_t one = 1;
  ssize_t written;

  if (!atomic_load (&loop->sleeping) || !atomic_exchange (&loop->sleeping, 0))
    return;
  /* It can only fail when the counter is full, and then the loop is awake. */
  written = write (atomic_load (&loop->event_fd), &one, sizeof one);
  (void) written;
}

static void
push_task (TnLoop *loop, TnLoopTask *task)
{
  TnLoopTask *head = atomic_load_explicit (&loop->inbox, memory_order_relaxed);

  do
    task->next = head;
  while (!atomic_compare_exchange_weak (&loop->inbox, &head, task));
}

/* The task may be what the loop's thread waits for before it frees the loop, so another thread holds
 * on to the loop until it has looked whether to wake it. */
void
tn_loop_post_task (TnLoop *loop, TnLoopTask *task)
{
  if (tn_loop_is_current (loop)) {
    push_task (loop, task);
    return;
  }
  tn_loop_ref (loop);
  push_task (loop, task);
  tn_loop_wake (loop);
  tn_loop_unref (loop);
}

typedef struct Post {
  TnLoopTask task;
  void (*fn) (void *opaque);
  void *opaque;
} Post;

static void
post_run (TnLoopTask *task)
{
  Post post = *(Post *) task;

  g_free (task);
  post.fn (post.opaque);
}

void
tn_loop_post (TnLoop *loop, void (*fn) (void *opaque), void *opaque)
{
  Post *post = g_new (Post, 1);

  *post = (Post){ .task.run = post_run, .fn = fn, .opaque = opaque };
  tn_loop_post_task (loop, &post->task);
}

void
tn_loop_quit (TnLoop *loop)
{
  tn_loop_ref (loop);
  atomic_store (&loop->quit, TN_LOOP_QUIT_ASKED);
  tn_loop_wake (loop);
  tn_loop_unref (loop);
}

bool
tn_loop_has_posts (TnLoop *loop)
{
  return loop->inbox_taken || atomic_load (&loop->inbox);
}

/* The inbox is a stack: newest first. */
static TnLoopTask *
take_inbox (TnLoop *loop)
{
  TnLoopTask *task, *next, *in_order = NULL;

  if (!atomic_load_explicit (&loop->inbox, memory_order_relaxed))
    return NULL;
  for (task = atomic_exchange (&loop->inbox, NULL); task; task = next) {
    next = task->next;
    task->next = in_order;
    in_order = task;
  }
  return in_order;
}

/* What was posted before this call.  Tasks wait in the loop, not on this function's stack, so that an
 * iteration nested in one of them goes on with the rest. */
static bool
run_posts (TnLoop *loop)
{
  TnLoopTask *task;
  bool any = false;

  if (!loop->inbox_taken)
    loop->inbox_taken = take_inbox (loop);
  while ((task = loop->inbox_taken) != NULL) {
    loop->inbox_taken = task->next;
    task->run (task);
    any = true;
  }
  return any;
}

/* ---- In the loop's thread ---- */

void
tn_loop_make_ready (TnLoop *loop, TnLoopTask *task)
{
  task->next = NULL;
  if (loop->ready_tail)
    loop->ready_tail->next = task;
  else
    loop->ready_head = task;
  loop->ready_tail = task;
  loop->n_ready++;
}

/* Those that are ready now, not those that they make ready. */
static bool
run_ready (TnLoop *loop)
{
  bool any = loop->n_ready > 0;

  for (uint32_t left = loop->n_ready; left > 0 && loop->ready_head; left--) {
    TnLoopTask *task = loop->ready_head;

    loop->ready_head = task->next;
    if (!loop->ready_head)
      loop->ready_tail = NULL;
    loop->n_ready--;
    task->run (task);
  }
  return any;
}

static bool
run_local (TnLoop *loop)
{
  bool any = run_posts (loop);

  any |= tn_timers_run (loop);
  any |= tn_fd_op_run_local (loop);
  if (loop->n_always)
    any |= tn_watches_run_always (loop);
  any |= run_ready (loop);
  return any;
}

bool
tn_loop_has_local_work (TnLoop *loop)
{
  return loop->n_ready || loop->held || loop->finished.head || loop->n_always || tn_loop_has_posts (loop);
}

/* How long the loop may wait for its timers, in nanoseconds. */
int64_t
tn_loop_timeout (TnLoop *loop)
{
  int64_t earliest = atomic_load (&loop->timers.earliest);

  if (earliest == TN_NEVER)
    return TN_NEVER;
  return MAX (earliest - tn_clock_ns (), 0);
}

void
tn_loop_flush (TnLoop *loop)
{
  loop->flush_debt = 0;
  if (loop->aio)
    tn_aio_flush (loop);
  if (loop->backend)
    loop->backend->flush (loop);
}

static bool
reap (TnLoop *loop)
{
  return loop->backend && loop->backend->reap (loop);
}

/* A loop without a backend waits for other threads and timers only. */
static void
wait_bare (TnLoop *loop, int64_t timeout)
{
  struct pollfd event = { .fd = atomic_load (&loop->event_fd), .events = POLLIN };
  struct timespec time = { timeout / 1000000000, timeout % 1000000000 };
  uint64_t count;

  if (ppoll (&event, 1, timeout == TN_NEVER ? NULL : &time, NULL) > 0
      && read (event.fd, &count, sizeof count) < 0)
    return;
}

static int64_t
sleep_timeout (TnLoop *loop)
{
  int64_t timeout = tn_loop_timeout (loop);

  /* Nobody can wake a loop that has no descriptor for it. */
  return tn_loop_event_fd (loop) < 0 ? MIN (timeout, DEAF_TIMEOUT) : timeout;
}

/* tn_loop_run() has to look at it, so there is no sleep.  Once only: an iteration nested in a callback may
 * wait for something yet, which may have to be submitted first. */
static bool
was_just_told_to_quit (TnLoop *loop)
{
  uint32_t asked = TN_LOOP_QUIT_ASKED;

  return atomic_compare_exchange_strong (&loop->quit, &asked, TN_LOOP_QUIT_SEEN);
}

static void
loop_sleep (TnLoop *loop)
{
  loop->flush_debt = 0;
  if (loop->aio)
    tn_aio_flush (loop);
  tn_coroutines_trim ();
  tn_loop_event_fd (loop);
  atomic_store (&loop->sleeping, 1);
  if (!tn_loop_has_local_work (loop) && !was_just_told_to_quit (loop)) {
    if (loop->backend)
      loop->backend->wait (loop, sleep_timeout (loop));
    else
      wait_bare (loop, sleep_timeout (loop));
  }
  atomic_store (&loop->sleeping, 0);
}

/* Submissions wait for the sleep that follows, so that one system call both submits and waits; but no
 * longer than an iteration, for there may be no sleep. */
static void
pay_flush_debt (TnLoop *loop)
{
  if (loop->flush_debt++ > 0)
    tn_loop_flush (loop);
}

bool
tn_loop_iterate (TnLoop *loop, bool wait)
{
  bool any = run_local (loop);

  any |= reap (loop);
  any |= run_ready (loop);
  if (any && wait) {
    pay_flush_debt (loop);
    return true;
  }
  if (wait)
    loop_sleep (loop);
  else
    tn_loop_flush (loop);
  any |= reap (loop);
  any |= run_local (loop);
  return any;
}

void
tn_loop_run (TnLoop *loop)
{
  g_return_if_fail (!loop->source);
  while (atomic_load (&loop->quit) == TN_LOOP_QUIT_NO)
    tn_loop_iterate (loop, true);
  atomic_store (&loop->quit, TN_LOOP_QUIT_NO);
}
