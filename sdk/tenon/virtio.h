/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/virtio.h
 * The virtio service: split virtqueues and what devices and transports owe each other.
 * Specification: OASIS Virtual I/O Device (VIRTIO) Version 1.2.
 *
 * A transport (virtio-mmio, later virtio-pci) is a device that provides the bus "virtio"; a virtio
 * device sits on that bus and gives TnVirtioDeviceOps as bus_ops.  Queues are the core's: every
 * descriptor, index and address that the guest writes is checked there, so that a device only
 * ever sees well-formed requests.  A malformed ring breaks the device (DEVICE_NEEDS_RESET), never
 * the emulator.
 */
#ifndef TENON_VIRTIO_H
#define TENON_VIRTIO_H

#include <tenon/device.h>

#define TN_VIRTIO_MAJOR 1
#define TN_VIRTIO_MINOR 0

/** Feature bits that the core and the transports handle (devices never offer them). */
#define TN_VIRTIO_F_INDIRECT_DESC 28
#define TN_VIRTIO_F_EVENT_IDX 29
#define TN_VIRTIO_F_VERSION_1 32

#define TN_VIRTIO_QUEUE_MAX 1024 /**< largest queue size */
#define TN_VIRTIO_SG_MAX 1024    /**< most segments of one request */

typedef struct TnVirtio TnVirtio; /**< the virtio side of one device, made by the core */
typedef struct TnVirtq TnVirtq;   /**< one split virtqueue */

/** A device on the bus "virtio". */
typedef struct TnVirtioDeviceOps {
  uint32_t size;      /**< sizeof (TnVirtioDeviceOps) */
  uint16_t device_id; /**< 2 block, 3 console, 4 entropy … */
  uint16_t reserved;
  /** Asked once at realize: features offered and number of queues. */
  uint64_t (*features) (TnDevice *device);
  unsigned (*queues) (TnDevice *device);
  uint16_t (*queue_size) (TnDevice *device, unsigned index); /**< power of two */
  /** Device configuration space; out-of-range accesses never reach the device.  vCPU thread. */
  uint32_t config_size;
  uint32_t reserved2;
  void (*config_read) (TnDevice *device, uint32_t offset, void *data, uint32_t length);
  void (*config_write) (TnDevice *device, uint32_t offset, const void *data, uint32_t length);
  /** DRIVER_OK was set with these negotiated features. */
  void (*start) (TnDevice *device, uint64_t features);
  /** The guest kicked queue @index: pop and handle requests.  In the machine's main loop. */
  void (*notify) (TnDevice *device, unsigned index);
} TnVirtioDeviceOps;

/** One request.  The queue owns it from push to the next pop that returns it. */
typedef struct TnVirtqRequest {
  uint32_t size;  /**< sizeof (TnVirtqRequest) of the core */
  uint16_t head;  /**< descriptor index */
  uint16_t n_out; /**< segments that the device reads */
  uint16_t n_in;  /**< segments that the device writes */
  uint16_t reserved;
  struct iovec *out;              /**< host addresses, already checked to be RAM */
  struct iovec *in;               /**< host addresses, already checked to be writable RAM */
  uint64_t out_length, in_length; /**< bytes in each */
  uint8_t private_data[768]; /**< the device's, zeroed by pop: keeps a request's state without allocating */
} TnVirtqRequest;

/** The next request, or NULL; finding none arms the guest's notification.  Main loop.  Requests are
 *  recycled: a device holds as many as the queue has descriptors at most, and none is allocated once each has
 *  been used.  The device may change `out` and `in` (to step over a header), and must complete every request
 *  in finite time: a reset waits for those under way. */
TN_API TnVirtqRequest *tn_virtq_pop (TnVirtq *queue);
/** Completes a request of which the device wrote the first @written bytes of `in`.  Any order. */
TN_API void tn_virtq_push (TnVirtq *queue, TnVirtqRequest *request, uint32_t written);
/** Interrupts the guest if it asked to be for what was pushed since the last call (used_event). */
TN_API void tn_virtq_notify (TnVirtq *queue);
TN_API uint16_t tn_virtq_size (TnVirtq *queue);
/** Gives back a request that pop() returned last, unused: the next pop() returns it again. */
TN_API void tn_virtq_unpop (TnVirtq *queue, TnVirtqRequest *request);

/** Bytes copied from the front of a segment list, which then begins behind them (*n shrinks). */
TN_API size_t tn_iov_take (struct iovec **iov, uint16_t *n, void *buffer, size_t length);
/** Copies to the front of a segment list without changing it; returns the bytes that fitted. */
TN_API size_t tn_iov_fill (const struct iovec *iov, unsigned n, const void *buffer, size_t length);

/* ---- Queues without a device ---- */

/** What a queue tells who made it by tn_virtq_new(). */
typedef struct TnVirtqOps {
  uint32_t size; /**< sizeof (TnVirtqOps) */
  uint32_t reserved;
  /** The guest wants to be interrupted.  Called by tn_virtq_notify(). */
  void (*interrupt) (void *opaque);
  /** The guest has broken the ring: nothing more is popped until the queue is started again.  Called by
   * tn_virtq_pop(). */
  void (*broken) (const char *why, void *opaque);
  /** The last request under way has been pushed.  Called by tn_virtq_push(), which still needs the queue. */
  void (*idle) (void *opaque);
} TnVirtqOps;

/** Makes a queue of up to @max descriptors (a power of two) whose guest is served by this process without
 * being its machine: vhost-user.  All of it is for one thread. */
TN_API TnVirtq *tn_virtq_new (uint16_t max, const TnVirtqOps *ops, void *opaque);
/** Frees a queue of which no request is under way. */
TN_API void tn_virtq_free (TnVirtq *queue);
/** Begins to serve rings at these addresses of @space, with the negotiated @features; @next is the index of
 * the available ring to go on at.  False when a size, address or alignment is not allowed, or when it is
 * started already. */
TN_API bool tn_virtq_start (TnVirtq *queue, TnSpace *space, uint64_t features, uint16_t size,
                            uint64_t descriptors, uint64_t available, uint64_t used, uint16_t next);
/** Pops nothing more, and gives the index of the available ring to go on at.  Requests under way end without
 * reaching the ring: wait for `idle` first when they shall. */
TN_API uint16_t tn_virtq_stop (TnVirtq *queue);
/** How many requests have been popped and not pushed. */
TN_API unsigned tn_virtq_in_flight (TnVirtq *queue);

/** The virtio side of a device on bus "virtio"; valid from start() on. */
TN_API TnVirtio *tn_virtio_of (TnDevice *device);
TN_API TnVirtq *tn_virtio_queue (TnVirtio *virtio, unsigned index);
TN_API uint64_t tn_virtio_features (TnVirtio *virtio);
/** The configuration space changed: bumps the generation and interrupts.  Any thread. */
TN_API void tn_virtio_config_changed (TnVirtio *virtio);
/** Sets DEVICE_NEEDS_RESET: the guest has broken the protocol.  @why is kept for the monitor. */
TN_API void tn_virtio_broken (TnVirtio *virtio, const char *why);

/* ---- For transports ---- */

/** What a transport gives the core when a child attaches. */
typedef struct TnVirtioTransportOps {
  uint32_t size; /**< sizeof (TnVirtioTransportOps) */
  uint32_t reserved;
  /** Raise the interrupt: for used buffers, or for a configuration change.  Any thread. */
  void (*interrupt) (TnDevice *transport, unsigned queue, bool config);
} TnVirtioTransportOps;

/** Makes the virtio side of @child for @transport. */
TN_API TnVirtio *tn_virtio_new (TnDevice *transport, TnDevice *child, const TnVirtioTransportOps *ops,
                                GError **error);
TN_API void tn_virtio_free (TnVirtio *virtio);
TN_API uint16_t tn_virtio_device_id (TnVirtio *virtio);
TN_API uint64_t tn_virtio_offered (TnVirtio *virtio);
TN_API void tn_virtio_accept (TnVirtio *virtio, uint64_t features);
TN_API uint8_t tn_virtio_status (TnVirtio *virtio);
/** Writes the status register: 0 resets, FEATURES_OK is refused (stays clear) for features not offered or
 *  without VERSION_1, DRIVER_OK starts. */
TN_API void tn_virtio_set_status (TnVirtio *virtio, uint8_t status);
TN_API unsigned tn_virtio_queue_count (TnVirtio *virtio);
TN_API uint16_t tn_virtio_queue_max (TnVirtio *virtio, unsigned index);
/** Describes a queue (guest-physical addresses) and enables it; invalid ones break the device. */
TN_API void tn_virtio_queue_setup (TnVirtio *virtio, unsigned index, uint16_t size, uint64_t descriptors,
                                   uint64_t available, uint64_t used);
TN_API void tn_virtio_queue_disable (TnVirtio *virtio, unsigned index);
TN_API bool tn_virtio_queue_ready (TnVirtio *virtio, unsigned index);
/** The guest kicked: calls the device's notify() in the main loop.  Any thread. */
TN_API void tn_virtio_kick (TnVirtio *virtio, unsigned index);
TN_API uint32_t tn_virtio_config_generation (TnVirtio *virtio);
TN_API void tn_virtio_config_read (TnVirtio *virtio, uint32_t offset, void *data, uint32_t length);
TN_API void tn_virtio_config_write (TnVirtio *virtio, uint32_t offset, const void *data, uint32_t length);

#endif
