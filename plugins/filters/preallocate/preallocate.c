/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * preallocate: when a write makes the file below grow, it grows by much more than that, so that the next
 * writes find their space already there.  What was not needed is cut off when the filter is closed.
 *
 * The size of the filter's node is where the data ends; the file's is where the space ends.
 */
#include "../common/pass.h"

typedef struct PreallocateState {
  TnPassPool pool;
  TnNode *file;
  uint64_t align, size;
  TnCoMutex growing;
} PreallocateState;

static bool
preallocate_is_needed (const PreallocateState *s, const TnRequest *request)
{
  return (request->op == TN_REQUEST_WRITE || request->op == TN_REQUEST_WRITE_ZEROES)
         && request->offset + request->length > tn_node_size (s->file);
}

/* Failing is no harm: then the write makes the file grow as it would without this filter. */
static void
preallocate_grow (PreallocateState *s, uint64_t end)
{
  if (end > INT64_MAX - s->size || end + s->size > INT64_MAX - s->align)
    return;
  end = (end + s->size + s->align - 1) / s->align * s->align;
  tn_node_resize (s->file, end, TN_PREALLOC_FALLOC, NULL);
}

static void
preallocate_main (void *opaque)
{
  TnPass *pass = opaque;
  PreallocateState *s = tn_node_state (pass->node);

  tn_co_mutex_lock (&s->growing);
  if (preallocate_is_needed (s, &pass->request))
    preallocate_grow (s, pass->request.offset + pass->request.length);
  tn_co_mutex_unlock (&s->growing);
  tn_node_submit (s->file, &pass->request);
}

static void
preallocate_submit (TnNode *node, TnRequest *request)
{
  PreallocateState *s = tn_node_state (node);
  TnPass *pass = tn_pass_new (&s->pool, node, request, tn_pass_done);

  if (pass == NULL)
    return;
  if (preallocate_is_needed (s, request))
    tn_co_start (preallocate_main, pass);
  else
    tn_node_submit (s->file, &pass->request);
}

static int
preallocate_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  PreallocateState *s = tn_node_state (node);

  s->file = tn_node_child (node, "file");
  s->align = tn_options_uint (options, "prealloc-align");
  s->size = tn_options_uint (options, "prealloc-size");
  if (s->align % 512 != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "prealloc-align=%" G_GUINT64_FORMAT " has to be a multiple of 512", s->align);
  tn_pass_pool_init (&s->pool);
  return 0;
}

static int
preallocate_close (TnNode *node, GError **error)
{
  PreallocateState *s = tn_node_state (node);
  uint64_t data_end = tn_node_size (node);
  int r = 0;

  if (!tn_node_is_read_only (node) && tn_node_size (s->file) > data_end)
    r = tn_node_resize (s->file, data_end, TN_PREALLOC_OFF, error);
  tn_pass_pool_clear (&s->pool);
  return r;
}

static const TnOption preallocate_options[] = {
  { "file", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "the file that grows" },
  { "prealloc-align", TN_OPTION_SIZE, TN_OPTION_OPEN, "1M", "the file's size becomes a multiple of this", 512,
    UINT64_C (1) << 40 },
  { "prealloc-size", TN_OPTION_SIZE, TN_OPTION_OPEN, "128M", "space beyond what a write needs", 0,
    UINT64_C (1) << 50 },
  { NULL },
};

static const TnProtocolOps preallocate_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA,
  .instance_size = sizeof (PreallocateState),
  .open = preallocate_open,
  .close = preallocate_close,
  .submit = preallocate_submit,
};

static const TnClass preallocate_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "preallocate",
  .summary = "filter: a file grows in large steps",
  .options = preallocate_options,
  .ops = &preallocate_ops,
};

static const TnClass *const preallocate_classes[] = { &preallocate_class, NULL };

TN_PLUGIN_DEFINE (filter_preallocate, .name = "filter-preallocate", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = preallocate_classes);
