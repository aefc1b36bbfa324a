/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img bench: requests of one size at a fixed depth. */
#include "img.h"

#include <sys/mman.h>

#include <tenon/loop.h>

#define MAX_DEPTH 65536
#define MAX_BUFFERS (1u << 30)

typedef struct Bench Bench;

typedef struct BenchRequest {
  Bench *bench;
  TnRequest request;
  struct iovec iov;
  struct BenchRequest *next_free;
} BenchRequest;

struct Bench {
  CliArgs *args;
  TnNode *node;
  BenchRequest *requests, *free;
  unsigned char *buffers; /* mapped */
  size_t buffers_size;
  uint64_t size; /* of the image */

  uint64_t count, depth, buffer_size, step, offset, flush_interval, pattern;
  bool write, drain;
  CliCache cache;

  uint64_t to_start, under_way;
  bool flushing;   /* a flush is under way */
  bool flush_due;  /* and one is to be made once all writes have ended */
  bool submitting; /* requests that end at once do not nest */
  TnRequest flush;
  int result;
  uint64_t failed_offset;
};

/* ---- The loop ---- */

static void bench_pump (Bench *bench);

static void
bench_fail (Bench *bench, int result, uint64_t offset)
{
  if (bench->result < 0)
    return;
  bench->result = result;
  bench->failed_offset = offset;
}

static void
bench_flushed (TnRequest *request, int result)
{
  Bench *bench = request->opaque;
  bench->flushing = false;
  if (result < 0)
    bench_fail (bench, result, 0);
  bench_pump (bench);
}

static void
bench_flush (Bench *bench)
{
  bench->flush_due = false;
  bench->flushing = true;
  bench->flush = (TnRequest){ .op = TN_REQUEST_FLUSH, .done = bench_flushed, .opaque = bench };
  tn_node_submit (bench->node, &bench->flush);
}

static void
bench_done (TnRequest *request, int result)
{
  BenchRequest *own = request->opaque;
  Bench *bench = own->bench;
  bench->under_way--;
  own->next_free = bench->free;
  bench->free = own;
  if (result < 0)
    bench_fail (bench, result, request->offset);
  if (!bench->submitting)
    bench_pump (bench);
}

static void
bench_start (Bench *bench)
{
  BenchRequest *own = bench->free;
  bench->free = own->next_free;
  bench->under_way++;
  own->request.offset = bench->offset;
  bench->offset += bench->step;
  bench->offset = bench->size ? bench->offset % bench->size : 0;
  bench->to_start--;
  if (bench->flush_interval && bench->to_start % bench->flush_interval == 0)
    bench->flush_due = true;
  tn_node_submit (bench->node, &own->request);
}

/* Whether the next request has to wait for a flush. */
static bool
bench_held (Bench *bench)
{
  if (bench->flush_due && !bench->flushing && (!bench->drain || bench->under_way == 0))
    bench_flush (bench);
  return bench->drain && (bench->flushing || bench->flush_due);
}

static void
bench_pump (Bench *bench)
{
  if (bench->submitting)
    return;
  bench->submitting = true;
  while (bench->result >= 0 && !bench_held (bench) && bench->to_start && bench->free)
    bench_start (bench);
  bench->submitting = false;
}

static bool
bench_is_running (const Bench *bench)
{
  return bench->under_way || bench->flushing || (bench->result >= 0 && (bench->to_start || bench->flush_due));
}

static void
bench_run_loop (Bench *bench)
{
  TnLoop *loop = tn_loop_current ();
  bench_pump (bench);
  while (bench_is_running (bench)) {
    tn_loop_iterate (loop, true);
    bench_pump (bench);
  }
}

/* ---- Setting up ---- */

static int
bench_allocate (Bench *bench, GError **error)
{
  uint64_t stride = (bench->buffer_size + 4095) & ~(uint64_t) 4095;
  size_t total = MAX (stride * bench->depth, 1);
  if (stride > MAX_BUFFERS / bench->depth)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "%" G_GUINT64_FORMAT " buffers of %" G_GUINT64_FORMAT
                    " bytes are too many; reduce -d or -s",
                    bench->depth, bench->buffer_size);
  bench->buffers =
      mmap (NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (bench->buffers == MAP_FAILED)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "no memory for the buffers");
  bench->buffers_size = total;
  if (bench->pattern)
    memset (bench->buffers, bench->pattern, total);
  bench->requests = g_new0 (BenchRequest, bench->depth);
  for (uint64_t i = bench->depth; i-- > 0;) {
    BenchRequest *own = &bench->requests[i];
    own->bench = bench;
    own->iov = (struct iovec){ bench->buffers + i * stride, bench->buffer_size };
    own->request = (TnRequest){ .op = bench->write ? TN_REQUEST_WRITE : TN_REQUEST_READ,
                                .flags = bench->write ? bench->cache.write_flags : 0,
                                .n_iov = 1,
                                .iov = &own->iov,
                                .length = bench->buffer_size,
                                .done = bench_done,
                                .opaque = own };
    own->next_free = bench->free;
    bench->free = own;
  }
  return 0;
}

static int
parse (Bench *bench, GError **error)
{
  CliArgs *args = bench->args;
  bench->count = 75000;
  bench->depth = 64;
  bench->buffer_size = 4096;
  bench->write = cli_flag (args, "write");
  bench->drain = !cli_flag (args, "no-drain");
  int ret = cli_uint (args, "count", 0, INT32_MAX, &bench->count, error);
  if (ret >= 0)
    ret = cli_uint (args, "depth", 1, MAX_DEPTH, &bench->depth, error);
  if (ret >= 0)
    ret = cli_size (args, "buffer-size", &bench->buffer_size, error);
  bench->step = bench->buffer_size;
  if (ret >= 0)
    ret = cli_size (args, "step-size", &bench->step, error);
  if (ret >= 0)
    ret = cli_size (args, "offset", &bench->offset, error);
  if (ret >= 0)
    ret = cli_uint (args, "flush-interval", 0, INT32_MAX, &bench->flush_interval, error);
  if (ret >= 0)
    ret = cli_uint (args, "pattern", 0, 255, &bench->pattern, error);
  if (ret < 0)
    return ret;
  if (bench->buffer_size < 1 || bench->buffer_size > INT32_MAX)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--buffer-size must be from 1 to %d", INT32_MAX);
  if (!bench->write && bench->flush_interval)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--flush-interval is for write tests; add -w");
  if (bench->flush_interval && bench->flush_interval < bench->depth)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--flush-interval must not be smaller than the depth (%" G_GUINT64_FORMAT ")",
                    bench->depth);
  bench->to_start = bench->count;
  return cli_cache (args, "cache", TN_CACHE_WRITEBACK, &bench->cache, error);
}

static int
open_image (Bench *bench, GError **error)
{
  CliArgs *args = bench->args;
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *aio = cli_text (args, "aio");
  if (!aio && cli_flag (args, "native"))
    aio = "native";
  if (aio)
    tn_options_set (options, "file.aio", aio);
  int ret = cli_define_objects (args, error);
  if (ret >= 0)
    ret =
        cli_open_as (args, args->words[0], cli_flag (args, "image-opts"), cli_text (args, "format"), options,
                     bench->cache.open_flags | (bench->write ? TN_OPEN_WRITE : 0), &bench->node, error);
  if (ret >= 0)
    ret = cli_seal (args, TN_SANDBOX_PLUGINS, NULL, 0, error);
  if (ret < 0)
    return ret;
  bench->size = tn_node_size (bench->node);
  return bench_allocate (bench, error);
}

static void
print_plan (const Bench *bench)
{
  cli_print (bench->args,
             "Sending %" G_GUINT64_FORMAT " %s requests, %" G_GUINT64_FORMAT " bytes each, %" G_GUINT64_FORMAT
             " in parallel (starting at offset %" G_GUINT64_FORMAT ", step size %" G_GUINT64_FORMAT ")\n",
             bench->count, bench->write ? "write" : "read", bench->buffer_size, bench->depth, bench->offset,
             bench->step);
  if (bench->flush_interval)
    cli_print (bench->args, "Sending flush every %" G_GUINT64_FORMAT " %srequests\n", bench->flush_interval,
               bench->drain ? "" : "in-flight ");
  cli_flush (bench->args);
}

static int
measure (Bench *bench)
{
  print_plan (bench);
  int64_t began = tn_clock_ns ();
  bench_run_loop (bench);
  double seconds = (tn_clock_ns () - began) / 1e9;
  if (bench->result < 0) {
    cli_error (bench->args, "a request at offset %" G_GUINT64_FORMAT " failed: %s", bench->failed_offset,
               g_strerror (-bench->result));
    return EXIT_FAILURE;
  }
  cli_print (bench->args, "Run completed in %3.3f seconds.\n", seconds);
  return EXIT_SUCCESS;
}

static void
bench_free (Bench *bench)
{
  g_free (bench->requests);
  if (bench->buffers_size > 0)
    munmap (bench->buffers, bench->buffers_size);
}

static int
bench_run (CliArgs *args)
{
  Bench bench = { .args = args };
  GError *error = NULL;
  int status = EXIT_FAILURE;
  if (parse (&bench, &error) < 0 || open_image (&bench, &error) < 0)
    cli_fail (args, EXIT_FAILURE, &error);
  else
    status = measure (&bench);
  status = cli_close (args, bench.node, status);
  bench_free (&bench);
  return status;
}

static const char *const aio_choices[] = { "threads", "native", "io_uring", NULL };

static const CliOption bench_options[] = {
  { "count", 'c', "N", "number of requests (default: 75000)", NULL },
  { "depth", 'd', "N", "requests under way at a time (default: 64)", NULL },
  { "flush-interval", 0, "N", "flush after every N writes", NULL },
  { "aio", 'i', "ENGINE", "how requests reach the kernel", aio_choices },
  { "native", 'n', NULL, "the same as --aio=native", NULL },
  { "no-drain", 0, NULL, "flush while writes are under way", NULL },
  { "offset", 'o', "OFFSET", "where the first request goes", NULL },
  { "pattern", 0, "BYTE", "what to write (default: 0)", NULL },
  { "buffer-size", 's', "SIZE", "size of a request (default: 4k)", NULL },
  { "step-size", 'S', "SIZE", "distance from request to request (default: the size of a request)", NULL },
  { "write", 'w', NULL, "write instead of reading", NULL },
  { 0 }
};

const CliCommand img_bench = {
  .name = "bench",
  .summary = "measure how fast an image can be read or written",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_CACHE | CLI_QUIET,
  .options = bench_options,
  .run = bench_run,
};
