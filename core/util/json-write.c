/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>

#include <tenon/json.h>

struct TnJson {
  GString *text;
  bool pretty;
  bool need_comma; /* a value precedes in the innermost open container */
  unsigned depth;
};

TnJson *
tn_json_new (GString *text, bool pretty)
{
  TnJson *json = g_new0 (TnJson, 1);
  json->text = text;
  json->pretty = pretty;
  return json;
}

void
tn_json_free (TnJson *json)
{
  g_free (json);
}

static void
append_escaped_unit (GString *text, unsigned unit)
{
  g_string_append_printf (text, "\\u%04X", unit);
}

static void
append_character (GString *text, gunichar c)
{
  static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  for (const char *pair = short_escapes; *pair; pair += 2) {
    if (c != (gunichar) pair[0])
      continue;
    g_string_append_c (text, '\\');
    g_string_append_c (text, pair[1]);
    return;
  }
  if (c >= 0x20 && c < 0x7f) {
    g_string_append_c (text, (char) c);
  } else if (c <= 0xffff) {
    append_escaped_unit (text, c);
  } else {
    append_escaped_unit (text, 0xd800 + ((c - 0x10000) >> 10));
    append_escaped_unit (text, 0xdc00 + ((c - 0x10000) & 0x3ff));
  }
}

static void
append_quoted (GString *text, const char *value)
{
  g_string_append_c (text, '"');
  const char *end = value + strlen (value);
  while (value < end) {
    gunichar c = g_utf8_get_char_validated (value, end - value);
    bool valid = c != (gunichar) -1 && c != (gunichar) -2;
    append_character (text, valid ? c : 0xfffd);
    value = valid ? g_utf8_next_char (value) : value + 1;
  }
  g_string_append_c (text, '"');
}

static void
append_newline (TnJson *json)
{
  if (!json->pretty)
    return;
  g_string_append_c (json->text, '\n');
  for (unsigned i = 0; i < json->depth; i++)
    g_string_append (json->text, "    ");
}

/* Everything that stands before a value: comma, line break, name. */
static void
begin_value (TnJson *json, const char *name)
{
  if (json->need_comma)
    g_string_append (json->text, json->pretty ? "," : ", ");
  if (json->depth)
    append_newline (json);
  if (name) {
    append_quoted (json->text, name);
    g_string_append (json->text, ": ");
  }
  json->need_comma = true;
}

static void
open_container (TnJson *json, const char *name, char bracket)
{
  begin_value (json, name);
  g_string_append_c (json->text, bracket);
  json->depth++;
  json->need_comma = false;
}

static void
close_container (TnJson *json, char bracket)
{
  if (json->depth)
    json->depth--;
  append_newline (json);
  g_string_append_c (json->text, bracket);
  json->need_comma = json->depth > 0;
}

void
tn_json_object_begin (TnJson *json, const char *name)
{
  open_container (json, name, '{');
}

void
tn_json_object_end (TnJson *json)
{
  close_container (json, '}');
}

void
tn_json_array_begin (TnJson *json, const char *name)
{
  open_container (json, name, '[');
}

void
tn_json_array_end (TnJson *json)
{
  close_container (json, ']');
}

void
tn_json_string (TnJson *json, const char *name, const char *value)
{
  if (!value) {
    tn_json_null (json, name);
    return;
  }
  begin_value (json, name);
  append_quoted (json->text, value);
}

void
tn_json_uint (TnJson *json, const char *name, uint64_t value)
{
  begin_value (json, name);
  g_string_append_printf (json->text, "%" G_GUINT64_FORMAT, value);
}

void
tn_json_int (TnJson *json, const char *name, int64_t value)
{
  begin_value (json, name);
  g_string_append_printf (json->text, "%" G_GINT64_FORMAT, value);
}

void
tn_json_bool (TnJson *json, const char *name, bool value)
{
  begin_value (json, name);
  g_string_append (json->text, value ? "true" : "false");
}

void
tn_json_double (TnJson *json, const char *name, double value)
{
  if (!isfinite (value)) {
    tn_json_null (json, name);
    return;
  }
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  begin_value (json, name);
  g_string_append (json->text, g_ascii_formatd (text, sizeof text, "%.17g", value));
}

void
tn_json_null (TnJson *json, const char *name)
{
  begin_value (json, name);
  g_string_append (json->text, "null");
}

typedef struct Splice {
  TnJson *json;
  const char *name; /* of the outermost value */
  bool started;
} Splice;

static void
write_literal (TnJson *json, const char *name, const char *value)
{
  begin_value (json, name);
  g_string_append (json->text, value);
}

static int
splice_event (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Splice *splice = opaque;
  TnJson *json = splice->json;
  if (!splice->started)
    name = splice->name;
  splice->started = true;
  switch (type) {
  case TN_JSON_OBJECT_BEGIN:
    tn_json_object_begin (json, name);
    break;
  case TN_JSON_OBJECT_END:
    tn_json_object_end (json);
    break;
  case TN_JSON_ARRAY_BEGIN:
    tn_json_array_begin (json, name);
    break;
  case TN_JSON_ARRAY_END:
    tn_json_array_end (json);
    break;
  case TN_JSON_STRING:
    tn_json_string (json, name, value);
    break;
  case TN_JSON_INT:
  case TN_JSON_DOUBLE:
  case TN_JSON_BOOL:
    write_literal (json, name, value);
    break;
  case TN_JSON_NULL:
    tn_json_null (json, name);
    break;
  }
  return 0;
}

int
tn_json_text (TnJson *json, const char *name, const char *text, GError **error)
{
  Splice splice = { .json = json, .name = name };
  TnJson before = *json;
  size_t length = json->text->len;
  int r = tn_json_read (text, splice_event, &splice, error);
  if (r < 0) {
    g_string_truncate (json->text, length);
    *json = before;
  }
  return r;
}
