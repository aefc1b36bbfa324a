/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lines that commands print, in the shape that scripts written for qemu-io look for. */
#include "shell.h"

IoText
io_size_text (double bytes)
{
  static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
  const char *unit = "bytes";
  IoText result;
  char *zeroes;

  for (unsigned i = 0; i < G_N_ELEMENTS (units) && bytes >= 1024.0; i++) {
    bytes /= 1024.0;
    unit = units[i];
  }
  if (unit[1] == 'y')
    g_snprintf (result.text, sizeof result.text, "%f", bytes);
  else
    g_snprintf (result.text, sizeof result.text, "%.3f", bytes);
  zeroes = strstr (result.text, ".000");
  if (zeroes != NULL)
    *zeroes = '\0';
  g_strlcat (result.text, " ", sizeof result.text);
  g_strlcat (result.text, unit, sizeof result.text);
  return result;
}

static IoText
io_time_text (int64_t ns, bool fixed)
{
  uint64_t hundredths = (uint64_t) ns / 10000000;
  unsigned fraction = hundredths % 100, seconds = hundredths / 100 % 60;
  uint64_t minutes = hundredths / 6000;
  IoText result;

  if (!fixed && hundredths < 100)
    g_snprintf (result.text, sizeof result.text, "%02u.%02u sec", seconds, fraction);
  else
    g_snprintf (result.text, sizeof result.text, "%" G_GUINT64_FORMAT ":%02u:%02u.%02u", minutes / 60,
                (unsigned) (minutes % 60), seconds, fraction);
  return result;
}

void
io_report (CliArgs *args, const char *did, uint64_t offset, uint64_t length, int64_t ns)
{
  IoShell *shell = io_shell (args);
  bool terse = cli_flag (args, "report-terse");
  double seconds = (double) MAX (ns, 1) / 1e9;

  if (cli_flag (args, "quiet"))
    return;
  if (terse) {
    cli_print (shell->args, "%" G_GUINT64_FORMAT ",1,%s,%.3f,%.3f\n", length, io_time_text (ns, true).text,
               (double) length / seconds, 1 / seconds);
    return;
  }
  cli_print (shell->args,
             "%s %" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT "\n", did,
             length, length, offset);
  cli_print (shell->args, "%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", io_size_text ((double) length).text,
             io_time_text (ns, false).text, io_size_text ((double) length / seconds).text, 1 / seconds);
}

void
io_dump (CliArgs *args, const char *data, uint64_t length, uint64_t offset)
{
  IoShell *shell = io_shell (args);

  for (uint64_t at = 0; at < length; at += 16) {
    unsigned n = (unsigned) MIN (length - at, 16);

    cli_print (shell->args, "%08" G_GINT64_MODIFIER "x:  ", offset + at);
    for (unsigned i = 0; i < n; i++)
      cli_print (shell->args, "%02x ", (unsigned char) data[at + i]);
    cli_print (shell->args, " ");
    for (unsigned i = 0; i < n; i++)
      cli_print (shell->args, "%c", g_ascii_isalnum (data[at + i]) ? data[at + i] : '.');
    cli_print (shell->args, "\n");
  }
}

int
io_failed (CliArgs *args, const char *what, int result)
{
  cli_print (io_shell (args)->args, "%s failed: %s\n", what, g_strerror (-result));
  return EXIT_FAILURE;
}

bool
io_verify (CliArgs *args, const char *data, uint64_t length, uint64_t offset, uint8_t pattern)
{
  bool same =
      length == 0 || ((uint8_t) data[0] == pattern && memcmp (data, data + 1, (size_t) length - 1) == 0);

  if (!same)
    cli_print (io_shell (args)->args,
               "Pattern verification failed at offset %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " bytes\n",
               offset, length);
  return same;
}
