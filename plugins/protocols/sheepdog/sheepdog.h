/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client of sheepdog clusters.
 *
 * A disk (a VDI) is an inode object, which says to which VDI each of its data objects belongs, and the data
 * objects.  A node has one connection, which belongs to the loop that opened the node; each request is a
 * coroutine of that loop, and many calls are under way at a time.
 *
 *   name.c     names and options
 *   wire.c     messages, and calls that block
 *   vdi.c      opening, creating and removing, on a worker
 *   link.c     calls on their way, and the loss of the connection
 *   request.c  reads, writes, discards
 *   sheepdog.c the class
 */
#ifndef TENON_SHEEPDOG_H
#define TENON_SHEEPDOG_H

#include "../../common/nbd/address.h"

#include <tenon/loop.h>
#include <tenon/protocol.h>

#define SD_HEAD_SIZE 48
#define SD_MAX_NAME 256
#define SD_MAX_OBJECTS (1u << 20)
#define SD_MAX_VDI_ID (1u << 24)
#define SD_MIN_SHIFT 20
#define SD_MAX_SHIFT 31
#define SD_DEFAULT_SHIFT 22
/* The inode object: its head, then a number for each data object. */
#define SD_INODE_HEAD 4664
#define SD_INODE_SIZE_AT 536
/* What one request moves. */
#define SD_MAX_TRANSFER (1u << 20)
#define SD_MAX_TRIES 8
#define SD_LOCKS 64

typedef enum SdOpcode {
  SD_OP_CREATE_AND_WRITE = 0x01,
  SD_OP_READ = 0x02,
  SD_OP_WRITE = 0x03,
  SD_OP_NEW_VDI = 0x11,
  SD_OP_LOCK_VDI = 0x12,
  SD_OP_RELEASE_VDI = 0x13,
  SD_OP_GET_VDI_INFO = 0x14,
  SD_OP_FLUSH_VDI = 0x16,
  SD_OP_DEL_VDI = 0x17,
  SD_OP_CLUSTER_DEFAULT = 0x18
} SdOpcode;

typedef enum SdFlag { SD_FLAG_WRITE = 1, SD_FLAG_COW = 2, SD_FLAG_CACHE = 4, SD_FLAG_DIRECT = 8 } SdFlag;

typedef enum SdResult {
  SD_RES_SUCCESS = 0x00,
  SD_RES_VDI_EXIST = 0x04,
  SD_RES_INVALID_PARMS = 0x05,
  SD_RES_VDI_LOCKED = 0x07,
  SD_RES_NO_VDI = 0x08,
  SD_RES_NO_BASE_VDI = 0x09,
  SD_RES_NO_TAG = 0x0e,
  SD_RES_NO_SPACE = 0x15,
  SD_RES_READONLY = 0x1a
} SdResult;

typedef struct SdClient SdClient;

/* One message to the server and its answer. */
typedef struct SdCall {
  struct SdCall *next;
  uint8_t opcode;
  uint16_t flags;
  uint64_t oid, cow_oid, offset; /* of objects */
  uint64_t size;                 /* of VDIs, from here on */
  uint32_t vdi_id, snap_id;
  uint8_t copies, copy_policy, shift; /* copies: of objects, too */
  const void *out;
  uint32_t out_length;
  void *in;
  uint32_t in_length;
  uint8_t head[SD_HEAD_SIZE]; /* as it was sent, then the answer's */
  uint32_t id, result;
  unsigned tries;
  TnCoroutine *waiter;
  int rc; /* whether there is an answer */
} SdCall;

/* Which disk, and where. */
typedef struct SdPlace {
  TnOptions *options;
  char *server; /* for messages */
  const char *vdi, *tag;
  uint32_t snap_id;
  int64_t timeout_ns; /* 0: none */
} SdPlace;

/* What the inode says. */
typedef struct SdInode {
  uint64_t size;
  uint32_t vdi_id, snap_id, parent;
  uint8_t copies, copy_policy, shift;
  bool is_snapshot;
} SdInode;

typedef enum SdLinkState { SD_LINK_DOWN = 0, SD_LINK_UP, SD_LINK_CONNECTING } SdLinkState;

typedef struct SdLink {
  NbdChannel channel;
  SdLinkState state;
  short watched;
  SdCall *waiting, *waiting_last; /* the first of them may have left in part */
  size_t sent;
  GHashTable *flying; /* by id: what the server has to answer */
  uint32_t last_id;
  uint8_t head[SD_HEAD_SIZE];
  size_t head_got;
  SdCall *data; /* whose data come next */
  uint32_t data_got, data_length;
  int64_t heard;
  TnTimer *tick;
} SdLink;

struct SdClient {
  TnNode *node;
  TnLoop *loop;
  SdPlace place;
  SdInode inode;   /* the loop's thread */
  uint8_t shift;   /* inode.shift, for any thread: it never changes */
  uint32_t *table; /* SD_MAX_OBJECTS; of the machine's byte order; atomic */
  uint32_t flags;  /* SD_FLAG_CACHE or SD_FLAG_DIRECT */
  bool writes;
  bool broken; /* for good: the server broke the protocol, or the disk is another one now */
  int cancel;  /* atomic: the node is closing */
  int64_t reconnect_ns;
  SdLink link;
  TnCoMutex locks[SD_LOCKS]; /* of objects that are being made */
  TnCoMutex inode_lock;      /* growing, reloading */
};

static inline uint64_t
sd_inode_oid (uint32_t vdi_id)
{
  return UINT64_C (1) << 63 | (uint64_t) vdi_id << 32;
}

static inline uint64_t
sd_data_oid (uint32_t vdi_id, uint32_t index)
{
  return (uint64_t) vdi_id << 32 | index;
}

static inline uint32_t
sd_entry (const SdClient *client, uint64_t index)
{
  return index < SD_MAX_OBJECTS ? __atomic_load_n (&client->table[index], __ATOMIC_ACQUIRE) : 0;
}

static inline uint64_t
sd_objects_of (const SdInode *inode)
{
  return (inode->size >> inode->shift) + ((inode->size & ((UINT64_C (1) << inode->shift) - 1)) != 0);
}

/* ---- name.c ---- */

int sd_name_parse (const char *text, TnOptions *options, GError **error);
char *sd_name_of (const TnOptions *options);
int sd_place_init (SdPlace *place, const TnOptions *options, GError **error);
void sd_place_clear (SdPlace *place);

/* ---- wire.c ---- */

/* Fills call->head. */
void sd_call_put (SdCall *call);
const char *sd_result_text (uint32_t result);
int sd_result_errno (uint32_t result);
/* Blocks until there is an answer; what the answer says is in call->result. */
int sd_call_block (const SdPlace *place, NbdChannel *channel, SdCall *call, int64_t deadline,
                   const int *cancel, GError **error);
/* The same, and a result that is no success is an error: "SERVER does not WHAT: ...". */
int sd_call_succeed (const SdPlace *place, NbdChannel *channel, SdCall *call, const char *what,
                     int64_t deadline, const int *cancel, GError **error);

/* ---- vdi.c ---- */

typedef struct SdSession {
  const SdPlace *place;
  NbdChannel channel;
  SdInode inode;
  bool lock; /* wanted */
  int64_t deadline;
  const int *cancel;
} SdSession;

/* These block. */
int sd_session_connect (SdSession *session, GError **error);
/* Finds the disk and locks it, if that is wanted: inode.vdi_id. */
int sd_session_find (SdSession *session, bool again, GError **error);
/* Takes @head for the inode of inode->vdi_id, if it can be true. */
int sd_inode_parse (const SdPlace *place, const uint8_t *head, SdInode *inode, GError **error);
/* Numbers as they came, to what is used; -EPROTO. */
int sd_table_take (const SdPlace *place, const uint8_t *raw, uint32_t *table, uint64_t n, GError **error);
int sd_session_load (SdSession *session, uint32_t *table, GError **error);
void sd_session_release (SdSession *session);
int sd_vdi_create (const SdPlace *place, uint64_t size, int64_t deadline, GError **error);
int sd_vdi_remove (const SdPlace *place, int64_t deadline, GError **error);

/* ---- link.c ---- */

void sd_link_up (SdClient *client, const NbdChannel *channel);
/* In a coroutine of the client's loop: the errno of what went wrong, of the answer, too. */
int sd_link_call (SdClient *client, SdCall *call);
/* Ends it; the channel, if it is still good, is in *channel. */
void sd_link_close (SdClient *client, NbdChannel *channel);
/* Runs @work in a coroutine of the client's loop and waits for its end. */
int sd_link_run (SdClient *client, int (*work) (SdClient *client, void *opaque), void *opaque);

/* ---- request.c ---- */

void sd_node_submit (TnNode *node, TnRequest *request);
/* In a coroutine of the client's loop. */
int sd_grow (SdClient *client, uint64_t size);

#endif
