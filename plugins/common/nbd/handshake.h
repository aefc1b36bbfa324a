/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's side of the negotiation.  Blocks the calling thread. */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#include "channel.h"
#include "wire.h"

/* Who is talked to, and how long. */
typedef struct NbdTalk {
  NbdChannel *channel;
  int64_t deadline; /* CLOCK_MONOTONIC, nanoseconds, for all of it */
  const int *cancel;
  TnTlsCredentials *tls; /* or NULL: without */
  const char *hostname;  /* of the server, for its certificate */
  bool simple;           /* no other kind of replies is asked for */
} NbdTalk;

/* What the server has agreed to. */
typedef struct NbdOffer {
  uint64_t size;
  uint16_t flags; /* NbdTransmissionFlags */
  bool structured, extended;
  uint32_t min_block, preferred_block, max_block; /* 0: it did not say */
  bool has_allocation, has_bitmap;
  uint32_t allocation_id, bitmap_id;
} NbdOffer;

/* Chooses the export @name.  @bitmap: a further metadata context, or NULL. */
int nbd_handshake (const NbdTalk *talk, const char *name, const char *bitmap, NbdOffer *offer,
                   GError **error);

typedef struct NbdListed {
  const char *name, *description;
  NbdOffer offer;
  GPtrArray *contexts; /* of char * */
} NbdListed;

/* Tells of every export that the server lists, and ends the negotiation. */
int nbd_handshake_list (const NbdTalk *talk, void (*visit) (const NbdListed *listed, void *opaque),
                        void *opaque, GError **error);

#endif
