/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading JSON: jansson parses, and no jansson type is seen outside this file. */
#include <stdio.h>

#include <jansson.h>
#include <sys/auxv.h>

#include <tenon/json.h>

/* Stands in for stdin in the copy of jansson that is linked in (configure.ac); nothing reads it. */
extern FILE *tn_jansson_stdin;
FILE *tn_jansson_stdin;

#define JSON_MAX_DEPTH 64
/* Nothing that Tenon reads as JSON comes near this; it bounds what a hostile text can cost. */
#define JSON_MAX_LENGTH (1u << 20)

typedef struct Walk {
  int (*event) (TnJsonType type, const char *name, const char *value, void *opaque, GError **error);
  void *opaque;
} Walk;

static int walk_value (const Walk *walk, const char *name, json_t *value, unsigned depth, GError **error);

static int
walk_object (const Walk *walk, const char *name, json_t *object, unsigned depth, GError **error)
{
  int r = walk->event (TN_JSON_OBJECT_BEGIN, name, NULL, walk->opaque, error);
  const char *key;
  json_t *member;
  json_object_foreach (object, key, member)
  {
    if (r < 0)
      return r;
    r = walk_value (walk, key, member, depth + 1, error);
  }
  return r < 0 ? r : walk->event (TN_JSON_OBJECT_END, NULL, NULL, walk->opaque, error);
}

static int
walk_array (const Walk *walk, const char *name, json_t *array, unsigned depth, GError **error)
{
  int r = walk->event (TN_JSON_ARRAY_BEGIN, name, NULL, walk->opaque, error);
  for (size_t i = 0; r >= 0 && i < json_array_size (array); i++)
    r = walk_value (walk, NULL, json_array_get (array, i), depth + 1, error);
  return r < 0 ? r : walk->event (TN_JSON_ARRAY_END, NULL, NULL, walk->opaque, error);
}

static int
walk_number (const Walk *walk, const char *name, json_t *value, GError **error)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  if (json_is_integer (value)) {
    g_snprintf (text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value (value));
    return walk->event (TN_JSON_INT, name, text, walk->opaque, error);
  }
  g_ascii_formatd (text, sizeof text, "%.17g", json_real_value (value));
  return walk->event (TN_JSON_DOUBLE, name, text, walk->opaque, error);
}

static int
walk_value (const Walk *walk, const char *name, json_t *value, unsigned depth, GError **error)
{
  if (depth > JSON_MAX_DEPTH)
    return tn_fail (error, TN_OPTION_ERROR, E2BIG, "JSON is nested more than %d deep: make it flatter",
                    JSON_MAX_DEPTH);
  switch (json_typeof (value)) {
  case JSON_OBJECT:
    return walk_object (walk, name, value, depth, error);
  case JSON_ARRAY:
    return walk_array (walk, name, value, depth, error);
  case JSON_STRING:
    return walk->event (TN_JSON_STRING, name, json_string_value (value), walk->opaque, error);
  case JSON_INTEGER:
  case JSON_REAL:
    return walk_number (walk, name, value, error);
  case JSON_TRUE:
    return walk->event (TN_JSON_BOOL, name, "true", walk->opaque, error);
  case JSON_FALSE:
    return walk->event (TN_JSON_BOOL, name, "false", walk->opaque, error);
  case JSON_NULL:
    break;
  }
  return walk->event (TN_JSON_NULL, name, NULL, walk->opaque, error);
}

/* jansson would open /dev/urandom for this; the kernel has already given every process some random bytes. */
static void
seed_hashes (void)
{
  const uint8_t *random = (const uint8_t *) getauxval (AT_RANDOM);
  if (random != NULL)
    json_object_seed (tn_load_le32 (random) | 1);
}

int
tn_json_read (const char *text,
              int (*event) (TnJsonType type, const char *name, const char *value, void *opaque,
                            GError **error),
              void *opaque, GError **error)
{
  size_t length = strlen (text);
  if (length > JSON_MAX_LENGTH)
    return tn_fail (error, TN_OPTION_ERROR, E2BIG, "JSON text of %zu bytes is too long: the limit is %u",
                    length, JSON_MAX_LENGTH);
  json_error_t why;
  seed_hashes ();
  json_t *root = json_loadb (text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
  if (!root)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "JSON text is wrong at line %d, column %d: %s", why.line,
                    why.column, why.text);
  Walk walk = { .event = event, .opaque = opaque };
  int r = walk_value (&walk, NULL, root, 0, error);
  json_decref (root);
  return r;
}
