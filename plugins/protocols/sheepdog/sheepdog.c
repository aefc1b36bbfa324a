/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks in sheepdog clusters: opening, creating and closing, the plugin. */
#include "sheepdog.h"

#define SD_OPEN_NS INT64_C (30000000000)
#define SD_RELEASE_NS INT64_C (3000000000)

static SdClient *
sd_client_of (TnNode *node)
{
  return *(SdClient **) tn_node_state (node);
}

/* ---- Work that waits, on a worker thread ---- */

typedef struct SdWork {
  int (*work) (struct SdWork *work);
  const SdPlace *place;
  SdSession session;
  uint32_t *table;
  uint64_t size;
  int rc;
  GError **error;
} SdWork;

static void
sd_work_main (void *opaque)
{
  SdWork *work = opaque;
  work->rc = work->work (work);
}

static void
sd_work_coroutine (void *opaque)
{
  tn_co_work (sd_work_main, opaque);
}

static int
sd_work_run (SdWork *work)
{
  const int64_t ns = work->place->timeout_ns ? work->place->timeout_ns : SD_OPEN_NS;
  work->session.place = work->place;
  if (work->session.deadline == 0)
    work->session.deadline = tn_clock_ns () + ns;
  tn_co_run (sd_work_coroutine, work);
  return work->rc;
}

static int
sd_open_work (SdWork *work)
{
  SdSession *session = &work->session;
  int rc = sd_session_connect (session, work->error);
  if (rc < 0)
    return rc;
  rc = sd_session_find (session, false, work->error);
  if (rc == 0) {
    rc = sd_session_load (session, work->table, work->error);
    if (rc < 0 && session->lock)
      sd_session_release (session);
  }
  if (rc < 0)
    nbd_channel_close (&session->channel);
  return rc;
}

static int
sd_release_work (SdWork *work)
{
  if (work->session.lock)
    sd_session_release (&work->session);
  nbd_channel_close (&work->session.channel);
  return 0;
}

static int
sd_create_work (SdWork *work)
{
  return sd_vdi_create (work->place, work->size, work->session.deadline, work->error);
}

static int
sd_remove_work (SdWork *work)
{
  return sd_vdi_remove (work->place, work->session.deadline, work->error);
}

/* ---- Opening ---- */

static void
sd_client_free (SdClient *client)
{
  sd_place_clear (&client->place);
  g_free (client->table);
  g_free (client);
}

static SdClient *
sd_client_new (TnNode *node, const TnOptions *options, uint32_t flags)
{
  SdClient *client = g_new0 (SdClient, 1);
  client->node = node;
  client->loop = tn_loop_current ();
  client->writes = (flags & TN_OPEN_WRITE) != 0;
  client->flags = flags & TN_OPEN_DIRECT ? SD_FLAG_DIRECT : SD_FLAG_CACHE;
  client->reconnect_ns = (int64_t) tn_options_uint (options, "reconnect-delay") * 1000000000;
  client->table = g_new0 (uint32_t, SD_MAX_OBJECTS);
  return client;
}

static int
sd_check_writable (const SdClient *client, GError **error)
{
  const SdPlace *place = &client->place;
  if (client->writes && (place->snap_id || *place->tag))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS,
                    "a snapshot of '%s' on the %s is read-only: open it read-only, or write to a clone of it",
                    place->vdi, place->server);
  return 0;
}

static int
sd_take_session (SdClient *client, SdWork *work, GError **error)
{
  client->inode = work->session.inode;
  client->shift = client->inode.shift;
  if (!client->writes || !client->inode.is_snapshot)
    return 0;
  sd_work_run (&(SdWork){ .work = sd_release_work, .place = &client->place, .session = work->session });
  return tn_fail (error, TN_BLOCK_ERROR, EROFS, "'%s' on the %s is a snapshot now: open it read-only",
                  client->place.vdi, client->place.server);
}

static int
sd_node_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  SdClient *client = sd_client_new (node, options, flags);
  SdWork work = { .work = sd_open_work, .place = &client->place, .table = client->table, .error = error };
  work.session.lock = client->writes;
  int rc = sd_place_init (&client->place, options, error);
  if (rc == 0)
    rc = sd_check_writable (client, error);
  if (rc == 0)
    rc = sd_work_run (&work);
  if (rc == 0)
    rc = sd_take_session (client, &work, error);
  if (rc < 0) {
    sd_client_free (client);
    return rc;
  }
  *(SdClient **) tn_node_state (node) = client;
  tn_node_set_limits (
      node, &(TnLimits){ .request_alignment = 1, .memory_alignment = 1, .max_transfer = SD_MAX_TRANSFER });
  tn_node_set_size (node, client->inode.size);
  sd_link_up (client, &work.session.channel);
  return 0;
}

static int
sd_node_close (TnNode *node, GError **error)
{
  SdClient *client = sd_client_of (node);
  SdWork work = { .work = sd_release_work };
  if (!client)
    return 0;
  work.place = &client->place;
  work.session = (SdSession){ .inode = client->inode,
                              .lock = client->writes,
                              .deadline = tn_clock_ns () + SD_RELEASE_NS };
  sd_link_close (client, &work.session.channel);
  if (work.session.channel.fd >= 0)
    sd_work_run (&work);
  sd_client_free (client);
  return 0;
}

static int
sd_node_make (const TnOptions *options, SdWork *work)
{
  SdPlace place = { 0 };
  work->place = &place;
  int rc = sd_place_init (&place, options, work->error);
  if (rc == 0)
    rc = sd_work_run (work);
  sd_place_clear (&place);
  return rc;
}

static int
sd_node_create (const TnOptions *options, uint64_t size, GError **error)
{
  return sd_node_make (options, &(SdWork){ .work = sd_create_work, .size = size, .error = error });
}

static int
sd_node_remove (const TnOptions *options, GError **error)
{
  return sd_node_make (options, &(SdWork){ .work = sd_remove_work, .error = error });
}

/* ---- Properties ---- */

static int
sd_resize_work (SdClient *client, void *opaque)
{
  return sd_grow (client, *(const uint64_t *) opaque);
}

static int
sd_node_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  SdClient *client = sd_client_of (node);
  const char *server = client->place.server, *vdi = client->place.vdi;
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "the %s cannot set space aside: preallocation has to be off", server);
  if (size < tn_node_size (node))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "'%s' on the %s cannot be made smaller: copy it into a new VDI", vdi, server);
  if (size > (uint64_t) SD_MAX_OBJECTS << client->shift)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "'%s' on the %s cannot be larger than %u TiB: make it anew with a larger object_size",
                    vdi, server, 1u << (client->shift - 20));
  const int rc = sd_link_run (client, sd_resize_work, &size);
  return rc < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "the %s cannot resize '%s'", server, vdi) : 0;
}

static int
sd_node_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const SdClient *client = sd_client_of (node);
  const uint8_t shift = client->shift;
  const uint64_t first = offset >> shift;
  const bool data = sd_entry (client, first) != 0;
  const uint64_t most = MIN (SD_MAX_OBJECTS, ((offset + length) >> shift) + 1);
  uint64_t end = first + 1;
  while (end < most && (sd_entry (client, end) != 0) == data)
    end++;
  *extent = (TnExtent){ .offset = first << shift,
                        .length = (end - first) << shift,
                        .kind = data ? TN_EXTENT_DATA : TN_EXTENT_ZERO };
  if (data) {
    extent->source_offset = extent->offset;
    extent->flags = client->writes ? TN_EXTENT_WRITABLE : 0;
  }
  return 0;
}

static int
sd_allocated_work (SdClient *client, void *opaque)
{
  uint64_t *bytes = opaque;
  const uint64_t n = sd_objects_of (&client->inode);
  for (uint64_t i = 0; i < n; i++)
    *bytes += sd_entry (client, i) == client->inode.vdi_id ? UINT64_C (1) << client->shift : 0;
  return 0;
}

/* Objects of its own: those of parents are theirs. */
static int
sd_node_allocated (TnNode *node, uint64_t *bytes, GError **error)
{
  uint64_t sum = 0;
  const int rc = sd_link_run (sd_client_of (node), sd_allocated_work, &sum);
  if (rc == 0)
    *bytes = sum;
  return rc;
}

static char *
sd_node_info (TnNode *node, GError **error)
{
  const SdInode *inode = &sd_client_of (node)->inode;
  return g_strdup_printf (
      "{\"type\": \"sheepdog\", \"data\": {\"vdi-id\": %u, \"object-size\": %" G_GUINT64_FORMAT
      ", \"copies\": %u, \"copy-policy\": %u, \"snapshot\": %s, \"snap-id\": %u, "
      "\"parent-vdi-id\": %u}}",
      inode->vdi_id, UINT64_C (1) << inode->shift, inode->copies, inode->copy_policy,
      inode->is_snapshot ? "true" : "false", inode->snap_id, inode->parent);
}

/* ---- The plugin ---- */

#define SD_ANY (TN_OPTION_OPEN | TN_OPTION_CREATE)

static const char *const sd_server_types[] = { "inet", "unix", NULL };

static const TnOption sd_options[] = {
  { .name = "server.type",
    .type = TN_OPTION_ENUM,
    .when = SD_ANY,
    .help = "how to reach the server",
    .choices = sd_server_types },
  { .name = "server.host",
    .type = TN_OPTION_STRING,
    .when = SD_ANY,
    .help = "name or address of its host (default: localhost)" },
  { .name = "server.port", .type = TN_OPTION_STRING, .when = SD_ANY, .help = "its port (default: 7000)" },
  { .name = "server.path", .type = TN_OPTION_STRING, .when = SD_ANY, .help = "path of its Unix socket" },
  { .name = "vdi",
    .type = TN_OPTION_STRING,
    .when = SD_ANY | TN_OPTION_REQUIRED,
    .help = "name of the disk" },
  { .name = "snap-id",
    .type = TN_OPTION_UINT,
    .when = SD_ANY,
    .max = UINT32_MAX,
    .help = "number of a snapshot of it" },
  { .name = "tag", .type = TN_OPTION_STRING, .when = SD_ANY, .help = "tag of a snapshot of it" },
  { .name = "redundancy",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "copies of each object, or DATA:PARITY (default: the cluster's)" },
  { .name = "object_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .help = "bytes of an object, a power of two from 1M to 2G (default: the cluster's)" },
  { .name = "clone-of",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "snapshot to begin with, VDI:ID or VDI:TAG of the same cluster" },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .when = SD_ANY,
    .value = "30",
    .max = 100000,
    .help = "seconds that the server may be silent while requests are under way; 0: any time" },
  { .name = "reconnect-delay",
    .type = TN_OPTION_UINT,
    .value = "0",
    .max = 100000,
    .help = "seconds that requests wait for a lost connection to come back; 0: they fail" },
  { .name = NULL },
};

static const TnProtocolOps sd_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (SdClient *),
  .parse_filename = sd_name_parse,
  .filename = sd_name_of,
  .open = sd_node_open,
  .close = sd_node_close,
  .create = sd_node_create,
  .remove = sd_node_remove,
  .submit = sd_node_submit,
  .resize = sd_node_resize,
  .map = sd_node_map,
  .allocated = sd_node_allocated,
  .info_specific = sd_node_info,
};

static const char *const sd_schemes[] = { "sheepdog", "sheepdog+tcp", "sheepdog+unix", NULL };

static const TnClass sd_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "sheepdog",
  .summary = "disks in sheepdog clusters",
  .schemes = sd_schemes,
  .options = sd_options,
  .ops = &sd_ops,
};

static const TnClass *const sd_classes[] = { &sd_class, NULL };

TN_PLUGIN_DEFINE (protocol_sheepdog, .security = TN_SECURITY_TRUSTED_INPUT, .name = "protocol-sheepdog",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-sheepdog",
                  .classes = sd_classes);
