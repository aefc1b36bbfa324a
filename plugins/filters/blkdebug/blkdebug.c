/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The filter: takes each request past its events, and fails it or passes it on. */
#include "blkdebug.h"

static void
blkdebug_pass_done (TnRequest *request, int result)
{
  TnPass *pass = tn_pass_of (request);
  BlkdebugState *s = tn_node_state (pass->node);
  int event = blkdebug_event_after (request);

  if (event >= 0)
    blkdebug_at_event (s, event, NULL);
  tn_pass_end (pass, result);
}

static void
blkdebug_fail (void *opaque)
{
  TnPass *pass = opaque;

  tn_pass_end (pass, -blkdebug_way (pass)->error);
}

/* From the next event on. */
static void
blkdebug_go_on (void *opaque)
{
  TnPass *pass = opaque;
  BlkdebugState *s = tn_node_state (pass->node);
  BlkdebugWay *way = blkdebug_way (pass);
  bool immediately = false;

  while (way->next < way->n_events)
    if (blkdebug_at_event (s, way->events[way->next++], pass))
      return;
  way->error = blkdebug_injected (s, &pass->request, &immediately);
  if (way->error == 0)
    tn_node_submit (tn_node_child (pass->node, "file"), &pass->request);
  else if (immediately)
    blkdebug_fail (pass);
  else
    tn_loop_post (way->loop, blkdebug_fail, pass);
}

static void
blkdebug_submit (TnNode *node, TnRequest *request)
{
  BlkdebugState *s = tn_node_state (node);
  TnPass *pass = tn_pass_new (&s->pool, node, request, blkdebug_pass_done);

  if (pass == NULL || tn_pass_clip (pass, tn_node_child (node, "file")) < 0)
    return;
  blkdebug_way (pass)->loop = tn_loop_current ();
  blkdebug_events_of (request, blkdebug_way (pass));
  blkdebug_go_on (pass);
}

static int
blkdebug_node_breakpoint (TnNode *node, uint32_t action, const char *event, const char *tag, GError **error)
{
  return blkdebug_breakpoint (tn_node_state (node), action, event, tag, blkdebug_go_on, error);
}

/* ---- Opening ---- */

static int
blkdebug_multiple (const TnOptions *options, const char *key, uint32_t align, GError **error)
{
  uint64_t value = tn_options_uint (options, key);

  if (value % align == 0)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "blkdebug: %s=%" G_GUINT64_FORMAT " has to be a multiple of the alignment, %u", key, value,
                  align);
}

static int
blkdebug_set_limits (TnNode *node, const TnOptions *options, GError **error)
{
  static const char *const sizes[] = { "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard",
                                       "max-discard" };
  uint64_t align = tn_options_uint (options, "align");
  TnLimits limits;

  tn_node_limits (tn_node_child (node, "file"), &limits);
  if (align != 0 && (align & (align - 1)) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "blkdebug: align=%" G_GUINT64_FORMAT " is not a power of two", align);
  limits.request_alignment = MAX (limits.request_alignment, (uint32_t) MAX (align, 1));
  for (unsigned i = 0; i < G_N_ELEMENTS (sizes); i++) {
    int r = blkdebug_multiple (options, sizes[i], limits.request_alignment, error);

    if (r < 0)
      return r;
  }
  if (tn_options_uint (options, "max-transfer") != 0)
    limits.max_transfer = tn_options_uint (options, "max-transfer");
  if (tn_options_uint (options, "max-write-zero") != 0)
    limits.max_zeroes = tn_options_uint (options, "max-write-zero");
  if (tn_options_uint (options, "max-discard") != 0)
    limits.max_discard = tn_options_uint (options, "max-discard");
  if (tn_options_uint (options, "opt-discard") != 0)
    limits.discard_alignment = (uint32_t) tn_options_uint (options, "opt-discard");
  tn_node_set_limits (node, &limits);
  return 0;
}

static int
blkdebug_close (TnNode *node, GError **error)
{
  BlkdebugState *s = tn_node_state (node);

  g_ptr_array_unref (s->active);
  g_ptr_array_unref (s->rules);
  g_mutex_clear (&s->lock);
  tn_pass_pool_clear (&s->pool);
  return 0;
}

static int
blkdebug_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  BlkdebugState *s = tn_node_state (node);
  int r;

  tn_pass_pool_init (&s->pool);
  g_mutex_init (&s->lock);
  s->rules = g_ptr_array_new_with_free_func ((GDestroyNotify) blkdebug_rule_free);
  s->active = g_ptr_array_new ();
  s->state = 1;
  r = blkdebug_read_rules (s->rules, options, error);
  if (r == 0)
    r = blkdebug_set_limits (node, options, error);
  if (r < 0) {
    blkdebug_close (node, NULL);
    return r;
  }
  blkdebug_at_event (s, BLKDEBUG_EVENT_NONE, NULL);
  return 0;
}

/* "CONFIG:IMAGE" */
static int
blkdebug_parse_filename (const char *text, TnOptions *options, GError **error)
{
  const char *colon = strchr (text, ':');
  g_autofree char *config = NULL;

  if (colon == NULL)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "blkdebug:%s: wanted blkdebug:CONFIG:IMAGE, where CONFIG may be empty", text);
  config = g_strndup (text, (gsize) (colon - text));
  if (*config != '\0')
    tn_options_set (options, "config", config);
  tn_options_set (options, "image.filename", colon + 1);
  return 0;
}

static const TnOption blkdebug_options[] = {
  { "image", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "what the requests go to" },
  { "config", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "file with rules" },
  { "inject-error", TN_OPTION_GROUP, TN_OPTION_OPEN, NULL,
    "rules N.event, N.errno, N.state, N.iotype, N.sector, N.once, N.immediately" },
  { "set-state", TN_OPTION_GROUP, TN_OPTION_OPEN, NULL, "rules N.event, N.state, N.new_state" },
  { "align", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "alignment that requests must have", 0, 1 << 20 },
  { "max-transfer", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "longest read or write", 0, INT32_MAX },
  { "opt-write-zero", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "best alignment of write zeroes", 0, INT32_MAX },
  { "max-write-zero", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "longest write zeroes", 0, INT32_MAX },
  { "opt-discard", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "best alignment of discards", 0, INT32_MAX },
  { "max-discard", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "longest discard", 0, INT32_MAX },
  { NULL },
};

static const TnProtocolOps blkdebug_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA,
  .instance_size = sizeof (BlkdebugState),
  .parse_filename = blkdebug_parse_filename,
  .open = blkdebug_open,
  .close = blkdebug_close,
  .submit = blkdebug_submit,
  .file_option = "image",
  .breakpoint = blkdebug_node_breakpoint,
};

static const TnClass blkdebug_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "blkdebug",
  .summary = "filter: errors and stops at named events",
  .options = blkdebug_options,
  .ops = &blkdebug_ops,
};

static const TnClass *const blkdebug_classes[] = { &blkdebug_class, NULL };

TN_PLUGIN_DEFINE (filter_blkdebug, .name = "filter-blkdebug", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = blkdebug_classes);
