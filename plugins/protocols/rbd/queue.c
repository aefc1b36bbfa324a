/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests that wait until the image is large enough, or until it is known how large it is: a worker works
 * them off, one resize for all that have gathered. */
#include "rbd.h"

/* What is in the queue; NULL: nothing, and another worker may begin. */
static RbdCall *
rbd_queue_take (RbdClient *client)
{
  g_mutex_lock (&client->lock);
  RbdCall *list = g_steal_pointer (&client->first);
  if (!list) {
    client->busy = false;
    g_cond_signal (&client->idle);
  }
  g_mutex_unlock (&client->lock);
  return list;
}

void
rbd_queue_wait_idle (RbdClient *client)
{
  g_mutex_lock (&client->lock);
  while (client->busy)
    g_cond_wait (&client->idle, &client->lock);
  g_mutex_unlock (&client->lock);
}

static int
rbd_learn_size (RbdClient *client)
{
  uint64_t size;
  if (!__atomic_exchange_n (&client->stale, 0, __ATOMIC_ACQ_REL))
    return 0;
  const int rc = rbd_get_size (client->image.handle, &size);
  if (rc < 0)
    __atomic_store_n (&client->stale, 1, __ATOMIC_RELEASE);
  else
    __atomic_store_n (&client->size, size, __ATOMIC_RELEASE);
  return rc;
}

/* Exactly as large as is wanted: there are formats that look for something at the end. */
static int
rbd_make_room (RbdClient *client, const RbdCall *list)
{
  uint64_t end = 0;
  for (const RbdCall *call = list; call; call = call->next)
    end = MAX (end, rbd_end_of (call->request));
  if (end <= rbd_size_now (client))
    return 0;
  if (!g_atomic_int_get (&client->grows))
    return -ENOSPC;
  const int rc = rbd_resize (client->image.handle, end);
  if (rc == 0)
    __atomic_store_n (&client->size, end, __ATOMIC_RELEASE);
  return rc;
}

/* A request that was started may be over before the next line, and its memory gone. */
static void
rbd_work_on (RbdClient *client, RbdCall *list)
{
  const int learnt = rbd_learn_size (client);
  const int room = learnt < 0 ? learnt : rbd_make_room (client, list);
  for (RbdCall *call = list, *next; call; call = next) {
    next = call->next;
    if (learnt < 0 || (room < 0 && rbd_end_of (call->request) > rbd_size_now (client)))
      rbd_request_end (call, learnt < 0 ? learnt : room);
    else
      rbd_request_start (call);
  }
}

static void
rbd_work_off (void *opaque)
{
  RbdClient *client = opaque;
  RbdCall *list;
  while ((list = rbd_queue_take (client)))
    rbd_work_on (client, list);
}

static void
rbd_worked_off (void *opaque)
{
}

void
rbd_queue_add (RbdCall *call)
{
  RbdClient *client = call->client;
  g_mutex_lock (&client->lock);
  if (client->first)
    client->last->next = call;
  else
    client->first = call;
  client->last = call;
  const bool begin = !client->busy;
  client->busy = true;
  g_mutex_unlock (&client->lock);
  if (begin)
    tn_loop_work (call->home, rbd_work_off, rbd_worked_off, client);
}
