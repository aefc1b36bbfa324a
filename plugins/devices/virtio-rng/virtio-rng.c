/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Entropy device: VIRTIO 1.2, section 5.4. */
#include <sys/random.h>

#include <tenon/plugin.h>
#include <tenon/virtio.h>

enum {
  DEVICE_ID = 4,
  QUEUE_SIZE = 8,
  MOST_PER_REQUEST = 4096, /* a guest asks again when it wants more; nobody waits long for the host's pool */
};

static uint64_t
virtio_rng_features (TnDevice *device)
{
  return 0;
}

static unsigned
virtio_rng_queues (TnDevice *device)
{
  return 1;
}

static uint16_t
virtio_rng_queue_size (TnDevice *device, unsigned index)
{
  return QUEUE_SIZE;
}

static uint32_t
virtio_rng_fill (TnVirtqRequest *request)
{
  uint32_t written = 0;
  for (unsigned i = 0; i < request->n_in && written < MOST_PER_REQUEST; i++) {
    size_t want = MIN (request->in[i].iov_len, (size_t) (MOST_PER_REQUEST - written));
    ssize_t got = getrandom (request->in[i].iov_base, want, 0);
    if (got < 0)
      break;
    written += got;
    if ((size_t) got < request->in[i].iov_len)
      break;
  }
  return written;
}

static void
virtio_rng_notify (TnDevice *device, unsigned index)
{
  TnVirtq *queue = tn_virtio_queue (tn_virtio_of (device), index);
  TnVirtqRequest *request;

  while ((request = tn_virtq_pop (queue)) != NULL)
    tn_virtq_push (queue, request, virtio_rng_fill (request));
  tn_virtq_notify (queue);
}

static const TnVirtioDeviceOps virtio_rng_bus_ops = {
  .size = sizeof (TnVirtioDeviceOps),
  .device_id = DEVICE_ID,
  .features = virtio_rng_features,
  .queues = virtio_rng_queues,
  .queue_size = virtio_rng_queue_size,
  .notify = virtio_rng_notify,
};

static int
virtio_rng_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  return 0;
}

static const TnDeviceOps virtio_rng_ops = {
  .size = sizeof (TnDeviceOps),
  .bus = "virtio",
  .bus_ops = &virtio_rng_bus_ops,
  .realize = virtio_rng_realize,
};

static const char *const virtio_rng_aliases[] = { "virtio-rng-device", NULL };

static const TnClass virtio_rng_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "virtio-rng",
  .summary = "virtio entropy source fed by the host's random number generator",
  .aliases = virtio_rng_aliases,
  .ops = &virtio_rng_ops,
};

static const TnClass *const virtio_rng_classes[] = { &virtio_rng_class, NULL };

TN_PLUGIN_DEFINE (device_virtio_rng, .security = TN_SECURITY_HARDENED, .name = "device-virtio-rng",
                  .version = "0.1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-device-virtio",
                  .classes = virtio_rng_classes);
