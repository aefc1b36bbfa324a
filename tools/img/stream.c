/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images that come from standard input or go to standard output.
 *
 * A raw disk is written as it is read.  An image of any other format is made in a temporary file without a
 * name, since its tables are known at the end and stand at the beginning, and so is what comes from a pipe:
 * formats are told the size of a disk before its contents.
 */
#include "stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tenon/copy.h>

#define STREAM_CHUNK (1u << 20)
#define STREAM_HOLE 4096

bool
img_is_stdin (const char *name)
{
  struct stat st;
  return strcmp (name, "-") == 0
         || (strcmp (name, "/dev/stdin") == 0 && fstat (STDIN_FILENO, &st) == 0 && !S_ISREG (st.st_mode)
             && !S_ISBLK (st.st_mode));
}

bool
img_is_stdout (const char *name)
{
  struct stat st;
  return strcmp (name, "-") == 0
         || (strcmp (name, "/dev/stdout") == 0 && fstat (STDOUT_FILENO, &st) == 0 && !S_ISBLK (st.st_mode));
}

/* ---- Temporary files ---- */

int
img_spool_make (int *fd, char **name, GError **error)
{
  g_autofree char *path = g_build_filename (g_get_tmp_dir (), "tenon-img.XXXXXX", NULL);
  *fd = g_mkstemp_full (path, O_RDWR | O_CLOEXEC, 0600);
  if (*fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot make a temporary file in '%s'",
                          g_get_tmp_dir ());
  /* Without a name of its own it is gone when the program ends, however that happens. */
  unlink (path);
  *name = g_strdup_printf ("/proc/self/fd/%d", *fd);
  return 0;
}

/* Zeroes become holes. */
static int
spool_chunk (int fd, const unsigned char *buffer, size_t length, uint64_t offset)
{
  for (size_t at = 0, n; at < length; at += n) {
    n = MIN (STREAM_HOLE, length - at);
    if (tn_is_zero (buffer + at, n))
      continue;
    ssize_t written = pwrite (fd, buffer + at, n, offset + at);
    if (written != (ssize_t) n)
      return written < 0 ? -errno : -ENOSPC;
  }
  return 0;
}

int
img_spool_stdin (int fd, GError **error)
{
  g_autofree unsigned char *buffer = g_malloc (STREAM_CHUNK);
  uint64_t offset = 0;
  for (;;) {
    ssize_t n = cli_read (STDIN_FILENO, buffer, STREAM_CHUNK);
    if (n < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, (int) -n, "cannot read standard input");
    int ret = spool_chunk (fd, buffer, n, offset);
    if (ret < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, -ret, "cannot keep what comes from standard input in '%s'",
                            g_get_tmp_dir ());
    offset += n;
    if (n < STREAM_CHUNK)
      break;
  }
  if (ftruncate (fd, offset) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot keep what comes from standard input");
  return 0;
}

/* ---- Standard output ---- */

int
img_stream_write (const void *data, uint64_t length)
{
  static const char zeroes[64 << 10];
  if (data)
    return cli_write (STDOUT_FILENO, data, length);
  int failed = 0;
  for (uint64_t n; length > 0 && !failed; length -= n) {
    n = MIN (length, sizeof zeroes);
    failed = cli_write (STDOUT_FILENO, zeroes, n);
  }
  return failed;
}

int
img_stream_fail (int errnum, GError **error)
{
  return tn_fail_errno (error, TN_BLOCK_ERROR, errnum, "cannot write to standard output");
}

int
img_stream_file (int fd, GError **error)
{
  g_autofree unsigned char *buffer = g_malloc (STREAM_CHUNK);
  if (lseek (fd, 0, SEEK_SET) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot read the temporary file");
  for (;;) {
    ssize_t n = cli_read (fd, buffer, STREAM_CHUNK);
    if (n < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, (int) -n, "cannot read the temporary file");
    int failed = n ? img_stream_write (buffer, n) : 0;
    if (failed)
      return img_stream_fail (failed, error);
    if (n < STREAM_CHUNK)
      return 0;
  }
}
