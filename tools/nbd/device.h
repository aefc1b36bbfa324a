/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's block devices /dev/nbdN.  All that the kernel is asked for goes through a small table, so that
 * a test can put something else in its place.
 */
#ifndef TENON_TOOLS_NBD_DEVICE_H
#define TENON_TOOLS_NBD_DEVICE_H

#include "../../plugins/common/nbd/handshake.h"

#include <sys/ioctl.h>

/* As <linux/nbd.h> has them, whose names for the protocol are those of wire.h. */
enum {
  NBD_DEVICE_SET_SOCK = _IO (0xab, 0),
  NBD_DEVICE_SET_BLKSIZE = _IO (0xab, 1),
  NBD_DEVICE_DO_IT = _IO (0xab, 3),
  NBD_DEVICE_CLEAR_SOCK = _IO (0xab, 4),
  NBD_DEVICE_CLEAR_QUE = _IO (0xab, 5),
  NBD_DEVICE_SET_SIZE_BLOCKS = _IO (0xab, 7),
  NBD_DEVICE_DISCONNECT = _IO (0xab, 8),
  NBD_DEVICE_SET_FLAGS = _IO (0xab, 10)
};

typedef struct NbdDeviceOps {
  /* A descriptor, or -errno. */
  int (*open) (const char *path);
  /* As ioctl(2), but -errno. */
  int (*control) (int fd, unsigned long request, unsigned long argument);
  void (*close) (int fd);
} NbdDeviceOps;

extern const NbdDeviceOps nbd_device_kernel;

/* ---- device.c ---- */

int nbd_device_open (const NbdDeviceOps *ops, const char *path, int *fd, GError **error);
/* Tells the kernel what it gets and gives it the client's end, @socket, of a connection in transmission. */
int nbd_device_set_up (const NbdDeviceOps *ops, int fd, const char *path, int socket, const NbdOffer *offer,
                       GError **error);
/* Blocks while the device is connected. */
int nbd_device_run (const NbdDeviceOps *ops, int fd, const char *path, GError **error);
/* Ends the connection of the device at @path, whoever serves it. */
int nbd_device_disconnect (const NbdDeviceOps *ops, const char *path, GError **error);

/* ---- attach.c ---- */

/* A device whose server is in this process. */
typedef struct NbdAttachment NbdAttachment;

/* Opens the device and makes a connection; *@server_fd is the server's end, which is the caller's. */
int nbd_attach_new (const NbdDeviceOps *ops, const char *path, NbdAttachment **attachment, int *server_fd,
                    GError **error);
/* Iterates the loop, on which the server has to be, until the device stands.  @ended is called there when
 * someone disconnects it later on, with NULL, or when it fails, with the reason. */
int nbd_attach_start (NbdAttachment *attachment, const char *export,
                      void (*ended) (const char *why, void *opaque), void *opaque, GError **error);
/* Disconnects the device and waits for that, iterating the loop. */
void nbd_attach_free (NbdAttachment *attachment);

#endif
