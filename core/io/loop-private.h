/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of core/io share. */
#ifndef TN_CORE_IO_LOOP_PRIVATE_H
#define TN_CORE_IO_LOOP_PRIVATE_H

#include "io/loop.h"

#include <stdatomic.h>

/* While a loop has nothing else to do, its first operations are plain system calls: a tool that
 * reads a header or two then needs no ring and no thread. */
#define TN_LOOP_DIRECT_OPS 64

/* A deadline that never comes, and a wait without end. */
#define TN_NEVER INT64_MAX

/* What a loop keeps in TnFdOp.core. */
typedef struct TnOpCore {
  union {
    TnFdOp *next;
    TnLoopTask task;
    TnWorkItem work;
  };
  TnLoop *loop;
  int64_t result;
} TnOpCore;

G_STATIC_ASSERT (sizeof (TnOpCore) <= sizeof ((TnFdOp *) NULL)->core);

static inline TnOpCore *
tn_op_core (TnFdOp *op)
{
  return (TnOpCore *) op->core;
}

static inline TnFdOp *
tn_op_of_core (TnOpCore *core)
{
  return (TnFdOp *) ((char *) core - offsetof (TnFdOp, core));
}

/* A queue of operations linked through their cores. */
typedef struct TnOpQueue {
  TnFdOp *head, *tail;
} TnOpQueue;

static inline void
tn_op_queue_push (TnOpQueue *queue, TnFdOp *op)
{
  tn_op_core (op)->next = NULL;
  if (queue->tail)
    tn_op_core (queue->tail)->next = op;
  else
    queue->head = op;
  queue->tail = op;
}

static inline TnFdOp *
tn_op_queue_pop (TnOpQueue *queue)
{
  TnFdOp *op = queue->head;

  if (!op)
    return NULL;
  queue->head = tn_op_core (op)->next;
  if (!queue->head)
    queue->tail = NULL;
  return op;
}

/* A watched descriptor.  One that io_uring still polls outlives its removal. */
typedef struct TnWatch {
  struct TnWatch *prev, *next; /* all of the loop's */
  struct TnWatch *next_dirty;
  int fd;
  short events; /* wanted; 0 once removed */
  short armed;  /* what the kernel polls for; 0 for nothing */
  bool cancelling, dirty;
  bool always; /* a descriptor that epoll refuses, as it is always ready */
  void (*ready) (int fd, short events, void *opaque);
  void *opaque;
} TnWatch;

typedef struct TnBackend {
  TnLoopBackend kind;
  /* Queues an operation of the default engine. */
  void (*submit) (TnLoop *loop, TnFdOp *op);
  /* Hands what is queued to the kernel without waiting; harvests nothing. */
  void (*flush) (TnLoop *loop);
  /* Flushes and waits for at most @timeout nanoseconds; harvests nothing. */
  void (*wait) (TnLoop *loop, int64_t timeout);
  /* Dispatches what flush() and wait() found, without system calls. */
  bool (*reap) (TnLoop *loop);
  /* Whether reap() would find something. */
  bool (*found) (TnLoop *loop);
  /* Brings the kernel in line with @watch, whose events have changed. */
  int (*watch) (TnLoop *loop, TnWatch *watch);
  /* Prepares for a wait by GLib; the descriptor to poll besides the loop's own, or -1. */
  int (*attach) (TnLoop *loop);
  /* Whether what happens shall show on the loop's own descriptor. */
  void (*notify) (TnLoop *loop, bool on);
  void (*free) (TnLoop *loop);
} TnBackend;

extern const TnBackend tn_backend_uring;
extern const TnBackend tn_backend_epoll;

typedef struct TnTimers {
  GMutex lock;
  GPtrArray *heap;
  /* The earliest deadline: written under the lock, read by the loop without it. */
  _Atomic int64_t earliest;
} TnTimers;

typedef enum TnLoopQuit { TN_LOOP_QUIT_NO = 0, TN_LOOP_QUIT_ASKED, TN_LOOP_QUIT_SEEN } TnLoopQuit;

struct TnLoop {
  _Atomic uint32_t refs; /* the owner's and the timers' */
  TnLoopBackend wanted;

  /* Hot: the loop's own thread only. */
  const TnBackend *backend; /* NULL until something needs one */
  void *engine;             /* the backend's */
  struct TnAio *aio;
  uint32_t in_flight; /* operations submitted and not done */
  uint32_t direct_left;
  uint32_t flush_debt; /* iterations since something was left queued */
  uint32_t n_ready;
  TnFdOp *held;       /* an operation that may be done by a plain system call */
  TnOpQueue finished; /* operations whose result is in their core */
  TnLoopTask *ready_head, *ready_tail;
  TnLoopTask *inbox_taken; /* tasks fetched from the inbox, in order */

  TnTimers timers;

  TnWatch *watches;
  TnWatch *dirty_watches;
  GHashTable *watch_by_fd;
  uint32_t n_always;

  GSource *source;
  gpointer event_tag, backend_tag;

  /* Written by other threads, kept off the line above. */
  _Atomic (TnLoopTask *) inbox __attribute__ ((aligned (64)));
  _Atomic uint32_t sleeping;
  _Atomic uint32_t quit; /* TnLoopQuit */
  _Atomic int event_fd;  /* -1 until the loop first sleeps */
};

/* loop.c */
void tn_loop_ref (TnLoop *loop);
void tn_loop_unref (TnLoop *loop);
void tn_loop_wake (TnLoop *loop);
bool tn_loop_has_posts (TnLoop *loop);
int tn_loop_event_fd (TnLoop *loop);
const TnBackend *tn_loop_ensure_backend (TnLoop *loop);
void tn_loop_make_ready (TnLoop *loop, TnLoopTask *task);
int64_t tn_loop_timeout (TnLoop *loop);
void tn_loop_flush (TnLoop *loop);
bool tn_loop_has_local_work (TnLoop *loop);

/* fd-op.c */
void tn_fd_op_finish_later (TnLoop *loop, TnFdOp *op, int64_t result);
void tn_fd_op_complete (TnLoop *loop, TnFdOp *op, int64_t result);
void tn_fd_op_submit_threads (TnLoop *loop, TnFdOp *op);
bool tn_fd_op_run_local (TnLoop *loop);

/* aio.c */
void tn_aio_submit (TnLoop *loop, TnFdOp *op);
void tn_aio_flush (TnLoop *loop);
void tn_aio_free (TnLoop *loop);
int tn_aio_available (TnLoop *loop, GError **error);

/* uring.c */
int tn_uring_probe (void);
bool tn_uring_open (TnLoop *loop);

/* watch.c */
void tn_watch_deliver (TnWatch *watch, short revents);
void tn_watch_drop (TnLoop *loop, TnWatch *watch);
bool tn_watches_run_always (TnLoop *loop);
void tn_watches_free (TnLoop *loop);

/* timer.c */
void tn_timers_init (TnTimers *timers);
void tn_timers_free (TnTimers *timers);
bool tn_timers_run (TnLoop *loop);

/* coroutine.c */
void tn_coroutines_trim (void);

/* glib-source.c */
void tn_loop_detach (TnLoop *loop);
void tn_loop_source_add_backend (TnLoop *loop);

#endif
