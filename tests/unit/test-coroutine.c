/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop-fixture.h"

#include "io/coroutine.h"

#include <stdatomic.h>
#include <sys/resource.h>

#define MS 1000000

/* ---- Starting, yielding, waking ---- */

typedef struct Steps {
  TnCoroutine *self;
  GString *log;
  bool ended;
} Steps;

static void
steps_main (void *opaque)
{
  Steps *steps = opaque;

  g_assert_nonnull (tn_co_self ());
  steps->self = tn_co_self ();
  g_string_append_c (steps->log, 'a');
  tn_co_yield ();
  g_string_append_c (steps->log, 'c');
  tn_co_yield ();
  g_string_append_c (steps->log, 'e');
  steps->ended = true;
}

static void
test_steps (TnLoop *loop)
{
  Steps steps = { .log = g_string_new (NULL) };

  tn_co_start (steps_main, &steps);
  g_assert_null (tn_co_self ());
  g_string_append_c (steps.log, 'b');
  tn_co_wake (steps.self);
  g_assert_cmpstr (steps.log->str, ==, "ab");
  tn_loop_iterate (loop, true);
  g_string_append_c (steps.log, 'd');
  tn_co_wake (steps.self);
  iterate_until (loop, &steps.ended);
  g_assert_cmpstr (steps.log->str, ==, "abcde");
  g_string_free (steps.log, TRUE);
}

/* ---- On the stack of the thread ---- */

typedef struct Deep {
  TnCoroutine *outer;
  unsigned calls;
} Deep;

/* More than a coroutine has. */
static void
take_much_stack (void *opaque)
{
  Deep *deep = opaque;
  char bytes[2 << 20];

  g_assert_null (tn_co_self ());
  memset (bytes, 1, sizeof bytes);
  __asm__ volatile("" : : "r"(bytes) : "memory");
  deep->calls++;
}

static void
inner_main (void *opaque)
{
  TnCoroutine *self = tn_co_self ();

  tn_co_call_aside (take_much_stack, opaque);
  g_assert_true (tn_co_self () == self);
  tn_co_call_aside (take_much_stack, opaque);
}

static void
outer_main (void *opaque)
{
  Deep *deep = opaque;

  deep->outer = tn_co_self ();
  tn_co_start (inner_main, deep);
  g_assert_true (tn_co_self () == deep->outer);
  tn_co_yield ();
  tn_co_call_aside (take_much_stack, deep);
}

static void
test_aside (TnLoop *loop)
{
  Deep deep = { 0 };

  tn_co_call_aside (take_much_stack, &deep);
  g_assert_cmpuint (deep.calls, ==, 1);
  tn_co_start (outer_main, &deep);
  g_assert_cmpuint (deep.calls, ==, 3);
  tn_co_wake (deep.outer);
  tn_loop_iterate (loop, true);
  g_assert_cmpuint (deep.calls, ==, 4);
}

static void
early_wake_main (void *opaque)
{
  tn_co_wake (tn_co_self ());
  tn_co_yield ();
  *(bool *) opaque = true;
}

/* A wake just before the yield is kept, and only once. */
static void
test_early_wake (TnLoop *loop)
{
  Steps steps = { .log = g_string_new (NULL) };
  bool ended = false;

  tn_co_start (early_wake_main, &ended);
  g_assert_true (ended);
  tn_co_start (steps_main, &steps);
  g_assert_cmpstr (steps.log->str, ==, "a");
  tn_co_wake (steps.self);
  while (tn_loop_iterate (loop, false))
    continue;
  g_assert_cmpstr (steps.log->str, ==, "ac");
  tn_co_wake (steps.self);
  iterate_until (loop, &steps.ended);
  g_string_free (steps.log, TRUE);
}

typedef struct Nest {
  TnCoroutine *parent;
  GString *log;
} Nest;

static void
nest_inner (void *opaque)
{
  Nest *nest = opaque;

  g_assert_true (tn_co_self () != nest->parent);
  g_string_append_c (nest->log, '2');
  tn_co_sleep (MS);
  g_string_append_c (nest->log, '4');
  tn_co_wake (nest->parent);
}

static void
nest_outer (void *opaque)
{
  Nest *nest = opaque;

  nest->parent = tn_co_self ();
  g_string_append_c (nest->log, '1');
  tn_co_start (nest_inner, nest);
  g_assert_true (tn_co_self () == nest->parent);
  g_string_append_c (nest->log, '3');
  tn_co_yield ();
  g_string_append_c (nest->log, '5');
}

static void
test_nest (TnLoop *loop)
{
  Nest nest = { .log = g_string_new (NULL) };

  tn_co_run (nest_outer, &nest);
  g_assert_cmpstr (nest.log->str, ==, "12345");
  g_string_free (nest.log, TRUE);
}

static void
run_inside (void *opaque)
{
  TnCoroutine **outer = opaque;

  g_assert_true (tn_co_self () == *outer);
}

static void
run_outside (void *opaque)
{
  TnCoroutine *self = tn_co_self ();

  tn_co_run (run_inside, &self);
  *(bool *) opaque = true;
}

static void
test_run_nested (TnLoop *loop)
{
  bool ended = false;

  tn_co_run (run_outside, &ended);
  g_assert_true (ended);
}

static void
sleep_main (void *opaque)
{
  int64_t start = tn_clock_ns ();

  tn_co_sleep (3 * MS);
  g_assert_cmpint (tn_clock_ns () - start, >=, 3 * MS);
  tn_co_sleep (-5);
  tn_co_sleep (0);
}

static void
test_sleep (TnLoop *loop)
{
  tn_co_run (sleep_main, NULL);
}

/* ---- Registers and stacks ---- */

static double
mix (double seed)
{
  return seed * 1.000244140625 + 0.5;
}

typedef struct Mixer {
  double seed, result;
  bool yields;
  int *left;
} Mixer;

/* Enough values alive over each yield that callee-saved registers hold some. */
static void
mixer_main (void *opaque)
{
  Mixer *mixer = opaque;
  double a = mixer->seed, b = a + 1, c = a + 2, d = a + 3;
  uint64_t i = (uint64_t) a, j = i * 3, k = i * 5, l = i * 7;

  for (int round = 0; round < 20; round++) {
    a = mix (a), b = mix (b), c = mix (c), d = mix (d);
    i += 11, j += i, k += j, l += k;
    if (mixer->yields)
      tn_co_sleep (0);
  }
  mixer->result = a + b + c + d + (double) (i ^ j ^ k ^ l);
  if (mixer->left)
    --*mixer->left;
}

/* ThreadSanitizer takes megabytes and milliseconds for each. */
#ifdef __SANITIZE_THREAD__
#define MIXERS 100
#define CHURN 200
#else
#define MIXERS 3000
#define CHURN 5000
#endif

/* Thousands at once, each of which must find its own values again. */
static void
test_many (TnLoop *loop)
{
  g_autofree Mixer *mixers = g_new (Mixer, MIXERS);
  int left = MIXERS;

  for (int i = 0; i < MIXERS; i++) {
    mixers[i] = (Mixer){ .seed = i, .yields = true, .left = &left };
    tn_co_start (mixer_main, &mixers[i]);
  }
  while (left > 0)
    tn_loop_iterate (loop, true);
  for (int i = 0; i < MIXERS; i++) {
    Mixer straight = { .seed = i };

    mixer_main (&straight);
    g_assert_true (straight.result == mixers[i].result);
  }
}

static void
churn_main (void *opaque)
{
  tn_co_sleep (0);
  ++*(int *) opaque;
}

static void
test_churn (TnLoop *loop)
{
  int n = 0;

  for (int i = 0; i < CHURN; i++)
    tn_co_run (churn_main, &n);
  g_assert_cmpint (n, ==, CHURN);
}

static void
formats_main (void *opaque)
{
  g_autofree char *text = g_strdup_printf ("%.3f %s", 2.5, "text");
  char large[32 * 1024];

  g_assert_cmpstr (text, ==, "2.500 text");
  memset (large, 1, sizeof large);
  tn_co_sleep (0);
  for (size_t i = 0; i < sizeof large; i++)
    g_assert_cmpint (large[i], ==, 1);
}

/* Library functions find an aligned stack with room. */
static void
test_stack_use (TnLoop *loop)
{
  tn_co_run (formats_main, NULL);
}

/* Touches each KiB of @depth of them. */
static int
descend (volatile char *above, int depth)
{
  volatile char frame[1024];

  frame[0] = *above;
  frame[1023] = depth > 0 ? (char) (descend (frame, depth - 1) + 1) : 0;
  return frame[1023];
}

static void
overflow_main (void *opaque)
{
  volatile char start = 0;

  *(volatile int *) opaque = descend (&start, 2048);
}

static void
test_guard (void)
{
  struct rlimit no_core = { 0, 0 };
  int result;

  if (g_test_subprocess ()) {
    setrlimit (RLIMIT_CORE, &no_core);
    tn_co_run (overflow_main, &result);
    return;
  }
  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_failed ();
}

/* ---- Work and wakes from other threads ---- */

static void
work_thread (void *opaque)
{
  GThread **thread = opaque;

  g_assert_null (tn_co_self ());
  *thread = g_thread_self ();
}

static void
work_main (void *opaque)
{
  for (int i = 0; i < 50; i++) {
    GThread *thread = NULL;

    tn_co_work (work_thread, &thread);
    g_assert_true (thread && thread != g_thread_self ());
  }
}

static void
test_work (TnLoop *loop)
{
  tn_co_run (work_main, NULL);
}

typedef struct PingPong {
  _Atomic (TnCoroutine *) waiting;
  int rounds;
} PingPong;

static gpointer
waker_main (gpointer opaque)
{
  PingPong *game = opaque;

  for (int i = 0; i < game->rounds; i++) {
    TnCoroutine *waiting;

    while (!(waiting = atomic_exchange (&game->waiting, NULL)))
      g_thread_yield ();
    tn_co_wake (waiting);
  }
  return NULL;
}

static void
waked_main (void *opaque)
{
  PingPong *game = opaque;

  for (int i = 0; i < game->rounds; i++) {
    atomic_store (&game->waiting, tn_co_self ());
    tn_co_yield ();
  }
}

/* The wake races with the yield. */
static void
test_wake_race (TnLoop *loop)
{
  PingPong game = { NULL, 5000 };
  GThread *thread = g_thread_new ("waker", waker_main, &game);

  tn_co_run (waked_main, &game);
  g_thread_join (thread);
}

/* ---- Locks ---- */

typedef struct Fair {
  TnCoMutex mutex;
  GString *order;
  int left;
} Fair;

typedef struct FairWaiter {
  Fair *fair;
  char name;
} FairWaiter;

static void
fair_main (void *opaque)
{
  FairWaiter *waiter = opaque;

  tn_co_mutex_lock (&waiter->fair->mutex);
  g_string_append_c (waiter->fair->order, waiter->name);
  tn_co_sleep (0);
  g_assert_false (tn_co_mutex_trylock (&waiter->fair->mutex));
  tn_co_mutex_unlock (&waiter->fair->mutex);
  waiter->fair->left--;
}

static void
test_mutex_fair (TnLoop *loop)
{
  Fair fair = { .order = g_string_new (NULL), .left = 6 };
  FairWaiter waiters[6];

  g_assert_true (tn_co_mutex_trylock (&fair.mutex));
  for (int i = 0; i < 5; i++) {
    waiters[i] = (FairWaiter){ &fair, (char) ('a' + i) };
    tn_co_start (fair_main, &waiters[i]);
  }
  g_assert_cmpstr (fair.order->str, ==, "");
  tn_co_mutex_unlock (&fair.mutex);
  /* The first waiter has not run yet: it can be passed, once, but not by who comes to wait. */
  waiters[5] = (FairWaiter){ &fair, 'f' };
  tn_co_start (fair_main, &waiters[5]);
  g_assert_true (tn_co_mutex_trylock (&fair.mutex));
  for (int i = 0; i < 3; i++)
    tn_loop_iterate (loop, false);
  g_assert_cmpstr (fair.order->str, ==, "");
  tn_co_mutex_unlock (&fair.mutex);
  g_assert_false (tn_co_mutex_trylock (&fair.mutex));
  while (fair.left > 0)
    tn_loop_iterate (loop, true);
  g_assert_cmpstr (fair.order->str, ==, "abcdef");
  g_assert_true (tn_co_mutex_trylock (&fair.mutex));
  tn_co_mutex_unlock (&fair.mutex);
  g_string_free (fair.order, TRUE);
}

#define THREADS 4
#define PER_THREAD 8
#define TURNS 400

typedef struct Shared {
  TnLoopBackend backend;
  TnCoMutex mutex;
  TnCoQueue not_empty;
  uint64_t counter, produced, consumed, sum;
  bool inside;
} Shared;

typedef struct Member {
  Shared *shared;
  int *left;
  int number;
} Member;

static void
count_main (void *opaque)
{
  Member *member = opaque;
  Shared *shared = member->shared;

  for (int i = 0; i < TURNS; i++) {
    tn_co_mutex_lock (&shared->mutex);
    g_assert_false (shared->inside);
    shared->inside = true;
    shared->counter++;
    if (i % 16 == 0)
      tn_co_sleep (0);
    shared->inside = false;
    tn_co_mutex_unlock (&shared->mutex);
  }
  --*member->left;
}

static void
run_members (Shared *shared, TnCoroutineFunc fn, int n)
{
  TnLoop *loop = tn_loop_new (shared->backend, NULL);
  Member members[PER_THREAD];
  int left = n;

  for (int i = 0; i < n; i++) {
    members[i] = (Member){ shared, &left, i };
    tn_co_start (fn, &members[i]);
  }
  while (left > 0)
    tn_loop_iterate (loop, true);
  tn_loop_free (loop);
}

static gpointer
count_thread (gpointer opaque)
{
  run_members (opaque, count_main, PER_THREAD);
  return NULL;
}

/* Coroutines of several loops take turns. */
static void
test_mutex_threads (TnLoop *loop)
{
  Shared shared = { .backend = tn_loop_backend (loop) };
  GThread *threads[THREADS];

  for (int i = 0; i < THREADS; i++)
    threads[i] = g_thread_new ("count", count_thread, &shared);
  for (int i = 0; i < THREADS; i++)
    g_thread_join (threads[i]);
  g_assert_cmpuint (shared.counter, ==, THREADS * PER_THREAD * TURNS);
  g_assert_true (tn_co_mutex_trylock (&shared.mutex));
}

static void
produce_main (void *opaque)
{
  Member *member = opaque;
  Shared *shared = member->shared;

  for (int i = 0; i < TURNS; i++) {
    tn_co_mutex_lock (&shared->mutex);
    shared->produced++;
    tn_co_mutex_unlock (&shared->mutex);
    tn_co_queue_wake_one (&shared->not_empty);
    if (i % 32 == 0)
      tn_co_sleep (0);
  }
  --*member->left;
}

static void
consume_main (void *opaque)
{
  Member *member = opaque;
  Shared *shared = member->shared;

  for (int i = 0; i < TURNS; i++) {
    tn_co_mutex_lock (&shared->mutex);
    while (shared->consumed == shared->produced)
      tn_co_queue_wait (&shared->not_empty, &shared->mutex);
    shared->sum += ++shared->consumed;
    tn_co_mutex_unlock (&shared->mutex);
  }
  --*member->left;
}

static gpointer
produce_thread (gpointer opaque)
{
  run_members (opaque, produce_main, PER_THREAD);
  return NULL;
}

static gpointer
consume_thread (gpointer opaque)
{
  run_members (opaque, consume_main, PER_THREAD);
  return NULL;
}

static void
test_queue_threads (TnLoop *loop)
{
  Shared shared = { .backend = tn_loop_backend (loop) };
  uint64_t n = THREADS / 2 * PER_THREAD * TURNS;
  GThread *threads[THREADS];

  for (int i = 0; i < THREADS; i++)
    threads[i] = g_thread_new ("member", i % 2 ? produce_thread : consume_thread, &shared);
  for (int i = 0; i < THREADS; i++)
    g_thread_join (threads[i]);
  g_assert_cmpuint (shared.consumed, ==, n);
  g_assert_cmpuint (shared.sum, ==, n * (n + 1) / 2);
  g_assert_false (tn_co_queue_wake_one (&shared.not_empty));
}

typedef struct Crowd {
  TnCoQueue queue;
  int woken, rounds;
} Crowd;

static void
crowd_main (void *opaque)
{
  Crowd *crowd = opaque;

  for (int i = 0; i < 3; i++) {
    tn_co_queue_wait (&crowd->queue, NULL);
    crowd->woken++;
  }
}

/* wake_all wakes each waiter once, even one that waits again at once. */
static void
test_queue_all (TnLoop *loop)
{
  Crowd crowd = { .woken = 0 };

  for (int i = 0; i < 10; i++)
    tn_co_start (crowd_main, &crowd);
  for (int round = 1; round <= 3; round++) {
    tn_co_queue_wake_all (&crowd.queue);
    while (tn_loop_iterate (loop, false))
      continue;
    g_assert_cmpint (crowd.woken, ==, round * 10);
  }
  tn_co_queue_wake_all (&crowd.queue);
  g_assert_false (tn_co_queue_wake_one (&crowd.queue));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_unsetenv ("TENON_LOOP");
  add_backend_test ("coroutine/steps", test_steps);
  add_backend_test ("coroutine/aside", test_aside);
  add_backend_test ("coroutine/early-wake", test_early_wake);
  add_backend_test ("coroutine/nest", test_nest);
  add_backend_test ("coroutine/run-nested", test_run_nested);
  add_backend_test ("coroutine/sleep", test_sleep);
  add_backend_test ("coroutine/many", test_many);
  add_backend_test ("coroutine/churn", test_churn);
  add_backend_test ("coroutine/stack-use", test_stack_use);
  g_test_add_func ("/coroutine/guard", test_guard);
  add_backend_test ("coroutine/work", test_work);
  add_backend_test ("coroutine/wake-race", test_wake_race);
  add_backend_test ("co-mutex/fair", test_mutex_fair);
  add_backend_test ("co-mutex/threads", test_mutex_threads);
  add_backend_test ("co-queue/threads", test_queue_threads);
  add_backend_test ("co-queue/all", test_queue_all);
  return g_test_run ();
}
