/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Heads of replies from web and FTP servers, and names of files on SSH servers.  The first byte chooses. */
#include "../../plugins/protocols/http/response.c"
#include "../../plugins/protocols/ssh/name.c"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
read_head (const char *text, size_t size, void (*take) (HttpResponse *, const char *, size_t))
{
  HttpResponse response = { 0 };
  while (size) {
    const char *end = memchr (text, '\n', size);
    const size_t length = end ? (size_t) (end + 1 - text) : size;
    g_autofree char *line = g_memdup2 (text, length); /* so that reading beyond it is noticed */
    take (&response, line, length);
    text += length;
    size -= length;
  }
  g_assert_true (response.status < 1000);
  if (response.has_range && !response.malformed) {
    g_assert_true (response.last < response.first || response.last < response.total);
    g_assert_true (response.total <= INT64_MAX);
  }
  g_assert_true (!response.has_length || response.length <= INT64_MAX);
  http_response_reset (&response);
}

/* A name that is taken has all that it takes to connect, and can be shown. */
static void
parse_name (const char *name)
{
  g_autoptr (TnOptions) options = tn_options_new (), settled = NULL;
  g_autoptr (GError) error = NULL;
  const int rc = ssh_parse_name (name, options, &error);
  g_assert_true ((rc < 0) == (error != NULL));
  if (rc < 0 || ssh_settle_options (options, &settled, NULL) < 0)
    return;
  g_assert_true (tn_options_has (settled, "server.host") && tn_options_has (settled, "server.port"));
  g_assert_true (tn_options_get (settled, "path")[0] == '/');
  g_autofree char *shown = ssh_shown_name (options);
  g_assert_nonnull (shown);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  g_autofree char *text = g_strndup ((const char *) data + 1, size - 1);
  if (data[0] % 3 == 0)
    read_head ((const char *) data + 1, size - 1, http_response_line);
  else if (data[0] % 3 == 1)
    read_head ((const char *) data + 1, size - 1, http_response_ftp_line);
  else if (g_utf8_validate (text, -1, NULL))
    parse_name (text);
  return 0;
}
