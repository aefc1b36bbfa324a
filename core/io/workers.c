/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process's pool of worker threads: started on demand, bounded, ending when idle. */
#include "io/loop-private.h"
#include "io/sandbox.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define IDLE_SECONDS 5
#define MIN_THREADS 4
#define MAX_THREADS 64

typedef struct TnWorkers {
  GMutex lock;
  GCond more; /* there is work, or the pool is closing */
  TnWorkItem *head, *tail;
  guint limit, n_queued, n_threads, n_idle;
  pid_t pid; /* of the process that has the threads: a forked child has none of them */
  bool closing;
  GArray *ended; /* pthread_t of threads to be joined */
} TnWorkers;

/* The one per process: threads are a resource of the process, whichever loop asks. */
static TnWorkers workers;

guint
tn_workers_limit (void)
{
  return CLAMP (2 * g_get_num_processors (), MIN_THREADS, MAX_THREADS);
}

static TnWorkItem *
take_item (TnWorkers *pool)
{
  TnWorkItem *item = pool->head;

  if (!item)
    return NULL;
  pool->head = item->next;
  if (!pool->head)
    pool->tail = NULL;
  pool->n_queued--;
  return item;
}

static void
put_item (TnWorkers *pool, TnWorkItem *item)
{
  item->next = NULL;
  if (pool->tail)
    pool->tail->next = item;
  else
    pool->head = item;
  pool->tail = item;
  pool->n_queued++;
}

/* Waits for work; NULL when this thread shall end.  Called with the lock. */
static TnWorkItem *
wait_item (TnWorkers *pool)
{
  gint64 end = g_get_monotonic_time () + IDLE_SECONDS * G_TIME_SPAN_SECOND;
  TnWorkItem *item = take_item (pool);
  bool in_time = true;

  while (!item && in_time && !pool->closing) {
    pool->n_idle++;
    in_time = g_cond_wait_until (&pool->more, &pool->lock, end);
    pool->n_idle--;
    item = take_item (pool);
  }
  return item;
}

static void *
worker_main (void *opaque)
{
  TnWorkers *pool = opaque;
  TnWorkItem *item;
  pthread_t self = pthread_self ();

  g_mutex_lock (&pool->lock);
  while ((item = wait_item (pool)) != NULL) {
    g_mutex_unlock (&pool->lock);
    tn_sandbox_follow ();
    item->run (item);
    g_mutex_lock (&pool->lock);
  }
  pool->n_threads--;
  g_array_append_val (pool->ended, self);
  g_mutex_unlock (&pool->lock);
  return NULL;
}

/* Workers take no signals: those are for the threads that the program made. */
static bool
start_thread (TnWorkers *pool)
{
  pthread_t thread;
  sigset_t all, old;
  int failed;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  failed = pthread_create (&thread, NULL, worker_main, pool);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return !failed;
}

static GArray *
steal_ended (TnWorkers *pool)
{
  if (!pool->ended || pool->ended->len == 0)
    return NULL;
  return g_steal_pointer (&pool->ended);
}

static void
join_ended (GArray *ended)
{
  for (guint i = 0; ended && i < ended->len; i++)
    pthread_join (g_array_index (ended, pthread_t, i), NULL);
  if (ended)
    g_array_unref (ended);
}

/* Called with the lock. */
static void
prepare_pool (TnWorkers *pool)
{
  if (!pool->limit)
    pool->limit = tn_workers_limit ();
  if (!pool->ended)
    pool->ended = g_array_new (FALSE, FALSE, sizeof (pthread_t));
  pool->pid = getpid ();
}

void
tn_workers_submit (TnWorkItem *item)
{
  TnWorkers *pool = &workers;
  GArray *ended = NULL;
  bool alone = false;

  g_mutex_lock (&pool->lock);
  put_item (pool, item);
  if (pool->n_queued <= pool->n_idle) {
    g_cond_signal (&pool->more);
  } else if (!pool->limit || pool->n_threads < pool->limit) {
    ended = steal_ended (pool);
    prepare_pool (pool);
    if (start_thread (pool))
      pool->n_threads++;
    else if (pool->n_threads == 0)
      alone = take_item (pool) != NULL;
  }
  g_mutex_unlock (&pool->lock);
  join_ended (ended);

  /* No thread can be had at all: the work is done here rather than never. */
  if (alone)
    item->run (item);
}

/* At the end of the process, or when libtenon is unloaded.  A worker that is stuck in a system call
 * must not keep the process from ending, so busy ones are left alone. */
static void __attribute__ ((destructor)) workers_shutdown (void)
{
  TnWorkers *pool = &workers;
  GArray *ended;

  if (!pool->pid || pool->pid != getpid ())
    return;
  g_mutex_lock (&pool->lock);
  pool->closing = true;
  g_cond_broadcast (&pool->more);
  while (pool->n_idle > 0) {
    g_mutex_unlock (&pool->lock);
    g_thread_yield ();
    g_mutex_lock (&pool->lock);
  }
  if (pool->n_threads > 0) {
    g_mutex_unlock (&pool->lock);
    return;
  }
  ended = g_steal_pointer (&pool->ended);
  g_mutex_unlock (&pool->lock);
  join_ended (ended);
}

/* ---- Work for a loop ---- */

typedef struct LoopWork {
  TnWorkItem item;
  TnLoopTask task;
  TnLoop *loop;
  void (*work) (void *opaque);
  void (*done) (void *opaque);
  void *opaque;
} LoopWork;

static void
loop_work_done (TnLoopTask *task)
{
  LoopWork *work = (LoopWork *) ((char *) task - offsetof (LoopWork, task));
  void (*done) (void *opaque) = work->done;
  void *opaque = work->opaque;

  work->loop->in_flight--;
  g_free (work);
  done (opaque);
}

static void
loop_work_run (TnWorkItem *item)
{
  LoopWork *work = (LoopWork *) item;

  work->work (work->opaque);
  tn_loop_post_task (work->loop, &work->task);
}

void
tn_loop_work (TnLoop *loop, void (*work) (void *opaque), void (*done) (void *opaque), void *opaque)
{
  LoopWork *job = g_new (LoopWork, 1);

  *job = (LoopWork){ .item.run = loop_work_run,
                     .task.run = loop_work_done,
                     .loop = loop,
                     .work = work,
                     .done = done,
                     .opaque = opaque };
  loop->in_flight++;
  tn_workers_submit (&job->item);
}

typedef struct CoWork {
  TnWorkItem item;
  TnCoroutine *waiter;
  void (*work) (void *opaque);
  void *opaque;
} CoWork;

static void
co_work_run (TnWorkItem *item)
{
  CoWork *work = (CoWork *) item;
  TnCoroutine *waiter = work->waiter;

  work->work (work->opaque);
  tn_co_wake (waiter);
}

void
tn_co_work (void (*work) (void *opaque), void *opaque)
{
  CoWork job = { .item.run = co_work_run, .waiter = tn_co_self (), .work = work, .opaque = opaque };
  TnLoop *loop = tn_loop_current ();

  if (!job.waiter) {
    work (opaque);
    return;
  }
  loop->in_flight++;
  tn_workers_submit (&job.item);
  tn_co_yield ();
  loop->in_flight--;
}
