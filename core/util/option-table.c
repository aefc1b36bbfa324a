/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checking options against the table that their class publishes. */
#include "util/option-table.h"

#include "util/nearest.h"
#include "util/number.h"

/* Rows may come from an older or newer SDK: read through a zeroed copy of our own size. */
static TnOption
row_at (const TnOption *table, size_t option_size, size_t index)
{
  TnOption row = { 0 };
  memcpy (&row, (const char *) table + index * option_size, MIN (option_size, sizeof row));
  return row;
}

static uint32_t
row_when (const TnOption *row)
{
  uint32_t when = row->when & ~(uint32_t) TN_OPTION_REQUIRED;
  return when ? when : TN_OPTION_OPEN;
}

/* A node is given by `name` itself or by options below `name.`, a group by the latter; others only by `name`.
 */
static bool
row_matches (const TnOption *row, const char *key)
{
  if (row->type != TN_OPTION_NODE && row->type != TN_OPTION_GROUP)
    return strcmp (row->name, key) == 0;
  size_t length = strlen (row->name);
  if (row->type == TN_OPTION_GROUP)
    return strncmp (row->name, key, length) == 0 && key[length] == '.';
  return strncmp (row->name, key, length) == 0 && (key[length] == '\0' || key[length] == '.');
}

static const char *
when_text (uint32_t when)
{
  if (when & TN_OPTION_CREATE)
    return "when creating";
  if (when & TN_OPTION_AMEND)
    return "when amending";
  if (when & TN_OPTION_RUNTIME)
    return "while it is open";
  return "when opening";
}

static int
fail_unknown (const TnOption *table, size_t option_size, uint32_t when, const char *key, const char *what,
              GError **error)
{
  TnNearest nearest = { .wanted = key };
  bool other_time = false;
  uint32_t allowed = 0;
  for (size_t i = 0; table; i++) {
    TnOption row = row_at (table, option_size, i);
    if (!row.name)
      break;
    if (row_matches (&row, key)) {
      other_time = true;
      allowed |= row_when (&row);
    } else if (row_when (&row) & when) {
      tn_nearest_consider (&nearest, row.name);
    }
  }
  if (other_time)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option '%s' of %s cannot be given %s, only %s", key,
                    what, when_text (when), when_text (allowed));
  g_autofree char *hint = tn_nearest_hint (&nearest);
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s has no option '%s'%s", what, key, hint);
}

static bool
find_row (const TnOption *table, size_t option_size, uint32_t when, const char *key, TnOption *found)
{
  for (size_t i = 0; table; i++) {
    TnOption row = row_at (table, option_size, i);
    if (!row.name)
      return false;
    if (!row_matches (&row, key) || !(row_when (&row) & when))
      continue;
    *found = row;
    return true;
  }
  return false;
}

static int
fail_value (const TnOption *row, const char *value, const char *what, GError **error, const char *wanted)
{
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s: option '%s' wants %s, not '%s'", what, row->name,
                  wanted, value);
}

static int
check_range (const TnOption *row, uint64_t number, const char *value, const char *what, GError **error)
{
  if (number >= row->min && (!row->max || number <= row->max))
    return 0;
  g_autofree char *upper =
      row->max ? g_strdup_printf (" to %" G_GUINT64_FORMAT, row->max) : g_strdup (" or more");
  return tn_fail (error, TN_OPTION_ERROR, ERANGE,
                  "%s: option '%s' is out of range: '%s' is not %" G_GUINT64_FORMAT "%s", what, row->name,
                  value, row->min, upper);
}

static int
canonical_number (const TnOption *row, const char *value, const char *what, char **canonical, GError **error)
{
  bool is_size = row->type == TN_OPTION_SIZE;
  uint64_t number;
  int r = is_size ? tn_number_parse_size (value, &number) : tn_number_parse_uint (value, &number);
  if (r == -ERANGE)
    return tn_fail (error, TN_OPTION_ERROR, ERANGE,
                    "%s: option '%s' is out of range: '%s' does not fit in 64 bits", what, row->name, value);
  if (r < 0)
    return fail_value (row, value, what, error,
                       is_size ? "a size (bytes, or a number with suffix k, M, G, T, P or E)"
                               : "a whole number");
  r = check_range (row, number, value, what, error);
  if (r < 0)
    return r;
  *canonical = g_strdup_printf ("%" G_GUINT64_FORMAT, number);
  return 0;
}

static int
canonical_bool (const TnOption *row, const char *value, const char *what, char **canonical, GError **error)
{
  bool state;
  if (tn_number_parse_bool (value, &state) < 0)
    return fail_value (row, value, what, error, "on or off");
  *canonical = g_strdup (state ? "on" : "off");
  return 0;
}

static int
canonical_choice (const TnOption *row, const char *value, const char *what, char **canonical, GError **error)
{
  g_autoptr (GString) known = g_string_new (NULL);
  for (const char *const *choice = row->choices; choice && *choice; choice++) {
    if (strcmp (*choice, value) == 0) {
      *canonical = g_strdup (value);
      return 0;
    }
    g_string_append_printf (known, "%s%s", known->len ? ", " : "", *choice);
  }
  g_autofree char *wanted = g_strdup_printf ("one of %s", known->str);
  return fail_value (row, value, what, error, wanted);
}

int
tn_option_canonical (const TnOption *row, const char *value, const char *what, char **canonical,
                     GError **error)
{
  switch (row->type) {
  case TN_OPTION_BOOL:
    return canonical_bool (row, value, what, canonical, error);
  case TN_OPTION_UINT:
  case TN_OPTION_SIZE:
    return canonical_number (row, value, what, canonical, error);
  case TN_OPTION_ENUM:
    return canonical_choice (row, value, what, canonical, error);
  case TN_OPTION_STRING:
  case TN_OPTION_NODE:
  case TN_OPTION_DRIVE:
  case TN_OPTION_CHARDEV:
  case TN_OPTION_GROUP:
    break;
  }
  *canonical = g_strdup (value);
  return 0;
}

static int
check_given (TnOptions *checked, const TnOption *table, size_t option_size, uint32_t when, const char *what,
             GError **error)
{
  for (size_t i = 0; i < tn_options_count (checked); i++) {
    const char *key, *value;
    tn_options_pair (checked, i, &key, &value);
    TnOption row;
    if (!find_row (table, option_size, when, key, &row))
      return fail_unknown (table, option_size, when, key, what, error);
    g_autofree char *canonical = NULL;
    int r = tn_option_canonical (&row, value, what, &canonical, error);
    if (r < 0)
      return r;
    tn_options_set (checked, key, canonical);
  }
  return 0;
}

static bool
is_given (const TnOptions *options, const TnOption *row)
{
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (row_matches (row, key))
      return true;
  }
  return false;
}

static int
add_defaults (TnOptions *checked, const TnOption *table, size_t option_size, uint32_t when, const char *what,
              GError **error)
{
  for (size_t i = 0; table; i++) {
    TnOption row = row_at (table, option_size, i);
    if (!row.name)
      break;
    if (!(row_when (&row) & when) || is_given (checked, &row))
      continue;
    if (row.when & TN_OPTION_REQUIRED)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s needs option '%s'%s%s", what, row.name,
                      row.help ? ": " : "", row.help ? row.help : "");
    if (!row.value)
      continue;
    g_autofree char *canonical = NULL;
    int r = tn_option_canonical (&row, row.value, what, &canonical, error);
    if (r < 0)
      return r;
    tn_options_set (checked, row.name, canonical);
  }
  return 0;
}

int
tn_options_check (TnOptions *options, const TnOption *table, size_t option_size, uint32_t when,
                  const char *what, GError **error)
{
  g_autoptr (TnOptions) checked = tn_options_copy (options);
  int r = check_given (checked, table, option_size, when, what, error);
  if (r < 0)
    return r;
  r = add_defaults (checked, table, option_size, when, what, error);
  if (r < 0)
    return r;
  tn_options_merge (options, checked);
  return 0;
}
