/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Virtqueues of a guest that is not this process's machine (vhost-user): one thread, no device, no lock. */
#include "machine/virtq.h"

TnVirtq *
tn_virtq_new (uint16_t max, const TnVirtqOps *ops, void *opaque)
{
  TnVirtq *queue = g_new0 (TnVirtq, 1);
  queue->max = MIN (max, TN_VIRTIO_QUEUE_MAX);
  memcpy (&queue->alone, ops, MIN (ops->size, sizeof queue->alone));
  queue->opaque = opaque;
  return queue;
}

void
tn_virtq_free (TnVirtq *queue)
{
  if (queue == NULL)
    return;
  tn_virtq_destroy (queue);
  g_free (queue);
}

/* What was served before is known from the used ring: the index there is the device's own. */
static uint16_t
used_index (const TnVirtq *queue)
{
  return GUINT16_FROM_LE (__atomic_load_n ((const uint16_t *) (queue->used + 2), __ATOMIC_ACQUIRE));
}

bool
tn_virtq_start (TnVirtq *queue, TnSpace *space, uint64_t features, uint16_t size, uint64_t descriptors,
                uint64_t available, uint64_t used, uint16_t next)
{
  if (queue->ready || queue->in_flight > 0)
    return false;
  queue->event_index = (features & (1ull << TN_VIRTIO_F_EVENT_IDX)) != 0;
  queue->indirect_allowed = (features & (1ull << TN_VIRTIO_F_INDIRECT_DESC)) != 0;
  if (!tn_virtq_enable (queue, space, size, descriptors, available, used))
    return false;
  queue->last_available = next;
  queue->used_index = used_index (queue);
  queue->signalled = queue->used_index;
  queue->signalled_valid = true;
  queue->broken = false;
  return true;
}

uint16_t
tn_virtq_stop (TnVirtq *queue)
{
  tn_virtq_disable (queue);
  return queue->last_available;
}

unsigned
tn_virtq_in_flight (TnVirtq *queue)
{
  return queue->in_flight;
}

TnVirtqRequest *
tn_virtq_alone_pop (TnVirtq *queue)
{
  const char *fault = NULL;
  TnVirtqRequest *request = queue->broken ? NULL : tn_virtq_take (queue, &fault);
  if (fault != NULL) {
    queue->broken = true;
    if (queue->alone.broken != NULL)
      queue->alone.broken (fault, queue->opaque);
  }
  return request;
}

void
tn_virtq_alone_push (TnVirtq *queue, TnVirtqRequest *request, uint32_t written)
{
  tn_virtq_complete (queue, request, written);
  if (queue->in_flight == 0 && queue->alone.idle != NULL)
    queue->alone.idle (queue->opaque);
}
