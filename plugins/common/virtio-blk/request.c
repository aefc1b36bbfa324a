/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests: VIRTIO 1.2, section 5.2.6. */
#include "virtio-blk.h"

enum {
  HEADER_SIZE = 16,
  RANGE_SIZE = 16,

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
};

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
  if (length % VIRTIO_BLK_SECTOR != 0 || sector > UINT64_MAX / VIRTIO_BLK_SECTOR - length / VIRTIO_BLK_SECTOR)
    return false;
  request->io.offset = sector * VIRTIO_BLK_SECTOR;
  request->io.length = length;
  return true;
}

static void
virtio_blk_transfer (BlkRequest *request, uint8_t op, uint64_t sector)
{
  TnVirtqRequest *virtq_request = request->virtq_request;
  bool read = op == TN_REQUEST_READ;
  uint64_t length = read ? virtq_request->in_length : virtq_request->out_length;

  if (!read && request->blk->read_only) {
    virtio_blk_complete (request, STATUS_IOERR);
    return;
  }
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
  if (request->blk->read_only || sectors > VIRTIO_BLK_MAX_RANGE
      || !virtio_blk_place (request, sector, (uint64_t) sectors * VIRTIO_BLK_SECTOR)) {
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
      tn_iov_fill (request->virtq_request->in, request->virtq_request->n_in, serial, VIRTIO_BLK_ID_LENGTH);
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
    blk->broken (blk->opaque, "a block request has no header or no status byte");
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

void
virtio_blk_serve (VirtioBlk *blk, TnVirtq *queue)
{
  TnVirtqRequest *request;

  while ((request = tn_virtq_pop (queue)) != NULL)
    virtio_blk_handle (blk, queue, request);
  tn_virtq_notify (queue);
}
