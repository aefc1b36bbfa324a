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

/* Passes those that wait: it holds the lock for a moment only and lets nothing happen in another order. */
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

/* Called with the spin lock: the lock becomes the caller's, or is known to have a waiter. */
static bool
lock_or_be_waited_for (TnCoMutex *mutex)
{
  for (;;) {
    uint32_t state = __atomic_load_n (&mutex->state, __ATOMIC_ACQUIRE);

    if (state & WAITED_FOR)
      return false;
    if (change (&mutex->state, state, state ? state | WAITED_FOR : LOCKED))
      return !state;
  }
}

/* Called with the spin lock by the longest waiter, which stays the longest if somebody has passed it. */
static bool
lock_at_last (TnCoMutex *mutex, TnCoroutine *self)
{
  if (self->turn == TN_TURN_OWNER)
    return true;
  if (!tn_co_mutex_trylock (mutex)) {
    self->turn = TN_TURN_PASSED_OVER;
    return false;
  }
  take (&mutex->head, &mutex->tail);
  if (!mutex->head)
    __atomic_and_fetch (&mutex->state, ~(uint32_t) WAITED_FOR, __ATOMIC_RELAXED);
  return true;
}

/*
 * The lock is not simply handed to the longest waiter: until that one runs, trylock() would fail although
 * nobody uses the lock, and a queue that formed once would never end.  Only a waiter that woke up in vain
 * gets it handed over.  Nobody who waits is passed by another one who would wait: what is done under the lock
 * is done in the order in which it was asked for.
 */
void
tn_co_mutex_lock (TnCoMutex *mutex)
{
  TnCoroutine *self;
  bool locked;

  if (change (&mutex->state, 0, LOCKED))
    return;
  self = tn_co_self ();
  spin_lock (&mutex->spin);
  locked = lock_or_be_waited_for (mutex);
  if (!locked) {
    self->turn = TN_TURN_WAITS;
    append (&mutex->head, &mutex->tail, self);
  }
  spin_unlock (&mutex->spin);

  while (!locked) {
    tn_co_yield ();
    spin_lock (&mutex->spin);
    locked = lock_at_last (mutex, self);
    spin_unlock (&mutex->spin);
  }
}

/* Called with the spin lock: gives up the lock, which is waited for.  Whom to wake. */
static TnCoroutine *
pass_on (TnCoMutex *mutex)
{
  TnCoroutine *first = mutex->head;

  if (first->turn == TN_TURN_PASSED_OVER) {
    take (&mutex->head, &mutex->tail);
    first->turn = TN_TURN_OWNER;
    if (!mutex->head)
      __atomic_store_n (&mutex->state, LOCKED, __ATOMIC_RELEASE);
    return first;
  }
  __atomic_store_n (&mutex->state, WAITED_FOR, __ATOMIC_RELEASE);
  if (first->turn == TN_TURN_WOKEN)
    return NULL;
  first->turn = TN_TURN_WOKEN;
  return first;
}

void
tn_co_mutex_unlock (TnCoMutex *mutex)
{
  TnCoroutine *waiter;

  if (change (&mutex->state, LOCKED, 0))
    return;
  spin_lock (&mutex->spin);
  waiter = pass_on (mutex);
  spin_unlock (&mutex->spin);
  if (waiter)
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
