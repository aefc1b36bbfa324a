/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into a program: records what it does to one file and to the files beside it whose names begin so.
 *
 * TENON_RECORD_FILE is the file (an absolute path), TENON_RECORD_LOG the record.  Each operation is a line,
 *   write NAME OFFSET LENGTH (then the bytes) | truncate NAME LENGTH | punch, zero, allocate NAME OFFSET
 * LENGTH | sync NAME | rename NAME NAME | unlink NAME where NAME is what follows the file's own path ("" is
 * written "-", its folder "/").  At a rename the file is copied to LOG.before, and what is unlinked stays as
 * LOG.unlinked.
 *
 * With TENON_RECORD_FAIL=N nothing is recorded: operation N, counted from 1, fails instead (no space where
 * that can be, else an I/O error).  LOG.failed exists then, so that the caller sees whether there was an Nth.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COPY_BYTES 65536u

#pragma GCC visibility push(default) /* they stand in for libc's */

/* ---- The record ---- */

static void
append (const void *bytes, size_t length)
{
  const char *log = getenv ("TENON_RECORD_LOG");
  const int fd = log ? open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (fd < 0 || syscall (SYS_write, fd, bytes, length) != (long) length)
    abort ();
  close (fd);
}

static void __attribute__ ((format (printf, 1, 2))) note (const char *format, ...)
{
  char line[2 * PATH_MAX];
  va_list values;
  va_start (values, format);
  const int n = vsnprintf (line, sizeof line, format, values);
  va_end (values);
  append (line, (size_t) n);
}

/* What @path is called in the record, or NULL when it is not to be recorded. */
static const char *
name_of (const char *path)
{
  const char *file = getenv ("TENON_RECORD_FILE");
  const size_t length = file ? strlen (file) : 0;
  if (length == 0)
    return NULL;
  if (strncmp (path, file, length) == 0)
    return path[length] ? path + length : "-";
  const char *slash = strrchr (file, '/');
  const size_t folder = (size_t) (slash - file);
  return strncmp (path, file, folder) == 0 && path[folder] == 0 ? "/" : NULL;
}

static const char *
name_of_fd (int fd, char path[PATH_MAX])
{
  char link[64];
  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink (link, path, PATH_MAX - 1);
  if (n < 0)
    return NULL;
  path[n] = 0;
  return name_of (path);
}

static void
copy_file (const char *from, const char *suffix)
{
  char to[PATH_MAX], bytes[COPY_BYTES];
  snprintf (to, sizeof to, "%s%s", getenv ("TENON_RECORD_LOG"), suffix);
  const int in = open (from, O_RDONLY | O_CLOEXEC),
            out = open (to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  for (ssize_t n; (n = read (in, bytes, sizeof bytes)) > 0;)
    if (syscall (SYS_write, out, bytes, (size_t) n) != n)
      abort ();
  close (in);
  close (out);
}

/* ---- Errors ---- */

/* Whether this operation on @name is the one that fails; errno is set then. */
static bool
fails (const char *name, int errnum)
{
  static atomic_uint count;
  const char *text = getenv ("TENON_RECORD_FAIL");
  if (!name || !text || atomic_fetch_add (&count, 1) + 1 != strtoul (text, NULL, 10))
    return false;
  char path[PATH_MAX];
  snprintf (path, sizeof path, "%s.failed", getenv ("TENON_RECORD_LOG"));
  const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || syscall (SYS_write, fd, name, strlen (name)) < 0)
    abort ();
  close (fd);
  errno = errnum;
  return true;
}

static bool
recording (const char *name)
{
  return name && !getenv ("TENON_RECORD_FAIL");
}

/* ---- Operations ---- */

static void *
next (const char *symbol)
{
  return dlsym (RTLD_NEXT, symbol);
}

static ssize_t
record_write (int fd, const void *bytes, size_t length, int64_t offset)
{
  char path[PATH_MAX];
  const char *name = name_of_fd (fd, path);
  if (fails (name, ENOSPC))
    return -1;
  const ssize_t n = syscall (SYS_pwrite64, fd, bytes, length, offset);
  if (recording (name) && n > 0) {
    note ("write %s %lld %zd\n", name, (long long) offset, n);
    append (bytes, (size_t) n);
  }
  return n;
}

ssize_t
pwrite (int fd, const void *bytes, size_t length, off_t offset)
{
  return record_write (fd, bytes, length, offset);
}

ssize_t
pwrite64 (int fd, const void *bytes, size_t length, off64_t offset)
{
  return record_write (fd, bytes, length, offset);
}

static ssize_t
record_writev (int fd, const struct iovec *iov, int n_iov, int64_t offset)
{
  ssize_t done = 0;
  for (int i = 0; i < n_iov; i++) {
    const ssize_t n = record_write (fd, iov[i].iov_base, iov[i].iov_len, offset + done);
    if (n < 0)
      return done ? done : n;
    done += n;
    if (n < (ssize_t) iov[i].iov_len)
      break;
  }
  return done;
}

ssize_t
pwritev (int fd, const struct iovec *iov, int n_iov, off_t offset)
{
  return record_writev (fd, iov, n_iov, offset);
}

ssize_t
pwritev64 (int fd, const struct iovec *iov, int n_iov, off64_t offset)
{
  return record_writev (fd, iov, n_iov, offset);
}

static int
record_truncate (int fd, int64_t length)
{
  char path[PATH_MAX];
  const char *name = name_of_fd (fd, path);
  if (fails (name, EIO))
    return -1;
  const int ret = (int) syscall (SYS_ftruncate, fd, length);
  if (recording (name) && ret == 0)
    note ("truncate %s %lld\n", name, (long long) length);
  return ret;
}

int
ftruncate (int fd, off_t length)
{
  return record_truncate (fd, length);
}

int
ftruncate64 (int fd, off64_t length)
{
  return record_truncate (fd, length);
}

static int
record_fallocate (int fd, int mode, int64_t offset, int64_t length)
{
  char path[PATH_MAX];
  const char *name = name_of_fd (fd, path);
  if (fails (name, mode & FALLOC_FL_PUNCH_HOLE ? EIO : ENOSPC))
    return -1;
  const int ret = (int) syscall (SYS_fallocate, fd, mode, offset, length);
  if (recording (name) && ret == 0)
    note ("%s %s %lld %lld\n",
          mode & FALLOC_FL_PUNCH_HOLE   ? "punch"
          : mode & FALLOC_FL_ZERO_RANGE ? "zero"
                                        : "allocate",
          name, (long long) offset, (long long) length);
  return ret;
}

int
fallocate (int fd, int mode, off_t offset, off_t length)
{
  return record_fallocate (fd, mode, offset, length);
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t length)
{
  return record_fallocate (fd, mode, offset, length);
}

int
fsync (int fd)
{
  char path[PATH_MAX];
  const char *name = name_of_fd (fd, path);
  if (fails (name, EIO))
    return -1;
  if (recording (name))
    note ("sync %s\n", name);
  return (int) syscall (SYS_fsync, fd);
}

int
fdatasync (int fd)
{
  char path[PATH_MAX];
  if (fails (name_of_fd (fd, path), EIO))
    return -1;
  return (int) syscall (SYS_fdatasync, fd);
}

int
rename (const char *from, const char *to)
{
  int (*real) (const char *, const char *) = (int (*) (const char *, const char *)) next ("rename");
  const char *one = name_of (from), *two = name_of (to);
  if (one && two && fails (one, EIO))
    return -1;
  if (recording (one) && two) {
    copy_file (getenv ("TENON_RECORD_FILE"), ".before");
    note ("rename %s %s\n", one, two);
  }
  return real (from, to);
}

int
unlink (const char *path)
{
  int (*real) (const char *) = (int (*) (const char *)) next ("unlink");
  const char *name = name_of (path);
  if (fails (name, EIO))
    return -1;
  if (recording (name) && access (path, F_OK) == 0) {
    char kept[PATH_MAX];
    snprintf (kept, sizeof kept, "%s.unlinked", getenv ("TENON_RECORD_LOG"));
    if (link (path, kept) < 0)
      abort ();
    note ("unlink %s\n", name);
  }
  return real (path);
}
