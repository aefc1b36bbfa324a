/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the rest of the core may use of the loops beyond tenon/loop.h: tasks and work items that
 * live inside the caller's structures (nothing is allocated), and timers that do so.
 */
#ifndef TN_CORE_IO_LOOP_H
#define TN_CORE_IO_LOOP_H

#include <tenon/loop.h>

/* Something to run in a loop's thread; the caller owns it and may reuse it once run() is called. */
typedef struct TnLoopTask {
  struct TnLoopTask *next;
  void (*run) (struct TnLoopTask *task);
} TnLoopTask;

/* As tn_loop_post(), without allocating.  Any thread. */
void tn_loop_post_task (TnLoop *loop, TnLoopTask *task);

/* Whether @loop belongs to the calling thread.  Any thread. */
bool tn_loop_is_current (const TnLoop *loop);

/* Something to run on a worker thread; as TnLoopTask. */
typedef struct TnWorkItem {
  struct TnWorkItem *next;
  void (*run) (struct TnWorkItem *item);
} TnWorkItem;

void tn_workers_submit (TnWorkItem *item);

/* A timer's fields are guarded by its loop's timer lock. */
struct TnTimer {
  TnLoop *loop;
  void (*fire) (void *opaque);
  void *opaque;
  int64_t deadline;
  guint slot; /* place in the heap plus one; 0 when stopped */
};

/* A timer inside the caller's structure.  tn_timer_stop() it before the memory goes; it must not
 * outlive the loop. */
void tn_timer_init (TnTimer *timer, TnLoop *loop, void (*fire) (void *opaque), void *opaque);

#endif
