/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file cpu/clock.h
 * Machine time: nanoseconds since power-on, standing still while the machine is paused.
 */
#ifndef TN_CPU_CLOCK_H
#define TN_CPU_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct TnClock {
  atomic_int_least64_t offset;  /**< host clock minus machine time while running */
  atomic_int_least64_t stopped; /**< machine time while stopped, -1 while running */
} TnClock;

/** A clock that stands at 0. */
void tn_machine_clock_init (TnClock *clock);
/** One thread at a time starts and stops; both do nothing when that is so already. */
void tn_machine_clock_start (TnClock *clock);
void tn_machine_clock_stop (TnClock *clock);
/** Any thread. */
int64_t tn_machine_clock_now (const TnClock *clock);
/** The CLOCK_MONOTONIC time at which the running clock will show @machine_ns (INT64_MAX: never). */
int64_t tn_machine_clock_to_host (const TnClock *clock, int64_t machine_ns);

#endif
