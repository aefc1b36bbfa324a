/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the locks for coroutines know of a coroutine. */
#ifndef TN_CORE_IO_COROUTINE_H
#define TN_CORE_IO_COROUTINE_H

#include "io/loop.h"
#include "io/stack.h"
#include "io/switch.h"

#include <stdatomic.h>

typedef enum TnCoState {
  TN_CO_ACTIVE,  /* running, or runnable in its loop */
  TN_CO_WAITING, /* suspended */
  TN_CO_WOKEN,   /* running, and the next yield returns at once */
} TnCoState;

/* Of a coroutine that waits for a lock. */
typedef enum TnTurn {
  TN_TURN_WAITS,
  TN_TURN_WOKEN,       /* the first; it is about to run and to take the lock, unless somebody passes it */
  TN_TURN_PASSED_OVER, /* the first; it found the lock taken, and gets it handed over */
  TN_TURN_OWNER
} TnTurn;

/* Lies at the top of its own stack. */
struct TnCoroutine {
  TnLoopTask task; /* in its loop's ready list or inbox */
  TnContext context;
  TnLoop *loop;
  TnCoroutineFunc fn;
  void *opaque;
  TnCoroutineFunc aside; /* what it wants done on the stack of whoever resumed it */
  void *aside_opaque;
  TnCoroutine *resumer; /* NULL when the loop's own stack resumed it */
  TnCoroutine *next;    /* in a pool, or among the waiters of a lock or a queue */
  TnStack stack;
  bool ended;
  uint8_t turn; /* TnTurn */
  _Atomic uint32_t state;
};

/* Calls @fn on the thread's own stack, and is back when it has returned.  For code of others that takes more
 * stack than a coroutine has. */
void tn_co_call_aside (TnCoroutineFunc fn, void *opaque);

#endif
