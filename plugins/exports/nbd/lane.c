/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The threads that connections are spread over.  A connection stays in its lane, and lanes share nothing that
 * changes but the list of exports.  The first lane is the server's own loop.  The others come when there are
 * connections for them: a thread that begins late is under the same sandbox as who starts it.
 */
#include "server.h"

/* ---- From a lane to the server's loop ---- */

typedef struct Message {
  NbdLane *lane;
  TnExportEvent event;
  bool attached, gone;
  char *text;
} Message;

static void
deliver (const NbdLane *lane, TnExportEvent event, bool attached, bool gone, const char *text)
{
  NbdServer *server = lane->server;
  tn_export_server_notify (server->base, &(TnExportNotice){ .event = event,
                                                            .connections = server->n_connections,
                                                            .attached = attached,
                                                            .text = text });
  if (gone && !server->closing)
    nbd_listen_update (server);
}

static void
count_out (NbdLane *lane, bool gone)
{
  if (!gone)
    return;
  lane->n_connections--;
  lane->server->n_connections--;
}

static void
message_arrived (void *opaque)
{
  Message *message = opaque;
  NbdServer *server = message->lane->server;
  count_out (message->lane, message->gone);
  deliver (message->lane, message->event, message->attached, message->gone, message->text);
  g_free (message->text);
  g_free (message);
  g_atomic_int_add (&server->messages, -1);
}

void
nbd_lane_tell (NbdLane *lane, TnExportEvent event, bool attached, const char *text)
{
  const bool gone = event == TN_EXPORT_DISCONNECTED;
  if (!lane->thread) {
    count_out (lane, gone);
    deliver (lane, event, attached, gone, text);
    return;
  }
  Message *message = g_new (Message, 1);
  *message = (Message){ lane, event, attached, gone, g_strdup (text) };
  g_atomic_int_inc (&lane->server->messages);
  tn_loop_post (lane->server->loop, message_arrived, message);
}

/* ---- Their threads ---- */

static gpointer
lane_main (gpointer opaque)
{
  NbdLane *lane = opaque;
  TnLoop *loop = tn_loop_current ();
  g_mutex_lock (&lane->lock);
  lane->loop = loop;
  g_cond_signal (&lane->started);
  g_mutex_unlock (&lane->lock);
  while (!lane->stop)
    tn_loop_iterate (loop, true);
  g_clear_pointer (&lane->starving, tn_timer_free);
  tn_loop_free (loop);
  return NULL;
}

static void
stop_lane (void *opaque)
{
  ((NbdLane *) opaque)->stop = true;
}

static NbdLane *
new_lane (NbdServer *server)
{
  NbdLane *lane = g_new0 (NbdLane, 1);
  lane->server = server;
  g_mutex_init (&lane->lock);
  g_cond_init (&lane->started);
  g_ptr_array_add (server->lanes, lane);
  return lane;
}

static void
free_lane (gpointer data)
{
  NbdLane *lane = data;
  g_clear_pointer (&lane->starving, tn_timer_free);
  g_cond_clear (&lane->started);
  g_mutex_clear (&lane->lock);
  g_free (lane);
}

/* NULL: there can be no further thread now. */
static NbdLane *
start_lane (NbdServer *server)
{
  NbdLane *lane = new_lane (server);
  lane->thread = g_thread_try_new ("nbd-lane", lane_main, lane, NULL);
  if (!lane->thread) {
    g_ptr_array_remove (server->lanes, lane);
    return NULL;
  }
  g_mutex_lock (&lane->lock);
  while (!lane->loop)
    g_cond_wait (&lane->started, &lane->lock);
  g_mutex_unlock (&lane->lock);
  return lane;
}

void
nbd_lanes_open (NbdServer *server, unsigned most)
{
  server->lanes = g_ptr_array_new_with_free_func (free_lane);
  server->most_lanes = most;
  server->most_held = NBD_MAX_SERVER_HELD / most;
  new_lane (server)->loop = server->loop;
}

void
nbd_lanes_close (NbdServer *server)
{
  for (guint i = 1; i < server->lanes->len; i++) {
    NbdLane *lane = server->lanes->pdata[i];
    tn_loop_post (lane->loop, stop_lane, lane);
    g_thread_join (lane->thread);
  }
  while (g_atomic_int_get (&server->messages))
    tn_loop_iterate (server->loop, true);
  g_clear_pointer (&server->lanes, g_ptr_array_unref);
}

/* ---- Connections ---- */

static NbdLane *
choose_lane (NbdServer *server)
{
  NbdLane *best = NULL;
  for (guint i = 0; i < server->lanes->len; i++) {
    NbdLane *lane = server->lanes->pdata[i];
    if (!best || lane->n_connections < best->n_connections)
      best = lane;
  }
  NbdLane *fresh =
      best->n_connections && server->lanes->len < server->most_lanes ? start_lane (server) : NULL;
  return fresh ? fresh : best;
}

typedef struct Arrival {
  NbdLane *lane;
  int fd;
} Arrival;

static void
arrived (void *opaque)
{
  g_autofree Arrival *arrival = opaque;
  nbd_connection_new (arrival->lane, arrival->fd);
}

void
nbd_lanes_connect (NbdServer *server, int fd)
{
  NbdLane *lane = choose_lane (server);
  lane->n_connections++;
  server->n_connections++;
  deliver (lane, TN_EXPORT_CONNECTED, false, false, NULL);
  if (!lane->thread) {
    nbd_connection_new (lane, fd);
    return;
  }
  Arrival *arrival = g_new (Arrival, 1);
  *arrival = (Arrival){ lane, fd };
  tn_loop_post (lane->loop, arrived, arrival);
}

/* ---- Ending them ---- */

/* One export, or all, whose connections in one lane have to go. */
struct NbdEviction {
  NbdLane *lane;
  const NbdExport *export;
  unsigned *left; /* lanes, for who waits */
  NbdEviction *next;
};

static bool
concerns (const NbdEviction *eviction, const NbdConnection *c)
{
  return !eviction->export || c->export == eviction->export;
}

static void
evicted (void *opaque)
{
  g_autofree NbdEviction *eviction = opaque;
  (*eviction->left)--;
}

static bool
is_done (const NbdEviction *eviction)
{
  for (const NbdConnection *c = eviction->lane->connections; c; c = c->next)
    if (concerns (eviction, c))
      return false;
  return true;
}

void
nbd_lane_check_evictions (NbdLane *lane)
{
  for (NbdEviction **at = &lane->evictions; *at;) {
    NbdEviction *eviction = *at;
    if (!is_done (eviction)) {
      at = &eviction->next;
      continue;
    }
    *at = eviction->next;
    tn_loop_post (lane->server->loop, evicted, eviction);
  }
}

static void
evict (void *opaque)
{
  NbdEviction *eviction = opaque;
  NbdLane *lane = eviction->lane;
  eviction->next = lane->evictions;
  lane->evictions = eviction;
  for (NbdConnection *c = lane->connections; c; c = c->next) {
    if (c->context_export == eviction->export)
      c->context_export = NULL;
    if (!concerns (eviction, c))
      continue;
    nbd_connection_drop (c, NULL);
    nbd_connection_work_soon (c);
  }
  nbd_lane_check_evictions (lane);
}

void
nbd_lanes_evict (NbdServer *server, const NbdExport *export)
{
  unsigned left = server->lanes->len;
  for (guint i = 0; i < server->lanes->len; i++) {
    NbdEviction *eviction = g_new (NbdEviction, 1);
    *eviction = (NbdEviction){ .lane = server->lanes->pdata[i], .export = export, .left = &left };
    tn_loop_post (eviction->lane->loop, evict, eviction);
  }
  while (left)
    tn_loop_iterate (server->loop, true);
}
