/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a conversion is asked to do. */
#include "convert.h"
#include "stream.h"

#include <unistd.h>

#include <tenon/format.h>
#include <tenon/plugin.h>

#define MAX_PARALLEL 16
#define MAX_SPARSE (16u << 20)

static int
parse_numbers (Convert *convert, GError **error)
{
  TnCopy *copy = &convert->copy;
  uint64_t parallel = 0;
  copy->sparse = 4096;
  int ret = cli_size (convert->args, "sparse", &copy->sparse, error);
  if (ret >= 0)
    ret = cli_size (convert->args, "rate-limit", &copy->rate, error);
  if (ret >= 0)
    ret = cli_size (convert->args, "checkpoint", &copy->checkpoint_bytes, error);
  if (ret >= 0)
    ret = cli_uint (convert->args, "parallel", 1, MAX_PARALLEL, &parallel, error);
  if (ret < 0)
    return ret;
  if (copy->sparse % 512 || copy->sparse > MAX_SPARSE)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--sparse must be a multiple of 512 up to %u, or 0 to allocate everything", MAX_SPARSE);
  copy->parallel = parallel;
  convert->target.unmap = copy->sparse > 0;
  return 0;
}

/* Options that exclude or need each other. */
static int
check_combination (const Convert *convert, GError **error)
{
  const CliArgs *args = convert->args;
  bool no_create = cli_flag (args, "no-create");
  if (cli_flag (args, "skip-broken-bitmaps") && !cli_flag (args, "bitmaps"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--skip-broken-bitmaps is for --bitmaps");
  if (cli_flag (args, "bitmaps") && convert->n_sources > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--bitmaps is for a single image");
  if (cli_flag (args, "copy-range") && cli_flag (args, "sparse"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-C (--copy-range) finds no zeroes in data and cannot be combined with -S");
  if (cli_flag (args, "copy-range") && cli_flag (args, "compress"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-C (--copy-range) copies data as it is and cannot be combined with -c");
  if (cli_flag (args, "resume") && no_create)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--resume is for targets that the command makes and cannot be combined with -n");
  if (cli_flag (args, "checkpoint") && !cli_flag (args, "resume"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--checkpoint is for --resume");
  if (cli_flag (args, "copy-range") && cli_flag (args, "sha256"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-C (--copy-range) does not look at the data and cannot be combined with --sha256");
  if (cli_flag (args, "salvage") && cli_flag (args, "verify"))
    return tn_fail (
        error, TN_OPTION_ERROR, EINVAL,
        "--verify reads the source and cannot be combined with --salvage, which expects that to fail");
  if (cli_flag (args, "target-image-opts") && !no_create)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--target-image-opts is for an existing target; add -n");
  if (cli_flag (args, "target-image-opts") && cli_flag (args, "output-format"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--target-image-opts and -O exclude each other; write driver=FORMAT");
  if (cli_flag (args, "target-is-zero") && !no_create)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--target-is-zero is for an existing target; add -n");
  if (no_create && cli_flag (args, "options"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-o is for making the target and cannot be combined with -n");
  return 0;
}

static int
check_stream (const Convert *convert, GError **error)
{
  static const char *const excluded[] = { "sha256",   "verify", "resume", "no-create",
                                          "progress", "output", NULL };
  for (unsigned i = 0; convert->target.stream && excluded[i]; i++)
    if (cli_flag (convert->args, excluded[i]))
      return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                      "--%s and a target on standard output exclude each other", excluded[i]);
  if (convert->target.stream && isatty (STDOUT_FILENO))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "an image is not for a terminal; redirect standard output");
  return 0;
}

static int
check_backing (Convert *convert, GError **error)
{
  const CliArgs *args = convert->args;
  const char *backing = cli_text (args, "backing"), *format = cli_text (args, "backing-format");
  if (backing && tn_options_has (convert->options, "backing_file"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "give the backing file once: with -B or with -o backing_file=");
  if (backing)
    tn_options_set (convert->options, "backing_file", backing);
  if (format)
    tn_options_set (convert->options, "backing_fmt", format);
  backing = tn_options_get (convert->options, "backing_file");
  if (format && !backing)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-F is the format of a backing file; give one with -B");
  if (!backing)
    return 0;
  if (convert->n_sources > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "several images one behind the other cannot have a backing file");
  if (cli_flag (args, "target-is-zero"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "a target with a backing file does not read as zeroes; leave out --target-is-zero");
  if (!cli_flag (args, "no-create") && !tn_options_has (convert->options, "backing_fmt"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the format of backing file '%s' must be said: -F FMT",
                    backing);
  return 0;
}

static int
check_target_format (const Convert *convert, GError **error)
{
  const ImgTarget *target = &convert->target;
  if (target->image_opts)
    return 0;
  const TnClass *class;
  int ret = cli_find_format (target->format, &class, error);
  if (ret >= 0)
    ret = img_check_backing (target->format, convert->options, error);
  if (ret >= 0 && !cli_flag (convert->args, "no-create"))
    ret = img_check_create_options (target->name, target->format, convert->options, error);
  if (ret < 0)
    return ret;
  const TnFormatOps *ops = class->ops;
  if (cli_flag (convert->args, "bitmaps") && !ops->bitmap)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "format '%s' cannot hold dirty bitmaps; leave out --bitmaps or choose another -O",
                    class->name);
  if (cli_flag (convert->args, "compress") && !(ops->flags & TN_FORMAT_PACKS))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "format '%s' cannot hold compressed data; leave out -c or choose another -O",
                    class->name);
  return 0;
}

static uint32_t
copy_flags (const CliArgs *args)
{
  static const struct {
    const char *option;
    uint32_t flag;
  } flags[] = {
    { "compress", TN_COPY_PACKED },
    { "out-of-order", TN_COPY_OUT_OF_ORDER },
    { "copy-range", TN_COPY_RANGE },
    { "salvage", TN_COPY_SALVAGE },
    { "target-is-zero", TN_COPY_TARGET_ZERO },
  };
  uint32_t set = 0;
  for (unsigned i = 0; i < G_N_ELEMENTS (flags); i++)
    if (cli_flag (args, flags[i].option))
      set |= flags[i].flag;
  /* Who wants zeroes looked for, or written, gets what was asked for. */
  if (!cli_flag (args, "no-reflink") && !cli_flag (args, "sparse") && !cli_flag (args, "copy-range"))
    set |= TN_COPY_SHARE;
  return set;
}

int
img_convert_parse (Convert *convert, GError **error)
{
  CliArgs *args = convert->args;
  convert->copy.flags = copy_flags (args);
  convert->target.format = cli_text (args, "output-format");
  if (!convert->target.format)
    convert->target.format = "raw";
  convert->target.image_opts = cli_flag (args, "target-image-opts");
  convert->target.name = args->words[args->n_words - 1];
  convert->target.stream = !convert->target.image_opts && img_is_stdout (convert->target.name);
  convert->target.resumable = cli_flag (args, "resume");
  convert->n_sources = args->n_words - 1;
  int ret = parse_numbers (convert, error);
  if (ret >= 0)
    ret = check_combination (convert, error);
  if (ret >= 0)
    ret = check_stream (convert, error);
  if (ret >= 0)
    ret = check_backing (convert, error);
  if (ret >= 0)
    ret = check_target_format (convert, error);
  if (ret >= 0)
    ret = cli_define_objects (args, error);
  if (ret >= 0)
    ret = cli_cache (args, "cache", TN_CACHE_WRITEBACK, &convert->target.cache, error);
  convert->copy.write_flags = convert->target.cache.write_flags;
  return ret;
}
