/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NBD client.
 *
 * A node has one connection, which belongs to the loop that opened the node; calls of other threads are
 * posted to that loop and come back by theirs.  A call waits in `waiting` until it is sent, then has a slot
 * until its reply is complete; the cookie on the wire is the slot and how often it has been used.
 *
 * What the server sends is checked against the call it belongs to.  A server that breaks the protocol is not
 * talked to again.  When the connection is lost, calls fail, or, with reconnect-delay, are sent again over
 * the next one.
 */
#ifndef NBD_CLIENT_H
#define NBD_CLIENT_H

#include "../../common/nbd/address.h"
#include "../../common/nbd/handshake.h"

#include <tenon/loop.h>
#include <tenon/protocol.h>

#define NBD_SLOTS 128
#define NBD_RX_SIZE (64u << 10)
/* How often one call is sent. */
#define NBD_MAX_TRIES 8
#define NBD_MAX_STATUS_RUNS 16384

typedef struct NbdCall NbdCall;
typedef struct NbdClient NbdClient;

/* Runs of equal state, as block status gives them. */
typedef struct NbdStatusRun {
  uint64_t length, state;
} NbdStatusRun;

struct NbdCall {
  NbdClient *client;
  NbdCall *next;
  TnLoop *home;
  TnRequest *request; /* or NULL: block status */
  void (*done) (NbdCall *call, int result);
  void *opaque;
  NbdRequestHeader header;
  GArray *runs;     /* of NbdStatusRun: where block status goes */
  uint64_t covered; /* bytes of a read that have been accounted for */
  int result;
  uint16_t tries;
  bool answered; /* block status: of the context that was asked for */
};

G_STATIC_ASSERT (sizeof (NbdCall) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

typedef struct NbdSlot {
  NbdCall *call;
  uint32_t uses;
} NbdSlot;

typedef enum NbdLink {
  NBD_LINK_DOWN = 0, /* the next call tries again */
  NBD_LINK_UP,
  NBD_LINK_CONNECTING,
  NBD_LINK_BROKEN /* for good: the server broke the protocol, or is another one now */
} NbdLink;

/* Where in a reply the next byte belongs. */
typedef struct NbdReceiver {
  uint8_t *buffer;
  size_t start, end;
  NbdCall *data; /* the read that takes the bytes that follow */
  uint64_t data_at, data_left;
  bool data_last;
  int slot; /* of that call */
} NbdReceiver;

struct NbdClient {
  TnNode *node;
  TnLoop *loop;
  TnOptions *options;
  char *server;          /* for messages */
  char *bitmap;          /* the metadata context of x-dirty-bitmap, or NULL */
  TnTlsCredentials *tls; /* or NULL */
  NbdOffer offer;
  bool read_only;
  int64_t reconnect_ns, open_ns;

  NbdChannel channel;
  NbdLink link;
  short watched;
  int cancel; /* atomic: the node is closing */

  NbdCall *waiting, *waiting_last;
  bool send_posted;
  NbdSlot slots[NBD_SLOTS];
  uint8_t free_slots[NBD_SLOTS];
  unsigned n_free;
  /* What has been given to the channel, but has not left in full: headers of `sending`, then their data. */
  NbdCall *sending, *sending_last;
  size_t sent;
  uint8_t heads[NBD_SLOTS][NBD_EXTENDED_REQUEST_SIZE];
  NbdReceiver rx;

  TnCoMutex status_lock;
  GArray *status; /* of NbdStatusRun: the last answer, for a node that is read-only */
  uint64_t status_at, status_end;
};

/* ---- connect.c ---- */

/* Blocks, or waits when in a coroutine, until connected or @deadline. */
int nbd_client_connect (NbdClient *client, NbdOffer *offer, int64_t deadline, GError **error);
/* Begins to connect again; what waits is sent or fails afterwards. */
void nbd_client_reconnect (NbdClient *client);

/* ---- link.c ---- */

void nbd_link_up (NbdClient *client);
/* The connection is lost (@broken: and not to be trusted again). */
void nbd_link_lost (NbdClient *client, bool broken);
void nbd_link_fail_waiting (NbdClient *client, int result);
void nbd_link_end_call (NbdCall *call, int result);
/* Any thread. */
void nbd_link_submit (NbdCall *call);
void nbd_link_release (NbdClient *client, unsigned slot);

/* ---- receive.c ---- */

/* Takes what has come.  False: the connection is to be dropped; *@broken: it broke the protocol. */
bool nbd_receive (NbdClient *client, bool *broken);

/* ---- status.c ---- */

int nbd_client_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                    GError **error);

#endif
