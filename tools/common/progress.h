/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How far a long operation has come.
 *
 * With -p, "    (12.34/100%)\r" goes to standard output when that is no terminal, which is what scripts read.
 * On a terminal (standard error) a line shows amount, rate and time left; it appears by itself after a
 * second, unless -q is given, and is wiped at the end.  SIGUSR1 prints where things stand.
 */
#ifndef TENON_TOOLS_PROGRESS_H
#define TENON_TOOLS_PROGRESS_H

#include "cli.h"

typedef struct CliProgress {
  CliArgs *args;
  uint64_t total, done;
  int64_t began_ns, shown_ns, polled_ns;
  double step, shown_percent; /* for scripts: percent between two lines */
  bool script, terminal, wanted, visible;
  bool stoppable;
  int stop_signal; /* SIGINT, SIGTERM or SIGHUP that came in, or 0 */
} CliProgress;

/* @total is in bytes.  @step: percent between two lines for scripts. */
void cli_progress_begin (CliProgress *progress, CliArgs *args, uint64_t total, double step);
/* From now on SIGINT, SIGTERM and SIGHUP no longer end the program: they are noted by cli_progress_set(), and
 * the caller stops and tidies up.  For after cli_progress_begin(). */
void cli_progress_catch_stop (CliProgress *progress);
/* -EINTR when such a signal has come, else 0. */
int cli_progress_stop (const CliProgress *progress);
void cli_progress_set (CliProgress *progress, uint64_t done);
void cli_progress_add (CliProgress *progress, uint64_t bytes);
/* @complete shows 100% first.  May be called again, or on a zeroed one. */
void cli_progress_end (CliProgress *progress, bool complete);

#endif
