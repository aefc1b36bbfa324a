/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "response.h"

/* Longer ones are no version of anything. */
#define MAX_VALIDATOR 1024

void
http_response_reset (HttpResponse *response)
{
  g_free (response->etag);
  g_free (response->modified);
  *response = (HttpResponse){ 0 };
}

/* ---- Pieces of a line ---- */

typedef struct Text {
  const char *at, *end;
} Text;

static Text
trimmed (const char *at, const char *end)
{
  while (at < end && g_ascii_isspace (*at))
    at++;
  while (at < end && g_ascii_isspace (end[-1]))
    end--;
  return (Text){ at, end };
}

static bool
take_char (Text *text, char c)
{
  if (text->at == text->end || *text->at != c)
    return false;
  text->at++;
  return true;
}

/* At least one digit, and no more than a file offset has room for. */
static bool
take_number (Text *text, uint64_t *number)
{
  uint64_t n = 0;
  const char *begin = text->at;
  for (; text->at < text->end && g_ascii_isdigit (*text->at); text->at++) {
    const unsigned digit = (unsigned) (*text->at - '0');
    if (n > ((uint64_t) INT64_MAX - digit) / 10)
      return false;
    n = n * 10 + digit;
  }
  *number = n;
  return text->at > begin;
}

static void
skip_blanks (Text *text)
{
  while (text->at < text->end && (*text->at == ' ' || *text->at == '\t'))
    text->at++;
}

static bool
equals (Text text, const char *word)
{
  return (size_t) (text.end - text.at) == strlen (word)
         && g_ascii_strncasecmp (text.at, word, strlen (word)) == 0;
}

/* ---- Header fields ---- */

static void
take_length (HttpResponse *response, Text value)
{
  uint64_t length;
  if (!take_number (&value, &length) || value.at != value.end
      || (response->has_length && length != response->length)) {
    response->malformed = true;
    return;
  }
  response->has_length = true;
  response->length = length;
}

/* `bytes FIRST-LAST/TOTAL`, or `bytes * / TOTAL` without blanks when there is no such part. */
static bool
parse_range (Text value, HttpResponse *response)
{
  static const char unit[] = "bytes";
  if ((size_t) (value.end - value.at) < sizeof unit
      || g_ascii_strncasecmp (value.at, unit, sizeof unit - 1) != 0)
    return false;
  value.at += sizeof unit - 1;
  skip_blanks (&value);
  if (take_char (&value, '*')) {
    response->first = 1;
    response->last = 0;
  } else if (!take_number (&value, &response->first) || !take_char (&value, '-')
             || !take_number (&value, &response->last) || response->last < response->first) {
    return false;
  }
  return take_char (&value, '/') && take_number (&value, &response->total) && value.at == value.end
         && (response->last < response->first || response->last < response->total);
}

static void
take_range (HttpResponse *response, Text value)
{
  if (response->has_range || !parse_range (value, response))
    response->malformed = true;
  response->has_range = true;
}

static void
take_validator (HttpResponse *response, char **validator, Text value)
{
  const size_t length = (size_t) (value.end - value.at);
  if (length > MAX_VALIDATOR || memchr (value.at, 0, length)) {
    response->malformed = true;
    return;
  }
  g_autofree char *text = g_strndup (value.at, length);
  if (*validator && strcmp (*validator, text) != 0)
    response->malformed = true;
  g_free (*validator);
  *validator = g_steal_pointer (&text);
}

/* `HTTP/1.1 206 Partial Content`, `HTTP/2 206`: a new reply; what came before was a redirection, a request
 * for credentials, or `100 Continue`. */
static void
take_status (HttpResponse *response, Text line)
{
  uint64_t status = 0;
  http_response_reset (response);
  while (line.at < line.end && *line.at != ' ')
    line.at++;
  skip_blanks (&line);
  if (!take_number (&line, &status) || status < 100 || status > 999)
    response->malformed = true;
  else
    response->status = (unsigned) status;
}

void
http_response_line (HttpResponse *response, const char *line, size_t length)
{
  static const char version[] = "HTTP/";
  const Text text = trimmed (line, line + length);
  if (length >= sizeof version && g_ascii_strncasecmp (line, version, sizeof version - 1) == 0) {
    take_status (response, text);
    return;
  }
  const char *colon = memchr (text.at, ':', (size_t) (text.end - text.at));
  if (!colon)
    return;
  const Text name = { text.at, colon }, value = trimmed (colon + 1, text.end);
  if (equals (name, "content-length"))
    take_length (response, value);
  else if (equals (name, "content-range"))
    take_range (response, value);
  else if (equals (name, "content-encoding"))
    response->encoded = response->encoded || !equals (value, "identity");
  else if (equals (name, "etag"))
    take_validator (response, &response->etag, value);
  else if (equals (name, "last-modified"))
    take_validator (response, &response->modified, value);
}

/* libcurl makes header fields of what it finds out itself; a server's own lines begin with a number. */
void
http_response_ftp_line (HttpResponse *response, const char *line, size_t length)
{
  Text text = trimmed (line, line + length);
  uint64_t code, size;
  if (!take_number (&text, &code) || code != 213 || !take_char (&text, ' '))
    return;
  skip_blanks (&text);
  if (!take_number (&text, &size) || text.at != text.end
      || (response->has_length && size != response->length)) {
    response->malformed = true;
    return;
  }
  response->has_length = true;
  response->length = size;
}
