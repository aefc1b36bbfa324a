/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the server says that there is nothing. */
#include "client.h"

/* What one question asks about at most, without extended headers. */
#define MOST_ASKED (UINT32_MAX & ~UINT32_C (65535))

typedef struct Question {
  NbdCall call;
  TnCoroutine *waiter;
  int result;
} Question;

static void
answered (NbdCall *call, int result)
{
  Question *question = call->opaque;
  question->result = result;
  tn_co_wake (question->waiter);
}

static int
ask (NbdClient *client, uint64_t offset, uint64_t length, uint16_t flags, GArray *runs)
{
  Question question = { .waiter = tn_co_self () };
  question.call = (NbdCall){
    .client = client,
    .done = answered,
    .opaque = &question,
    .runs = runs,
    .header = { .flags = flags, .type = NBD_CMD_BLOCK_STATUS, .offset = offset, .length = length }
  };
  nbd_client_submit (&question.call);
  tn_co_yield ();
  return question.result;
}

/* A dirty bitmap takes the place of the allocation, as QEMU's users know it: what is marked shows as a hole
 * that is no data. */
static TnExtentKind
kind_of (const NbdClient *client, uint64_t state)
{
  if (client->offer.has_bitmap)
    return state & 1 ? TN_EXTENT_UNALLOCATED : TN_EXTENT_DATA;
  return state & NBD_STATE_ZERO ? TN_EXTENT_ZERO : TN_EXTENT_DATA;
}

/* Fills @extent from runs that begin at @start. */
static bool
find (const NbdClient *client, const GArray *runs, uint64_t start, uint64_t offset, TnExtent *extent)
{
  for (guint i = 0; i < runs->len; i++) {
    const NbdStatusRun *run = &g_array_index (runs, NbdStatusRun, i);
    if (offset < start + run->length) {
      const uint64_t size = tn_node_size (client->node);
      *extent = (TnExtent){ .offset = start,
                            .length = MIN (run->length, size - start),
                            .kind = kind_of (client, run->state) };
      extent->flags = extent->kind == TN_EXTENT_DATA && !client->read_only ? TN_EXTENT_WRITABLE : 0;
      return true;
    }
    start += run->length;
  }
  return false;
}

/* In a coroutine, with the lock. */
static int
look (NbdClient *client, uint64_t offset, uint64_t length, TnExtent *extent)
{
  if (client->read_only && offset >= client->status_at && offset < client->status_end
      && find (client, client->status, client->status_at, offset, extent))
    return 0;
  g_autoptr (GArray) runs = g_array_new (FALSE, FALSE, sizeof (NbdStatusRun));
  /* More than was asked for, since what follows is asked for next. */
  const uint64_t most = client->offer.extended ? UINT64_C (1) << 40 : MOST_ASKED,
                 left = tn_node_size (client->node) - offset,
                 asked = MIN (client->read_only ? most : MIN (length, most), left);
  const int rc = ask (client, offset, asked, client->read_only ? 0 : NBD_CMD_FLAG_REQ_ONE, runs);
  if (rc < 0)
    return rc;
  if (!find (client, runs, offset, offset, extent))
    return -EPROTO;
  uint64_t end = offset;
  for (guint i = 0; i < runs->len; i++)
    end += g_array_index (runs, NbdStatusRun, i).length;
  g_array_unref (client->status);
  client->status = g_array_ref (runs);
  client->status_at = offset;
  client->status_end = end;
  return 0;
}

int
nbd_client_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                GError **error)
{
  NbdClient *client = *(NbdClient **) tn_node_state (node);
  if (!(client->offer.has_allocation || client->offer.has_bitmap) || offset >= tn_node_size (node)) {
    *extent = (TnExtent){ .length = MAX (tn_node_size (node), offset + length),
                          .kind = TN_EXTENT_DATA,
                          .flags = client->read_only ? 0 : TN_EXTENT_WRITABLE };
    return 0;
  }
  if ((flags & TN_MAP_NOWAIT) || !tn_co_self ())
    return -EAGAIN;
  tn_co_mutex_lock (&client->status_lock);
  const int rc = look (client, offset, length, extent);
  tn_co_mutex_unlock (&client->status_lock);
  return rc < 0 ? tn_fail (error, TN_BLOCK_ERROR, -rc, "the %s does not say where data is: %s",
                           client->server, g_strerror (-rc))
                : 0;
}
