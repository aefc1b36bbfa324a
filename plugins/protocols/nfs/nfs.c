/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files on NFS servers: opening, creating and closing, requests, the plugin. */
#include "nfs.h"

#define OPEN_NS INT64_C (30000000000)

static NfsClient *
client_of (TnNode *node)
{
  return *(NfsClient **) tn_node_state (node);
}

/* ---- Requests ---- */

static void
request_done (NfsCall *call, int result)
{
  TnRequest *request = call->request;
  request->done (request, result);
}

static void
nfs_node_submit (TnNode *node, TnRequest *request)
{
  const bool moves = request->op == TN_REQUEST_READ || request->op == TN_REQUEST_WRITE;
  if (!moves && request->op != TN_REQUEST_FLUSH) {
    request->done (request, -ENOTSUP);
    return;
  }
  if (moves && request->length == 0) {
    request->done (request, 0);
    return;
  }
  const NfsCallKind kind = request->op == TN_REQUEST_READ    ? NFS_CALL_READ
                           : request->op == TN_REQUEST_WRITE ? NFS_CALL_WRITE
                                                             : NFS_CALL_FLUSH;
  NfsCall *call = tn_request_leaf_scratch (request);
  *call = (NfsCall){ .client = client_of (node),
                     .request = request,
                     .done = request_done,
                     .kind = kind,
                     .offset = request->offset,
                     .length = request->length };
  nfs_link_submit (call);
}

/* ---- Work that waits, on a worker thread ---- */

typedef struct Task {
  void (*work) (struct Task *task);
  NfsPlace *place;
  NfsOpenHow how;
  uint64_t size; /* NFS_OPEN_CREATE */
  int64_t deadline;
  NfsSession *session;
  GError **error;
  int rc;
} Task;

static void
task_work (void *opaque)
{
  Task *task = opaque;
  task->work (task);
}

static void
task_coroutine (void *opaque)
{
  tn_co_work (task_work, opaque);
}

static int
task_run (Task *task)
{
  const int64_t ns = task->place->timeout_ns ? task->place->timeout_ns : OPEN_NS;
  task->deadline = tn_clock_ns () + ns;
  tn_co_run (task_coroutine, task);
  return task->rc;
}

static void
open_work (Task *task)
{
  task->rc = nfs_session_open (task->place, task->how, NULL, task->deadline, &task->session, task->error);
}

static void
create_work (Task *task)
{
  open_work (task);
  if (task->rc == 0 && task->size)
    task->rc = nfs_session_truncate (task->place, task->session, task->size, task->deadline, task->error);
  nfs_session_free (g_steal_pointer (&task->session), task->rc == 0);
}

static void
remove_work (Task *task)
{
  task->rc = nfs_session_remove_file (task->place, task->deadline, task->error);
}

/* ---- Opening ---- */

static void
client_free (NfsClient *client)
{
  nfs_place_clear (&client->place);
  g_free (client);
}

static int
nfs_node_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  NfsClient *client = g_new0 (NfsClient, 1);
  client->node = node;
  client->loop = tn_loop_current ();
  client->writes = (flags & TN_OPEN_WRITE) != 0;
  client->stable = tn_options_bool (options, "stable");
  client->reconnect_ns = (int64_t) tn_options_uint (options, "reconnect-delay") * 1000000000;
  Task task = { .work = open_work, .place = &client->place, .error = error };
  task.how = !client->writes ? NFS_OPEN_READ : client->stable ? NFS_OPEN_STABLE : NFS_OPEN_WRITE;
  int rc = nfs_place_init (&client->place, options, error);
  if (rc == 0)
    rc = task_run (&task);
  if (rc < 0) {
    client_free (client);
    return rc;
  }
  *(NfsClient **) tn_node_state (node) = client;
  tn_node_set_limits (node, &(TnLimits){ .request_alignment = 1,
                                         .memory_alignment = 1,
                                         .max_transfer = task.session->max_transfer });
  tn_node_set_size (node, task.session->size);
  nfs_link_up (client, task.session);
  return 0;
}

static int
nfs_node_close (TnNode *node, GError **error)
{
  NfsClient *client = client_of (node);
  if (!client)
    return 0;
  nfs_link_close (client);
  client_free (client);
  return 0;
}

static int
make (const TnOptions *options, Task *task)
{
  NfsPlace place = { 0 };
  task->place = &place;
  int rc = nfs_place_init (&place, options, task->error);
  if (rc == 0)
    rc = task_run (task);
  nfs_place_clear (&place);
  return rc;
}

static int
nfs_node_create (const TnOptions *options, uint64_t size, GError **error)
{
  return make (options, &(Task){ .work = create_work, .how = NFS_OPEN_CREATE, .size = size, .error = error });
}

static int
nfs_node_remove (const TnOptions *options, GError **error)
{
  return make (options, &(Task){ .work = remove_work, .error = error });
}

/* ---- Properties ---- */

static int
nfs_node_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  NfsClient *client = client_of (node);
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "the %s cannot set space aside: preallocation has to be off", client->place.name);
  const int rc = nfs_link_run (&(NfsCall){ .client = client, .kind = NFS_CALL_RESIZE, .offset = size });
  return rc < 0
             ? tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "the %s cannot resize the file", client->place.name)
             : 0;
}

static int
nfs_node_allocated (TnNode *node, uint64_t *bytes, GError **error)
{
  NfsCall call = { .client = client_of (node), .kind = NFS_CALL_STAT };
  const int rc = nfs_link_run (&call);
  *bytes = rc < 0 ? UINT64_MAX : call.offset;
  return 0;
}

/* ---- The plugin ---- */

#define ANY (TN_OPTION_OPEN | TN_OPTION_CREATE)

static const TnOption nfs_options[] = {
  { .name = "server.host", .type = TN_OPTION_STRING, .when = ANY, .help = "name or address of the server" },
  { .name = "server.type", .type = TN_OPTION_STRING, .when = ANY, .value = "inet", .help = "inet" },
  { .name = "server.port",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 65535,
    .help = "port of NFS (default: what the port mapper says)" },
  { .name = "mountport",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 65535,
    .help = "port of the mount protocol (default: that of NFS, or what the port mapper says)" },
  { .name = "path",
    .type = TN_OPTION_STRING,
    .when = ANY | TN_OPTION_REQUIRED,
    .help = "path of the file on the server: its folder is mounted" },
  { .name = "version", .type = TN_OPTION_UINT, .when = ANY, .value = "3", .max = 4, .help = "3 or 4" },
  { .name = "user",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = INT32_MAX,
    .help = "number of the user to be (default: your own)" },
  { .name = "group",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = INT32_MAX,
    .help = "number of the group to be (default: your own)" },
  { .name = "tcp-syn-count",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 255,
    .help = "how often a connection is tried (default: the system's)" },
  { .name = "readahead-size",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 1 << 20,
    .help = "bytes to read ahead (default: none)" },
  { .name = "page-cache-size",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .max = 8192,
    .help = "pages of 4 KiB to keep of what was read (default: none)" },
  { .name = "stable",
    .type = TN_OPTION_BOOL,
    .value = "off",
    .help = "write to stable storage at once, so that a server may start anew at any time" },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .value = "30",
    .max = 100000,
    .help = "seconds that the server may be silent while requests are under way; 0: any time" },
  { .name = "reconnect-delay",
    .type = TN_OPTION_UINT,
    .value = "30",
    .max = 100000,
    .help = "seconds that requests wait for a lost server to come back; 0: they fail" },
  { .name = NULL },
};

static const TnProtocolOps nfs_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (NfsClient *),
  .parse_filename = nfs_name_parse,
  .filename = nfs_name_of,
  .open = nfs_node_open,
  .close = nfs_node_close,
  .create = nfs_node_create,
  .remove = nfs_node_remove,
  .submit = nfs_node_submit,
  .resize = nfs_node_resize,
  .allocated = nfs_node_allocated,
};

static const char *const nfs_schemes[] = { "nfs", NULL };

static const TnClass nfs_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "nfs",
  .summary = "files on NFS servers",
  .schemes = nfs_schemes,
  .options = nfs_options,
  .ops = &nfs_ops,
};

static const TnClass *const nfs_classes[] = { &nfs_class, NULL };

TN_PLUGIN_DEFINE (protocol_nfs, .security = TN_SECURITY_TRUSTED_INPUT, .name = "protocol-nfs",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-nfs",
                  .classes = nfs_classes);
