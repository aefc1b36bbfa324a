/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts of the file: on their way here, and kept for a while. */
#include "http.h"

/* Finished fetches that are kept. */
#define CACHE_BYTES (2u << 20)
/* Buffers from this size on are used again: new ones are new pages each time. */
#define LARGE_BUFFER (64u << 10)
#define MAX_FETCHES 256
/* Transfers that bring nothing, before a fetch fails, and the pause before the first of them. */
#define MAX_TRIES 3
#define FIRST_PAUSE_NS INT64_C (100000000)
/* Replies that break off. */
#define MAX_PARTS 256

static void
fetch_free (gpointer data)
{
  HttpFetch *fetch = data;
  http_transfer_drop (fetch);
  http_response_reset (&fetch->response);
  g_free (fetch->reason);
  g_free (fetch->data);
  g_free (fetch);
}

/* ---- Buffers ---- */

static void
keep_buffer (HttpNode *http, HttpFetch *fetch)
{
  if (!fetch->data || fetch->room < LARGE_BUFFER || fetch->room <= http->spare_room)
    return;
  g_free (http->spare);
  http->spare = g_steal_pointer (&fetch->data);
  http->spare_room = fetch->room;
}

bool
http_fetch_buffer (HttpFetch *fetch)
{
  HttpNode *http = fetch->node;
  if (fetch->data)
    return true;
  if (http->spare_room >= fetch->length && http->spare_room / 2 <= fetch->length) {
    fetch->data = g_steal_pointer (&http->spare);
    fetch->room = http->spare_room;
    http->spare_room = 0;
    return true;
  }
  fetch->data = g_try_malloc (fetch->length);
  fetch->room = fetch->length;
  return fetch->data != NULL;
}

static HttpFetch *
fetch_at (const HttpNode *http, guint i)
{
  return g_ptr_array_index (http->fetches, i);
}

void
http_fetches_free (HttpNode *http)
{
  if (http->fetches)
    g_ptr_array_set_free_func (http->fetches, fetch_free);
  g_clear_pointer (&http->fetches, g_ptr_array_unref);
  g_clear_pointer (&http->spare, g_free);
}

HttpFetch *
http_fetch_find (const HttpNode *http, uint64_t offset)
{
  HttpFetch *best = NULL;
  for (guint i = 0; i < http->fetches->len; i++) {
    HttpFetch *fetch = fetch_at (http, i);
    if (offset < fetch->start || offset - fetch->start >= fetch->length)
      continue;
    if (offset - fetch->start < fetch->filled)
      return fetch;
    if (!best || fetch->state == HTTP_FETCH_RUNNING)
      best = fetch;
  }
  return best;
}

/* ---- The cache ---- */

static void
forget (HttpNode *http, HttpFetch *fetch)
{
  g_ptr_array_remove_fast (http->fetches, fetch);
  keep_buffer (http, fetch);
  fetch_free (fetch);
}

static HttpFetch *
oldest (const HttpNode *http, uint64_t *bytes)
{
  HttpFetch *found = NULL;
  *bytes = 0;
  for (guint i = 0; i < http->fetches->len; i++) {
    HttpFetch *fetch = fetch_at (http, i);
    if (fetch->state != HTTP_FETCH_DONE)
      continue;
    *bytes += fetch->length;
    if (!found || fetch->used < found->used)
      found = fetch;
  }
  return found;
}

static void
make_room (HttpNode *http)
{
  uint64_t bytes;
  for (HttpFetch *fetch; (fetch = oldest (http, &bytes));) {
    if (bytes <= MAX (CACHE_BYTES, 4 * http->readahead) && http->fetches->len < MAX_FETCHES)
      return;
    forget (http, fetch);
  }
}

/* What is there or on its way already is not fetched again. */
static uint64_t
length_before_next (const HttpNode *http, uint64_t start, uint64_t length)
{
  for (guint i = 0; i < http->fetches->len; i++) {
    const HttpFetch *fetch = fetch_at (http, i);
    if (fetch->start > start && fetch->start - start < length)
      length = fetch->start - start;
  }
  return length;
}

HttpFetch *
http_fetch_new (HttpNode *http, uint64_t start, uint64_t length)
{
  make_room (http);
  HttpFetch *fetch = g_new0 (HttpFetch, 1);
  fetch->node = http;
  fetch->start = start;
  fetch->length = length_before_next (http, start, length);
  fetch->used = http->clock;
  g_ptr_array_add (http->fetches, fetch);
  return fetch;
}

/* ---- The end of a transfer ---- */

static void
fetch_failed (HttpFetch *fetch, int rc)
{
  HttpNode *http = fetch->node;
  HttpRead *read = g_steal_pointer (&fetch->waiting);
  if (http->opener) {
    http->open_rc = rc;
    http->open_error = g_steal_pointer (&fetch->reason);
    tn_co_wake (g_steal_pointer (&http->opener));
  }
  forget (http, fetch);
  while (read) {
    HttpRead *next = read->next;
    http_read_fail (read, rc);
    read = next;
  }
}

static void
fetch_again (HttpFetch *fetch, int rc)
{
  HttpNode *http = fetch->node;
  const bool moved = fetch->filled > fetch->continued_at;
  fetch->tries = moved ? 0 : fetch->tries + 1;
  if ((http->opener && !moved) || fetch->tries == MAX_TRIES || fetch->parts == MAX_PARTS) {
    fetch_failed (fetch, rc);
    return;
  }
  fetch->state = moved ? HTTP_FETCH_QUEUED : HTTP_FETCH_PAUSING;
  if (moved)
    return;
  fetch->resume_at = tn_clock_ns () + (FIRST_PAUSE_NS << (2 * fetch->tries));
  http_fetch_pause_over (http);
}

static void
fetch_done (HttpFetch *fetch)
{
  HttpNode *http = fetch->node;
  fetch->state = HTTP_FETCH_DONE;
  fetch->progressed = true;
  if (fetch->filled == 0)
    forget (http, fetch);
  if (http->opener)
    tn_co_wake (g_steal_pointer (&http->opener));
}

void
http_fetch_ended (HttpFetch *fetch, CURLcode code)
{
  const int rc = http_transfer_end (fetch, code);
  if (rc < 0)
    fetch_failed (fetch, rc);
  else if (rc > 0)
    fetch_again (fetch, fetch->failed);
  else
    fetch_done (fetch);
}

/* ---- Beginning ---- */

static HttpFetch *
first_queued (const HttpNode *http)
{
  for (guint i = 0; i < http->fetches->len; i++)
    if (fetch_at (http, i)->state == HTTP_FETCH_QUEUED)
      return fetch_at (http, i);
  return NULL;
}

void
http_fetch_start_queued (HttpNode *http)
{
  for (HttpFetch *fetch; http->n_running < HTTP_MAX_TRANSFERS && (fetch = first_queued (http));) {
    const int rc = http_transfer_start (fetch);
    if (rc < 0)
      fetch_failed (fetch, rc);
  }
}

/* Queues those whose pause is over, and sets the timer for the next. */
void
http_fetch_pause_over (void *opaque)
{
  HttpNode *http = opaque;
  const int64_t now = tn_clock_ns ();
  int64_t next = INT64_MAX;
  for (guint i = 0; i < http->fetches->len; i++) {
    HttpFetch *fetch = fetch_at (http, i);
    if (fetch->state == HTTP_FETCH_PAUSING && fetch->resume_at <= now)
      fetch->state = HTTP_FETCH_QUEUED;
    else if (fetch->state == HTTP_FETCH_PAUSING)
      next = MIN (next, fetch->resume_at);
  }
  if (next < INT64_MAX)
    tn_timer_set (http->pause, next);
  http_run (http);
}
