/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files on web and FTP servers, for reading.
 *
 * A node has one libcurl multi handle, which belongs to the loop that opened the node; reads of other threads
 * are posted to that loop and come back by theirs.  All below runs in that loop.
 *
 *   read      what the node was asked for.  It takes its bytes from fetches, one after the other.
 *   fetch     a part of the file in memory, or on its way there; the finished ones are the read-ahead cache.
 *   transfer  what libcurl does for a fetch.  A reply that breaks off is continued by another transfer.
 *
 * libcurl forbids calls into it from its callbacks: those only store what came, http_run() does the rest.
 */
#ifndef HTTP_H
#define HTTP_H

#include "response.h"

#include <curl/curl.h>
#include <tenon/loop.h>
#include <tenon/protocol.h>

#define HTTP_MAX_TRANSFERS 8
#define HTTP_MAX_READ (4u << 20)

typedef struct HttpNode HttpNode;
typedef struct HttpFetch HttpFetch;
typedef struct HttpRead HttpRead;

struct HttpRead {
  HttpNode *node;
  HttpRead *next; /* of those that wait for the same fetch */
  TnLoop *home;
  TnRequest *request;
  uint64_t done;
  int result;
};

G_STATIC_ASSERT (sizeof (HttpRead) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

typedef enum HttpFetchState {
  HTTP_FETCH_QUEUED = 0, /* no transfer yet, no buffer perhaps */
  HTTP_FETCH_RUNNING,
  HTTP_FETCH_PAUSING, /* before the next try */
  HTTP_FETCH_DONE
} HttpFetchState;

struct HttpFetch {
  HttpNode *node;
  HttpFetchState state;
  uint64_t start, length;
  uint64_t filled;
  uint64_t continued_at; /* `filled` when the present transfer began */
  uint8_t *data;
  uint64_t room; /* of data */
  HttpRead *waiting;
  uint64_t used;   /* when it was of use last, in reads of the node */
  bool sequential; /* what follows is wanted next */
  bool progressed; /* since waiting reads were looked after */
  bool checked;    /* the reply's head is in order */
  bool size_only;  /* FTP: nothing but the size is asked for */
  unsigned tries;  /* one after the other without a byte */
  unsigned parts;  /* transfers so far */
  int64_t resume_at;
  CURL *easy;
  HttpResponse response;
  int failed;                 /* what is wrong with the reply, or 0 */
  char *reason;               /* the same in words */
  char text[CURL_ERROR_SIZE]; /* libcurl's own */
};

/* What the file was when it was opened. */
typedef struct HttpVersion {
  uint64_t size;
  char *etag, *modified;
} HttpVersion;

struct HttpNode {
  TnNode *node;
  TnLoop *loop;
  bool ftp, known; /* known: the file has been asked for once, and `version` is set */
  char *url;       /* without user and password */
  char *server;    /* for messages: without query, too */
  HttpVersion version;
  uint64_t readahead;
  TnOptions *options;

  /* What a handle is given to log in with. */
  char *user, *password, *proxy_user, *proxy_password, *cookie;
  struct curl_slist *headers;
  unsigned long auth; /* CURLAUTH_… */

  CURLM *multi;
  TnTimer *timer; /* libcurl's */
  TnTimer *pause; /* the next fetch that waits for its next try */
  CURL *idle[HTTP_MAX_TRANSFERS];
  unsigned n_idle, n_running;
  bool running; /* in http_run() */

  GPtrArray *fetches; /* of HttpFetch; owns them */
  uint64_t clock;     /* counts reads */
  uint64_t expected;  /* where the last read ended */
  uint8_t *spare;     /* the buffer of a fetch that has been forgotten, or NULL */
  uint64_t spare_room;

  TnCoroutine *opener; /* waits for the first fetch */
  int open_rc;
  char *open_error;
};

/* ---- login.c: what handles are made with ---- */

/* Takes URL and credentials from the options. */
int http_login_read (HttpNode *http, const TnOptions *options, GError **error);
/* @url for messages: without user, password and query, which may be a signature; NULL: it is none.  g_free()
 * it. */
char *http_url_shown (const char *url);
void http_login_clear (HttpNode *http);
int http_login_apply (const HttpNode *http, CURL *easy);

/* ---- multi.c ---- */

int http_multi_open (HttpNode *http, GError **error);
void http_multi_close (HttpNode *http);
/* Looks after everything that came or became possible.  Never from one of libcurl's callbacks. */
void http_run (HttpNode *http);

/* ---- transfer.c ---- */

/* A handle for transfers of this node, or NULL. */
CURL *http_handle_new (HttpNode *http);
/* 0, or -errno: then the fetch is to fail. */
int http_transfer_start (HttpFetch *fetch);
/* Takes the transfer's result into the fetch: 0: all is there, 1: another try, else -errno. */
int http_transfer_end (HttpFetch *fetch, CURLcode code);
/* Ends a transfer that is no longer wanted. */
void http_transfer_drop (HttpFetch *fetch);

/* ---- fetch.c ---- */

HttpFetch *http_fetch_new (HttpNode *http, uint64_t start, uint64_t length);
/* The one that has the byte at @offset or is going to, best one first; or NULL. */
HttpFetch *http_fetch_find (const HttpNode *http, uint64_t offset);
/* It has one to read into; false: there is no memory. */
bool http_fetch_buffer (HttpFetch *fetch);
/* Starts what may start. */
void http_fetch_start_queued (HttpNode *http);
void http_fetch_ended (HttpFetch *fetch, CURLcode code);
void http_fetch_pause_over (void *http);
void http_fetches_free (HttpNode *http);

/* ---- read.c ---- */

void http_read_submit (HttpNode *http, TnRequest *request);
void http_read_fail (HttpRead *read, int result);
/* Goes on with all that waits for fetches that have progressed. */
void http_read_progress (HttpNode *http);

#endif
