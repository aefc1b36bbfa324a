/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* aio_read, aio_write, aio_flush: requests that go on while the next command is read. */
#include "shell.h"

#define IO_FILL_READ 0xab
#define IO_FILL_WRITE 0xcd

/* One request under way, with a copy of the command that asked for it. */
typedef struct IoAsync {
  TnRequest request;
  IoCall call;
  IoBuffer buffer;
  uint8_t pattern;
  int64_t start;
} IoAsync;

static void
io_async_free (IoAsync *async)
{
  io_buffer_clear (&async->buffer);
  cli_args_clear (&async->call.args);
  g_free (async);
}

static void
io_async_report_read (IoAsync *async, CliArgs *args, int64_t ns)
{
  uint64_t offset = async->request.offset;

  if (cli_flag (args, "pattern"))
    io_verify (args, async->buffer.data, async->buffer.length, offset, async->pattern);
  if (cli_flag (args, "quiet"))
    return;
  if (cli_flag (args, "dump"))
    io_dump (args, async->buffer.data, async->buffer.length, offset);
  io_report (args, "read", offset, async->buffer.length, ns);
}

static void
io_async_done (TnRequest *request, int result)
{
  IoAsync *async = request->opaque;
  CliArgs *args = &async->call.args;
  bool reading = request->op == TN_REQUEST_READ;
  int64_t ns = tn_clock_ns () - async->start;

  async->call.shell->pending--;
  if (result < 0)
    io_failed (args, reading ? "readv" : "aio_write", result);
  else if (reading)
    io_async_report_read (async, args, ns);
  else
    io_report (args, "wrote", request->offset, request->length, ns);
  io_async_free (async);
}

/* Takes over which options were given (not their values: the line that holds them goes). */
static IoAsync *
io_async_new (CliArgs *args, TnRequestOp op)
{
  IoAsync *async = g_new0 (IoAsync, 1);

  async->call.shell = io_shell (args);
  async->call.args = *args;
  async->call.args.given = g_memdup2 (args->given, args->n_given * sizeof *args->given);
  async->call.args.words = NULL;
  async->call.args.n_words = 0;
  async->request.op = op;
  async->request.done = io_async_done;
  async->request.opaque = async;
  return async;
}

static int
io_async_submit (IoAsync *async)
{
  IoShell *shell = async->call.shell;

  shell->pending++;
  async->start = tn_clock_ns ();
  if (!io_in_range (shell, async->request.offset, async->request.length))
    io_async_done (&async->request, -EIO);
  else
    tn_drive_submit (shell->drive, &async->request);
  return EXIT_SUCCESS;
}

static int
io_async_fail (IoAsync *async, GError *error)
{
  CliArgs *args = async->call.shell->args;

  io_async_free (async);
  return cli_fail (args, EXIT_FAILURE, &error);
}

/* -i: a request that is wrong on purpose. */
static int
io_inject_invalid (IoShell *shell, const char *what)
{
  TnRequest request = { .op = TN_REQUEST_FLUSH, .offset = UINT64_MAX, .length = UINT64_MAX };

  cli_print (shell->args, "injecting invalid %s request\n", what);
  request.op = *what == 'r' ? TN_REQUEST_READ : TN_REQUEST_WRITE;
  io_do (shell, &request);
  return EXIT_SUCCESS;
}

int
io_aio_read_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;
  IoAsync *async;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (cli_flag (args, "invalid"))
    return io_inject_invalid (shell, "read");
  async = io_async_new (args, TN_REQUEST_READ);
  if (io_offset (args, args->words[0], "offset", &async->request.offset, &error) < 0
      || io_pattern (args, 0, &async->pattern, &error) < 0
      || io_buffer_new (args, 1, IO_FILL_READ, &async->buffer, &error) < 0)
    return io_async_fail (async, error);
  async->request.iov = async->buffer.iov;
  async->request.n_iov = async->buffer.n_iov;
  async->request.length = async->buffer.length;
  return io_async_submit (async);
}

static int
io_aio_prepare_write (CliArgs *args, IoAsync *async, GError **error)
{
  uint32_t flags = 0;
  int r = io_write_flags (args, &flags, error);

  async->request.flags = flags;
  if (r == 0)
    r = io_offset (args, args->words[0], "offset", &async->request.offset, error);
  if (r < 0)
    return r;
  if (cli_flag (args, "zeroes")) {
    if (args->n_words > 2)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-z supports only a single length parameter");
    return io_length (args, args->words[1], &async->request.length, error);
  }
  r = io_pattern (args, IO_FILL_WRITE, &async->pattern, error);
  if (r == 0)
    r = io_buffer_new (args, 1, async->pattern, &async->buffer, error);
  async->request.iov = async->buffer.iov;
  async->request.n_iov = async->buffer.n_iov;
  async->request.length = async->buffer.length;
  return r;
}

int
io_aio_write_run (CliArgs *args)
{
  IoShell *shell = io_image (args, true);
  GError *error = NULL;
  IoAsync *async;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (cli_flag (args, "invalid"))
    return io_inject_invalid (shell, "write");
  async = io_async_new (args, cli_flag (args, "zeroes") ? TN_REQUEST_WRITE_ZEROES : TN_REQUEST_WRITE);
  if (io_aio_prepare_write (args, async, &error) < 0)
    return io_async_fail (async, error);
  return io_async_submit (async);
}

void
io_wait_for_all (IoShell *shell)
{
  while (shell->pending > 0)
    tn_loop_iterate (tn_loop_current (), true);
}

int
io_aio_flush_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;

  if (shell == NULL)
    return EXIT_FAILURE;
  io_wait_for_all (shell);
  if (!tn_drive_is_read_only (shell->drive) && tn_drive_flush (shell->drive, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}
