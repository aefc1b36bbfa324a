/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images of Ceph clusters, over librbd.
 *
 * librbd has threads of its own: requests are handed to it by whatever thread has them, and what it says at
 * their end is posted to the loop that they came from.  What waits (opening, closing, resizing) is done on
 * workers.  A request that has to wait for one of these, since it lies beyond the end of the image or since
 * somebody else has changed the image, goes through the queue of the node.
 *
 *   name.c     names, and the options that they become
 *   place.c    options, and what they mean to librados
 *   cluster.c  the connection
 *   image.c    images: opening and closing, making and removing
 *   create.c   making and removing, as the core asks for it
 *   request.c  requests and their ends
 *   queue.c    requests that wait
 *   map.c      where data is, what `info` tells
 *   rbd.c      the class
 */
#ifndef RBD_PLUGIN_H
#define RBD_PLUGIN_H

#include <tenon/loop.h>
#include <tenon/protocol.h>

#include <rados/librados.h>
#include <rbd/librbd.h>

#define RBD_DEFAULT_TIMEOUT 30 /* seconds */
#define RBD_MAX_SERVERS 64

typedef struct RbdClient RbdClient;
typedef struct RbdCall RbdCall;

/* Which image, and how to get there: what the options say. */
typedef struct RbdPlace {
  char *pool, *space, *image, *snapshot; /* space: the namespace, may be empty; snapshot: or NULL */
  char *user;                            /* or NULL: admin */
  char *conf;                            /* or NULL: where librados looks by itself */
  char *monitors;                        /* as mon_host has them; or NULL: the configuration's */
  char *auth;                            /* or NULL */
  char *key;                             /* or NULL; wiped */
  char *name;                            /* for messages: POOL/IMAGE */
  TnOptions *settings;                   /* of librados, by their names */
  int timeout;                           /* seconds; -1: not said */
} RbdPlace;

typedef struct RbdCluster {
  rados_t rados;
  rados_ioctx_t pool;
  char *where; /* for messages: the monitors */
} RbdCluster;

/* An open image. */
typedef struct RbdImage {
  rbd_image_t handle;
  uint64_t watch;
  bool watched;
  bool writable;
  uint64_t object_size;
  uint64_t size;
  bool maps; /* its object map tells where data is */
} RbdImage;

struct RbdCall {
  RbdClient *client;
  RbdCall *next; /* in the queue */
  TnLoop *home;
  TnRequest *request;
  int64_t result;
};

G_STATIC_ASSERT (sizeof (RbdCall) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

struct RbdClient {
  TnNode *node;
  RbdPlace place;
  RbdCluster cluster;
  RbdImage image;
  uint64_t size; /* atomic */
  int stale;     /* atomic: somebody has changed the image, its size may be another one */
  int grows;     /* atomic: writing beyond the end extends it */
  GMutex lock;   /* of what follows */
  RbdCall *first, *last;
  bool busy;  /* a worker is at the queue */
  GCond idle; /* it is not busy any more */
};

static inline RbdClient *
rbd_client_of (TnNode *node)
{
  return *(RbdClient **) tn_node_state (node);
}

static inline uint64_t
rbd_size_now (const RbdClient *client)
{
  return __atomic_load_n (&client->size, __ATOMIC_ACQUIRE);
}

/* Where the image has to reach for a request; 0: anywhere. */
static inline uint64_t
rbd_end_of (const TnRequest *request)
{
  const bool extends = request->op == TN_REQUEST_WRITE || request->op == TN_REQUEST_WRITE_ZEROES;
  return extends ? request->offset + request->length : 0;
}

/* ---- name.c ---- */

int rbd_name_parse (const char *text, TnOptions *options, GError **error);
char *rbd_name_of (const TnOptions *options);

/* ---- place.c ---- */

int rbd_place_read (RbdPlace *place, const TnOptions *options, GError **error);
void rbd_place_clear (RbdPlace *place);
/* `server.N.host` and `server.N.port` as mon_host has them; NULL in *@monitors: there are none. */
int rbd_place_monitors (const TnOptions *options, char **monitors, GError **error);

/* ---- cluster.c: all of it waits ---- */

int rbd_cluster_open (RbdCluster *cluster, const RbdPlace *place, bool cached, GError **error);
void rbd_cluster_close (RbdCluster *cluster);

/* ---- image.c: all of it waits ---- */

/* @stale is set when somebody changes the image; NULL: nobody wants to know. */
int rbd_image_open (RbdImage *image, const RbdCluster *cluster, const RbdPlace *place, bool writable,
                    int *stale, GError **error);
int rbd_image_close (RbdImage *image);
int rbd_image_make (const RbdCluster *cluster, const RbdPlace *place, uint64_t size, uint64_t object_size,
                    GError **error);
int rbd_image_remove (const RbdCluster *cluster, const RbdPlace *place, GError **error);

/* ---- request.c ---- */

void rbd_request_submit (RbdClient *client, TnRequest *request);
/* Hands it to librbd.  Any thread. */
void rbd_request_start (RbdCall *call);
/* Any thread. */
void rbd_request_end (RbdCall *call, int64_t result);

/* ---- queue.c ---- */

void rbd_queue_add (RbdCall *call);
/* Waits, not in the loop's thread. */
void rbd_queue_wait_idle (RbdClient *client);

/* ---- map.c ---- */

int rbd_map_find (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                  GError **error);
char *rbd_map_info (TnNode *node, GError **error);

/* ---- create.c ---- */

int rbd_create_node (const TnOptions *options, uint64_t size, GError **error);
int rbd_remove_node (const TnOptions *options, GError **error);

/* ---- rbd.c ---- */

/* Runs @work on a worker, and the loop meanwhile. */
void rbd_work_and_wait (void (*work) (void *opaque), void *opaque);

#endif
