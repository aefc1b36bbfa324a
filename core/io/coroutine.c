/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Coroutines: starting, suspending, waking, and the pool of their stacks. */
#include "io/coroutine.h"
#include "io/loop-private.h"

/* Stacks kept for reuse whatever happens, and at most. */
#define POOL_KEEP 32
#define POOL_MAX 1024
#define TRIM_NS 1000000000

typedef struct Pool {
  TnCoroutine *free;
  guint n, low; /* how many there are, and were at least since the last trim */
  int64_t trimmed;
} Pool;

/* What a thread knows of its coroutines. */
static __thread struct {
  TnCoroutine *self;
  TnContext own; /* of the thread's own stack while a coroutine runs */
  Pool pool;
  bool pool_noted;
} thread_state __attribute__ ((tls_model ("initial-exec")));

/* ---- The pool ---- */

static void
pool_shrink (Pool *pool, guint n)
{
  while (pool->n > n) {
    TnCoroutine *coroutine = pool->free;

    pool->free = coroutine->next;
    pool->n--;
    tn_stack_free (&coroutine->stack);
  }
}

static void
pool_free (void *unused)
{
  pool_shrink (&thread_state.pool, 0);
}

static GPrivate pool_end = G_PRIVATE_INIT (pool_free);

static void __attribute__ ((destructor)) pool_free_at_process_end (void)
{
  pool_free (NULL);
}

static TnCoroutine *
coroutine_alloc (void)
{
  TnStack stack;
  TnCoroutine *coroutine;

  if (!tn_stack_alloc (&stack))
    g_error ("tenon: no memory for the stack of a coroutine");
  coroutine =
      (TnCoroutine *) ((uintptr_t) ((char *) tn_stack_top (&stack) - sizeof *coroutine) & ~(uintptr_t) 63);
  coroutine->stack = stack;
  return coroutine;
}

static TnCoroutine *
pool_get (Pool *pool)
{
  TnCoroutine *coroutine = pool->free;

  if (!coroutine)
    return coroutine_alloc ();
  pool->free = coroutine->next;
  pool->n--;
  pool->low = MIN (pool->low, pool->n);
  return coroutine;
}

static void
pool_put (Pool *pool, TnCoroutine *coroutine)
{
  if (pool->n >= POOL_MAX) {
    tn_stack_free (&coroutine->stack);
    return;
  }
  if (!thread_state.pool_noted) {
    g_private_set (&pool_end, &thread_state);
    thread_state.pool_noted = true;
  }
  coroutine->next = pool->free;
  pool->free = coroutine;
  pool->n++;
}

/* Gives back the stacks that nobody needed for a while.  Called when the loop has time. */
void
tn_coroutines_trim (void)
{
  Pool *pool = &thread_state.pool;
  int64_t now;

  if (G_LIKELY (pool->n <= POOL_KEEP))
    return;
  now = tn_clock_ns ();
  if (now - pool->trimmed < TRIM_NS)
    return;
  if (pool->low > POOL_KEEP)
    pool_shrink (pool, MAX (pool->n - pool->low, POOL_KEEP));
  pool->low = pool->n;
  pool->trimmed = now;
}

/* ---- Switching ---- */

#ifndef TN_SWITCH_SLOTS
static void
ucontext_entry (unsigned high, unsigned low)
{
  tn_coroutine_main ((void *) (uintptr_t) ((uint64_t) high << 32 | low));
}

void
tn_context_init (TnContext *context, void *base, void *top, void *arg)
{
  uint64_t bits = (uintptr_t) arg;

  getcontext (&context->context);
  context->context.uc_stack.ss_sp = base;
  context->context.uc_stack.ss_size = (size_t) ((char *) top - (char *) base);
  context->context.uc_link = NULL;
  makecontext (&context->context, (void (*) (void)) ucontext_entry, 2, (unsigned) (bits >> 32),
               (unsigned) bits);
}
#endif

/* Goes from the running coroutine back to whoever resumed it. */
static TN_NEVER_LEFT void
switch_back (TnCoroutine *self)
{
  TnCoroutine *resumer = self->resumer;
  TnStackLeave leave;

  thread_state.self = resumer;
  tn_stack_leave (&leave, resumer ? &resumer->stack : NULL, self->ended);
  tn_context_switch (&self->context, resumer ? &resumer->context : &thread_state.own);
  tn_stack_enter (&leave);
}

static void
enter (TnCoroutine *coroutine)
{
  TnCoroutine *resumer = coroutine->resumer;
  TnStackLeave leave;

  thread_state.self = coroutine;
  tn_stack_leave (&leave, &coroutine->stack, false);
  tn_context_switch (resumer ? &resumer->context : &thread_state.own, &coroutine->context);
  tn_stack_enter (&leave);
}

/* Runs @coroutine until it yields or ends. */
static void
resume (TnCoroutine *coroutine)
{
  coroutine->resumer = thread_state.self;
  enter (coroutine);
  while (G_UNLIKELY (coroutine->aside)) {
    tn_co_call_aside (g_steal_pointer (&coroutine->aside), coroutine->aside_opaque);
    enter (coroutine);
  }
  if (coroutine->ended)
    pool_put (&thread_state.pool, coroutine);
}

TN_NEVER_LEFT void
tn_coroutine_main (void *opaque)
{
  TnCoroutine *self = opaque;

  tn_stack_enter (NULL);
  self->fn (self->opaque);
  self->ended = true;
  switch_back (self);
  g_assert_not_reached ();
}

static void
run_task (TnLoopTask *task)
{
  resume ((TnCoroutine *) task);
}

/* ---- The interface ---- */

void
tn_co_start (TnCoroutineFunc fn, void *opaque)
{
  TnCoroutine *coroutine = pool_get (&thread_state.pool);

  coroutine->task.run = run_task;
  coroutine->loop = tn_loop_current ();
  coroutine->fn = fn;
  coroutine->opaque = opaque;
  coroutine->aside = NULL;
  coroutine->ended = false;
  atomic_init (&coroutine->state, TN_CO_ACTIVE);
  tn_stack_renew (&coroutine->stack);
  tn_context_init (&coroutine->context, tn_stack_base (&coroutine->stack), coroutine, coroutine);
  resume (coroutine);
}

typedef struct CoRun {
  TnCoroutineFunc fn;
  void *opaque;
  bool ended;
} CoRun;

static void
co_run_main (void *opaque)
{
  CoRun *run = opaque;

  run->fn (run->opaque);
  run->ended = true;
}

void
tn_co_run (TnCoroutineFunc fn, void *opaque)
{
  CoRun run = { .fn = fn, .opaque = opaque };

  if (thread_state.self) {
    fn (opaque);
    return;
  }
  tn_co_start (co_run_main, &run);
  while (!run.ended)
    tn_loop_iterate (tn_loop_current (), true);
}

/* A resumer that is a coroutine itself passes it on. */
void
tn_co_call_aside (TnCoroutineFunc fn, void *opaque)
{
  TnCoroutine *self = thread_state.self;

  if (!self) {
    fn (opaque);
    return;
  }
  self->aside_opaque = opaque;
  self->aside = fn;
  switch_back (self);
}

TnCoroutine *
tn_co_self (void)
{
  return thread_state.self;
}

/* A waker may queue this coroutine before the switch is complete; that is harmless, for only this
 * thread resumes it. */
void
tn_co_yield (void)
{
  TnCoroutine *self = thread_state.self;
  uint32_t state = TN_CO_ACTIVE;

  if (atomic_compare_exchange_strong (&self->state, &state, TN_CO_WAITING)) {
    switch_back (self);
    return;
  }
  atomic_store (&self->state, TN_CO_ACTIVE);
}

void
tn_co_wake (TnCoroutine *coroutine)
{
  uint32_t state = TN_CO_ACTIVE;

  if (atomic_compare_exchange_strong (&coroutine->state, &state, TN_CO_WOKEN) || state == TN_CO_WOKEN)
    return;
  atomic_store (&coroutine->state, TN_CO_ACTIVE);
  if (tn_loop_is_current (coroutine->loop))
    tn_loop_make_ready (coroutine->loop, &coroutine->task);
  else
    tn_loop_post_task (coroutine->loop, &coroutine->task);
}

static void
sleep_over (void *opaque)
{
  tn_co_wake (opaque);
}

void
tn_co_sleep (int64_t ns)
{
  TnTimer timer;

  tn_timer_init (&timer, tn_loop_current (), sleep_over, thread_state.self);
  tn_timer_set (&timer, tn_clock_ns () + MAX (ns, 0));
  tn_co_yield ();
}
