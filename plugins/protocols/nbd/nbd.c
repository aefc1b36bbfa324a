/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing, requests of the node, the plugin. */
#include "client.h"

#include <poll.h>

/* What one trim or write-zeroes without extended headers may cover, and other requests when the server says
 * nothing. */
#define MOST_COVERED (UINT32_MAX & ~UINT32_C (65535))

/* The server is there, and answers: a further connection needs no more patience. */
#define FURTHER_HANDSHAKE_NS INT64_C (3000000000)

static NbdClient *
client_of (TnNode *node)
{
  return *(NbdClient **) tn_node_state (node);
}

/* ---- Requests ---- */

static void
request_done (NbdCall *call, int result)
{
  TnRequest *request = call->request;
  request->done (request, result);
}

/* 1: there is something to send, 0: done already, or -errno. */
static int
translate (const NbdClient *client, const TnRequest *request, NbdRequestHeader *header)
{
  const unsigned server = client->offer.flags;
  const bool has_flags = server & NBD_FLAG_HAS_FLAGS;
  *header = (NbdRequestHeader){ .offset = request->offset, .length = request->length };
  if ((request->flags & TN_REQUEST_FUA) && (server & NBD_FLAG_SEND_FUA))
    header->flags = NBD_CMD_FLAG_FUA;
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    header->type = NBD_CMD_READ;
    header->flags = 0;
    return 1;
  case TN_REQUEST_WRITE:
    header->type = NBD_CMD_WRITE;
    header->flags |= client->offer.extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
    return 1;
  case TN_REQUEST_WRITE_ZEROES:
    header->type = NBD_CMD_WRITE_ZEROES;
    header->flags |= request->flags & TN_REQUEST_MAY_UNMAP ? 0 : NBD_CMD_FLAG_NO_HOLE;
    if (request->flags & TN_REQUEST_NO_FALLBACK) {
      if (!(server & NBD_FLAG_SEND_FAST_ZERO))
        return -ENOTSUP;
      header->flags |= NBD_CMD_FLAG_FAST_ZERO;
    }
    return has_flags && (server & NBD_FLAG_SEND_WRITE_ZEROES) ? 1 : -ENOTSUP;
  case TN_REQUEST_DISCARD:
    header->type = NBD_CMD_TRIM;
    return has_flags && (server & NBD_FLAG_SEND_TRIM) ? 1 : -ENOTSUP;
  case TN_REQUEST_FLUSH:
    *header = (NbdRequestHeader){ .type = NBD_CMD_FLUSH };
    return has_flags && (server & NBD_FLAG_SEND_FLUSH) ? 1 : 0;
  }
  return -ENOTSUP;
}

static void
nbd_submit (TnNode *node, TnRequest *request)
{
  NbdClient *client = client_of (node);
  NbdRequestHeader header;
  const int rc = translate (client, request, &header);
  if (rc <= 0 || (request->length == 0 && header.type != NBD_CMD_FLUSH)) {
    request->done (request, MIN (rc, 0));
    return;
  }
  NbdCall *call = tn_request_leaf_scratch (request);
  *call = (NbdCall){ .client = client, .request = request, .done = request_done, .header = header };
  nbd_client_submit (call);
}

/* ---- Opening ---- */

static void
client_free (NbdClient *client)
{
  tn_options_free (client->options);
  tn_tls_credentials_unref (client->tls);
  g_free (client->server);
  g_free (client->bitmap);
  for (unsigned i = 0; i < client->n_lines; i++)
    nbd_line_free (client->lines[i]);
  g_array_unref (client->status);
  g_free (client);
}

static NbdClient *
client_new (TnNode *node, const TnOptions *options, uint32_t flags)
{
  const char *bitmap = tn_options_get (options, "x-dirty-bitmap");
  NbdClient *client = g_new0 (NbdClient, 1);
  client->node = node;
  client->loop = tn_loop_current ();
  client->options = tn_options_copy (options);
  client->server = nbd_address_text (options);
  client->bitmap = g_strdup (bitmap);
  client->read_only = !(flags & TN_OPEN_WRITE);
  client->reconnect_ns = (int64_t) tn_options_uint (options, "reconnect-delay") * 1000000000;
  client->open_ns = (int64_t) tn_options_uint (options, "open-timeout") * 1000000000;
  client->lines[client->n_lines++] = nbd_line_new (client);
  client->status = g_array_new (FALSE, FALSE, sizeof (NbdStatusRun));
  return client;
}

static int
check_server (const NbdClient *client, GError **error)
{
  const NbdOffer *offer = &client->offer;
  if (!client->read_only && (offer->flags & NBD_FLAG_HAS_FLAGS) && (offer->flags & NBD_FLAG_READ_ONLY))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "the %s offers '%s' for reading only: open it read-only",
                    client->server, tn_options_get (client->options, "export"));
  if (offer->min_block > 1 && offer->size % offer->min_block)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "the %s broke the protocol: the size is no multiple of its smallest block",
                    client->server);
  return 0;
}

static void
set_limits (const NbdClient *client)
{
  const NbdOffer *offer = &client->offer;
  const uint32_t block = MAX (offer->min_block, 1);
  const uint64_t most = offer->extended ? (uint64_t) INT64_MAX / 2 + 1 : MOST_COVERED;
  tn_node_set_limits (client->node,
                      &(TnLimits){ .request_alignment = block,
                                   .memory_alignment = 1,
                                   .max_transfer = MIN (offer->max_block ? offer->max_block : NBD_MAX_PAYLOAD,
                                                        NBD_MAX_PAYLOAD)
                                                   & ~(block - 1),
                                   .discard_alignment = block,
                                   .max_discard = most,
                                   .max_zeroes = most });
  tn_node_set_size (client->node, offer->size);
}

/* Further connections, as many as the server likes to have: that there are fewer hinders nobody. */
static void
add_lines (NbdClient *client, uint64_t wanted)
{
  const unsigned needed = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN;
  if ((client->offer.flags & needed) != needed)
    return;
  while (client->n_lines < wanted) {
    NbdLine *line = nbd_line_new (client);
    NbdOffer offer;
    if (nbd_line_connect (line, &offer, 0, FURTHER_HANDSHAKE_NS, NULL) < 0
        || !nbd_offer_holds (&client->offer, &offer)) {
      nbd_line_free (line);
      return;
    }
    client->lines[client->n_lines++] = line;
  }
}

static int
nbd_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  NbdClient **state = tn_node_state (node);
  int rc = nbd_address_check (options, error);
  if (rc < 0)
    return rc;
  NbdClient *client = client_new (node, options, flags);
  rc = nbd_address_credentials (options, &client->tls, error);
  if (rc == 0)
    rc = nbd_line_connect (client->lines[0], &client->offer, tn_clock_ns () + client->open_ns,
                           NBD_HANDSHAKE_NS, error);
  if (rc == 0)
    rc = check_server (client, error);
  if (rc < 0) {
    client_free (client);
    return rc;
  }
  *state = client;
  set_limits (client);
  add_lines (client, tn_options_uint (options, "connections"));
  for (unsigned i = 0; i < client->n_lines; i++)
    nbd_line_up (client->lines[i]);
  return 0;
}

/* ---- Closing ---- */

static void
say_goodbye (NbdLine *line)
{
  uint8_t head[NBD_EXTENDED_REQUEST_SIZE];
  const size_t length =
      nbd_put_request (head, line->client->offer.extended, &(NbdRequestHeader){ .type = NBD_CMD_DISC });
  const struct iovec iov = { head, length };
  if (line->link == NBD_LINK_UP && !line->sending)
    nbd_channel_send (&line->channel, &iov, 1);
}

static void
wait_until_idle (void *opaque)
{
  const NbdLine *line = opaque;
  while (line->link == NBD_LINK_CONNECTING || line->send_posted)
    tn_co_sleep (1000000);
}

static int
nbd_close (TnNode *node, GError **error)
{
  NbdClient *client = client_of (node);
  if (!client)
    return 0;
  g_atomic_int_set (&client->cancel, 1);
  for (unsigned i = 0; i < client->n_lines; i++)
    say_goodbye (client->lines[i]);
  for (unsigned i = 0; i < client->n_lines; i++) {
    tn_co_run (wait_until_idle, client->lines[i]);
    if (client->lines[i]->link == NBD_LINK_UP)
      nbd_line_lost (client->lines[i], false);
  }
  client_free (client);
  return 0;
}

/* ---- The plugin ---- */

static int
nbd_parse_filename (const char *text, TnOptions *options, GError **error)
{
  if (!strstr (text, "://") && g_str_has_prefix (text, "nbd:"))
    text += strlen ("nbd:");
  return nbd_parse_name (text, options, error);
}

static const char *const server_types[] = { "inet", "unix", "vsock", NULL };

static const TnOption nbd_options[] = {
  { .name = "server.type", .type = TN_OPTION_ENUM, .help = "how to reach it", .choices = server_types },
  { .name = "server.host", .type = TN_OPTION_STRING, .help = "name or address of its host" },
  { .name = "server.port", .type = TN_OPTION_STRING, .help = "its port (default: 10809)" },
  { .name = "server.path", .type = TN_OPTION_STRING, .help = "path of its Unix socket" },
  { .name = "server.cid", .type = TN_OPTION_STRING, .help = "number of its virtual machine (vsock)" },
  { .name = "export", .type = TN_OPTION_STRING, .value = "", .help = "name of the export" },
  { .name = "tls", .type = TN_OPTION_BOOL, .value = "off", .help = "only through TLS" },
  { .name = "tls-creds", .type = TN_OPTION_STRING, .help = "id of the credentials for TLS" },
  { .name = "tls-hostname", .type = TN_OPTION_STRING, .help = "name that the certificate has to bear" },
  { .name = "x-dirty-bitmap",
    .type = TN_OPTION_STRING,
    .help = "metadata context that block status shows instead of the allocation" },
  { .name = "connections",
    .type = TN_OPTION_UINT,
    .value = "1",
    .min = 1,
    .max = NBD_MAX_LINES,
    .help = "how many connections requests are spread over, if the server can keep them coherent" },
  { .name = "reconnect-delay",
    .type = TN_OPTION_UINT,
    .value = "0",
    .max = 100000,
    .help = "seconds that requests wait for a lost connection to come back; 0: they fail" },
  { .name = "open-timeout",
    .type = TN_OPTION_UINT,
    .value = "0",
    .max = 100000,
    .help = "seconds to keep trying while opening; 0: once" },
  { .name = NULL },
};

static const TnProtocolOps nbd_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FUA,
  .instance_size = sizeof (NbdClient *),
  .parse_filename = nbd_parse_filename,
  .open = nbd_open,
  .close = nbd_close,
  .submit = nbd_submit,
  .map = nbd_client_map,
};

static const char *const nbd_schemes[] = { "nbd",      "nbd+tcp",   "nbd+unix",   "nbd+vsock", "nbds",
                                           "nbds+tcp", "nbds+unix", "nbds+vsock", NULL };

static const TnClass nbd_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "nbd",
  .summary = "network block device client",
  .schemes = nbd_schemes,
  .options = nbd_options,
  .ops = &nbd_ops,
};

static const TnClass *const nbd_classes[] = { &nbd_class, NULL };

TN_PLUGIN_DEFINE (protocol_nbd, .security = TN_SECURITY_HARDENED, .name = "protocol-nbd", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-nbd", .classes = nbd_classes);
