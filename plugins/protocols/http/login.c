/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The URL and what the server wants to see besides: it stays out of all messages. */
#include "http.h"

#include <tenon/sandbox.h>
#include <tenon/secret.h>

/* ---- The URL ---- */

static char *
part_of (CURLU *url, CURLUPart part, unsigned flags)
{
  char *text = NULL;
  if (curl_url_get (url, part, &text, flags) != CURLUE_OK)
    return NULL;
  char *copy = g_strdup (text);
  curl_free (text);
  return copy;
}

static void
drop_login (CURLU *url)
{
  curl_url_set (url, CURLUPART_USER, NULL, 0);
  curl_url_set (url, CURLUPART_PASSWORD, NULL, 0);
  curl_url_set (url, CURLUPART_OPTIONS, NULL, 0);
  curl_url_set (url, CURLUPART_FRAGMENT, NULL, 0);
}

char *
http_url_shown (const char *text)
{
  CURLU *url = curl_url ();
  char *shown = NULL;
  if (url && curl_url_set (url, CURLUPART_URL, text, 0) == CURLUE_OK) {
    drop_login (url);
    curl_url_set (url, CURLUPART_QUERY, NULL, 0);
    shown = part_of (url, CURLUPART_URL, 0);
  }
  curl_url_cleanup (url);
  return shown;
}

static int
fail_url (const HttpNode *http, const char *why, GError **error)
{
  const char *scheme = tn_node_class_name (http->node);
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "option 'url' of protocol '%s' %s: write %s://HOST[:PORT]/PATH", scheme, why, scheme);
}

static int
take_url (HttpNode *http, CURLU *url, const char *text, GError **error)
{
  const CURLUcode code = curl_url_set (url, CURLUPART_URL, text, 0);
  if (code != CURLUE_OK)
    return fail_url (http, "is not a URL", error);
  g_autofree char *scheme = part_of (url, CURLUPART_SCHEME, 0);
  if (g_strcmp0 (scheme, tn_node_class_name (http->node)) != 0)
    return fail_url (http, "has another scheme", error);
  http->ftp = g_str_has_prefix (scheme, "ftp");
  http->user = part_of (url, CURLUPART_USER, CURLU_URLDECODE);
  http->password = part_of (url, CURLUPART_PASSWORD, CURLU_URLDECODE);
  drop_login (url);
  http->url = part_of (url, CURLUPART_URL, 0);
  g_autofree char *shown = http_url_shown (text);
  if (!http->url || !shown)
    return fail_url (http, "is not a URL", error);
  http->server = g_strdup_printf ("server of '%s'", shown);
  return 0;
}

/* ---- Secrets ---- */

/* The text of the secret that the option @key names, into *@text. */
static int
take_secret (const TnOptions *options, const char *key, char **text, GError **error)
{
  const char *id = tn_options_get (options, key);
  if (!id)
    return 0;
  g_autoptr (TnSecret) secret = tn_secret_get (id, error);
  if (!secret)
    return tn_error_to_errno (*error);
  size_t length;
  const char *bytes = tn_secret_bytes (secret, &length);
  if (memchr (bytes, 0, length) || memchr (bytes, '\n', length) || memchr (bytes, '\r', length))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "secret '%s' (%s) has bytes that cannot be sent: end of line or zero", id, key);
  g_free (*text);
  *text = g_strndup (bytes, length);
  return 0;
}

static int
take_credentials (HttpNode *http, const TnOptions *options, GError **error)
{
  const char *user = tn_options_get (options, "username");
  if (user && http->user)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "option 'username' is given, and the URL has a user: leave one out");
  if (user)
    http->user = g_strdup (user);
  if (tn_options_has (options, "cookie") && tn_options_has (options, "cookie-secret"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "options 'cookie' and 'cookie-secret' exclude each other");
  http->cookie = g_strdup (tn_options_get (options, "cookie"));
  http->proxy_user = g_strdup (tn_options_get (options, "proxy-username"));
  int rc = take_secret (options, "password-secret", &http->password, error);
  if (rc == 0)
    rc = take_secret (options, "cookie-secret", &http->cookie, error);
  return rc ? rc : take_secret (options, "proxy-password-secret", &http->proxy_password, error);
}

/* As a header field, since libcurl keeps those from other hosts that a server sends to, unlike
 * CURLOPT_COOKIE. */
static int
make_headers (HttpNode *http, GError **error)
{
  if (!http->cookie)
    return 0;
  if (strpbrk (http->cookie, "\r\n"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "option 'cookie' has an end of line in it: leave that out");
  g_autofree char *line = g_strconcat ("Cookie: ", http->cookie, NULL);
  http->headers = curl_slist_append (NULL, line);
  explicit_bzero (line, strlen (line));
  return http->headers ? 0 : tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for the cookies");
}

/* New connections read the certificates again. */
static int
keep_certificates (const TnOptions *options, GError **error)
{
  const char *given = tn_options_get (options, "cafile");
  if (given)
    return tn_sandbox_keep (given, TN_SANDBOX_READ, error);
  const curl_version_info_data *info = curl_version_info (CURLVERSION_NOW);
  if (info->cainfo)
    tn_sandbox_keep (info->cainfo, TN_SANDBOX_READ, NULL);
  if (info->capath)
    tn_sandbox_keep (info->capath, TN_SANDBOX_READ, NULL);
  return 0;
}

int
http_login_read (HttpNode *http, const TnOptions *options, GError **error)
{
  const char *text = tn_options_get (options, "url");
  CURLU *url = curl_url ();
  if (!url)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for a URL");
  int rc = take_url (http, url, text, error);
  curl_url_cleanup (url);
  if (rc == 0)
    rc = take_credentials (http, options, error);
  if (rc == 0)
    rc = make_headers (http, error);
  if (rc == 0)
    rc = keep_certificates (options, error);
  http->auth = CURLAUTH_BASIC | CURLAUTH_DIGEST;
  return rc;
}

static void
wipe (char **text)
{
  if (*text)
    explicit_bzero (*text, strlen (*text));
  g_clear_pointer (text, g_free);
}

void
http_login_clear (HttpNode *http)
{
  wipe (&http->password);
  wipe (&http->proxy_password);
  wipe (&http->cookie);
  curl_slist_free_all (http->headers);
  g_free (http->user);
  g_free (http->proxy_user);
}

/* ---- Handles ---- */

static CURLcode
apply_credentials (const HttpNode *http, CURL *easy)
{
  CURLcode rc = CURLE_OK;
  if (http->user || http->password) {
    rc = curl_easy_setopt (easy, CURLOPT_USERNAME, http->user ? http->user : "");
    if (rc == CURLE_OK)
      rc = curl_easy_setopt (easy, CURLOPT_PASSWORD, http->password ? http->password : "");
    if (rc == CURLE_OK)
      rc = curl_easy_setopt (easy, CURLOPT_HTTPAUTH, http->auth);
  }
  if (rc == CURLE_OK && http->proxy_user)
    rc = curl_easy_setopt (easy, CURLOPT_PROXYUSERNAME, http->proxy_user);
  if (rc == CURLE_OK && http->proxy_password)
    rc = curl_easy_setopt (easy, CURLOPT_PROXYPASSWORD, http->proxy_password);
  if (rc == CURLE_OK && http->headers)
    rc = curl_easy_setopt (easy, CURLOPT_HTTPHEADER, http->headers);
  return rc;
}

static CURLcode
apply_certificates (const HttpNode *http, CURL *easy)
{
  const long verify = tn_options_bool (http->options, "sslverify");
  const char *given = tn_options_get (http->options, "cafile");
  CURLcode rc = curl_easy_setopt (easy, CURLOPT_SSL_VERIFYPEER, verify);
  if (rc == CURLE_OK)
    rc = curl_easy_setopt (easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
  if (rc == CURLE_OK && given)
    rc = curl_easy_setopt (easy, CURLOPT_CAINFO, given);
  return rc;
}

int
http_login_apply (const HttpNode *http, CURL *easy)
{
  CURLcode rc = curl_easy_setopt (easy, CURLOPT_URL, http->url);
  if (rc == CURLE_OK)
    rc = apply_credentials (http, easy);
  if (rc == CURLE_OK)
    rc = apply_certificates (http, easy);
  return rc == CURLE_OK ? 0 : -ENOMEM;
}
