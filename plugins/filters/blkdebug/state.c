/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens at an event. */
#include "blkdebug.h"

/* The first error rule of an event takes the place of those that were in force. */
static void
blkdebug_activate (BlkdebugState *s, BlkdebugRule *rule, unsigned *n_injected)
{
  if ((*n_injected)++ == 0) {
    for (guint i = 0; i < s->active->len; i++)
      ((BlkdebugRule *) s->active->pdata[i])->active = false;
    g_ptr_array_set_size (s->active, 0);
  }
  if (rule->active)
    return;
  rule->active = true;
  g_ptr_array_insert (s->active, 0, rule);
}

static void
blkdebug_stop (BlkdebugState *s, TnPass *pass, const char *tag)
{
  blkdebug_way (pass)->tag = g_intern_string (tag);
  pass->next = s->stopped;
  s->stopped = pass;
}

bool
blkdebug_at_event (BlkdebugState *s, int event, TnPass *pass)
{
  unsigned injected = 0;
  bool stopped = false;
  uint64_t new_state;

  g_mutex_lock (&s->lock);
  new_state = s->state;
  for (guint i = 0; i < s->rules->len; i++) {
    BlkdebugRule *rule = s->rules->pdata[i];

    if (rule->event != event || (rule->state != 0 && rule->state != s->state))
      continue;
    if (rule->action == BLKDEBUG_INJECT)
      blkdebug_activate (s, rule, &injected);
    else if (rule->action == BLKDEBUG_SET_STATE)
      new_state = rule->new_state;
    else if (pass != NULL && !stopped) {
      blkdebug_stop (s, pass, rule->tag);
      stopped = true;
      g_ptr_array_remove_index (s->rules, i--);
    }
  }
  s->state = new_state;
  g_mutex_unlock (&s->lock);
  return stopped;
}

static bool
blkdebug_hits (const BlkdebugRule *rule, const TnRequest *request)
{
  if ((rule->operations & (1u << request->op)) == 0)
    return false;
  if (rule->offset < 0)
    return true;
  return (uint64_t) rule->offset >= request->offset
         && (uint64_t) rule->offset - request->offset < request->length;
}

int
blkdebug_injected (BlkdebugState *s, const TnRequest *request, bool *immediately)
{
  int error = 0;

  g_mutex_lock (&s->lock);
  for (guint i = 0; i < s->active->len; i++) {
    BlkdebugRule *rule = s->active->pdata[i];

    if (!blkdebug_hits (rule, request))
      continue;
    error = rule->error;
    *immediately = rule->immediately;
    if (error != 0 && rule->once) {
      g_ptr_array_remove_index (s->active, i);
      g_ptr_array_remove (s->rules, rule);
    }
    break;
  }
  g_mutex_unlock (&s->lock);
  return error;
}

/* ---- Breakpoints ---- */

static int
blkdebug_set (BlkdebugState *s, const char *event, const char *tag, GError **error)
{
  int number = blkdebug_event_number (event);
  BlkdebugRule *rule;

  if (number < 0)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "'%s' is not the name of an event", event);
  if (s->rules->len >= BLKDEBUG_MAX_RULES)
    return tn_fail (error, TN_BLOCK_ERROR, E2BIG, "there are %d rules already: remove some breakpoints",
                    BLKDEBUG_MAX_RULES);
  rule = g_new0 (BlkdebugRule, 1);
  rule->action = BLKDEBUG_STOP;
  rule->event = number;
  rule->tag = g_strdup (tag);
  g_ptr_array_add (s->rules, rule);
  return 0;
}

/* Lets one stopped request, or all, go on; @tag NULL stands for any. */
static unsigned
blkdebug_release (BlkdebugState *s, const char *tag, bool all, void (*go_on) (void *pass))
{
  unsigned released = 0;

  for (TnPass **link = &s->stopped; *link != NULL && (all || released == 0);) {
    TnPass *pass = *link;

    if (tag != NULL && strcmp (blkdebug_way (pass)->tag, tag) != 0) {
      link = &pass->next;
      continue;
    }
    *link = pass->next;
    tn_loop_post (blkdebug_way (pass)->loop, go_on, pass);
    released++;
  }
  return released;
}

static unsigned
blkdebug_remove (BlkdebugState *s, const char *tag)
{
  unsigned removed = 0;

  for (guint i = 0; i < s->rules->len;) {
    BlkdebugRule *rule = s->rules->pdata[i];

    if (rule->action != BLKDEBUG_STOP || (tag != NULL && strcmp (rule->tag, tag) != 0)) {
      i++;
      continue;
    }
    g_ptr_array_remove_index (s->rules, i);
    removed++;
  }
  return removed;
}

static bool
blkdebug_is_stopped (BlkdebugState *s, const char *tag)
{
  for (TnPass *pass = s->stopped; pass != NULL; pass = pass->next)
    if (strcmp (blkdebug_way (pass)->tag, tag) == 0)
      return true;
  return false;
}

int
blkdebug_breakpoint (BlkdebugState *s, uint32_t action, const char *event, const char *tag,
                     void (*go_on) (void *pass), GError **error)
{
  unsigned n = 0;
  int r = 0;

  g_mutex_lock (&s->lock);
  switch ((TnBreakAction) action) {
  case TN_BREAK_SET:
    r = blkdebug_set (s, event, tag, error);
    n = 1;
    break;
  case TN_BREAK_RESUME:
    n = blkdebug_release (s, tag, false, go_on);
    break;
  case TN_BREAK_REMOVE:
    n = blkdebug_remove (s, tag);
    n += blkdebug_release (s, tag, true, go_on);
    if (tag == NULL)
      n = 1;
    break;
  case TN_BREAK_STOPPED:
    r = blkdebug_is_stopped (s, tag);
    n = 1;
    break;
  }
  g_mutex_unlock (&s->lock);
  return n > 0 ? r
               : tn_fail (error, TN_BLOCK_ERROR, ENOENT,
                          "there is no breakpoint or stopped request called '%s'", tag);
}
