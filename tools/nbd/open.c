/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image, or part of it, as a drive. */
#include "nbd.h"

static const char *const detect_choices[] = { "off", "on", "unmap", NULL };

bool
nbd_is_read_only (const CliArgs *args)
{
  return cli_flag (args, "read-only") || cli_text (args, "load-snapshot");
}

static int
choose_cache (const CliArgs *args, CliCache *cache, GError **error)
{
  if (cli_flag (args, "nocache") && cli_text (args, "cache"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--nocache and --cache exclude each other");
  return cli_cache (args, "cache", cli_flag (args, "nocache") ? TN_CACHE_NONE : TN_CACHE_WRITEBACK, cache,
                    error);
}

/* "snapshot.id=…,snapshot.name=…", an id or a name. */
static int
add_snapshot (const char *text, TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) given = tn_options_new ();
  if (!g_str_has_prefix (text, "snapshot.")) {
    tn_options_set (options, "snapshot", text);
    return 0;
  }
  int rc = tn_options_parse (given, text, NULL, error);
  if (rc < 0)
    return rc;
  const char *id = tn_options_get (given, "snapshot.id"), *name = tn_options_get (given, "snapshot.name");
  if (!id && !name)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-l takes snapshot.id=ID or snapshot.name=NAME, not '%s'",
                    text);
  tn_options_set (options, "snapshot", id ? id : name);
  return 0;
}

static int
node_options (const CliArgs *args, TnOptions *options, uint32_t *flags, GError **error)
{
  const char *aio = cli_text (args, "aio"), *discard = cli_text (args, "discard"),
             *detect = cli_text (args, "detect-zeroes"), *snapshot = cli_text (args, "load-snapshot");
  const bool unmap = discard && (strcmp (discard, "unmap") == 0 || strcmp (discard, "on") == 0);
  if (detect && strcmp (detect, "unmap") == 0 && !unmap)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--detect-zeroes=unmap needs --discard=unmap");
  if (aio)
    tn_options_set (options, "file.aio", aio);
  if (detect && g_strv_contains (detect_choices, detect))
    tn_options_set (options, "detect-zeroes", detect);
  *flags |= unmap ? TN_OPEN_UNMAP : 0;
  *flags |= nbd_is_read_only (args) || cli_flag (args, "snapshot") ? 0 : TN_OPEN_WRITE;
  return snapshot ? add_snapshot (snapshot, options, error) : 0;
}

/* Shows the image from @offset on. */
static int
shift (TnNode **node, uint64_t offset, uint32_t flags, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  TnNode *shifted = NULL;
  if (offset >= tn_node_size (*node))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the offset %" G_GUINT64_FORMAT " is not within the image", offset);
  tn_options_set (options, "driver", "raw");
  tn_options_set (options, "file", tn_node_name (*node));
  tn_options_set_uint (options, "offset", offset);
  const int rc = tn_node_open (options, flags, &shifted, error);
  if (rc < 0)
    return rc;
  tn_node_unref (*node);
  *node = shifted;
  return 0;
}

/* -s: a temporary overlay takes the writes, which the drive itself knows how to make. */
static int
open_overlay (const CliArgs *args, const char *name, TnOptions *options, TnDrive **drive, GError **error)
{
  const char *format = cli_text (args, "format");
  if (cli_flag (args, "image-opts")) {
    const int rc = tn_options_parse (options, name, NULL, error);
    if (rc < 0)
      return rc;
  } else {
    tn_options_set (options, "file", name);
  }
  if (format)
    tn_options_set (options, "format", format);
  tn_options_set (options, "snapshot", "on");
  return tn_drive_open (options, drive, error);
}

static int
open_node (const CliArgs *args, const char *name, const TnOptions *options, uint32_t flags, uint64_t offset,
           TnNode **node, GError **error)
{
  const char *format = cli_text (args, "format");
  const bool image_opts = cli_flag (args, "image-opts");
  if (image_opts && format)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--image-opts and --format exclude each other; write driver=%s", format);
  int rc = cli_open_as (args, name, image_opts, format, options, flags, node, error);
  if (rc == 0 && offset)
    rc = shift (node, offset, flags, error);
  return rc;
}

int
nbd_open_drive (const CliArgs *args, unsigned index, TnDrive **drive, GError **error)
{
  const char *name = args->words[index];
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (TnNode) node = NULL;
  CliCache cache;
  uint32_t flags = 0;
  uint64_t offset = 0;
  int rc = cli_size (args, "offset", &offset, error);
  if (rc == 0)
    rc = choose_cache (args, &cache, error);
  if (rc == 0)
    rc = node_options (args, options, &flags, error);
  if (rc < 0)
    return rc;
  if (cli_flag (args, "snapshot") && (offset || cli_text (args, "load-snapshot")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-s does not go together with -o or -l");
  if (cli_flag (args, "snapshot"))
    return open_overlay (args, name, options, drive, error);
  rc = open_node (args, name, options, flags | cache.open_flags, offset, &node, error);
  if (rc == 0)
    *drive = tn_drive_new (node, cache.mode, !nbd_is_read_only (args));
  return rc;
}
