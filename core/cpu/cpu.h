/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file cpu/cpu.h
 * The core's side of a hart: its thread, and how the machine starts, parks and ends it.
 */
#ifndef TN_CPU_CPU_H
#define TN_CPU_CPU_H

#include <tenon/cpu.h>
#include <tenon/plugin.h>

#include "cpu/clock.h"

/** What the layer above lends to its CPUs. */
typedef struct TnCpuHost {
  TnMachine *machine;
  TnSpace *space;
  const TnClock *clock;
  uint64_t timebase;
  /** A hart has ended the machine, wants a reset, or failed (@error, taken over).  The hart's thread; the
   * hart runs no further until it is resumed. */
  void (*exited) (TnMachine *machine, TnCpuExitReason reason, int code, GError *error);
  size_t (*console_write) (TnMachine *machine, const void *data, size_t length);
  size_t (*console_read) (TnMachine *machine, void *data, size_t length);
} TnCpuHost;

typedef struct TnCpuSet TnCpuSet;

/** Creates @count harts of @class. */
int tn_cpu_set_new (const TnCpuHost *host, const TnClass *class_, unsigned count, const TnOptions *options,
                    TnCpuSet **set, GError **error);
/** Ends the threads and destroys the harts. */
void tn_cpu_set_free (TnCpuSet *set);

unsigned tn_cpu_set_count (const TnCpuSet *set);
TnCpu *tn_cpu_set_get (const TnCpuSet *set, unsigned index);
const TnCpuOps *tn_cpu_ops (const TnCpu *cpu);

/** Starts the threads, parked. */
int tn_cpu_set_start (TnCpuSet *set, GError **error);
/** Parks all harts and waits for them, calling @serve (may be NULL) now and then: a hart may itself wait for
 * what the caller's thread has to do.  Not from a hart's thread. */
void tn_cpu_set_pause (TnCpuSet *set, void (*serve) (void *opaque), void *opaque);
void tn_cpu_set_resume (TnCpuSet *set);
/** While paused: power-on state. */
void tn_cpu_set_reset (TnCpuSet *set);
/** Any thread. */
void tn_cpu_set_memory_changed (TnCpuSet *set);
void tn_cpu_set_irq (TnCpu *cpu, unsigned line, bool level);

/** Register access by name, while paused. */
int tn_cpu_set_register (TnCpu *cpu, const char *name, uint64_t value, GError **error);
int tn_cpu_get_register (TnCpu *cpu, const char *name, uint64_t *value, GError **error);

#endif
