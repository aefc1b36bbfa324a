/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image.h"

#include <sys/stat.h>

#include <tenon/plugin.h>
#include <tenon/object.h>

int
cli_cache (const CliArgs *args, const char *name, TnCacheMode fallback, CliCache *cache, GError **error)
{
  const char *text = cli_text (args, name);
  TnCacheMode mode = fallback;
  if (text) {
    int ret = tn_cache_mode_parse (text, &mode, error);
    if (ret < 0)
      return ret;
  }
  bool through = mode == TN_CACHE_WRITETHROUGH || mode == TN_CACHE_DIRECTSYNC;
  *cache = (CliCache){ .mode = mode,
                       .open_flags = tn_cache_mode_open_flags (mode),
                       .write_flags = through ? TN_REQUEST_FUA : 0 };
  return 0;
}

int
cli_define_objects (const CliArgs *args, GError **error)
{
  const char *text;
  for (unsigned i = 0; (text = cli_text_nth (args, "object", i)); i++) {
    int ret = tn_object_define ((char *) text, error);
    if (ret < 0)
      return ret;
  }
  return 0;
}

static int
open_options (const char *text, const TnOptions *more, uint32_t flags, TnNode **node, GError **error)
{
  if (!strchr (text, '='))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--image-opts takes key=value options, not '%s'; write driver=FORMAT,file.filename=%s",
                    text, text);
  g_autoptr (TnOptions) options = tn_options_new ();
  int ret = tn_options_parse (options, text, NULL, error);
  if (ret < 0)
    return ret;
  if (more)
    tn_options_merge (options, more);
  return tn_node_open (options, flags, node, error);
}

static uint32_t
shared_flags (const CliArgs *args)
{
  return (cli_flag (args, "force-share") ? TN_OPEN_SHARED : 0)
         | (cli_flag (args, "untrusted") ? TN_OPEN_UNTRUSTED : 0);
}

int
cli_open_as (const CliArgs *args, const char *name, bool image_opts, const char *format,
             const TnOptions *more, uint32_t flags, TnNode **node, GError **error)
{
  GError *why = NULL;
  flags |= shared_flags (args);
  int ret;
  if (!image_opts && !*name)
    ret = tn_fail (&why, TN_OPTION_ERROR, EINVAL, "a file name is needed");
  else if ((flags & TN_OPEN_WRITE) && (flags & TN_OPEN_SHARED))
    ret = tn_fail (&why, TN_OPTION_ERROR, EINVAL, "-U (--force-share) is for reading only");
  else if (image_opts)
    ret = open_options (name, more, flags, node, &why);
  else
    ret = tn_node_open_file (name, format, more, flags, node, &why);
  if (ret < 0 && !strstr (why->message, name))
    g_prefix_error (&why, "cannot open '%s': ", name);
  if (ret < 0)
    g_propagate_error (error, why);
  return ret;
}

int
cli_open (const CliArgs *args, const char *name, uint32_t flags, TnNode **node, GError **error)
{
  const char *format = cli_text (args, "format");
  bool image_opts = cli_flag (args, "image-opts");
  int ret = cli_define_objects (args, error);
  if (ret < 0)
    return ret;
  if (image_opts && format)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--image-opts and --format exclude each other; write driver=%s", format);
  return cli_open_as (args, name, image_opts, format, NULL, flags, node, error);
}

int
cli_close (CliArgs *args, TnNode *node, int status)
{
  GError *error = NULL;
  if (!node || tn_node_close (node, &error) >= 0)
    return status;
  cli_fail (args, EXIT_FAILURE, &error);
  return status ? status : EXIT_FAILURE;
}

int
cli_find_format (const char *format, const TnClass **found, GError **error)
{
  *found = tn_class_find (TN_KIND_FORMAT, format, error);
  return *found ? 0 : -ENOENT;
}

bool
cli_is_help (const char *text)
{
  return text && (strcmp (text, "help") == 0 || strcmp (text, "?") == 0);
}

static const char *
type_text (TnOptionType type)
{
  switch (type) {
  case TN_OPTION_BOOL:
    return "bool (on/off)";
  case TN_OPTION_UINT:
    return "num";
  case TN_OPTION_SIZE:
    return "size";
  default:
    return "str";
  }
}

static TnOption
option_row (const TnClass *class, size_t index)
{
  TnOption row = { 0 };
  memcpy (&row, (const char *) class->options + index * class->option_size,
          MIN (sizeof row, class->option_size));
  return row;
}

static void
collect_options (const TnClass *class, uint32_t when, GArray *rows)
{
  for (size_t i = 0; class->options; i++) {
    TnOption row = option_row (class, i);
    if (!row.name)
      return;
    /* The file name is an argument of its own. */
    if (row.when & TN_OPTION_REQUIRED)
      continue;
    uint32_t at = row.when;
    if ((at ? at : TN_OPTION_OPEN) & when)
      g_array_append_val (rows, row);
  }
}

static int
compare_rows (const void *a, const void *b)
{
  return strcmp (((const TnOption *) a)->name, ((const TnOption *) b)->name);
}

static void
print_row (CliArgs *args, const TnOption *row)
{
  g_autofree char *left = g_strdup_printf ("%s=<%s>", row->name, type_text (row->type));
  g_autofree char *choices = row->choices ? g_strjoinv (", ", (char **) row->choices) : NULL;
  cli_print (args, "  %-22s - %s", left, row->help ? row->help : "");
  if (choices)
    cli_print (args, " (allowed values: %s)", choices);
  if (row->value)
    cli_print (args, " (default: %s)", row->value);
  cli_print (args, "\n");
}

int
cli_print_options (CliArgs *args, const TnClass *const *classes, unsigned n, uint32_t when)
{
  static const TnOption size = { .name = "size", .type = TN_OPTION_SIZE, .help = "size of the disk" };
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (TnOption));
  for (unsigned i = 0; i < n; i++)
    collect_options (classes[i], when, rows);
  if (when & TN_OPTION_CREATE)
    g_array_append_val (rows, size);
  g_array_sort (rows, compare_rows);
  cli_print (args, "Supported options:\n");
  for (unsigned i = 0; i < rows->len; i++) {
    const TnOption *row = &g_array_index (rows, TnOption, i);
    if (i == 0 || strcmp (row->name, row[-1].name) != 0)
      print_row (args, row);
  }
  return EXIT_SUCCESS;
}

static void
print_format (const TnClassInfo *info, void *opaque)
{
  cli_print (opaque, "  %-22s %s\n", info->name, info->summary ? info->summary : "");
}

int
cli_print_formats (CliArgs *args)
{
  GError *error = NULL;
  cli_print (args, "Supported formats:\n");
  if (tn_plugins_foreach (TN_KIND_FORMAT, print_format, NULL, args, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

bool
cli_same_file (const char *a, const char *b)
{
  struct stat one, two;
  if (stat (a, &one) < 0 || stat (b, &two) < 0)
    return false;
  if (S_ISBLK (one.st_mode) && S_ISBLK (two.st_mode))
    return one.st_rdev == two.st_rdev;
  return one.st_dev == two.st_dev && one.st_ino == two.st_ino && S_ISREG (one.st_mode);
}
