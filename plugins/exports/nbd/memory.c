/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the clients of one lane make the server hold, all of them together.  A request for which there is no
 * room waits until others have given some back.  When that takes long, the client that holds most and does
 * not fetch its answers, or does not send what it announced, has to go.
 */
#include "server.h"

#define PATIENCE_NS INT64_C (10000000000)

static void
wake_starved (NbdLane *lane)
{
  lane->n_starved = 0;
  if (lane->starving)
    tn_timer_stop (lane->starving);
  for (NbdConnection *c = lane->connections; c; c = c->next) {
    if (!c->starved || c->dead)
      continue;
    c->starved = c->blocked = false;
    nbd_connection_work_soon (c);
  }
}

static NbdConnection *
find_idle_holder (NbdLane *lane)
{
  NbdConnection *found = NULL;
  for (NbdConnection *c = lane->connections; c; c = c->next)
    if (!c->dead && c->n_ops && c->running == 0 && (!found || c->held > found->held))
      found = c;
  return found;
}

static void
out_of_patience (void *opaque)
{
  NbdLane *lane = opaque;
  NbdConnection *c = find_idle_holder (lane);
  if (lane->n_starved == 0)
    return;
  tn_timer_set (lane->starving, tn_clock_ns () + PATIENCE_NS);
  if (!c)
    return;
  nbd_connection_drop (c, "others wait for the memory that its requests take");
  nbd_connection_work_soon (c);
}

static void
starve (NbdConnection *c)
{
  NbdLane *lane = c->lane;
  if (c->starved)
    return;
  c->starved = true;
  if (lane->n_starved++)
    return;
  if (!lane->starving)
    lane->starving = tn_timer_new (lane->loop, out_of_patience, lane);
  tn_timer_set (lane->starving, tn_clock_ns () + PATIENCE_NS);
}

void
nbd_memory_forget (NbdConnection *c)
{
  if (c->starved)
    c->lane->n_starved--;
  c->starved = false;
}

bool
nbd_memory_has_room (NbdConnection *c, size_t needed)
{
  if (c->n_ops && c->held + needed > NBD_MAX_HELD)
    return false;
  if (c->lane->held + needed <= c->server->most_held)
    return true;
  starve (c);
  return false;
}

void
nbd_memory_take (NbdConnection *c, size_t size)
{
  c->held += size;
  c->lane->held += size;
}

void
nbd_memory_give (NbdConnection *c, size_t size)
{
  c->held -= size;
  c->lane->held -= size;
  if (size && c->lane->n_starved)
    wake_starved (c->lane);
}

/* Buffers are kept for the next request while there is plenty. */
bool
nbd_memory_is_plenty (const NbdLane *lane)
{
  return lane->held <= lane->server->most_held / 2;
}
