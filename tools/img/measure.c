/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img measure */
#include "img.h"

#include <tenon/json.h>
#include <tenon/plugin.h>

static void
print_human (CliArgs *args, const TnMeasure *measure)
{
  cli_print (args, "required size: %" G_GUINT64_FORMAT "\nfully allocated size: %" G_GUINT64_FORMAT "\n",
             measure->required, measure->fully_allocated);
  if (measure->bitmaps != UINT64_MAX)
    cli_print (args, "bitmaps size: %" G_GUINT64_FORMAT "\n", measure->bitmaps);
}

static void
print_json (CliArgs *args, const TnMeasure *measure)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  tn_json_object_begin (json, NULL);
  if (measure->bitmaps != UINT64_MAX)
    tn_json_uint (json, "bitmaps", measure->bitmaps);
  tn_json_uint (json, "required", measure->required);
  tn_json_uint (json, "fully-allocated", measure->fully_allocated);
  tn_json_object_end (json);
  cli_print (args, "%s\n", text->str);
}

static int
open_source (CliArgs *args, TnNode **node, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *snapshot = cli_text (args, "snapshot"), *format = cli_text (args, "format");
  int ret = cli_define_objects (args, error);
  if (ret >= 0 && snapshot)
    ret = img_snapshot_option (snapshot, options, error);
  if (ret < 0)
    return ret;
  ret = cli_open_as (args, args->words[0], cli_flag (args, "image-opts"), format, options, 0, node, error);
  return ret < 0 ? ret : cli_seal (args, TN_SANDBOX_PLUGINS, NULL, 0, error);
}

static int
measure (CliArgs *args, const char *format, const TnOptions *options, GError **error)
{
  g_autoptr (TnNode) node = NULL;
  uint64_t size = 0;
  int ret = cli_size (args, "size", &size, error);
  if (ret >= 0 && args->n_words)
    ret = open_source (args, &node, error);
  if (ret < 0)
    return ret;
  TnMeasure result = { .size = sizeof result, .bitmaps = UINT64_MAX };
  ret = tn_image_measure (format, options, node, node ? tn_node_size (node) : size, &result, error);
  if (ret < 0)
    return ret;
  if (cli_json (args))
    print_json (args, &result);
  else
    print_human (args, &result);
  return 0;
}

static int
measure_run (CliArgs *args)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  GError *error = NULL;
  bool help;
  const char *format = cli_text (args, "output-format");
  if (cli_is_help (format))
    return cli_print_formats (args);
  if (!format)
    format = "raw";
  if (img_create_options (args, options, &help, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  if (help) {
    const TnClass *class;
    if (cli_find_format (format, &class, &error) < 0)
      return cli_fail (args, EXIT_FAILURE, &error);
    return cli_print_options (args, &class, 1, TN_OPTION_CREATE);
  }
  if (cli_flag (args, "size") == (args->n_words > 0)) {
    cli_error (args, "measure: give either --size=SIZE or the name of an image");
    return EXIT_FAILURE;
  }
  return measure (args, format, options, &error) < 0 ? cli_fail (args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
}

static const CliOption measure_options[] = {
  { "output-format", 'O', "FMT", "format of the image to be made (default: raw; 'help' lists them)", NULL },
  { "options", 'o', "OPTIONS", "options of the image to be made, name=value,…; 'help' lists them", NULL },
  { "size", 0, "SIZE", "measure an empty disk of this size", NULL },
  { "snapshot", 'l', "SNAPSHOT", "measure an internal snapshot of the image", NULL },
  { 0 }
};

const CliCommand img_measure = {
  .name = "measure",
  .summary = "tell how large a file a new or converted image would need",
  .words = "[FILENAME]",
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_OUTPUT,
  .options = measure_options,
  .run = measure_run,
};
