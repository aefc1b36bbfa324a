/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Encrypted extents.  A read lands in the caller's memory and is decrypted there; what is not in whole
 * sectors, in the request or in its vector, takes a buffer.  A write is encrypted into a buffer.
 */
#include "block/crypt.h"

#include <stdlib.h>

#define WORTH_A_WORKER (128u << 10) /* shorter ones are done at once */
#define MAX_BUFFERED (8u << 20)     /* of one write */

void
tn_node_set_cipher (TnNode *node, TnSectorCipher *cipher, uint32_t flags)
{
  tn_sector_cipher_free (node->cipher);
  node->cipher = cipher;
  node->cipher_by_place = flags & TN_NODE_CIPHER_BY_PLACE;
}

int
tn_crypt_check (TnNode *node, const TnExtent *extent, GError **error)
{
  if (!node->cipher)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "%s: its data is encrypted, and it was opened without a key: add key-secret=ID",
                    tn_node_filename (node));
  uint32_t sector = tn_sector_cipher_sector_size (node->cipher);
  if (extent->offset % sector == 0 && extent->source_offset % sector == extent->offset % sector)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EIO,
                  "%s: encrypted data at %" G_GUINT64_FORMAT " is not in whole sectors of %u bytes",
                  tn_node_filename (node), extent->source_offset, sector);
}

uint64_t
tn_crypt_place (TnNode *node, const TnExtent *extent, uint64_t offset)
{
  return node->cipher_by_place ? extent->source_offset + (offset - extent->offset) : offset;
}

/* ---- Runs of sectors, here or on a worker ---- */

typedef struct Work {
  const TnSectorCipher *cipher;
  uint64_t place;
  const char *in;
  char *out;
  size_t length;
} Work;

static void
decrypt_work (void *opaque)
{
  const Work *work = opaque;
  tn_sector_cipher_decrypt (work->cipher, work->place, work->in, work->out, work->length);
}

static void
encrypt_work (void *opaque)
{
  const Work *work = opaque;
  tn_sector_cipher_encrypt (work->cipher, work->place, work->in, work->out, work->length);
}

static void
run (void (*work) (void *opaque), Work *what)
{
  if (what->length >= WORTH_A_WORKER)
    tn_co_work (work, what);
  else
    work (what);
}

/* ---- Reading ---- */

typedef struct Piece {
  TnNode *node;
  const TnData *data;
  uint64_t offset, length; /* in @data */
  uint64_t place;          /* of the buffer's or the piece's first sector */
  char *buffer;            /* NULL: the caller's memory */
  size_t buffer_length, skip;
} Piece;

static bool
has_whole_sectors (const struct iovec *iov, unsigned n, uint32_t sector)
{
  for (unsigned i = 0; i < n; i++)
    if (iov[i].iov_len % sector)
      return false;
  return true;
}

static bool
fits_in_place (const TnData *data, uint64_t offset, uint64_t length, uint32_t sector)
{
  g_autofree struct iovec *part = g_try_new (struct iovec, data->n_iov);
  if (!part)
    return false;
  return has_whole_sectors (part, tn_iov_slice (data->iov, data->n_iov, offset - data->base, length, part),
                            sector);
}

static int
read_buffered (Piece *piece, TnBatch *batch, const TnResolved *resolved, uint32_t sector)
{
  piece->skip = resolved->place % sector;
  piece->place = resolved->place - piece->skip;
  piece->buffer_length = tn_round_up (piece->skip + resolved->length, sector);
  piece->buffer = tn_buffer_new (piece->buffer_length);
  if (!piece->buffer)
    return -ENOMEM;
  struct iovec iov = { piece->buffer, piece->buffer_length };
  tn_batch_submit (batch, resolved->node, TN_REQUEST_READ, resolved->offset - piece->skip, &iov, 1, 0,
                   piece->buffer_length, 0);
  return 0;
}

int
tn_crypt_read (TnCryptReads *reads, TnBatch *batch, const TnResolved *resolved, const TnData *data,
               uint64_t offset)
{
  uint32_t sector = tn_sector_cipher_sector_size (resolved->crypt->cipher);
  Piece piece = { .node = resolved->crypt,
                  .data = data,
                  .offset = offset,
                  .length = resolved->length,
                  .place = resolved->place };
  int rc = 0;
  bool whole = resolved->place % sector == 0 && resolved->length % sector == 0;
  if (whole && fits_in_place (data, offset, resolved->length, sector))
    tn_batch_transfer (batch, resolved->node, TN_REQUEST_READ, resolved->offset, data, offset,
                       resolved->length);
  else
    rc = read_buffered (&piece, batch, resolved, sector);
  if (rc)
    return rc;
  if (!reads->pieces)
    reads->pieces = g_array_new (FALSE, FALSE, sizeof (Piece));
  g_array_append_val (reads->pieces, piece);
  return 0;
}

static void
decrypt_buffer (const Piece *piece)
{
  Work work = { piece->node->cipher, piece->place, piece->buffer, piece->buffer, piece->buffer_length };
  run (decrypt_work, &work);
  tn_iov_from_buffer (piece->data->iov, piece->data->n_iov, piece->offset - piece->data->base,
                      piece->buffer + piece->skip, piece->length);
}

static void
decrypt_in_place (const Piece *piece)
{
  const TnData *data = piece->data;
  g_autofree struct iovec *part = g_new (struct iovec, data->n_iov);
  unsigned n = tn_iov_slice (data->iov, data->n_iov, piece->offset - data->base, piece->length, part);
  uint64_t place = piece->place;
  for (unsigned i = 0; i < n; i++) {
    Work work = { piece->node->cipher, place, part[i].iov_base, part[i].iov_base, part[i].iov_len };
    run (decrypt_work, &work);
    place += part[i].iov_len;
  }
}

void
tn_crypt_reads_end (TnCryptReads *reads, int result)
{
  for (guint i = 0; reads->pieces && i < reads->pieces->len; i++) {
    Piece *piece = &g_array_index (reads->pieces, Piece, i);
    if (!result && piece->buffer)
      decrypt_buffer (piece);
    else if (!result)
      decrypt_in_place (piece);
    free (piece->buffer);
  }
  g_clear_pointer (&reads->pieces, g_array_unref);
}

/* ---- Writing ---- */

char *
tn_crypt_buffer (TnCryptWrites *writes, TnBatch *batch, size_t length)
{
  if (!writes->buffers)
    writes->buffers = g_ptr_array_new_with_free_func (free);
  if (writes->bytes + length > MAX_BUFFERED) {
    tn_batch_wait (batch);
    g_ptr_array_set_size (writes->buffers, 0);
    writes->bytes = 0;
  }
  char *buffer = tn_buffer_new (length);
  if (!buffer)
    return NULL;
  g_ptr_array_add (writes->buffers, buffer);
  writes->bytes += length;
  return buffer;
}

void
tn_crypt_writes_end (TnCryptWrites *writes)
{
  g_clear_pointer (&writes->buffers, g_ptr_array_unref);
}

static void
submit (TnBatch *batch, TnNode *source, uint64_t source_offset, char *buffer, size_t length)
{
  struct iovec iov = { buffer, length };
  tn_batch_submit (batch, source, TN_REQUEST_WRITE, source_offset, &iov, 1, 0, length, 0);
}

void
tn_crypt_store (TnNode *node, TnBatch *batch, TnNode *source, uint64_t source_offset, uint64_t place,
                char *buffer, size_t length)
{
  Work work = { node->cipher, place, buffer, buffer, length };
  run (encrypt_work, &work);
  submit (batch, source, source_offset, buffer, length);
}

/* The caller's bytes where they are one run, else a copy of them in @buffer. */
static const char *
gather (const TnData *data, uint64_t offset, size_t length, char *buffer)
{
  struct iovec part[1];
  uint64_t skip = offset - data->base;
  if (data->n_iov == 1 && tn_iov_slice (data->iov, 1, skip, length, part) == 1)
    return part[0].iov_base;
  tn_iov_to_buffer (data->iov, data->n_iov, skip, buffer, length);
  return buffer;
}

/* Only the last sector of a disk may be given in part. */
static int
write_chunk (TnCryptWrites *writes, TnBatch *batch, TnNode *node, const TnExtent *extent, const TnData *data,
             uint64_t offset, size_t length)
{
  uint32_t sector = tn_sector_cipher_sector_size (node->cipher);
  size_t whole = tn_round_up (length, sector);
  char *buffer = tn_crypt_buffer (writes, batch, whole);
  if (!buffer)
    return -ENOMEM;
  Work work = { node->cipher, tn_crypt_place (node, extent, offset), buffer, buffer, whole };
  if (whole == length) {
    work.in = gather (data, offset, length, buffer);
  } else {
    tn_iov_to_buffer (data->iov, data->n_iov, offset - data->base, buffer, length);
    memset (buffer + length, 0, whole - length);
  }
  run (encrypt_work, &work);
  submit (batch, extent->source, extent->source_offset + (offset - extent->offset), buffer, whole);
  return 0;
}

int
tn_crypt_write (TnCryptWrites *writes, TnBatch *batch, TnNode *node, const TnExtent *extent,
                const TnData *data, uint64_t offset, uint64_t length)
{
  int rc = 0;
  while (length && !rc && !batch->result) {
    size_t step = MIN (length, TN_CHUNK);
    rc = write_chunk (writes, batch, node, extent, data, offset, step);
    offset += step;
    length -= step;
  }
  return rc;
}

/* ---- Sectors in part ---- */

bool
tn_crypt_splits_sector (TnNode *node, uint64_t offset, uint64_t length)
{
  if (G_LIKELY (!node->cipher))
    return false;
  uint32_t sector = tn_sector_cipher_sector_size (node->cipher);
  uint64_t end = offset + length;
  return offset % sector || (end % sector && end != tn_node_size_now (node));
}

/* Completes one sector with what it holds. */
static int
write_in_sector (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  char bytes[4096];
  uint64_t start = tn_round_down (offset, tn_sector_cipher_sector_size (node->cipher));
  uint64_t end = MIN (start + tn_sector_cipher_sector_size (node->cipher), tn_node_size_now (node));
  struct iovec iov = { bytes, end - start };
  TnData whole = { &iov, 1, start };
  int rc = tn_route_read (node, &whole, start, end - start, error);
  if (rc)
    return rc;
  tn_iov_to_buffer (data->iov, data->n_iov, offset - data->base, bytes + (offset - start), length);
  return tn_route_write (node, &whole, start, end - start, error);
}

int
tn_crypt_write_parts (TnNode *node, const TnData *data, uint64_t offset, uint64_t length, GError **error)
{
  uint32_t sector = tn_sector_cipher_sector_size (node->cipher);
  uint64_t end = offset + length;
  while (offset < end) {
    uint64_t whole_end = end == tn_node_size_now (node) ? end : tn_round_down (end, sector), next;
    int rc;
    if (offset % sector || whole_end <= offset) {
      next = MIN (tn_round_down (offset, sector) + sector, end);
      rc = write_in_sector (node, data, offset, next - offset, error);
    } else {
      next = whole_end;
      rc = tn_route_write (node, data, offset, next - offset, error);
    }
    if (rc)
      return rc;
    offset = next;
  }
  return 0;
}
