/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/fd.h"

#include <errno.h>
#include <unistd.h>

ssize_t
tn_fd_read (int fd, void *bytes, size_t length)
{
  size_t done = 0;
  while (done < length) {
    const ssize_t n = read (fd, (char *) bytes + done, length - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0)
      break;
    done += (size_t) n;
  }
  return (ssize_t) done;
}

ssize_t
tn_fd_pread (int fd, void *bytes, size_t length, uint64_t offset)
{
  size_t done = 0;
  while (done < length) {
    const ssize_t n = pread (fd, (char *) bytes + done, length - done, (off_t) (offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0)
      break;
    done += (size_t) n;
  }
  return (ssize_t) done;
}

int
tn_fd_pwrite (int fd, const void *bytes, size_t length, uint64_t offset)
{
  size_t done = 0;
  while (done < length) {
    const ssize_t n = pwrite (fd, (const char *) bytes + done, length - done, (off_t) (offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0)
      return -ENOSPC;
    done += (size_t) n;
  }
  return 0;
}
