/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* read, write, readv, writev: one request each, waited for. */
#include "shell.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define IO_FILL_READ 0xab
#define IO_FILL_WRITE 0xcd
#define IO_MISALIGNMENT 16
#define IO_MAX_SEGMENTS 1024

/* ---- Arguments ---- */

int
io_offset (CliArgs *args, const char *text, const char *what, uint64_t *value, GError **error)
{
  int r = cli_parse_size (text, what, value, error);

  if (r == 0 && *value > INT64_MAX)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s '%s' is too large", what, text);
  return r;
}

int
io_length (CliArgs *args, const char *text, uint64_t *value, GError **error)
{
  int r = io_offset (args, text, "length", value, error);

  if (r == 0 && *value > IO_MAX_BYTES)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "length cannot exceed %" G_GUINT64_FORMAT ", given %s",
                    IO_MAX_BYTES, text);
  return r;
}

int
io_pattern (CliArgs *args, uint8_t fallback, uint8_t *pattern, GError **error)
{
  const char *text = cli_text (args, "pattern");
  char *end;
  guint64 value;

  *pattern = fallback;
  if (text == NULL)
    return 0;
  value = g_ascii_strtoull (text, &end, 0);
  if (end == text || *end != '\0' || *text == '-' || value > UINT8_MAX)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s is not a valid pattern byte (0 to 255)", text);
  *pattern = (uint8_t) value;
  return 0;
}

int
io_write_flags (CliArgs *args, uint32_t *flags, GError **error)
{
  bool zero = cli_flag (args, "zeroes");

  if (cli_flag (args, "unmap") && !zero)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-u requires -z to be specified");
  if (cli_flag (args, "no-fallback") && !zero)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-n requires -z to be specified");
  if (zero + cli_flag (args, "pattern") + cli_flag (args, "source") > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "Only one of -z, -P, and -s can be specified at the same time");
  if (cli_flag (args, "compressed") && (zero || cli_flag (args, "fua")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-c and %s cannot be specified at the same time",
                    zero ? "-z" : "-f");
  *flags = (cli_flag (args, "fua") ? TN_REQUEST_FUA : 0)
           | (cli_flag (args, "unmap") ? TN_REQUEST_MAY_UNMAP : 0)
           | (cli_flag (args, "no-fallback") ? TN_REQUEST_NO_FALLBACK : 0)
           | (cli_flag (args, "compressed") ? TN_REQUEST_PACKED : 0);
  return 0;
}

bool
io_in_range (IoShell *shell, uint64_t offset, uint64_t length)
{
  uint64_t size = tn_drive_size (shell->drive);

  return offset <= size && length <= size - offset;
}

/* ---- Buffers ---- */

static int
io_buffer_allocate (IoShell *shell, IoBuffer *buffer, GError **error)
{
  uint64_t extra = shell->misalign ? IO_MISALIGNMENT : 0;
  TnLimits limits;
  void *base;

  tn_node_limits (shell->node, &limits);
  if (posix_memalign (&base, MAX (limits.memory_alignment, 4096), MAX (buffer->length + extra, 1)) != 0)
    return tn_fail (error, TN_IO_ERROR, ENOMEM,
                    "not enough memory for a buffer of %" G_GUINT64_FORMAT " bytes", buffer->length);
  buffer->base = base;
  buffer->data = buffer->base + extra;
  return 0;
}

static int
io_buffer_lengths (CliArgs *args, unsigned first, IoBuffer *buffer, GError **error)
{
  buffer->n_iov = args->n_words - first;
  if (buffer->n_iov > IO_MAX_SEGMENTS)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%u lengths are too many; at most %d can be given",
                    buffer->n_iov, IO_MAX_SEGMENTS);
  buffer->iov = g_new0 (struct iovec, buffer->n_iov);
  for (unsigned i = 0; i < buffer->n_iov; i++) {
    uint64_t length = 0;
    int r = io_length (args, args->words[first + i], &length, error);

    if (r < 0)
      return r;
    buffer->iov[i].iov_len = (size_t) length;
    buffer->length += length;
  }
  if (buffer->length > IO_MAX_BYTES)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the lengths together cannot exceed %" G_GUINT64_FORMAT,
                    IO_MAX_BYTES);
  return 0;
}

int
io_buffer_new (CliArgs *args, unsigned first, uint8_t pattern, IoBuffer *buffer, GError **error)
{
  int r;
  char *at;

  *buffer = (IoBuffer){ 0 };
  r = io_buffer_lengths (args, first, buffer, error);
  if (r == 0)
    r = io_buffer_allocate (io_shell (args), buffer, error);
  if (r < 0) {
    io_buffer_clear (buffer);
    return r;
  }
  memset (buffer->data, pattern, (size_t) buffer->length);
  at = buffer->data;
  for (unsigned i = 0; i < buffer->n_iov; i++) {
    buffer->iov[i].iov_base = at;
    at += buffer->iov[i].iov_len;
  }
  return 0;
}

void
io_buffer_clear (IoBuffer *buffer)
{
  g_clear_pointer (&buffer->iov, g_free);
  free (buffer->base);
  buffer->base = buffer->data = NULL;
}

/* -s FILE: the buffer holds the file's bytes, over and over. */
static int
io_fill_from_file (IoBuffer *buffer, const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  uint64_t have;

  if (fd < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "%s", path);
  ssize_t n = cli_read (fd, buffer->data, buffer->length);
  close (fd);
  if (n < 0)
    return tn_fail_errno (error, TN_IO_ERROR, (int) -n, "%s", path);
  have = (uint64_t) n;
  if (have == 0 && buffer->length > 0)
    return tn_fail (error, TN_IO_ERROR, EINVAL, "%s: file is empty", path);
  for (uint64_t at = have; at < buffer->length; at++)
    buffer->data[at] = buffer->data[at - have];
  return 0;
}

/* ---- Requests ---- */

typedef struct IoWait {
  bool done;
  int result;
} IoWait;

static void
io_done (TnRequest *request, int result)
{
  IoWait *wait = request->opaque;

  wait->result = result;
  wait->done = true;
}

int
io_do (IoShell *shell, TnRequest *request)
{
  IoWait wait = { 0 };

  if (!io_in_range (shell, request->offset, request->length))
    return -EIO;
  request->done = io_done;
  request->opaque = &wait;
  tn_drive_submit (shell->drive, request);
  while (!wait.done)
    tn_loop_iterate (tn_loop_current (), true);
  return wait.result;
}

/* -P with -s and -l: the part of what was read that is compared. */
static int
io_verify_range (CliArgs *args, uint64_t length, uint64_t *from, uint64_t *n, GError **error)
{
  const char *from_text = cli_text (args, "pattern-offset"), *n_text = cli_text (args, "pattern-length");
  int r = 0;

  *from = 0;
  if ((from_text != NULL || n_text != NULL) && !cli_flag (args, "pattern"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-s and -l require -P to be specified");
  if (from_text != NULL)
    r = io_offset (args, from_text, "pattern offset", from, error);
  if (r == 0 && *from <= length)
    *n = length - *from;
  if (r == 0 && n_text != NULL)
    r = io_offset (args, n_text, "pattern length", n, error);
  if (r < 0)
    return r;
  if (*from > length || *n > length - *from)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "pattern verification range exceeds end of read data");
  return 0;
}

static int
io_finish_read (CliArgs *args, IoBuffer *buffer, uint64_t offset, uint64_t from, uint64_t n, uint8_t pattern,
                int64_t ns)
{
  int status = EXIT_SUCCESS;

  if (cli_flag (args, "pattern") && !io_verify (args, buffer->data + from, n, offset + from, pattern))
    status = EXIT_FAILURE;
  if (cli_flag (args, "quiet"))
    return status;
  if (cli_flag (args, "dump"))
    io_dump (args, buffer->data, buffer->length, offset);
  io_report (args, "read", offset, buffer->length, ns);
  return status;
}

static int
io_read_command (CliArgs *args, const char *what)
{
  IoShell *shell = io_image (args, false);
  IoBuffer buffer = { 0 };
  GError *error = NULL;
  uint64_t offset = 0, from = 0, n = 0;
  uint8_t pattern;
  int64_t start;
  int r;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (cli_flag (args, "vm-state"))
    return io_failed (args, what, -ENOTSUP);
  if (io_offset (args, args->words[0], "offset", &offset, &error) < 0
      || io_pattern (args, 0, &pattern, &error) < 0
      || io_buffer_new (args, 1, IO_FILL_READ, &buffer, &error) < 0
      || io_verify_range (args, buffer.length, &from, &n, &error) < 0) {
    io_buffer_clear (&buffer);
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  }
  TnRequest request = {
    .op = TN_REQUEST_READ, .iov = buffer.iov, .n_iov = buffer.n_iov, .offset = offset, .length = buffer.length
  };
  start = tn_clock_ns ();
  r = io_do (shell, &request);
  if (r < 0)
    r = io_failed (args, what, r);
  else
    r = io_finish_read (args, &buffer, offset, from, n, pattern, tn_clock_ns () - start);
  io_buffer_clear (&buffer);
  return r;
}

int
io_read_run (CliArgs *args)
{
  return io_read_command (args, "read");
}

int
io_readv_run (CliArgs *args)
{
  return io_read_command (args, "readv");
}

/* Zeroes need no buffer, and may be as many as the disk holds when nothing has to be written instead. */
static int
io_write_zeroes (CliArgs *args, IoShell *shell, uint64_t offset, uint32_t flags)
{
  TnRequest request = { .op = TN_REQUEST_WRITE_ZEROES, .flags = flags, .offset = offset };
  const char *text = args->words[1];
  GError *error = NULL;
  uint64_t length = 0;
  int64_t start;
  int r = cli_flag (args, "no-fallback") ? io_offset (args, text, "length", &length, &error)
                                         : io_length (args, text, &length, &error);

  if (r < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  request.length = length;
  start = tn_clock_ns ();
  r = io_do (shell, &request);
  if (r < 0)
    return io_failed (args, "write", r);
  io_report (args, "wrote", offset, length, tn_clock_ns () - start);
  return EXIT_SUCCESS;
}

static int
io_write_buffer (CliArgs *args, IoShell *shell, const char *what, uint64_t offset, uint32_t flags,
                 uint8_t pattern)
{
  const char *source = cli_text (args, "source");
  IoBuffer buffer = { 0 };
  GError *error = NULL;
  int64_t start;
  int r = io_buffer_new (args, 1, pattern, &buffer, &error);

  if (r == 0 && source != NULL)
    r = io_fill_from_file (&buffer, source, &error);
  if (r < 0) {
    io_buffer_clear (&buffer);
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  }
  TnRequest request = { .op = TN_REQUEST_WRITE,
                        .flags = flags,
                        .iov = buffer.iov,
                        .n_iov = buffer.n_iov,
                        .offset = offset,
                        .length = buffer.length };
  start = tn_clock_ns ();
  r = io_do (shell, &request);
  if (r == 0)
    io_report (args, "wrote", offset, buffer.length, tn_clock_ns () - start);
  io_buffer_clear (&buffer);
  return r < 0 ? io_failed (args, what, r) : EXIT_SUCCESS;
}

static int
io_write_command (CliArgs *args, const char *what)
{
  IoShell *shell = io_image (args, true);
  GError *error = NULL;
  uint64_t offset = 0;
  uint32_t flags = 0;
  uint8_t pattern;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (cli_flag (args, "vm-state"))
    return io_failed (args, what, -ENOTSUP);
  if (io_write_flags (args, &flags, &error) < 0
      || io_offset (args, args->words[0], "offset", &offset, &error) < 0
      || io_pattern (args, IO_FILL_WRITE, &pattern, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  if (cli_flag (args, "zeroes"))
    return io_write_zeroes (args, shell, offset, flags);
  return io_write_buffer (args, shell, what, offset, flags, pattern);
}

int
io_write_run (CliArgs *args)
{
  return io_write_command (args, "write");
}

int
io_writev_run (CliArgs *args)
{
  return io_write_command (args, "writev");
}
