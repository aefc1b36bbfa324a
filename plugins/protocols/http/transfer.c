/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request to the server, and whether its reply is what was asked for. */
#include "http.h"

#include <inttypes.h>

#define MAX_REDIRECTIONS 10L
#define BUFFER_BYTES (256L << 10)

static void TN_PRINTF (3, 4) reject (HttpFetch *fetch, int errnum, const char *format, ...)
{
  if (fetch->failed)
    return;
  va_list arguments;
  va_start (arguments, format);
  g_free (fetch->reason);
  fetch->reason = g_strdup_vprintf (format, arguments);
  fetch->failed = -errnum;
  va_end (arguments);
}

/* ---- The head of a reply ---- */

static uint64_t
position (const HttpFetch *fetch)
{
  return fetch->start + fetch->filled;
}

static uint64_t
last_byte (const HttpFetch *fetch)
{
  return fetch->start + fetch->length - 1;
}

/* The first reply says what the file is, later ones have to say the same. */
static void
check_version (HttpFetch *fetch, uint64_t size)
{
  HttpNode *http = fetch->node;
  HttpVersion *version = &http->version;
  const HttpResponse *response = &fetch->response;
  if (!http->known) {
    version->size = size;
    version->etag = g_strdup (response->etag);
    version->modified = g_strdup (response->modified);
    http->known = true;
    fetch->length = MIN (fetch->length, size - fetch->start);
    return;
  }
  if (size != version->size)
    reject (fetch, ESTALE, "the file changed while it was open: it has %" PRIu64 " bytes now, not %" PRIu64,
            size, version->size);
  else if (version->etag ? g_strcmp0 (version->etag, response->etag) != 0
                         : version->modified && g_strcmp0 (version->modified, response->modified) != 0)
    reject (fetch, ESTALE, "the file changed while it was open: it is another version now");
}

static void
check_part (HttpFetch *fetch)
{
  const HttpResponse *response = &fetch->response;
  if (!response->has_range || response->last < response->first)
    reject (fetch, EPROTO, "it does not say which part of the file it sends");
  else if (response->first != position (fetch) || (response->last > last_byte (fetch)))
    reject (fetch, EPROTO,
            "it sends another part of the file than was asked for: %" PRIu64 "-%" PRIu64 ", not %" PRIu64
            "-%" PRIu64,
            response->first, response->last, position (fetch), last_byte (fetch));
  else
    check_version (fetch, response->total);
}

/* All of the file, although a part was asked for. */
static void
check_whole (HttpFetch *fetch)
{
  const HttpNode *http = fetch->node;
  const HttpResponse *response = &fetch->response;
  if (!http->known && response->has_length && response->length == 0)
    check_version (fetch, 0);
  else if (http->known && response->has_length && response->length != http->version.size)
    check_version (fetch, response->length);
  else
    reject (fetch, ENOTSUP,
            "it does not serve parts of files (byte ranges): copy the file here and open that");
}

static void
check_beyond (HttpFetch *fetch)
{
  const HttpResponse *response = &fetch->response;
  if (!response->has_range || response->last >= response->first || (!fetch->node->known && response->total))
    reject (fetch, EPROTO, "it refuses the part of the file that was asked for");
  else
    check_version (fetch, response->total);
  if (fetch->node->version.size)
    reject (fetch, EPROTO, "it refuses the part of the file that was asked for");
}

static void
check_status (HttpFetch *fetch)
{
  const unsigned status = fetch->response.status;
  switch (status) {
  case 206:
    check_part (fetch);
    break;
  case 200:
    check_whole (fetch);
    break;
  case 416:
    check_beyond (fetch);
    break;
  case 401:
    reject (fetch, EACCES, "it wants other credentials (username, password-secret)");
    break;
  case 407:
    reject (fetch, EACCES, "the proxy wants other credentials (proxy-username, proxy-password-secret)");
    break;
  case 403:
    reject (fetch, EACCES, "it refuses access");
    break;
  case 404:
  case 410:
    reject (fetch, ENOENT, "it has no such file");
    break;
  default:
    reject (fetch, EIO, "it answers with status %u", status);
  }
}

static void
check_head (HttpFetch *fetch)
{
  const HttpResponse *response = &fetch->response;
  fetch->checked = true;
  if (response->malformed)
    reject (fetch, EPROTO, "its reply is malformed");
  else if (response->encoded)
    reject (fetch, EPROTO, "it sends the file compressed, so that parts of it cannot be read");
  else if (!fetch->node->ftp)
    check_status (fetch);
  else if (response->has_length)
    check_version (fetch, response->length);
  else
    reject (fetch, ENOTSUP, "it does not say how large the file is");
}

/* ---- libcurl's callbacks ---- */

static size_t
take_head (char *line, size_t one, size_t length, void *opaque)
{
  HttpFetch *fetch = opaque;
  if (fetch->node->ftp)
    http_response_ftp_line (&fetch->response, line, length);
  else
    http_response_line (&fetch->response, line, length);
  return length;
}

static size_t
take_body (char *bytes, size_t one, size_t length, void *opaque)
{
  HttpFetch *fetch = opaque;
  if (!fetch->checked)
    check_head (fetch);
  if (!fetch->failed && length > fetch->length - fetch->filled)
    reject (fetch, EPROTO, "it sends more than was asked for");
  if (fetch->failed)
    return 0;
  memcpy (fetch->data + fetch->filled, bytes, length);
  fetch->filled += length;
  fetch->progressed = true;
  return length;
}

/* ---- Handles ---- */

static CURLcode
set_up (HttpNode *http, CURL *easy)
{
  static const char web[] = "http,https", files[] = "ftp,ftps";
  const long timeout = (long) tn_options_uint (http->options, "timeout");
  const char *protocols = http->ftp ? files : web;
  const struct {
    CURLoption option;
    long value;
  } numbers[] = {
    { CURLOPT_NOSIGNAL, 1 },
    { CURLOPT_FOLLOWLOCATION, 1 },
    { CURLOPT_MAXREDIRS, MAX_REDIRECTIONS },
    { CURLOPT_BUFFERSIZE, BUFFER_BYTES },
    { CURLOPT_CONNECTTIMEOUT, timeout },
    { CURLOPT_SERVER_RESPONSE_TIMEOUT, timeout },
    { CURLOPT_LOW_SPEED_LIMIT, 1 },
    { CURLOPT_LOW_SPEED_TIME, timeout },
    { CURLOPT_TCP_KEEPALIVE, 1 },
    /* The sandbox has closed the resolver's files by the time of a later connection. */
    { CURLOPT_DNS_CACHE_TIMEOUT, -1 },
  };
  CURLcode rc = CURLE_OK;
  for (size_t i = 0; i < G_N_ELEMENTS (numbers) && rc == CURLE_OK; i++)
    rc = curl_easy_setopt (easy, numbers[i].option, numbers[i].value);
  if (rc == CURLE_OK)
    rc = curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, protocols);
  if (rc == CURLE_OK)
    rc = curl_easy_setopt (easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  if (rc == CURLE_OK)
    rc = curl_easy_setopt (easy, CURLOPT_HEADERFUNCTION, take_head);
  return rc == CURLE_OK ? curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, take_body) : rc;
}

CURL *
http_handle_new (HttpNode *http)
{
  if (http->n_idle)
    return http->idle[--http->n_idle];
  CURL *easy = curl_easy_init ();
  if (easy && set_up (http, easy) == CURLE_OK && http_login_apply (http, easy) == 0)
    return easy;
  curl_easy_cleanup (easy);
  return NULL;
}

static void
handle_back (HttpFetch *fetch)
{
  HttpNode *http = fetch->node;
  curl_multi_remove_handle (http->multi, fetch->easy);
  curl_easy_setopt (fetch->easy, CURLOPT_ERRORBUFFER, NULL);
  http->idle[http->n_idle++] = g_steal_pointer (&fetch->easy);
  http->n_running--;
}

/* ---- Beginning ---- */

static CURLcode
set_for (HttpFetch *fetch, CURL *easy)
{
  g_autofree char *range = g_strdup_printf ("%" PRIu64 "-%" PRIu64, position (fetch), last_byte (fetch));
  CURLcode rc = curl_easy_setopt (easy, CURLOPT_RANGE, fetch->size_only ? NULL : range);
  if (rc == CURLE_OK && fetch->node->ftp)
    rc = curl_easy_setopt (easy, CURLOPT_NOBODY, fetch->size_only ? 1L : 0L);
  curl_easy_setopt (easy, CURLOPT_PRIVATE, fetch);
  curl_easy_setopt (easy, CURLOPT_HEADERDATA, fetch);
  curl_easy_setopt (easy, CURLOPT_WRITEDATA, fetch);
  curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, fetch->text);
  return rc;
}

int
http_transfer_start (HttpFetch *fetch)
{
  HttpNode *http = fetch->node;
  fetch->easy = http_fetch_buffer (fetch) ? http_handle_new (http) : NULL;
  if (!fetch->easy)
    return -ENOMEM;
  http_response_reset (&fetch->response);
  g_clear_pointer (&fetch->reason, g_free);
  fetch->failed = 0;
  fetch->checked = false;
  fetch->text[0] = '\0';
  fetch->continued_at = fetch->filled;
  fetch->state = HTTP_FETCH_RUNNING;
  fetch->parts++;
  http->n_running++;
  if (set_for (fetch, fetch->easy) == CURLE_OK
      && curl_multi_add_handle (http->multi, fetch->easy) == CURLM_OK)
    return 0;
  handle_back (fetch);
  return -ENOMEM;
}

/* ---- The end ---- */

typedef struct Meaning {
  CURLcode code;
  int errnum;
  bool again;   /* may go better next time */
  bool details; /* libcurl's own text says more, and nothing that is secret */
} Meaning;

static const Meaning meanings[] = {
  { CURLE_COULDNT_RESOLVE_HOST, EHOSTUNREACH, false, true },
  { CURLE_COULDNT_CONNECT, ECONNREFUSED, true, true },
  { CURLE_OPERATION_TIMEDOUT, ETIMEDOUT, false, true },
  { CURLE_PARTIAL_FILE, EIO, true, false },
  { CURLE_RECV_ERROR, EIO, true, false },
  { CURLE_SEND_ERROR, EIO, true, false },
  { CURLE_GOT_NOTHING, EIO, true, false },
  { CURLE_HTTP2, EIO, true, false },
  { CURLE_HTTP2_STREAM, EIO, true, false },
  { CURLE_PEER_FAILED_VERIFICATION, EACCES, false, true },
  { CURLE_SSL_CACERT_BADFILE, EACCES, false, true },
  { CURLE_SSL_CONNECT_ERROR, EIO, false, true },
  { CURLE_LOGIN_DENIED, EACCES, false, false },
  { CURLE_REMOTE_ACCESS_DENIED, EACCES, false, false },
  { CURLE_REMOTE_FILE_NOT_FOUND, ENOENT, false, false },
  { CURLE_OUT_OF_MEMORY, ENOMEM, false, false },
};

static bool
explain (HttpFetch *fetch, CURLcode code)
{
  Meaning meaning = { code, EIO, false, false };
  for (size_t i = 0; i < G_N_ELEMENTS (meanings); i++)
    if (meanings[i].code == code)
      meaning = meanings[i];
  reject (fetch, meaning.errnum, "%s",
          meaning.details && fetch->text[0] ? fetch->text : curl_easy_strerror (code));
  return meaning.again;
}

/* Digest and Basic at once costs a refused request each time: the one that the server took is enough. */
static void
settle_authentication (HttpNode *http, CURL *easy)
{
  long offered = 0;
  if (http->auth != (CURLAUTH_BASIC | CURLAUTH_DIGEST) || !http->user)
    return;
  curl_easy_getinfo (easy, CURLINFO_HTTPAUTH_AVAIL, &offered);
  http->auth = offered & CURLAUTH_DIGEST ? CURLAUTH_DIGEST : CURLAUTH_BASIC;
  curl_easy_setopt (easy, CURLOPT_HTTPAUTH, http->auth);
}

int
http_transfer_end (HttpFetch *fetch, CURLcode code)
{
  bool again = false;
  if (code == CURLE_OK && !fetch->checked)
    check_head (fetch);
  if (code != CURLE_OK)
    again = explain (fetch, code);
  else if (!fetch->failed)
    settle_authentication (fetch->node, fetch->easy);
  handle_back (fetch);
  if (fetch->failed && !again)
    return fetch->failed;
  if (!fetch->failed && (fetch->filled == fetch->length || fetch->size_only))
    return 0;
  if (!fetch->failed)
    reject (fetch, EIO, "it sends less than was asked for");
  return 1;
}

void
http_transfer_drop (HttpFetch *fetch)
{
  if (fetch->easy)
    handle_back (fetch);
}
