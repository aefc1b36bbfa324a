/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img create */
#include "img.h"

#include <tenon/format.h>
#include <tenon/plugin.h>

int
img_create_classes (const char *filename, const char *format, const TnClass *classes[2], unsigned *n,
                    GError **error)
{
  *n = 0;
  int ret = cli_find_format (format, &classes[(*n)++], error);
  if (ret < 0)
    return ret;
  g_autoptr (TnOptions) parsed = NULL;
  ret = tn_node_parse_filename (filename, NULL, &parsed, error);
  if (ret < 0)
    return ret;
  const char *protocol = tn_options_get (parsed, "driver");
  const TnClass *class = tn_class_find (TN_KIND_PROTOCOL, protocol ? protocol : "file", error);
  if (!class)
    return -ENOENT;
  classes[(*n)++] = class;
  return 0;
}

int
img_create_options (const CliArgs *args, TnOptions *options, bool *help, GError **error)
{
  const char *text;
  *help = false;
  for (unsigned i = 0; (text = cli_text_nth (args, "options", i)); i++) {
    if (cli_is_help (text)) {
      *help = true;
      continue;
    }
    int ret = tn_options_parse (options, text, NULL, error);
    if (ret < 0)
      return ret;
  }
  if (tn_options_has (options, "help") || tn_options_has (options, "?"))
    *help = true;
  return 0;
}

static bool
class_has_option (const TnClass *class, const char *name)
{
  for (size_t i = 0; class->options; i++) {
    TnOption row = { 0 };
    memcpy (&row, (const char *) class->options + i * class->option_size,
            MIN (sizeof row, class->option_size));
    if (!row.name)
      break;
    if ((row.when & TN_OPTION_CREATE) && strcmp (row.name, name) == 0)
      return true;
  }
  return false;
}

/* The options that @class takes, checked and with its defaults. */
static int
complete_options (const TnClass *class, const TnOptions *options, TnOptions **complete, GError **error)
{
  g_autoptr (TnOptions) known = tn_options_new ();
  g_autofree char *what =
      g_strdup_printf ("%s '%s'", class->kind == TN_KIND_FORMAT ? "format" : "protocol", class->name);
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *name, *value;
    tn_options_pair (options, i, &name, &value);
    if (class_has_option (class, name))
      tn_options_set (known, name, value);
  }
  int ret = tn_options_check (known, class->options, class->option_size, TN_OPTION_CREATE, what, error);
  if (ret >= 0)
    *complete = g_steal_pointer (&known);
  return ret;
}

int
img_check_create_options (const char *filename, const char *format, const TnOptions *options, GError **error)
{
  const TnClass *classes[2];
  unsigned n;
  int ret = img_create_classes (filename, format, classes, &n, error);
  if (ret < 0)
    return ret;
  g_autoptr (TnOptions) unknown = tn_options_copy (options);
  tn_options_set (unknown, "size", NULL);
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *name, *value;
    tn_options_pair (options, i, &name, &value);
    if (class_has_option (classes[0], name) || class_has_option (classes[1], name))
      tn_options_set (unknown, name, NULL);
  }
  /* The table knows what was probably meant. */
  g_autofree char *what = g_strdup_printf ("format '%s'", format);
  if (tn_options_count (unknown))
    return tn_options_check (unknown, classes[0]->options, classes[0]->option_size, TN_OPTION_CREATE, what,
                             error);
  g_autoptr (TnOptions) complete = NULL;
  return complete_options (classes[0], options, &complete, error);
}

static uint32_t
format_flags (const TnClass *class)
{
  const TnFormatOps *ops = class->ops;
  return ops->flags;
}

int
img_check_backing (const char *format, const TnOptions *options, GError **error)
{
  const char *backing = tn_options_get (options, "backing_file");
  if (!backing)
    return 0;
  const TnClass *class;
  int ret = cli_find_format (format, &class, error);
  if (ret < 0)
    return ret;
  if (!(format_flags (class) & TN_FORMAT_BACKING))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "format '%s' has no backing files; use a format such as qcow2", format);
  const char *backing_format = tn_options_get (options, "backing_fmt");
  return backing_format ? cli_find_format (backing_format, &class, error) : 0;
}

/* -b and -F, or the options of the same meaning. */
static int
take_backing (const CliArgs *args, TnOptions *options, GError **error)
{
  const char *file = cli_text (args, "backing"), *format = cli_text (args, "backing-format");
  if (file && tn_options_has (options, "backing_file"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "give the backing file once: with -b or with -o backing_file=");
  if (format && tn_options_has (options, "backing_fmt"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "give the backing format once: with -F or with -o backing_fmt=");
  if (file)
    tn_options_set (options, "backing_file", file);
  if (format)
    tn_options_set (options, "backing_fmt", format);
  return 0;
}

static int
take_size (const CliArgs *args, TnOptions *options, uint64_t *size, bool *known, GError **error)
{
  const char *word = args->n_words > 1 ? args->words[1] : NULL;
  const char *option = tn_options_get (options, "size");
  if (word && option)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "give the size once: as an argument or with -o size=");
  const char *text = word ? word : option;
  *known = text != NULL;
  if (!text)
    return 0;
  int ret = cli_parse_size (text, "the size", size, error);
  tn_options_set (options, "size", NULL);
  if (ret >= 0 && *size > INT64_MAX - 511)
    return tn_fail (error, TN_OPTION_ERROR, EFBIG, "the size '%s' is larger than any disk can be (8E)", text);
  return ret;
}

/* Opens the backing file, to see that it is one, and takes its size when none was given. */
static int
examine_backing (const CliArgs *args, const char *filename, const TnOptions *options, bool size_known,
                 uint64_t *size, GError **error)
{
  const char *backing = tn_options_get (options, "backing_file");
  const char *format = tn_options_get (options, "backing_fmt");
  g_autoptr (TnOptions) graph = NULL;
  int ret = tn_node_parse_filename (backing, filename, &graph, error);
  if (ret < 0)
    return ret;
  const char *path = tn_options_get (graph, "filename");
  g_autoptr (TnNode) node = NULL;
  ret = cli_open_as (args, path ? path : backing, false, format, NULL, TN_OPEN_SHARED, &node, error);
  if (ret < 0) {
    g_prefix_error (error, "backing file '%s': ", backing);
    return ret;
  }
  if (!format)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the format of backing file '%s' must be said; it looks like: -F %s", backing,
                    tn_node_class_name (node));
  if (cli_same_file (path ? path : backing, filename))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' cannot be its own backing file", filename);
  if (!size_known)
    *size = tn_node_size (node);
  return 0;
}

static void
append_value (GString *line, const char *name, const char *value)
{
  g_string_append_printf (line, " %s=", name);
  /* A comma in a value is doubled, as it has to be on a command line. */
  for (; *value; value++)
    g_string_append_len (line, *value == ',' ? ",," : value, *value == ',' ? 2 : 1);
}

/* "Formatting 'a.qcow2', fmt=qcow2 cluster_size=65536 …": every option that has a value. */
static int
announce (CliArgs *args, const char *filename, const char *format, const TnClass *class,
          const TnOptions *options, uint64_t size, GError **error)
{
  g_autoptr (TnOptions) known = NULL;
  g_autoptr (GString) line = g_string_new (NULL);
  int ret = complete_options (class, options, &known, error);
  if (ret < 0)
    return ret;
  g_string_append_printf (line, "Formatting '%s', fmt=%s size=%" G_GUINT64_FORMAT, filename, format, size);
  for (size_t i = 0; i < tn_options_count (known); i++) {
    const char *name, *value;
    tn_options_pair (known, i, &name, &value);
    append_value (line, name, value);
  }
  if (!cli_quiet (args))
    cli_print (args, "%s\n", line->str);
  cli_flush (args);
  return 0;
}

static int
create (CliArgs *args, const char *filename, const char *format, TnOptions *options, GError **error)
{
  bool size_known = false, unsafe = cli_flag (args, "unsafe");
  uint64_t size = 0;
  int ret = cli_define_objects (args, error);
  if (ret >= 0)
    ret = take_backing (args, options, error);
  if (ret >= 0)
    ret = take_size (args, options, &size, &size_known, error);
  if (ret >= 0)
    ret = img_check_backing (format, options, error);
  if (ret >= 0)
    ret = img_check_create_options (filename, format, options, error);
  const char *backing = tn_options_get (options, "backing_file");
  if (ret >= 0 && backing && !*backing)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "the name of the backing file is empty");
  if (ret >= 0 && backing && !unsafe)
    ret = examine_backing (args, filename, options, size_known, &size, error);
  if (ret < 0)
    return ret;
  if (!size_known && (!backing || unsafe))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s: a size is needed, such as 10G", filename);
  const TnClass *class;
  ret = cli_find_format (format, &class, error);
  if (ret >= 0)
    ret = announce (args, filename, format, class, options, size, error);
  /* Disks consist of sectors. */
  return ret < 0 ? ret : tn_image_create (filename, format, options, (size + 511) & ~(uint64_t) 511, error);
}

static int
print_help (CliArgs *args, const char *filename, const char *format)
{
  GError *error = NULL;
  const TnClass *classes[2];
  unsigned n;
  if (img_create_classes (filename, format, classes, &n, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  return cli_print_options (args, classes, n, TN_OPTION_CREATE);
}

static int
create_run (CliArgs *args)
{
  const char *format = cli_text (args, "format");
  const char *filename = args->n_words ? args->words[0] : NULL;
  g_autoptr (TnOptions) options = tn_options_new ();
  GError *error = NULL;
  bool help;
  if (cli_is_help (format))
    return cli_print_formats (args);
  if (!format)
    format = "raw";
  if (img_create_options (args, options, &help, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  if (help)
    return print_help (args, filename ? filename : "image", format);
  if (!filename || !*filename)
    tn_fail (&error, TN_OPTION_ERROR, EINVAL,
             "a file name is needed: tenon-img create [OPTION…] FILENAME [SIZE]");
  if (!error && create (args, filename, format, options, &error) >= 0)
    return EXIT_SUCCESS;
  if (filename && !strstr (error->message, filename))
    g_prefix_error (&error, "%s: ", filename);
  return cli_fail (args, EXIT_FAILURE, &error);
}

typedef struct SourceCheck {
  const char *target;
  const char *source;
} SourceCheck;

static void
check_child (TnNode *node, const char *role, void *opaque)
{
  SourceCheck *check = opaque;
  if (!check->source && cli_same_file (tn_node_filename (node), check->target))
    check->source = tn_node_filename (node);
  tn_node_foreach_child (node, check_child, check);
}

int
img_check_not_source (const char *target, TnNode *node, GError **error)
{
  SourceCheck check = { .target = target };
  check_child (node, NULL, &check);
  if (!check.source)
    return 0;
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "'%s' is read by this command and cannot be its target; choose another name", target);
}

static const CliOption create_options[] = {
  { "format", 'f', "FMT", "format of the new image (default: raw; 'help' lists them)", NULL },
  { "backing", 'b', "FILE", "hold only what differs from this image", NULL },
  { "backing-format", 'F', "FMT", "format of the backing file", NULL },
  { "unsafe", 'u', NULL, "do not look at the backing file", NULL },
  { "options", 'o', "OPTIONS", "options of the format, name=value,…; 'help' lists them", NULL },
  { 0 }
};

const CliCommand img_create = {
  .name = "create",
  .summary = "make a new image",
  .words = "FILENAME [SIZE]",
  .max_words = 2,
  .standard = CLI_SANDBOX | CLI_QUIET | CLI_OBJECT,
  .options = create_options,
  .details = "Without SIZE the new image is as large as its backing file.  The file name of a backing file "
             "is taken\n"
             "relative to the folder of the new image.\n",
  .run = create_run,
};
