/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counting requests, and waiting until there are none. */
#include "block/internal.h"

void
tn_wake_all (GSList *coroutines)
{
  for (GSList *each = coroutines; each; each = each->next)
    tn_co_wake (each->data);
  g_slist_free (coroutines);
}

void
tn_underway_wake (TnUnderway *underway)
{
  tn_spin_lock (&underway->spin);
  GSList *waiters = g_steal_pointer (&underway->waiters);
  __atomic_and_fetch (&underway->count, ~TN_UNDERWAY_AWAITED, __ATOMIC_SEQ_CST);
  tn_spin_unlock (&underway->spin);
  tn_wake_all (waiters);
}

/* Whether the running coroutine must yield: it is woken when the count falls to 0. */
static bool
await (TnUnderway *underway)
{
  tn_spin_lock (&underway->spin);
  uint32_t before = __atomic_fetch_or (&underway->count, TN_UNDERWAY_AWAITED, __ATOMIC_SEQ_CST);
  bool busy = before & ~TN_UNDERWAY_AWAITED;
  if (busy)
    underway->waiters = g_slist_prepend (underway->waiters, tn_co_self ());
  else if (!underway->waiters)
    __atomic_and_fetch (&underway->count, ~TN_UNDERWAY_AWAITED, __ATOMIC_SEQ_CST);
  tn_spin_unlock (&underway->spin);
  return busy;
}

void
tn_underway_wait (TnUnderway *underway)
{
  while (await (underway))
    tn_co_yield ();
}
