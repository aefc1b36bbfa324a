/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img rebase */
#include "img.h"
#include "progress.h"

#include <sys/mman.h>

#include <tenon/copy.h>
#include <tenon/loop.h>

#define REBASE_CHUNK (1u << 20)

typedef struct Rebase {
  CliArgs *args;
  TnNode *node;              /* the overlay */
  TnNode *was, *to;          /* old and new backing node; NULL: none */
  const char *name, *format; /* of the new one; name NULL: none */
  CliCache cache, source_cache;
  CliProgress progress;
  unsigned char *buffer[2];
  uint64_t unit;
  int result;
  GError *error;
} Rebase;

/* ---- Comparing the two backing images ---- */

/* What an overlay sees of a backing image: zeroes behind its end. */
static int
read_backing (TnNode *node, uint64_t offset, unsigned char *buffer, uint64_t length, GError **error)
{
  uint64_t size = node ? tn_node_size (node) : 0;
  uint64_t within = offset < size ? MIN (length, size - offset) : 0;
  memset (buffer + within, 0, length - within);
  return within ? tn_node_read (node, offset, buffer, within, error) : 0;
}

/* How far from @offset on the image is known to be all zeroes; 0: it isn't. */
static uint64_t
zero_length (TnNode *node, uint64_t offset, uint64_t length)
{
  uint64_t size = node ? tn_node_size (node) : 0;
  if (offset >= size)
    return length;
  TnStatus status;
  uint64_t left = MIN (length, size - offset);
  if (tn_node_status (node, NULL, offset, left, &status, NULL) < 0 || !status.zero)
    return 0;
  return MIN (status.length, left);
}

static int
keep_run (Rebase *rebase, uint64_t offset, const unsigned char *data, uint64_t length)
{
  if (tn_is_zero (data, length))
    return tn_node_write_zeroes (rebase->node, offset, length, 0, &rebase->error);
  struct iovec iov = { (void *) data, length };
  return tn_node_writev (rebase->node, offset, &iov, 1, rebase->cache.write_flags, &rebase->error);
}

/* Writes into the overlay what it would no longer see, in whole clusters. */
static int
keep_differences (Rebase *rebase, uint64_t offset, uint64_t length)
{
  for (uint64_t at = 0, n; at < length; at += n) {
    n = MIN (rebase->unit - (offset + at) % rebase->unit, length - at);
    if (memcmp (rebase->buffer[0] + at, rebase->buffer[1] + at, n) == 0)
      continue;
    int ret = keep_run (rebase, offset + at, rebase->buffer[0] + at, n);
    if (ret < 0)
      return ret;
  }
  return 0;
}

/* A stretch that the overlay does not hold itself; returns how much was done. */
static int64_t
keep_stretch (Rebase *rebase, uint64_t offset, uint64_t length)
{
  uint64_t zero = MIN (zero_length (rebase->was, offset, length), zero_length (rebase->to, offset, length));
  if (zero)
    return zero;
  length = MIN (length, REBASE_CHUNK);
  int ret = read_backing (rebase->was, offset, rebase->buffer[0], length, &rebase->error);
  if (ret >= 0)
    ret = read_backing (rebase->to, offset, rebase->buffer[1], length, &rebase->error);
  if (ret >= 0)
    ret = keep_differences (rebase, offset, length);
  return ret < 0 ? ret : (int64_t) length;
}

static int64_t
rebase_stretch (Rebase *rebase, uint64_t offset, uint64_t size)
{
  TnStatus status;
  /* Without a backing file everything is the overlay's own. */
  int ret = tn_node_status (rebase->node, rebase->was, offset, size - offset, &status, &rebase->error);
  if (ret < 0)
    return ret;
  if (status.length == 0)
    return tn_fail (&rebase->error, TN_BLOCK_ERROR, EIO, "no block status at offset %" G_GUINT64_FORMAT,
                    offset);
  uint64_t length = MIN (status.length, size - offset);
  return status.allocated ? (int64_t) length : keep_stretch (rebase, offset, length);
}

static void
rebase_main (void *opaque)
{
  Rebase *rebase = opaque;
  uint64_t size = tn_node_size (rebase->node);
  for (uint64_t at = 0; at < size;) {
    int64_t n = rebase_stretch (rebase, at, size);
    if (n < 0) {
      rebase->result = n;
      return;
    }
    at += n;
    cli_progress_set (&rebase->progress, at);
  }
}

static int
keep_contents (Rebase *rebase, GError **error)
{
  TnInfo info = { .size = sizeof info };
  int ret = tn_node_info (rebase->node, &info, error);
  if (ret < 0)
    return ret;
  rebase->unit = MIN (MAX (info.cluster_size, 4096), REBASE_CHUNK);
  unsigned char *buffers =
      mmap (NULL, 2 * REBASE_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffers == MAP_FAILED)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "no memory for the buffers");
  rebase->buffer[0] = buffers;
  rebase->buffer[1] = buffers + REBASE_CHUNK;
  tn_co_run (rebase_main, rebase);
  munmap (buffers, 2 * REBASE_CHUNK);
  if (rebase->result < 0)
    g_propagate_error (error, g_steal_pointer (&rebase->error));
  /* The data must be there before the image forgets where it was. */
  return rebase->result < 0 ? rebase->result : tn_node_flush (rebase->node, error);
}

/* ---- The command ---- */

static int
open_new_backing (Rebase *rebase, GError **error)
{
  if (!rebase->name)
    return 0;
  g_autoptr (TnOptions) graph = NULL;
  int ret = tn_node_parse_filename (rebase->name, tn_node_filename (rebase->node), &graph, error);
  if (ret < 0)
    return ret;
  const char *path = tn_options_get (graph, "filename");
  /* Shared: the new backing file may be part of the old chain, which is open already. */
  ret = cli_open_as (rebase->args, path ? path : rebase->name, false, rebase->format, NULL,
                     rebase->source_cache.open_flags | TN_OPEN_SHARED, &rebase->to, error);
  if (ret < 0) {
    g_prefix_error (error, "new backing file '%s': ", rebase->name);
    return ret;
  }
  return img_check_not_source (tn_node_filename (rebase->node), rebase->to, error);
}

static int
parse (Rebase *rebase, GError **error)
{
  CliArgs *args = rebase->args;
  const TnClass *class;
  rebase->name = cli_text (args, "backing");
  rebase->format = cli_text (args, "backing-format");
  if (!rebase->name && !cli_flag (args, "unsafe"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "give the new backing file with -b ('' for none), or -u to change its format only");
  if (rebase->name && !*rebase->name)
    rebase->name = NULL;
  if (rebase->name && !rebase->format)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the format of backing file '%s' must be said: -F FMT",
                    rebase->name);
  int ret = rebase->format ? cli_find_format (rebase->format, &class, error) : 0;
  if (ret >= 0)
    ret = cli_cache (args, "cache", TN_CACHE_WRITEBACK, &rebase->cache, error);
  if (ret >= 0)
    ret = cli_cache (args, "source-cache", TN_CACHE_WRITEBACK, &rebase->source_cache, error);
  return ret;
}

static int
rebase_node (Rebase *rebase, GError **error)
{
  CliArgs *args = rebase->args;
  bool unsafe = cli_flag (args, "unsafe");
  int ret = parse (rebase, error);
  if (ret < 0)
    return ret;
  uint32_t flags = TN_OPEN_WRITE | rebase->cache.open_flags | (unsafe ? TN_OPEN_NO_BACKING : 0);
  ret = cli_open (args, args->words[0], flags, &rebase->node, error);
  if (ret < 0)
    return ret;
  if (unsafe && !cli_flag (args, "backing"))
    rebase->name = tn_node_backing_name (rebase->node);
  rebase->was = tn_node_child (rebase->node, "backing");
  cli_progress_begin (&rebase->progress, args, tn_node_size (rebase->node), 1.0);
  if (!unsafe) {
    ret = open_new_backing (rebase, error);
    if (ret >= 0 && (rebase->was || rebase->to))
      ret = keep_contents (rebase, error);
  }
  if (ret >= 0)
    ret = tn_node_set_backing_reference (rebase->node, rebase->name, rebase->name ? rebase->format : NULL,
                                         error);
  return ret < 0 ? ret : tn_node_flush (rebase->node, error);
}

static int
rebase_run (CliArgs *args)
{
  Rebase rebase = { .args = args };
  GError *error = NULL;
  int status = rebase_node (&rebase, &error) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
  cli_progress_end (&rebase.progress, status == EXIT_SUCCESS);
  if (error)
    cli_fail (args, EXIT_FAILURE, &error);
  tn_node_unref (rebase.to);
  return cli_close (args, rebase.node, status);
}

static const CliOption rebase_options[] = {
  { "backing", 'b', "FILE", "the new backing file; '' for none", NULL },
  { "backing-format", 'F', "FMT", "format of the new backing file", NULL },
  { "unsafe", 'u', NULL, "only change the reference; the new file must have the same contents as the old one",
    NULL },
  { 0 }
};

const CliCommand img_rebase = {
  .name = "rebase",
  .summary = "give an overlay another backing file, keeping its contents",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_CACHE | CLI_SOURCE_CACHE | CLI_PROGRESS | CLI_QUIET,
  .options = rebase_options,
  .details = "The name of the backing file is taken relative to the folder of the overlay.\n",
  .run = rebase_run,
};
