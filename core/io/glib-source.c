/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A loop as a source in a GLib main context, which then does the waiting. */
#include "io/loop-private.h"

#include <unistd.h>

typedef struct LoopSource {
  GSource source;
  TnLoop *loop;
} LoopSource;

static bool
has_work (TnLoop *loop)
{
  return tn_loop_has_local_work (loop) || tn_loop_timeout (loop) == 0;
}

static int
timeout_ms (TnLoop *loop)
{
  int64_t timeout = tn_loop_timeout (loop);

  if (timeout == TN_NEVER)
    return -1;
  return (int) MIN ((timeout + 999999) / 1000000, G_MAXINT);
}

/* Whether the loop counts as sleeping: others then wake it through its descriptor. */
static void
set_sleeping (TnLoop *loop, bool sleeping)
{
  if (loop->backend)
    loop->backend->notify (loop, sleeping);
  atomic_store (&loop->sleeping, sleeping);
}

static gboolean
source_prepare (GSource *source, int *timeout)
{
  TnLoop *loop = ((LoopSource *) source)->loop;

  tn_loop_flush (loop);
  set_sleeping (loop, true);
  *timeout = timeout_ms (loop);
  return has_work (loop) || (loop->backend && loop->backend->found (loop));
}

static bool
woken (TnLoop *loop)
{
  uint64_t count;

  return loop->event_tag && (g_source_query_unix_fd (loop->source, loop->event_tag) & G_IO_IN) != 0
         && read (atomic_load (&loop->event_fd), &count, sizeof count) > 0;
}

static gboolean
source_check (GSource *source)
{
  TnLoop *loop = ((LoopSource *) source)->loop;
  bool ready = woken (loop);

  set_sleeping (loop, false);
  if (loop->backend_tag && g_source_query_unix_fd (source, loop->backend_tag))
    ready = true;
  return ready || has_work (loop);
}

static gboolean
source_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  TnLoop *loop = ((LoopSource *) source)->loop;

  set_sleeping (loop, false);
  tn_loop_iterate (loop, false);
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { .prepare = source_prepare,
                                     .check = source_check,
                                     .dispatch = source_dispatch };

void
tn_loop_source_add_backend (TnLoop *loop)
{
  int fd = loop->backend->attach (loop);

  if (fd >= 0)
    loop->backend_tag = g_source_add_unix_fd (loop->source, fd, G_IO_IN);
}

void
tn_loop_attach (TnLoop *loop, GMainContext *context)
{
  int fd;

  g_return_if_fail (!loop->source);
  loop->source = g_source_new (&source_funcs, sizeof (LoopSource));
  ((LoopSource *) loop->source)->loop = loop;
  g_source_set_static_name (loop->source, "tenon loop");
  /* A handler may run a nested main loop that needs I/O done. */
  g_source_set_can_recurse (loop->source, TRUE);
  fd = tn_loop_event_fd (loop);
  if (fd >= 0)
    loop->event_tag = g_source_add_unix_fd (loop->source, fd, G_IO_IN);
  if (loop->backend)
    tn_loop_source_add_backend (loop);
  g_source_attach (loop->source, context);
}

void
tn_loop_detach (TnLoop *loop)
{
  if (!loop->source)
    return;
  g_source_destroy (loop->source);
  g_clear_pointer (&loop->source, g_source_unref);
}
