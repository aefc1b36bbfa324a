/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locks and queues that coroutines wait in.  Their lists are guarded by a spin lock that is only ever
 * held for a few instructions. */
#include "io/coroutine.h"

#include <sched.h>

/* Bits of TnCoMutex.state. */
enum { LOCKED = 1, WAITED_FOR = 2 };

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

static void
prepend (void **head, void **tail, TnCoroutine *waiter)
{
  waiter->next = *head;
  *head = waiter;
  if (!*tail)
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
  uint32_t state;

  do {
    state = __atomic_load_n (&mutex->state, __ATOMIC_RELAXED);
    if (state & LOCKED)
      return false;
  } while (!change (&mutex->state, state, state | LOCKED));
  return true;
}

/* Called with the spin lock: the lock becomes the caller's, or known to have a waiter. */
static bool
lock_or_be_waited_for (TnCoMutex *mutex)
{
  while (!tn_co_mutex_trylock (mutex)) {
    uint32_t state = __atomic_load_n (&mutex->state, __ATOMIC_ACQUIRE);

    if ((state & LOCKED) && ((state & WAITED_FOR) || change (&mutex->state, state, state | WAITED_FOR)))
      return false;
  }
  return true;
}

/* Who came first waits first, also after having been passed over. */
static bool
lock_or_wait (TnCoMutex *mutex, bool passed_over)
{
  TnCoroutine *self = tn_co_self ();
  bool locked;

  spin_lock (&mutex->spin);
  locked = lock_or_be_waited_for (mutex);
  if (!locked) {
    self->next_owner = passed_over;
    (passed_over ? prepend : append) (&mutex->head, &mutex->tail, self);
  }
  spin_unlock (&mutex->spin);
  return locked;
}

/*
 * The lock is not simply handed to the longest waiter: until that one runs, everybody else would have to
 * wait as well although nobody uses it, and a queue that formed once would never end.  Only a waiter that
 * woke up in vain gets it handed over.
 */
void
tn_co_mutex_lock (TnCoMutex *mutex)
{
  if (tn_co_mutex_trylock (mutex) || lock_or_wait (mutex, false))
    return;
  tn_co_yield ();
  if (tn_co_mutex_trylock (mutex) || lock_or_wait (mutex, true))
    return;
  tn_co_yield ();
}

void
tn_co_mutex_unlock (TnCoMutex *mutex)
{
  TnCoroutine *waiter;
  uint32_t state;

  if (change (&mutex->state, LOCKED, 0))
    return;
  spin_lock (&mutex->spin);
  waiter = take (&mutex->head, &mutex->tail);
  state = (mutex->head ? WAITED_FOR : 0) | (waiter->next_owner ? LOCKED : 0);
  __atomic_store_n (&mutex->state, state, __ATOMIC_RELEASE);
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
