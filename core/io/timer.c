/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Timers: a binary heap per loop, with the earliest deadline readable without its lock. */
#include "io/loop-private.h"

#include <time.h>

int64_t
tn_clock_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

void
tn_timers_init (TnTimers *timers)
{
  g_mutex_init (&timers->lock);
  atomic_init (&timers->earliest, TN_NEVER);
}

void
tn_timers_free (TnTimers *timers)
{
  g_clear_pointer (&timers->heap, g_ptr_array_unref);
  g_mutex_clear (&timers->lock);
}

static TnTimer *
heap_at (GPtrArray *heap, guint slot)
{
  return g_ptr_array_index (heap, slot - 1);
}

static void
heap_put (GPtrArray *heap, guint slot, TnTimer *timer)
{
  g_ptr_array_index (heap, slot - 1) = timer;
  timer->slot = slot;
}

static void
heap_up (GPtrArray *heap, guint slot, TnTimer *timer)
{
  for (; slot > 1 && heap_at (heap, slot / 2)->deadline > timer->deadline; slot /= 2)
    heap_put (heap, slot, heap_at (heap, slot / 2));
  heap_put (heap, slot, timer);
}

static void
heap_down (GPtrArray *heap, guint slot, TnTimer *timer)
{
  for (guint child = slot * 2; child <= heap->len; slot = child, child = slot * 2) {
    if (child < heap->len && heap_at (heap, child + 1)->deadline < heap_at (heap, child)->deadline)
      child++;
    if (heap_at (heap, child)->deadline >= timer->deadline)
      break;
    heap_put (heap, slot, heap_at (heap, child));
  }
  heap_put (heap, slot, timer);
}

static void
heap_remove (GPtrArray *heap, TnTimer *timer)
{
  guint slot = timer->slot;
  TnTimer *last = heap_at (heap, heap->len);

  g_ptr_array_set_size (heap, (int) heap->len - 1);
  timer->slot = 0;
  if (last == timer)
    return;
  if (slot > 1 && heap_at (heap, slot / 2)->deadline > last->deadline)
    heap_up (heap, slot, last);
  else
    heap_down (heap, slot, last);
}

static void
publish_earliest (TnTimers *timers)
{
  int64_t earliest = timers->heap && timers->heap->len > 0 ? heap_at (timers->heap, 1)->deadline : TN_NEVER;

  atomic_store (&timers->earliest, earliest);
}

void
tn_timer_init (TnTimer *timer, TnLoop *loop, void (*fire) (void *opaque), void *opaque)
{
  *timer = (TnTimer){ .loop = loop, .fire = fire, .opaque = opaque };
}

TnTimer *
tn_timer_new (TnLoop *loop, void (*fire) (void *opaque), void *opaque)
{
  TnTimer *timer = g_new (TnTimer, 1);

  tn_timer_init (timer, loop, fire, opaque);
  tn_loop_ref (loop);
  return timer;
}

void
tn_timer_set (TnTimer *timer, int64_t deadline_ns)
{
  TnLoop *loop = timer->loop;
  TnTimers *timers = &loop->timers;
  bool sooner;

  /* TN_NEVER stands for an empty heap. */
  deadline_ns = MIN (deadline_ns, TN_NEVER - 1);
  g_mutex_lock (&timers->lock);
  if (!timers->heap)
    timers->heap = g_ptr_array_new ();
  if (timer->slot)
    heap_remove (timers->heap, timer);
  timer->deadline = deadline_ns;
  g_ptr_array_add (timers->heap, timer);
  heap_up (timers->heap, timers->heap->len, timer);
  sooner = deadline_ns < atomic_load (&timers->earliest);
  publish_earliest (timers);
  g_mutex_unlock (&timers->lock);
  if (sooner)
    tn_loop_wake (loop);
}

void
tn_timer_stop (TnTimer *timer)
{
  TnTimers *timers = &timer->loop->timers;

  g_mutex_lock (&timers->lock);
  if (timer->slot) {
    heap_remove (timers->heap, timer);
    publish_earliest (timers);
  }
  g_mutex_unlock (&timers->lock);
}

void
tn_timer_free (TnTimer *timer)
{
  if (!timer)
    return;
  tn_timer_stop (timer);
  tn_loop_unref (timer->loop);
  g_free (timer);
}

/* Takes the earliest timer out of the heap when it is due; its function and argument are copied,
 * for it may be freed or moved as soon as the lock is released. */
static bool
take_due (TnTimers *timers, int64_t now, TnTimer *copy)
{
  bool due = false;

  g_mutex_lock (&timers->lock);
  if (timers->heap && timers->heap->len > 0 && heap_at (timers->heap, 1)->deadline <= now) {
    TnTimer *timer = heap_at (timers->heap, 1);

    heap_remove (timers->heap, timer);
    publish_earliest (timers);
    *copy = *timer;
    due = true;
  }
  g_mutex_unlock (&timers->lock);
  return due;
}

bool
tn_timers_run (TnLoop *loop)
{
  TnTimers *timers = &loop->timers;
  int64_t earliest = atomic_load (&timers->earliest);
  TnTimer timer;
  int64_t now;
  guint left;

  if (earliest == TN_NEVER)
    return false;
  now = tn_clock_ns ();
  if (earliest > now)
    return false;

  /* A timer that sets itself to the past must not keep the loop from its other work. */
  g_mutex_lock (&timers->lock);
  left = timers->heap->len;
  g_mutex_unlock (&timers->lock);
  for (; left > 0 && take_due (timers, now, &timer); left--)
    timer.fire (timer.opaque);
  return true;
}
