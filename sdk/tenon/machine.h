/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/machine.h
 * Virtual machines, for programs that run one.
 *
 * A board is a text file (doc/boards.md).  A program makes a machine from one, adds drives, character
 * devices and further devices, loads what is to boot, and runs it in the thread that made it.
 */
#ifndef TENON_MACHINE_H
#define TENON_MACHINE_H

#include <tenon/device.h>

/** A machine of the board @board (a name searched in the board directories, or a path with a slash). */
TN_API TnMachine *tn_machine_new (const char *board, GError **error);
TN_API void tn_machine_free (TnMachine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnMachine, tn_machine_free)

/** Before tn_machine_realize() only. */
TN_API int tn_machine_set_memory (TnMachine *machine, uint64_t bytes, GError **error);
TN_API int tn_machine_set_cpus (TnMachine *machine, unsigned count, GError **error);
/** Options of the CPU class (`-cpu rv64,sstc=off`); takes a copy. */
TN_API int tn_machine_set_cpu (TnMachine *machine, const char *cpu_class, const TnOptions *options,
                               GError **error);
/** Hands a drive over under @id; the machine frees it. */
TN_API int tn_machine_add_drive (TnMachine *machine, const char *id, TnDrive *drive, GError **error);
/** A character device: "stdio", "null", "file:PATH", "pty", "mux:stdio" (escape keys Ctrl-A). */
TN_API int tn_machine_add_chardev (TnMachine *machine, const char *id, const char *backend, GError **error);
/** Adds a device of @device_class with its options (@id may be NULL); bus "virtio" devices take the next
 *  free transport of the board. */
TN_API int tn_machine_add_device (TnMachine *machine, const char *device_class, const char *id,
                                  const TnOptions *options, GError **error);
/** What to boot: keys "bios", "kernel", "initrd", "append", "dtb". */
TN_API int tn_machine_set_boot (TnMachine *machine, const TnOptions *boot, GError **error);

/** Whether a reset by the guest starts it again (the default) or ends tn_machine_run() with status 0. */
TN_API void tn_machine_set_reboot (TnMachine *machine, bool reboot);
/** The device class that the board makes for `-drive if=INTERFACE`, or NULL. */
TN_API const char *tn_machine_interface_class (TnMachine *machine, const char *interface);
/** A character device that was added, or NULL. */
TN_API TnChardev *tn_machine_chardev (TnMachine *machine, const char *id);
/** Puts a monitor (a command line for people) behind Ctrl-A c of "mux:stdio". */
TN_API void tn_machine_enable_monitor (TnMachine *machine);

/** Builds everything: memory, CPUs, devices, wiring, device tree, boot images. */
TN_API int tn_machine_realize (TnMachine *machine, GError **error);

/** Runs until the machine is shut down.  *status is the guest's exit status (0 for power-off). */
TN_API int tn_machine_run (TnMachine *machine, int *status, GError **error);
/** Ends tn_machine_run() as if the guest had powered off with @status.  Any thread. */
TN_API void tn_machine_quit (TnMachine *machine, int status);
/** Pausing stops the harts and machine time and drains the devices.  Like resume, for the machine's thread.
 */
TN_API void tn_machine_pause (TnMachine *machine);
TN_API void tn_machine_resume (TnMachine *machine);
TN_API bool tn_machine_is_running (TnMachine *machine);
/** Power-on reset, soon.  Any thread. */
TN_API void tn_machine_reset (TnMachine *machine);

TN_API TnSpace *tn_machine_space (TnMachine *machine);
TN_API TnCpu *tn_machine_cpu (TnMachine *machine, unsigned index);
/** The object tree, the memory map, the wiring and the plugins that the board needs, as text; g_free() it. */
TN_API char *tn_machine_dump (TnMachine *machine);
/** The generated device tree blob, or NULL; owned by the machine. */
TN_API const void *tn_machine_fdt (TnMachine *machine, size_t *length);

/** Names and one-line descriptions of the boards found. */
TN_API void tn_boards_foreach (void (*visit) (const char *name, const char *summary, void *opaque),
                               void *opaque);

#endif
