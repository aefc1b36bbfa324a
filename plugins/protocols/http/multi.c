/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libcurl's sockets and timer in the node's loop. */
#include "http.h"

#include <poll.h>

static void
act (HttpNode *http, curl_socket_t socket, int events)
{
  int left;
  curl_multi_socket_action (http->multi, socket, events, &left);
  http_run (http);
}

static void
socket_ready (int fd, short events, void *opaque)
{
  act (opaque, fd, (events & POLLIN ? CURL_CSELECT_IN : 0) | (events & POLLOUT ? CURL_CSELECT_OUT : 0));
}

static int
watch_socket (CURL *easy, curl_socket_t socket, int what, void *opaque, void *unused)
{
  HttpNode *http = opaque;
  short events = 0;
  if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
    events |= POLLIN;
  if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
    events |= POLLOUT;
  return tn_loop_watch_fd (http->loop, socket, events, socket_ready, http, NULL) < 0 ? -1 : 0;
}

static void
timer_fired (void *opaque)
{
  act (opaque, CURL_SOCKET_TIMEOUT, 0);
}

static int
set_timer (CURLM *multi, long timeout_ms, void *opaque)
{
  HttpNode *http = opaque;
  if (timeout_ms < 0)
    tn_timer_stop (http->timer);
  else
    tn_timer_set (http->timer, tn_clock_ns () + (int64_t) timeout_ms * 1000000);
  return 0;
}

/* ---- What is finished ---- */

static bool
take_finished (HttpNode *http)
{
  bool any = false;
  int left;
  for (const CURLMsg *message; (message = curl_multi_info_read (http->multi, &left));) {
    if (message->msg != CURLMSG_DONE)
      continue;
    HttpFetch *fetch = NULL;
    const CURLcode code = message->data.result;
    curl_easy_getinfo (message->easy_handle, CURLINFO_PRIVATE, &fetch);
    http_fetch_ended (fetch, code);
    any = true;
  }
  return any;
}

void
http_run (HttpNode *http)
{
  if (http->running)
    return;
  http->running = true;
  do {
    http_read_progress (http);
    http_fetch_start_queued (http);
  } while (take_finished (http));
  http->running = false;
}

/* ---- Beginning and end ---- */

int
http_multi_open (HttpNode *http, GError **error)
{
  http->timer = tn_timer_new (http->loop, timer_fired, http);
  http->pause = tn_timer_new (http->loop, http_fetch_pause_over, http);
  http->multi = curl_multi_init ();
  if (!http->multi)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for libcurl");
  curl_multi_setopt (http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
  curl_multi_setopt (http->multi, CURLMOPT_SOCKETDATA, http);
  curl_multi_setopt (http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
  curl_multi_setopt (http->multi, CURLMOPT_TIMERDATA, http);
  curl_multi_setopt (http->multi, CURLMOPT_MAXCONNECTS, (long) HTTP_MAX_TRANSFERS);
  return 0;
}

void
http_multi_close (HttpNode *http)
{
  while (http->n_idle)
    curl_easy_cleanup (http->idle[--http->n_idle]);
  if (http->multi)
    curl_multi_cleanup (http->multi);
  tn_timer_free (http->timer);
  tn_timer_free (http->pause);
}
