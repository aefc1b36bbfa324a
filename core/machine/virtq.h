/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Split virtqueues as core/machine/virtio.c uses them; the caller holds the virtio lock.  Or without a device
 * (virtq-alone.c): then `virtio` is NULL. */
#ifndef TN_CORE_MACHINE_VIRTQ_H
#define TN_CORE_MACHINE_VIRTQ_H

#include <tenon/virtio.h>

struct TnVirtq {
  TnVirtio *virtio;
  TnSpace *space;
  unsigned index;
  uint16_t max;  /* largest size that the device allows */
  uint16_t size; /* the guest's choice */
  bool ready;
  bool event_index;
  bool indirect_allowed;
  bool signalled_valid;
  uint16_t last_available; /* next available entry to take */
  uint16_t used_index;     /* next used entry to write */
  uint16_t signalled;      /* used_index at the last decision to interrupt */
  uint16_t in_flight;
  const uint8_t *descriptors;
  uint8_t *available;
  uint8_t *used;
  uint64_t used_address;
  struct VirtqEntry *free;
  uint32_t kick_pending; /* atomic */
  TnVirtqOps alone;      /* of a queue without a device, as are those below */
  void *opaque;
  bool broken;
};

/* Maps the rings; false when an address, alignment or size is not allowed. */
bool tn_virtq_enable (TnVirtq *queue, TnSpace *space, uint16_t size, uint64_t descriptors, uint64_t available,
                      uint64_t used);
void tn_virtq_disable (TnVirtq *queue);
void tn_virtq_destroy (TnVirtq *queue);

/* The next request; NULL with *fault set when the guest has broken the ring. */
TnVirtqRequest *tn_virtq_take (TnVirtq *queue, const char **fault);
void tn_virtq_give_back (TnVirtq *queue, TnVirtqRequest *request);
void tn_virtq_complete (TnVirtq *queue, TnVirtqRequest *request, uint32_t written);
/* tn_virtq_pop() and its like for a queue without a device. */
TnVirtqRequest *tn_virtq_alone_pop (TnVirtq *queue);
void tn_virtq_alone_push (TnVirtq *queue, TnVirtqRequest *request, uint32_t written);
/* Whether the guest is to be interrupted for what was completed since the last call. */
bool tn_virtq_wants_interrupt (TnVirtq *queue);

#endif
