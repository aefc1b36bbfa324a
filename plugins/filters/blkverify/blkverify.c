/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkverify: everything is done to an image and to a raw file, and has to end the same way with the same
 * bytes. What does not is an I/O error.
 */
#include "../common/fan.h"

#define BLKVERIFY_MAX_TRANSFER (UINT64_C (1) << 20)

typedef struct BlkverifyState {
  TnNode *test, *raw;
} BlkverifyState;

typedef struct BlkverifyPair {
  TnNode *node;
  TnRequest *original;
  TnFan fan;
  TnFanPart test, raw;
} BlkverifyPair;

static int
blkverify_verdict (const BlkverifyPair *pair)
{
  const TnRequest *request = pair->original;

  if (pair->raw.result == -ENOMEM)
    return -ENOMEM;
  if (MIN (pair->test.result, 0) != MIN (pair->raw.result, 0))
    return -EIO;
  if (pair->test.result < 0 || request->op != TN_REQUEST_READ)
    return pair->test.result;
  return tn_fan_iov_equals (request->iov, request->n_iov, pair->raw.buffer) ? 0 : -EIO;
}

static void
blkverify_main (void *opaque)
{
  BlkverifyPair *pair = opaque;
  BlkverifyState *s = tn_node_state (pair->node);
  TnRequest *original = pair->original;
  int r;

  tn_fan_submit (&pair->fan, &pair->test, s->test, original);
  if (original->op == TN_REQUEST_READ)
    tn_fan_read (&pair->fan, &pair->raw, s->raw, original);
  else
    tn_fan_submit (&pair->fan, &pair->raw, s->raw, original);
  tn_fan_wait (&pair->fan);
  r = blkverify_verdict (pair);
  g_free (pair->raw.buffer);
  g_free (pair);
  original->done (original, r);
}

static void
blkverify_submit (TnNode *node, TnRequest *request)
{
  BlkverifyPair *pair = g_try_new (BlkverifyPair, 1);

  if (pair == NULL) {
    request->done (request, -ENOMEM);
    return;
  }
  pair->node = node;
  pair->original = request;
  pair->fan = (TnFan){ 0 };
  tn_co_start (blkverify_main, pair);
}

static void
blkverify_set_limits (TnNode *node, const BlkverifyState *s)
{
  TnLimits limits, other;

  tn_node_limits (s->test, &limits);
  tn_node_limits (s->raw, &other);
  limits.request_alignment = MAX (limits.request_alignment, other.request_alignment);
  limits.memory_alignment = MAX (limits.memory_alignment, other.memory_alignment);
  limits.max_transfer = BLKVERIFY_MAX_TRANSFER;
  tn_node_set_limits (node, &limits);
}

static int
blkverify_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  BlkverifyState *s = tn_node_state (node);
  int r = tn_node_open_child (node, "raw", NULL, &s->raw, error);

  if (r < 0)
    return r;
  s->test = tn_node_child (node, "file");
  if (tn_node_size (s->raw) < tn_node_size (s->test))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "blkverify: the raw file '%s' is shorter than the image '%s': make it as long",
                    tn_node_filename (s->raw), tn_node_filename (s->test));
  blkverify_set_limits (node, s);
  return 0;
}

/* "RAW:IMAGE" */
static int
blkverify_parse_filename (const char *text, TnOptions *options, GError **error)
{
  const char *colon = strchr (text, ':');
  g_autofree char *raw = NULL;

  if (colon == NULL || colon == text)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "blkverify:%s: wanted blkverify:RAW:IMAGE", text);
  raw = g_strndup (text, (gsize) (colon - text));
  tn_options_set (options, "raw.filename", raw);
  tn_options_set (options, "test.filename", colon + 1);
  return 0;
}

static const TnOption blkverify_options[] = {
  { "test", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "the image to be verified" },
  { "raw", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "a raw file with the same bytes" },
  { NULL },
};

static const TnProtocolOps blkverify_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA | TN_PROTOCOL_OVER_IMAGE,
  .instance_size = sizeof (BlkverifyState),
  .parse_filename = blkverify_parse_filename,
  .open = blkverify_open,
  .submit = blkverify_submit,
  .file_option = "test",
};

static const TnClass blkverify_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "blkverify",
  .summary = "filter: compares an image with a raw file at every request",
  .options = blkverify_options,
  .ops = &blkverify_ops,
};

static const TnClass *const blkverify_classes[] = { &blkverify_class, NULL };

TN_PLUGIN_DEFINE (filter_blkverify, .name = "filter-blkverify", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = blkverify_classes);
