/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the node is asked for, out of fetches; and what is fetched ahead of it. */
#include "http.h"

/* Fetches begin and end at multiples of this, so that small reads side by side need one. */
#define GRAIN UINT64_C (4096)
/* What a read that follows none fetches at least. */
#define SMALL_FETCH UINT64_C (65536)

/* ---- The end of a read ---- */

static void
end_at_home (void *opaque)
{
  HttpRead *read = opaque;
  TnRequest *request = read->request;
  request->done (request, read->result);
}

static void
end_read (HttpRead *read, int result)
{
  read->result = result;
  if (read->home == read->node->loop)
    end_at_home (read);
  else
    tn_loop_post (read->home, end_at_home, read);
}

void
http_read_fail (HttpRead *read, int result)
{
  end_read (read, result);
}

/* ---- Bytes ---- */

static void
scatter (const TnRequest *request, uint64_t skip, const uint8_t *from, uint64_t length)
{
  for (const struct iovec *iov = request->iov; length; iov++) {
    if (skip >= iov->iov_len) {
      skip -= iov->iov_len;
      continue;
    }
    const size_t n = (size_t) MIN (iov->iov_len - skip, length);
    memcpy ((uint8_t *) iov->iov_base + skip, from, n);
    from += n;
    length -= n;
    skip = 0;
  }
}

static void
copy_from (HttpRead *read, const HttpFetch *fetch)
{
  const uint64_t at = read->request->offset + read->done - fetch->start,
                 n = MIN (fetch->filled - at, read->request->length - read->done);
  scatter (read->request, read->done, fetch->data + at, n);
  read->done += n;
}

/* ---- What to fetch ---- */

static bool
follows (const HttpNode *http, const TnRequest *request)
{
  return request->offset == http->expected;
}

/* From @offset on, for a read that needs @length bytes there. */
static HttpFetch *
fetch_for (HttpNode *http, uint64_t offset, uint64_t length, bool sequential)
{
  const uint64_t size = http->version.size, small = MIN (SMALL_FETCH, http->readahead);
  const uint64_t wanted = sequential ? length + http->readahead : MAX (length, small);
  const uint64_t start = offset & ~(GRAIN - 1);
  const uint64_t end = MIN (size, (offset + wanted + GRAIN - 1) & ~(GRAIN - 1));
  HttpFetch *fetch = http_fetch_find (http, start) ? http_fetch_new (http, offset, end - offset)
                                                   : http_fetch_new (http, start, end - start);
  /* Something begins between the two. */
  if (fetch->start + fetch->length <= offset)
    fetch = http_fetch_new (http, offset, end - offset);
  return fetch;
}

/* While a reader is in the second half of what there is, what follows comes in. */
static void
fetch_ahead (HttpNode *http, const TnRequest *request)
{
  const uint64_t end = request->offset + request->length;
  const HttpFetch *fetch = http_fetch_find (http, end - 1);
  if (!fetch || http->n_running >= HTTP_MAX_TRANSFERS / 2)
    return;
  const uint64_t behind = fetch->start + fetch->length;
  if (behind - end > http->readahead / 2 || behind >= http->version.size || http_fetch_find (http, behind))
    return;
  http_fetch_new (http, behind, MIN (http->readahead, http->version.size - behind));
}

/* ---- Going on ---- */

static void
wait_for (HttpRead *read, HttpFetch *fetch)
{
  read->next = fetch->waiting;
  fetch->waiting = read;
}

static void
go_on (HttpRead *read, bool sequential)
{
  HttpNode *http = read->node;
  const TnRequest *request = read->request;
  while (read->done < request->length) {
    const uint64_t at = request->offset + read->done;
    HttpFetch *fetch = http_fetch_find (http, at);
    if (!fetch)
      fetch = fetch_for (http, at, request->length - read->done, sequential);
    fetch->used = http->clock;
    if (at - fetch->start >= fetch->filled) {
      wait_for (read, fetch);
      return;
    }
    copy_from (read, fetch);
  }
  end_read (read, 0);
}

static HttpFetch *
progressed (const HttpNode *http)
{
  for (guint i = 0; i < http->fetches->len; i++) {
    HttpFetch *fetch = g_ptr_array_index (http->fetches, i);
    if (fetch->progressed)
      return fetch;
  }
  return NULL;
}

void
http_read_progress (HttpNode *http)
{
  for (HttpFetch *fetch; (fetch = progressed (http));) {
    HttpRead *read = g_steal_pointer (&fetch->waiting);
    fetch->progressed = false;
    while (read) {
      HttpRead *next = read->next;
      go_on (read, false);
      read = next;
    }
  }
}

/* ---- From the node ---- */

static void
begin (void *opaque)
{
  HttpRead *read = opaque;
  HttpNode *http = read->node;
  const TnRequest *request = read->request;
  if (request->length > http->version.size || request->offset > http->version.size - request->length) {
    end_read (read, -EIO);
    return;
  }
  const bool sequential = follows (http, request);
  http->clock++;
  http->expected = request->offset + request->length;
  if (sequential)
    fetch_ahead (http, request);
  go_on (read, sequential);
  http_run (http);
}

void
http_read_submit (HttpNode *http, TnRequest *request)
{
  HttpRead *read = tn_request_leaf_scratch (request);
  *read = (HttpRead){ .node = http, .home = tn_loop_current (), .request = request };
  if (read->home == http->loop)
    begin (read);
  else
    tn_loop_post (http->loop, begin, read);
}
