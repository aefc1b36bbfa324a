/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Standard output in large pieces, errors in one line. */
#include "cli.h"

#include <tenon/secret.h>

#include <unistd.h>

#define OUT_CHUNK (32 * 1024)

int
cli_write (int fd, const char *text, size_t length)
{
  while (length > 0) {
    ssize_t n = write (fd, text, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return errno;
    text += n;
    length -= n;
  }
  return 0;
}

ssize_t
cli_read (int fd, void *bytes, size_t length)
{
  size_t done = 0;
  while (done < length) {
    ssize_t n = read (fd, (char *) bytes + done, length - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0)
      break;
    done += n;
  }
  return done;
}

void
cli_flush (CliArgs *args)
{
  if (!args->out || args->out->len == 0)
    return;
  int failed = args->out_failed ? 0 : cli_write (STDOUT_FILENO, args->out->str, args->out->len);
  if (failed) {
    args->out_failed = true;
    args->out_errno = failed;
  }
  g_string_truncate (args->out, 0);
}

void
cli_discard (CliArgs *args)
{
  if (args->out)
    g_string_truncate (args->out, 0);
}

void
cli_print_text (CliArgs *args, const char *text, size_t length)
{
  if (!args->out)
    args->out = g_string_sized_new (512);
  g_string_append_len (args->out, text, length);
  if (args->out->len >= OUT_CHUNK)
    cli_flush (args);
}

void
cli_print (CliArgs *args, const char *format, ...)
{
  va_list list;
  if (!args->out)
    args->out = g_string_sized_new (512);
  va_start (list, format);
  g_string_append_vprintf (args->out, format, list);
  va_end (list);
  if (args->out->len >= OUT_CHUNK)
    cli_flush (args);
}

/* Where the password of `SCHEME://USER:PASSWORD@HOST` (iSCSI: `USER%PASSWORD`) begins behind the slashes, or
 * NULL; its end is at
 * *@end. */
static const char *
password_of (const char *authority, const char **end)
{
  const gssize length = (gssize) strcspn (authority, "/?#'\" ");
  const char *mark = authority + strcspn (authority, ":%");
  *end = g_strrstr_len (authority, length, "@");
  return *end && mark < *end ? mark + 1 : NULL;
}

/* Names from a command line or an image may hold anything: what would break the line or drive the terminal
 * becomes a question mark, a password becomes stars. */
static void
append_line (GString *line, const char *text)
{
  const char *password = NULL, *end = NULL;
  for (; *text; text++) {
    unsigned char c = *text;
    if (g_str_has_prefix (text, "://"))
      password = password_of (text + 3, &end);
    if (text == password) {
      g_string_append (line, "***");
      text = end;
      c = '@';
    }
    if (c == '\n' && text[1] == '\0')
      break;
    g_string_append_c (line, c < 0x20 || c == 0x7f ? (c == '\n' || c == '\t' ? ' ' : '?') : (char) c);
  }
}

static void
report (CliArgs *args, const char *kind, const char *format, va_list list)
{
  g_autofree char *whole = g_strdup_vprintf (format, list);
  g_autofree char *text = tn_secret_hide (whole);
  g_autoptr (GString) line = g_string_new (args->tool->name);
  g_string_append (line, ": ");
  g_string_append (line, kind);
  append_line (line, text);
  g_string_append_c (line, '\n');
  cli_flush (args);
  cli_write (STDERR_FILENO, line->str, line->len);
}

void
cli_error (CliArgs *args, const char *format, ...)
{
  va_list list;
  va_start (list, format);
  report (args, "", format, list);
  va_end (list);
}

void
cli_warning (CliArgs *args, const char *format, ...)
{
  va_list list;
  va_start (list, format);
  report (args, "warning: ", format, list);
  va_end (list);
}

int
cli_fail (CliArgs *args, int status, GError **error)
{
  cli_error (args, "%s", error && *error ? (*error)->message : "unknown error");
  if (error)
    g_clear_error (error);
  return status;
}
