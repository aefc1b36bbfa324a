/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Programs that serve: in the background, with a pid file, until a signal. */
#ifndef TENON_TOOLS_SERVICE_H
#define TENON_TOOLS_SERVICE_H

#include "cli.h"

#include <tenon/loop.h>

/* When @wanted, a child goes on and the parent waits until that serves.  For CliCommand.prepare, and returns
 * as that does. */
int cli_background (CliArgs *args, bool wanted);
/* It serves: writes the pid file (if not NULL), lets the parent go. */
int cli_started (CliArgs *args, const char *pid_file, GError **error);

/* SIGINT, SIGTERM and SIGHUP end tn_loop_run().  Before there are threads, which would get the signals
 * otherwise. */
int cli_catch_signals (TnLoop *loop, int *signals, GError **error);
void cli_release_signals (TnLoop *loop, int signals);

#endif
