/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NBD client.
 *
 * A node has one or several connections, its lines, which belong to the loop that opened the node; calls of
 * other threads are posted to that loop and come back by theirs.  A call goes to the line that has least to
 * do and stays with it: it waits there until it is sent, then has a slot until its reply is complete; the
 * cookie on the wire is the slot and how often it has been used.
 *
 * What the server sends is checked against the call it belongs to.  A server that breaks the protocol is not
 * talked to again.  When a connection is lost, its calls fail, or, with reconnect-delay, are sent again over
 * the next one of the same line.
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
#define NBD_MAX_LINES 16
/* A server that answers nothing is given up after this. */
#define NBD_HANDSHAKE_NS INT64_C (30000000000)

typedef struct NbdCall NbdCall;
typedef struct NbdClient NbdClient;
typedef struct NbdLine NbdLine;

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
  NBD_LINK_CONNECTING
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

struct NbdLine {
  NbdClient *client;
  NbdChannel channel;
  NbdLink link;
  short watched;
  uint32_t allocation_id, bitmap_id; /* the server may number contexts anew on each connection */
  unsigned n_calls;                  /* that wait here or are under way */

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
};

struct NbdClient {
  TnNode *node;
  TnLoop *loop;
  TnOptions *options;
  char *server;          /* for messages */
  char *bitmap;          /* the metadata context of x-dirty-bitmap, or NULL */
  TnTlsCredentials *tls; /* or NULL */
  NbdOffer offer;
  bool read_only;
  bool broken; /* for good: the server broke the protocol, or is another one now */
  int64_t reconnect_ns, open_ns;
  int cancel; /* atomic: the node is closing */
  NbdLine *lines[NBD_MAX_LINES];
  unsigned n_lines;

  TnCoMutex status_lock;
  GArray *status; /* of NbdStatusRun: the last answer, for a node that is read-only */
  uint64_t status_at, status_end;
};

/* ---- connect.c ---- */

/* Blocks, or waits when in a coroutine, until @line is connected or @deadline.  The handshake may take until
 * @handshake_ns. */
int nbd_line_connect (NbdLine *line, NbdOffer *offer, int64_t deadline, int64_t handshake_ns, GError **error);
/* Whether @is keeps what @was promised. */
bool nbd_offer_holds (const NbdOffer *was, const NbdOffer *is);
/* Begins to connect again; what waits is sent or fails afterwards. */
void nbd_line_reconnect (NbdLine *line);

/* ---- link.c ---- */

/* A line that is not connected. */
NbdLine *nbd_line_new (NbdClient *client);
void nbd_line_free (NbdLine *line);
void nbd_line_up (NbdLine *line);
/* The connection is lost (@broken: and the server not to be trusted again). */
void nbd_line_lost (NbdLine *line, bool broken);
void nbd_line_fail_waiting (NbdLine *line, int result);
/* The call in @slot is done with. */
void nbd_line_end_call (NbdLine *line, unsigned slot);
/* Any thread. */
void nbd_client_submit (NbdCall *call);

/* ---- receive.c ---- */

/* Takes what has come.  False: the connection is to be dropped; *@broken: it broke the protocol. */
bool nbd_receive (NbdLine *line, bool *broken);

/* ---- status.c ---- */

int nbd_client_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                    GError **error);

#endif
