/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nested JSON as flat options: {"a": {"b": [1]}} is a.b.0=1. */
#include <tenon/json.h>
#include <tenon/option.h>

/* A set is searched linearly, so a hostile document must not make it long. */
#define JSON_MAX_OPTIONS 4096

typedef struct Level {
  size_t path_length; /* of the container's own path */
  size_t next;        /* number of an array's next element */
  bool is_array;
} Level;

typedef struct Flatten {
  TnOptions *options;
  GString *path;
  GArray *levels;
} Flatten;

static Level *
innermost (const Flatten *flatten)
{
  if (!flatten->levels->len)
    return NULL;
  return &g_array_index (flatten->levels, Level, flatten->levels->len - 1);
}

static int
push_name (Flatten *flatten, const char *name, GError **error)
{
  Level *level = innermost (flatten);
  if (name && !*name)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "JSON member without a name below '%s'",
                    flatten->path->str);
  if (!level)
    return 0;
  if (flatten->path->len)
    g_string_append_c (flatten->path, '.');
  if (level->is_array)
    g_string_append_printf (flatten->path, "%zu", level->next++);
  else
    g_string_append (flatten->path, name);
  return 0;
}

static void
enter (Flatten *flatten, bool is_array)
{
  Level level = { .path_length = flatten->path->len, .is_array = is_array };
  g_array_append_val (flatten->levels, level);
}

static void
pop_name (Flatten *flatten)
{
  Level *level = innermost (flatten);
  g_string_truncate (flatten->path, level ? level->path_length : 0);
}

static void
leave (Flatten *flatten)
{
  g_array_set_size (flatten->levels, flatten->levels->len - 1);
  pop_name (flatten);
}

static int
add_scalar (Flatten *flatten, const char *value, GError **error)
{
  if (tn_options_count (flatten->options) >= JSON_MAX_OPTIONS)
    return tn_fail (error, TN_OPTION_ERROR, E2BIG, "JSON object has more than %d members", JSON_MAX_OPTIONS);
  tn_options_set (flatten->options, flatten->path->str, value);
  pop_name (flatten);
  return 0;
}

static const char *
scalar_text (TnJsonType type, const char *value)
{
  if (type == TN_JSON_BOOL)
    return strcmp (value, "true") == 0 ? "on" : "off";
  return type == TN_JSON_NULL ? "" : value;
}

static int
flatten_event (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Flatten *flatten = opaque;
  if (type == TN_JSON_OBJECT_END || type == TN_JSON_ARRAY_END) {
    leave (flatten);
    return 0;
  }
  if (!innermost (flatten) && type != TN_JSON_OBJECT_BEGIN)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "JSON options must be an object: write {\"NAME\": VALUE}");
  int r = push_name (flatten, name, error);
  if (r < 0)
    return r;
  if (type == TN_JSON_OBJECT_BEGIN || type == TN_JSON_ARRAY_BEGIN) {
    enter (flatten, type == TN_JSON_ARRAY_BEGIN);
    return 0;
  }
  return add_scalar (flatten, scalar_text (type, value), error);
}

int
tn_options_parse_json (TnOptions *options, const char *text, GError **error)
{
  g_autoptr (TnOptions) parsed = tn_options_new ();
  g_autoptr (GString) path = g_string_new (NULL);
  g_autoptr (GArray) levels = g_array_new (FALSE, FALSE, sizeof (Level));
  Flatten flatten = { .options = parsed, .path = path, .levels = levels };
  int r = tn_json_read (text, flatten_event, &flatten, error);
  if (r < 0)
    return r;
  tn_options_merge (options, parsed);
  return 0;
}
