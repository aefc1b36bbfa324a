/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The set of key=value pairs, and its spelling on command lines. */
#include <tenon/option.h>

#include "util/number.h"

typedef struct TnPair {
  char *key, *value;
} TnPair;

/* Sets are small (a dozen pairs), so looking through an array beats hashing and keeps the order. */
struct TnOptions {
  GArray *pairs;
};

static void
pair_clear (void *data)
{
  TnPair *pair = data;
  g_free (pair->key);
  g_free (pair->value);
}

TnOptions *
tn_options_new (void)
{
  TnOptions *options = g_new (TnOptions, 1);
  options->pairs = g_array_new (FALSE, FALSE, sizeof (TnPair));
  g_array_set_clear_func (options->pairs, pair_clear);
  return options;
}

TnOptions *
tn_options_copy (const TnOptions *options)
{
  TnOptions *copy = tn_options_new ();
  tn_options_merge (copy, options);
  return copy;
}

void
tn_options_free (TnOptions *options)
{
  if (!options)
    return;
  g_array_free (options->pairs, TRUE);
  g_free (options);
}

static TnPair *
pair_at (const TnOptions *options, size_t index)
{
  return &g_array_index (options->pairs, TnPair, index);
}

static TnPair *
find_pair (const TnOptions *options, const char *key)
{
  for (size_t i = 0; i < options->pairs->len; i++) {
    TnPair *pair = pair_at (options, i);
    if (strcmp (pair->key, key) == 0)
      return pair;
  }
  return NULL;
}

void
tn_options_set (TnOptions *options, const char *key, const char *value)
{
  TnPair *pair = find_pair (options, key);
  if (!value) {
    if (pair)
      g_array_remove_index (options->pairs, (guint) (pair - pair_at (options, 0)));
    return;
  }
  char *copy = g_strdup (value);
  if (pair) {
    g_free (pair->value);
    pair->value = copy;
    return;
  }
  TnPair added = { .key = g_strdup (key), .value = copy };
  g_array_append_val (options->pairs, added);
}

void
tn_options_set_uint (TnOptions *options, const char *key, uint64_t value)
{
  char text[24];
  g_snprintf (text, sizeof text, "%" G_GUINT64_FORMAT, value);
  tn_options_set (options, key, text);
}

void
tn_options_merge (TnOptions *options, const TnOptions *from)
{
  for (size_t i = 0; i < from->pairs->len; i++) {
    const TnPair *pair = pair_at (from, i);
    tn_options_set (options, pair->key, pair->value);
  }
}

const char *
tn_options_get (const TnOptions *options, const char *key)
{
  const TnPair *pair = find_pair (options, key);
  return pair ? pair->value : NULL;
}

bool
tn_options_has (const TnOptions *options, const char *key)
{
  return find_pair (options, key) != NULL;
}

size_t
tn_options_count (const TnOptions *options)
{
  return options->pairs->len;
}

void
tn_options_pair (const TnOptions *options, size_t index, const char **key, const char **value)
{
  const TnPair *pair = pair_at (options, index);
  *key = pair->key;
  *value = pair->value;
}

bool
tn_options_bool (const TnOptions *options, const char *key)
{
  const char *text = tn_options_get (options, key);
  bool value;
  return text && tn_number_parse_bool (text, &value) == 0 && value;
}

uint64_t
tn_options_uint (const TnOptions *options, const char *key)
{
  const char *text = tn_options_get (options, key);
  uint64_t value;
  return text && tn_number_parse_size (text, &value) == 0 ? value : 0;
}

TnOptions *
tn_options_take_prefix (TnOptions *options, const char *prefix)
{
  TnOptions *taken = tn_options_new ();
  size_t length = strlen (prefix);
  GArray *kept = g_array_new (FALSE, FALSE, sizeof (TnPair));
  g_array_set_clear_func (kept, pair_clear);
  for (size_t i = 0; i < options->pairs->len; i++) {
    TnPair pair = *pair_at (options, i);
    bool below = strncmp (pair.key, prefix, length) == 0 && pair.key[length] == '.' && pair.key[length + 1];
    if (below)
      memmove (pair.key, pair.key + length + 1, strlen (pair.key + length + 1) + 1);
    g_array_append_val (below ? taken->pairs : kept, pair);
  }
  g_array_set_clear_func (options->pairs, NULL); /* the pairs have moved */
  g_array_free (options->pairs, TRUE);
  options->pairs = kept;
  return taken;
}

/* Reads up to the next single comma from *@text, turning doubled commas into one, and moves *@text behind it.
 */
static char *
take_value (const char **text)
{
  const char *p = *text;
  char *value = g_malloc (strlen (p) + 1);
  size_t length = 0;
  while (*p && !(p[0] == ',' && p[1] != ',')) {
    value[length++] = *p;
    p += p[0] == ',' ? 2 : 1;
  }
  value[length] = '\0';
  *text = *p ? p + 1 : p;
  return value;
}

/* Length of the key that *@text begins with when it is spelled `key=`, else 0. */
static size_t
key_length (const char *text)
{
  size_t length = strcspn (text, "=,");
  return text[length] == '=' ? length : 0;
}

int
tn_options_parse (TnOptions *options, const char *text, const char *implied, GError **error)
{
  g_autoptr (TnOptions) parsed = tn_options_new ();
  const char *p = text;
  for (bool first = true; *p; first = false) {
    if (*p == '=')
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option without a name in '%s': write NAME=VALUE",
                      text);
    size_t length = key_length (p);
    if (length) {
      g_autofree char *key = g_strndup (p, length);
      p += length + 1;
      g_autofree char *value = take_value (&p);
      tn_options_set (parsed, key, value);
      continue;
    }
    g_autofree char *word = take_value (&p);
    if (!*word)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "empty option in '%s': remove a comma", text);
    if (first && implied)
      tn_options_set (parsed, implied, word);
    else
      tn_options_set (parsed, word, "on");
  }
  tn_options_merge (options, parsed);
  return 0;
}
