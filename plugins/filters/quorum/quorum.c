/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * quorum: one disk kept several times.  What a majority of the children agree on is read; a change succeeds
 * when it has reached that many of them.
 */
#include "../common/fan.h"
#include "../common/ranges.h"

#define QUORUM_MAX_CHILDREN 32
#define QUORUM_MAX_TRANSFER (UINT64_C (1) << 20)

typedef struct QuorumState {
  TnRanges ranges; /* with `rewrite`: what is put right must not be older than a write */
  TnNode *children[QUORUM_MAX_CHILDREN];
  unsigned n_children, threshold;
  bool fifo, rewrite, blkverify;
} QuorumState;

typedef struct QuorumVote {
  TnNode *node;
  TnRequest *original;
  TnRange range;
  TnFan fan;
  unsigned n;
  TnFanPart parts[];
} QuorumVote;

/* ---- Counting ---- */

static unsigned
quorum_succeeded (const QuorumVote *vote)
{
  unsigned n = 0;

  for (unsigned i = 0; i < vote->n; i++)
    n += vote->parts[i].result >= 0;
  return n;
}

static int
quorum_first_error (const QuorumVote *vote)
{
  for (unsigned i = 0; i < vote->n; i++)
    if (vote->parts[i].result < 0)
      return vote->parts[i].result;
  return -EIO;
}

static bool
quorum_agree (const QuorumVote *vote, unsigned a, unsigned b)
{
  return vote->parts[b].result >= 0
         && memcmp (vote->parts[a].buffer, vote->parts[b].buffer, vote->original->length) == 0;
}

/* The part that most others agree with, and with how many. */
static unsigned
quorum_winner (const QuorumVote *vote, unsigned *votes)
{
  unsigned winner = 0;

  *votes = 0;
  for (unsigned i = 0; i < vote->n; i++) {
    unsigned n = 0;

    if (vote->parts[i].result < 0)
      continue;
    for (unsigned j = 0; j < vote->n; j++)
      n += quorum_agree (vote, i, j);
    if (n > *votes) {
      winner = i;
      *votes = n;
    }
  }
  return winner;
}

/* ---- Reading ---- */

/* What a child had wrong is written again; failing is no worse than before. */
static void
quorum_rewrite (QuorumVote *vote, unsigned winner)
{
  QuorumState *s = tn_node_state (vote->node);
  const TnFanPart *right = &vote->parts[winner];

  for (unsigned i = 0; i < vote->n; i++)
    if (vote->parts[i].result >= 0 && !quorum_agree (vote, winner, i))
      tn_node_write (s->children[i], vote->original->offset, right->buffer, vote->original->length, NULL);
}

static int
quorum_decide (QuorumVote *vote)
{
  QuorumState *s = tn_node_state (vote->node);
  unsigned votes, winner;

  if (quorum_succeeded (vote) < s->threshold)
    return quorum_first_error (vote);
  winner = quorum_winner (vote, &votes);
  if (votes < s->threshold)
    return -EIO;
  if (s->rewrite && votes < vote->n && !tn_node_is_read_only (vote->node))
    quorum_rewrite (vote, winner);
  tn_fan_iov_fill (vote->original->iov, vote->original->n_iov, vote->parts[winner].buffer);
  return 0;
}

static int
quorum_read_all (QuorumVote *vote)
{
  QuorumState *s = tn_node_state (vote->node);
  int r;

  for (unsigned i = 0; i < vote->n; i++)
    tn_fan_read (&vote->fan, &vote->parts[i], s->children[i], vote->original);
  tn_fan_wait (&vote->fan);
  r = quorum_decide (vote);
  for (unsigned i = 0; i < vote->n; i++)
    g_free (vote->parts[i].buffer);
  return r;
}

/* The first child that can be read. */
static int
quorum_read_first (QuorumVote *vote)
{
  QuorumState *s = tn_node_state (vote->node);
  int r = -EIO;

  for (unsigned i = 0; i < vote->n; i++) {
    tn_fan_submit (&vote->fan, &vote->parts[i], s->children[i], vote->original);
    tn_fan_wait (&vote->fan);
    r = vote->parts[i].result;
    if (r >= 0)
      return r;
  }
  return r;
}

/* ---- All else ---- */

static int
quorum_change (QuorumVote *vote)
{
  QuorumState *s = tn_node_state (vote->node);

  for (unsigned i = 0; i < vote->n; i++)
    tn_fan_submit (&vote->fan, &vote->parts[i], s->children[i], vote->original);
  tn_fan_wait (&vote->fan);
  return quorum_succeeded (vote) >= s->threshold ? 0 : quorum_first_error (vote);
}

static int
quorum_run (QuorumVote *vote)
{
  QuorumState *s = tn_node_state (vote->node);

  if (vote->original->op != TN_REQUEST_READ)
    return quorum_change (vote);
  return s->fifo ? quorum_read_first (vote) : quorum_read_all (vote);
}

static void
quorum_main (void *opaque)
{
  QuorumVote *vote = opaque;
  QuorumState *s = tn_node_state (vote->node);
  TnRequest *original = vote->original;
  bool ranged = s->rewrite && original->op != TN_REQUEST_FLUSH;
  int r;

  vote->range = (TnRange){ .start = original->offset,
                           .end = original->offset + original->length,
                           .copies = original->op == TN_REQUEST_READ };
  if (ranged)
    tn_ranges_enter (&s->ranges, &vote->range);
  r = quorum_run (vote);
  if (ranged)
    tn_ranges_leave (&s->ranges, &vote->range);
  g_free (vote);
  original->done (original, r);
}

static void
quorum_submit (TnNode *node, TnRequest *request)
{
  QuorumState *s = tn_node_state (node);
  QuorumVote *vote = g_try_malloc (sizeof (QuorumVote) + s->n_children * sizeof (TnFanPart));

  if (vote == NULL) {
    request->done (request, -ENOMEM);
    return;
  }
  vote->node = node;
  vote->original = request;
  vote->fan = (TnFan){ 0 };
  vote->n = s->n_children;
  tn_co_start (quorum_main, vote);
}

/* ---- Opening ---- */

static int
quorum_open_children (TnNode *node, QuorumState *s, GError **error)
{
  for (;; s->n_children++) {
    g_autofree char *role = g_strdup_printf ("children.%u", s->n_children);
    int r;

    if (!tn_node_child_described (node, role))
      break;
    if (s->n_children == QUORUM_MAX_CHILDREN)
      return tn_fail (error, TN_BLOCK_ERROR, E2BIG, "quorum: more than %d children are too many",
                      QUORUM_MAX_CHILDREN);
    r = tn_node_open_child (node, role, NULL, &s->children[s->n_children], error);
    if (r < 0)
      return r;
  }
  if (s->n_children == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "quorum: no children: add children.0.file.filename=FILE …");
  return 0;
}

static int
quorum_check (QuorumState *s, uint64_t threshold, GError **error)
{
  if (threshold > s->n_children)
    return tn_fail (error, TN_BLOCK_ERROR, ERANGE,
                    "quorum: vote-threshold=%" G_GUINT64_FORMAT " may not exceed the number of children, %u",
                    threshold, s->n_children);
  if (s->blkverify && (s->n_children != 2 || threshold != 2))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "quorum: blkverify=on can only be set if there are exactly two children and "
                    "vote-threshold is 2");
  if (s->rewrite && s->blkverify)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "quorum: rewrite-corrupted=on cannot be used with blkverify=on");
  for (unsigned i = 1; i < s->n_children; i++)
    if (tn_node_size (s->children[i]) != tn_node_size (s->children[0]))
      return tn_fail (error, TN_BLOCK_ERROR, EIO,
                      "quorum: '%s' and '%s' differ in size: make all children equally long",
                      tn_node_filename (s->children[0]), tn_node_filename (s->children[i]));
  s->threshold = (unsigned) threshold;
  return 0;
}

static void
quorum_set_limits (TnNode *node, const QuorumState *s)
{
  TnLimits limits;

  tn_node_limits (s->children[0], &limits);
  for (unsigned i = 1; i < s->n_children; i++) {
    TnLimits other;

    tn_node_limits (s->children[i], &other);
    limits.request_alignment = MAX (limits.request_alignment, other.request_alignment);
    limits.memory_alignment = MAX (limits.memory_alignment, other.memory_alignment);
  }
  limits.max_transfer = QUORUM_MAX_TRANSFER;
  tn_node_set_limits (node, &limits);
  tn_node_set_size (node, tn_node_size (s->children[0]));
}

static int
quorum_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  QuorumState *s = tn_node_state (node);
  int r = quorum_open_children (node, s, error);

  s->fifo = g_strcmp0 (tn_options_get (options, "read-pattern"), "fifo") == 0;
  /* Only votes tell what is corrupted. */
  s->blkverify = !s->fifo && tn_options_bool (options, "blkverify");
  s->rewrite = !s->fifo && tn_options_bool (options, "rewrite-corrupted");
  if (r >= 0)
    r = quorum_check (s, tn_options_uint (options, "vote-threshold"), error);
  if (r < 0)
    return r;
  g_mutex_init (&s->ranges.lock);
  quorum_set_limits (node, s);
  return 0;
}

static int
quorum_close (TnNode *node, GError **error)
{
  QuorumState *s = tn_node_state (node);

  g_mutex_clear (&s->ranges.lock);
  return 0;
}

static int
quorum_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  if (tn_options_count (options) > 0)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "quorum: no option can be changed while it is open");
  return 0;
}

static const char *const quorum_patterns[] = { "quorum", "fifo", NULL };

static const TnOption quorum_options[] = {
  { "children", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "the copies: children.0, children.1 …" },
  { "vote-threshold", TN_OPTION_UINT, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL,
    "how many children have to agree", 1, INT32_MAX },
  { "read-pattern", TN_OPTION_ENUM, TN_OPTION_OPEN, "quorum",
    "read all and vote, or the first that can be read", .choices = quorum_patterns },
  { "rewrite-corrupted", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "what was outvoted is written again" },
  { "blkverify", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "two children that always have to agree" },
  { NULL },
};

static const TnProtocolOps quorum_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FUA | TN_PROTOCOL_OVER_IMAGE,
  .instance_size = sizeof (QuorumState),
  .open = quorum_open,
  .close = quorum_close,
  .submit = quorum_submit,
  .reopen = quorum_reopen,
};

static const TnClass quorum_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "quorum",
  .summary = "one disk kept several times, read by vote",
  .options = quorum_options,
  .ops = &quorum_ops,
};

static const TnClass *const quorum_classes[] = { &quorum_class, NULL };

TN_PLUGIN_DEFINE (filter_quorum, .name = "filter-quorum", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon", .classes = quorum_classes);
