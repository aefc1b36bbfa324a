/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Split virtqueues, device side: VIRTIO 1.2, sections 2.6 and 2.7. */
#include <stdatomic.h>

#include "machine/virtq.h"

enum {
  DESC_NEXT = 1,
  DESC_WRITE = 2,
  DESC_INDIRECT = 4,
  AVAIL_NO_INTERRUPT = 1,
  USED_NO_NOTIFY = 1,
  DESC_SIZE = 16,
};

typedef struct GuestRange {
  uint64_t address, length;
} GuestRange;

/* What the queue keeps about a request beside what the device sees. */
typedef struct VirtqEntry {
  TnVirtqRequest request;
  struct iovec *segments;
  GuestRange *ranges; /* where each segment lies in the guest; the device may change the segments */
  uint16_t first_in, n_in;
  uint16_t capacity;
  struct VirtqEntry *next_free;
} VirtqEntry;

typedef struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
} Descriptor;

static VirtqEntry *
virtq_entry_of (TnVirtqRequest *request)
{
  return (VirtqEntry *) ((char *) request - offsetof (VirtqEntry, request));
}

/* Ring fields are shared with running vCPUs, so every access is atomic and happens once. */
static uint16_t
ring_load (const uint16_t *field)
{
  return GUINT16_FROM_LE (__atomic_load_n (field, __ATOMIC_ACQUIRE));
}

static void
ring_store (uint16_t *field, uint16_t value)
{
  __atomic_store_n (field, GUINT16_TO_LE (value), __ATOMIC_RELEASE);
}

static uint16_t *
used_event (TnVirtq *queue)
{
  return (uint16_t *) (queue->available + 4 + 2 * (size_t) queue->size);
}

static uint16_t *
available_event (TnVirtq *queue)
{
  return (uint16_t *) (queue->used + 4 + 8 * (size_t) queue->size);
}

bool
tn_virtq_enable (TnVirtq *queue, TnSpace *space, uint16_t size, uint64_t descriptors, uint64_t available,
                 uint64_t used)
{
  if (size == 0 || size > queue->max || (size & (size - 1)) != 0)
    return false;
  if ((descriptors & 15) != 0 || (available & 1) != 0 || (used & 3) != 0)
    return false;

  uint64_t used_bytes = 6 + 8 * (uint64_t) size;
  const void *desc_host = tn_space_dma_map (space, descriptors, DESC_SIZE * (uint64_t) size, false);
  void *avail_host = tn_space_dma_map (space, available, 6 + 2 * (uint64_t) size, false);
  void *used_host = tn_space_dma_map (space, used, used_bytes, true);
  if (desc_host == NULL || avail_host == NULL || used_host == NULL)
    return false;

  queue->space = space;
  queue->size = size;
  queue->descriptors = desc_host;
  queue->available = avail_host;
  queue->used = used_host;
  queue->used_address = used;
  queue->last_available = 0;
  queue->used_index = 0;
  queue->signalled = 0;
  queue->signalled_valid = false;
  queue->ready = true;
  return true;
}

void
tn_virtq_disable (TnVirtq *queue)
{
  queue->ready = false;
  queue->descriptors = NULL;
  queue->available = NULL;
  queue->used = NULL;
}

void
tn_virtq_destroy (TnVirtq *queue)
{
  VirtqEntry *entry = queue->free;
  while (entry != NULL) {
    VirtqEntry *next = entry->next_free;
    g_free (entry->segments);
    g_free (entry->ranges);
    g_free (entry);
    entry = next;
  }
  queue->free = NULL;
}

static VirtqEntry *
virtq_entry_take (TnVirtq *queue)
{
  VirtqEntry *entry = queue->free;
  if (entry == NULL)
    return g_new0 (VirtqEntry, 1);
  queue->free = entry->next_free;
  memset (entry->request.private_data, 0, sizeof entry->request.private_data);
  return entry;
}

static void
virtq_entry_release (TnVirtq *queue, VirtqEntry *entry)
{
  entry->next_free = queue->free;
  queue->free = entry;
}

static bool
virtq_entry_grow (VirtqEntry *entry)
{
  if (entry->capacity == TN_VIRTIO_SG_MAX)
    return false;
  entry->capacity = entry->capacity == 0 ? 16 : MIN (entry->capacity * 4, TN_VIRTIO_SG_MAX);
  entry->segments = g_renew (struct iovec, entry->segments, entry->capacity);
  entry->ranges = g_renew (GuestRange, entry->ranges, entry->capacity);
  return true;
}

/* Adds one descriptor's buffer, split where guest memory is not contiguous on the host. */
static const char *
virtq_entry_add (TnVirtq *queue, VirtqEntry *entry, unsigned *n, const Descriptor *descriptor)
{
  bool write = (descriptor->flags & DESC_WRITE) != 0;
  uint64_t address = descriptor->address;
  uint64_t left = descriptor->length;

  while (left > 0) {
    TnRamSpan span;
    if (!tn_space_ram (queue->space, address, &span) || (write && !span.writable))
      return "a descriptor points outside RAM";
    if (*n == entry->capacity && !virtq_entry_grow (entry))
      return "a request has too many segments";
    uint64_t run = MIN (left, span.length);
    entry->segments[*n] = (struct iovec){ span.host, run };
    entry->ranges[*n] = (GuestRange){ address, run };
    *n += 1;
    address += run;
    left -= run;
  }
  return NULL;
}

static Descriptor
descriptor_read (const uint8_t *table, unsigned index)
{
  uint8_t raw[DESC_SIZE];
  /* A copy: the guest may change the table while it is being checked. */
  memcpy (raw, table + (size_t) index * DESC_SIZE, DESC_SIZE);
  return (Descriptor){ tn_load_le64 (raw), tn_load_le32 (raw + 8), tn_load_le16 (raw + 12),
                       tn_load_le16 (raw + 14) };
}

static const char *
virtq_walk (TnVirtq *queue, VirtqEntry *entry, unsigned head)
{
  const uint8_t *table = queue->descriptors;
  unsigned entries = queue->size;
  unsigned index = head, n = 0, seen = 0;
  bool indirect = false;
  uint64_t lengths[2] = { 0, 0 };

  entry->request.n_out = 0;
  for (;;) {
    Descriptor descriptor = descriptor_read (table, index);

    if ((descriptor.flags & DESC_INDIRECT) != 0) {
      if (indirect || !queue->indirect_allowed || (descriptor.flags & DESC_NEXT) != 0)
        return "an indirect descriptor stands where none may";
      if (descriptor.length == 0 || descriptor.length % DESC_SIZE != 0
          || descriptor.length / DESC_SIZE > TN_VIRTIO_SG_MAX)
        return "an indirect table has a wrong length";
      table = tn_space_dma_map (queue->space, descriptor.address, descriptor.length, false);
      if (table == NULL)
        return "an indirect table lies outside RAM";
      entries = descriptor.length / DESC_SIZE;
      index = 0;
      seen = 0;
      indirect = true;
      continue;
    }

    /* More steps than entries means a loop in the chain. */
    if (++seen > entries)
      return "a descriptor chain is a loop";
    bool write = (descriptor.flags & DESC_WRITE) != 0;
    if (!write && lengths[1] > 0)
      return "a descriptor to read follows one to write";
    const char *fault = virtq_entry_add (queue, entry, &n, &descriptor);
    if (fault != NULL)
      return fault;
    lengths[write] += descriptor.length;
    if (!write)
      entry->request.n_out = n;

    if ((descriptor.flags & DESC_NEXT) == 0)
      break;
    if (descriptor.next >= entries)
      return "a descriptor's successor lies outside its table";
    index = descriptor.next;
  }

  TnVirtqRequest *request = &entry->request;
  request->size = sizeof *request;
  request->head = head;
  request->n_in = n - request->n_out;
  request->out = entry->segments;
  request->in = request->n_in > 0 ? entry->segments + request->n_out : NULL;
  request->out_length = lengths[0];
  request->in_length = lengths[1];
  entry->first_in = request->n_out;
  entry->n_in = request->n_in;
  return NULL;
}

/* Tells the guest to notify us of what comes next; true when something has come meanwhile. */
static bool
virtq_arm (TnVirtq *queue)
{
  if (queue->event_index)
    ring_store (available_event (queue), queue->last_available);
  else
    ring_store ((uint16_t *) queue->used, 0);
  atomic_thread_fence (memory_order_seq_cst);
  return ring_load ((const uint16_t *) (queue->available + 2)) != queue->last_available;
}

static void
virtq_disarm (TnVirtq *queue)
{
  if (!queue->event_index)
    ring_store ((uint16_t *) queue->used, USED_NO_NOTIFY);
}

TnVirtqRequest *
tn_virtq_take (TnVirtq *queue, const char **fault)
{
  *fault = NULL;
  if (!queue->ready)
    return NULL;

  uint16_t index = ring_load ((const uint16_t *) (queue->available + 2));
  if (index == queue->last_available) {
    if (!virtq_arm (queue))
      return NULL;
    index = ring_load ((const uint16_t *) (queue->available + 2));
  }
  if ((uint16_t) (index - queue->last_available) > queue->size || queue->in_flight >= queue->size) {
    *fault = "the available ring holds more requests than the queue";
    return NULL;
  }
  virtq_disarm (queue);

  const uint8_t *slot = queue->available + 4 + 2 * (size_t) (queue->last_available & (queue->size - 1));
  uint16_t head = ring_load ((const uint16_t *) slot);
  if (head >= queue->size) {
    *fault = "the available ring names a descriptor outside the table";
    return NULL;
  }

  VirtqEntry *entry = virtq_entry_take (queue);
  *fault = virtq_walk (queue, entry, head);
  if (*fault != NULL) {
    virtq_entry_release (queue, entry);
    return NULL;
  }
  queue->last_available++;
  queue->in_flight++;
  return &entry->request;
}

void
tn_virtq_give_back (TnVirtq *queue, TnVirtqRequest *request)
{
  queue->last_available--;
  queue->in_flight--;
  virtq_entry_release (queue, virtq_entry_of (request));
}

static void
virtq_mark_written (TnVirtq *queue, const VirtqEntry *entry, uint64_t written)
{
  for (unsigned i = 0; i < entry->n_in && written > 0; i++) {
    const GuestRange *range = &entry->ranges[entry->first_in + i];
    uint64_t run = MIN (written, range->length);
    tn_space_mark_dirty (queue->space, range->address, run);
    written -= run;
  }
}

void
tn_virtq_complete (TnVirtq *queue, TnVirtqRequest *request, uint32_t written)
{
  VirtqEntry *entry = virtq_entry_of (request);

  queue->in_flight--;
  if (queue->ready) {
    virtq_mark_written (queue, entry, written);
    size_t place = 4 + 8 * (size_t) (queue->used_index & (queue->size - 1));
    tn_store_le32 (queue->used + place, request->head);
    tn_store_le32 (queue->used + place + 4, written);
    tn_space_mark_dirty (queue->space, queue->used_address, place + 8);
    queue->used_index++;
    ring_store ((uint16_t *) (queue->used + 2), queue->used_index);
  }
  virtq_entry_release (queue, entry);
}

bool
tn_virtq_wants_interrupt (TnVirtq *queue)
{
  if (!queue->ready)
    return false;
  atomic_thread_fence (memory_order_seq_cst);

  uint16_t before = queue->signalled, now = queue->used_index;
  bool known = queue->signalled_valid;
  if (known && before == now)
    return false;
  queue->signalled = now;
  queue->signalled_valid = true;
  if (!queue->event_index)
    return (ring_load ((const uint16_t *) queue->available) & AVAIL_NO_INTERRUPT) == 0;
  if (!known)
    return true;
  uint16_t event = ring_load (used_event (queue));
  return (uint16_t) (now - event - 1) < (uint16_t) (now - before);
}

size_t
tn_iov_take (struct iovec **iov, uint16_t *n, void *buffer, size_t length)
{
  size_t done = 0;
  while (done<length && * n> 0) {
    struct iovec *first = *iov;
    size_t run = MIN (length - done, first->iov_len);
    memcpy ((char *) buffer + done, first->iov_base, run);
    done += run;
    first->iov_base = (char *) first->iov_base + run;
    first->iov_len -= run;
    if (first->iov_len == 0) {
      *iov += 1;
      *n -= 1;
    }
  }
  return done;
}

size_t
tn_iov_fill (const struct iovec *iov, unsigned n, const void *buffer, size_t length)
{
  size_t done = 0;
  for (unsigned i = 0; i < n && done < length; i++) {
    size_t run = MIN (length - done, iov[i].iov_len);
    memcpy (iov[i].iov_base, (const char *) buffer + done, run);
    done += run;
  }
  return done;
}
