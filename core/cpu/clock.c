/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cpu/clock.h"

#include <time.h>

static int64_t
host_now (void)
{
  struct timespec now;
  clock_gettime (CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

void
tn_machine_clock_init (TnClock *clock)
{
  atomic_init (&clock->offset, 0);
  atomic_init (&clock->stopped, 0);
}

void
tn_machine_clock_start (TnClock *clock)
{
  int64_t stopped = atomic_load (&clock->stopped);
  if (stopped < 0)
    return;
  atomic_store (&clock->offset, host_now () - stopped);
  atomic_store (&clock->stopped, -1);
}

void
tn_machine_clock_stop (TnClock *clock)
{
  if (atomic_load (&clock->stopped) >= 0)
    return;
  atomic_store (&clock->stopped, host_now () - atomic_load (&clock->offset));
}

int64_t
tn_machine_clock_now (const TnClock *clock)
{
  int64_t stopped = atomic_load_explicit (&clock->stopped, memory_order_acquire);
  if (stopped >= 0)
    return stopped;
  return host_now () - atomic_load_explicit (&clock->offset, memory_order_relaxed);
}

int64_t
tn_machine_clock_to_host (const TnClock *clock, int64_t machine_ns)
{
  int64_t host_ns;
  if (machine_ns == INT64_MAX || __builtin_add_overflow (machine_ns, atomic_load (&clock->offset), &host_ns))
    return INT64_MAX;
  return host_ns;
}
