/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/cpu.h
 * CPU targets.
 *
 * The core owns the vCPU thread, the clock and the exits; the plugin owns the instruction set.
 * A TnCpu is one hart (hardware thread).  All harts of a machine are created, in order of
 * index, before the first runs; then each one's run() is called on its own thread.
 */
#ifndef TENON_CPU_H
#define TENON_CPU_H

#include <tenon/memory.h>
#include <tenon/option.h>

#define TN_CPU_MAJOR 1
#define TN_CPU_MINOR 0

/** Why run() came back. */
typedef enum TnCpuExitReason {
  TN_CPU_EXIT_KICK = 1, /**< tn_cpu kick, or a time slice is over: the core looks round and runs again */
  TN_CPU_EXIT_HALT,     /**< waits for an interrupt (WFI, or a stopped hart): sleep until kick, or until
                           @deadline_ns */
  TN_CPU_EXIT_SHUTDOWN, /**< the guest ended the machine; @code says how */
  TN_CPU_EXIT_RESET,    /**< the guest asked for a reset of the machine */
  TN_CPU_EXIT_ERROR     /**< the emulation can't go on; run() has set its error */
} TnCpuExitReason;

typedef struct TnCpuExit {
  uint32_t size; /**< sizeof (TnCpuExit) of the core */
  uint32_t reason;
  int32_t code; /**< SHUTDOWN: exit status of the machine */
  uint32_t reserved;
  int64_t deadline_ns; /**< HALT: machine clock (tn_cpu_clock_ns()) at which the hart wakes by itself;
                          INT64_MAX: never */
} TnCpuExit;

/** One architectural register, for debuggers, dumps and tests. */
typedef struct TnRegister {
  const char *name; /**< "pc", "x1", "f0", "mstatus"; NULL ends the table */
  uint16_t id;      /**< what get and set take */
  uint16_t bits;
  const char *group; /**< "general", "float", "csr" */
} TnRegister;

typedef struct TnCpuOps {
  uint32_t size;          /**< sizeof (TnCpuOps) */
  uint32_t instance_size; /**< the core allocates this much zeroed state, 64-byte aligned: tn_cpu_state() */

  /** Sets up hart tn_cpu_index().  Options are this class's; the hart starts stopped. */
  int (*create) (TnCpu *cpu, const TnOptions *options, GError **error);
  void (*destroy) (TnCpu *cpu);
  /** Power-on state.  The core then writes entry registers by name (pc, a0, a1, …). */
  void (*reset) (TnCpu *cpu);
  /** Executes until there is a reason to come back.  Must return soon after kick(). */
  int (*run) (TnCpu *cpu, TnCpuExit *exit, GError **error);
  /** Sets interrupt input @line (numbers are the architecture's; RISC-V: bit numbers of mip: 3 MSI,
   *  7 MTI, 9 SEI, 11 MEI).  Any thread; wakes a halted hart through tn_cpu_notify(). */
  void (*set_irq) (TnCpu *cpu, unsigned line, bool level);
  /** Makes a run() in progress, or the next one, return.  Any thread, signal-safe. */
  void (*kick) (TnCpu *cpu);
  /** Register access while the hart isn't in run(). */
  const TnRegister *registers;
  int (*get_register) (TnCpu *cpu, unsigned id, uint64_t *value);
  int (*set_register) (TnCpu *cpu, unsigned id, uint64_t value);
  /** The memory map changed: forget cached translations of the address space.  Any thread. */
  void (*memory_changed) (TnCpu *cpu);
  /** Fills this hart's node under /cpus of the device tree (properties only; may be NULL).  The core writes
   *  device_type, reg, status and, when the board names one, the hart's interrupt controller. */
  int (*fdt) (TnCpu *cpu, TnFdt *fdt, GError **error);
  /** Executed instructions, for statistics; may be NULL.  Any thread, approximate. */
  uint64_t (*instructions) (TnCpu *cpu);
} TnCpuOps;

/* ---- What a CPU plugin may ask the core ---- */

TN_API void *tn_cpu_state (TnCpu *cpu);
TN_API TnMachine *tn_cpu_machine (TnCpu *cpu);
TN_API unsigned tn_cpu_index (TnCpu *cpu);
TN_API unsigned tn_cpu_count (TnCpu *cpu);
/** Another hart of the same machine and class. */
TN_API TnCpu *tn_cpu_sibling (TnCpu *cpu, unsigned index);
TN_API TnSpace *tn_cpu_space (TnCpu *cpu);
/** Machine time in nanoseconds since power-on; stands still while the machine is paused.  Any thread. */
TN_API int64_t tn_cpu_clock_ns (TnCpu *cpu);
/** Ticks per second of the board's time base (RISC-V: what `time` counts). */
TN_API uint64_t tn_cpu_timebase (TnCpu *cpu);
/** Wakes the hart's thread if it sleeps in HALT.  Any thread. */
TN_API void tn_cpu_notify (TnCpu *cpu);
/** Console of firmware services built into the CPU (RISC-V SBI DBCN): the machine's first character
 *  device.  Writing never waits; reading returns what is there, 0 when nothing. */
TN_API size_t tn_cpu_console_write (TnCpu *cpu, const void *data, size_t length);
TN_API size_t tn_cpu_console_read (TnCpu *cpu, void *data, size_t length);

#endif
