/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img resize */
#include "img.h"

static const char *const prealloc_choices[] = { "off", "metadata", "falloc", "full", NULL };

static TnPrealloc
parse_prealloc (const CliArgs *args)
{
  const char *text = cli_text (args, "preallocation");
  for (unsigned i = 0; text && prealloc_choices[i]; i++)
    if (strcmp (text, prealloc_choices[i]) == 0)
      return i;
  return TN_PREALLOC_OFF;
}

/* "20G", "+5G" or "-5G" against the present size. */
static int
parse_target (const char *text, uint64_t present, uint64_t *size, GError **error)
{
  uint64_t amount;
  int sign = *text == '+' ? 1 : *text == '-' ? -1 : 0;
  int ret = cli_parse_size (text + (sign != 0), "the size", &amount, error);
  if (ret < 0)
    return ret;
  if (sign < 0 && amount >= present)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the image is only %" G_GUINT64_FORMAT " bytes large; it can be shrunk by less", present);
  uint64_t wanted = sign < 0 ? present - amount : amount;
  if (sign > 0 && __builtin_add_overflow (present, amount, &wanted))
    wanted = UINT64_MAX;
  if (wanted == 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the new size must be more than 0");
  if (wanted > INT64_MAX - 511)
    return tn_fail (error, TN_OPTION_ERROR, EFBIG, "the size '%s' is larger than any disk can be (8E)", text);
  *size = (wanted + 511) & ~(uint64_t) 511;
  return 0;
}

static int
resize_node (CliArgs *args, TnNode *node, GError **error)
{
  uint64_t present = tn_node_size (node), wanted = present;
  TnPrealloc prealloc = parse_prealloc (args);
  int ret = parse_target (args->words[args->n_words - 1], present, &wanted, error);
  if (ret < 0)
    return ret;
  if (wanted <= present && prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--preallocation is for growing an image only");
  if (wanted < present && !cli_flag (args, "shrink"))
    return tn_fail (
        error, TN_OPTION_ERROR, EINVAL,
        "shrinking deletes all data beyond the new end; add --shrink if there is nothing important");
  ret = tn_node_resize (node, wanted, prealloc, error);
  return ret < 0 ? ret : tn_node_flush (node, error);
}

static int
resize_run (CliArgs *args)
{
  GError *error = NULL;
  TnNode *node;
  if (cli_open (args, args->words[0], TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  int status = EXIT_SUCCESS;
  if (resize_node (args, node, &error) < 0) {
    if (!strstr (error->message, args->words[0]))
      g_prefix_error (&error, "%s: ", args->words[0]);
    status = cli_fail (args, EXIT_FAILURE, &error);
  }
  status = cli_close (args, node, status);
  if (status == EXIT_SUCCESS && !cli_quiet (args))
    cli_print (args, "Image resized.\n");
  return status;
}

static const CliOption resize_options[] = {
  { "preallocation", 0, "MODE", "what to allocate for the new part", prealloc_choices },
  { "shrink", 0, NULL, "allow the image to become smaller, losing what lies beyond", NULL },
  { 0 }
};

const CliCommand img_resize = {
  .name = "resize",
  .summary = "change the size of an image",
  .words = "FILENAME [+|-]SIZE",
  .min_words = 2,
  .max_words = 2,
  .last_word_plain = true,
  .standard = CLI_SANDBOX | CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_QUIET | CLI_UNTRUSTED,
  .options = resize_options,
  .run = resize_run,
};
