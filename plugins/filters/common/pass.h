/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A filter's own requests to its children, one for each that it got.
 *
 * They come from a pool, so that in the steady state passing on allocates nothing.
 */
#ifndef TENON_FILTER_PASS_H
#define TENON_FILTER_PASS_H

#include <tenon/protocol.h>

#define TN_PASS_WORDS 6

typedef struct TnPassPool TnPassPool;

typedef struct TnPass TnPass;
struct TnPass {
  TnRequest request; /* to the child; opaque is the pass */
  TnRequest *original;
  TnNode *node; /* the filter */
  TnPassPool *pool;
  struct iovec *cut;              /* of tn_pass_clip() */
  TnPass *next;                   /* in the pool, or in a list of the filter's */
  uintptr_t words[TN_PASS_WORDS]; /* the filter's, zeroed at first */
};

struct TnPassPool {
  GMutex lock;
  TnPass *unused;
  unsigned n_unused;
};

void tn_pass_pool_init (TnPassPool *pool);
void tn_pass_pool_clear (TnPassPool *pool);
/* A copy of @original that calls @done at its end; NULL when there is no memory (and @original is done). */
TnPass *tn_pass_new (TnPassPool *pool, TnNode *node, TnRequest *original,
                     void (*done) (TnRequest *request, int result));
/* A filter with an alignment of its own gets the last block of its child whole, however short that is: cuts
 * off what lies beyond the child's end, where reads give zeroes.  Ends the pass when it fails. */
int tn_pass_clip (TnPass *pass, TnNode *child);
/* Ends the original with @result and gives the pass back. */
void tn_pass_end (TnPass *pass, int result);
/* A done() that does just that. */
void tn_pass_done (TnRequest *request, int result);

static inline TnPass *
tn_pass_of (TnRequest *request)
{
  return request->opaque;
}

#endif
