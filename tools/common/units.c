/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "units.h"

#include <glib.h>

CliUnits
cli_human_size (uint64_t bytes)
{
  static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
  double value = bytes;
  unsigned unit = 0;
  /* From 1000 on, three digits would not do: the next unit takes over. */
  while (value >= 1000.0 && unit + 1 < G_N_ELEMENTS (units)) {
    value /= 1024.0;
    unit++;
  }
  CliUnits result;
  g_snprintf (result.text, sizeof result.text, "%.3g %s", value, units[unit]);
  return result;
}

CliUnits
cli_human_time (double seconds)
{
  CliUnits result;
  uint64_t s = seconds < 0 ? 0 : seconds > 3600.0 * 9999 ? 3600ULL * 9999 : (uint64_t) (seconds + 0.5);
  unsigned hours = s / 3600, minutes = s / 60 % 60, rest = s % 60;
  if (hours)
    g_snprintf (result.text, sizeof result.text, "%u:%02u:%02u", hours, minutes, rest);
  else
    g_snprintf (result.text, sizeof result.text, "%u:%02u", minutes, rest);
  return result;
}
