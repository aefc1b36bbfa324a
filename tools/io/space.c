/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* flush, discard, and what is asked or changed about the disk as a whole. */
#include "shell.h"

#define IO_SECTOR 512

int
io_flush_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (!tn_drive_is_read_only (shell->drive) && tn_drive_flush (shell->drive, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

int
io_discard_run (CliArgs *args)
{
  IoShell *shell = io_image (args, true);
  TnRequest request = { .op = TN_REQUEST_DISCARD };
  GError *error = NULL;
  uint64_t offset = 0, length = 0;
  int64_t start;
  int r;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (io_offset (args, args->words[0], "offset", &offset, &error) < 0
      || io_length (args, args->words[1], &length, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  request.offset = offset;
  request.length = length;
  start = tn_clock_ns ();
  r = io_do (shell, &request);
  if (r < 0)
    return io_failed (args, "discard", r);
  io_report (args, "discard", offset, length, tn_clock_ns () - start);
  return EXIT_SUCCESS;
}

/* ---- What is allocated in the image itself ---- */

/* Whether the bytes at @offset are in this image rather than in its backing file, and how far that goes on.
 */
static int
io_allocated_run (IoShell *shell, uint64_t offset, uint64_t length, bool *allocated, uint64_t *run,
                  GError **error)
{
  TnNode *backing = tn_node_child (shell->node, "backing");
  TnStatus status = { 0 };
  uint64_t done = 0;
  int r;

  while (done < length) {
    r = tn_node_status (shell->node, backing, offset + done, length - done, &status, error);
    if (r < 0)
      return r;
    if (done > 0 && status.allocated != *allocated)
      break;
    *allocated = status.allocated;
    if (status.length == 0)
      return tn_fail (error, TN_BLOCK_ERROR, EIO, "the map of the image ends at offset %" G_GUINT64_FORMAT,
                      offset + done);
    done += MIN (status.length, length - done);
  }
  *run = done;
  return 0;
}

int
io_map_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  uint64_t size, offset = 0, run = 0;
  GError *error = NULL;
  bool allocated = false;

  if (shell == NULL)
    return EXIT_FAILURE;
  size = tn_drive_size (shell->drive);
  if (size == 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  for (; offset < size; offset += run) {
    if (io_allocated_run (shell, offset, size - offset, &allocated, &run, &error) < 0)
      return cli_fail (shell->args, EXIT_FAILURE, &error);
    cli_print (shell->args,
               "%s (0x%" G_GINT64_MODIFIER "x) bytes %s allocated at offset %s (0x%" G_GINT64_MODIFIER "x)\n",
               io_size_text ((double) run).text, run, allocated ? "   " : "not",
               io_size_text ((double) offset).text, offset);
  }
  return EXIT_SUCCESS;
}

int
io_alloc_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  uint64_t offset = 0, length = IO_SECTOR, size, sum = 0, run = 0;
  GError *error = NULL;
  bool allocated = false;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (io_offset (args, args->words[0], "offset", &offset, &error) < 0
      || (args->n_words > 1 && io_offset (args, args->words[1], "length", &length, &error) < 0))
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  size = tn_drive_size (shell->drive);
  length = offset < size ? MIN (length, size - offset) : 0;
  for (uint64_t done = 0; done < length; done += run) {
    if (io_allocated_run (shell, offset + done, length - done, &allocated, &run, &error) < 0)
      return cli_fail (shell->args, EXIT_FAILURE, &error);
    sum += allocated ? run : 0;
  }
  cli_print (shell->args, "%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " bytes allocated at offset %s\n", sum,
             length, io_size_text ((double) offset).text);
  return EXIT_SUCCESS;
}

/* ---- Size ---- */

static int
io_prealloc (const char *text, TnPrealloc *mode, GError **error)
{
  static const char *const names[] = { "off", "metadata", "falloc", "full", NULL };

  *mode = TN_PREALLOC_OFF;
  if (text == NULL)
    return 0;
  for (unsigned i = 0; names[i] != NULL; i++)
    if (strcmp (names[i], text) == 0) {
      *mode = (TnPrealloc) i;
      return 0;
    }
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "Invalid preallocation mode '%s': use off, metadata, falloc or full", text);
}

int
io_truncate_run (CliArgs *args)
{
  IoShell *shell = io_image (args, true);
  GError *error = NULL;
  uint64_t size = 0;
  TnPrealloc mode = TN_PREALLOC_OFF;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (io_prealloc (cli_text (args, "preallocation"), &mode, &error) < 0
      || io_offset (args, args->words[0], "size", &size, &error) < 0
      || tn_node_resize (shell->node, size, mode, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

int
io_length_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);

  if (shell == NULL)
    return EXIT_FAILURE;
  cli_print (shell->args, "%s\n", io_size_text ((double) tn_drive_size (shell->drive)).text);
  return EXIT_SUCCESS;
}

/* ---- Facts ---- */

static void
io_print_specific (IoShell *shell, const char *json)
{
  g_autoptr (TnOptions) facts = tn_options_new ();

  if (tn_options_parse_json (facts, json, NULL) < 0)
    return;
  cli_print (shell->args, "Format specific information:\n");
  for (size_t i = 0; i < tn_options_count (facts); i++) {
    const char *key, *value;

    tn_options_pair (facts, i, &key, &value);
    if (!g_str_has_prefix (key, "data."))
      continue;
    g_autofree char *name = g_strdelimit (g_strdup (key + strlen ("data.")), "-", ' ');
    if (strcmp (value, "on") == 0 || strcmp (value, "off") == 0)
      value = value[1] == 'n' ? "true" : "false";
    cli_print (shell->args, "    %s: %s\n", name, value);
  }
}

int
io_info_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  TnInfo info = { .size = sizeof info };
  GError *error = NULL;
  g_autofree char *specific = NULL;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (tn_node_info (shell->node, &info, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  cli_print (shell->args, "format name: %s\ncluster size: %s\n", tn_node_class_name (shell->node),
             io_size_text (info.cluster_size).text);
  specific = tn_node_info_specific (shell->node, &error);
  if (error != NULL)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  if (specific != NULL)
    io_print_specific (shell, specific);
  return EXIT_SUCCESS;
}

int
io_stat_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  TnNodeStats stats = { .size = sizeof stats };

  if (shell == NULL)
    return EXIT_FAILURE;
  tn_node_stats (shell->node, &stats);
  cli_print (shell->args,
             "read: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " bytes\n"
             "write: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " bytes\n"
             "zero: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " bytes\n"
             "discard: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " bytes\n"
             "flush: %" G_GUINT64_FORMAT " requests\n"
             "fast: %" G_GUINT64_FORMAT "\nfailed: %" G_GUINT64_FORMAT "\ncopied on write: %" G_GUINT64_FORMAT
             " bytes\n",
             stats.read_requests, stats.read_bytes, stats.write_requests, stats.write_bytes,
             stats.zero_requests, stats.zero_bytes, stats.discard_requests, stats.discard_bytes,
             stats.flush_requests, stats.fast, stats.failed, stats.cow_bytes);
  return EXIT_SUCCESS;
}
