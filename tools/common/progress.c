/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "progress.h"
#include "units.h"

#include <signal.h>
#include <unistd.h>

#include <tenon/loop.h>

#define SECOND_NS 1000000000LL
#define SHOW_EVERY_NS (SECOND_NS / 5)

static double
percent (const CliProgress *progress)
{
  if (progress->total == 0)
    return 0.0;
  return MIN (100.0, 100.0 * progress->done / progress->total);
}

static void
show_script (CliProgress *progress, double value)
{
  char text[48];
  int n = g_snprintf (text, sizeof text, "    (%3.2f/100%%)\r", value);
  cli_flush (progress->args);
  cli_write (STDOUT_FILENO, text, n);
  progress->shown_percent = value;
}

static void
show_terminal (CliProgress *progress, int64_t now)
{
  double seconds = (double) (now - progress->began_ns) / SECOND_NS;
  double rate = seconds > 0.01 ? progress->done / seconds : 0;
  double left = rate > 0 ? (progress->total - MIN (progress->done, progress->total)) / rate : 0;
  g_autofree char *line =
      g_strdup_printf ("\r%s of %s (%.1f%%)  %s/s  %s left\033[K", cli_human_size (progress->done).text,
                       cli_human_size (progress->total).text, percent (progress), cli_human_size (rate).text,
                       rate > 0 ? cli_human_time (left).text : "-:--");
  cli_write (STDERR_FILENO, line, strlen (line));
  progress->visible = true;
  progress->shown_ns = now;
}

/* Signals stay blocked and are asked for, so that no handler runs in the middle of anything. */
static sigset_t
signal_set (bool stoppable)
{
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGUSR1);
  if (!stoppable)
    return set;
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGHUP);
  return set;
}

void
cli_progress_catch_stop (CliProgress *progress)
{
  sigset_t set = signal_set (true);
  progress->stoppable = true;
  pthread_sigmask (SIG_BLOCK, &set, NULL);
}

int
cli_progress_stop (const CliProgress *progress)
{
  return progress->stop_signal ? -EINTR : 0;
}

static void
answer_usr1 (const CliProgress *progress)
{
  char text[48];
  int n = g_snprintf (text, sizeof text, "    (%3.2f/100%%)\n", percent (progress));
  cli_write (STDERR_FILENO, text, n);
}

static void
take_signals (CliProgress *progress)
{
  sigset_t set = signal_set (progress->stoppable);
  const struct timespec none = { 0 };
  int signal = sigtimedwait (&set, NULL, &none);
  if (signal == SIGUSR1)
    answer_usr1 (progress);
  else if (signal > 0)
    progress->stop_signal = signal;
}

void
cli_progress_begin (CliProgress *progress, CliArgs *args, uint64_t total, double step)
{
  bool asked = cli_flag (args, "progress");
  *progress = (CliProgress){ .args = args, .total = total, .step = step, .began_ns = tn_clock_ns () };
  progress->terminal = !cli_quiet (args) && isatty (STDERR_FILENO);
  progress->script = asked && !cli_quiet (args) && !(progress->terminal && isatty (STDOUT_FILENO));
  progress->wanted = asked && progress->terminal && !progress->script;
  progress->terminal = progress->terminal && !progress->script;
  progress->polled_ns = progress->began_ns;
  sigset_t set = signal_set (false);
  pthread_sigmask (SIG_BLOCK, &set, NULL);
  if (progress->script)
    show_script (progress, 0);
  if (progress->wanted)
    show_terminal (progress, progress->began_ns);
}

void
cli_progress_set (CliProgress *progress, uint64_t done)
{
  progress->done = done;
  double now_percent = percent (progress);
  bool complete = now_percent >= 100.0 && progress->shown_percent < 100.0;
  if (progress->script && (complete || now_percent >= progress->shown_percent + progress->step))
    show_script (progress, now_percent);
  int64_t now = tn_clock_ns ();
  if (now - progress->polled_ns < SHOW_EVERY_NS)
    return;
  progress->polled_ns = now;
  take_signals (progress);
  if (progress->terminal && (progress->wanted || now - progress->began_ns > SECOND_NS))
    show_terminal (progress, now);
}

void
cli_progress_add (CliProgress *progress, uint64_t bytes)
{
  cli_progress_set (progress, progress->done + bytes);
}

void
cli_progress_end (CliProgress *progress, bool complete)
{
  if (!progress->args)
    return;
  if (complete)
    progress->done = progress->total;
  if (progress->script) {
    if (complete && progress->shown_percent < 100.0)
      show_script (progress, 100.0);
    cli_write (STDOUT_FILENO, "\n", 1);
  }
  if (progress->wanted && complete) {
    show_terminal (progress, tn_clock_ns ());
    cli_write (STDERR_FILENO, "\n", 1);
  } else if (progress->visible)
    cli_write (STDERR_FILENO, "\r\033[K", 4);
  take_signals (progress);
  progress->args = NULL;
}
