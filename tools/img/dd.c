/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img dd */
#include "img.h"
#include "progress.h"

#include <tenon/copy.h>

typedef struct Dd {
  CliArgs *args;
  const char *input, *output;
  uint64_t block, count, skip;
  bool has_count, has_skip;
  CliProgress progress;
} Dd;

static int
parse_number (const char *value, const char *name, uint64_t *number, bool *given, GError **error)
{
  *given = true;
  return cli_parse_size (value, name, number, error);
}

static int
parse_operand (Dd *dd, const char *word, GError **error)
{
  static const char *const names[] = { "if", "of", "bs", "count", "skip", NULL };
  const char *equals = strchr (word, '=');
  g_autofree char *name = equals ? g_strndup (word, equals - word) : g_strdup (word);
  const char *value = equals ? equals + 1 : NULL;
  bool ignored;
  if (value && strcmp (name, "if") == 0) {
    dd->input = value;
    return 0;
  }
  if (value && strcmp (name, "of") == 0) {
    dd->output = value;
    return 0;
  }
  if (value && strcmp (name, "bs") == 0)
    return parse_number (value, "bs", &dd->block, &ignored, error);
  if (value && strcmp (name, "count") == 0)
    return parse_number (value, "count", &dd->count, &dd->has_count, error);
  if (value && strcmp (name, "skip") == 0)
    return parse_number (value, "skip", &dd->skip, &dd->has_skip, error);
  g_autofree char *hint = cli_hint (name, names);
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "unknown operand '%s'%s", word, hint);
}

static int
parse (Dd *dd, GError **error)
{
  for (unsigned i = 0; i < dd->args->n_words; i++) {
    int ret = parse_operand (dd, dd->args->words[i], error);
    if (ret < 0)
      return ret;
  }
  if (!dd->input || !dd->output)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "dd needs both an input and an output: if=FILE of=FILE");
  if (dd->block < 1 || dd->block > INT32_MAX)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "bs must be from 1 to %d", INT32_MAX);
  return 0;
}

/* As qemu-img has it, count= tells where the reading ends, counted from the beginning of the input. */
static uint64_t
range_to_copy (const Dd *dd, uint64_t size, uint64_t *offset)
{
  uint64_t end;
  if (dd->has_count && !__builtin_mul_overflow (dd->count, dd->block, &end))
    size = MIN (size, end);
  if (__builtin_mul_overflow (dd->skip, dd->block, offset) || *offset > size)
    *offset = size;
  return size - *offset;
}

static int
show_progress (uint64_t done, void *opaque)
{
  cli_progress_set (opaque, done);
  return cli_progress_stop (opaque);
}

static int
fill (Dd *dd, TnNode *source, ImgTarget *target, GError **error)
{
  uint64_t offset, skipped;
  uint64_t length = range_to_copy (dd, tn_node_size (source), &offset);
  if (__builtin_mul_overflow (dd->skip, dd->block, &skipped) || skipped > tn_node_size (source))
    cli_error (dd->args, "%s: cannot skip to the given offset: the image ends before it", dd->input);
  g_autoptr (TnOptions) options = tn_options_new ();
  cli_progress_begin (&dd->progress, dd->args, length, 1.0);
  cli_progress_catch_stop (&dd->progress);
  int ret = cli_flag (dd->args, "no-create")
                ? img_target_open (target, error)
                : img_target_create (target, options, (length + 511) & ~(uint64_t) 511, error);
  if (ret >= 0)
    ret = img_target_seal (target, false, error);
  if (ret < 0)
    return ret;
  TnCopy copy = { .size = sizeof copy,
                  .flags = img_target_is_zero (target) ? TN_COPY_TARGET_ZERO : 0,
                  .sources = &source,
                  .n_sources = 1,
                  .offset = offset,
                  .length = length,
                  .target = target->node,
                  .sparse = 4096,
                  .progress = show_progress,
                  .opaque = &dd->progress };
  return tn_copy_run (&copy, error);
}

static int
copy (Dd *dd, ImgTarget *target, GError **error)
{
  CliArgs *args = dd->args;
  const TnClass *class;
  g_autoptr (TnNode) source = NULL;
  int ret = cli_find_format (target->format, &class, error);
  if (ret >= 0)
    ret = cli_define_objects (args, error);
  if (ret >= 0)
    ret = cli_open_as (args, dd->input, cli_flag (args, "image-opts"), cli_text (args, "format"), NULL, 0,
                       &source, error);
  if (ret >= 0)
    ret = img_check_not_source (dd->output, source, error);
  return ret < 0 ? ret : fill (dd, source, target, error);
}

static int
dd_run (CliArgs *args)
{
  Dd dd = { .args = args, .block = 512 };
  GError *error = NULL;
  const char *format = cli_text (args, "output-format");
  if (cli_is_help (format))
    return cli_print_formats (args);
  if (parse (&dd, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  ImgTarget target = { .args = args, .name = dd.output, .format = format ? format : "raw" };
  int status = copy (&dd, &target, &error) < 0 ? cli_fail (args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
  status = img_target_finish (&target, status);
  cli_progress_end (&dd.progress, status == EXIT_SUCCESS);
  return status;
}

static const CliOption dd_options[] = { { "output-format", 'O', "FMT",
                                          "format of the output (default: raw; 'help' lists them)", NULL },
                                        { "no-create", 'n', NULL, "the output exists; write into it", NULL },
                                        { 0 } };

const CliCommand img_dd = {
  .name = "dd",
  .summary = "copy a part of an image into a new one",
  .words = "[bs=SIZE] [count=N] [skip=N] if=FILE of=FILE",
  .max_words = G_MAXUINT,
  .standard = CLI_SANDBOX | CLI_OPEN,
  .options = dd_options,
  .details = "bs=SIZE    size of a block (default: 512)\n"
             "skip=N     leave out N blocks at the beginning of the input\n"
             "count=N    end N blocks from the beginning of the input (those skipped are among them)\n",
  .run = dd_run,
};
