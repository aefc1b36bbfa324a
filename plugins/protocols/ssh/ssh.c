/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, creating and closing, the plugin. */
#include "ssh.h"

#include <fcntl.h>

#define MAX_TRANSFER (2u << 20)

static SshNode *
ssh_of (TnNode *node)
{
  return *(SshNode **) tn_node_state (node);
}

/* ---- Work that waits, on a worker thread ---- */

typedef struct Work {
  void (*work) (void *opaque);
  void *opaque;
} Work;

static void
work_in_coroutine (void *opaque)
{
  const Work *work = opaque;
  tn_co_work (work->work, work->opaque);
}

/* The loop runs meanwhile, and with it the watchdog. */
static void
work_and_wait (void (*work) (void *opaque), void *opaque)
{
  Work both = { work, opaque };
  tn_co_run (work_in_coroutine, &both);
}

/* ---- Opening ---- */

typedef struct Opening {
  SshNode *node;
  uint64_t size;
  int rc;
  GError *error;
} Opening;

static void
open_work (void *opaque)
{
  Opening *opening = opaque;
  SshNode *node = opening->node;
  opening->rc = ssh_link_up (&node->target, &node->link, &opening->error);
  if (opening->rc == 0)
    opening->rc = ssh_file_open (&node->target, &node->link, node->writable ? O_RDWR : O_RDONLY,
                                 &opening->size, &opening->error);
}

static void
close_work (void *opaque)
{
  SshNode *node = opaque;
  ssh_queue_wait_idle (node);
  if (node->link.session)
    ssh_link_down (&node->target, &node->link);
}

static void
ssh_node_free (SshNode *node)
{
  work_and_wait (close_work, node);
  ssh_target_clear (&node->target);
  g_cond_clear (&node->idle);
  g_mutex_clear (&node->lock);
  g_free (node);
}

static int
ssh_open (TnNode *tn_node, const TnOptions *options, uint32_t flags, GError **error)
{
  SshNode **state = tn_node_state (tn_node);
  SshNode *node = g_new0 (SshNode, 1);
  Opening opening = { .node = node };
  node->node = tn_node;
  node->writable = flags & TN_OPEN_WRITE;
  node->link.fd = -1;
  g_mutex_init (&node->lock);
  g_cond_init (&node->idle);
  int rc = ssh_target_init (&node->target, options, error);
  if (rc == 0) {
    work_and_wait (open_work, &opening);
    rc = opening.rc;
  }
  if (opening.error)
    g_propagate_error (error, opening.error);
  if (rc < 0) {
    ssh_node_free (node);
    return rc;
  }
  *state = node;
  tn_node_set_limits (
      tn_node, &(TnLimits){ .request_alignment = 1, .memory_alignment = 1, .max_transfer = MAX_TRANSFER });
  tn_node_set_size (tn_node, opening.size);
  return 0;
}

static int
ssh_close (TnNode *tn_node, GError **error)
{
  SshNode *node = ssh_of (tn_node);
  if (node)
    ssh_node_free (node);
  return 0;
}

/* ---- Requests ---- */

static void
request_done (SshJob *job)
{
  TnRequest *request = job->request;
  request->done (request, job->result);
}

static void
ssh_submit (TnNode *node, TnRequest *request)
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
  SshJob *job = tn_request_leaf_scratch (request);
  *job = (SshJob){ .node = ssh_of (node), .request = request, .done = request_done };
  ssh_queue_add (job);
}

static int
resize_work (SshNode *node, void *opaque)
{
  const uint64_t *size = opaque;
  return ssh_file_set_size (&node->target, &node->link, *size);
}

static int
ssh_resize (TnNode *tn_node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  SshNode *node = ssh_of (tn_node);
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "the %s cannot set space aside: preallocation has to be off", node->target.server);
  const int rc = ssh_queue_run (node, resize_work, &size);
  return rc < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "the %s cannot resize the file",
                                 node->target.server)
                : 0;
}

/* ---- Creating ---- */

typedef struct Making {
  SshTarget target;
  uint64_t size;
  bool remove;
  int rc;
  GError *error;
} Making;

static int
make_file (Making *making, SshLink *link, GError **error)
{
  uint64_t size = 0;
  int rc = ssh_file_open (&making->target, link, O_WRONLY | O_CREAT | O_TRUNC, &size, error);
  if (rc < 0 || making->size == 0)
    return rc;
  rc = ssh_file_set_size (&making->target, link, making->size);
  return rc < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "the %s cannot make it so large",
                                 making->target.server)
                : 0;
}

static int
remove_file (const Making *making, SshLink *link, GError **error)
{
  if (sftp_unlink (link->sftp, tn_options_get (making->target.options, "path")) == 0)
    return 0;
  return tn_fail_errno (error, TN_BLOCK_ERROR, -ssh_file_errno (link), "the %s cannot remove it",
                        making->target.server);
}

static void
make_work (void *opaque)
{
  Making *making = opaque;
  SshLink link;
  making->rc = ssh_link_up (&making->target, &link, &making->error);
  if (making->rc < 0)
    return;
  ssh_watch_begin (&making->target);
  making->rc = making->remove ? remove_file (making, &link, &making->error)
                              : make_file (making, &link, &making->error);
  ssh_watch_end (&making->target);
  ssh_link_down (&making->target, &link);
}

static int
make (Making *making, const TnOptions *options, GError **error)
{
  int rc = ssh_target_init (&making->target, options, error);
  if (rc == 0) {
    work_and_wait (make_work, making);
    rc = making->rc;
  }
  if (making->error)
    g_propagate_error (error, making->error);
  ssh_target_clear (&making->target);
  return rc;
}

static int
ssh_create (const TnOptions *options, uint64_t size, GError **error)
{
  Making making = { .size = size };
  return make (&making, options, error);
}

static int
ssh_remove (const TnOptions *options, GError **error)
{
  Making making = { .remove = true };
  return make (&making, options, error);
}

/* ---- The plugin ---- */

#define ANY (TN_OPTION_OPEN | TN_OPTION_CREATE)

static const char *const check_modes[] = { "none", "hash", "known_hosts", NULL };
static const char *const hash_types[] = { "md5", "sha1", "sha256", NULL };

static const TnOption ssh_options[] = {
  { .name = "server.host", .type = TN_OPTION_STRING, .when = ANY, .help = "name or address of the server" },
  { .name = "server.port", .type = TN_OPTION_STRING, .when = ANY, .help = "its port (default: 22)" },
  { .name = "path",
    .type = TN_OPTION_STRING,
    .when = ANY | TN_OPTION_REQUIRED,
    .help = "path of the file on the server" },
  { .name = "user",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "name to log in with (default: your own)" },
  { .name = "identity",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "file of the private key to log in with (default: the agent's keys, then ~/.ssh/id_*)" },
  { .name = "key-secret",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "id of the secret that is the passphrase of the key" },
  { .name = "known-hosts",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "file of known hosts (default: ~/.ssh/known_hosts and the system's)" },
  { .name = "host-key-check.mode",
    .type = TN_OPTION_ENUM,
    .when = ANY,
    .value = "known_hosts",
    .help = "how to make sure of the server",
    .choices = check_modes },
  { .name = "host-key-check.type",
    .type = TN_OPTION_ENUM,
    .when = ANY,
    .help = "hash: its kind",
    .choices = hash_types },
  { .name = "host-key-check.hash",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "hash: of the host key, in hexadecimal digits" },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .when = ANY,
    .value = "60",
    .max = 100000,
    .help = "seconds to wait for an answer; 0: for ever" },
  { .name = "host", .type = TN_OPTION_STRING, .when = ANY, .help = "older name of server.host" },
  { .name = "port", .type = TN_OPTION_STRING, .when = ANY, .help = "older name of server.port" },
  { .name = "host_key_check",
    .type = TN_OPTION_STRING,
    .when = ANY,
    .help = "older form of host-key-check: yes, no, md5:HASH, sha1:HASH, sha256:HASH" },
  { .name = NULL },
};

static const TnProtocolOps ssh_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (SshNode *),
  .parse_filename = ssh_parse_name,
  .open = ssh_open,
  .close = ssh_close,
  .create = ssh_create,
  .remove = ssh_remove,
  .submit = ssh_submit,
  .resize = ssh_resize,
  .filename = ssh_shown_name,
};

static const char *const ssh_schemes[] = { "ssh", NULL };

static const TnClass ssh_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "ssh",
  .summary = "file on an SSH server, by SFTP",
  .schemes = ssh_schemes,
  .options = ssh_options,
  .ops = &ssh_ops,
};

static const TnClass *const ssh_classes[] = { &ssh_class, NULL };

TN_PLUGIN_DEFINE (protocol_ssh, .security = TN_SECURITY_HARDENED, .name = "protocol-ssh", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-ssh", .classes = ssh_classes);
