/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The iSCSI client, over libiscsi.
 *
 * A node has one session, which belongs to the loop that opened the node; calls of other threads are posted
 * to that loop and come back by theirs.  libiscsi never reconnects by itself: when the session is lost, what
 * is under way waits, and a worker logs in anew with the same ISID, so that the target drops what it had left
 * of the old session before the calls are sent again.
 *
 *   name.c     names and options
 *   session.c  logging in and asking what the unit can do, on a worker
 *   request.c  requests as SCSI commands, and what their answers mean
 *   link.c     calls on their way, and the loss of the session
 *   iscsi.c    the class
 */
#ifndef TENON_ISCSI_H
#define TENON_ISCSI_H

#include <tenon/loop.h>
#include <tenon/protocol.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

/* How often a call is sent over new sessions, and how often for passing reasons. */
#define ISCSI_MAX_TRIES 8
#define ISCSI_MAX_BUSY 12
#define ISCSI_INLINE_IOV 4

typedef struct IscsiClient IscsiClient;
typedef struct IscsiCall IscsiCall;

/* What the unit is, found when the session begins. */
typedef struct IscsiUnit {
  uint32_t block;
  uint64_t blocks;
  uint8_t type; /* of scsi_inquiry_peripheral_device_type */
  bool read_only;
  bool unmaps, same_unmaps;                            /* UNMAP; WRITE SAME with the unmap bit */
  bool reads_zeroes;                                   /* unmapped blocks read as zeroes */
  bool tells_status;                                   /* GET LBA STATUS may be asked */
  uint32_t max_transfer, max_unmap, unmap_granularity; /* blocks; 0: not told */
  uint64_t max_same;
} IscsiUnit;

/* One connection.  The address of it is libiscsi's for as long as the context lives. */
typedef struct IscsiSession {
  struct iscsi_context *context;
  bool connected;
  int status;
} IscsiSession;

struct IscsiCall {
  IscsiClient *client;
  IscsiCall *next;
  TnLoop *home;
  TnRequest *request; /* or NULL: a question of our own */
  void (*done) (IscsiCall *call, int result);
  void *opaque;
  struct scsi_iovec *iov; /* `few`, or ours to free */
  struct scsi_iovec few[ISCSI_INLINE_IOV];
  int64_t not_before; /* in `busy`: when to send it again */
  int result;
  uint8_t tries, busy;
  bool sent;
};

G_STATIC_ASSERT (sizeof (IscsiCall) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

typedef enum IscsiLink {
  ISCSI_LINK_DOWN = 0,
  ISCSI_LINK_UP,
  ISCSI_LINK_CONNECTING,
  ISCSI_LINK_BROKEN
} IscsiLink;

/* Written while the request is not known to the unit: atomic. */
typedef enum IscsiLacks {
  ISCSI_LACKS_UNMAP = 1 << 0,
  ISCSI_LACKS_SAME = 1 << 1,
  ISCSI_LACKS_STATUS = 1 << 2,
  ISCSI_LACKS_SYNC = 1 << 3
} IscsiLacks;

struct IscsiClient {
  TnNode *node;
  TnLoop *loop;
  char *host, *port, *target, *user, *password, *initiator;
  char *name;   /* for messages */
  char *portal; /* host and port as numbers; found once, since a sealed process cannot look names up */
  int lun;
  enum iscsi_header_digest digest;
  uint32_t isid;
  int timeout; /* seconds */
  int64_t reconnect_ns;
  bool writes;
  IscsiUnit unit;
  uint64_t size;  /* atomic */
  uint32_t lacks; /* IscsiLacks, atomic */
  uint8_t *zeroes;

  IscsiSession *session;
  IscsiLink link;
  int fd;
  short watched;
  int cancel;   /* atomic: the node is closing */
  bool serving; /* inside libiscsi: it must not be freed */
  bool lost;    /* to be noticed when it returns */
  bool kick_posted;
  bool size_stale;
  unsigned n_under_way;
  unsigned silent_ticks;
  IscsiCall *waiting, *waiting_last;
  IscsiCall *busy;                     /* to be sent again later */
  IscsiCall *finished, *finished_last; /* done() is called when nothing of the client is in use */
  TnTimer *tick, *retry;
};

/* ---- name.c ---- */

int iscsi_name_parse (const char *text, TnOptions *options, GError **error);
char *iscsi_name_of (const TnOptions *options);
int iscsi_name_read_options (IscsiClient *client, const TnOptions *options, GError **error);

/* ---- session.c ---- */

/* May wait; on a worker, or on a thread that may.  Fills *@unit. */
int iscsi_session_open (IscsiClient *client, IscsiSession **session, IscsiUnit *unit, int64_t deadline,
                        GError **error);
/* iscsi_service(), which must not end the program when the target has gone. */
int iscsi_session_serve (IscsiSession *session, int events);
/* Frees it; its callbacks come with SCSI_STATUS_CANCELLED. */
void iscsi_session_free (IscsiSession *session);
/* Says goodbye, for at most a second. */
void iscsi_session_logout (IscsiSession *session);

/* ---- request.c ---- */

/* 1: there is something to send, 0: nothing to do, or -errno. */
int iscsi_request_check (const IscsiClient *client, const TnRequest *request);
/* Hands the call's command to libiscsi; NULL: it does not take it. */
struct scsi_task *iscsi_request_start (IscsiCall *call, iscsi_command_cb answered);

typedef enum IscsiVerdict { ISCSI_VERDICT_DONE, ISCSI_VERDICT_AGAIN, ISCSI_VERDICT_LOST } IscsiVerdict;
/* What became of a command; DONE: with *@result. */
IscsiVerdict iscsi_request_judge (IscsiCall *call, int status, const struct scsi_task *task, int *result);
int iscsi_errno_of (const struct scsi_task *task);

static inline bool
iscsi_lacks (const IscsiClient *client, IscsiLacks what)
{
  return (__atomic_load_n (&client->lacks, __ATOMIC_RELAXED) & what) != 0;
}

/* ---- link.c ---- */

void iscsi_link_up (IscsiClient *client, IscsiSession *session);
/* Any thread. */
void iscsi_link_submit (IscsiCall *call);
void iscsi_link_close (IscsiClient *client);

#endif
