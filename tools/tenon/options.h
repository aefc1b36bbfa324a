/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of tenon: what was asked for, before anything is done about it. */
#ifndef TENON_TOOL_OPTIONS_H
#define TENON_TOOL_OPTIONS_H

#include <tenon/machine.h>

typedef enum TenonAction {
  TENON_RUN,
  TENON_HELP,
  TENON_VERSION,
  TENON_LIST_BOARDS,
  TENON_LIST_DEVICES,
  TENON_LIST_CPUS,
  TENON_DEVICE_HELP,
  TENON_DUMP,
  TENON_DUMP_FDT
} TenonAction;

typedef struct TenonArgs {
  TenonAction action;
  char *board;
  char *dump_fdt;   /* file for the device tree */
  char *help_class; /* device whose options are wanted */
  char *memory, *smp, *cpu;
  TnOptions *boot;
  GPtrArray *drives; /* texts of -drive, -blockdev, -device, -chardev, -serial in order */
  GPtrArray *blockdevs;
  GPtrArray *devices;
  GPtrArray *chardevs;
  GPtrArray *serials;
  GPtrArray *plugin_dirs;
  char *plugins;
  bool nographic, no_reboot, paused, dump_plugins;
} TenonArgs;

int tenon_args_parse (TenonArgs *args, int argc, char **argv, GError **error);
void tenon_args_clear (TenonArgs *args);
char *tenon_help (void);

#endif
