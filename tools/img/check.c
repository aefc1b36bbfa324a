/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img check */
#include "img.h"

#include <unistd.h>

#include <tenon/json.h>

enum { CHECK_CLEAN = 0, CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

/* Findings go to standard error, so that the result stays machine-readable. */
static void
report (const char *line, bool is_error, void *opaque)
{
  g_autofree char *text = g_strdup_printf ("%s\n", line);
  cli_flush (opaque);
  cli_write (STDERR_FILENO, text, strlen (text));
}

static void
print_human (CliArgs *args, const TnCheck *check)
{
  if (!check->corruptions && !check->leaks && !check->check_errors)
    cli_print (args, "No errors were found on the image.\n");
  if (check->corruptions)
    cli_print (args,
               "\n%" G_GUINT64_FORMAT " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               check->corruptions);
  if (check->leaks)
    cli_print (args,
               "\n%" G_GUINT64_FORMAT " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               check->leaks);
  if (check->check_errors)
    cli_print (args, "\n%" G_GUINT64_FORMAT " internal errors have occurred during the check.\n",
               check->check_errors);
  if (check->total_clusters && check->allocated_clusters)
    cli_print (args,
               "%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT
               " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed "
               "clusters\n",
               check->allocated_clusters, check->total_clusters,
               check->allocated_clusters * 100.0 / check->total_clusters,
               check->fragmented_clusters * 100.0 / check->allocated_clusters,
               check->compressed_clusters * 100.0 / check->allocated_clusters);
  if (check->image_end_offset)
    cli_print (args, "Image end offset: %" G_GUINT64_FORMAT "\n", check->image_end_offset);
}

static void
write_unless_zero (TnJson *json, const char *name, uint64_t value)
{
  if (value)
    tn_json_uint (json, name, value);
}

static void
print_json (CliArgs *args, TnNode *node, const TnCheck *check)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  tn_json_object_begin (json, NULL);
  write_unless_zero (json, "image-end-offset", check->image_end_offset);
  write_unless_zero (json, "compressed-clusters", check->compressed_clusters);
  write_unless_zero (json, "total-clusters", check->total_clusters);
  write_unless_zero (json, "corruptions", check->corruptions);
  write_unless_zero (json, "corruptions-fixed", check->corruptions_fixed);
  tn_json_uint (json, "check-errors", check->check_errors);
  write_unless_zero (json, "leaks", check->leaks);
  write_unless_zero (json, "leaks-fixed", check->leaks_fixed);
  write_unless_zero (json, "allocated-clusters", check->allocated_clusters);
  tn_json_string (json, "filename", args->words[0]);
  tn_json_string (json, "format", tn_node_class_name (node));
  write_unless_zero (json, "fragmented-clusters", check->fragmented_clusters);
  tn_json_object_end (json);
  cli_print (args, "%s\n", text->str);
}

/* What was repaired, and a second look with the numbers of what is left. */
static int
look_again (CliArgs *args, TnNode *node, TnCheck *check, GError **error)
{
  if (!check->corruptions_fixed && !check->leaks_fixed)
    return 0;
  if (!cli_quiet (args) && !cli_json (args))
    cli_print (args,
               "The following inconsistencies were found and repaired:\n\n    %" G_GUINT64_FORMAT
               " leaked clusters\n    %" G_GUINT64_FORMAT
               " corruptions\n\nDouble checking the fixed image now...\n",
               check->leaks_fixed, check->corruptions_fixed);
  TnCheck again = { .size = sizeof again, .report = report, .opaque = args };
  int ret = tn_node_check (node, 0, &again, error);
  again.leaks_fixed = check->leaks_fixed;
  again.corruptions_fixed = check->corruptions_fixed;
  *check = again;
  return ret;
}

static int
status_of (const TnCheck *check)
{
  if (check->check_errors)
    return CHECK_FAILED;
  if (check->corruptions)
    return CHECK_CORRUPT;
  return check->leaks ? CHECK_LEAKS : CHECK_CLEAN;
}

static int
check_node (CliArgs *args, TnNode *node, uint32_t fix)
{
  GError *error = NULL;
  TnCheck check = { .size = sizeof check, .report = report, .opaque = args };
  int ret = tn_node_check (node, fix, &check, &error);
  if (ret == -ENOTSUP) {
    g_clear_error (&error);
    cli_error (args, "format '%s' of '%s' has nothing that could be checked", tn_node_class_name (node),
               args->words[0]);
    return CHECK_UNSUPPORTED;
  }
  if (ret >= 0)
    ret = look_again (args, node, &check, &error);
  if (ret < 0) {
    g_prefix_error (&error, "check failed: ");
    return cli_fail (args, CHECK_FAILED, &error);
  }
  if (cli_json (args))
    print_json (args, node, &check);
  else if (!cli_quiet (args))
    print_human (args, &check);
  return status_of (&check);
}

static int
check_run (CliArgs *args)
{
  GError *error = NULL;
  const char *repair = cli_text (args, "repair");
  CliCache cache;
  if (cli_cache (args, "source-cache", TN_CACHE_WRITEBACK, &cache, &error) < 0)
    return cli_fail (args, CHECK_FAILED, &error);
  uint32_t fix = 0, flags = TN_OPEN_CHECK | TN_OPEN_NO_BACKING | cache.open_flags;
  if (repair) {
    fix = strcmp (repair, "all") == 0 ? TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS : TN_CHECK_FIX_LEAKS;
    flags |= TN_OPEN_WRITE | TN_OPEN_RESIZE;
  }
  TnNode *node;
  if (cli_open (args, args->words[0], flags, &node, &error) < 0)
    return cli_fail (args, CHECK_FAILED, &error);
  if (cli_seal (args, TN_SANDBOX_PLUGINS, NULL, 0, &error) < 0)
    return cli_close (args, node, cli_fail (args, CHECK_FAILED, &error));
  return cli_close (args, node, check_node (args, node, fix));
}

static const char *const repair_choices[] = { "leaks", "all", NULL };

static const CliOption check_options[] = {
  { "repair", 'r', "WHAT", "repair what is found; 'all' may choose a wrong repair where data is damaged",
    repair_choices },
  { 0 }
};

static const CliStatus check_statuses[] = { { CHECK_CLEAN,
                                              "the image is consistent (after repair, if -r was given)" },
                                            { CHECK_FAILED, "the check could not be completed" },
                                            { CHECK_CORRUPT, "the image is corrupt" },
                                            { CHECK_LEAKS, "clusters are leaked, but no data is harmed" },
                                            { CHECK_UNSUPPORTED, "the format has no check" },
                                            { 0 } };

const CliCommand img_check = {
  .name = "check",
  .summary = "check the consistency of an image, and repair it",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_OUTPUT | CLI_QUIET | CLI_SOURCE_CACHE,
  .options = check_options,
  .statuses = check_statuses,
  .run = check_run,
};
