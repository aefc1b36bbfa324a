/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* open, close, reopen. */
#include "shell.h"

#include <unistd.h>

static int
io_discard_mode (const char *text, uint32_t *flags, GError **error)
{
  if (text == NULL || strcmp (text, "unmap") == 0 || strcmp (text, "on") == 0) {
    *flags |= TN_OPEN_UNMAP;
    return 0;
  }
  *flags &= ~(uint32_t) TN_OPEN_UNMAP;
  if (strcmp (text, "ignore") == 0 || strcmp (text, "off") == 0)
    return 0;
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "Invalid discard option: %s (use ignore or unmap)", text);
}

static int
io_aio_option (const char *aio, TnOptions *options, GError **error)
{
  if (aio == NULL)
    return 0;
  if (strcmp (aio, "threads") != 0 && strcmp (aio, "native") != 0 && strcmp (aio, "io_uring") != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "Invalid aio option: %s (use threads, native or io_uring)", aio);
  tn_options_set (options, "file.aio", aio);
  return 0;
}

/* An empty overlay that takes the writes; it goes when the image is closed. */
static int
io_open_snapshot (IoShell *shell, TnNode *base, uint32_t flags, GError **error)
{
  g_autoptr (TnOptions) create = tn_options_new ();
  g_autofree char *path = NULL;
  int fd, r;

  fd = g_file_open_tmp ("tenon-io-XXXXXX", &path, error);
  if (fd < 0)
    return -EIO;
  close (fd);
  r = tn_image_create (path, "qcow2", create, tn_node_size (base), error);
  if (r == 0)
    r = tn_node_open_file (path, "qcow2", NULL, flags | TN_OPEN_WRITE | TN_OPEN_NO_BACKING, &shell->node,
                           error);
  if (r == 0) {
    r = tn_node_replace_backing (shell->node, base, error);
    if (r < 0)
      g_clear_pointer (&shell->node, tn_node_unref);
  }
  if (r < 0) {
    unlink (path);
    return r;
  }
  shell->temporary = g_steal_pointer (&path);
  return 0;
}

static int
io_open_options (const IoOpening *opening, TnOptions *options, GError **error)
{
  int r = io_aio_option (opening->aio, options, error);

  if (r == 0 && opening->options != NULL)
    r = tn_options_parse (options, opening->options, NULL, error);
  if (r == 0 && opening->image_opts)
    r = tn_options_parse (options, opening->filename, NULL, error);
  return r;
}

static int
io_open_node (IoShell *shell, const IoOpening *opening, uint32_t flags, TnNode **node, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *driver = NULL;
  int r = io_open_options (opening, options, error);

  if (r < 0)
    return r;
  if (opening->image_opts || opening->filename == NULL)
    return tn_node_open (options, flags, node, error);
  if (tn_options_has (options, "driver") && opening->format == NULL) {
    g_autofree char *format = g_strdup (tn_options_get (options, "driver"));
    tn_options_set (options, "driver", NULL);
    return tn_node_open_file (opening->filename, format, options, flags, node, error);
  }
  driver = opening->format;
  return tn_node_open_file (opening->filename, driver, options, flags, node, error);
}

static int
io_open_flags (const IoOpening *opening, TnCacheMode *cache, uint32_t *flags, GError **error)
{
  int r;

  *cache = TN_CACHE_WRITETHROUGH;
  *flags = TN_OPEN_UNMAP;
  if (opening->cache != NULL) {
    r = tn_cache_mode_parse (opening->cache, cache, error);
    if (r < 0)
      return r;
  }
  r = io_discard_mode (opening->discard, flags, error);
  if (r < 0)
    return r;
  if (opening->shared && !opening->read_only)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-U (--force-share) can only be used with read-only images: add -r");
  *flags |= tn_cache_mode_open_flags (*cache);
  *flags |= (opening->shared ? TN_OPEN_SHARED : 0) | (opening->untrusted ? TN_OPEN_UNTRUSTED : 0);
  if (!opening->read_only && !opening->snapshot)
    *flags |= TN_OPEN_WRITE | TN_OPEN_RESIZE;
  return 0;
}

/* Puts the filter on what has been opened. */
static int
io_copy_on_read (IoShell *shell, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  TnNode *filter = NULL;
  int r;

  if ((shell->flags & TN_OPEN_WRITE) == 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "Can't use copy-on-read on a read-only image: leave out -r or -C");
  tn_options_set (options, "driver", "copy-on-read");
  tn_options_set (options, "file", tn_node_name (shell->node));
  r = tn_node_open (options, shell->flags, &filter, error);
  if (r < 0)
    return r;
  tn_node_unref (shell->node);
  shell->node = filter;
  return 0;
}

int
io_open (IoShell *shell, const IoOpening *opening, GError **error)
{
  g_autoptr (TnNode) base = NULL;
  int r = io_open_flags (opening, &shell->cache, &shell->flags, error);

  if (r == 0)
    r = io_open_node (shell, opening, shell->flags, opening->snapshot ? &base : &shell->node, error);
  if (r == 0 && opening->snapshot) {
    r = io_open_snapshot (shell, base, shell->flags, error);
    shell->flags |= TN_OPEN_WRITE;
  }
  if (r == 0 && opening->copy_on_read)
    r = io_copy_on_read (shell, error);
  if (r < 0) {
    g_clear_pointer (&shell->node, tn_node_unref);
    return r;
  }
  shell->misalign = opening->misalign;
  shell->drive = tn_drive_new (shell->node, shell->cache, (shell->flags & TN_OPEN_WRITE) != 0);
  return 0;
}

int
io_close (IoShell *shell, GError **error)
{
  TnNode *node = g_steal_pointer (&shell->node);
  int r;

  if (node == NULL)
    return 0;
  tn_node_breakpoint (node, TN_BREAK_REMOVE, NULL, NULL, NULL); /* what is stopped would never end */
  io_wait_for_all (shell);
  g_clear_pointer (&shell->drive, tn_drive_free);
  r = tn_node_close (node, error);
  if (shell->temporary != NULL)
    unlink (shell->temporary);
  g_clear_pointer (&shell->temporary, g_free);
  return r;
}

int
io_open_run (CliArgs *args)
{
  IoShell *shell = io_shell (args);
  IoOpening opening = {
    .filename = args->n_words > 0 ? args->words[0] : NULL,
    .options = cli_text (args, "options"),
    .aio = cli_flag (args, "native-aio") ? "native" : cli_text (args, "aio"),
    .cache = cli_flag (args, "nocache") ? "none" : cli_text (args, "cache"),
    .discard = cli_text (args, "discard"),
    .read_only = cli_flag (args, "read-only"),
    .snapshot = cli_flag (args, "snapshot"),
    .copy_on_read = cli_flag (args, "copy-on-read"),
    .shared = cli_flag (args, "force-share"),
    .untrusted = cli_flag (shell->args, "untrusted"),
    .misalign = cli_flag (shell->args, "misalign"),
  };
  GError *error = NULL;

  if (shell->node != NULL) {
    cli_error (shell->args, "file open already, try 'help close'");
    return EXIT_FAILURE;
  }
  if (opening.filename == NULL && opening.options == NULL) {
    cli_error (shell->args, "open needs a file name or -o OPTIONS, try 'help open'");
    return EXIT_FAILURE;
  }
  if (io_open (shell, &opening, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

int
io_close_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  GError *error = NULL;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (io_close (shell, &error) < 0)
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

/* ---- reopen ---- */

static int
io_reopen_flags (CliArgs *args, IoShell *shell, TnCacheMode *cache, uint32_t *flags, GError **error)
{
  const char *mode = cli_text (args, "cache");
  bool read_only = cli_flag (args, "read-only"), writable = cli_flag (args, "writable");
  int r;

  *flags = shell->flags;
  *cache = shell->cache;
  if (read_only && writable)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "Only one -r/-w option may be given");
  if (read_only)
    *flags &= ~(uint32_t) (TN_OPEN_WRITE | TN_OPEN_RESIZE);
  if (writable)
    *flags |= TN_OPEN_WRITE | TN_OPEN_RESIZE;
  if (mode == NULL)
    return 0;
  r = tn_cache_mode_parse (mode, cache, error);
  if (r < 0)
    return r;
  *flags &= ~(uint32_t) (TN_OPEN_DIRECT | TN_OPEN_NO_FLUSH);
  *flags |= tn_cache_mode_open_flags (*cache);
  return 0;
}

int
io_reopen_run (CliArgs *args)
{
  IoShell *shell = io_image (args, false);
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *text = cli_text (args, "options");
  GError *error = NULL;
  TnCacheMode cache;
  uint32_t flags;
  int r;

  if (shell == NULL)
    return EXIT_FAILURE;
  if (io_reopen_flags (args, shell, &cache, &flags, &error) < 0
      || (text != NULL && tn_options_parse (options, text, NULL, &error) < 0))
    return cli_fail (shell->args, EXIT_FAILURE, &error);
  io_wait_for_all (shell);
  tn_drive_free (shell->drive);
  r = tn_node_reopen (shell->node, options, flags, &error);
  if (r == 0) {
    shell->flags = flags;
    shell->cache = cache;
  }
  shell->drive = tn_drive_new (shell->node, shell->cache, (shell->flags & TN_OPEN_WRITE) != 0);
  return r < 0 ? cli_fail (shell->args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
}
