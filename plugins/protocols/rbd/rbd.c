/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, creating and closing, the plugin. */
#include "rbd.h"

#define MAX_TRANSFER (16u << 20)
/* Objects that one request may be about, so that the servers can do it in time. */
#define MAX_COVERED (256u << 20)

/* ---- Work that waits, on a worker thread ---- */

typedef struct Work {
  void (*work) (void *opaque);
  void *opaque;
} Work;

static void
rbd_work_in_coroutine (void *opaque)
{
  const Work *work = opaque;
  tn_co_work (work->work, work->opaque);
}

void
rbd_work_and_wait (void (*work) (void *opaque), void *opaque)
{
  Work both = { work, opaque };
  tn_co_run (rbd_work_in_coroutine, &both);
}

/* ---- Opening and closing ---- */

typedef struct Opening {
  RbdClient *client;
  RbdImage image;
  bool writable, cached;
  int rc;
  GError *error;
} Opening;

static void
rbd_open_work (void *opaque)
{
  Opening *opening = opaque;
  RbdClient *client = opening->client;
  opening->rc = rbd_cluster_open (&client->cluster, &client->place, opening->cached, &opening->error);
  if (opening->rc == 0)
    opening->rc = rbd_image_open (&opening->image, &client->cluster, &client->place, opening->writable,
                                  &client->stale, &opening->error);
}

typedef struct Closing {
  RbdClient *client;
  int rc;
} Closing;

static void
rbd_close_work (void *opaque)
{
  Closing *closing = opaque;
  RbdClient *client = closing->client;
  rbd_queue_wait_idle (client);
  closing->rc = rbd_image_close (&client->image);
  rbd_cluster_close (&client->cluster);
}

static RbdClient *
rbd_client_new (TnNode *node, uint32_t flags)
{
  RbdClient *client = g_new0 (RbdClient, 1);
  client->node = node;
  client->grows = (flags & TN_OPEN_RESIZE) != 0;
  g_mutex_init (&client->lock);
  g_cond_init (&client->idle);
  return client;
}

static int
rbd_client_free (RbdClient *client, GError **error)
{
  Closing closing = { .client = client };
  g_autofree char *where = g_strdup (client->cluster.where);
  if (client->cluster.rados)
    rbd_work_and_wait (rbd_close_work, &closing);
  const int rc = closing.rc < 0
                     ? tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-closing.rc, 4095),
                                      "cannot close %s at the %s, what was written last may be lost",
                                      client->place.name, where)
                     : 0;
  rbd_place_clear (&client->place);
  g_cond_clear (&client->idle);
  g_mutex_clear (&client->lock);
  g_free (client);
  return rc;
}

static void
rbd_set_limits (const RbdClient *client)
{
  tn_node_set_limits (client->node, &(TnLimits){ .request_alignment = 1,
                                                 .memory_alignment = 1,
                                                 .max_transfer = MAX_TRANSFER,
                                                 .discard_alignment = 1,
                                                 .max_discard = MAX_COVERED,
                                                 .max_zeroes = MAX_COVERED });
  tn_node_set_size (client->node, client->size);
}

static int
rbd_open_node (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  RbdClient *client = rbd_client_new (node, flags);
  Opening opening = { .client = client,
                      .writable = (flags & TN_OPEN_WRITE) != 0,
                      .cached = !(flags & TN_OPEN_DIRECT) };
  int rc = rbd_place_read (&client->place, options, error);
  if (rc == 0) {
    rbd_work_and_wait (rbd_open_work, &opening);
    rc = opening.rc;
  }
  if (opening.error)
    g_propagate_error (error, opening.error);
  if (rc < 0) {
    rbd_client_free (client, NULL);
    return rc;
  }
  client->image = opening.image;
  client->size = opening.image.size;
  *(RbdClient **) tn_node_state (node) = client;
  rbd_set_limits (client);
  return 0;
}

static int
rbd_close_node (TnNode *node, GError **error)
{
  RbdClient *client = rbd_client_of (node);
  return client ? rbd_client_free (client, error) : 0;
}

/* ---- Changing ---- */

static void
rbd_submit (TnNode *node, TnRequest *request)
{
  rbd_request_submit (rbd_client_of (node), request);
}

static int
rbd_node_size (TnNode *node, uint64_t *size, GError **error)
{
  *size = rbd_size_now (rbd_client_of (node));
  return 0;
}

typedef struct Resizing {
  RbdClient *client;
  uint64_t size;
  int rc;
} Resizing;

static void
rbd_resize_work (void *opaque)
{
  Resizing *resizing = opaque;
  resizing->rc = rbd_resize (resizing->client->image.handle, resizing->size);
}

static int
rbd_resize_node (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  RbdClient *client = rbd_client_of (node);
  Resizing resizing = { .client = client, .size = size };
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: a Ceph cluster does not set space aside: preallocation has to be off",
                    client->place.name);
  rbd_work_and_wait (rbd_resize_work, &resizing);
  if (resizing.rc < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-resizing.rc, 4095),
                          "the %s does not resize %s to %" G_GUINT64_FORMAT " bytes", client->cluster.where,
                          client->place.name, size);
  __atomic_store_n (&client->size, size, __ATOMIC_RELEASE);
  return 0;
}

static void
rbd_reopen_work (void *opaque)
{
  Opening *opening = opaque;
  RbdClient *client = opening->client;
  opening->rc = rbd_image_open (&opening->image, &client->cluster, &client->place, true, &client->stale,
                                &opening->error);
  if (opening->rc == 0)
    rbd_image_close (&client->image); /* nothing has been written through it */
}

/* Nothing is under way.  Who has written may write again: the image stays open as it is. */
static int
rbd_reopen_node (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  RbdClient *client = rbd_client_of (node);
  Opening opening = { .client = client };
  if ((flags & TN_OPEN_WRITE) && !client->image.writable) {
    rbd_work_and_wait (rbd_reopen_work, &opening);
    if (opening.error)
      g_propagate_error (error, opening.error);
    if (opening.rc < 0)
      return opening.rc;
    client->image = opening.image;
    __atomic_store_n (&client->size, opening.image.size, __ATOMIC_RELEASE);
  }
  g_atomic_int_set (&client->grows, (flags & TN_OPEN_RESIZE) != 0);
  return 0;
}

/* ---- The plugin ---- */

#define ANY (TN_OPTION_OPEN | TN_OPTION_CREATE)

static const TnOption rbd_options[] = {
  { .name = "pool", .type = TN_OPTION_STRING, .when = ANY | TN_OPTION_REQUIRED, .help = "name of the pool" },
  { .name = "namespace", .type = TN_OPTION_STRING, .when = ANY, .help = "namespace in the pool" },
  { .name = "image",
    .type = TN_OPTION_STRING,
    .when = ANY | TN_OPTION_REQUIRED,
    .help = "name of the image" },
  { .name = "snapshot",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "snapshot of the image that is wanted, read-only" },
  { .name = "conf",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "Ceph's configuration file (default: where librados looks, such as /etc/ceph/ceph.conf)" },
  { .name = "user",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "name to log in with, without 'client.' (default: admin)" },
  { .name = "key-secret",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "id of the secret that is the user's key" },
  { .name = "auth-client-required",
    .type = TN_OPTION_GROUP,
    .when = ANY,
    .help = "list of the ways to log in that will do: auth-client-required.0=cephx or none" },
  { .name = "server",
    .type = TN_OPTION_GROUP,
    .when = ANY,
    .help = "monitors: server.0.host, server.0.port, server.1.host… (default: the configuration's)" },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 100000,
    .help = "seconds to wait for the cluster (default: the configuration's, else 30); 0: for ever" },
  { .name = "config",
    .type = TN_OPTION_GROUP,
    .when = ANY,
    .help = "settings of librados and librbd by their names: config.rbd_cache_size=64M" },
  { .name = "encrypt", .type = TN_OPTION_GROUP, .when = ANY, .help = "not supported" },
  { .name = "object-size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .help = "bytes of an object (default: the configuration's, else 4M)" },
  { .name = "cluster_size", .type = TN_OPTION_SIZE, .when = TN_OPTION_CREATE, .help = "the same" },
  { .name = NULL },
};

static const TnProtocolOps rbd_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (RbdClient *),
  .parse_filename = rbd_name_parse,
  .filename = rbd_name_of,
  .open = rbd_open_node,
  .close = rbd_close_node,
  .create = rbd_create_node,
  .remove = rbd_remove_node,
  .submit = rbd_submit,
  .get_size = rbd_node_size,
  .resize = rbd_resize_node,
  .map = rbd_map_find,
  .reopen = rbd_reopen_node,
  .info_specific = rbd_map_info,
};

static const char *const rbd_schemes[] = { "rbd", NULL };

static const TnClass rbd_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "rbd",
  .summary = "images of Ceph clusters",
  .schemes = rbd_schemes,
  .options = rbd_options,
  .ops = &rbd_ops,
};

static const TnClass *const rbd_classes[] = { &rbd_class, NULL };

TN_PLUGIN_DEFINE (protocol_rbd, .security = TN_SECURITY_TRUSTED_INPUT, .name = "protocol-rbd",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-rbd",
                  .classes = rbd_classes);
