/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TENON_TOOLS_NBD_H
#define TENON_TOOLS_NBD_H

#include "image.h"

#include <tenon/export.h>

/* ---- serve.c ---- */

/* Runs until a signal, or until the last client has gone. */
int nbd_serve (CliArgs *args);
/* -d: ends the connection of a device. */
int nbd_disconnect (CliArgs *args);

/* ---- list.c ---- */

int nbd_list (CliArgs *args);

/* ---- open.c ---- */

/* Opens the image number @index of the command line as its options say. */
int nbd_open_drive (const CliArgs *args, unsigned index, TnDrive **drive, GError **error);
bool nbd_is_read_only (const CliArgs *args);

/* ---- address.c ---- */

/* Whether the rest of the command line goes together with -c. */
int nbd_check_device (const CliArgs *args, GError **error);
/* Where to listen, as options of the server; nowhere with -c. */
int nbd_address (const CliArgs *args, TnOptions *options, GError **error);

/* ---- background.c ---- */

/* --fork: the parent waits until the child serves.  See CliCommand.prepare. */
int nbd_prepare (CliArgs *args);
/* The child serves. */
int nbd_started (CliArgs *args, GError **error);

#endif
