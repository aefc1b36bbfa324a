/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "io/stack.h"
#include "io/checkers.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <glib.h>

/* Only pages that are touched cost memory.  Checkers make frames larger. */
#if defined TN_WITH_ASAN || defined TN_WITH_TSAN
#define STACK_SIZE (512 * 1024)
#else
#define STACK_SIZE (128 * 1024)
#endif

static size_t
page_size (void)
{
  return (size_t) sysconf (_SC_PAGESIZE);
}

void *
tn_stack_base (const TnStack *stack)
{
  return (char *) stack->map + page_size ();
}

void *
tn_stack_top (const TnStack *stack)
{
  return (char *) stack->map + stack->map_size;
}

bool
tn_stack_alloc (TnStack *stack)
{
  size_t guard = page_size ();
  size_t size = guard + STACK_SIZE;
  void *map = mmap (NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

  if (map == MAP_FAILED)
    return false;
  if (mprotect ((char *) map + guard, size - guard, PROT_READ | PROT_WRITE)) {
    munmap (map, size);
    return false;
  }
  *stack = (TnStack){ .map = map, .map_size = size };
  stack->valgrind_id = VALGRIND_STACK_REGISTER (tn_stack_base (stack), tn_stack_top (stack));
#ifdef TN_WITH_TSAN
  stack->tsan_fiber = __tsan_create_fiber (0);
#endif
  return true;
}

/* What ended on the stack never returned from its last functions, and what was mapped here before may have
 * been a stack, too: AddressSanitizer still sees their frames.
 */
static void
forget_frames (const TnStack *stack)
{
#ifdef TN_WITH_ASAN
  ASAN_UNPOISON_MEMORY_REGION (tn_stack_base (stack), stack->map_size - page_size ());
#endif
}

void
tn_stack_renew (TnStack *stack)
{
  forget_frames (stack);
}

/* @stack may lie in the memory that this frees. */
void
tn_stack_free (TnStack *stack)
{
  TnStack copy = *stack;

  VALGRIND_STACK_DEREGISTER (copy.valgrind_id);
#ifdef TN_WITH_TSAN
  __tsan_destroy_fiber (copy.tsan_fiber);
#endif
  forget_frames (&copy);
  munmap (copy.map, copy.map_size);
}

#ifdef TN_WITH_ASAN

static __thread struct {
  const void *base;
  size_t size;
} thread_stack;

void
tn_stack_thread_bounds (const void **base, size_t *size)
{
  pthread_attr_t attr;
  void *start;

  if (!thread_stack.base && !pthread_getattr_np (pthread_self (), &attr)) {
    pthread_attr_getstack (&attr, &start, &thread_stack.size);
    thread_stack.base = start;
    pthread_attr_destroy (&attr);
  }
  *base = thread_stack.base;
  *size = thread_stack.size;
}

#endif

#ifdef TN_WITH_TSAN

/* The first switch of a thread leaves its own stack. */
void *
tn_stack_thread_fiber (void)
{
  static __thread void *fiber;

  if (!fiber)
    fiber = __tsan_get_current_fiber ();
  return fiber;
}

#endif
