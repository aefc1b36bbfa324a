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

/* Lies at the top of its own stack. */
struct TnCoroutine {
  TnLoopTask task; /* in its loop's ready list or inbox */
  TnContext context;
  TnLoop *loop;
  TnCoroutineFunc fn;
  void *opaque;
  TnCoroutine *resumer; /* NULL when the loop's own stack resumed it */
  TnCoroutine *next;    /* in a pool, or among the waiters of a lock or a queue */
  TnStack stack;
  bool ended;
  bool next_owner; /* of the lock that it waits for: whoever unlocks hands it over */
  _Atomic uint32_t state;
};

#endif
