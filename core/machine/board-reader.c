/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine/board-reader.h"

#include "machine/board.h"

struct TnBoardReader {
  GKeyFile *file;
  const char *path, *group;
  GHashTable *left; /* keys that nobody has asked for */
  int result;
  GError **error;
};

TnBoardReader *
tn_reader_new (GKeyFile *file, const char *path, const char *group, GError **error)
{
  TnBoardReader *reader = g_new0 (TnBoardReader, 1);
  reader->file = file;
  reader->path = path;
  reader->group = group;
  reader->error = error;
  reader->left = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_auto (GStrv) keys = g_key_file_get_keys (file, group, NULL, NULL);
  for (char **key = keys; key != NULL && *key != NULL; key++)
    g_hash_table_add (reader->left, g_strdup (*key));
  if (g_hash_table_size (reader->left) > TN_BOARD_MAX_ITEMS)
    tn_reader_fail (reader, NULL, "has too many keys");
  return reader;
}

void
tn_reader_free (TnBoardReader *reader)
{
  g_hash_table_unref (reader->left);
  g_free (reader);
}

void
tn_reader_fail (TnBoardReader *reader, const char *key, const char *what)
{
  if (reader->result < 0)
    return;
  reader->result = tn_fail (reader->error, TN_MACHINE_ERROR, EINVAL, "%s: [%s] %s%s%s", reader->path,
                            reader->group, key != NULL ? key : "", key != NULL ? ": " : "", what);
}

/* The raw value of @key, or NULL. */
static char *
reader_take (TnBoardReader *reader, const char *key)
{
  if (!g_hash_table_remove (reader->left, key))
    return NULL;
  return g_key_file_get_value (reader->file, reader->group, key, NULL);
}

char *
tn_reader_text (TnBoardReader *reader, const char *key, const char *fallback)
{
  char *value = reader_take (reader, key);
  if (value != NULL && (*value != '\0' || fallback != NULL))
    return value;
  g_free (value);
  if (fallback == NULL)
    tn_reader_fail (reader, key, "is missing");
  return g_strdup (fallback);
}

char **
tn_reader_list (TnBoardReader *reader, const char *key)
{
  g_autofree char *value = reader_take (reader, key);
  if (value == NULL || *value == '\0')
    return g_new0 (char *, 1);
  char **words = g_strsplit (value, ";", TN_BOARD_MAX_ITEMS);
  for (char **word = words; *word != NULL; word++)
    g_strstrip (*word);
  return words;
}

static bool
number_parse (const char *text, uint64_t *number)
{
  if (!g_ascii_isdigit (*text))
    return false;
  char *end;
  errno = 0;
  *number = g_ascii_strtoull (text, &end, 0);
  return errno == 0 && *end == '\0';
}

uint64_t
tn_reader_number (TnBoardReader *reader, const char *key, uint64_t fallback, uint64_t min, uint64_t max)
{
  g_autofree char *value = reader_take (reader, key);
  if (value == NULL) {
    if (fallback == TN_READER_REQUIRED)
      tn_reader_fail (reader, key, "is missing");
    return fallback;
  }
  uint64_t number;
  if (number_parse (value, &number) && number >= min && number <= max)
    return number;
  g_autofree char *what = g_strdup_printf (
      "'%s' is not a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, value, min, max);
  tn_reader_fail (reader, key, what);
  return min;
}

uint64_t
tn_reader_size (TnBoardReader *reader, const char *key, uint64_t fallback)
{
  g_autofree char *value = reader_take (reader, key);
  uint64_t size;
  if (value == NULL)
    return fallback;
  if (tn_parse_size (value, &size, NULL) == 0 && size > 0)
    return size;
  tn_reader_fail (reader, key, "wants a size such as 128M");
  return fallback;
}

void
tn_reader_numbers (TnBoardReader *reader, const char *key, GArray *numbers)
{
  g_auto (GStrv) words = tn_reader_list (reader, key);
  for (char **word = words; *word != NULL; word++) {
    uint64_t number;
    if (!number_parse (*word, &number)) {
      tn_reader_fail (reader, key, "wants numbers separated by semicolons");
      return;
    }
    g_array_append_val (numbers, number);
  }
}

/* Moves the keys that begin with @prefix, in the order of the file. */
static void
reader_move (TnBoardReader *reader, const char *prefix, TnOptions *options)
{
  g_auto (GStrv) keys = g_key_file_get_keys (reader->file, reader->group, NULL, NULL);
  for (char **key = keys; key != NULL && *key != NULL; key++) {
    if (!g_str_has_prefix (*key, prefix) || !g_hash_table_contains (reader->left, *key))
      continue;
    g_autofree char *value = reader_take (reader, *key);
    tn_options_set (options, *key + strlen (prefix), value != NULL ? value : "");
  }
}

void
tn_reader_prefix (TnBoardReader *reader, const char *prefix, TnOptions *options)
{
  reader_move (reader, prefix, options);
}

void
tn_reader_all (TnBoardReader *reader, TnOptions *options)
{
  reader_move (reader, "", options);
}

int
tn_reader_end (TnBoardReader *reader)
{
  GHashTableIter left;
  gpointer key;
  g_hash_table_iter_init (&left, reader->left);
  if (reader->result == 0 && g_hash_table_iter_next (&left, &key, NULL))
    tn_reader_fail (reader, key, "is not a key of this section (see doc/boards.md)");
  return reader->result;
}

int
tn_board_value_parse (const char *text, TnBoardValue *value)
{
  if (*text == '@') {
    if (text[1] == '\0')
      return -EINVAL;
    value->name = g_strdup (text + 1);
    return 0;
  }
  value->name = NULL;
  return number_parse (text, &value->number) ? 0 : -EINVAL;
}
