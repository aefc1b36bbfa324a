/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log-writes: whatever changes the image below is also written to a log, in the order in which it was done,
 * so that the image can be made as it was at any flush.
 *
 * A change is logged after it was made and before its requester hears of it.  A flush stands in the log where
 * it was asked for: what ends while it is under way is not covered by it.
 */
#include "../common/pass.h"

#include "log.h"

typedef struct LogWritesState {
  TnPassPool pool;
  TnNode *file;
  Log log;
} LogWritesState;

/* What a pass has to wait for, in its words. */
typedef struct LogWait {
  TnCoroutine *waiter;
  int result;
  bool done;
} LogWait;

G_STATIC_ASSERT (sizeof (LogWait) <= TN_PASS_WORDS * sizeof (uintptr_t));

static LogWait *
log_wait (TnPass *pass)
{
  return (LogWait *) (void *) pass->words;
}

static void
log_writes_done (TnRequest *request, int result)
{
  LogWait *wait = log_wait (tn_pass_of (request));

  wait->result = result;
  wait->done = true;
  if (wait->waiter != NULL)
    tn_co_wake (wait->waiter);
}

static int
log_writes_forward (LogWritesState *s, TnPass *pass)
{
  LogWait *wait = log_wait (pass);

  tn_node_submit (s->file, &pass->request);
  if (!wait->done) {
    wait->waiter = tn_co_self ();
    tn_co_yield ();
  }
  return wait->result;
}

static int
log_writes_append (LogWritesState *s, const TnRequest *request)
{
  uint64_t fua = (request->flags & TN_REQUEST_FUA) != 0 ? LOG_FUA : 0;

  if (request->op == TN_REQUEST_DISCARD)
    return log_append (&s->log, LOG_DISCARD, request->offset, request->length, NULL, 0, 0);
  return log_append (&s->log, fua, request->offset, request->length, request->iov,
                     request->op == TN_REQUEST_WRITE ? request->n_iov : 0, request->length);
}

static int
log_writes_change (LogWritesState *s, TnPass *pass)
{
  int r = log_writes_forward (s, pass);

  return r < 0 ? r : log_writes_append (s, pass->original);
}

static int
log_writes_flush (LogWritesState *s, TnPass *pass)
{
  int r = log_append (&s->log, LOG_FLUSH, 0, 0, NULL, 0, 0);

  if (r >= 0)
    r = log_flush (&s->log, NULL);
  return r < 0 ? r : log_writes_forward (s, pass);
}

static void
log_writes_main (void *opaque)
{
  TnPass *pass = opaque;
  LogWritesState *s = tn_node_state (pass->node);
  bool flush = pass->request.op == TN_REQUEST_FLUSH;

  tn_pass_end (pass, flush ? log_writes_flush (s, pass) : log_writes_change (s, pass));
}

static void
log_writes_submit (TnNode *node, TnRequest *request)
{
  LogWritesState *s = tn_node_state (node);
  bool reads = request->op == TN_REQUEST_READ;
  TnPass *pass = tn_pass_new (&s->pool, node, request, reads ? tn_pass_done : log_writes_done);

  if (pass == NULL || tn_pass_clip (pass, s->file) < 0)
    return;
  if (reads)
    tn_node_submit (s->file, &pass->request);
  else
    tn_co_start (log_writes_main, pass);
}

/* ---- Opening ---- */

static int
log_writes_start (TnNode *node, const TnOptions *options, GError **error)
{
  LogWritesState *s = tn_node_state (node);
  bool append = tn_options_bool (options, "log-append");
  int r;

  if (append && tn_options_has (options, "log-sector-size"))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "log-append and log-sector-size are mutually exclusive");
  s->log.block = 512;
  if (tn_options_has (options, "log-sector-size"))
    s->log.block = (uint32_t) tn_options_uint (options, "log-sector-size");
  if ((s->log.block & (s->log.block - 1)) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "log-sector-size=%u is not a power of two", s->log.block);
  s->log.update_interval = tn_options_uint (options, "log-super-update-interval");
  r = tn_node_open_child (node, "log", NULL, &s->log.node, error);
  if (r < 0 || tn_node_is_read_only (node))
    return r;
  return append ? log_resume (&s->log, error) : log_start (&s->log, error);
}

static int
log_writes_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  LogWritesState *s = tn_node_state (node);
  TnLimits limits;
  int r;

  s->file = tn_node_child (node, "file");
  r = log_writes_start (node, options, error);
  if (r < 0)
    return r;
  tn_node_limits (s->file, &limits);
  limits.request_alignment = MAX (limits.request_alignment, s->log.block);
  limits.discard_alignment = MAX (limits.discard_alignment, s->log.block);
  tn_node_set_limits (node, &limits);
  tn_pass_pool_init (&s->pool);
  return 0;
}

static int
log_writes_close (TnNode *node, GError **error)
{
  LogWritesState *s = tn_node_state (node);
  int r = tn_node_is_read_only (node) ? 0 : log_flush (&s->log, error);

  tn_pass_pool_clear (&s->pool);
  return r;
}

static const TnOption log_writes_options[] = {
  { "file", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "what the requests go to" },
  { "log", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "where the log is written" },
  { "log-sector-size", TN_OPTION_SIZE, TN_OPTION_OPEN, NULL, "sector size of a new log (default: 512)", 512,
    LOG_BLOCK_MAX },
  { "log-append", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "go on with the log that is there" },
  { "log-super-update-interval", TN_OPTION_UINT, TN_OPTION_OPEN, "4096",
    "entries between two writes of the log's super block", 1, 0 },
  { NULL },
};

static const TnProtocolOps log_writes_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA,
  .instance_size = sizeof (LogWritesState),
  .open = log_writes_open,
  .close = log_writes_close,
  .submit = log_writes_submit,
};

static const char *const log_writes_aliases[] = { "blklogwrites", NULL };

static const TnClass log_writes_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "log-writes",
  .aliases = log_writes_aliases,
  .summary = "filter: logs every write, in the format of dm-log-writes",
  .options = log_writes_options,
  .ops = &log_writes_ops,
};

static const TnClass *const log_writes_classes[] = { &log_writes_class, NULL };

TN_PLUGIN_DEFINE (filter_log_writes, .name = "filter-log-writes", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = log_writes_classes);
