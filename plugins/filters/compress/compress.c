/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compress: every write reaches the image below as whole, compressed units. */
#include "../common/pass.h"

#include <tenon/format.h>

typedef struct CompressState {
  TnPassPool pool;
  TnNode *file;
} CompressState;

static void
compress_submit (TnNode *node, TnRequest *request)
{
  CompressState *s = tn_node_state (node);
  TnPass *pass = tn_pass_new (&s->pool, node, request, tn_pass_done);

  if (pass == NULL || tn_pass_clip (pass, s->file) < 0)
    return;
  if (request->op == TN_REQUEST_WRITE)
    pass->request.flags = (uint16_t) ((request->flags & ~TN_REQUEST_FUA) | TN_REQUEST_PACKED);
  tn_node_submit (s->file, &pass->request);
}

static bool
compress_can (const TnClass *class)
{
  const TnFormatOps *ops = class->ops;

  return class->kind == TN_KIND_FORMAT && (ops->flags & TN_FORMAT_PACKS) != 0;
}

static int
compress_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  CompressState *s = tn_node_state (node);
  TnInfo info = { .size = sizeof info };
  TnLimits limits;
  int r;

  s->file = tn_node_child (node, "file");
  if (!compress_can (tn_node_class (s->file)))
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "compression is not supported by '%s': put the filter on an image of a format that has it, "
        "such as file.driver=qcow2",
        tn_node_class_name (s->file));
  r = tn_node_info (s->file, &info, error);
  if (r < 0)
    return r;
  tn_node_limits (s->file, &limits);
  limits.request_alignment = MAX (limits.request_alignment, info.cluster_size);
  tn_node_set_limits (node, &limits);
  tn_pass_pool_init (&s->pool);
  return 0;
}

static int
compress_close (TnNode *node, GError **error)
{
  CompressState *s = tn_node_state (node);

  tn_pass_pool_clear (&s->pool);
  return 0;
}

static const TnOption compress_options[] = {
  { "file", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "the image, of a format with compression" },
  { NULL },
};

static const TnProtocolOps compress_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER,
  .instance_size = sizeof (CompressState),
  .open = compress_open,
  .close = compress_close,
  .submit = compress_submit,
};

static const TnClass compress_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "compress",
  .summary = "filter: writes are compressed",
  .options = compress_options,
  .ops = &compress_ops,
};

static const TnClass *const compress_classes[] = { &compress_class, NULL };

TN_PLUGIN_DEFINE (filter_compress, .name = "filter-compress", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = compress_classes);
