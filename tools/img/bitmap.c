/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img bitmap */
#include "img.h"

typedef struct BitmapStep {
  const char *option;
  int action; /* TnBitmapAction; 0: merge */
} BitmapStep;

static const BitmapStep steps[] = {
  { "add", TN_BITMAP_ADD },       { "remove", TN_BITMAP_REMOVE },   { "clear", TN_BITMAP_CLEAR },
  { "enable", TN_BITMAP_ENABLE }, { "disable", TN_BITMAP_DISABLE }, { "merge", 0 },
};

typedef struct BitmapCall {
  CliArgs *args;
  TnNode *node, *source; /* source: where --merge finds bitmaps */
  const char *name;
  uint64_t granularity;
} BitmapCall;

static const BitmapStep *
find_step (const char *option)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (steps); i++)
    if (strcmp (steps[i].option, option) == 0)
      return &steps[i];
  return NULL;
}

static int
run_step (const BitmapCall *call, const BitmapStep *step, const char *value, GError **error)
{
  if (step->action)
    return tn_node_bitmap (call->node, (TnBitmapAction) step->action, call->name,
                           step->action == TN_BITMAP_ADD ? call->granularity : 0, error);
  return tn_node_bitmap_merge (call->node, call->name, call->source, value, error);
}

/* In the order in which they were given. */
static int
run_steps (const BitmapCall *call, GError **error)
{
  int ret = 0;
  for (unsigned i = 0; ret == 0 && i < call->args->n_given; i++) {
    const CliGiven *given = &call->args->given[i];
    const BitmapStep *step = given->option->name ? find_step (given->option->name) : NULL;
    ret = step ? run_step (call, step, given->value, error) : 0;
  }
  return ret;
}

static int
check_usage (CliArgs *args, uint64_t *granularity, GError **error)
{
  unsigned n = 0;
  for (unsigned i = 0; i < G_N_ELEMENTS (steps); i++)
    n += cli_flag (args, steps[i].option);
  if (n == 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "say what to do: --add, --remove, --clear, --enable, --disable or --merge SOURCE");
  if (cli_flag (args, "remove") && n > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--remove goes with nothing else");
  if (cli_flag (args, "enable") && cli_flag (args, "disable"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "give one of --enable and --disable");
  if (cli_flag (args, "granularity") && !cli_flag (args, "add"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-g is for --add only");
  if (cli_flag (args, "source-file") && !cli_flag (args, "merge"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-b is for --merge only");
  if (cli_flag (args, "source-format") && !cli_flag (args, "source-file"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-F is for -b only");
  return cli_size (args, "granularity", granularity, error);
}

static int
open_and_run (BitmapCall *call, GError **error)
{
  CliArgs *args = call->args;
  const char *file = cli_text (args, "source-file");
  g_autoptr (TnNode) source = NULL;
  if (file) {
    int ret = cli_open_as (args, file, false, cli_text (args, "source-format"), NULL, TN_OPEN_NO_BACKING,
                           &source, error);
    if (ret < 0)
      return ret;
  }
  call->source = source ? source : call->node;
  return run_steps (call, error);
}

static int
bitmap_run (CliArgs *args)
{
  BitmapCall call = { .args = args, .name = args->words[1] };
  GError *error = NULL;
  if (check_usage (args, &call.granularity, &error) < 0
      || cli_open (args, args->words[0], TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_NO_BACKING, &call.node,
                   &error)
             < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  int status = EXIT_SUCCESS;
  if (open_and_run (&call, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return cli_close (args, call.node, status);
}

static const CliOption bitmap_options[] = {
  { "add", 0, NULL, "add the bitmap; it records writes unless --disable follows", NULL },
  { "remove", 0, NULL, "remove the bitmap", NULL },
  { "clear", 0, NULL, "forget what the bitmap has recorded", NULL },
  { "enable", 0, NULL, "let the bitmap record writes from now on", NULL },
  { "disable", 0, NULL, "let it record no more", NULL },
  { "merge", 0, "SOURCE", "add what bitmap SOURCE has recorded", NULL },
  { "granularity", 'g', "SIZE", "bytes per bit, for --add", NULL },
  { "source-file", 'b', "FILE", "the image where --merge finds its source, instead of FILENAME", NULL },
  { "source-format", 'F', "FMT", "format of that image", NULL },
  { 0 }
};

const CliCommand img_bitmap = {
  .name = "bitmap",
  .summary = "change the dirty bitmaps that an image keeps",
  .words = "FILENAME BITMAP",
  .min_words = 2,
  .max_words = 2,
  .standard = CLI_SANDBOX | CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_QUIET | CLI_UNTRUSTED,
  .options = bitmap_options,
  .details = "Several changes may be asked for at once; they are made in the order given.\n",
  .run = bitmap_run,
};
