/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel is asked for. */
#include "device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_BLOCK 512u
#define MOST_BLOCK 4096u

/* ---- The kernel ---- */

static int
kernel_open (const char *path)
{
  struct stat status;
  const int fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  if (fstat (fd, &status) == 0 && S_ISBLK (status.st_mode))
    return fd;
  close (fd);
  return -ENOTBLK;
}

static int
kernel_control (int fd, unsigned long request, unsigned long argument)
{
  const int rc = ioctl (fd, request, argument);
  return rc < 0 ? -errno : rc;
}

static void
kernel_close (int fd)
{
  close (fd);
}

const NbdDeviceOps nbd_device_kernel = { kernel_open, kernel_control, kernel_close };

/* ---- Steps ---- */

int
nbd_device_open (const NbdDeviceOps *ops, const char *path, int *fd, GError **error)
{
  *fd = ops->open (path);
  if (*fd == -ENOENT || *fd == -ENXIO || *fd == -ENODEV)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT,
                    "there is no device '%s': load the kernel's driver with 'modprobe nbd'", path);
  if (*fd == -ENOTBLK)
    return tn_fail (error, TN_OPTION_ERROR, ENOTBLK,
                    "'%s' is no block device: give one of /dev/nbd0, /dev/nbd1, …", path);
  if (*fd == -EACCES || *fd == -EPERM)
    return tn_fail (error, TN_OPTION_ERROR, EACCES, "may not open '%s': run this as root", path);
  return *fd < 0 ? tn_fail_errno (error, TN_OPTION_ERROR, -*fd, "cannot open '%s'", path) : 0;
}

static int
fail_set_up (const char *path, int rc, GError **error)
{
  if (rc == -EBUSY)
    return tn_fail (error, TN_OPTION_ERROR, EBUSY,
                    "'%s' is connected already: take another device, or free it with 'tenon-nbd -d %s'", path,
                    path);
  if (rc == -ENOTTY)
    return tn_fail (error, TN_OPTION_ERROR, ENOTTY, "'%s' is no device of the kernel's NBD driver", path);
  if (rc == -EPERM)
    return tn_fail (error, TN_OPTION_ERROR, EPERM, "may not connect '%s': run this as root", path);
  return tn_fail_errno (error, TN_OPTION_ERROR, -rc, "cannot connect '%s'", path);
}

/* What the kernel takes as a block: it sends no request for a part of one. */
static uint32_t
choose_block (const NbdOffer *offer)
{
  return CLAMP (offer->min_block, LEAST_BLOCK, MOST_BLOCK);
}

int
nbd_device_set_up (const NbdDeviceOps *ops, int fd, const char *path, int socket, const NbdOffer *offer,
                   GError **error)
{
  const uint32_t block = choose_block (offer);
  int read_only = (offer->flags & NBD_FLAG_READ_ONLY) != 0;
  if (offer->min_block > MOST_BLOCK)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "'%s' cannot have an image that is written in blocks of %u bytes", path,
                    offer->min_block);
  int rc = ops->control (fd, NBD_DEVICE_SET_SOCK, (unsigned long) socket);
  if (rc < 0)
    return fail_set_up (path, rc, error);
  rc = ops->control (fd, NBD_DEVICE_SET_BLKSIZE, block);
  if (rc >= 0)
    rc = ops->control (fd, NBD_DEVICE_SET_SIZE_BLOCKS, (unsigned long) (offer->size / block));
  if (rc >= 0)
    rc = ops->control (fd, NBD_DEVICE_SET_FLAGS, offer->flags);
  if (rc >= 0)
    rc = ops->control (fd, BLKROSET, (unsigned long) (uintptr_t) &read_only);
  if (rc >= 0)
    return 0;
  ops->control (fd, NBD_DEVICE_CLEAR_SOCK, 0);
  return fail_set_up (path, rc, error);
}

int
nbd_device_run (const NbdDeviceOps *ops, int fd, const char *path, GError **error)
{
  const int rc = ops->control (fd, NBD_DEVICE_DO_IT, 0);
  ops->control (fd, NBD_DEVICE_CLEAR_QUE, 0);
  ops->control (fd, NBD_DEVICE_CLEAR_SOCK, 0);
  /* EPIPE is how some kernels say that someone disconnected it. */
  return rc < 0 && rc != -EPIPE ? tn_fail_errno (error, TN_OPTION_ERROR, -rc, "'%s' has failed", path) : 0;
}

int
nbd_device_disconnect (const NbdDeviceOps *ops, const char *path, GError **error)
{
  int fd, rc = nbd_device_open (ops, path, &fd, error);
  if (rc < 0)
    return rc;
  ops->control (fd, NBD_DEVICE_CLEAR_QUE, 0);
  rc = ops->control (fd, NBD_DEVICE_DISCONNECT, 0);
  ops->control (fd, NBD_DEVICE_CLEAR_SOCK, 0);
  ops->close (fd);
  if (rc == -EINVAL || rc == -ENOTCONN)
    return tn_fail (error, TN_OPTION_ERROR, ENOTCONN, "'%s' is not connected", path);
  return rc < 0 ? fail_set_up (path, rc, error) : 0;
}
