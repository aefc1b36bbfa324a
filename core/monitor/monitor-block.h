/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the monitor says about drives and does to them; answers are appended to @out. */
#ifndef TN_MONITOR_BLOCK_H
#define TN_MONITOR_BLOCK_H

#include <tenon/machine.h>

void tn_monitor_info_block (TnMachine *machine, GString *out);
void tn_monitor_info_blockstats (TnMachine *machine, GString *out);
/* "DRIVE SIZE" */
void tn_monitor_block_resize (TnMachine *machine, const char *argument, GString *out);
/* "DRIVE cache=MODE,aio=ENGINE,…" */
void tn_monitor_block_reopen (TnMachine *machine, const char *argument, GString *out);
/* "[-f] DRIVE" */
void tn_monitor_eject (TnMachine *machine, const char *argument, GString *out);

#endif
