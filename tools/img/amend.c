/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img amend */
#include "img.h"

static int
gather_options (CliArgs *args, TnOptions *options, bool *help, GError **error)
{
  int ret = img_create_options (args, options, help, error);
  if (ret < 0 || *help || tn_options_count (options))
    return ret;
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "say what to change: -o NAME=VALUE (-o help lists the options)");
}

static int
print_help (CliArgs *args, GError **error)
{
  const char *format = cli_text (args, "format");
  const TnClass *class = NULL;
  if (!format)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-o help needs -f FMT");
  int ret = cli_find_format (format, &class, error);
  return ret < 0 ? ret : cli_print_options (args, &class, 1, TN_OPTION_AMEND);
}

static int
amend_image (CliArgs *args, TnOptions *options)
{
  TnNode *node = NULL;
  GError *error = NULL;
  CliCache cache;
  /* A backing file is looked at only where its contents count. */
  uint32_t flags = TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP;
  flags |= tn_options_has (options, "size") ? 0 : TN_OPEN_NO_BACKING;
  if (cli_flag (args, "force"))
    tn_options_set (options, "force", "on");
  if (cli_cache (args, "cache", TN_CACHE_WRITEBACK, &cache, &error) < 0
      || cli_open (args, args->words[0], flags | cache.open_flags, &node, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  int status = EXIT_SUCCESS;
  if (tn_node_amend (node, options, &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return cli_close (args, node, status);
}

static int
amend_run (CliArgs *args)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  GError *error = NULL;
  bool help = false;
  if (gather_options (args, options, &help, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  if (help)
    return print_help (args, &error) < 0 ? cli_fail (args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
  if (args->n_words == 0) {
    cli_error (args, "no image is named");
    return EXIT_FAILURE;
  }
  return amend_image (args, options);
}

static const CliOption amend_options[] = {
  { "options", 'o', "OPTIONS", "options to change, name=value,…", NULL },
  { "force", 0, NULL, "allow changes that make an image unusable, such as erasing its last key slot", NULL },
  { 0 }
};

const CliCommand img_amend = {
  .name = "amend",
  .summary = "change what an image was created with",
  .words = "FILENAME",
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_CACHE | CLI_PROGRESS | CLI_QUIET
              | CLI_UNTRUSTED,
  .options = amend_options,
  .run = amend_run,
};
