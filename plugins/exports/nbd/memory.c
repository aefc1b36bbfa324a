/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the clients of one server make it hold, all of them together.  A request for which there is no room
 * waits until others have given some back.  When that takes long, the client that holds most and does not
 * fetch its answers, or does not send what it announced, has to go.
 */
#include "server.h"

#define PATIENCE_NS INT64_C (10000000000)

static void
wake_starved (NbdServer *server)
{
  server->n_starved = 0;
  if (server->starving)
    tn_timer_stop (server->starving);
  for (NbdConnection *c = server->connections; c; c = c->next) {
    if (!c->starved || c->dead)
      continue;
    c->starved = c->blocked = false;
    nbd_connection_work_soon (c);
  }
}

static NbdConnection *
find_idle_holder (NbdServer *server)
{
  NbdConnection *found = NULL;
  for (NbdConnection *c = server->connections; c; c = c->next)
    if (!c->dead && c->n_ops && c->running == 0 && (!found || c->held > found->held))
      found = c;
  return found;
}

static void
out_of_patience (void *opaque)
{
  NbdServer *server = opaque;
  NbdConnection *c = find_idle_holder (server);
  if (server->n_starved == 0)
    return;
  tn_timer_set (server->starving, tn_clock_ns () + PATIENCE_NS);
  if (!c)
    return;
  nbd_connection_drop (c, "others wait for the memory that its requests take");
  nbd_connection_work_soon (c);
}

static void
starve (NbdConnection *c)
{
  NbdServer *server = c->server;
  if (c->starved)
    return;
  c->starved = true;
  if (server->n_starved++)
    return;
  if (!server->starving)
    server->starving = tn_timer_new (server->loop, out_of_patience, server);
  tn_timer_set (server->starving, tn_clock_ns () + PATIENCE_NS);
}

void
nbd_memory_forget (NbdConnection *c)
{
  if (c->starved)
    c->server->n_starved--;
  c->starved = false;
}

bool
nbd_memory_has_room (NbdConnection *c, size_t needed)
{
  if (c->n_ops && c->held + needed > NBD_MAX_HELD)
    return false;
  if (c->server->held + needed <= NBD_MAX_SERVER_HELD)
    return true;
  starve (c);
  return false;
}

void
nbd_memory_take (NbdConnection *c, size_t size)
{
  c->held += size;
  c->server->held += size;
}

void
nbd_memory_give (NbdConnection *c, size_t size)
{
  c->held -= size;
  c->server->held -= size;
  if (size && c->server->n_starved)
    wake_starved (c->server);
}

/* Buffers are kept for the next request while there is plenty. */
bool
nbd_memory_is_plenty (const NbdServer *server)
{
  return server->held <= NBD_MAX_SERVER_HELD / 2;
}
