/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The "null" protocol: a disk that keeps nothing, for tests and measurements of everything above it.  Writes
 * vanish, reads leave the buffer alone (or, with read-zeroes, clear it).
 *
 * A request ends in a later turn of the submitting thread's loop, after latency-ns nanoseconds.  All wait
 * equally long, so those of one loop stand in one queue with one timer.
 */
#include <tenon/protocol.h>

typedef struct NullOp {
  TnRequest *next;
  int64_t deadline;
} NullOp;

G_STATIC_ASSERT (sizeof (NullOp) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

/* The requests under way of one loop; only its thread touches it. */
typedef struct NullQueue {
  TnLoop *loop;
  TnRequest *first, *last;
  TnTimer *timer; /* while there are requests */
} NullQueue;

typedef struct NullState {
  int64_t latency;
  bool read_zeroes;
  GMutex lock;
  GPtrArray *queues; /* of NullQueue, one per loop that ever asked */
} NullState;

static NullOp *
null_op (TnRequest *request)
{
  return tn_request_leaf_scratch (request);
}

static NullQueue *
null_queue (NullState *s, TnLoop *loop)
{
  NullQueue *queue = NULL;

  g_mutex_lock (&s->lock);
  for (guint i = 0; i < s->queues->len && queue == NULL; i++) {
    NullQueue *q = g_ptr_array_index (s->queues, i);

    if (q->loop == loop)
      queue = q;
  }
  if (queue == NULL) {
    queue = g_new0 (NullQueue, 1);
    queue->loop = loop;
    g_ptr_array_add (s->queues, queue);
  }
  g_mutex_unlock (&s->lock);
  return queue;
}

/* Ends a list of requests.  The last done() may close the node, so nothing of it is used here. */
static void
null_finish (TnRequest *request)
{
  while (request != NULL) {
    TnRequest *next = null_op (request)->next;

    request->done (request, 0);
    request = next;
  }
}

/* Takes those off @queue that are due at @now. */
static TnRequest *
null_take_due (NullQueue *queue, int64_t now)
{
  TnRequest *first = queue->first, *last = NULL;

  for (TnRequest *r = first; r != NULL && null_op (r)->deadline <= now; r = null_op (r)->next)
    last = r;
  if (last == NULL)
    return NULL;
  queue->first = null_op (last)->next;
  null_op (last)->next = NULL;
  return first;
}

static void
null_run (void *opaque)
{
  NullQueue *queue = opaque;
  TnRequest *due = null_take_due (queue, queue->timer != NULL ? tn_clock_ns () : INT64_MAX);

  if (queue->timer != NULL && queue->first == NULL)
    g_clear_pointer (&queue->timer, tn_timer_free);
  if (queue->timer != NULL)
    tn_timer_set (queue->timer, null_op (queue->first)->deadline);
  null_finish (due);
}

static void
null_wake_for (NullState *s, NullQueue *queue, int64_t deadline)
{
  if (s->latency == 0) {
    tn_loop_post (queue->loop, null_run, queue);
    return;
  }
  queue->timer = tn_timer_new (queue->loop, null_run, queue);
  tn_timer_set (queue->timer, deadline);
}

static void
null_submit (TnNode *node, TnRequest *request)
{
  NullState *s = tn_node_state (node);
  NullQueue *queue = null_queue (s, tn_loop_current ());
  NullOp *op = null_op (request);

  if (request->op == TN_REQUEST_READ && s->read_zeroes)
    for (uint32_t i = 0; i < request->n_iov; i++)
      memset (request->iov[i].iov_base, 0, request->iov[i].iov_len);
  op->next = NULL;
  op->deadline = s->latency == 0 ? 0 : tn_clock_ns () + s->latency;
  if (queue->first == NULL) {
    queue->first = queue->last = request;
    null_wake_for (s, queue, op->deadline);
    return;
  }
  null_op (queue->last)->next = request;
  queue->last = request;
}

static int
null_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  NullState *s = tn_node_state (node);

  *extent = (TnExtent){ .length = tn_node_size (node),
                        .kind = s->read_zeroes ? TN_EXTENT_ZERO : TN_EXTENT_DATA,
                        .flags = s->read_zeroes ? 0 : TN_EXTENT_WRITABLE };
  return 0;
}

static int
null_allocated (TnNode *node, uint64_t *bytes, GError **error)
{
  *bytes = 0;
  return 0;
}

static int
null_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  return 0;
}

static int
null_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  NullState *s = tn_node_state (node);

  s->latency = (int64_t) tn_options_uint (options, "latency-ns");
  s->read_zeroes = tn_options_bool (options, "read-zeroes");
  s->queues = g_ptr_array_new_with_free_func (g_free);
  g_mutex_init (&s->lock);
  tn_node_set_limits (node, &(TnLimits){ .request_alignment = 1, .memory_alignment = 1 });
  tn_node_set_size (node, tn_options_uint (options, "size"));
  return 0;
}

static int
null_close (TnNode *node, GError **error)
{
  NullState *s = tn_node_state (node);

  g_clear_pointer (&s->queues, g_ptr_array_unref);
  g_mutex_clear (&s->lock);
  return 0;
}

/* "null-co://" and "null-aio://" carry nothing behind the slashes. */
static int
null_parse_filename (const char *text, TnOptions *options, GError **error)
{
  const char *rest = strstr (text, "://");

  rest = rest != NULL ? rest + 3 : g_str_has_prefix (text, "//") ? text + 2 : text;
  if (*rest == '\0')
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, EINVAL,
      "The null protocol has no file names such as '%s': write null-co:// and give options beside it", rest);
}

static const TnOption null_options[] = {
  { "size", TN_OPTION_SIZE, TN_OPTION_OPEN, "1G", "size of the disk", 0, INT64_MAX },
  { "latency-ns", TN_OPTION_UINT, TN_OPTION_OPEN, "0", "nanoseconds that each request takes", 0,
    UINT64_C (3600000000000) },
  { "read-zeroes", TN_OPTION_BOOL, TN_OPTION_OPEN, "off",
    "reads give zeroes instead of what the buffer held" },
  { NULL },
};

static const TnProtocolOps null_ops = {
  .size = sizeof (TnProtocolOps),
  .instance_size = sizeof (NullState),
  .flags = TN_PROTOCOL_FUA,
  .parse_filename = null_parse_filename,
  .open = null_open,
  .close = null_close,
  .submit = null_submit,
  .resize = null_resize,
  .map = null_map,
  .allocated = null_allocated,
};

static const char *const null_aliases[] = { "null-co", "null-aio", NULL };
static const char *const null_schemes[] = { "null-co", "null-aio", NULL };

static const TnClass null_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "null",
  .summary = "a disk that keeps nothing, for tests and benches",
  .aliases = null_aliases,
  .schemes = null_schemes,
  .options = null_options,
  .ops = &null_ops,
};

static const TnClass *const null_classes[] = { &null_class, NULL };

TN_PLUGIN_DEFINE (protocol_null, .security = TN_SECURITY_HARDENED, .name = "protocol-null", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = null_classes);
