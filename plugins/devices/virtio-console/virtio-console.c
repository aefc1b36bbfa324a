/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Console device with one port: VIRTIO 1.2, section 5.3. */
#include <tenon/plugin.h>
#include <tenon/virtio.h>

enum {
  DEVICE_ID = 3,
  QUEUE_RECEIVE = 0,
  QUEUE_TRANSMIT = 1,
  QUEUE_SIZE = 64,
  FEATURE_EMERG_WRITE = 2,
  CONFIG_EMERG_WRITE = 8, /* offset of the emergency-write register */
  CONFIG_SIZE = 12,
};

typedef struct VirtioConsole {
  TnDevice *device;
  TnChardev *chardev; /* NULL: output is dropped */
} VirtioConsole;

static TnVirtq *
virtio_console_queue (VirtioConsole *console, unsigned index)
{
  TnVirtio *virtio = tn_virtio_of (console->device);
  return virtio == NULL ? NULL : tn_virtio_queue (virtio, index);
}

/* Host to guest: the guest keeps empty buffers in the receive queue. */
static size_t
virtio_console_can_receive (void *opaque)
{
  TnVirtq *queue = virtio_console_queue (opaque, QUEUE_RECEIVE);
  if (queue == NULL)
    return 0;
  TnVirtqRequest *request = tn_virtq_pop (queue);
  if (request == NULL)
    return 0;
  size_t room = request->in_length;
  tn_virtq_unpop (queue, request);
  return room;
}

static void
virtio_console_receive (void *opaque, const uint8_t *data, size_t length)
{
  TnVirtq *queue = virtio_console_queue (opaque, QUEUE_RECEIVE);
  while (length > 0) {
    TnVirtqRequest *request = tn_virtq_pop (queue);
    if (request == NULL)
      break;
    size_t done = tn_iov_fill (request->in, request->n_in, data, length);
    tn_virtq_push (queue, request, done);
    data += done;
    length -= done;
    if (done == 0)
      break;
  }
  tn_virtq_notify (queue);
}

static void
virtio_console_transmit (VirtioConsole *console)
{
  TnVirtq *queue = virtio_console_queue (console, QUEUE_TRANSMIT);
  TnVirtqRequest *request;

  while ((request = tn_virtq_pop (queue)) != NULL) {
    for (unsigned i = 0; i < request->n_out && console->chardev != NULL; i++)
      tn_chardev_write (console->chardev, request->out[i].iov_base, request->out[i].iov_len);
    tn_virtq_push (queue, request, 0);
  }
  tn_virtq_notify (queue);
}

static void
virtio_console_notify (TnDevice *device, unsigned index)
{
  VirtioConsole *console = tn_device_state (device);
  if (index == QUEUE_TRANSMIT)
    virtio_console_transmit (console);
  else if (console->chardev != NULL)
    tn_chardev_accept (console->chardev);
}

static uint64_t
virtio_console_features (TnDevice *device)
{
  return 1ull << FEATURE_EMERG_WRITE;
}

static unsigned
virtio_console_queues (TnDevice *device)
{
  return 2;
}

static uint16_t
virtio_console_queue_size (TnDevice *device, unsigned index)
{
  return QUEUE_SIZE;
}

static void
virtio_console_config_read (TnDevice *device, uint32_t offset, void *data, uint32_t length)
{
  /* Size and ports are only there with features that are not offered. */
  memset (data, 0, length);
}

static void
virtio_console_config_write (TnDevice *device, uint32_t offset, const void *data, uint32_t length)
{
  VirtioConsole *console = tn_device_state (device);
  if (offset == CONFIG_EMERG_WRITE && length > 0 && console->chardev != NULL)
    tn_chardev_write (console->chardev, data, 1);
}

static const TnChardevHandler virtio_console_handler = {
  .size = sizeof (TnChardevHandler),
  .can_receive = virtio_console_can_receive,
  .receive = virtio_console_receive,
};

static int
virtio_console_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  VirtioConsole *console = tn_device_state (device);
  const char *id = tn_options_get (options, "chardev");

  console->device = device;
  if (id == NULL)
    return 0;
  console->chardev = tn_device_chardev (device, id, error);
  if (console->chardev == NULL)
    return -ENOENT;
  return tn_chardev_connect (console->chardev, &virtio_console_handler, console, error);
}

static void
virtio_console_unrealize (TnDevice *device)
{
  VirtioConsole *console = tn_device_state (device);
  if (console->chardev != NULL)
    tn_chardev_connect (console->chardev, NULL, NULL, NULL);
}

static const TnVirtioDeviceOps virtio_console_bus_ops = {
  .size = sizeof (TnVirtioDeviceOps),
  .device_id = DEVICE_ID,
  .features = virtio_console_features,
  .queues = virtio_console_queues,
  .queue_size = virtio_console_queue_size,
  .config_size = CONFIG_SIZE,
  .config_read = virtio_console_config_read,
  .config_write = virtio_console_config_write,
  .notify = virtio_console_notify,
};

static const TnDeviceOps virtio_console_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (VirtioConsole),
  .bus = "virtio",
  .bus_ops = &virtio_console_bus_ops,
  .realize = virtio_console_realize,
  .unrealize = virtio_console_unrealize,
};

static const TnOption virtio_console_options[] = {
  { .name = "chardev",
    .type = TN_OPTION_CHARDEV,
    .help = "character device that the console is connected to" },
  { .name = NULL },
};

static const char *const virtio_console_aliases[] = { "virtconsole", NULL };

static const TnClass virtio_console_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "virtio-console",
  .summary = "virtio console (hvc0 in Linux)",
  .aliases = virtio_console_aliases,
  .options = virtio_console_options,
  .ops = &virtio_console_ops,
};

static const TnClass *const virtio_console_classes[] = { &virtio_console_class, NULL };

TN_PLUGIN_DEFINE (device_virtio_console, .security = TN_SECURITY_HARDENED, .name = "device-virtio-console",
                  .version = "0.1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-device-virtio",
                  .classes = virtio_console_classes);
