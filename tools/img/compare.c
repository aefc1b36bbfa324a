/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img compare */
#include "img.h"
#include "progress.h"

#include <sys/mman.h>

#include <tenon/copy.h>
#include <tenon/loop.h>

#define COMPARE_CHUNK (128u << 10) /* two of them stay in the nearer caches of a processor */

enum { SAME = 0, DIFFERENT = 1, OPEN_FAILED = 2, STATUS_FAILED = 3, READ_FAILED = 4 };

typedef struct Compare {
  CliArgs *args;
  TnNode *node[2];
  unsigned char *buffer[2];
  CliProgress progress;
  uint64_t shorter, longer;
  bool strict;
  int status;
  GError *error;
} Compare;

static void
fail (Compare *compare, int status)
{
  compare->status = status;
}

static void
differ (Compare *compare, const char *format, uint64_t offset)
{
  compare->status = DIFFERENT;
  cli_progress_end (&compare->progress, false);
  if (!cli_quiet (compare->args))
    cli_print (compare->args, format, offset);
}

/* Both reads are under way at a time. */
typedef struct CompareRead {
  TnRequest request;
  struct iovec iov;
  TnCoroutine *waiter;
  unsigned *pending;
  int result;
} CompareRead;

static void
read_done (TnRequest *request, int result)
{
  CompareRead *read = request->opaque;
  read->result = result;
  if (--*read->pending == 0)
    tn_co_wake (read->waiter);
}

static bool
read_both (Compare *compare, uint64_t offset, uint64_t length)
{
  unsigned pending = 2;
  CompareRead reads[2];
  for (unsigned i = 0; i < 2; i++) {
    reads[i].iov = (struct iovec){ compare->buffer[i], length };
    reads[i].waiter = tn_co_self ();
    reads[i].pending = &pending;
    reads[i].request = (TnRequest){ .op = TN_REQUEST_READ,
                                    .n_iov = 1,
                                    .iov = &reads[i].iov,
                                    .offset = offset,
                                    .length = length,
                                    .done = read_done,
                                    .opaque = &reads[i] };
    tn_node_submit (compare->node[i], &reads[i].request);
  }
  tn_co_yield ();
  for (unsigned i = 0; i < 2; i++) {
    if (reads[i].result >= 0)
      continue;
    tn_fail_errno (&compare->error, TN_BLOCK_ERROR, -reads[i].result,
                   "cannot read '%s' at offset %" G_GUINT64_FORMAT, compare->args->words[i], offset);
    fail (compare, READ_FAILED);
    return false;
  }
  return true;
}

static uint64_t
first_difference (const unsigned char *a, const unsigned char *b, uint64_t length)
{
  uint64_t at = 0;
  while (at + 512 < length && memcmp (a + at, b + at, 512) == 0)
    at += 512;
  while (at < length && a[at] == b[at])
    at++;
  return at;
}

/* Sectors are what is reported: the offset of the first that differs. */
static uint64_t
sector_of (uint64_t offset)
{
  return offset & ~(uint64_t) 511;
}

static void
compare_data (Compare *compare, uint64_t offset, uint64_t length)
{
  if (!read_both (compare, offset, length) || memcmp (compare->buffer[0], compare->buffer[1], length) == 0)
    return;
  differ (compare, "Content mismatch at offset %" G_GUINT64_FORMAT "!\n",
          sector_of (offset + first_difference (compare->buffer[0], compare->buffer[1], length)));
}

/* What one image holds where the other has nothing must be zero. */
static void
compare_with_zero (Compare *compare, unsigned which, uint64_t offset, uint64_t length)
{
  unsigned char *buffer = compare->buffer[which];
  if (tn_node_read (compare->node[which], offset, buffer, length, &compare->error) < 0) {
    fail (compare, READ_FAILED);
    return;
  }
  if (tn_is_zero (buffer, length))
    return;
  uint64_t at = 0;
  while (!buffer[at])
    at++;
  differ (compare, "Content mismatch at offset %" G_GUINT64_FORMAT "!\n", sector_of (offset + at));
}

static bool
get_status (Compare *compare, unsigned which, uint64_t offset, uint64_t length, TnStatus *status)
{
  if (tn_node_status (compare->node[which], NULL, offset, length, status, &compare->error) >= 0
      && status->length)
    return true;
  fail (compare, STATUS_FAILED);
  return false;
}

static bool
same_status (const TnStatus *a, const TnStatus *b)
{
  return a->data == b->data && a->zero == b->zero && a->allocated == b->allocated
         && a->has_offset == b->has_offset;
}

/* One stretch that both images hold in the same way; returns its length. */
static uint64_t
compare_stretch (Compare *compare, uint64_t offset)
{
  uint64_t left = compare->shorter - offset;
  TnStatus status[2];
  if (!get_status (compare, 0, offset, left, &status[0])
      || !get_status (compare, 1, offset, left, &status[1]))
    return 0;
  uint64_t length = MIN (MIN (status[0].length, status[1].length), left);
  if (compare->strict && !same_status (&status[0], &status[1])) {
    differ (compare, "Strict mode: Offset %" G_GUINT64_FORMAT " block status mismatch!\n", offset);
    return 0;
  }
  if (status[0].zero && status[1].zero)
    return length;
  length = MIN (length, COMPARE_CHUNK);
  if (status[0].zero || status[1].zero)
    compare_with_zero (compare, status[0].zero ? 1 : 0, offset, length);
  else
    compare_data (compare, offset, length);
  return length;
}

/* The part that only the longer image has must be zero. */
static void
compare_rest (Compare *compare)
{
  unsigned which = tn_node_size (compare->node[0]) > compare->shorter ? 0 : 1;
  if (!cli_quiet (compare->args))
    cli_print (compare->args, "Warning: Image size mismatch!\n");
  for (uint64_t at = compare->shorter; at < compare->longer && compare->status == SAME;) {
    TnStatus status;
    if (!get_status (compare, which, at, compare->longer - at, &status))
      return;
    uint64_t length = status.length;
    if (!status.zero) {
      length = MIN (length, COMPARE_CHUNK);
      compare_with_zero (compare, which, at, length);
    }
    at += length;
    cli_progress_set (&compare->progress, at);
  }
}

static void
compare_main (void *opaque)
{
  Compare *compare = opaque;
  for (uint64_t at = 0; at < compare->shorter && compare->status == SAME;) {
    at += compare_stretch (compare, at);
    cli_progress_set (&compare->progress, at);
  }
  if (compare->status == SAME && compare->shorter != compare->longer)
    compare_rest (compare);
}

static int
compare_nodes (Compare *compare)
{
  CliArgs *args = compare->args;
  uint64_t size[2] = { tn_node_size (compare->node[0]), tn_node_size (compare->node[1]) };
  compare->shorter = MIN (size[0], size[1]);
  compare->longer = MAX (size[0], size[1]);
  if (compare->strict && size[0] != size[1]) {
    if (!cli_quiet (args))
      cli_print (args, "Strict mode: Image size mismatch!\n");
    return DIFFERENT;
  }
  size_t arena = 2 * COMPARE_CHUNK;
  unsigned char *buffers = mmap (NULL, arena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffers == MAP_FAILED) {
    cli_error (args, "no memory for the buffers");
    return READ_FAILED;
  }
  compare->buffer[0] = buffers;
  compare->buffer[1] = buffers + COMPARE_CHUNK;
  cli_progress_begin (&compare->progress, args, compare->longer, 2.0);
  tn_co_run (compare_main, compare);
  munmap (buffers, arena);
  if (compare->error)
    return cli_fail (args, compare->status, &compare->error);
  if (compare->status == SAME)
    cli_progress_set (&compare->progress, compare->longer);
  if (compare->status == SAME && !cli_quiet (args))
    cli_print (args, "Images are identical.\n");
  cli_flush (args);
  cli_progress_end (&compare->progress, compare->status == SAME);
  return compare->status;
}

static int
open_both (CliArgs *args, TnNode *nodes[2], GError **error)
{
  CliCache cache;
  bool image_opts = cli_flag (args, "image-opts");
  int ret = cli_cache (args, "source-cache", TN_CACHE_WRITEBACK, &cache, error);
  if (ret >= 0)
    ret = cli_define_objects (args, error);
  for (unsigned i = 0; i < 2 && ret >= 0; i++)
    ret = cli_open_as (args, args->words[i], image_opts, cli_text (args, i ? "second-format" : "format"),
                       NULL, cache.open_flags, &nodes[i], error);
  return ret < 0 ? ret : cli_seal (args, TN_SANDBOX_PLUGINS, NULL, 0, error);
}

static int
compare_run (CliArgs *args)
{
  GError *error = NULL;
  Compare compare = { .args = args, .strict = cli_flag (args, "strict") };
  int status = open_both (args, compare.node, &error) < 0 ? cli_fail (args, OPEN_FAILED, &error)
                                                          : compare_nodes (&compare);
  tn_node_unref (compare.node[0]);
  tn_node_unref (compare.node[1]);
  return status;
}

static const CliOption compare_options[] = {
  { "format", 'f', "FMT", "format of the first image", NULL },
  { "second-format", 'F', "FMT", "format of the second image", NULL },
  { "strict", 's', NULL, "sizes and what is allocated must be the same, too", NULL },
  { 0 }
};

static const CliStatus compare_statuses[] = { { SAME, "the images have the same contents" },
                                              { DIFFERENT, "the images differ" },
                                              { OPEN_FAILED, "an image cannot be opened" },
                                              { STATUS_FAILED, "what an image has allocated cannot be told" },
                                              { READ_FAILED, "an image cannot be read" },
                                              { 0 } };

const CliCommand img_compare = {
  .name = "compare",
  .summary = "compare the contents of two images",
  .words = "FILENAME1 FILENAME2",
  .min_words = 2,
  .max_words = 2,
  .standard = CLI_SANDBOX | (CLI_OPEN & ~CLI_FORMAT) | CLI_PROGRESS | CLI_QUIET | CLI_SOURCE_CACHE,
  .options = compare_options,
  .statuses = compare_statuses,
  .run = compare_run,
};
