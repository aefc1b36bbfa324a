/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio over memory-mapped registers: VIRTIO 1.2, section 4.2, version 2 ("modern") only. */
#include <tenon/virtio.h>
#include <tenon/plugin.h>

enum {
  REG_MAGIC = 0x000,
  REG_VERSION = 0x004,
  REG_DEVICE_ID = 0x008,
  REG_VENDOR_ID = 0x00c,
  REG_DEVICE_FEATURES = 0x010,
  REG_DEVICE_FEATURES_SEL = 0x014,
  REG_DRIVER_FEATURES = 0x020,
  REG_DRIVER_FEATURES_SEL = 0x024,
  REG_QUEUE_SEL = 0x030,
  REG_QUEUE_NUM_MAX = 0x034,
  REG_QUEUE_NUM = 0x038,
  REG_QUEUE_READY = 0x044,
  REG_QUEUE_NOTIFY = 0x050,
  REG_INTERRUPT_STATUS = 0x060,
  REG_INTERRUPT_ACK = 0x064,
  REG_STATUS = 0x070,
  REG_QUEUE_DESC_LOW = 0x080,
  REG_QUEUE_DESC_HIGH = 0x084,
  REG_QUEUE_DRIVER_LOW = 0x090,
  REG_QUEUE_DRIVER_HIGH = 0x094,
  REG_QUEUE_DEVICE_LOW = 0x0a0,
  REG_QUEUE_DEVICE_HIGH = 0x0a4,
  REG_SHM_SEL = 0x0ac,
  REG_SHM_LEN_LOW = 0x0b0,
  REG_SHM_BASE_HIGH = 0x0bc,
  REG_CONFIG_GENERATION = 0x0fc,
  REG_CONFIG = 0x100,
  REGION_SIZE = 0x200,

  INTERRUPT_USED = 1,
  INTERRUPT_CONFIG = 2,
};

#define MAGIC 0x74726976u     /* "virt" */
#define VENDOR_ID 0x4e4e4554u /* "TENN" */

typedef struct MmioQueue {
  uint32_t size;
  uint64_t descriptors, available, used;
} MmioQueue;

typedef struct VirtioMmio {
  TnDevice *device;
  TnVirtio *virtio; /* NULL: the slot is empty */
  TnIrq *irq;
  MmioQueue *queues;
  uint32_t n_queues;
  uint32_t device_features_sel, driver_features_sel;
  uint32_t driver_features[2];
  uint32_t queue_sel;
  uint32_t interrupt_status;
} VirtioMmio;

static void
virtio_mmio_update_irq (VirtioMmio *mmio, uint32_t set, uint32_t clear)
{
  tn_device_lock (mmio->device);
  mmio->interrupt_status = (mmio->interrupt_status | set) & ~clear;
  tn_irq_set (mmio->irq, mmio->interrupt_status != 0);
  tn_device_unlock (mmio->device);
}

static void
virtio_mmio_interrupt (TnDevice *transport, unsigned queue, bool config)
{
  virtio_mmio_update_irq (tn_device_state (transport), config ? INTERRUPT_CONFIG : INTERRUPT_USED, 0);
}

static uint32_t
virtio_mmio_interrupt_status (VirtioMmio *mmio)
{
  tn_device_lock (mmio->device);
  uint32_t status = mmio->interrupt_status;
  tn_device_unlock (mmio->device);
  return status;
}

/* Selectors are read once: several vCPUs may write them while they are checked. */
static uint32_t
virtio_mmio_selected (const uint32_t *selector)
{
  return __atomic_load_n (selector, __ATOMIC_RELAXED);
}

static MmioQueue *
virtio_mmio_queue (VirtioMmio *mmio)
{
  uint32_t index = virtio_mmio_selected (&mmio->queue_sel);
  return index < mmio->n_queues ? &mmio->queues[index] : NULL;
}

static uint64_t
virtio_mmio_read_config (VirtioMmio *mmio, uint64_t offset, unsigned bytes)
{
  uint8_t data[8] = { 0 };
  tn_virtio_config_read (mmio->virtio, offset - REG_CONFIG, data, bytes);
  return tn_load_le64 (data);
}

static uint32_t
virtio_mmio_offered (VirtioMmio *mmio, uint32_t half)
{
  return half > 1 ? 0 : tn_virtio_offered (mmio->virtio) >> (32 * half);
}

static void
virtio_mmio_set_driver_features (VirtioMmio *mmio, uint32_t half, uint32_t value)
{
  if (half <= 1)
    mmio->driver_features[half] = value;
}

static uint64_t
virtio_mmio_read_register (VirtioMmio *mmio, uint64_t offset)
{
  switch (offset) {
  case REG_DEVICE_ID:
    return tn_virtio_device_id (mmio->virtio);
  case REG_DEVICE_FEATURES:
    return virtio_mmio_offered (mmio, virtio_mmio_selected (&mmio->device_features_sel));
  case REG_QUEUE_NUM_MAX:
    return tn_virtio_queue_max (mmio->virtio, mmio->queue_sel);
  case REG_QUEUE_READY:
    return tn_virtio_queue_ready (mmio->virtio, mmio->queue_sel);
  case REG_INTERRUPT_STATUS:
    return virtio_mmio_interrupt_status (mmio);
  case REG_STATUS:
    return tn_virtio_status (mmio->virtio);
  case REG_CONFIG_GENERATION:
    return tn_virtio_config_generation (mmio->virtio);
  default:
    /* No shared-memory regions: their length reads as all ones. */
    return offset >= REG_SHM_LEN_LOW && offset <= REG_SHM_BASE_HIGH ? UINT32_MAX : 0;
  }
}

static uint64_t
virtio_mmio_read (void *opaque, uint64_t offset, unsigned bytes)
{
  VirtioMmio *mmio = opaque;
  bool whole = bytes == 4 && (offset & 3) == 0;

  if (whole && offset == REG_MAGIC)
    return MAGIC;
  if (whole && offset == REG_VERSION)
    return 2;
  if (whole && offset == REG_VENDOR_ID)
    return VENDOR_ID;
  if (mmio->virtio == NULL)
    return 0;
  if (offset >= REG_CONFIG)
    return virtio_mmio_read_config (mmio, offset, bytes);
  return whole ? virtio_mmio_read_register (mmio, offset) : 0;
}

static void
virtio_mmio_set_status (VirtioMmio *mmio, uint8_t status)
{
  if (status == 0) {
    tn_virtio_set_status (mmio->virtio, 0);
    memset (mmio->queues, 0, mmio->n_queues * sizeof *mmio->queues);
    memset (mmio->driver_features, 0, sizeof mmio->driver_features);
    mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
    virtio_mmio_update_irq (mmio, 0, UINT32_MAX);
    return;
  }
  tn_virtio_accept (mmio->virtio, (uint64_t) mmio->driver_features[1] << 32 | mmio->driver_features[0]);
  tn_virtio_set_status (mmio->virtio, status);
}

static void
virtio_mmio_set_ready (VirtioMmio *mmio, uint32_t ready)
{
  uint32_t index = virtio_mmio_selected (&mmio->queue_sel);
  if (index >= mmio->n_queues)
    return;
  const MmioQueue *queue = &mmio->queues[index];
  if ((ready & 1) != 0)
    tn_virtio_queue_setup (mmio->virtio, index, queue->size, queue->descriptors, queue->available,
                           queue->used);
  else
    tn_virtio_queue_disable (mmio->virtio, index);
}

static void
virtio_mmio_set_half (uint64_t *address, bool high, uint32_t value)
{
  if (high)
    *address = (uint64_t) value << 32 | (uint32_t) *address;
  else
    *address = (*address & 0xffffffff00000000ull) | value;
}

static void
virtio_mmio_write_queue (VirtioMmio *mmio, uint64_t offset, uint32_t value)
{
  MmioQueue *queue = virtio_mmio_queue (mmio);
  if (queue == NULL)
    return;
  bool high = (offset & 4) != 0;
  switch (offset) {
  case REG_QUEUE_NUM:
    queue->size = MIN (value, UINT16_MAX);
    break;
  case REG_QUEUE_DESC_LOW:
  case REG_QUEUE_DESC_HIGH:
    virtio_mmio_set_half (&queue->descriptors, high, value);
    break;
  case REG_QUEUE_DRIVER_LOW:
  case REG_QUEUE_DRIVER_HIGH:
    virtio_mmio_set_half (&queue->available, high, value);
    break;
  case REG_QUEUE_DEVICE_LOW:
  case REG_QUEUE_DEVICE_HIGH:
    virtio_mmio_set_half (&queue->used, high, value);
    break;
  }
}

static void
virtio_mmio_write_register (VirtioMmio *mmio, uint64_t offset, uint32_t value)
{
  switch (offset) {
  case REG_DEVICE_FEATURES_SEL:
    mmio->device_features_sel = value;
    break;
  case REG_DRIVER_FEATURES:
    virtio_mmio_set_driver_features (mmio, virtio_mmio_selected (&mmio->driver_features_sel), value);
    break;
  case REG_DRIVER_FEATURES_SEL:
    mmio->driver_features_sel = value;
    break;
  case REG_QUEUE_SEL:
    mmio->queue_sel = value;
    break;
  case REG_QUEUE_READY:
    virtio_mmio_set_ready (mmio, value);
    break;
  case REG_INTERRUPT_ACK:
    virtio_mmio_update_irq (mmio, 0, value);
    break;
  case REG_STATUS:
    virtio_mmio_set_status (mmio, value);
    break;
  default:
    virtio_mmio_write_queue (mmio, offset, value);
    break;
  }
}

static void
virtio_mmio_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  VirtioMmio *mmio = opaque;

  if (mmio->virtio == NULL)
    return;
  if (offset >= REG_CONFIG) {
    uint8_t data[8];
    tn_store_le64 (data, value);
    tn_virtio_config_write (mmio->virtio, offset - REG_CONFIG, data, bytes);
    return;
  }
  if (bytes != 4 || (offset & 3) != 0)
    return;
  /* The one register of the hot path; its value is the queue. */
  if (offset == REG_QUEUE_NOTIFY)
    tn_virtio_kick (mmio->virtio, value);
  else
    virtio_mmio_write_register (mmio, offset, value);
}

static const TnMmioOps virtio_mmio_registers = {
  .size = sizeof (TnMmioOps),
  .min_access = 1,
  .max_access = 8,
  .read = virtio_mmio_read,
  .write = virtio_mmio_write,
};

static const TnVirtioTransportOps virtio_mmio_transport = {
  .size = sizeof (TnVirtioTransportOps),
  .interrupt = virtio_mmio_interrupt,
};

static int
virtio_mmio_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  VirtioMmio *mmio = tn_device_state (device);
  mmio->device = device;
  mmio->irq = tn_device_irq (device, 0);
  return tn_device_add_mmio (device, 0, REGION_SIZE, &virtio_mmio_registers, mmio, error);
}

static int
virtio_mmio_attach (TnDevice *device, TnDevice *child, GError **error)
{
  VirtioMmio *mmio = tn_device_state (device);
  if (mmio->virtio != NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EBUSY, "virtio slot '%s' is taken; name another one for '%s'",
                    tn_device_id (device), tn_device_id (child));

  mmio->virtio = tn_virtio_new (device, child, &virtio_mmio_transport, error);
  if (mmio->virtio == NULL)
    return -EINVAL;
  mmio->n_queues = tn_virtio_queue_count (mmio->virtio);
  mmio->queues = g_new0 (MmioQueue, mmio->n_queues);
  return 0;
}

static void
virtio_mmio_unrealize (TnDevice *device)
{
  VirtioMmio *mmio = tn_device_state (device);
  g_clear_pointer (&mmio->virtio, tn_virtio_free);
  g_clear_pointer (&mmio->queues, g_free);
}

static void
virtio_mmio_reset (TnDevice *device)
{
  VirtioMmio *mmio = tn_device_state (device);
  if (mmio->virtio == NULL)
    return;
  /* The core holds the device's lock here, and setting the wire takes it. */
  tn_device_unlock (device);
  virtio_mmio_set_status (mmio, 0);
  tn_device_lock (device);
}

static int
virtio_mmio_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  tn_fdt_string (fdt, "compatible", "virtio,mmio");
  return 0;
}

static const TnDeviceOps virtio_mmio_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (VirtioMmio),
  .bus = "system",
  .provides = "virtio",
  .realize = virtio_mmio_realize,
  .unrealize = virtio_mmio_unrealize,
  .reset = virtio_mmio_reset,
  .attach = virtio_mmio_attach,
  .fdt = virtio_mmio_fdt,
};

static const TnClass virtio_mmio_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "virtio-mmio",
  .summary = "virtio transport on memory-mapped registers",
  .ops = &virtio_mmio_ops,
};

static const TnClass *const virtio_mmio_classes[] = { &virtio_mmio_class, NULL };

TN_PLUGIN_DEFINE (device_virtio_mmio, .security = TN_SECURITY_HARDENED, .name = "device-virtio-mmio",
                  .version = "0.1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-device-virtio",
                  .classes = virtio_mmio_classes);
