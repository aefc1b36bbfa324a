/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of images and options as they may be shown: without the passwords, keys and cookies in them. */
#include <tenon/secret.h>

#include <string.h>

#define MASK "***"

static const char *const secret_keys[] = { "cookie", "key", "passphrase", "passwd", "password", NULL };

/* ---- KEY=VALUE ---- */

static bool
is_key_char (char c)
{
  return g_ascii_isalnum (c) || c == '-' || c == '_' || c == '.';
}

/* Of `file.cookie` only the last part says what it is. */
static bool
is_secret_key (const char *key, size_t length)
{
  const char *dot = g_strrstr_len (key, (gssize) length, ".");
  const char *last = dot ? dot + 1 : key;
  g_autofree char *word = g_strndup (last, (gsize) (key + length - last));
  return g_strv_contains (secret_keys, word);
}

/* Names stand in quotes in messages. */
static bool
is_closing_quote (const char *at)
{
  return at[0] == '\'' && (at[1] == '\0' || strchr (":, \n", at[1]));
}

/* The end of a value, by what stands before its key: `,` of options, `:` of rbd:, `?` or `&` of a URI. */
static const char *
value_end (const char *at, char before)
{
  for (; *at && !is_closing_quote (at); at++) {
    const bool query = before == '?' || before == '&';
    if (query ? *at == '&' || *at == '#' : *at == before && before == ':')
      break;
    if (!query && before != ':' && *at == ',' && *++at != ',')
      return at - 1;
    if (before == ':' && *at == '\\' && at[1])
      at++;
  }
  return at;
}

/* Where the value of a secret ends whose `=` is at @equals; NULL: it is none.  A `:` there is a slip of who
 * wrote rbd:…:key=. */
static const char *
secret_value_end (const char *text, const char *equals)
{
  const char *key = equals;
  while (key > text && is_key_char (key[-1]))
    key--;
  const char before = key > text ? key[-1] : ',';
  if (key == equals || !strchr (*equals == ':' ? ":" : ",:?&'", before)
      || !is_secret_key (key, (size_t) (equals - key)))
    return NULL;
  return value_end (equals + 1, before);
}

/* ---- "KEY": "VALUE" ---- */

/* @at is behind a closing quote.  Where the value's quote opens, if a value follows that is a text. */
static const char *
json_value (const char *at)
{
  while (g_ascii_isspace (*at))
    at++;
  if (*at++ != ':')
    return NULL;
  while (g_ascii_isspace (*at))
    at++;
  return *at == '"' ? at : NULL;
}

static const char *
json_secret (const char *text, const char *quote)
{
  const char *key = quote;
  while (key > text && is_key_char (key[-1]))
    key--;
  if (key == text || key == quote || key[-1] != '"' || !is_secret_key (key, (size_t) (quote - key)))
    return NULL;
  return json_value (quote + 1);
}

static const char *
json_text_end (const char *at)
{
  for (; *at && *at != '"'; at++)
    if (*at == '\\' && at[1])
      at++;
  return at;
}

/* ---- SCHEME://USER:PASSWORD@HOST ---- */

/* The password of a URI whose authority begins at @at; NULL: it has none. */
static const char *
uri_password (const char *at, const char **end)
{
  const size_t length = strcspn (at, "/?#\" ");
  const char *host = g_strrstr_len (at, (gssize) length, "@");
  const char *colon = host ? memchr (at, ':', (size_t) (host - at)) : NULL;
  *end = host;
  return colon ? colon + 1 : NULL;
}

/* ---- All of it ---- */

/* What begins or has its `=` at @at: where the secret begins, and its end; NULL: nothing. */
static const char *
find_secret (const char *text, const char *at, const char **end)
{
  if (g_str_has_prefix (at, "://"))
    return uri_password (at + 3, end);
  if (*at == '=' || *at == ':') {
    *end = secret_value_end (text, at);
    return *end ? at + 1 : NULL;
  }
  const char *quote = *at == '"' ? json_secret (text, at) : NULL;
  *end = quote ? json_text_end (quote + 1) : NULL;
  return quote ? quote + 1 : NULL;
}

char *
tn_secret_hide (const char *text)
{
  GString *shown = g_string_sized_new (strlen (text));
  const char *from = text, *end;
  for (const char *at = text; *at; at++) {
    const char *secret = find_secret (text, at, &end);
    if (!secret)
      continue;
    g_string_append_len (shown, from, secret - from);
    g_string_append (shown, MASK);
    from = end;
    at = MAX (at, end - 1);
  }
  g_string_append (shown, from);
  return g_string_free (shown, FALSE);
}
