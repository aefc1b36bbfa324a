/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The virtio side of a device: status, features, queues, configuration (VIRTIO 1.2, section 2). */
#include "machine/virtio.h"
#include "machine/virtq.h"

enum {
  STATUS_DRIVER_OK = 4,
  STATUS_FEATURES_OK = 8,
  STATUS_NEEDS_RESET = 64,
};

#define CORE_FEATURES                                                                                        \
  ((1ull << TN_VIRTIO_F_INDIRECT_DESC) | (1ull << TN_VIRTIO_F_EVENT_IDX) | (1ull << TN_VIRTIO_F_VERSION_1))

struct TnVirtio {
  TnDevice *transport;
  TnDevice *child;
  TnVirtioTransportOps transport_ops;
  TnVirtioDeviceOps ops;
  uint64_t offered;
  uint64_t accepted;
  uint32_t generation; /* atomic */
  uint8_t status;      /* atomic */
  bool resetting;
  unsigned n_queues;
  TnVirtq *queues;
  /* Guards the queues: vCPU threads set them up and reset them while the main loop works them off. */
  GMutex lock;
  GCond idle;
  char *broken; /* why the guest was cut off */
};

static unsigned
virtio_in_flight (TnVirtio *virtio)
{
  unsigned n = 0;
  for (unsigned i = 0; i < virtio->n_queues; i++)
    n += virtio->queues[i].in_flight;
  return n;
}

static void
virtio_copy_ops (void *to, uint32_t known, const void *from)
{
  uint32_t given;
  memcpy (&given, from, sizeof given);
  memcpy (to, from, MIN (known, given));
}

static int
virtio_make_queues (TnVirtio *virtio, GError **error)
{
  unsigned n = virtio->ops.queues (virtio->child);
  if (n == 0 || n > 1024)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "device '%s': %u virtqueues; a virtio device has 1 to 1024", tn_device_id (virtio->child),
                    n);

  virtio->queues = g_new0 (TnVirtq, n);
  virtio->n_queues = n;
  for (unsigned i = 0; i < n; i++) {
    uint16_t max = virtio->ops.queue_size (virtio->child, i);
    if (max == 0 || max > TN_VIRTIO_QUEUE_MAX || (max & (max - 1)) != 0)
      return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                      "device '%s': queue size %u is not a power of two up to %d",
                      tn_device_id (virtio->child), max, TN_VIRTIO_QUEUE_MAX);
    virtio->queues[i].virtio = virtio;
    virtio->queues[i].index = i;
    virtio->queues[i].max = max;
  }
  return 0;
}

TnVirtio *
tn_virtio_new (TnDevice *transport, TnDevice *child, const TnVirtioTransportOps *ops, GError **error)
{
  const TnVirtioDeviceOps *bus_ops = tn_device_ops (child)->bus_ops;
  if (bus_ops == NULL || bus_ops->size < offsetof (TnVirtioDeviceOps, notify) + sizeof bus_ops->notify) {
    tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s' has no virtio operations; its plugin is at fault",
             tn_device_id (child));
    return NULL;
  }

  TnVirtio *virtio = g_new0 (TnVirtio, 1);
  virtio->transport = transport;
  virtio->child = child;
  virtio_copy_ops (&virtio->ops, sizeof virtio->ops, bus_ops);
  virtio_copy_ops (&virtio->transport_ops, sizeof virtio->transport_ops, ops);
  g_mutex_init (&virtio->lock);
  g_cond_init (&virtio->idle);
  if (virtio_make_queues (virtio, error) < 0) {
    tn_virtio_free (virtio);
    return NULL;
  }
  virtio->offered = virtio->ops.features (child) | CORE_FEATURES;
  tn_device_set_bus_data (child, virtio);
  return virtio;
}

void
tn_virtio_free (TnVirtio *virtio)
{
  if (virtio == NULL)
    return;
  for (unsigned i = 0; i < virtio->n_queues; i++)
    tn_virtq_destroy (&virtio->queues[i]);
  tn_device_set_bus_data (virtio->child, NULL);
  g_free (virtio->queues);
  g_free (virtio->broken);
  g_mutex_clear (&virtio->lock);
  g_cond_clear (&virtio->idle);
  g_free (virtio);
}

TnVirtio *
tn_virtio_of (TnDevice *device)
{
  return tn_device_bus_data (device);
}

/* ---- Status and features ---- */

uint16_t
tn_virtio_device_id (TnVirtio *virtio)
{
  return virtio->ops.device_id;
}

uint64_t
tn_virtio_offered (TnVirtio *virtio)
{
  return virtio->offered;
}

void
tn_virtio_accept (TnVirtio *virtio, uint64_t features)
{
  if ((tn_virtio_status (virtio) & STATUS_FEATURES_OK) == 0)
    virtio->accepted = features;
}

uint64_t
tn_virtio_features (TnVirtio *virtio)
{
  return virtio->accepted;
}

uint8_t
tn_virtio_status (TnVirtio *virtio)
{
  return __atomic_load_n (&virtio->status, __ATOMIC_ACQUIRE);
}

/* Waits for the requests under way: once the status reads 0 the guest may reuse their memory. */
static void
virtio_reset (TnVirtio *virtio)
{
  g_mutex_lock (&virtio->lock);
  virtio->resetting = true;
  while (virtio_in_flight (virtio) > 0)
    g_cond_wait (&virtio->idle, &virtio->lock);
  for (unsigned i = 0; i < virtio->n_queues; i++)
    tn_virtq_disable (&virtio->queues[i]);
  virtio->accepted = 0;
  g_clear_pointer (&virtio->broken, g_free);
  virtio->resetting = false;
  __atomic_store_n (&virtio->status, 0, __ATOMIC_RELEASE);
  g_mutex_unlock (&virtio->lock);

  const TnDeviceOps *ops = tn_device_ops (virtio->child);
  if (ops->reset == NULL)
    return;
  tn_device_lock (virtio->child);
  ops->reset (virtio->child);
  tn_device_unlock (virtio->child);
}

static bool
virtio_features_agree (TnVirtio *virtio)
{
  return (virtio->accepted & ~virtio->offered) == 0
         && (virtio->accepted & (1ull << TN_VIRTIO_F_VERSION_1)) != 0;
}

void
tn_virtio_set_status (TnVirtio *virtio, uint8_t status)
{
  uint8_t before = tn_virtio_status (virtio);
  if (status == 0) {
    virtio_reset (virtio);
    return;
  }

  if ((status & STATUS_FEATURES_OK) != 0 && (before & STATUS_FEATURES_OK) == 0
      && !virtio_features_agree (virtio))
    status &= ~STATUS_FEATURES_OK;
  if ((status & STATUS_FEATURES_OK) == 0)
    status &= ~STATUS_DRIVER_OK;
  /* Only a reset takes bits away. */
  __atomic_store_n (&virtio->status, before | (status & ~STATUS_NEEDS_RESET), __ATOMIC_RELEASE);

  if ((status & STATUS_DRIVER_OK) == 0 || (before & STATUS_DRIVER_OK) != 0)
    return;
  if (virtio->ops.start != NULL)
    virtio->ops.start (virtio->child, virtio->accepted);
  /* Buffers may have been made available before DRIVER_OK. */
  for (unsigned i = 0; i < virtio->n_queues; i++)
    tn_virtio_kick (virtio, i);
}

void
tn_virtio_broken (TnVirtio *virtio, const char *why)
{
  g_mutex_lock (&virtio->lock);
  if (virtio->broken == NULL)
    virtio->broken = g_strdup (why);
  g_mutex_unlock (&virtio->lock);
  __atomic_fetch_or (&virtio->status, STATUS_NEEDS_RESET, __ATOMIC_ACQ_REL);
  virtio->transport_ops.interrupt (virtio->transport, 0, true);
}

/* ---- Queues ---- */

unsigned
tn_virtio_queue_count (TnVirtio *virtio)
{
  return virtio->n_queues;
}

uint16_t
tn_virtio_queue_max (TnVirtio *virtio, unsigned index)
{
  return index < virtio->n_queues ? virtio->queues[index].max : 0;
}

TnVirtq *
tn_virtio_queue (TnVirtio *virtio, unsigned index)
{
  return index < virtio->n_queues ? &virtio->queues[index] : NULL;
}

void
tn_virtio_queue_setup (TnVirtio *virtio, unsigned index, uint16_t size, uint64_t descriptors,
                       uint64_t available, uint64_t used)
{
  TnVirtq *queue = tn_virtio_queue (virtio, index);
  if (queue == NULL)
    return;

  g_mutex_lock (&virtio->lock);
  bool sound = true;
  /* A queue in use keeps its rings until a reset. */
  if (!queue->ready && queue->in_flight == 0) {
    queue->event_index = (virtio->accepted & (1ull << TN_VIRTIO_F_EVENT_IDX)) != 0;
    queue->indirect_allowed = (virtio->accepted & (1ull << TN_VIRTIO_F_INDIRECT_DESC)) != 0;
    sound = tn_virtq_enable (queue, tn_device_space (virtio->transport), size, descriptors, available, used);
  }
  g_mutex_unlock (&virtio->lock);
  if (!sound)
    tn_virtio_broken (virtio, "a queue's size or rings are not in RAM or not aligned");
}

void
tn_virtio_queue_disable (TnVirtio *virtio, unsigned index)
{
  TnVirtq *queue = tn_virtio_queue (virtio, index);
  if (queue == NULL)
    return;
  g_mutex_lock (&virtio->lock);
  queue->ready = false; /* nothing more is taken while we wait */
  while (queue->in_flight > 0)
    g_cond_wait (&virtio->idle, &virtio->lock);
  tn_virtq_disable (queue);
  g_mutex_unlock (&virtio->lock);
}

bool
tn_virtio_queue_ready (TnVirtio *virtio, unsigned index)
{
  TnVirtq *queue = tn_virtio_queue (virtio, index);
  if (queue == NULL)
    return false;
  g_mutex_lock (&virtio->lock);
  bool ready = queue->ready;
  g_mutex_unlock (&virtio->lock);
  return ready;
}

static bool
virtio_is_running (TnVirtio *virtio)
{
  return (tn_virtio_status (virtio) & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

static void
virtio_notified (void *opaque)
{
  TnVirtq *queue = opaque;
  __atomic_store_n (&queue->kick_pending, 0, __ATOMIC_SEQ_CST);
  if (virtio_is_running (queue->virtio))
    queue->virtio->ops.notify (queue->virtio->child, queue->index);
}

void
tn_virtio_kick (TnVirtio *virtio, unsigned index)
{
  TnVirtq *queue = tn_virtio_queue (virtio, index);
  if (queue == NULL || !virtio_is_running (virtio))
    return;
  if (__atomic_exchange_n (&queue->kick_pending, 1, __ATOMIC_SEQ_CST) == 0)
    tn_loop_post (tn_device_loop (virtio->child), virtio_notified, queue);
}

TnVirtqRequest *
tn_virtq_pop (TnVirtq *queue)
{
  TnVirtio *virtio = queue->virtio;
  const char *fault = NULL;
  TnVirtqRequest *request = NULL;

  if (virtio == NULL)
    return tn_virtq_alone_pop (queue);
  if (!virtio_is_running (virtio))
    return NULL;
  g_mutex_lock (&virtio->lock);
  if (!virtio->resetting)
    request = tn_virtq_take (queue, &fault);
  g_mutex_unlock (&virtio->lock);
  if (fault != NULL)
    tn_virtio_broken (virtio, fault);
  return request;
}

void
tn_virtq_unpop (TnVirtq *queue, TnVirtqRequest *request)
{
  if (queue->virtio == NULL) {
    tn_virtq_give_back (queue, request);
    return;
  }
  g_mutex_lock (&queue->virtio->lock);
  tn_virtq_give_back (queue, request);
  if (queue->in_flight == 0)
    g_cond_broadcast (&queue->virtio->idle);
  g_mutex_unlock (&queue->virtio->lock);
}

void
tn_virtq_push (TnVirtq *queue, TnVirtqRequest *request, uint32_t written)
{
  if (queue->virtio == NULL) {
    tn_virtq_alone_push (queue, request, written);
    return;
  }
  g_mutex_lock (&queue->virtio->lock);
  tn_virtq_complete (queue, request, written);
  if (queue->in_flight == 0)
    g_cond_broadcast (&queue->virtio->idle);
  g_mutex_unlock (&queue->virtio->lock);
}

void
tn_virtq_notify (TnVirtq *queue)
{
  TnVirtio *virtio = queue->virtio;
  if (virtio == NULL) {
    if (tn_virtq_wants_interrupt (queue))
      queue->alone.interrupt (queue->opaque);
    return;
  }
  g_mutex_lock (&virtio->lock);
  bool interrupt = tn_virtq_wants_interrupt (queue);
  g_mutex_unlock (&virtio->lock);
  if (interrupt)
    virtio->transport_ops.interrupt (virtio->transport, queue->index, false);
}

uint16_t
tn_virtq_size (TnVirtq *queue)
{
  return queue->size;
}

/* ---- Configuration ---- */

uint32_t
tn_virtio_config_generation (TnVirtio *virtio)
{
  return __atomic_load_n (&virtio->generation, __ATOMIC_ACQUIRE);
}

void
tn_virtio_config_changed (TnVirtio *virtio)
{
  __atomic_fetch_add (&virtio->generation, 1, __ATOMIC_ACQ_REL);
  if ((tn_virtio_status (virtio) & STATUS_DRIVER_OK) != 0)
    virtio->transport_ops.interrupt (virtio->transport, 0, true);
}

static bool
virtio_config_holds (TnVirtio *virtio, uint32_t offset, uint32_t length)
{
  return offset <= virtio->ops.config_size && length <= virtio->ops.config_size - offset;
}

void
tn_virtio_config_read (TnVirtio *virtio, uint32_t offset, void *data, uint32_t length)
{
  memset (data, 0, length);
  if (virtio->ops.config_read != NULL && virtio_config_holds (virtio, offset, length))
    virtio->ops.config_read (virtio->child, offset, data, length);
}

void
tn_virtio_config_write (TnVirtio *virtio, uint32_t offset, const void *data, uint32_t length)
{
  if (virtio->ops.config_write != NULL && virtio_config_holds (virtio, offset, length))
    virtio->ops.config_write (virtio->child, offset, data, length);
}
