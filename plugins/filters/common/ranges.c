/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ranges.h"

/* On the waiting coroutine's stack. */
struct TnRangeWaiter {
  TnRangeWaiter *next;
  TnCoroutine *coroutine;
};

static bool
ranges_are_free (const TnRanges *ranges, const TnRange *range)
{
  for (const TnRange *r = ranges->first; r != NULL; r = r->next)
    if ((range->copies || r->copies) && r->start < range->end && range->start < r->end)
      return false;
  return true;
}

static void
ranges_insert (TnRanges *ranges, TnRange *range)
{
  range->next = ranges->first;
  ranges->first = range;
}

bool
tn_ranges_try (TnRanges *ranges, TnRange *range)
{
  bool entered;

  g_mutex_lock (&ranges->lock);
  entered = ranges_are_free (ranges, range);
  if (entered)
    ranges_insert (ranges, range);
  g_mutex_unlock (&ranges->lock);
  return entered;
}

void
tn_ranges_enter (TnRanges *ranges, TnRange *range)
{
  for (;;) {
    TnRangeWaiter waiter = { .coroutine = tn_co_self () };

    g_mutex_lock (&ranges->lock);
    if (ranges_are_free (ranges, range)) {
      ranges_insert (ranges, range);
      g_mutex_unlock (&ranges->lock);
      return;
    }
    waiter.next = ranges->waiters;
    ranges->waiters = &waiter;
    g_mutex_unlock (&ranges->lock);
    tn_co_yield ();
  }
}

void
tn_ranges_leave (TnRanges *ranges, TnRange *range)
{
  TnRange **link = &ranges->first;
  TnRangeWaiter *waiters;

  g_mutex_lock (&ranges->lock);
  while (*link != range)
    link = &(*link)->next;
  *link = range->next;
  waiters = g_steal_pointer (&ranges->waiters);
  g_mutex_unlock (&ranges->lock);
  while (waiters != NULL) {
    TnCoroutine *coroutine = waiters->coroutine;

    waiters = waiters->next; /* gone once its coroutine runs */
    tn_co_wake (coroutine);
  }
}
