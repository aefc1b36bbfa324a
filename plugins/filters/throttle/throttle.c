/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filter.  A request that may pass at once is only passed on; one that has to wait does so in a
 * coroutine, in its member's queue until its turn comes and then until there is room for it.
 */
#include "../common/pass.h"

#include "throttle.h"

#include <tenon/object.h>

typedef struct ThrottleState {
  TnPassPool pool;
  TnNode *file;
  ThrottleGroup *group;
  ThrottleGroup own; /* without throttle-group */
  ThrottleMember member;
} ThrottleState;

static bool
throttle_may_pass (ThrottleState *s, ThrottleWhat direction, uint64_t bytes)
{
  ThrottleGroup *group = s->group;
  bool pass;

  g_mutex_lock (&group->lock);
  pass = group->head[direction] == NULL && throttle_wait (&group->limits, direction, tn_clock_ns ()) == 0;
  if (pass)
    throttle_account (&group->limits, direction, bytes);
  g_mutex_unlock (&group->lock);
  return pass;
}

/* In a coroutine: waits for this request's turn, and for room. */
static void
throttle_stand_in_line (ThrottleState *s, ThrottleWhat direction, uint64_t bytes)
{
  ThrottleGroup *group = s->group;
  ThrottleWaiter me = { .opaque = tn_co_self () }, *next;
  int64_t wait = 0;

  g_mutex_lock (&group->lock);
  throttle_group_queue (group, &s->member, direction, &me);
  me.asleep = group->head[direction] != &me;
  while (me.asleep || (wait = throttle_wait (&group->limits, direction, tn_clock_ns ())) > 0) {
    bool asleep = me.asleep;

    g_mutex_unlock (&group->lock);
    if (asleep)
      tn_co_yield ();
    else
      tn_co_sleep (wait);
    g_mutex_lock (&group->lock);
  }
  throttle_account (&group->limits, direction, bytes);
  next = throttle_group_next (group, direction);
  if (next != NULL && next->asleep) {
    next->asleep = false;
    tn_co_wake (next->opaque);
  }
  g_mutex_unlock (&group->lock);
}

static ThrottleWhat
throttle_direction (const TnRequest *request)
{
  return request->op == TN_REQUEST_READ ? THROTTLE_READ : THROTTLE_WRITE;
}

static void
throttle_main (void *opaque)
{
  TnPass *pass = opaque;
  ThrottleState *s = tn_node_state (pass->node);

  throttle_stand_in_line (s, throttle_direction (&pass->request), pass->request.length);
  tn_node_submit (s->file, &pass->request);
}

static void
throttle_submit (TnNode *node, TnRequest *request)
{
  ThrottleState *s = tn_node_state (node);
  TnPass *pass = tn_pass_new (&s->pool, node, request, tn_pass_done);

  if (pass == NULL)
    return;
  if (request->op == TN_REQUEST_FLUSH || throttle_may_pass (s, throttle_direction (request), request->length))
    tn_node_submit (s->file, &pass->request);
  else
    tn_co_start (throttle_main, pass);
}

/* ---- Opening ---- */

static int
throttle_init_group (void *state, const TnOptions *options, GError **error)
{
  ThrottleGroup *group = state;

  g_mutex_init (&group->lock);
  return throttle_read_limits (&group->limits, options, "throttle-group", error);
}

static int
throttle_find_group (ThrottleState *s, const TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) given = tn_options_copy (options);
  g_autoptr (TnOptions) limits = tn_options_take_prefix (given, "limits");
  const char *id = tn_options_get (options, "throttle-group");
  void *state = NULL;
  int r;

  if ((id != NULL) == (tn_options_count (limits) > 0))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "throttle: give either throttle-group=ID or limits such as limits.iops-total=100");
  if (id == NULL) {
    s->group = &s->own;
    return throttle_init_group (s->group, limits, error);
  }
  r = tn_object_state ("throttle-group", id, sizeof (ThrottleGroup), throttle_init_group, &state, error);
  s->group = state;
  return r;
}

static int
throttle_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  ThrottleState *s = tn_node_state (node);
  int r = throttle_find_group (s, options, error);

  if (r < 0)
    return r;
  s->file = tn_node_child (node, "file");
  tn_pass_pool_init (&s->pool);
  g_mutex_lock (&s->group->lock);
  throttle_group_join (s->group, &s->member);
  g_mutex_unlock (&s->group->lock);
  return 0;
}

static int
throttle_close (TnNode *node, GError **error)
{
  ThrottleState *s = tn_node_state (node);

  g_mutex_lock (&s->group->lock);
  throttle_group_leave (s->group, &s->member);
  g_mutex_unlock (&s->group->lock);
  tn_pass_pool_clear (&s->pool);
  return 0;
}

static const TnOption throttle_options[] = {
  { "file", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "what the requests go to" },
  { "throttle-group", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "id of an object throttle-group" },
  { "limits", TN_OPTION_GROUP, TN_OPTION_OPEN, NULL,
    "limits of this node alone, as those of a throttle-group" },
  { NULL },
};

static const TnProtocolOps throttle_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA,
  .instance_size = sizeof (ThrottleState),
  .open = throttle_open,
  .close = throttle_close,
  .submit = throttle_submit,
};

static const TnClass throttle_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "throttle",
  .summary = "filter: limits on requests and bytes per second",
  .options = throttle_options,
  .ops = &throttle_ops,
};

static const TnClass *const throttle_classes[] = { &throttle_class, NULL };

TN_PLUGIN_DEFINE (filter_throttle, .name = "filter-throttle", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = throttle_classes);
