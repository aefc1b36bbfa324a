/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block device: VIRTIO 1.2, section 5.2. */
#include <tenon/plugin.h>
#include <tenon/virtio.h>

enum {
  DEVICE_ID = 2,
  SECTOR = 512,
  ID_LENGTH = 20,
  HEADER_SIZE = 16,
  RANGE_SIZE = 16,
  SEGMENTS_BESIDE_DATA = 2, /* header and status */

  FEATURE_SEG_MAX = 2,
  FEATURE_RO = 5,
  FEATURE_BLK_SIZE = 6,
  FEATURE_FLUSH = 9,
  FEATURE_TOPOLOGY = 10,
  FEATURE_CONFIG_WCE = 11,
  FEATURE_MQ = 12,
  FEATURE_DISCARD = 13,
  FEATURE_WRITE_ZEROES = 14,

  REQUEST_IN = 0,
  REQUEST_OUT = 1,
  REQUEST_FLUSH = 4,
  REQUEST_GET_ID = 8,
  REQUEST_DISCARD = 11,
  REQUEST_WRITE_ZEROES = 13,

  RANGE_UNMAP = 1,

  STATUS_OK = 0,
  STATUS_IOERR = 1,
  STATUS_UNSUPP = 2,

  CONFIG_SIZE = 60,
  CONFIG_WRITEBACK = 32,
};

#define MAX_RANGE_SECTORS ((uint32_t) 4 << 20) /* 2 GiB in one discard or write-zeroes */

typedef struct VirtioBlk {
  TnDevice *device;
  TnDrive *drive;
  uint64_t features;
  uint32_t block_size;
  uint16_t queue_size;
  uint16_t n_queues;
  bool wce_default; /* write cache as the drive came */
  char serial[ID_LENGTH];
} VirtioBlk;

/* Lives in TnVirtqRequest.private_data. */
typedef struct BlkRequest {
  TnRequest io;
  VirtioBlk *blk;
  TnVirtq *queue;
  TnVirtqRequest *virtq_request;
  uint8_t *status;
  uint32_t read_bytes; /* what a successful read puts in front of the status */
} BlkRequest;

G_STATIC_ASSERT (sizeof (BlkRequest) <= sizeof (((TnVirtqRequest *) NULL)->private_data));

static void
virtio_blk_complete (BlkRequest *request, uint8_t status)
{
  *request->status = status;
  tn_virtq_push (request->queue, request->virtq_request, (status == STATUS_OK ? request->read_bytes : 0) + 1);
}

static uint8_t
virtio_blk_status (int result)
{
  if (result == 0)
    return STATUS_OK;
  return result == -ENOTSUP ? STATUS_UNSUPP : STATUS_IOERR;
}

static void
virtio_blk_done (TnRequest *io, int result)
{
  BlkRequest *request = io->opaque;
  TnVirtq *queue = request->queue;

  virtio_blk_complete (request, virtio_blk_status (result));
  tn_virtq_notify (queue);
}

/* The status is the last byte that the device may write. */
static uint8_t *
virtio_blk_take_status (TnVirtqRequest *request)
{
  while (request->n_in > 0) {
    struct iovec *last = &request->in[request->n_in - 1];
    if (last->iov_len > 0) {
      last->iov_len--;
      request->in_length--;
      uint8_t *status = (uint8_t *) last->iov_base + last->iov_len;
      if (last->iov_len == 0)
        request->n_in--;
      return status;
    }
    request->n_in--;
  }
  return NULL;
}

static bool
virtio_blk_place (BlkRequest *request, uint64_t sector, uint64_t length)
{
  if (length % SECTOR != 0 || sector > UINT64_MAX / SECTOR - (length / SECTOR))
    return false;
  request->io.offset = sector * SECTOR;
  request->io.length = length;
  return true;
}

static void
virtio_blk_transfer (BlkRequest *request, uint8_t op, uint64_t sector)
{
  TnVirtqRequest *virtq_request = request->virtq_request;
  bool read = op == TN_REQUEST_READ;
  uint64_t length = read ? virtq_request->in_length : virtq_request->out_length;

  if (length == 0 || length > UINT32_MAX / 2 || !virtio_blk_place (request, sector, length)) {
    virtio_blk_complete (request, STATUS_IOERR);
    return;
  }
  request->io.op = op;
  request->io.iov = read ? virtq_request->in : virtq_request->out;
  request->io.n_iov = read ? virtq_request->n_in : virtq_request->n_out;
  request->read_bytes = read ? length : 0;
  tn_drive_submit (request->blk->drive, &request->io);
}

static void
virtio_blk_range (BlkRequest *request, uint8_t op)
{
  TnVirtqRequest *virtq_request = request->virtq_request;
  uint8_t raw[RANGE_SIZE];

  /* One range per request is what the configuration space allows. */
  if (virtq_request->out_length != RANGE_SIZE
      || tn_iov_take (&virtq_request->out, &virtq_request->n_out, raw, sizeof raw) != sizeof raw) {
    virtio_blk_complete (request, STATUS_UNSUPP);
    return;
  }
  uint64_t sector = tn_load_le64 (raw);
  uint32_t sectors = tn_load_le32 (raw + 8);
  uint32_t flags = tn_load_le32 (raw + 12);
  uint32_t allowed = op == TN_REQUEST_WRITE_ZEROES ? RANGE_UNMAP : 0;
  if ((flags & ~allowed) != 0) {
    virtio_blk_complete (request, STATUS_UNSUPP);
    return;
  }
  if (sectors > MAX_RANGE_SECTORS || !virtio_blk_place (request, sector, (uint64_t) sectors * SECTOR)) {
    virtio_blk_complete (request, STATUS_IOERR);
    return;
  }
  request->io.op = op;
  request->io.flags = (flags & RANGE_UNMAP) != 0 ? TN_REQUEST_MAY_UNMAP : 0;
  tn_drive_submit (request->blk->drive, &request->io);
}

static void
virtio_blk_identify (BlkRequest *request)
{
  const char *serial = request->blk->serial;
  request->read_bytes =
      tn_iov_fill (request->virtq_request->in, request->virtq_request->n_in, serial, ID_LENGTH);
  virtio_blk_complete (request, STATUS_OK);
}

static void
virtio_blk_handle (VirtioBlk *blk, TnVirtq *queue, TnVirtqRequest *virtq_request)
{
  BlkRequest *request = (BlkRequest *) virtq_request->private_data;
  uint8_t header[HEADER_SIZE];

  request->blk = blk;
  request->queue = queue;
  request->virtq_request = virtq_request;
  request->io.done = virtio_blk_done;
  request->io.opaque = request;
  request->status = virtio_blk_take_status (virtq_request);
  if (request->status == NULL
      || tn_iov_take (&virtq_request->out, &virtq_request->n_out, header, sizeof header) != sizeof header) {
    tn_virtio_broken (tn_virtio_of (blk->device), "a block request has no header or no status byte");
    tn_virtq_push (queue, virtq_request, 0);
    return;
  }
  virtq_request->out_length -= HEADER_SIZE;

  uint64_t sector = tn_load_le64 (header + 8);
  switch (tn_load_le32 (header)) {
  case REQUEST_IN:
    virtio_blk_transfer (request, TN_REQUEST_READ, sector);
    break;
  case REQUEST_OUT:
    virtio_blk_transfer (request, TN_REQUEST_WRITE, sector);
    break;
  case REQUEST_FLUSH:
    request->io.op = TN_REQUEST_FLUSH;
    tn_drive_submit (blk->drive, &request->io);
    break;
  case REQUEST_GET_ID:
    virtio_blk_identify (request);
    break;
  case REQUEST_DISCARD:
    virtio_blk_range (request, TN_REQUEST_DISCARD);
    break;
  case REQUEST_WRITE_ZEROES:
    virtio_blk_range (request, TN_REQUEST_WRITE_ZEROES);
    break;
  default:
    virtio_blk_complete (request, STATUS_UNSUPP);
  }
}

static void
virtio_blk_notify (TnDevice *device, unsigned index)
{
  VirtioBlk *blk = tn_device_state (device);
  TnVirtq *queue = tn_virtio_queue (tn_virtio_of (device), index);
  TnVirtqRequest *request;

  while ((request = tn_virtq_pop (queue)) != NULL)
    virtio_blk_handle (blk, queue, request);
  tn_virtq_notify (queue);
}

/* ---- Features and configuration ---- */

static uint64_t
virtio_blk_features (TnDevice *device)
{
  VirtioBlk *blk = tn_device_state (device);
  uint64_t features = 1ull << FEATURE_SEG_MAX | 1ull << FEATURE_BLK_SIZE | 1ull << FEATURE_FLUSH
                      | 1ull << FEATURE_TOPOLOGY | 1ull << FEATURE_CONFIG_WCE;

  if (blk->n_queues > 1)
    features |= 1ull << FEATURE_MQ;
  if (tn_drive_is_read_only (blk->drive))
    return features | 1ull << FEATURE_RO;
  features |= 1ull << FEATURE_WRITE_ZEROES;
  if (tn_drive_can_discard (blk->drive))
    features |= 1ull << FEATURE_DISCARD;
  return features;
}

static unsigned
virtio_blk_queues (TnDevice *device)
{
  VirtioBlk *blk = tn_device_state (device);
  return blk->n_queues;
}

static uint16_t
virtio_blk_queue_size (TnDevice *device, unsigned index)
{
  VirtioBlk *blk = tn_device_state (device);
  return blk->queue_size;
}

static void
virtio_blk_config_fill (VirtioBlk *blk, uint8_t *config)
{
  uint64_t unit = blk->block_size / SECTOR;
  /* The guest sees whole blocks only. */
  uint64_t capacity = tn_drive_size (blk->drive) / blk->block_size * unit;

  memset (config, 0, CONFIG_SIZE);
  tn_store_le64 (config, capacity);
  tn_store_le32 (config + 12, blk->queue_size - SEGMENTS_BESIDE_DATA);
  tn_store_le32 (config + 20, blk->block_size);
  tn_store_le16 (config + 26, 1); /* smallest good transfer, in blocks */
  config[CONFIG_WRITEBACK] = tn_drive_write_cache (blk->drive);
  tn_store_le16 (config + 34, blk->n_queues);
  tn_store_le32 (config + 36, MAX_RANGE_SECTORS);
  tn_store_le32 (config + 40, 1);
  tn_store_le32 (config + 44, unit);
  tn_store_le32 (config + 48, MAX_RANGE_SECTORS);
  tn_store_le32 (config + 52, 1);
  config[56] = 1; /* write-zeroes may unmap */
}

static void
virtio_blk_config_read (TnDevice *device, uint32_t offset, void *data, uint32_t length)
{
  uint8_t config[CONFIG_SIZE];
  virtio_blk_config_fill (tn_device_state (device), config);
  memcpy (data, config + offset, length);
}

static void
virtio_blk_config_write (TnDevice *device, uint32_t offset, const void *data, uint32_t length)
{
  VirtioBlk *blk = tn_device_state (device);
  if (offset == CONFIG_WRITEBACK && length == 1 && (blk->features & (1ull << FEATURE_CONFIG_WCE)) != 0)
    tn_drive_set_write_cache (blk->drive, (*(const uint8_t *) data & 1) != 0);
}

static void
virtio_blk_start (TnDevice *device, uint64_t features)
{
  VirtioBlk *blk = tn_device_state (device);
  blk->features = features;
  /* A driver that can neither flush nor switch the cache off must not lose what it has written. */
  if ((features & (1ull << FEATURE_CONFIG_WCE)) == 0)
    tn_drive_set_write_cache (blk->drive, (features & (1ull << FEATURE_FLUSH)) != 0 && blk->wce_default);
}

static void
virtio_blk_resized (void *opaque)
{
  VirtioBlk *blk = opaque;
  TnVirtio *virtio = tn_virtio_of (blk->device);
  if (virtio != NULL)
    tn_virtio_config_changed (virtio);
}

/* ---- Life ---- */

static int
virtio_blk_check_sizes (VirtioBlk *blk, const TnOptions *options, GError **error)
{
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
  blk->n_queues = queues != 0 ? queues : MIN (tn_device_cpu_count (blk->device), 16u);
  return 0;
}

static int
virtio_blk_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  VirtioBlk *blk = tn_device_state (device);
  blk->device = device;

  int result = virtio_blk_check_sizes (blk, options, error);
  if (result < 0)
    return result;
  blk->drive = tn_device_drive (device, tn_options_get (options, "drive"), error);
  if (blk->drive == NULL)
    return -ENOENT;

  const char *serial = tn_options_get (options, "serial");
  if (serial != NULL && strlen (serial) > ID_LENGTH)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "virtio-blk: serial '%s' is longer than %d characters",
                    serial, ID_LENGTH);
  if (serial != NULL)
    memcpy (blk->serial, serial, strlen (serial));
  blk->wce_default = tn_drive_write_cache (blk->drive);
  tn_drive_on_resize (blk->drive, virtio_blk_resized, blk);
  return 0;
}

static void
virtio_blk_unrealize (TnDevice *device)
{
  VirtioBlk *blk = tn_device_state (device);
  if (blk->drive != NULL)
    tn_drive_on_resize (blk->drive, NULL, NULL);
}

static void
virtio_blk_reset (TnDevice *device)
{
  VirtioBlk *blk = tn_device_state (device);
  blk->features = 0;
  if (blk->drive != NULL)
    tn_drive_set_write_cache (blk->drive, blk->wce_default);
}

static void
virtio_blk_quiesce (TnDevice *device)
{
  VirtioBlk *blk = tn_device_state (device);
  if (blk->drive != NULL)
    tn_drive_drain (blk->drive);
}

static const TnVirtioDeviceOps virtio_blk_bus_ops = {
  .size = sizeof (TnVirtioDeviceOps),
  .device_id = DEVICE_ID,
  .features = virtio_blk_features,
  .queues = virtio_blk_queues,
  .queue_size = virtio_blk_queue_size,
  .config_size = CONFIG_SIZE,
  .config_read = virtio_blk_config_read,
  .config_write = virtio_blk_config_write,
  .start = virtio_blk_start,
  .notify = virtio_blk_notify,
};

static const TnDeviceOps virtio_blk_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (VirtioBlk),
  .bus = "virtio",
  .bus_ops = &virtio_blk_bus_ops,
  .realize = virtio_blk_realize,
  .unrealize = virtio_blk_unrealize,
  .reset = virtio_blk_reset,
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
