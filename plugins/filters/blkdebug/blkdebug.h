/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkdebug: requests that fail or stop at named events.
 *
 *   rules.c     rules from options and from the configuration file
 *   events.c    the names of events, and which ones a request comes to
 *   state.c     what happens at an event: states, errors, stops
 *   blkdebug.c  the filter
 */
#ifndef TENON_BLKDEBUG_H
#define TENON_BLKDEBUG_H

#include "../common/pass.h"

#define BLKDEBUG_MAX_RULES 1024
#define BLKDEBUG_MAX_EVENTS 4 /* that one request comes to */

typedef enum BlkdebugAction { BLKDEBUG_INJECT = 1, BLKDEBUG_SET_STATE, BLKDEBUG_STOP } BlkdebugAction;

typedef struct BlkdebugRule {
  BlkdebugAction action;
  int event;
  uint64_t state; /* 0: in every state */
  uint64_t new_state;
  int error;           /* INJECT: an errno value; 0 disarms the rules before */
  uint32_t operations; /* INJECT: bits of 1 << TnRequestOp */
  int64_t offset;      /* INJECT: only requests with this byte; -1: all */
  bool once, immediately;
  bool active; /* INJECT: its event has come */
  char *tag;   /* STOP */
} BlkdebugRule;

typedef struct BlkdebugState {
  TnPassPool pool;
  GMutex lock; /* for all below */
  GPtrArray *rules;
  GPtrArray *active; /* rules, the latest first; no references */
  TnPass *stopped;
  uint64_t state;
} BlkdebugState;

/* What a pass knows of itself, in its words. */
typedef struct BlkdebugWay {
  TnLoop *loop;
  const char *tag; /* interned, while stopped */
  int error;
  uint8_t next, n_events;
  uint8_t events[BLKDEBUG_MAX_EVENTS];
} BlkdebugWay;

G_STATIC_ASSERT (sizeof (BlkdebugWay) <= TN_PASS_WORDS * sizeof (uintptr_t));

static inline BlkdebugWay *
blkdebug_way (TnPass *pass)
{
  return (BlkdebugWay *) (void *) pass->words;
}

/* rules.c */
void blkdebug_rule_free (BlkdebugRule *rule);
/* Adds the rules that @options hold, and those of the file that they name. */
int blkdebug_read_rules (GPtrArray *rules, const TnOptions *options, GError **error);

/* events.c */
#define BLKDEBUG_EVENT_NONE 0
/* The number of an event, or -1. */
int blkdebug_event_number (const char *name);
void blkdebug_events_of (const TnRequest *request, BlkdebugWay *way);
/* What follows a write that has succeeded, or -1. */
int blkdebug_event_after (const TnRequest *request);

/* state.c */
/* At @event; returns whether @pass (may be NULL) has been stopped. */
bool blkdebug_at_event (BlkdebugState *s, int event, TnPass *pass);
/* The error that a rule has for @request, or 0. */
int blkdebug_injected (BlkdebugState *s, const TnRequest *request, bool *immediately);
int blkdebug_breakpoint (BlkdebugState *s, uint32_t action, const char *event, const char *tag,
                         void (*go_on) (void *pass), GError **error);

#endif
