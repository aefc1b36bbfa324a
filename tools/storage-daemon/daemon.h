/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes, servers and exports, as the command line and monitors define them.  Everything happens on one loop.
 */
#ifndef TENON_STORAGE_DAEMON_H
#define TENON_STORAGE_DAEMON_H

#include "image.h"

#include <tenon/export.h>
#include <tenon/json.h>

typedef struct DaemonExport {
  struct Daemon *daemon;
  char *id, *type, *node;
  TnDrive *drive;
  TnExport *export;
  unsigned connections; /* of a class without servers */
} DaemonExport;

typedef struct Daemon {
  CliArgs *args;
  TnLoop *loop;
  int signals;
  GPtrArray *nodes;   /* of TnNode, in the order of their making */
  GPtrArray *exports; /* of DaemonExport */
  TnExportServer *nbd;
  GPtrArray *chardevs; /* of TnOptions */
  GPtrArray *monitors;
  bool busy; /* a monitor's command is under way */
} Daemon;

/* ---- blockdev.c ---- */

/* Opens a node; @options are used up. */
int daemon_blockdev_add (Daemon *daemon, TnOptions *options, GError **error);
int daemon_blockdev_del (Daemon *daemon, const char *name, GError **error);
TnNode *daemon_find_node (const Daemon *daemon, const char *name);
/* Changes the size of a node and tells whoever uses its exports. */
int daemon_resize (Daemon *daemon, const char *name, uint64_t size, GError **error);
void daemon_list_nodes (const Daemon *daemon, TnJson *json);

/* ---- export.c ---- */

int daemon_export_add (Daemon *daemon, TnOptions *options, GError **error);
/* Without @hard it is refused while someone uses the export, as far as that is known. */
int daemon_export_del (Daemon *daemon, const char *id, bool hard, GError **error);
void daemon_export_free (DaemonExport *export);
void daemon_list_exports (const Daemon *daemon, TnJson *json);

/* ---- server.c ---- */

int daemon_nbd_start (Daemon *daemon, TnOptions *options, GError **error);
int daemon_nbd_stop (Daemon *daemon, GError **error);

#endif
