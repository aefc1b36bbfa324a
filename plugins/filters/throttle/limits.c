/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "throttle.h"

static const char *const throttle_units[THROTTLE_UNITS] = { "bps", "iops" };
static const char *const throttle_whats[THROTTLE_WHATS] = { "total", "read", "write" };

#define ROW(name)                                                                                            \
  {                                                                                                          \
    name, TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "limit per second", 0, THROTTLE_MAX                          \
  }
#define ROWS(name)                                                                                           \
  ROW (name), ROW (name "-max"),                                                                             \
  {                                                                                                          \
    name "-max-length", TN_OPTION_UINT, TN_OPTION_OPEN, NULL, "seconds that a burst may last", 1, UINT32_MAX \
  }

static const TnOption throttle_limit_options[] = {
  ROWS ("bps-total"),
  ROWS ("bps-read"),
  ROWS ("bps-write"),
  ROWS ("iops-total"),
  ROWS ("iops-read"),
  ROWS ("iops-write"),
  { "iops-size", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "bytes that count as one operation", 0, THROTTLE_MAX },
  { NULL },
};

static const char *
throttle_plain_name (const char *key)
{
  static const char *const prefixes[] = { "x-", "limits." };

  for (unsigned i = 0; i < G_N_ELEMENTS (prefixes); i++)
    if (g_str_has_prefix (key, prefixes[i]))
      return key + strlen (prefixes[i]);
  return key;
}

static double
throttle_number (const TnOptions *options, const char *name, const char *suffix)
{
  g_autofree char *key = g_strconcat (name, suffix, NULL);

  return (double) tn_options_uint (options, key);
}

static int
throttle_read_bucket (ThrottleBucket *bucket, const TnOptions *options, const char *name, const char *what,
                      GError **error)
{
  g_autofree char *length_key = g_strconcat (name, "-max-length", NULL);

  bucket->average = throttle_number (options, name, "");
  bucket->max = throttle_number (options, name, "-max");
  bucket->length = 1;
  if (tn_options_has (options, length_key)) {
    if (bucket->max <= 0)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s: %s needs %s-max", what, length_key, name);
    bucket->length = (double) tn_options_uint (options, length_key);
  }
  if (bucket->max <= 0)
    return 0;
  if (bucket->average <= 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s: %s-max needs %s", what, name, name);
  if (bucket->max < bucket->average)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s: %s-max cannot be lower than %s", what, name, name);
  if (bucket->max * bucket->length > (double) THROTTLE_MAX)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "%s: a burst of %s-max for %s-max-length seconds is too large", what, name, name);
  return 0;
}

static int
throttle_refuse_both (const ThrottleBucket *buckets, const char *unit, const char *what, GError **error)
{
  bool parts = buckets[THROTTLE_READ].average > 0 || buckets[THROTTLE_WRITE].average > 0;

  if (buckets[THROTTLE_TOTAL].average <= 0 || !parts)
    return 0;
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "%s: %s-total and %s-read or %s-write cannot be used at the same time", what, unit, unit,
                  unit);
}

int
throttle_read_limits (ThrottleLimits *limits, const TnOptions *options, const char *what, GError **error)
{
  g_autoptr (TnOptions) plain = tn_options_new ();
  int r;

  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;

    tn_options_pair (options, i, &key, &value);
    tn_options_set (plain, throttle_plain_name (key), value);
  }
  r = tn_options_check (plain, throttle_limit_options, sizeof *throttle_limit_options, TN_OPTION_OPEN, what,
                        error);
  for (unsigned unit = 0; r >= 0 && unit < THROTTLE_UNITS; unit++) {
    for (unsigned w = 0; r >= 0 && w < THROTTLE_WHATS; w++) {
      g_autofree char *name = g_strdup_printf ("%s-%s", throttle_units[unit], throttle_whats[w]);

      r = throttle_read_bucket (&limits->buckets[unit][w], plain, name, what, error);
    }
    if (r >= 0)
      r = throttle_refuse_both (limits->buckets[unit], throttle_units[unit], what, error);
  }
  limits->operation_size = (double) tn_options_uint (plain, "iops-size");
  return r;
}
