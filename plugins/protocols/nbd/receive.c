/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replies: every one is checked against the call that it claims to answer. */
#include "client.h"

#define MAX_SEGMENTS 16
/* Errors, holes and runs of block status come whole into the buffer. */
#define MAX_SMALL (NBD_RX_SIZE - NBD_EXTENDED_REPLY_SIZE)
/* How much is taken before other work has its turn. */
#define TURNS 8

static size_t
available (const NbdReceiver *rx)
{
  return rx->end - rx->start;
}

static const uint8_t *
at (const NbdReceiver *rx)
{
  return rx->buffer + rx->start;
}

/* ---- Data of reads ---- */

/* The parts of the call's buffers where the next bytes belong. */
static unsigned
data_segments (const NbdReceiver *rx, struct iovec *iov)
{
  const TnRequest *request = rx->data->request;
  uint64_t skip = rx->data_at, left = rx->data_left;
  unsigned n = 0;
  for (uint32_t i = 0; i < request->n_iov && left && n < MAX_SEGMENTS; i++) {
    const struct iovec *part = &request->iov[i];
    if (skip >= part->iov_len) {
      skip -= part->iov_len;
      continue;
    }
    const size_t length = (size_t) MIN (part->iov_len - skip, left);
    iov[n++] = (struct iovec){ (uint8_t *) part->iov_base + skip, length };
    left -= length;
    skip = 0;
  }
  return n;
}

static void
data_arrived (NbdReceiver *rx, size_t length)
{
  rx->data_at += length;
  rx->data_left -= length;
}

static void
copy_data (NbdReceiver *rx)
{
  struct iovec iov[MAX_SEGMENTS];
  while (rx->data_left && available (rx)) {
    const unsigned n = data_segments (rx, iov);
    for (unsigned i = 0; i < n && available (rx); i++) {
      const size_t length = MIN (iov[i].iov_len, available (rx));
      memcpy (iov[i].iov_base, at (rx), length);
      rx->start += length;
      data_arrived (rx, length);
    }
  }
}

static void
zero_data (NbdCall *call, uint64_t from, uint64_t length)
{
  NbdReceiver target = { .data = call, .data_at = from, .data_left = length };
  struct iovec iov[MAX_SEGMENTS];
  while (target.data_left) {
    const unsigned n = data_segments (&target, iov);
    for (unsigned i = 0; i < n; i++) {
      memset (iov[i].iov_base, 0, iov[i].iov_len);
      data_arrived (&target, iov[i].iov_len);
    }
  }
}

/* ---- The end of a reply ---- */

/* False: the server left something out. */
static bool
finish (NbdLine *line, unsigned slot)
{
  NbdCall *call = line->slots[slot].call;
  const bool whole =
      call->result < 0 || call->header.type != NBD_CMD_READ || call->covered == call->header.length;
  const bool answered = call->result < 0 || !call->runs || call->answered;
  if (!whole || !answered)
    return false;
  nbd_line_end_call (line, slot);
  return true;
}

/* ---- Chunks ---- */

static NbdCall *
find_call (NbdLine *line, uint64_t cookie, unsigned *slot)
{
  *slot = (unsigned) (cookie & 0xff);
  if (*slot >= NBD_SLOTS || line->slots[*slot].uses != cookie >> 8)
    return NULL;
  NbdCall *call = line->slots[*slot].call;
  /* One that has not been sent in full cannot have been answered. */
  for (const NbdCall *unsent = line->sending; unsent && call; unsent = unsent->next)
    if (unsent == call)
      return NULL;
  return call;
}

/* A part of what a read asked for, which is accounted for only once. */
static bool
cover (NbdCall *call, uint64_t offset, uint64_t length)
{
  const NbdRequestHeader *header = &call->header;
  if (header->type != NBD_CMD_READ || length == 0 || offset < header->offset
      || offset - header->offset > header->length || length > header->length - (offset - header->offset)
      || length > header->length - call->covered)
    return false;
  call->covered += length;
  return true;
}

static bool
take_hole (NbdCall *call, const uint8_t *payload, uint64_t length)
{
  if (length != 12)
    return false;
  const uint64_t offset = tn_load_be64 (payload), size = tn_load_be32 (payload + 8);
  if (!cover (call, offset, size))
    return false;
  zero_data (call, offset - call->header.offset, size);
  return true;
}

static bool
take_error (NbdCall *call, const NbdChunkHeader *chunk, const uint8_t *payload)
{
  const unsigned fixed = chunk->type == NBD_REPLY_ERROR_OFFSET ? 14 : 6;
  if (chunk->length < fixed || tn_load_be16 (payload + 4) > chunk->length - fixed
      || tn_load_be32 (payload) == 0)
    return false;
  call->result = -nbd_error_to_errno (tn_load_be32 (payload));
  return true;
}

static bool
add_runs (NbdCall *call, const uint8_t *entry, uint64_t bytes, bool wide)
{
  const unsigned size = wide ? 16 : 8;
  uint64_t total = 0;
  if (bytes == 0 || bytes % size || call->answered)
    return false;
  for (; bytes; bytes -= size, entry += size) {
    const NbdStatusRun run = { wide ? tn_load_be64 (entry) : tn_load_be32 (entry),
                               wide ? tn_load_be64 (entry + 8) : tn_load_be32 (entry + 4) };
    if (run.length == 0 || run.length > INT64_MAX - total)
      return false;
    total += run.length;
    g_array_append_val (call->runs, run);
  }
  call->answered = true;
  return true;
}

static bool
take_status (NbdLine *line, NbdCall *call, const NbdChunkHeader *chunk, const uint8_t *payload)
{
  const bool wide = chunk->type == NBD_REPLY_BLOCK_STATUS_EXT;
  const unsigned fixed = wide ? 8 : 4;
  if (!call->runs || chunk->length < fixed || wide != line->client->offer.extended)
    return false;
  const uint32_t id = tn_load_be32 (payload);
  const NbdOffer *offer = &line->client->offer;
  if (offer->has_bitmap ? id == line->bitmap_id : id == line->allocation_id)
    return add_runs (call, payload + fixed, chunk->length - fixed, wide);
  return offer->has_bitmap && id == line->allocation_id;
}

/* A chunk that is in the buffer as a whole. */
static bool
take_small (NbdLine *line, NbdCall *call, const NbdChunkHeader *chunk, const uint8_t *payload)
{
  switch (chunk->type) {
  case NBD_REPLY_NONE:
    return chunk->length == 0 && (chunk->flags & NBD_REPLY_FLAG_DONE);
  case NBD_REPLY_OFFSET_HOLE:
    return take_hole (call, payload, chunk->length);
  case NBD_REPLY_BLOCK_STATUS:
  case NBD_REPLY_BLOCK_STATUS_EXT:
    return take_status (line, call, chunk, payload);
  case NBD_REPLY_ERROR:
  case NBD_REPLY_ERROR_OFFSET:
    return take_error (call, chunk, payload);
  default:
    /* Errors of kinds yet to be invented are errors all the same. */
    return (chunk->type & 0x8000) && chunk->length >= 6 && take_error (call, chunk, payload);
  }
}

typedef enum Taken { TAKEN, MORE_NEEDED, MALFORMED } Taken;

static Taken
begin_data (NbdLine *line, NbdCall *call, unsigned slot, const NbdChunkHeader *chunk, size_t head)
{
  NbdReceiver *rx = &line->rx;
  if (chunk->length <= 8)
    return MALFORMED;
  if (available (rx) < head + 8)
    return MORE_NEEDED;
  const uint64_t offset = tn_load_be64 (at (rx) + head);
  if (!cover (call, offset, chunk->length - 8))
    return MALFORMED;
  rx->start += head + 8;
  rx->data = call;
  rx->slot = (int) slot;
  rx->data_at = offset - call->header.offset;
  rx->data_left = chunk->length - 8;
  rx->data_last = chunk->flags & NBD_REPLY_FLAG_DONE;
  return TAKEN;
}

static Taken
take_chunk (NbdLine *line)
{
  NbdReceiver *rx = &line->rx;
  const size_t head = nbd_chunk_size (line->client->offer.extended);
  NbdChunkHeader chunk;
  unsigned slot;
  if (available (rx) < head)
    return MORE_NEEDED;
  nbd_get_chunk (at (rx), line->client->offer.extended, &chunk);
  NbdCall *call = find_call (line, chunk.cookie, &slot);
  if (!call)
    return MALFORMED;
  if (chunk.type == NBD_REPLY_OFFSET_DATA)
    return begin_data (line, call, slot, &chunk, head);
  if (chunk.length > MAX_SMALL)
    return MALFORMED;
  if (available (rx) < head + chunk.length)
    return MORE_NEEDED;
  if (!take_small (line, call, &chunk, at (rx) + head))
    return MALFORMED;
  rx->start += head + chunk.length;
  if (chunk.flags & NBD_REPLY_FLAG_DONE)
    return finish (line, slot) ? TAKEN : MALFORMED;
  return TAKEN;
}

static Taken
take_simple (NbdLine *line)
{
  NbdReceiver *rx = &line->rx;
  unsigned slot;
  if (available (rx) < NBD_SIMPLE_REPLY_SIZE)
    return MORE_NEEDED;
  const uint32_t error = tn_load_be32 (at (rx) + 4);
  NbdCall *call = find_call (line, tn_load_be64 (at (rx) + 8), &slot);
  const bool has_data = call && call->header.type == NBD_CMD_READ && error == 0;
  if (!call || (line->client->offer.structured && (has_data || call->runs)) || (call->runs && error == 0)
      || call->covered)
    return MALFORMED;
  rx->start += NBD_SIMPLE_REPLY_SIZE;
  call->result = error ? -nbd_error_to_errno (error) : 0;
  if (!has_data)
    return finish (line, slot) ? TAKEN : MALFORMED;
  call->covered = call->header.length;
  rx->data = call;
  rx->slot = (int) slot;
  rx->data_at = 0;
  rx->data_left = call->header.length;
  rx->data_last = true;
  return TAKEN;
}

static Taken
take_reply (NbdLine *line)
{
  NbdReceiver *rx = &line->rx;
  if (available (rx) < 4)
    return MORE_NEEDED;
  const uint32_t magic = tn_load_be32 (at (rx));
  if (magic == NBD_SIMPLE_REPLY_MAGIC && !line->client->offer.extended)
    return take_simple (line);
  if (magic == (line->client->offer.extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC)
      && line->client->offer.structured)
    return take_chunk (line);
  return MALFORMED;
}

static Taken
take_data (NbdLine *line)
{
  NbdReceiver *rx = &line->rx;
  copy_data (rx);
  if (rx->data_left)
    return MORE_NEEDED;
  rx->data = NULL;
  if (rx->data_last && !finish (line, (unsigned) rx->slot))
    return MALFORMED;
  return TAKEN;
}

/* ---- From the channel ---- */

static ssize_t
fill (NbdLine *line, size_t *wanted)
{
  NbdReceiver *rx = &line->rx;
  struct iovec iov[MAX_SEGMENTS + 1];
  unsigned n = 0;
  size_t direct = 0;
  if (rx->start && available (rx))
    memmove (rx->buffer, at (rx), available (rx));
  rx->end -= rx->start;
  rx->start = 0;
  if (rx->data)
    n = data_segments (rx, iov);
  for (unsigned i = 0; i < n; i++)
    direct += iov[i].iov_len;
  /* What follows the data may come with it, if all of the data does. */
  if (!rx->data || direct == rx->data_left)
    iov[n++] = (struct iovec){ rx->buffer + rx->end, NBD_RX_SIZE - rx->end };
  *wanted = direct + (!rx->data || direct == rx->data_left ? NBD_RX_SIZE - rx->end : 0);
  const ssize_t got = nbd_channel_receive (&line->channel, iov, n);
  if (got <= 0)
    return got;
  const size_t taken = MIN ((size_t) got, direct);
  if (taken)
    data_arrived (rx, taken);
  rx->end += (size_t) got - taken;
  return got;
}

static bool
handle (NbdLine *line)
{
  Taken taken;
  do
    taken = line->rx.data ? take_data (line) : take_reply (line);
  while (taken == TAKEN && line->link == NBD_LINK_UP);
  return taken != MALFORMED;
}

bool
nbd_receive (NbdLine *line, bool *broken)
{
  size_t wanted = 0;
  /* What has been decrypted already wakes nobody. */
  for (unsigned turn = 0; turn < TURNS || nbd_channel_pending (&line->channel); turn++) {
    const ssize_t got = fill (line, &wanted);
    if (got == -EAGAIN)
      return true;
    if (got <= 0)
      return false;
    if (!handle (line)) {
      *broken = true;
      return false;
    }
    if ((size_t) got < wanted && !nbd_channel_pending (&line->channel))
      return true;
  }
  return true;
}
