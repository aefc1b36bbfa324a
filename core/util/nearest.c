/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/nearest.h"

#include <tenon/option.h>

/* Longer names are never mistyped versions of each other that anyone would want pointed out. */
#define NEAREST_MAX 48

/* Edits (insert, delete, replace, swap neighbours) that turn @a into @b: optimal string alignment. */
static unsigned
edit_distance (const char *a, size_t a_length, const char *b, size_t b_length)
{
  unsigned rows[3][NEAREST_MAX + 1];
  for (size_t j = 0; j <= b_length; j++)
    rows[0][j] = j;
  for (size_t i = 1; i <= a_length; i++) {
    unsigned *row = rows[i % 3];
    const unsigned *above = rows[(i + 2) % 3];
    const unsigned *two_above = rows[(i + 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b_length; j++) {
      unsigned replace = above[j - 1] + (g_ascii_tolower (a[i - 1]) != g_ascii_tolower (b[j - 1]));
      row[j] = MIN (replace, MIN (above[j], row[j - 1]) + 1);
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = MIN (row[j], two_above[j - 2] + 1);
    }
  }
  return rows[a_length % 3][b_length];
}

void
tn_nearest_consider (TnNearest *nearest, const char *candidate)
{
  size_t wanted_length = strlen (nearest->wanted);
  size_t length = strlen (candidate);
  if (wanted_length > NEAREST_MAX || length > NEAREST_MAX)
    return;
  unsigned distance = edit_distance (nearest->wanted, wanted_length, candidate, length);
  if (distance > (MAX (wanted_length, length) + 2) / 3)
    return;
  if (nearest->best && nearest->distance <= distance)
    return;
  nearest->best = candidate;
  nearest->distance = distance;
}

char *
tn_nearest_hint (const TnNearest *nearest)
{
  if (!nearest->best)
    return g_strdup ("");
  return g_strdup_printf ("; did you mean '%s'?", nearest->best);
}

const char *
tn_nearest_name (const char *wanted, const char *const *names)
{
  TnNearest nearest = { .wanted = wanted };
  for (; *names; names++)
    tn_nearest_consider (&nearest, *names);
  return nearest.best;
}
