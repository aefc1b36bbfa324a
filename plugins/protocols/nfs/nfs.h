/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NFS client, over libnfs.
 *
 * A node has one session (a mount and an open file), which belongs to the loop that opened the node; calls of
 * other threads are posted to that loop and come back by theirs.  libnfs is told not to reconnect by itself,
 * because it would do so for ever: when the session is lost, what is under way waits, and a worker mounts and
 * opens anew before the calls are sent again.
 *
 *   name.c     names and options
 *   session.c  mounting and opening, on a worker
 *   link.c     calls on their way, and the loss of the session
 *   nfs.c      the class
 */
#ifndef TENON_NFS_H
#define TENON_NFS_H

#include <tenon/loop.h>
#include <tenon/protocol.h>

#include <nfsc/libnfs.h>

/* How often a call is sent over new sessions. */
#define NFS_MAX_TRIES 8
/* What every libnfs takes in one write. */
#define NFS_SMALL_WRITE 2048

typedef struct NfsClient NfsClient;
typedef struct NfsCall NfsCall;

/* Where the file is and how to get at it. */
typedef struct NfsPlace {
  char *host;   /* as given */
  char *folder; /* what is mounted */
  char *file;   /* in the folder, with a slash before it */
  char *name;   /* for messages: "NFS server HOST" */
  char *server; /* the host as a number; found once, since a sealed process cannot look names up */
  unsigned version, port, mount_port, syn_count, readahead, page_cache;
  int64_t uid, gid; /* below 0: the process's own */
  int64_t timeout_ns;
} NfsPlace;

/* One mount and one open file. */
typedef struct NfsSession {
  struct nfs_context *context;
  struct nfsfh *file;
  uint64_t size, allocated, max_transfer, max_write;
} NfsSession;

typedef enum NfsCallKind {
  NFS_CALL_READ = 0,
  NFS_CALL_WRITE,
  NFS_CALL_FLUSH,
  NFS_CALL_RESIZE, /* to .offset */
  NFS_CALL_STAT    /* .offset becomes the bytes in use */
} NfsCallKind;

struct NfsCall {
  NfsClient *client;
  NfsCall *next;
  TnLoop *home;
  TnRequest *request; /* or NULL: a question of our own */
  void (*done) (NfsCall *call, int result);
  void *opaque;
  uint64_t offset, length;
  uint64_t moved;   /* bytes of @length that are done */
  int64_t deadline; /* 0: not sent yet */
  int result;
  uint8_t kind; /* NfsCallKind */
  uint8_t tries;
};

G_STATIC_ASSERT (sizeof (NfsCall) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

typedef enum NfsLink { NFS_LINK_DOWN = 0, NFS_LINK_UP, NFS_LINK_CONNECTING } NfsLink;

struct NfsClient {
  TnNode *node;
  TnLoop *loop;
  NfsPlace place;
  int64_t reconnect_ns;
  bool writes;
  bool stable; /* a write is answered when it is on stable storage */

  NfsSession *session;
  NfsLink link;
  int fd;
  short watched;
  int cancel;   /* atomic: the node is closing */
  bool lost;    /* to be noticed when libnfs returns */
  bool doubted; /* writes that were answered and not yet flushed went with a session that was lost */
  bool kick_posted;
  unsigned n_under_way;
  uint64_t n_unflushed; /* writes answered since the last flush */
  int64_t heard;        /* when the server said something last */
  NfsCall *waiting, *waiting_last;
  NfsCall *finished, *finished_last; /* done() is called when nothing of the client is in use */
  TnTimer *tick;
};

/* ---- name.c ---- */

int nfs_name_parse (const char *text, TnOptions *options, GError **error);
char *nfs_name_of (const TnOptions *options);
int nfs_place_init (NfsPlace *place, const TnOptions *options, GError **error);
void nfs_place_clear (NfsPlace *place);

/* ---- session.c ---- */

typedef enum NfsOpenHow { NFS_OPEN_READ = 0, NFS_OPEN_WRITE, NFS_OPEN_STABLE, NFS_OPEN_CREATE } NfsOpenHow;

/* May wait, until @deadline or until *@cancel (may be NULL) is set; on a worker. */
int nfs_session_open (NfsPlace *place, NfsOpenHow how, const int *cancel, int64_t deadline,
                      NfsSession **session, GError **error);
/* Waits, too, for one operation. */
int nfs_session_truncate (const NfsPlace *place, NfsSession *session, uint64_t size, int64_t deadline,
                          GError **error);
int nfs_session_remove_file (NfsPlace *place, int64_t deadline, GError **error);
/* nfs_service(), which must not end the program when the server has gone. */
int nfs_session_serve (NfsSession *session, int events);
/* Frees it; callbacks of what is under way come with an error.  @friendly: the server is told, for at most a
 * second. */
void nfs_session_free (NfsSession *session, bool friendly);

/* ---- link.c ---- */

void nfs_link_up (NfsClient *client, NfsSession *session);
/* Any thread. */
void nfs_link_submit (NfsCall *call);
/* Waits for its end; the result. */
int nfs_link_run (NfsCall *call);
void nfs_link_close (NfsClient *client);

#endif
