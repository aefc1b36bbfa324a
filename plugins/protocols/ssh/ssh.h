/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files on SSH servers, by SFTP.
 *
 * libssh waits for answers, and a session is for one thread at a time.  What a node is asked for goes to a
 * queue; while it is not empty, one worker thread has the session and works it off.  Reads are sent ahead of
 * the answers to earlier ones, all else is done one by one.
 *
 * A session that is lost fails what is under way; the next in the queue makes another one, to the same
 * addresses and host key, and with the same key, since the sandbox keeps from reading any file by then.
 */
#ifndef SSH_PLUGIN_H
#define SSH_PLUGIN_H

#include "name.h"

#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <tenon/loop.h>
#include <tenon/protocol.h>

#define SSH_MAX_ADDRESSES 8

typedef struct SshNode SshNode;
typedef struct SshJob SshJob;

/* A connection and what is open on it. */
typedef struct SshLink {
  int fd; /* -1: none.  libssh closes it. */
  ssh_session session;
  sftp_session sftp;
  sftp_file file;
} SshLink;

/* What connecting needs, found out the first time. */
typedef struct SshTarget {
  TnOptions *options;   /* settled */
  char *server;         /* for messages */
  GPtrArray *addresses; /* of GBytes: struct sockaddr */
  ssh_key key;          /* of the option identity, or NULL */
  char *pin;            /* hash of the host key that was accepted, or NULL */
  int64_t timeout_ns;   /* 0: for ever */
  /* Ends a connection on which nothing happens; @fd is its own copy of the number, under @lock. */
  GMutex lock;
  TnTimer *watchdog;
  int watched;
} SshTarget;

struct SshJob {
  SshNode *node;
  SshJob *next;
  TnLoop *home;
  TnRequest *request; /* NULL: @work */
  int (*work) (SshNode *node, void *opaque);
  void (*done) (SshJob *job);
  void *opaque;
  uint64_t begun; /* READ: bytes that were asked for */
  unsigned parts; /* READ: answers that are missing */
  int result;
};

G_STATIC_ASSERT (sizeof (SshJob) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

struct SshNode {
  TnNode *node;
  SshTarget target;
  SshLink link; /* the worker's while @busy */
  bool writable;
  GMutex lock; /* of what follows */
  SshJob *first, *last;
  bool busy;
  GCond idle; /* it is not busy any more */
};

/* ---- connect.c ---- */

int ssh_target_init (SshTarget *target, const TnOptions *options, GError **error);
void ssh_target_clear (SshTarget *target);
/* Waits.  Makes a session with SFTP on it. */
int ssh_link_up (SshTarget *target, SshLink *link, GError **error);
void ssh_link_down (SshTarget *target, SshLink *link);
/* Whether all is over with a connection after a call failed. */
bool ssh_link_lost (const SshLink *link);
/* Around calls that wait for the server. */
void ssh_watch_begin (SshTarget *target);
void ssh_watch_end (SshTarget *target);

/* ---- hostkey.c ---- */

int ssh_check_host_key (SshTarget *target, ssh_session session, GError **error);

/* ---- file.c: all of it waits ---- */

int ssh_file_errno (const SshLink *link);
int ssh_file_open (SshTarget *target, SshLink *link, int flags, uint64_t *size, GError **error);
int ssh_file_write (SshLink *link, const TnRequest *request);
int ssh_file_flush (SshLink *link);
int ssh_file_set_size (const SshTarget *target, const SshLink *link, uint64_t size);

/* ---- queue.c ---- */

void ssh_queue_add (SshJob *job);
/* Waits, not in the loop's thread: the last job ends before its worker does. */
void ssh_queue_wait_idle (SshNode *node);
/* Runs @work with the session, in a coroutine or not. */
int ssh_queue_run (SshNode *node, int (*work) (SshNode *node, void *opaque), void *opaque);

#endif
