/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block device: VIRTIO 1.2, section 5.2. */
#include "../../common/virtio-blk/virtio-blk.h"

#include <tenon/plugin.h>

#define DEVICE_ID 2

static VirtioBlk *
virtio_blk_of (TnDevice *device)
{
  return tn_device_state (device);
}

static void
virtio_blk_broken (void *opaque, const char *why)
{
  tn_virtio_broken (tn_virtio_of (opaque), why);
}

static void
virtio_blk_notify (TnDevice *device, unsigned index)
{
  virtio_blk_serve (virtio_blk_of (device), tn_virtio_queue (tn_virtio_of (device), index));
}

/* ---- Features and configuration ---- */

static uint64_t
virtio_blk_features (TnDevice *device)
{
  return virtio_blk_offered (virtio_blk_of (device));
}

static unsigned
virtio_blk_queues (TnDevice *device)
{
  return virtio_blk_of (device)->n_queues;
}

static uint16_t
virtio_blk_queue_size (TnDevice *device, unsigned index)
{
  return virtio_blk_of (device)->queue_size;
}

static void
virtio_blk_config_get (TnDevice *device, uint32_t offset, void *data, uint32_t length)
{
  uint8_t config[VIRTIO_BLK_CONFIG_SIZE];
  virtio_blk_config_fill (virtio_blk_of (device), config);
  memcpy (data, config + offset, length);
}

static void
virtio_blk_config_set (TnDevice *device, uint32_t offset, const void *data, uint32_t length)
{
  virtio_blk_config_write (virtio_blk_of (device), offset, data, length);
}

static void
virtio_blk_driver_ok (TnDevice *device, uint64_t features)
{
  virtio_blk_start (virtio_blk_of (device), features);
}

static void
virtio_blk_resized (void *opaque)
{
  TnVirtio *virtio = tn_virtio_of (opaque);
  if (virtio != NULL)
    tn_virtio_config_changed (virtio);
}

/* ---- Life ---- */

static int
virtio_blk_check_sizes (TnDevice *device, const TnOptions *options, GError **error)
{
  VirtioBlk *blk = virtio_blk_of (device);
  uint64_t queue_size = tn_options_uint (options, "queue-size");
  uint64_t block_size = tn_options_uint (options, "logical_block_size");

  if ((queue_size & (queue_size - 1)) != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "virtio-blk: queue-size=%" G_GUINT64_FORMAT " is not a power of two", queue_size);
  if ((block_size & (block_size - 1)) != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "virtio-blk: logical_block_size=%" G_GUINT64_FORMAT " is not a power of two", block_size);
  blk->queue_size = queue_size;
  blk->block_size = block_size;

  uint64_t queues = tn_options_uint (options, "num-queues");
  blk->n_queues = queues != 0 ? queues : MIN (tn_device_cpu_count (device), 16u);
  return 0;
}

static int
virtio_blk_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  VirtioBlk *blk = virtio_blk_of (device);

  int result = virtio_blk_check_sizes (device, options, error);
  if (result < 0)
    return result;
  blk->drive = tn_device_drive (device, tn_options_get (options, "drive"), error);
  if (blk->drive == NULL)
    return -ENOENT;

  const char *serial = tn_options_get (options, "serial");
  if (serial != NULL && strlen (serial) > VIRTIO_BLK_ID_LENGTH)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "virtio-blk: serial '%s' is longer than %d characters",
                    serial, VIRTIO_BLK_ID_LENGTH);
  if (serial != NULL)
    memcpy (blk->serial, serial, strlen (serial));
  blk->wce_default = tn_drive_write_cache (blk->drive);
  blk->read_only = tn_drive_is_read_only (blk->drive);
  blk->broken = virtio_blk_broken;
  blk->opaque = device;
  tn_drive_on_resize (blk->drive, virtio_blk_resized, device);
  return 0;
}

static void
virtio_blk_unrealize (TnDevice *device)
{
  VirtioBlk *blk = virtio_blk_of (device);
  if (blk->drive != NULL)
    tn_drive_on_resize (blk->drive, NULL, NULL);
}

static void
virtio_blk_device_reset (TnDevice *device)
{
  virtio_blk_reset (virtio_blk_of (device));
}

static void
virtio_blk_quiesce (TnDevice *device)
{
  VirtioBlk *blk = virtio_blk_of (device);
  if (blk->drive != NULL)
    tn_drive_drain (blk->drive);
}

static const TnVirtioDeviceOps virtio_blk_bus_ops = {
  .size = sizeof (TnVirtioDeviceOps),
  .device_id = DEVICE_ID,
  .features = virtio_blk_features,
  .queues = virtio_blk_queues,
  .queue_size = virtio_blk_queue_size,
  .config_size = VIRTIO_BLK_CONFIG_SIZE,
  .config_read = virtio_blk_config_get,
  .config_write = virtio_blk_config_set,
  .start = virtio_blk_driver_ok,
  .notify = virtio_blk_notify,
};

static const TnDeviceOps virtio_blk_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (VirtioBlk),
  .bus = "virtio",
  .bus_ops = &virtio_blk_bus_ops,
  .realize = virtio_blk_realize,
  .unrealize = virtio_blk_unrealize,
  .reset = virtio_blk_device_reset,
  .quiesce = virtio_blk_quiesce,
};

static const TnOption virtio_blk_options[] = {
  { .name = "drive",
    .type = TN_OPTION_DRIVE,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "drive to serve" },
  { .name = "serial",
    .type = TN_OPTION_STRING,
    .help = "serial number shown to the guest, up to 20 characters" },
  { .name = "num-queues",
    .type = TN_OPTION_UINT,
    .value = "0",
    .max = 64,
    .help = "request queues; 0: one for each virtual processor" },
  { .name = "queue-size",
    .type = TN_OPTION_UINT,
    .value = "256",
    .min = 4,
    .max = TN_VIRTIO_QUEUE_MAX,
    .help = "descriptors of each queue, a power of two" },
  { .name = "logical_block_size",
    .type = TN_OPTION_SIZE,
    .value = "512",
    .min = 512,
    .max = 32768,
    .help = "smallest unit that the guest may address" },
  { .name = NULL },
};

static const char *const virtio_blk_aliases[] = { "virtio-blk-device", NULL };

static const TnClass virtio_blk_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "virtio-blk",
  .summary = "virtio disk (vda in Linux)",
  .aliases = virtio_blk_aliases,
  .options = virtio_blk_options,
  .ops = &virtio_blk_ops,
};

static const TnClass *const virtio_blk_classes[] = { &virtio_blk_class, NULL };

TN_PLUGIN_DEFINE (device_virtio_blk, .security = TN_SECURITY_HARDENED, .name = "device-virtio-blk",
                  .version = "0.1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-device-virtio",
                  .classes = virtio_blk_classes);
