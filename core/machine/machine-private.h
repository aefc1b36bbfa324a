/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/machine-private.h
 * What the files of core/machine share.
 */
#ifndef TN_MACHINE_PRIVATE_H
#define TN_MACHINE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <tenon/machine.h>
#include <tenon/plugin.h>

#include "cpu/cpu.h"
#include "machine/board.h"
#include "machine/boot.h"
#include "machine/virtio.h"

/** Interrupt input of a device; several wires to it are or-ed. */
typedef struct TnIrqInput {
  pthread_mutex_t lock; /**< keeps count and the order of set() calls together */
  unsigned asserted;    /**< wires that are high */
  TnDevice *device;
  unsigned number;
} TnIrqInput;

/** One end of a wire: a device's output. */
struct TnIrq {
  atomic_bool level;
  TnIrqInput *input; /**< of a device, or NULL */
  TnCpu *cpu;        /**< of a hart, or NULL */
  unsigned line;     /**< of the hart */
};

typedef struct TnDeviceRegion {
  bool offered;
  uint64_t size;
  TnMmioOps ops;
  void *opaque;
  uint64_t address;
  bool mapped;
} TnDeviceRegion;

#define TN_DEVICE_MAX_REGIONS 8
#define TN_DEVICE_MAX_IRQS 4096

struct TnDevice {
  TnMachine *machine;
  const TnClass *class_;
  TnDeviceOps ops;
  char *id;
  TnOptions *options;
  void *state;
  TnDevice *parent;
  void *bus_data;
  const TnBoardDevice *board; /**< addresses, wires and properties; NULL for one that sits on another bus */
  pthread_mutex_t lock;
  bool realized;
  TnDeviceRegion regions[TN_DEVICE_MAX_REGIONS];
  GPtrArray *outputs; /**< TnIrq, by index; under the machine's wiring lock */
  GPtrArray *inputs;  /**< TnIrqInput, by number */
  void (*set_input) (void *opaque, unsigned number, bool level);
  void *set_input_opaque;
  GPtrArray *timers; /**< TnDeviceTimer; under the machine's timer lock */
};

typedef struct TnDeviceTimer {
  TnDevice *device;
  TnTimer *timer;
  int64_t deadline; /**< machine time; INT64_MAX: stopped */
  void (*fire) (void *opaque);
  void *opaque;
} TnDeviceTimer;

/** What -device asked for. */
typedef struct TnPendingDevice {
  char *class_name, *id;
  TnOptions *options;
} TnPendingDevice;

struct TnMachine {
  TnBoard *board;
  bool realized;
  uint64_t memory;
  unsigned cpus;
  char *cpu_class;
  TnOptions *cpu_options;
  TnOptions *boot_options;
  const TnBoardBoot *protocol; /**< the board's way to boot that was chosen */

  TnSpace *space;
  TnLoop *loop;
  TnClock clock;
  TnCpuSet *cpu_set;
  GPtrArray *devices;         /**< TnDevice, parents before children */
  GPtrArray *placed;          /**< TnBoardDevice made for slots */
  GPtrArray *pending;         /**< TnPendingDevice */
  GHashTable *drives;         /**< id to TnDrive */
  GHashTable *chardevs;       /**< id to TnChardev */
  TnChardev *console;         /**< the first character device */
  unsigned *slots_used;       /**< per TnBoardSlots */
  pthread_mutex_t timer_lock; /**< device timers and the clock's start and stop */
  pthread_mutex_t wiring_lock;

  TnBootPlan boot;
  void *fdt;
  size_t fdt_length;

  bool running; /**< harts may run; the machine's thread */
  bool started; /**< harts have threads */
  bool paused;  /**< somebody wants it to stand still; the machine's thread */
  bool no_reboot;
  atomic_bool shutdown_wanted, reset_wanted;
  atomic_int exit_status;
  pthread_mutex_t failure_lock;
  GError *failure; /**< first fatal error of a hart; under failure_lock */

  /* Firmware console input that nobody has read yet; under console_lock. */
  pthread_mutex_t console_lock;
  GByteArray *console_input;

  /* Of the layer above. */
  void *monitor;
  void (*monitor_focus) (void *monitor, TnChardev *chardev, bool focus);
  void (*monitor_input) (void *monitor, TnChardev *chardev, const uint8_t *data, size_t length);
  void (*monitor_free) (void *monitor);
};

/* device.c */
int tn_device_new (TnMachine *machine, const char *class_name, const char *id, const TnOptions *options,
                   const TnBoardDevice *board, TnDevice *parent, TnDevice **device, GError **error);
int tn_device_realize (TnDevice *device, GError **error);
void tn_device_reset (TnDevice *device);
void tn_device_quiesce (TnDevice *device);
/** Takes the device out of the machine; its parent may still look at it until it is freed. */
void tn_device_unrealize (TnDevice *device);
void tn_device_free (TnDevice *device);
TnDevice *tn_machine_find_device (TnMachine *machine, const char *id);

/* device-timer.c */
void tn_machine_clock_run (TnMachine *machine, bool run);
void tn_device_timers_free (TnDevice *device);

/* run.c */
/** Parks the harts, and goes on serving the loop for those that wait for it. */
void tn_machine_hold_harts (TnMachine *machine);

/* irq.c */
int tn_device_wire (TnDevice *device, GError **error);
void tn_device_irqs_free (TnDevice *device);

/* fdt-machine.c */
/** Checks every offset in a blob that comes from outside. */
int tn_fdt_check_blob (const void *blob, size_t length, const char *name, GError **error);
int tn_machine_make_fdt (TnMachine *machine, GError **error);

/* run.c */
void tn_machine_wake (TnMachine *machine);
void tn_machine_cpu_exited (TnMachine *machine, TnCpuExitReason reason, int code, GError *error);

/* machine.c */
int tn_machine_power_on (TnMachine *machine, GError **error);

/* dump.c */
void tn_machine_dump_memory (TnMachine *machine, GString *out);
void tn_machine_dump_plugins (GString *out);

/* machine-boot.c */
int tn_machine_choose_protocol (TnMachine *machine, GError **error);
int tn_machine_load_images (TnMachine *machine, GError **error);
int tn_machine_place (TnMachine *machine, GError **error);
int tn_machine_enter (TnMachine *machine, GError **error);
int tn_machine_resolve (TnMachine *machine, const TnBoardValue *value, unsigned hart, uint64_t *number,
                        GError **error);

#endif
