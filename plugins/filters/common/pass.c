/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pass.h"

#define MAX_UNUSED 64

void
tn_pass_pool_init (TnPassPool *pool)
{
  g_mutex_init (&pool->lock);
}

void
tn_pass_pool_clear (TnPassPool *pool)
{
  while (pool->unused != NULL) {
    TnPass *pass = pool->unused;

    pool->unused = pass->next;
    g_free (pass);
  }
  g_mutex_clear (&pool->lock);
}

static TnPass *
pass_take (TnPassPool *pool)
{
  TnPass *pass;

  g_mutex_lock (&pool->lock);
  pass = pool->unused;
  if (pass != NULL) {
    pool->unused = pass->next;
    pool->n_unused--;
  }
  g_mutex_unlock (&pool->lock);
  return pass != NULL ? pass : g_try_new (TnPass, 1);
}

TnPass *
tn_pass_new (TnPassPool *pool, TnNode *node, TnRequest *original,
             void (*done) (TnRequest *request, int result))
{
  TnPass *pass = pass_take (pool);

  if (pass == NULL) {
    original->done (original, -ENOMEM);
    return NULL;
  }
  memcpy (&pass->request, original, offsetof (TnRequest, core));
  pass->request.done = done;
  pass->request.opaque = pass;
  pass->original = original;
  pass->node = node;
  pass->pool = pool;
  pass->next = NULL;
  pass->cut = NULL;
  memset (pass->words, 0, sizeof pass->words);
  return pass;
}

/* Whether what is written beyond the end of @child makes it grow. */
static bool
pass_grows (TnPass *pass, TnNode *child)
{
  return pass->request.op != TN_REQUEST_READ && tn_node_class (child)->kind == TN_KIND_PROTOCOL
         && (tn_node_open_flags (pass->node) & TN_OPEN_RESIZE) != 0;
}

static int
pass_cut (TnPass *pass, uint64_t left)
{
  TnRequest *request = &pass->request;
  uint32_t kept = 0;

  pass->cut = g_try_new (struct iovec, MAX (request->n_iov, 1));
  if (pass->cut == NULL)
    return -ENOMEM;
  request->length = left;
  for (uint32_t i = 0; i < request->n_iov; i++) {
    const struct iovec *whole = &request->iov[i];
    size_t n = MIN (whole->iov_len, left);

    if (n > 0)
      pass->cut[kept++] = (struct iovec){ whole->iov_base, n };
    if (request->op == TN_REQUEST_READ)
      memset ((char *) whole->iov_base + n, 0, whole->iov_len - n);
    left -= n;
  }
  request->iov = pass->cut;
  request->n_iov = kept;
  return 0;
}

int
tn_pass_clip (TnPass *pass, TnNode *child)
{
  TnRequest *request = &pass->request;
  uint64_t size = tn_node_size (child);
  int r;

  if (request->op == TN_REQUEST_FLUSH || request->offset > size || request->length <= size - request->offset
      || pass_grows (pass, child))
    return 0;
  r = pass_cut (pass, size - request->offset);
  if (r < 0)
    tn_pass_end (pass, r);
  return r;
}

void
tn_pass_end (TnPass *pass, int result)
{
  TnPassPool *pool = pass->pool;
  TnRequest *original = pass->original;
  bool kept;

  g_clear_pointer (&pass->cut, g_free);
  g_mutex_lock (&pool->lock);
  kept = pool->n_unused < MAX_UNUSED;
  if (kept) {
    pass->next = pool->unused;
    pool->unused = pass;
    pool->n_unused++;
  }
  g_mutex_unlock (&pool->lock);
  if (!kept)
    g_free (pass);
  original->done (original, result); /* the filter may be gone afterwards */
}

void
tn_pass_done (TnRequest *request, int result)
{
  tn_pass_end (tn_pass_of (request), result);
}
