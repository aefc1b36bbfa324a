/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img commit */
#include "img.h"
#include "progress.h"

#include <tenon/copy.h>

typedef struct Commit {
  CliArgs *args;
  TnNode *top, *base;
  CliCache cache;
  CliProgress progress;
} Commit;

/* The node of the chain that the data goes to: the backing node, or the one that -b names. */
static int
find_base (Commit *commit, GError **error)
{
  const char *name = cli_text (commit->args, "base");
  commit->base = tn_node_child (commit->top, "backing");
  if (!commit->base)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' has no backing file to commit to",
                    commit->args->words[0]);
  if (!name)
    return 0;
  for (TnNode *above = commit->top, *node = commit->base; node;
       above = node, node = tn_node_child (node, "backing")) {
    if (strcmp (tn_node_filename (node), name) != 0 && g_strcmp0 (tn_node_backing_name (above), name) != 0
        && !cli_same_file (tn_node_filename (node), name))
      continue;
    commit->base = node;
    return 0;
  }
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' is not in the backing chain of '%s'", name,
                  commit->args->words[0]);
}

/* The chain was opened for reading: only the top and the base are written. */
static int
make_base_writable (Commit *commit, GError **error)
{
  uint32_t flags = tn_node_open_flags (commit->base) | TN_OPEN_WRITE | TN_OPEN_RESIZE;
  int ret = tn_node_reopen (commit->base, NULL, flags, error);
  if (ret < 0)
    return ret;
  uint64_t size = tn_node_size (commit->top);
  return size > tn_node_size (commit->base) ? tn_node_resize (commit->base, size, TN_PREALLOC_OFF, error) : 0;
}

static int
show_progress (uint64_t done, void *opaque)
{
  cli_progress_set (opaque, done);
  return 0;
}

static int
copy_down (Commit *commit, GError **error)
{
  TnCopy copy = { .size = sizeof copy,
                  .sources = &commit->top,
                  .n_sources = 1,
                  .base = commit->base,
                  .length = tn_node_size (commit->top),
                  .target = commit->base,
                  .write_flags = commit->cache.write_flags,
                  .sparse = 4096,
                  .progress = show_progress,
                  .opaque = &commit->progress };
  int ret = cli_size (commit->args, "rate-limit", &copy.rate, error);
  if (ret >= 0)
    ret = make_base_writable (commit, error);
  if (ret < 0)
    return ret;
  cli_progress_begin (&commit->progress, commit->args, copy.length, 1.0);
  ret = tn_copy_run (&copy, error);
  /* The base must be safe before the overlay lets go of the data. */
  return ret < 0 ? ret : tn_node_flush (commit->base, error);
}

static int
commit_node (Commit *commit, GError **error)
{
  bool direct = commit->base == tn_node_child (commit->top, "backing");
  int ret = copy_down (commit, error);
  if (ret < 0 || cli_flag (commit->args, "keep") || !direct)
    return ret;
  ret = tn_node_make_empty (commit->top, error);
  return ret < 0 ? ret : tn_node_flush (commit->top, error);
}

static int
open_and_commit (Commit *commit, GError **error)
{
  CliArgs *args = commit->args;
  int ret = cli_cache (args, "cache", TN_CACHE_WRITEBACK, &commit->cache, error);
  if (ret >= 0)
    ret = cli_open (args, args->words[0], TN_OPEN_WRITE | commit->cache.open_flags, &commit->top, error);
  if (ret >= 0)
    ret = find_base (commit, error);
  return ret < 0 ? ret : commit_node (commit, error);
}

static int
commit_run (CliArgs *args)
{
  Commit commit = { .args = args };
  GError *error = NULL;
  int status = open_and_commit (&commit, &error) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
  cli_progress_end (&commit.progress, status == EXIT_SUCCESS);
  if (error)
    cli_fail (args, EXIT_FAILURE, &error);
  status = cli_close (args, commit.top, status);
  if (status == EXIT_SUCCESS && !cli_quiet (args))
    cli_print (args, "Image committed.\n");
  return status;
}

static const CliOption commit_options[] = {
  { "base", 'b', "FILE", "commit into this image of the chain (keeps the overlay as it is)", NULL },
  { "keep", 'd', NULL, "do not empty the overlay afterwards", NULL },
  { "rate-limit", 'r', "SIZE", "bytes per second at most", NULL },
  { 0 }
};

const CliCommand img_commit = {
  .name = "commit",
  .summary = "write what an overlay holds into its backing file",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | (CLI_OPEN & ~CLI_SHARE) | CLI_CACHE | CLI_PROGRESS | CLI_QUIET,
  .options = commit_options,
  .details = "A backing file that is smaller than the overlay is enlarged.  With -b, images between the two "
             "are no longer\n"
             "valid afterwards.\n",
  .run = commit_run,
};
