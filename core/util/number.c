/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/number.h"

#include <tenon/option.h>

/* Reads digits of @base from *@text and moves it behind them; -EINVAL when there is none. */
static int
take_digits (const char **text, unsigned base, uint64_t *value)
{
  const char *p = *text;
  uint64_t sum = 0;
  for (; g_ascii_isxdigit (*p) && (unsigned) g_ascii_xdigit_value (*p) < base; p++) {
    if (__builtin_mul_overflow (sum, base, &sum)
        || __builtin_add_overflow (sum, (uint64_t) g_ascii_xdigit_value (*p), &sum))
      return -ERANGE;
  }
  if (p == *text)
    return -EINVAL;
  *text = p;
  *value = sum;
  return 0;
}

static bool
is_hex (const char *text)
{
  return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

int
tn_number_parse_uint (const char *text, uint64_t *value)
{
  unsigned base = is_hex (text) ? 16 : 10;
  const char *p = base == 16 ? text + 2 : text;
  uint64_t number;
  int r = take_digits (&p, base, &number);
  if (r < 0)
    return r;
  if (*p)
    return -EINVAL;
  *value = number;
  return 0;
}

/* The power of two that a suffix stands for, or -1. */
static int
suffix_shift (char suffix)
{
  static const char suffixes[] = "bkmgtpe";
  const char *found = suffix ? strchr (suffixes, g_ascii_tolower (suffix)) : suffixes;
  return found ? 10 * (int) (found - suffixes) : -1;
}

/* Reads the digits behind a decimal point as a fraction of 2^64; digits beyond its precision don't count. */
static uint64_t
take_fraction (const char **text)
{
  const char *p = *text;
  uint64_t numerator = 0, denominator = 1;
  for (; g_ascii_isdigit (*p); p++) {
    if (denominator > UINT64_MAX / 100)
      continue;
    numerator = numerator * 10 + (uint64_t) (*p - '0');
    denominator *= 10;
  }
  *text = p;
  return (uint64_t) (((unsigned __int128) numerator << 64) / denominator);
}

int
tn_number_parse_size (const char *text, uint64_t *value)
{
  if (is_hex (text))
    return tn_number_parse_uint (text, value);
  const char *p = text;
  uint64_t whole, fraction = 0;
  int r = take_digits (&p, 10, &whole);
  if (r < 0)
    return r;
  bool has_fraction = p[0] == '.' && g_ascii_isdigit (p[1]);
  if (has_fraction) {
    p++;
    fraction = take_fraction (&p);
  }
  int shift = suffix_shift (*p);
  if (shift < 0 || (*p && p[1]) || (has_fraction && shift == 0))
    return -EINVAL;
  if (whole > UINT64_MAX >> shift)
    return -ERANGE;
  uint64_t part = (uint64_t) (((unsigned __int128) fraction << shift) >> 64);
  *value = (whole << shift) + part; /* less than the next unit, so it can't overflow */
  return 0;
}

int
tn_number_parse_bool (const char *text, bool *value)
{
  static const char *const words[][2] = {
    { "off", "on" }, { "no", "yes" }, { "false", "true" }, { "0", "1" }, { "n", "y" }
  };
  for (size_t i = 0; i < G_N_ELEMENTS (words); i++) {
    for (int state = 0; state < 2; state++) {
      if (strcmp (text, words[i][state]) != 0)
        continue;
      *value = state;
      return 0;
    }
  }
  return -EINVAL;
}

int
tn_parse_size (const char *text, uint64_t *size, GError **error)
{
  int r = tn_number_parse_size (text, size);
  if (r == -ERANGE)
    return tn_fail (error, TN_OPTION_ERROR, ERANGE, "size '%s' is too large: the limit is 16 EiB", text);
  if (r < 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "'%s' is not a size: give bytes, or a number with one of the suffixes k, M, G, T, P, E",
                    text);
  return 0;
}
