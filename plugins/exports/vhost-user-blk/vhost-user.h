/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The back end of vhost-user for a block device.
 *
 * A front end (an emulator, or a program of its own) connects to the export's Unix socket, shares the memory
 * of its guest and the rings in it, and from then on nothing but eventfds is exchanged.  There is one front
 * end at a time; others wait in the socket's queue.  All of it happens on the loop that made the export.
 *
 * Messages that change what requests rely on (memory, rings, features) wait until no request is under way;
 * meanwhile nothing is taken from the rings (message.c, front.c).
 */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include "../../common/virtio-blk/virtio-blk.h"

#include <tenon/export.h>
#include <tenon/loop.h>

#define VU_HEADER_SIZE 12
#define VU_MAX_PAYLOAD 512
#define VU_MAX_FDS 8 /* with one message, which is as many regions as SET_MEM_TABLE has */
#define VU_MAX_REGIONS 32
#define VU_MAX_CONFIG 256
#define VU_MAX_QUEUES 64
#define VU_QUEUE_SIZE 128 /* by which requests are told to be; rings may be larger */

/* Bit of the features that says that there are protocol features. */
#define VU_F_PROTOCOL_FEATURES 30

enum {
  VU_PROTOCOL_MQ = 0,
  VU_PROTOCOL_REPLY_ACK = 3,
  VU_PROTOCOL_BACKEND_REQ = 5,
  VU_PROTOCOL_CONFIG = 9,
  VU_PROTOCOL_CONFIGURE_MEM_SLOTS = 15,
};

enum {
  VU_GET_FEATURES = 1,
  VU_SET_FEATURES = 2,
  VU_SET_OWNER = 3,
  VU_RESET_OWNER = 4,
  VU_SET_MEM_TABLE = 5,
  VU_SET_VRING_NUM = 8,
  VU_SET_VRING_ADDR = 9,
  VU_SET_VRING_BASE = 10,
  VU_GET_VRING_BASE = 11,
  VU_SET_VRING_KICK = 12,
  VU_SET_VRING_CALL = 13,
  VU_SET_VRING_ERR = 14,
  VU_GET_PROTOCOL_FEATURES = 15,
  VU_SET_PROTOCOL_FEATURES = 16,
  VU_GET_QUEUE_NUM = 17,
  VU_SET_VRING_ENABLE = 18,
  VU_SET_BACKEND_REQ_FD = 21,
  VU_GET_CONFIG = 24,
  VU_SET_CONFIG = 25,
  VU_GET_MAX_MEM_SLOTS = 36,
  VU_ADD_MEM_REG = 37,
  VU_REM_MEM_REG = 38,
};

typedef struct VuExport VuExport;

typedef struct VuMessage {
  uint32_t request, flags, size;
  const uint8_t *payload;
} VuMessage;

/* One run of the guest's memory. */
typedef struct VuRegion {
  uint64_t guest, size, user, offset; /* addresses in the guest and in the front end; offset in the file */
  int fd;
} VuRegion;

typedef struct VuRing {
  VuExport *export;
  unsigned index;
  TnVirtq *queue;
  uint64_t descriptors, available, used; /* addresses in the front end */
  uint16_t size, next;
  bool kicked;  /* it has been started by SET_VRING_KICK */
  bool enabled; /* by SET_VRING_ENABLE */
  bool running;
  int kick, call, err; /* eventfds, or -1 */
} VuRing;

/* What has been received of a message. */
typedef struct VuInput {
  uint8_t bytes[VU_HEADER_SIZE + VU_MAX_PAYLOAD];
  size_t have;
  int fds[VU_MAX_FDS];
  unsigned n_fds;
} VuInput;

struct VuExport {
  TnExport *base;
  TnLoop *loop;
  VirtioBlk blk;
  char *path; /* of the socket, or NULL when it was given */
  int listener;
  /* Of the front end that is there, if there is one. */
  int fd;         /* or -1 */
  int backend_fd; /* where it hears of changes, or -1 */
  VuInput input;
  uint64_t features, protocol;
  TnSpace *space;
  VuRegion regions[VU_MAX_REGIONS];
  unsigned n_regions;
  VuRing rings[VU_MAX_QUEUES];
  bool waiting; /* a message waits for requests */
  bool leaving; /* the end of the connection does */
  bool posted;  /* vu_continue() will be called */
};

/* ---- front.c ---- */

/* Someone has connected. */
void vu_front_new (VuExport *export, int fd);
/* Ends the connection as soon as its requests have ended.  @why is NULL when there is nothing to complain
 * of. */
void vu_front_drop (VuExport *export, const char *why);
/* Goes on with what waits for requests, soon. */
void vu_continue_soon (VuExport *export);

/* ---- listen.c ---- */

int vu_listen (VuExport *export, const TnOptions *options, GError **error);
void vu_listen_update (VuExport *export);
void vu_listen_close (VuExport *export);

/* ---- channel.c ---- */

/* Receives what there is: 1 when a message is complete, 0 when more has to come, or -errno (-EPIPE: hung
 * up). */
int vu_receive (VuExport *export, GError **error);
void vu_message (const VuExport *export, VuMessage *message);
/* Takes the only descriptor that came with the message; -1 when there is not just one. */
int vu_take_fd (VuExport *export);
/* Forgets the message and closes descriptors that nobody took. */
void vu_input_clear (VuExport *export);
int vu_reply (VuExport *export, const VuMessage *message, const void *payload, uint32_t size, GError **error);
int vu_reply_u64 (VuExport *export, const VuMessage *message, uint64_t value, GError **error);
/* Tells the front end that the configuration has changed. */
void vu_tell_config_changed (VuExport *export);

/* ---- message.c ---- */

/* Does what the message says, which fails when the connection has to end.  -EAGAIN without an error: not
 * while requests are under way. */
int vu_handle (VuExport *export, GError **error);

/* ---- memory.c ---- */

int vu_set_mem_table (VuExport *export, const VuMessage *message, GError **error);
int vu_add_mem_region (VuExport *export, const VuMessage *message, GError **error);
int vu_remove_mem_region (VuExport *export, const VuMessage *message, GError **error);
/* The guest's address of what the front end has at @user. */
bool vu_guest_address (const VuExport *export, uint64_t user, uint64_t *guest);
void vu_memory_clear (VuExport *export);

/* ---- ring.c ---- */

void vu_ring_init (VuExport *export, unsigned index);
void vu_ring_clear (VuRing *ring);
/* Forgets what the front end said of it; no request may be under way. */
void vu_ring_reset (VuRing *ring);
/* Starts or stops it, as it shall be. */
int vu_ring_update (VuRing *ring, GError **error);
/* Starts anew all that run: their memory has moved, or the features have changed. */
int vu_rings_renew (VuExport *export, GError **error);
void vu_rings_stop (VuExport *export);
/* Serves what has come while nothing was taken. */
void vu_rings_serve (VuExport *export);
unsigned vu_rings_in_flight (const VuExport *export);
int vu_ring_message (VuExport *export, const VuMessage *message, GError **error);
int vu_ring_fd (VuExport *export, const VuMessage *message, GError **error);

#endif
