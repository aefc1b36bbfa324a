/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked of the host about its devices: a table, so that a test can answer in the kernel's place. */
#ifndef TENON_FILE_HOST_H
#define TENON_FILE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct FileHost {
  int (*look) (const char *path, struct stat *st);                /* stat(2): 0 or -errno */
  int (*look_at) (int fd, struct stat *st);                       /* fstat(2): 0 or -errno */
  int (*open) (const char *path, int flags);                      /* a descriptor or -errno */
  int (*control) (int fd, unsigned long request, void *argument); /* ioctl(2): its answer or -errno */
  /* The text of @name below the device's folder in sysfs, or below the one of the disk that it is a partition
   * of, without the newline; false: there is none. */
  bool (*attribute) (dev_t device, const char *name, char *text, size_t room);
} FileHost;

extern const FileHost file_host_kernel;

#endif
