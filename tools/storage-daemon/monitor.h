/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Monitors: JSON commands at a Unix socket or at standard input and output, framed as QMP.
 *
 * A monitor is its user's: what comes in may open files and sockets.  Only its length is bounded.
 */
#ifndef TENON_DAEMON_MONITOR_H
#define TENON_DAEMON_MONITOR_H

#include "daemon.h"

/* ---- monitor.c ---- */

/* Keeps `socket,id=…` or `stdio,id=…` until a monitor asks for it. */
int daemon_chardev_add (Daemon *daemon, TnOptions *options, GError **error);
int daemon_monitor_add (Daemon *daemon, TnOptions *options, GError **error);
void daemon_monitors_close (Daemon *daemon);
/* Tells all that something has happened to what is called @id. */
void daemon_event (Daemon *daemon, const char *name, const char *id);

/* ---- command.c ---- */

/* Runs one command and appends the answer to @out.  *capable says whether the client has said hello. */
void daemon_command (Daemon *daemon, const char *text, bool pretty, bool *capable, GString *out);
void daemon_greeting (bool pretty, GString *out);

#endif
