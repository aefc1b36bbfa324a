/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stacks of coroutines: memory with a guard page below, and what checkers have to know of them. */
#ifndef TN_CORE_IO_STACK_H
#define TN_CORE_IO_STACK_H

#include <stdbool.h>
#include <stddef.h>

#if defined __SANITIZE_ADDRESS__
#define TN_WITH_ASAN 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define TN_WITH_ASAN 1
#endif
#endif

#if defined __SANITIZE_THREAD__
#define TN_WITH_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define TN_WITH_TSAN 1
#endif
#endif

#ifdef TN_WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TN_WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Of functions that a coroutine enters and does not return from: ThreadSanitizer would count their calls on a
 * stack for ever. */
#ifdef TN_WITH_TSAN
#define TN_NEVER_LEFT __attribute__ ((no_sanitize ("thread")))
#else
#define TN_NEVER_LEFT
#endif

typedef struct TnStack {
  void *map; /* with the guard page */
  size_t map_size;
  unsigned valgrind_id;
  void *tsan_fiber;
} TnStack;

/* False when there is no memory. */
bool tn_stack_alloc (TnStack *stack);
/* Before a stack is used for another coroutine; not on that stack. */
void tn_stack_renew (TnStack *stack);
void tn_stack_free (TnStack *stack);
void *tn_stack_base (const TnStack *stack);
void *tn_stack_top (const TnStack *stack);

/* AddressSanitizer keeps this about a stack that is switched away from. */
typedef struct TnStackLeave {
  void *fake_stack;
} TnStackLeave;

#ifdef TN_WITH_ASAN
void tn_stack_thread_bounds (const void **base, size_t *size);
#endif
#ifdef TN_WITH_TSAN
void *tn_stack_thread_fiber (void);
#endif

/* To be called just before a switch to @to (NULL: the thread's own stack); @last when the stack being
 * left will never be returned to.  Inline, because the checkers count calls and returns per stack. */
static inline __attribute__ ((always_inline)) void
tn_stack_leave (TnStackLeave *leave, const TnStack *to, bool last)
{
#ifdef TN_WITH_ASAN
  const void *base;
  size_t size;

  tn_stack_thread_bounds (&base, &size);
  if (to) {
    base = tn_stack_base (to);
    size = (size_t) ((char *) tn_stack_top (to) - (char *) base);
  }
  __sanitizer_start_switch_fiber (last ? NULL : &leave->fake_stack, base, size);
#endif
#ifdef TN_WITH_TSAN
  void *own = tn_stack_thread_fiber ();

  __tsan_switch_to_fiber (to ? to->tsan_fiber : own, 0);
#endif
}

/* To be called on the new stack just after a switch; @leave is what it was left with, NULL at first. */
static inline __attribute__ ((always_inline)) void
tn_stack_enter (const TnStackLeave *leave)
{
#ifdef TN_WITH_ASAN
  __sanitizer_finish_switch_fiber (leave ? leave->fake_stack : NULL, NULL, NULL);
#endif
}

#endif
