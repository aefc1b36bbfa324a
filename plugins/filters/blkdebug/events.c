/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names of events, as users of QEMU write them, and which of them Tenon's requests come to. */
#include "blkdebug.h"

static const char *const blkdebug_names[] = {
  "none",
  "l1_update",
  "l1_grow_alloc_table",
  "l1_grow_write_table",
  "l1_grow_activate_table",
  "l2_load",
  "l2_update",
  "l2_update_compressed",
  "l2_alloc_cow_read",
  "l2_alloc_write",
  "read_aio",
  "read_backing_aio",
  "read_compressed",
  "write_aio",
  "write_compressed",
  "vmstate_load",
  "vmstate_save",
  "cow_read",
  "cow_write",
  "reftable_load",
  "reftable_grow",
  "reftable_update",
  "refblock_load",
  "refblock_update",
  "refblock_update_part",
  "refblock_alloc",
  "refblock_alloc_hookup",
  "refblock_alloc_write",
  "refblock_alloc_write_blocks",
  "refblock_alloc_write_table",
  "refblock_alloc_switch_table",
  "cluster_alloc",
  "cluster_alloc_bytes",
  "cluster_free",
  "flush_to_os",
  "flush_to_disk",
  "pwritev_rmw_head",
  "pwritev_rmw_after_head",
  "pwritev_rmw_tail",
  "pwritev_rmw_after_tail",
  "pwritev",
  "pwritev_zero",
  "pwritev_done",
  "empty_image_prepare",
  "l1_shrink_write_table",
  "l1_shrink_free_l2_clusters",
  "cor_write",
  "cluster_alloc_space",
};

int
blkdebug_event_number (const char *name)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (blkdebug_names); i++)
    if (strcmp (blkdebug_names[i], name) == 0)
      return (int) i;
  return -1;
}

/* Looked up by name once: the order of the table above is nobody's business. */
enum { AT_READ, AT_WRITE, AT_PWRITEV, AT_PWRITEV_ZERO, AT_PWRITEV_DONE, AT_TO_OS, AT_TO_DISK, N_AT };

static int
blkdebug_at (unsigned which)
{
  static const char *const names[N_AT] = { "read_aio",     "write_aio",   "pwritev",      "pwritev_zero",
                                           "pwritev_done", "flush_to_os", "flush_to_disk" };

  return blkdebug_event_number (names[which]);
}

/* What the sender has marked the request with. */
static int
blkdebug_marked (const TnRequest *request)
{
  static const char *const names[] = { NULL,
                                       "l1_update",
                                       "l2_load",
                                       "l2_update",
                                       "reftable_load",
                                       "reftable_update",
                                       "refblock_load",
                                       "refblock_update",
                                       "cow_write" };

  if (request->event > 0 && request->event < G_N_ELEMENTS (names))
    return blkdebug_event_number (names[request->event]);
  return blkdebug_at (request->op == TN_REQUEST_READ ? AT_READ : AT_WRITE);
}

static void
blkdebug_add (BlkdebugWay *way, int event)
{
  way->events[way->n_events++] = (uint8_t) event;
}

void
blkdebug_events_of (const TnRequest *request, BlkdebugWay *way)
{
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    blkdebug_add (way, blkdebug_marked (request));
    return;
  case TN_REQUEST_WRITE:
    blkdebug_add (way, blkdebug_marked (request));
    blkdebug_add (way, blkdebug_at (AT_PWRITEV));
    return;
  case TN_REQUEST_WRITE_ZEROES:
    blkdebug_add (way, blkdebug_at (AT_PWRITEV_ZERO));
    return;
  case TN_REQUEST_FLUSH:
    blkdebug_add (way, blkdebug_at (AT_TO_OS));
    blkdebug_add (way, blkdebug_at (AT_TO_DISK));
    return;
  case TN_REQUEST_DISCARD:
    return;
  }
}

int
blkdebug_event_after (const TnRequest *request)
{
  bool writes = request->op == TN_REQUEST_WRITE || request->op == TN_REQUEST_WRITE_ZEROES;

  return writes ? blkdebug_at (AT_PWRITEV_DONE) : -1;
}
