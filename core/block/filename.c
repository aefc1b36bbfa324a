/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File names as users and images write them: paths, PROTOCOL:…, URIs, json:{…}. */
#include "block/internal.h"

#include <sys/stat.h>

#define JSON_PREFIX "json:"

static size_t
protocol_length (const char *filename)
{
  size_t length = strcspn (filename, ":/");
  return filename[length] == ':' && length ? length : 0;
}

bool
tn_filename_has_protocol (const char *filename)
{
  return protocol_length (filename) > 0;
}

static const char *
strip_default_protocol (const char *filename)
{
  return g_str_has_prefix (filename, TN_DEFAULT_PROTOCOL ":") ? filename + strlen (TN_DEFAULT_PROTOCOL ":")
                                                              : filename;
}

/* Where the last part of a name begins: behind the last slash, but never inside "PROTOCOL:" or
 * "SCHEME://HOST". */
static size_t
folder_length (const char *name)
{
  size_t protocol = protocol_length (name), start = protocol ? protocol + 1 : 0;
  if (g_str_has_prefix (name + start, "//"))
    start += 2 + strcspn (name + start + 2, "/");
  const char *slash = strrchr (name + start, '/');
  return slash ? (size_t) (slash + 1 - name) : start;
}

char *
tn_filename_combine (const char *base, const char *filename)
{
  if (!base || filename[0] == '/' || tn_filename_has_protocol (filename)
      || g_str_has_prefix (base, JSON_PREFIX))
    return g_strdup (filename);
  base = strip_default_protocol (base);
  return g_strdup_printf ("%.*s%s", (int) folder_length (base), base, filename);
}

/* ---- Into options ---- */

/* Relative file names inside are what QEMU takes them for: relative to the current folder. */
static int
parse_json (const char *filename, TnOptions **options, GError **error)
{
  g_autoptr (TnOptions) parsed = tn_options_new ();
  int rc = tn_options_parse_json (parsed, filename + strlen (JSON_PREFIX), error);
  if (rc)
    return rc;
  *options = g_steal_pointer (&parsed);
  return 0;
}

static const TnClass *
find_protocol (const char *filename, size_t length, GError **error)
{
  g_autofree char *name = g_strndup (filename, length);
  if (g_str_has_prefix (filename + length, "://")) {
    const TnClass *class = tn_class_find_scheme (name, NULL);
    if (class)
      return class;
  }
  const TnClass *class = tn_class_find (TN_KIND_PROTOCOL, name, error);
  if (!class && !g_str_has_prefix (filename + length, "://"))
    g_prefix_error (error, "'%s': for a file of that name write './%s': ", filename, filename);
  return class;
}

static int
parse_with (const TnClass *class, const char *text, TnOptions *options, GError **error)
{
  const TnProtocolOps *ops = class->ops;
  bool has_parser = ops->size > offsetof (TnProtocolOps, parse_filename);
  tn_options_set (options, "driver", class->name);
  if (has_parser && ops->parse_filename)
    return ops->parse_filename (text, options, error);
  tn_options_set (options, "filename", text);
  return 0;
}

static int
parse_protocol (const char *filename, size_t length, TnOptions **options, GError **error)
{
  const TnClass *class = find_protocol (filename, length, error);
  if (!class)
    return -ENOENT;
  g_autoptr (TnOptions) parsed = tn_options_new ();
  bool uri = g_str_has_prefix (filename + length, "://");
  int rc = parse_with (class, uri ? filename : filename + length + 1, parsed, error);
  if (rc < 0)
    return rc;
  *options = g_steal_pointer (&parsed);
  return 0;
}

/* Devices have drivers of their own, which the default protocol knows. */
static bool
is_device (const char *path)
{
  struct stat st;
  return stat (path, &st) == 0 && S_ISBLK (st.st_mode);
}

static int
parse_path (const char *path, TnOptions **options, GError **error)
{
  g_autoptr (TnOptions) parsed = tn_options_new ();
  if (is_device (path)) {
    const TnClass *class = tn_class_find (TN_KIND_PROTOCOL, TN_DEFAULT_PROTOCOL, error);
    int rc = class ? parse_with (class, path, parsed, error) : -ENOENT;
    if (rc < 0)
      return rc;
  } else {
    tn_options_set (parsed, "driver", TN_DEFAULT_PROTOCOL);
    tn_options_set (parsed, "filename", path);
  }
  *options = g_steal_pointer (&parsed);
  return 0;
}

int
tn_node_parse_filename (const char *filename, const char *base, TnOptions **options, GError **error)
{
  if (!*filename)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the file name is empty");
  if (g_str_has_prefix (filename, JSON_PREFIX))
    return parse_json (filename, options, error);
  g_autofree char *name = tn_filename_combine (base, filename);
  size_t length = protocol_length (name);
  /* "file:" in front of a path is stripped, wherever that protocol comes from. */
  if (length && !g_str_has_prefix (name, TN_DEFAULT_PROTOCOL ":"))
    return parse_protocol (name, length, options, error);
  return parse_path (strip_default_protocol (name), options, error);
}

static bool
names_format (const TnOptions *options)
{
  const char *driver = tn_options_get (options, "driver");
  return driver && tn_class_find (TN_KIND_FORMAT, driver, NULL);
}

/* A JSON name may describe all of the graph already; else it is the file below a format. */
static bool
is_graph (const TnOptions *options)
{
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (g_str_equal (key, "file") || g_str_has_prefix (key, "file."))
      return true;
  }
  return names_format (options);
}

static void
merge_below (TnOptions *options, const char *prefix, const TnOptions *from)
{
  for (size_t i = 0; i < tn_options_count (from); i++) {
    const char *key, *value;
    tn_options_pair (from, i, &key, &value);
    g_autofree char *full = g_strdup_printf ("%s.%s", prefix, key);
    tn_options_set (options, full, value);
  }
}

int
tn_filename_to_graph (const char *filename, const char *format, const TnOptions *more, TnOptions **options,
                      GError **error)
{
  g_autoptr (TnOptions) parsed = NULL;
  int rc = tn_node_parse_filename (filename, NULL, &parsed, error);
  if (rc)
    return rc;
  bool json = g_str_has_prefix (filename, JSON_PREFIX);
  g_autoptr (TnOptions) graph = tn_options_new ();
  if (json && (is_graph (parsed) || (!format && tn_options_has (parsed, "driver"))))
    tn_options_merge (graph, parsed);
  else
    merge_below (graph, "file", parsed);
  if (format) {
    const char *driver = tn_options_get (graph, "driver");
    if (driver && !g_str_equal (driver, format))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: format '%s' was asked for, but the name says '%s'",
                      filename, format, driver);
    tn_options_set (graph, "driver", format);
  }
  if (more)
    tn_options_merge (graph, more);
  *options = g_steal_pointer (&graph);
  return 0;
}

/* ---- From options ---- */

static void
append_json_text (GString *json, const char *text)
{
  g_string_append_c (json, '"');
  for (; *text; text++) {
    unsigned char c = (unsigned char) *text;
    if (c == '"' || c == '\\')
      g_string_append_printf (json, "\\%c", c);
    else if (c < 0x20)
      g_string_append_printf (json, "\\u%04x", c);
    else
      g_string_append_c (json, (char) c);
  }
  g_string_append_c (json, '"');
}

char *
tn_filename_from_options (const char *driver, const TnOptions *options)
{
  const char *filename = tn_options_get (options, "filename");
  if (filename && g_str_equal (driver, TN_DEFAULT_PROTOCOL))
    return g_strdup (filename);
  if (filename && tn_options_count (options) == 1)
    return g_strdup_printf ("%s:%s", driver, filename);
  GString *json = g_string_new (JSON_PREFIX "{\"driver\": ");
  append_json_text (json, driver);
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    g_string_append (json, ", ");
    append_json_text (json, key);
    g_string_append (json, ": ");
    append_json_text (json, value);
  }
  g_string_append_c (json, '}');
  return g_string_free (json, FALSE);
}
