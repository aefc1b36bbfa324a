/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Switching stacks: assembly where there is some (switch.S), ucontext elsewhere. */
#ifndef TN_CORE_IO_SWITCH_H
#define TN_CORE_IO_SWITCH_H

#include "io/stack.h"

#include <stddef.h>
#include <stdint.h>

#if !defined TN_USE_UCONTEXT && (defined __x86_64__ && !defined __ILP32__)
#define TN_SWITCH_SLOTS 9 /* leaves the stack pointer aligned where the entry calls */
#define TN_SWITCH_ENTRY 6 /* return address */
#define TN_SWITCH_ARG 4   /* rbx */
#elif !defined TN_USE_UCONTEXT && defined __aarch64__
#define TN_SWITCH_SLOTS 20
#define TN_SWITCH_ENTRY 11 /* x30 */
#define TN_SWITCH_ARG 0    /* x19 */
#elif !defined TN_USE_UCONTEXT && defined __riscv && __riscv_xlen == 64
#define TN_SWITCH_SLOTS 26
#define TN_SWITCH_ENTRY 12 /* ra */
#define TN_SWITCH_ARG 0    /* s0 */
#else
#include <ucontext.h>
#endif

#ifdef TN_SWITCH_SLOTS

typedef struct TnContext {
  void *sp;
} TnContext;

/* Saves the caller's registers on its stack and its stack pointer in *save, then goes on where @sp was
 * saved. */
void tn_switch_stack (void **save, void *sp);

/* Calls tn_coroutine_main() with the register that TN_SWITCH_ARG stands for. */
void tn_switch_entry (void);

/* Prepares a stack that ends at @top (16-byte aligned), so that a switch to it calls
 * tn_coroutine_main (@arg). */
static inline void
tn_context_init (TnContext *context, void *base, void *top, void *arg)
{
  uintptr_t *frame = (uintptr_t *) top - TN_SWITCH_SLOTS;

  for (size_t i = 0; i < TN_SWITCH_SLOTS; i++)
    frame[i] = 0;
  frame[TN_SWITCH_ENTRY] = (uintptr_t) tn_switch_entry;
  frame[TN_SWITCH_ARG] = (uintptr_t) arg;
  context->sp = frame;
}

static inline TN_NEVER_LEFT void
tn_context_switch (TnContext *from, TnContext *to)
{
  tn_switch_stack (&from->sp, to->sp);
}

#else

typedef struct TnContext {
  ucontext_t context;
} TnContext;

void tn_context_init (TnContext *context, void *base, void *top, void *arg);

static inline void
tn_context_switch (TnContext *from, TnContext *to)
{
  swapcontext (&from->context, &to->context);
}

#endif

/* Where a coroutine's stack begins; does not return. */
_Noreturn void tn_coroutine_main (void *coroutine);

#endif
