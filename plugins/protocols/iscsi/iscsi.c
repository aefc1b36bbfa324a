/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Units of iSCSI targets: opening and closing, requests, the plugin. */
#include "iscsi.h"

#define OPEN_SECONDS 30
#define MAX_TRANSFER (16u << 20)

static IscsiClient *
client_of (TnNode *node)
{
  return *(IscsiClient **) tn_node_state (node);
}

/* ---- Requests ---- */

static void
request_done (IscsiCall *call, int result)
{
  TnRequest *request = call->request;
  request->done (request, result);
}

static void
iscsi_submit (TnNode *node, TnRequest *request)
{
  IscsiClient *client = client_of (node);
  const int rc = iscsi_request_check (client, request);
  if (rc <= 0) {
    request->done (request, rc);
    return;
  }
  IscsiCall *call = tn_request_leaf_scratch (request);
  *call = (IscsiCall){ .client = client, .request = request, .done = request_done };
  iscsi_link_submit (call);
}

/* ---- Opening ---- */

static void
client_free (IscsiClient *client)
{
  if (client->password)
    explicit_bzero (client->password, strlen (client->password));
  g_free (client->password);
  g_free (client->user);
  g_free (client->host);
  g_free (client->port);
  g_free (client->portal);
  g_free (client->target);
  g_free (client->initiator);
  g_free (client->name);
  g_free (client->zeroes);
  g_free (client);
}

static uint32_t
power_below (uint64_t value)
{
  uint32_t power = 1;
  while (power <= value / 2 && power < 1u << 30)
    power *= 2;
  return power;
}

static void
set_limits (const IscsiClient *client)
{
  const IscsiUnit *unit = &client->unit;
  const uint64_t block = unit->block, most = (uint64_t) UINT32_MAX;
  const uint64_t transfer =
      unit->max_transfer ? MIN (unit->max_transfer * block, MAX_TRANSFER) : MAX_TRANSFER;
  const uint64_t same = unit->max_same ? unit->max_same : UINT16_MAX;
  const uint64_t unmap = unit->max_unmap ? MIN (unit->max_unmap, most) : most;
  const uint64_t granularity = unit->unmap_granularity ? power_below (unit->unmap_granularity) : 1;
  tn_node_set_limits (client->node,
                      &(TnLimits){ .request_alignment = (uint32_t) block,
                                   .memory_alignment = 1,
                                   .max_transfer = MAX (transfer, block) & ~(block - 1),
                                   .discard_alignment = (uint32_t) MIN (granularity * block, 1u << 30),
                                   .max_discard = unmap * block,
                                   .max_zeroes = MIN (same, most) * block });
  tn_node_set_size (client->node, client->size);
}

typedef struct Opening {
  IscsiClient *client;
  IscsiSession *session;
  GError **error;
  int rc;
} Opening;

static void
open_work (void *opaque)
{
  Opening *opening = opaque;
  const int seconds = opening->client->timeout ? opening->client->timeout : OPEN_SECONDS;
  opening->rc = iscsi_session_open (opening->client, &opening->session, &opening->client->unit,
                                    tn_clock_ns () + seconds * INT64_C (1000000000), opening->error);
}

static int
check_access (const IscsiClient *client, uint32_t flags, GError **error)
{
  if ((flags & TN_OPEN_WRITE) && client->unit.read_only)
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "unit %d of the %s is read-only: open it read-only",
                    client->lun, client->name);
  return 0;
}

static int
iscsi_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  IscsiClient *client = g_new0 (IscsiClient, 1);
  Opening opening = { .client = client, .error = error };
  client->node = node;
  client->loop = tn_loop_current ();
  client->isid = g_random_int ();
  client->writes = (flags & TN_OPEN_WRITE) != 0;
  opening.rc = iscsi_name_read_options (client, options, error);
  if (opening.rc == 0 && tn_co_self ())
    tn_co_work (open_work, &opening);
  else if (opening.rc == 0)
    open_work (&opening);
  if (opening.rc == 0)
    opening.rc = check_access (client, flags, error);
  if (opening.rc < 0) {
    iscsi_session_free (opening.session);
    client_free (client);
    return opening.rc;
  }
  client->zeroes = g_malloc0 (client->unit.block);
  client->size = client->unit.blocks * client->unit.block;
  *(IscsiClient **) tn_node_state (node) = client;
  set_limits (client);
  iscsi_link_up (client, opening.session);
  return 0;
}

static int
iscsi_close (TnNode *node, GError **error)
{
  IscsiClient *client = client_of (node);
  if (!client)
    return 0;
  iscsi_link_close (client);
  client_free (client);
  return 0;
}

/* ---- Properties ---- */

static int
iscsi_get_size (TnNode *node, uint64_t *size, GError **error)
{
  *size = __atomic_load_n (&client_of (node)->size, __ATOMIC_RELAXED);
  return 0;
}

/* A unit is resized at its target; what is asked for has to be there. */
static int
iscsi_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  const IscsiClient *client = client_of (node);
  const uint64_t actual = __atomic_load_n (&client->size, __ATOMIC_RELAXED);
  if (size > actual)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "unit %d of the %s has %" G_GUINT64_FORMAT
                    " bytes and can't be resized to %" G_GUINT64_FORMAT ": resize it at the target first",
                    client->lun, client->name, actual, size);
  return 0;
}

static int
iscsi_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  IscsiClient *client = client_of (node);
  const int rc = check_access (client, flags, error);
  if (rc == 0)
    client->writes = (flags & TN_OPEN_WRITE) != 0;
  return rc;
}

/* ---- The plugin ---- */

static const char *const transports[] = { "tcp", NULL };
static const char *const digests[] = { "crc32c", "none", "crc32c-none", "none-crc32c", NULL };

static const TnOption iscsi_options[] = {
  { .name = "transport",
    .type = TN_OPTION_ENUM,
    .value = "tcp",
    .help = "how to reach it",
    .choices = transports },
  { .name = "portal",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "HOST[:PORT] of the target" },
  { .name = "target",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "name of the target" },
  { .name = "lun", .type = TN_OPTION_UINT, .value = "0", .max = 16383, .help = "number of the unit" },
  { .name = "user", .type = TN_OPTION_STRING, .help = "user name for CHAP" },
  { .name = "password",
    .type = TN_OPTION_STRING,
    .help = "password for CHAP; others may see it: use password-secret" },
  { .name = "password-secret",
    .type = TN_OPTION_STRING,
    .help = "id of the secret that holds the password for CHAP" },
  { .name = "initiator-name",
    .type = TN_OPTION_STRING,
    .help = "what to call ourselves (default: iqn.2008-11.org.linux-kvm)" },
  { .name = "header-digest",
    .type = TN_OPTION_ENUM,
    .value = "none-crc32c",
    .help = "checksums of headers",
    .choices = digests },
  { .name = "timeout",
    .type = TN_OPTION_UINT,
    .value = "30",
    .max = 100000,
    .help = "seconds that a command may take before the session is begun anew; 0: any time" },
  { .name = "reconnect-delay",
    .type = TN_OPTION_UINT,
    .value = "30",
    .max = 100000,
    .help = "seconds that requests wait for a lost target to come back; 0: they fail" },
  { .name = NULL },
};

static const TnProtocolOps iscsi_ops = {
  .size = sizeof (TnProtocolOps),
  .instance_size = sizeof (IscsiClient *),
  .parse_filename = iscsi_name_parse,
  .filename = iscsi_name_of,
  .open = iscsi_open,
  .close = iscsi_close,
  .submit = iscsi_submit,
  .get_size = iscsi_get_size,
  .resize = iscsi_resize,
  .reopen = iscsi_reopen,
};

static const char *const iscsi_schemes[] = { "iscsi", "iser", NULL };

static const TnClass iscsi_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "iscsi",
  .summary = "units of iSCSI targets",
  .schemes = iscsi_schemes,
  .options = iscsi_options,
  .ops = &iscsi_ops,
};

static const TnClass *const iscsi_classes[] = { &iscsi_class, NULL };

TN_PLUGIN_DEFINE (protocol_iscsi, .security = TN_SECURITY_TRUSTED_INPUT, .name = "protocol-iscsi",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-iscsi",
                  .classes = iscsi_classes);
