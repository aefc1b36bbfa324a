/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which ranges of a node are being read and written, and who waits for whom.
 *
 * Active ranges stand in two lists; the exclusive one is short, so a plain request looks at few.
 * Those that cannot start wait in one queue in order of arrival, and a newcomer also waits for every
 * conflicting one in the queue, so that none waits for ever.
 */
#include "block/internal.h"

static bool
overlaps (const TnTrack *track, uint64_t start, uint64_t end)
{
  return track->start < end && start < track->end;
}

static bool
any_overlaps (const TnTrack *list, uint64_t start, uint64_t end)
{
  for (; list; list = list->next)
    if (overlaps (list, start, end))
      return true;
  return false;
}

/* Whether a queued track before @stop conflicts. */
static bool
queue_conflicts (const TnInflight *inflight, const TnTrack *track, const TnTrack *stop)
{
  for (const TnTrack *ahead = inflight->queue; ahead && ahead != stop; ahead = ahead->next)
    if ((ahead->exclusive || track->exclusive) && overlaps (ahead, track->start, track->end))
      return true;
  return false;
}

static bool
may_start (const TnInflight *inflight, const TnTrack *track)
{
  if (any_overlaps (inflight->exclusive, track->start, track->end))
    return false;
  if (track->exclusive && any_overlaps (inflight->plain, track->start, track->end))
    return false;
  return !queue_conflicts (inflight, track, track);
}

static void
link_active (TnInflight *inflight, TnTrack *track)
{
  TnTrack **list = track->exclusive ? &inflight->exclusive : &inflight->plain;
  track->next = *list;
  track->link = list;
  if (*list)
    (*list)->link = &track->next;
  *list = track;
}

static void
link_queued (TnInflight *inflight, TnTrack *track)
{
  if (!inflight->queue)
    inflight->queue_end = &inflight->queue;
  track->next = NULL;
  track->link = inflight->queue_end;
  *inflight->queue_end = track;
  inflight->queue_end = &track->next;
}

static void
unlink_queued (TnInflight *inflight, TnTrack *track)
{
  if (track->next)
    track->next->link = track->link;
  else
    inflight->queue_end = track->link;
  *track->link = track->next;
}

bool
tn_track_try (TnTrack *track, TnNode *node, uint64_t offset, uint64_t length)
{
  TnInflight *inflight = &node->inflight;
  track->node = node;
  track->start = offset;
  track->end = offset + length;
  track->exclusive = false;
  track->waiter = NULL;
  tn_spin_lock (&inflight->spin);
  bool started = (!inflight->exclusive && !inflight->queue) || may_start (inflight, track);
  if (started)
    link_active (inflight, track);
  tn_spin_unlock (&inflight->spin);
  return started;
}

void
tn_track_enter (TnTrack *track, TnNode *node, uint64_t start, uint64_t end, bool exclusive)
{
  TnInflight *inflight = &node->inflight;
  *track = (TnTrack){ .node = node, .start = start, .end = end, .exclusive = exclusive };
  tn_spin_lock (&inflight->spin);
  bool started = may_start (inflight, track);
  if (started) {
    link_active (inflight, track);
  } else {
    track->waiter = tn_co_self ();
    link_queued (inflight, track);
  }
  tn_spin_unlock (&inflight->spin);
  if (!started)
    tn_co_yield ();
}

/* Moves all that may start now out of the queue; the caller wakes the coroutines returned once the lock is
 * free. */
static GSList *
start_queued (TnInflight *inflight)
{
  GSList *started = NULL;
  TnTrack *next;
  for (TnTrack *track = inflight->queue; track; track = next) {
    next = track->next;
    if (!may_start (inflight, track))
      continue;
    unlink_queued (inflight, track);
    link_active (inflight, track);
    started = g_slist_prepend (started, track->waiter);
  }
  return g_slist_reverse (started);
}

void
tn_track_leave (TnTrack *track)
{
  TnInflight *inflight = &track->node->inflight;
  GSList *started = NULL;
  tn_spin_lock (&inflight->spin);
  if (track->next)
    track->next->link = track->link;
  *track->link = track->next;
  if (inflight->queue)
    started = start_queued (inflight);
  tn_spin_unlock (&inflight->spin);
  for (GSList *wake = started; wake; wake = wake->next)
    tn_co_wake (wake->data);
  g_slist_free (started);
}
