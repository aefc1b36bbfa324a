/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/device.h
 * Emulated devices.
 *
 * A device class names the bus that it sits on ("system", "virtio", …), its options and its
 * operations.  A controller takes drives and character devices through options of type DRIVE
 * and CHARDEV and never sees a format or a file.
 *
 * Threads.  Registers are accessed on vCPU threads; drive completions, timers and character input
 * arrive in the machine's main loop.  The core takes the device's lock (tn_device_lock()) around
 * realize, reset and the state table only; callbacks of the device's own regions take it
 * themselves.  It is recursive-free: never call into the bus while holding it, except to raise
 * interrupts.
 */
#ifndef TENON_DEVICE_H
#define TENON_DEVICE_H

#include <tenon/chardev.h>
#include <tenon/drive.h>
#include <tenon/fdt.h>
#include <tenon/loop.h>
#include <tenon/memory.h>
#include <tenon/option.h>

#define TN_DEVICE_MAJOR 1
#define TN_DEVICE_MINOR 0

/** State that survives a snapshot is a table, not code. */
typedef enum TnStateType {
  TN_STATE_U8 = 1,
  TN_STATE_U16,
  TN_STATE_U32,
  TN_STATE_U64,
  TN_STATE_BOOL,
  TN_STATE_BYTES /**< @count bytes as they are */
} TnStateType;

typedef struct TnStateField {
  const char *name; /**< stable for ever; NULL ends the table */
  uint32_t offset;  /**< within the instance state */
  uint16_t type;    /**< TnStateType */
  uint16_t since;   /**< version of the table that added it */
  uint32_t count;   /**< array length; 0 and 1 both mean a scalar */
  uint32_t stride;  /**< bytes between array elements; 0: packed */
} TnStateField;

typedef struct TnDeviceOps {
  uint32_t size;          /**< sizeof (TnDeviceOps) */
  uint32_t instance_size; /**< the core allocates this much zeroed state: tn_device_state() */
  const char *bus;        /**< bus that the device sits on: "system", "virtio", … */
  const char *provides;   /**< bus that it offers to others ("virtio" for virtio-mmio), or NULL */
  const void *bus_ops;    /**< device side of @bus (TnVirtioDeviceOps for "virtio"), or NULL */

  /** Connects the device: regions, interrupt inputs, timers.  Options have been checked. */
  int (*realize) (TnDevice *device, const TnOptions *options, GError **error);
  void (*unrealize) (TnDevice *device);
  /** Power-on state; also called once after realize. */
  void (*reset) (TnDevice *device);
  /** Completes the device's node: compatible and whatever `reg` and `interrupts` don't say.  NULL: no node.
   */
  int (*fdt) (TnDevice *device, TnFdt *fdt, GError **error);
  uint32_t state_version;
  uint32_t reserved;
  const TnStateField *state;
  int (*state_loaded) (TnDevice *device, uint32_t version, GError **error);
  /** For bus providers: a child of @provides has been realized and plugs in. */
  int (*attach) (TnDevice *device, TnDevice *child, GError **error);
  /** The machine is about to end or pause: finish and drain requests (may wait in the main loop). */
  void (*quiesce) (TnDevice *device);
} TnDeviceOps;

TN_API void *tn_device_state (TnDevice *device);
TN_API const char *tn_device_id (TnDevice *device);
TN_API const TnDeviceOps *tn_device_ops (TnDevice *device);
TN_API TnMachine *tn_device_machine (TnDevice *device);
/** The bus device that @device is plugged into, or NULL (system bus). */
TN_API TnDevice *tn_device_parent (TnDevice *device);
TN_API TnSpace *tn_device_space (TnDevice *device);
/** The loop of the machine's main thread. */
TN_API TnLoop *tn_device_loop (TnDevice *device);
TN_API void tn_device_lock (TnDevice *device);
TN_API void tn_device_unlock (TnDevice *device);
/** Machine time in nanoseconds since power-on.  Any thread. */
TN_API int64_t tn_device_clock_ns (TnDevice *device);
/** A timer on machine time, fired in the machine's main loop.  Deadlines are tn_device_clock_ns() values;
 * INT64_MAX stops it.  It stands still while the machine is paused, may be set from any thread, and is freed
 * with the device. */
TN_API TnTimer *tn_device_timer_new (TnDevice *device, void (*fire) (void *opaque), void *opaque);
TN_API void tn_device_timer_set (TnDevice *device, TnTimer *timer, int64_t deadline_ns);

/** Offers the device's register region number @index (0, 1, …); the board decides where it goes. */
TN_API int tn_device_add_mmio (TnDevice *device, unsigned index, uint64_t size, const TnMmioOps *ops,
                               void *opaque, GError **error);
/** Offers @count interrupt inputs; wires of the board call @set with their number. */
TN_API void tn_device_add_irq_inputs (TnDevice *device, unsigned count,
                                      void (*set) (void *opaque, unsigned number, bool level), void *opaque);
/** The device's interrupt output number @index; unwired ones can be set, too.  Never NULL. */
TN_API TnIrq *tn_device_irq (TnDevice *device, unsigned index);
/** Drives a wire.  Any thread. */
TN_API void tn_irq_set (TnIrq *irq, bool level);

/** Objects named by options of type DRIVE and CHARDEV; NULL with an error when there is none. */
TN_API TnDrive *tn_device_drive (TnDevice *device, const char *id, GError **error);
TN_API TnChardev *tn_device_chardev (TnDevice *device, const char *id, GError **error);

/** How many harts the machine has, and raising a hart's interrupt input directly (interrupt controllers). */
TN_API unsigned tn_device_cpu_count (TnDevice *device);
TN_API void tn_device_cpu_irq (TnDevice *device, unsigned cpu, unsigned line, bool level);
TN_API uint64_t tn_device_timebase (TnDevice *device);

/** What a device may ask of its machine.  Any thread; takes effect soon, not before returning. */
TN_API void tn_device_request_shutdown (TnDevice *device, int exit_status);
TN_API void tn_device_request_reset (TnDevice *device);

/** The symbol table entry of the program being booted (ELF), for HTIF; false when it isn't there. */
TN_API bool tn_device_boot_symbol (TnDevice *device, const char *name, uint64_t *value);

#endif
