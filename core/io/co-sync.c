/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locks and queues that coroutines wait in.  Their lists are guarded by a spin lock that is only ever
 * held for a few instructions. */
#include "io/coroutine.h"

#include <sched.h>

/* TnCoMutex.state */
enum { UNLOCKED = 0, LOCKED = 1, CONTENDED = 2 };

static void
spin_lock (uint32_t *spin)
{
  for (unsigned tries = 0; __atomic_exchange_n (spin, 1, __ATOMIC_ACQUIRE); tries++)
    if (tries % 64 == 63)
      sched_yield ();
}

static void
spin_unlock (uint32_t *spin)
{
  __atomic_store_n (spin, 0, __ATOMIC_RELEASE);
}

static void
append (void **head, void **tail, TnCoroutine *waiter)
{
  waiter->next = NULL;
  if (*tail)
    ((TnCoroutine *) *tail)->next = waiter;
  else
    *head = waiter;
  *tail = waiter;
}

static TnCoroutine *
take (void **head, void **tail)
{
  TnCoroutine *waiter = *head;

  if (!waiter)
    return NULL;
  *head = waiter->next;
  if (!*head)
    *tail = NULL;
  return waiter;
}

static bool
change (uint32_t *state, uint32_t from, uint32_t to)
{
  return __atomic_compare_exchange_n (state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

bool
tn_co_mutex_trylock (TnCoMutex *mutex)
{
  return change (&mutex->state, UNLOCKED, LOCKED);
}

/* Called with the spin lock: the lock becomes the caller's, or known to have a waiter. */
static bool
lock_or_contend (TnCoMutex *mutex)
{
  for (;;) {
    if (change (&mutex->state, UNLOCKED, LOCKED))
      return true;
    if (change (&mutex->state, LOCKED, CONTENDED))
      return false;
    if (__atomic_load_n (&mutex->state, __ATOMIC_ACQUIRE) == CONTENDED)
      return false;
  }
}

void
tn_co_mutex_lock (TnCoMutex *mutex)
{
  bool locked;

  if (tn_co_mutex_trylock (mutex))
    return;
  spin_lock (&mutex->spin);
  locked = lock_or_contend (mutex);
  if (!locked)
    append (&mutex->head, &mutex->tail, tn_co_self ());
  spin_unlock (&mutex->spin);

  /* Who unlocks hands the lock over, so it is ours when we run again. */
  if (!locked)
    tn_co_yield ();
}

void
tn_co_mutex_unlock (TnCoMutex *mutex)
{
  TnCoroutine *waiter;

  if (change (&mutex->state, LOCKED, UNLOCKED))
    return;
  spin_lock (&mutex->spin);
  waiter = take (&mutex->head, &mutex->tail);
  __atomic_store_n (&mutex->state, mutex->head ? CONTENDED : LOCKED, __ATOMIC_RELEASE);
  spin_unlock (&mutex->spin);
  tn_co_wake (waiter);
}

void
tn_co_queue_wait (TnCoQueue *queue, TnCoMutex *mutex)
{
  spin_lock (&queue->spin);
  append (&queue->head, &queue->tail, tn_co_self ());
  spin_unlock (&queue->spin);
  if (mutex)
    tn_co_mutex_unlock (mutex);
  tn_co_yield ();
  if (mutex)
    tn_co_mutex_lock (mutex);
}

bool
tn_co_queue_wake_one (TnCoQueue *queue)
{
  TnCoroutine *waiter;

  spin_lock (&queue->spin);
  waiter = take (&queue->head, &queue->tail);
  spin_unlock (&queue->spin);
  if (waiter)
    tn_co_wake (waiter);
  return waiter != NULL;
}

/* Those that wait now, not those that come back at once. */
void
tn_co_queue_wake_all (TnCoQueue *queue)
{
  TnCoroutine *waiter, *next;

  spin_lock (&queue->spin);
  waiter = queue->head;
  queue->head = queue->tail = NULL;
  spin_unlock (&queue->spin);
  for (; waiter; waiter = next) {
    next = waiter->next;
    tn_co_wake (waiter);
  }
}
