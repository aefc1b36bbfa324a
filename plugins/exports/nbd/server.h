/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NBD server.
 *
 * Who connects is taken in on the loop that made the server, and handed to one of a few lanes (lane.c), each
 * of which has a loop of its own; the first one is the server's.  From then on all of a connection happens
 * there.  A connection has one buffer that bytes are received into; from it whole options, and later
 * requests, are taken (negotiate.c, request.c).  Requests go to the drive as they come and end in any order.
 * Replies that are ready stand in one queue and leave in one system call (reply.c).
 *
 * What a client can make the server hold is bounded per connection: NBD_MAX_OPS requests, NBD_MAX_HELD bytes
 * of their data.  Beyond that nothing more is received from it until replies have left.  All connections of a
 * lane together are bounded, too (memory.c).
 */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include "../../common/nbd/channel.h"
#include "../../common/nbd/wire.h"

#include <tenon/authz.h>
#include <tenon/export.h>

#define NBD_IN_SIZE (64u << 10)
#define NBD_MAX_OPS 128
#define NBD_MAX_HELD (48u << 20)
#define NBD_MAX_SERVER_HELD (256u << 20) /* the lanes have an equal part each */
#define NBD_MAX_LANES 4                  /* so that a part has room for one connection */
#define NBD_MAX_OPTION (32u << 10)       /* bytes of an option's data; less than NBD_IN_SIZE */
#define NBD_KEPT_BUFFER (16u << 10)
#define NBD_MAX_CONTEXTS 64

typedef struct NbdServer NbdServer;
typedef struct NbdExport NbdExport;
typedef struct NbdLane NbdLane;
typedef struct NbdEviction NbdEviction;
typedef struct NbdConnection NbdConnection;
typedef struct NbdOp NbdOp;

/* A dirty bitmap as it was when the export began: marked runs, in ascending order. */
typedef struct NbdRun {
  uint64_t offset, end;
} NbdRun;

typedef struct NbdBitmap {
  char *context; /* qemu:dirty-bitmap:NAME */
  GArray *runs;  /* of NbdRun */
} NbdBitmap;

struct NbdExport {
  TnExport *base;
  NbdServer *server;
  TnDrive *drive;
  char *name, *description;
  bool writable, allocation_depth;
  GPtrArray *bitmaps; /* of NbdBitmap */
};

struct NbdServer {
  TnExportServer *base;
  TnLoop *loop;
  int *listeners;
  unsigned n_listeners;
  char *path; /* to be removed at the end, or NULL */
  bool accepting, closing;
  TnTimer *pause; /* accepting goes on when it fires: descriptors had run out */
  unsigned max_connections, n_connections;
  GPtrArray *lanes; /* of NbdLane; the first one's loop is @loop */
  unsigned most_lanes;
  size_t most_held; /* bytes, in each lane */
  gint messages;    /* from lanes, under way; atomic */
  int64_t handshake_ns;
  GMutex exports_lock;
  GPtrArray *exports;    /* of NbdExport, not owned; under the lock */
  TnTlsCredentials *tls; /* or NULL; with it, nothing goes without TLS */
  TnAuthz *authz;        /* or NULL: whoever passes TLS may come in */
};

/* Connections that are served by one thread.  All but @n_connections is that thread's. */
struct NbdLane {
  NbdServer *server;
  TnLoop *loop;
  GThread *thread;        /* NULL: the server's own */
  unsigned n_connections; /* the server's: how many it has been given */
  NbdConnection *connections;
  NbdEviction *evictions;
  size_t held;        /* bytes that its connections hold */
  unsigned n_starved; /* connections that wait for others to hold less */
  TnTimer *starving;  /* fires when they have waited too long */
  bool stop;
  GMutex lock; /* of its beginning */
  GCond started;
};

typedef enum NbdState {
  NBD_CLIENT_FLAGS = 1,
  NBD_OPTIONS,
  NBD_TLS_HANDSHAKE,
  NBD_TRANSMISSION,
  NBD_CLOSING /* replies that are due still leave */
} NbdState;

struct NbdConnection {
  NbdServer *server;
  NbdLane *lane;
  NbdConnection *next, *prev;
  NbdChannel channel;
  NbdState state;
  bool fixed, no_zeroes, structured, extended, ever_attached;
  bool dead;    /* the socket is closed; freed when nothing is under way */
  bool working; /* in nbd_connection_work() */
  bool again;   /* it has to go round once more */
  bool blocked; /* a limit has been reached */
  bool starved; /* the limit that all share */
  bool posted;  /* nbd_connection_work() is called soon */
  short watched;
  short tls_events; /* what its handshake waits for */
  TnTimer *deadline;

  NbdExport *export;
  /* A run known to be no hole.  Sending what became a hole since as data is right, too. */
  uint64_t data_from, data_to;
  /* Metadata contexts chosen, for @context_export; ids as in context.c. */
  NbdExport *context_export;
  uint32_t contexts[NBD_MAX_CONTEXTS];
  unsigned n_contexts;

  uint8_t *in;
  size_t in_start, in_end;
  uint64_t skip;      /* bytes to be thrown away */
  NbdOp *payload;     /* the request whose data is being received */
  size_t payload_got; /* bytes of it that are there */

  GByteArray *control; /* answers of the negotiation */
  size_t control_sent;
  NbdOp *out_first, *out_last;
  size_t out_sent; /* bytes of the first that have left */

  NbdOp *free_ops;
  unsigned n_ops; /* taken from it */
  unsigned running;
  size_t held;
};

/* One request, from its header to the last byte of its reply. */
struct NbdOp {
  TnRequest request;
  NbdConnection *connection;
  NbdOp *next;
  NbdRequestHeader header;
  uint8_t *buffer;
  size_t capacity;
  struct iovec data;
  uint8_t head[64];
  struct iovec own_out[2];
  struct iovec *out;
  unsigned n_out;
  void *extra; /* further parts of the reply; g_free() */
  size_t extra_size;
};

/* ---- connection.c ---- */

void nbd_connection_new (NbdLane *lane, int fd);
/* Receives (when @readable), handles and sends what can be; may free the connection. */
void nbd_connection_work (NbdConnection *connection, bool readable);
/* The same, soon, and once for many. */
void nbd_connection_work_soon (NbdConnection *connection);
/* Closes the socket; @why, one line about a broken protocol, may be NULL. */
void nbd_connection_drop (NbdConnection *connection, const char *why);
/* The same for one that may not come in. */
void nbd_connection_refuse (NbdConnection *connection, const char *why);
void nbd_connection_attach (NbdConnection *connection, NbdExport *export);
static inline size_t
nbd_connection_available (const NbdConnection *connection)
{
  return connection->in_end - connection->in_start;
}

/* ---- negotiate.c ---- */

void nbd_negotiate_greet (NbdConnection *connection);
/* Handles what has been received; true: more could be handled at once. */
bool nbd_negotiate (NbdConnection *connection);
/* An export that has been found stays while the caller does not return to its loop. */
NbdExport *nbd_server_find (NbdServer *server, const uint8_t *name, size_t length);
uint16_t nbd_export_flags (const NbdConnection *connection, const NbdExport *export);

/* ---- secure.c: TLS ---- */

/* The credentials and who may come in, from the server's options. */
int nbd_secure_open (NbdServer *server, const TnOptions *options, GError **error);
/* Whether the option may be answered now; if not, it has been refused. */
bool nbd_secure_allows (NbdConnection *connection, uint32_t option);
void nbd_secure_option (NbdConnection *connection, size_t length);
/* Goes on with the handshake once the answer to the option has left. */
void nbd_secure_work (NbdConnection *connection);

/* ---- context.c: metadata contexts ---- */

void nbd_context_option (NbdConnection *connection, NbdOption option, const uint8_t *data, size_t length);
void nbd_option_reply (NbdConnection *connection, uint32_t option, uint32_t type, const void *data,
                       size_t length);
void nbd_option_error (NbdConnection *connection, uint32_t option, uint32_t type, const char *message);

/* ---- request.c ---- */

bool nbd_request_parse (NbdConnection *connection);
void nbd_op_recycle (NbdOp *op);
/* The buffer of @op gets room for @length bytes; false: no memory. */
bool nbd_op_reserve (NbdOp *op, size_t length);
/* A request is done with, and its reply can be made. */
void nbd_op_end (NbdOp *op, int result);
/* The same when @out is the whole reply. */
void nbd_op_end_with (NbdOp *op, struct iovec *out, unsigned n);
/* In a coroutine: passes one request to the drive and waits for it. */
int nbd_drive_call (NbdExport *export, unsigned what, uint64_t offset, uint64_t length, void *buffer);

/* ---- memory.c ---- */

/* False: the request has to wait; it is looked at again when there is more. */
bool nbd_memory_has_room (NbdConnection *connection, size_t needed);
/* The connection waits no more. */
void nbd_memory_forget (NbdConnection *connection);
void nbd_memory_take (NbdConnection *connection, size_t size);
void nbd_memory_give (NbdConnection *connection, size_t size);
bool nbd_memory_is_plenty (const NbdLane *lane);

/* ---- lane.c ---- */

void nbd_lanes_open (NbdServer *server, unsigned most);
/* There are no connections any more. */
void nbd_lanes_close (NbdServer *server);
/* A client is connected by @fd. */
void nbd_lanes_connect (NbdServer *server, int fd);
/* Drops the connections to @export (NULL: all) and waits until nothing of theirs is under way. */
void nbd_lanes_evict (NbdServer *server, const NbdExport *export);
/* In a lane: tells the server's program. */
void nbd_lane_tell (NbdLane *lane, TnExportEvent event, bool attached, const char *text);
/* In a lane: a connection has been freed. */
void nbd_lane_check_evictions (NbdLane *lane);

/* ---- reply.c ---- */

void nbd_reply_error (NbdOp *op, int errnum, const char *message);
void nbd_reply_done (NbdOp *op);
void nbd_reply_data (NbdOp *op);
void nbd_reply_queue (NbdOp *op);
/* Sends answers of the negotiation: true when none is left. */
bool nbd_reply_flush_control (NbdConnection *connection);
/* Sends what is due: true when something left. */
bool nbd_reply_send (NbdConnection *connection);

/* ---- status.c, holes.c: run in coroutines ---- */

void nbd_status_main (void *op);
void nbd_holes_main (void *op);
/* Whether to look for holes in the range that @op reads. */
bool nbd_holes_wanted (const NbdOp *op);

/* ---- bitmap.c ---- */

int nbd_bitmap_new (TnDrive *drive, const char *name, NbdBitmap **bitmap, GError **error);
void nbd_bitmap_free (NbdBitmap *bitmap);
/* Whether @offset is marked, and how far that goes. */
bool nbd_bitmap_at (const NbdBitmap *bitmap, uint64_t offset, uint64_t limit, uint64_t *length);

/* ---- listen.c ---- */

int nbd_listen (NbdServer *server, const TnOptions *options, GError **error);
void nbd_listen_update (NbdServer *server);
void nbd_listen_close (NbdServer *server);

#endif
