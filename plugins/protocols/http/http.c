/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing, the plugin. */
#include "http.h"

static HttpNode *
http_of (TnNode *node)
{
  return *(HttpNode **) tn_node_state (node);
}

/* ---- Opening ---- */

static void
http_free (HttpNode *http)
{
  http_fetches_free (http);
  http_multi_close (http);
  http_login_clear (http);
  tn_options_free (http->options);
  g_free (http->url);
  g_free (http->server);
  g_free (http->version.etag);
  g_free (http->version.modified);
  g_free (http->open_error);
  g_free (http);
}

static HttpNode *
http_new (TnNode *node, const TnOptions *options)
{
  HttpNode *http = g_new0 (HttpNode, 1);
  http->node = node;
  http->loop = tn_loop_current ();
  http->options = tn_options_copy (options);
  http->readahead = tn_options_uint (options, "readahead");
  http->fetches = g_ptr_array_new ();
  return http;
}

/* In a coroutine.  The first reply tells the size and brings the first bytes. */
static void
first_fetch (void *opaque)
{
  HttpNode *http = opaque;
  HttpFetch *fetch = http_fetch_new (http, 0, http->ftp ? 1 : MAX (http->readahead, 4096));
  fetch->size_only = http->ftp;
  http->opener = tn_co_self ();
  http_run (http);
  tn_co_yield ();
}

static int
ask_server (HttpNode *http, GError **error)
{
  tn_co_run (first_fetch, http);
  if (http->open_rc < 0)
    return tn_fail (error, TN_BLOCK_ERROR, -http->open_rc, "the %s cannot be read: %s", http->server,
                    http->open_error ? http->open_error : g_strerror (-http->open_rc));
  return 0;
}

static int
http_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  HttpNode **state = tn_node_state (node);
  const char *scheme = tn_node_class_name (node);
  if (flags & TN_OPEN_WRITE)
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "protocol '%s' is for reading only: open it read-only",
                    scheme);
  if (tn_options_uint (options, "readahead") % 512)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "option 'readahead' of protocol '%s' is no multiple of 512", scheme);
  HttpNode *http = http_new (node, options);
  int rc = http_login_read (http, options, error);
  if (rc == 0)
    rc = http_multi_open (http, error);
  if (rc == 0)
    rc = ask_server (http, error);
  if (rc < 0) {
    http_free (http);
    return rc;
  }
  *state = http;
  tn_node_set_limits (
      node, &(TnLimits){ .request_alignment = 1, .memory_alignment = 1, .max_transfer = HTTP_MAX_READ });
  tn_node_set_size (node, http->version.size);
  return 0;
}

static int
http_close (TnNode *node, GError **error)
{
  HttpNode *http = http_of (node);
  if (http)
    http_free (http);
  return 0;
}

static void
http_submit (TnNode *node, TnRequest *request)
{
  if (request->op == TN_REQUEST_READ && request->length)
    http_read_submit (http_of (node), request);
  else
    request->done (request, request->op == TN_REQUEST_READ || request->op == TN_REQUEST_FLUSH ? 0 : -EROFS);
}

/* ---- The plugin ---- */

static int
http_parse_filename (const char *text, TnOptions *options, GError **error)
{
  tn_options_set (options, "url", text);
  return 0;
}

/* Without them in the URL itself: what does not parse is not shown at all. */
static char *
http_filename (const TnOptions *options)
{
  char *shown = http_url_shown (tn_options_get (options, "url"));
  return shown ? shown : g_strdup ("URL");
}

static const TnOption http_options[] = {
  { .name = "url",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "where the file is" },
  { .name = "readahead",
    .type = TN_OPTION_SIZE,
    .value = "256k",
    .max = 16u << 20,
    .help = "bytes to fetch ahead of a reader, a multiple of 512" },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .value = "5",
    .min = 1,
    .max = 10000,
    .help = "seconds without a byte before a request fails" },
  { .name = "sslverify",
    .type = TN_OPTION_BOOL,
    .value = "on",
    .help = "check the certificate of the server" },
  { .name = "cafile", .type = TN_OPTION_STRING, .help = "file of the authorities to check it with" },
  { .name = "cookie", .type = TN_OPTION_STRING, .help = "cookies to send: NAME=VALUE; NAME=VALUE" },
  { .name = "cookie-secret", .type = TN_OPTION_STRING, .help = "id of a secret that holds the cookies" },
  { .name = "username", .type = TN_OPTION_STRING, .help = "name to log in with" },
  { .name = "password-secret", .type = TN_OPTION_STRING, .help = "id of the secret that is the password" },
  { .name = "proxy-username", .type = TN_OPTION_STRING, .help = "name to log in with at the proxy" },
  { .name = "proxy-password-secret",
    .type = TN_OPTION_STRING,
    .help = "id of the secret that is the password for the proxy" },
  { .name = NULL },
};

static const TnProtocolOps http_ops = {
  .size = sizeof (TnProtocolOps),
  .instance_size = sizeof (HttpNode *),
  .parse_filename = http_parse_filename,
  .open = http_open,
  .close = http_close,
  .submit = http_submit,
  .filename = http_filename,
};

static const char *const http_scheme[] = { "http", NULL };
static const char *const https_scheme[] = { "https", NULL };
static const char *const ftp_scheme[] = { "ftp", NULL };
static const char *const ftps_scheme[] = { "ftps", NULL };

static const TnClass http_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "http",
  .summary = "file on a web server, read-only",
  .schemes = http_scheme,
  .options = http_options,
  .ops = &http_ops,
};

static const TnClass https_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "https",
  .summary = "file on a web server, through TLS, read-only",
  .schemes = https_scheme,
  .options = http_options,
  .ops = &http_ops,
};

static const TnClass ftp_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "ftp",
  .summary = "file on an FTP server, read-only",
  .schemes = ftp_scheme,
  .options = http_options,
  .ops = &http_ops,
};

static const TnClass ftps_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "ftps",
  .summary = "file on an FTP server, through TLS, read-only",
  .schemes = ftps_scheme,
  .options = http_options,
  .ops = &http_ops,
};

static const TnClass *const http_classes[] = { &http_class, &https_class, &ftp_class, &ftps_class, NULL };

TN_PLUGIN_DEFINE (protocol_http, .security = TN_SECURITY_HARDENED, .name = "protocol-http", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-http", .classes = http_classes);
