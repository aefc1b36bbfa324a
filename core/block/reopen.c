/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing how a graph is opened while it is in use: requests are held back for the moment. */
#include "block/internal.h"

#define CHANGEABLE (TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_DIRECT | TN_OPEN_NO_FLUSH)
#define FOR_BACKING (TN_OPEN_DIRECT | TN_OPEN_NO_FLUSH)

/* One node and what becomes of its flags. */
typedef struct Step {
  TnNode *node;
  uint32_t before, after;
  TnOptions *options; /* its own */
} Step;

typedef struct Reopen {
  const TnOptions *options; /* of the topmost node and, with prefixes, of those below */
  uint32_t flags;
  GArray *steps; /* Step, children first */
} Reopen;

/* ---- What is to be done ---- */

static uint32_t
flags_below (const TnNode *node, const TnNode *child, uint32_t wanted)
{
  uint32_t changeable = child == node->backing ? FOR_BACKING : CHANGEABLE & ~TN_OPEN_RESIZE;
  uint32_t flags = (child->flags & ~changeable) | (wanted & changeable);
  if (child == node->backing)
    return flags;
  if (!(flags & TN_OPEN_WRITE))
    return flags & ~TN_OPEN_RESIZE;
  bool grows = node->is_format && (node->format.flags & TN_FORMAT_GROWS);
  return grows || (wanted & TN_OPEN_RESIZE) ? flags | TN_OPEN_RESIZE : flags;
}

static int
check_options (TnNode *node, TnOptions *options, GError **error)
{
  static const TnOption nothing[] = { { NULL } };
  const TnClass *class = node->class;
  if (!tn_options_count (options))
    return 0;
  return tn_options_check (options, class->options ? class->options : nothing,
                           class->options ? class->option_size : sizeof *nothing, TN_OPTION_RUNTIME,
                           class->name, error);
}

/* Takes over @options. */
static int
plan (Reopen *reopen, TnNode *node, TnOptions *options, uint32_t flags, GError **error)
{
  int rc = 0;
  for (guint i = 0; !rc && i < node->children->len; i++) {
    const TnChild *child = &g_array_index (node->children, TnChild, i);
    TnOptions *below = tn_options_take_prefix (options, child->role);
    rc = plan (reopen, child->node, below, flags_below (node, child->node, flags), error);
  }
  if (!rc)
    rc = check_options (node, options, error);
  Step step = { node, node->flags, flags, options };
  g_array_append_val (reopen->steps, step);
  return rc;
}

static void
step_clear (gpointer step)
{
  tn_options_free (((Step *) step)->options);
}

/* ---- One node ---- */

static int
call_driver (TnNode *node, const TnOptions *options, uint32_t before, uint32_t flags, GError **error)
{
  int (*reopen) (TnNode *, const TnOptions *, uint32_t, GError **) =
      node->is_format ? node->format.reopen : node->protocol.reopen;
  uint32_t changed = (before ^ flags) & CHANGEABLE;
  if (reopen && (changed || tn_options_count (options)))
    return tn_failure (reopen (node, options, flags, error));
  if (tn_options_count (options))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: '%s' has no options that can be changed while it is open", tn_node_filename (node),
                    node->class->name);
  if (node->is_format || node->is_filter || !(changed & (TN_OPEN_WRITE | TN_OPEN_DIRECT)))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: protocol '%s' cannot be switched while it is open",
                  tn_node_filename (node), node->class->name);
}

/* Permissions follow the flags of the node and of its parents. */
static int
set_permissions_around (TnNode *node, GError **error)
{
  if (!node->is_format)
    return tn_leaf_set_permissions (node, error);
  int rc = 0;
  for (guint i = 0; !rc && i < node->children->len; i++) {
    TnNode *child = g_array_index (node->children, TnChild, i).node;
    rc = child == node->backing ? 0 : tn_leaf_set_permissions (child, error);
  }
  return rc;
}

static int
adopt_flags (TnNode *node, uint32_t flags, GError **error)
{
  const uint32_t before = node->flags;
  __atomic_store_n (&node->flags, flags, __ATOMIC_RELAXED);
  tn_node_settle (node);
  int rc = set_permissions_around (node, error);
  if (!rc)
    return 0;
  __atomic_store_n (&node->flags, before, __ATOMIC_RELAXED);
  tn_node_settle (node);
  set_permissions_around (node, NULL);
  return rc;
}

static int
call_driver_locked (TnNode *node, const TnOptions *options, uint32_t before, uint32_t flags, GError **error)
{
  if (node->is_format)
    tn_map_lock (node);
  int rc = call_driver (node, options, before, flags, error);
  if (node->is_format)
    tn_map_unlock (node);
  return rc;
}

static int
switch_node (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  uint32_t before = node->flags;
  if (before == flags && !tn_options_count (options))
    return 0;
  if ((before & TN_OPEN_WRITE) && !(flags & TN_OPEN_WRITE)) {
    TnRequest flush = { .op = TN_REQUEST_FLUSH }; /* past the gate, which may be this node's */
    int rc = node->is_format ? tn_route_flush (node, error) : tn_leaf_request (node, &flush, error);
    if (rc)
      return rc;
  }
  /* A format that becomes writable may write at once: its file is locked before. */
  const bool first = node->is_format && (flags & TN_OPEN_WRITE);
  int rc = first ? adopt_flags (node, flags, error) : 0;
  if (rc)
    return rc;
  rc = call_driver_locked (node, options, before, flags, error);
  if (rc) {
    if (first)
      adopt_flags (node, before, NULL);
    return rc;
  }
  rc = first ? 0 : adopt_flags (node, flags, error);
  if (!rc)
    return 0;
  g_autoptr (TnOptions) none = tn_options_new ();
  call_driver_locked (node, none, flags, before, NULL);
  return rc;
}

/* ---- All of them ---- */

static Step *
step_at (const Reopen *reopen, guint index, bool backwards)
{
  return &g_array_index (reopen->steps, Step, backwards ? reopen->steps->len - 1 - index : index);
}

static int
switch_all (const Reopen *reopen, GError **error)
{
  g_autoptr (TnOptions) none = tn_options_new ();
  TnNode *top = step_at (reopen, 0, true)->node;
  /* Who wants to write needs a writable file first; who stops writing has a last write to make. */
  bool backwards = (top->flags & TN_OPEN_WRITE) && !(reopen->flags & TN_OPEN_WRITE);
  int rc = 0;
  guint done = 0;
  for (; done < reopen->steps->len && !rc; done++) {
    Step *step = step_at (reopen, done, backwards);
    rc = switch_node (step->node, step->options, step->after, error);
  }
  if (!rc)
    return 0;
  for (guint i = done - 1; i > 0; i--) {
    Step *step = step_at (reopen, i - 1, backwards);
    switch_node (step->node, none, step->before, NULL);
  }
  return rc;
}

static int
reopen_main (TnNode *node, void *opaque, GError **error)
{
  Reopen *reopen = opaque;
  TnOptions *options = reopen->options ? tn_options_copy (reopen->options) : tn_options_new ();
  reopen->steps = g_array_new (FALSE, FALSE, sizeof (Step));
  g_array_set_clear_func (reopen->steps, step_clear);
  tn_node_quiesce (node);
  int rc = plan (reopen, node, options, reopen->flags, error);
  if (!rc)
    rc = switch_all (reopen, error);
  tn_node_resume (node);
  g_array_unref (reopen->steps);
  return rc;
}

int
tn_node_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Reopen reopen = { .options = options, .flags = (node->flags & ~CHANGEABLE) | (flags & CHANGEABLE) };
  if (!(reopen.flags & TN_OPEN_WRITE))
    reopen.flags &= ~TN_OPEN_RESIZE;
  return tn_node_co_run (node, reopen_main, &reopen, error);
}
