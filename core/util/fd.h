/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole transfers through a descriptor, interruptions and partial ones taken care of. */
#ifndef TN_UTIL_FD_H
#define TN_UTIL_FD_H

#include <tenon/types.h>

/* How many bytes were there, less than @length at the end of the file only; or -errno. */
ssize_t tn_fd_read (int fd, void *bytes, size_t length);
ssize_t tn_fd_pread (int fd, void *bytes, size_t length, uint64_t offset);
/* All of @length, or -errno. */
int tn_fd_pwrite (int fd, const void *bytes, size_t length, uint64_t offset);

#endif
