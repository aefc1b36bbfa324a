/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the users of a leaf do to it, and what they let others do.
 *
 * A leaf without parents is used by whoever opened it.  Otherwise its parents use it; a filter passes on what
 * its own users want.  A node that several parents share by its name must suit all of them: what one does the
 * others must allow, and the lock on the file covers them all.
 */
#include "block/internal.h"

#define SHARED_NORMALLY (TN_PERM_CONSISTENT_READ | TN_PERM_WRITE_UNCHANGED)

typedef struct Claim {
  uint32_t does, shares;
  TnNode *user; /* NULL: several, or nobody in particular */
} Claim;

/* By somebody who has @flags for the node, and may change its length if @resizes. */
static Claim
claim_of_flags (uint32_t flags, bool resizes, bool bears_writers, TnNode *user)
{
  const bool writes = flags & TN_OPEN_WRITE, shared = flags & TN_OPEN_SHARED;
  Claim claim = { shared ? 0 : TN_PERM_CONSISTENT_READ, SHARED_NORMALLY, user };
  if (writes)
    claim.does |= TN_PERM_WRITE | (resizes ? TN_PERM_RESIZE : 0);
  if (shared || (bears_writers && !writes))
    claim.shares = TN_SHARED_ALL;
  return claim;
}

static Claim
claim_of_parent (TnNode *parent, TnNode *child)
{
  const bool resizes = tn_node_flags_now (child) & TN_OPEN_RESIZE;
  if (parent->backing == child) /* writable only for as long as something is committed to it */
    return claim_of_flags (tn_node_flags_now (child), resizes, false, parent);
  uint32_t flags = tn_node_flags_now (parent);
  if (!(tn_node_flags_now (child) & TN_OPEN_WRITE))
    flags &= ~TN_OPEN_WRITE; /* auto-read-only */
  const bool bears = (parent->format.flags & TN_FORMAT_STATIC_MAP) || (flags & TN_OPEN_NO_IO);
  return claim_of_flags (flags, resizes, bears, parent);
}

static int
refuse_conflict (TnNode *node, TnNode *one, TnNode *two, GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EBUSY,
      "%s: node '%s' cannot be used by '%s' while '%s' uses it: open one of them read-only, or with "
      "force-share=on",
      tn_node_filename (node), node->name, tn_node_name (one), tn_node_name (two));
}

static Claim combined_claim (TnNode *node, TnNode **one, TnNode **two);

static Claim
claim_through (TnNode *parent, TnNode *child, TnNode **one, TnNode **two)
{
  if (!parent->is_filter)
    return claim_of_parent (parent, child);
  Claim claim = combined_claim (parent, one, two);
  claim.user = parent;
  return claim;
}

/* *one and *two are set to users that exclude each other. */
static Claim
combined_claim (TnNode *node, TnNode **one, TnNode **two)
{
  if (!node->parents) {
    const uint32_t flags = tn_node_flags_now (node);
    return claim_of_flags (flags, flags & TN_OPEN_RESIZE, flags & TN_OPEN_NO_IO, NULL);
  }
  Claim all = { 0, TN_SHARED_ALL, NULL };
  for (GSList *at = node->parents; at; at = at->next) {
    const Claim claim = claim_through (at->data, node, one, two);
    for (GSList *other = at->next; other; other = other->next) {
      const Claim theirs = claim_through (other->data, node, one, two);
      if ((claim.does & ~theirs.shares) || (theirs.does & ~claim.shares)) {
        *one = claim.user;
        *two = theirs.user;
      }
    }
    all.does |= claim.does;
    all.shares &= claim.shares;
  }
  return all;
}

static int
set_on_leaf (TnNode *leaf, GError **error)
{
  TnNode *one = NULL, *two = NULL;
  const Claim claim = combined_claim (leaf, &one, &two);
  if (one)
    return refuse_conflict (leaf, one, two, error);
  if (!leaf->protocol.set_permissions || (claim.does == leaf->permissions && claim.shares == leaf->shared))
    return 0;
  int rc = leaf->protocol.set_permissions (leaf, claim.does, claim.shares, error);
  if (rc < 0)
    return rc;
  leaf->permissions = claim.does;
  leaf->shared = claim.shares;
  return 0;
}

int
tn_leaf_set_permissions (TnNode *node, GError **error)
{
  if (node->is_format)
    return 0;
  return node->is_filter && node->file ? tn_leaf_set_permissions (node->file, error)
                                       : set_on_leaf (node, error);
}
