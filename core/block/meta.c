/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metadata service: caches of on-disk tables with declared write order.
 *
 * Order is kept by levels.  Each dirty slice has one; slices of one level may be written in any order, those
 * of the next only after a barrier (a flush of the node).  Declaring an order raises the level at which a
 * cache's slices will be dirtied.  A flush therefore costs one barrier per level, however many slices there
 * are, and one at its end.
 *
 * A slice has one level, so its contents cannot be both before and after another's.  When a declaration would
 * ask for that, the slices in question are written first, as far as their own order demands.
 *
 * The caches over one node (a domain) are used by one format, whose lock protects them all.
 */
#include "block/internal.h"
#include "block/slab.h"

#define MAX_RUN (1u << 20)
#define MAX_RUN_SLICES 64
#define MIN_BUCKETS 16
#define MAX_BUDGET (UINT64_C (1) << 48) /* so that sums stay sums */

struct TnMetaSlice {
  TnMetaCache *cache;
  uint64_t offset;
  char *data;
  uint32_t pins;
  uint32_t level; /* while dirty */
  bool dirty;
  bool referenced; /* since the last sweep */
  bool orphan;     /* forgotten while pinned */
  TnMetaSlice *hash_next;
  TnMetaSlice *newer, *older; /* order of use, roughly */
  TnMetaSlice *dirty_next, **dirty_link;
};

typedef struct Domain {
  TnNode *node;
  TnMetaCache *caches;
  GPtrArray *data_nodes; /* TnNode *, where data is written beside the node; NULL: nowhere */
  uint64_t writes;       /* levels written so far */
  uint64_t awaiting;     /* of these, what tn_meta_write() left to be made stable */
} Domain;

struct TnMetaCache {
  /* What peek needs. */
  TnMetaSlice *last;
  TnMetaSlice **buckets;
  uint32_t shift, bucket_bits;

  Domain *domain;
  TnMetaCache *next; /* in the domain */
  char *name;
  uint32_t load_flags, update_flags; /* what its requests are for */
  uint32_t slice_size;
  uint64_t budget;
  size_t n_slices;
  TnSlab slab; /* of the slices' bytes */
  TnMetaSlice *newest, *oldest;
  TnMetaSlice *dirty;
  uint32_t min_level; /* of slices dirtied from now on */
  uint32_t top_level; /* at least that of every dirty slice */
  uint32_t
      unstable; /* levels that depend on what was written since the last barrier begin here; 0: nothing was */
};

/* ---- Looking up ---- */

static inline TnMetaSlice **
bucket (const TnMetaCache *cache, uint64_t offset)
{
  return &cache->buckets[((offset >> cache->shift) * UINT64_C (0x9e3779b97f4a7c15))
                         >> (64 - cache->bucket_bits)];
}

static inline TnMetaSlice *
look_up (TnMetaCache *cache, uint64_t offset)
{
  TnMetaSlice *slice = cache->last;
  if (slice && slice->offset == offset)
    return slice;
  for (slice = *bucket (cache, offset); slice; slice = slice->hash_next)
    if (slice->offset == offset)
      return cache->last = slice;
  return NULL;
}

void *
tn_meta_peek (TnMetaCache *cache, uint64_t offset)
{
  TnMetaSlice *slice = look_up (cache, offset);
  if (!slice)
    return NULL;
  slice->referenced = true;
  return slice->data;
}

static void
rehash (TnMetaCache *cache)
{
  g_free (cache->buckets);
  cache->buckets = g_new0 (TnMetaSlice *, (size_t) 1 << cache->bucket_bits);
  for (TnMetaSlice *slice = cache->newest; slice; slice = slice->older) {
    TnMetaSlice **head = bucket (cache, slice->offset);
    slice->hash_next = *head;
    *head = slice;
  }
}

/* ---- Order of use ---- */

static void
link_newest (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  slice->newer = NULL;
  slice->older = cache->newest;
  if (cache->newest)
    cache->newest->newer = slice;
  else
    cache->oldest = slice;
  cache->newest = slice;
}

static void
unlink_use (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  *(slice->newer ? &slice->newer->older : &cache->newest) = slice->older;
  *(slice->older ? &slice->older->newer : &cache->oldest) = slice->newer;
}

static void
insert (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  link_newest (slice);
  if (++cache->n_slices > (size_t) 1 << cache->bucket_bits) {
    cache->bucket_bits++;
    rehash (cache);
    return;
  }
  TnMetaSlice **head = bucket (cache, slice->offset);
  slice->hash_next = *head;
  *head = slice;
}

static void
clean (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  if (!slice->dirty)
    return;
  slice->dirty = false;
  if (slice->dirty_next)
    slice->dirty_next->dirty_link = slice->dirty_link;
  *slice->dirty_link = slice->dirty_next;
  if (!cache->dirty)
    cache->top_level = 0;
}

static void
free_slice (TnMetaSlice *slice)
{
  tn_slab_give (&slice->cache->slab, slice->data);
  g_free (slice);
}

/* Takes a slice out of its cache; freed now or when the last pin goes. */
static void
remove_slice (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  TnMetaSlice **link = bucket (cache, slice->offset);
  while (*link != slice)
    link = &(*link)->hash_next;
  *link = slice->hash_next;
  clean (slice);
  unlink_use (slice);
  cache->n_slices--;
  if (cache->last == slice)
    cache->last = NULL;
  if (slice->pins)
    slice->orphan = true;
  else
    free_slice (slice);
}

/* ---- Writing ---- */

static int
compare_offsets (gconstpointer a, gconstpointer b)
{
  const TnMetaSlice *one = *(TnMetaSlice *const *) a, *two = *(TnMetaSlice *const *) b;
  return one->offset < two->offset ? -1 : one->offset > two->offset;
}

static GPtrArray *
slices_of_level (Domain *domain, uint32_t level)
{
  GPtrArray *slices = g_ptr_array_new ();
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next)
    for (TnMetaSlice *slice = cache->dirty; slice; slice = slice->dirty_next)
      if (slice->level == level)
        g_ptr_array_add (slices, slice);
  g_ptr_array_sort (slices, compare_offsets);
  return slices;
}

/* The lowest level of a dirty slice that is at least @from; false: there is none. */
static bool
next_level (Domain *domain, uint32_t from, uint32_t *level)
{
  bool found = false;
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next)
    for (TnMetaSlice *slice = cache->dirty; slice; slice = slice->dirty_next)
      if (slice->level >= from && (!found || slice->level < *level)) {
        *level = slice->level;
        found = true;
      }
  return found;
}

/* The slices from @first on that stand one behind the other. */
static unsigned
gather_run (const GPtrArray *slices, guint first, struct iovec *iov)
{
  unsigned n = 0;
  uint64_t length = 0, start = ((TnMetaSlice *) slices->pdata[first])->offset;
  while (first + n < slices->len && n < MAX_RUN_SLICES && length < MAX_RUN) {
    TnMetaSlice *slice = slices->pdata[first + n];
    if (slice->offset != start + length)
      break;
    iov[n++] = (struct iovec){ slice->data, slice->cache->slice_size };
    length += slice->cache->slice_size;
  }
  return n;
}

static void
write_run (Domain *domain, TnBatch *batch, uint64_t offset, const struct iovec *iov, unsigned n,
           uint32_t flags)
{
  uint64_t length = 0;
  for (unsigned i = 0; i < n; i++)
    length += iov[i].iov_len;
  if (tn_co_self ()) {
    tn_batch_submit (batch, domain->node, TN_REQUEST_WRITE, offset, iov, n, 0, length, flags);
    return;
  }
  int rc = tn_node_do (domain->node, TN_REQUEST_WRITE, offset, length, iov, n, flags, NULL);
  if (rc && !batch->result)
    batch->result = rc;
}

static int
write_level (Domain *domain, uint32_t level, GError **error)
{
  g_autoptr (GPtrArray) slices = slices_of_level (domain, level);
  TnBatch batch = { 0 };
  domain->writes++;
  for (guint i = 0; i < slices->len;) {
    struct iovec iov[MAX_RUN_SLICES];
    unsigned n = gather_run (slices, i, iov);
    const TnMetaSlice *head = slices->pdata[i];
    write_run (domain, &batch, head->offset, iov, n, head->cache->update_flags);
    i += n;
  }
  int rc = tn_batch_wait (&batch);
  TnMetaSlice *first = slices->pdata[0];
  if (rc)
    /* All of them stay dirty: which ones were written does not matter then. */
    return tn_fail_errno (error, TN_BLOCK_ERROR, -rc, "%s: cannot write %s at offset %" G_GUINT64_FORMAT,
                          tn_node_filename (domain->node), first->cache->name, first->offset);
  for (guint i = 0; i < slices->len; i++) {
    TnMetaSlice *slice = slices->pdata[i];
    slice->cache->unstable = MAX (slice->cache->unstable, level + 1);
    clean (slice);
  }
  return 0;
}

static void
all_is_stable (Domain *domain)
{
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next)
    cache->unstable = 0;
}

static int
barrier (Domain *domain, GError **error)
{
  int rc = 0;
  for (guint i = 0; !rc && domain->data_nodes && i < domain->data_nodes->len; i++)
    rc = tn_node_flush (domain->data_nodes->pdata[i], error);
  if (!rc)
    rc = tn_node_flush (domain->node, error);
  if (!rc)
    all_is_stable (domain);
  return rc;
}

/* Writes all dirty slices up to level @limit, level by level. */
static int
write_through (Domain *domain, uint32_t limit, GError **error)
{
  uint32_t level = 0;
  for (uint32_t from = 0; next_level (domain, from, &level) && level <= limit; from = level + 1) {
    int rc = level ? barrier (domain, error) : 0;
    if (!rc)
      rc = write_level (domain, level, error);
    if (rc)
      return rc;
  }
  return 0;
}

static bool
domain_is_dirty (const Domain *domain)
{
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next)
    if (cache->dirty)
      return true;
  return false;
}

/* All that was declared has come true. */
static void
forget_order (Domain *domain)
{
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next)
    cache->min_level = 0;
}

int
tn_meta_write (TnMetaCache *const *caches, size_t n, GError **error)
{
  if (!n)
    return 0;
  Domain *domain = caches[0]->domain;
  bool dirty = false;
  uint32_t limit = 0;
  for (size_t i = 0; i < n; i++) {
    dirty |= caches[i]->dirty != NULL;
    limit = MAX (limit, caches[i]->top_level);
  }
  int rc = dirty ? write_through (domain, limit, error) : 0;
  domain->awaiting = domain->writes;
  return rc;
}

void
tn_meta_written_is_stable (TnMetaCache *cache)
{
  Domain *domain = cache->domain;
  if (domain->writes != domain->awaiting)
    return; /* some of it was written later */
  all_is_stable (domain);
  if (!domain_is_dirty (domain))
    forget_order (domain);
}

int
tn_meta_flush (TnMetaCache *const *caches, size_t n, GError **error)
{
  int rc = tn_meta_write (caches, n, error);
  if (!rc && n)
    rc = barrier (caches[0]->domain, error);
  if (!rc && n)
    tn_meta_written_is_stable (caches[0]);
  return rc;
}

/* ---- Order ---- */

static uint32_t
lowest_level (const TnMetaCache *cache)
{
  uint32_t lowest = UINT32_MAX;
  for (TnMetaSlice *slice = cache->dirty; slice; slice = slice->dirty_next)
    lowest = MIN (lowest, slice->level);
  return lowest;
}

/* Whether other caches have dirty slices above @level, or will have them there, which may depend on what
 * @cache has at that level. */
static bool
others_above (const TnMetaCache *cache, uint32_t level)
{
  for (TnMetaCache *other = cache->domain->caches; other; other = other->next)
    if (other != cache && (other->min_level > level || (other->dirty && other->top_level > level)))
      return true;
  return false;
}

/* The highest level below @limit that a dirty slice of @cache has. */
static uint32_t
highest_below (const TnMetaCache *cache, uint32_t limit)
{
  uint32_t highest = 0;
  for (TnMetaSlice *slice = cache->dirty; slice; slice = slice->dirty_next)
    if (slice->level < limit)
      highest = MAX (highest, slice->level);
  return highest;
}

/* The lowest level that comes after all that @cache has not got to stable storage.  A dirty slice of it may
 * still rise to the level at which the cache is dirtied now. */
static uint32_t
level_above (const TnMetaCache *cache)
{
  if (!cache->dirty)
    return cache->unstable;
  return MAX (cache->unstable, MAX (cache->top_level, cache->min_level) + 1);
}

int
tn_meta_order (TnMetaCache *after, TnMetaCache *before, GError **error)
{
  uint32_t level = level_above (before);
  if (after == before || level <= after->min_level)
    return 0;
  uint32_t lowest = lowest_level (after);
  if (lowest < level && others_above (after, lowest)) {
    int rc = write_through (after->domain, highest_below (after, level), error);
    if (rc)
      return rc;
  }
  after->min_level = level;
  return 0;
}

/* Makes room for a level below all but the lowest. */
static void
shift_levels (Domain *domain)
{
  for (TnMetaCache *cache = domain->caches; cache; cache = cache->next) {
    for (TnMetaSlice *slice = cache->dirty; slice; slice = slice->dirty_next)
      if (slice->level)
        slice->level++;
    if (cache->min_level)
      cache->min_level++;
    if (cache->top_level)
      cache->top_level++;
  }
}

void
tn_meta_after_data (TnMetaCache *cache)
{
  if (cache->min_level)
    return;
  /* What depends on slices of level 0 must stay above them when they move to level 1. */
  if (!lowest_level (cache) && others_above (cache, 0))
    shift_levels (cache->domain);
  cache->min_level = 1;
}

void
tn_meta_dirty (TnMetaSlice *slice)
{
  TnMetaCache *cache = slice->cache;
  if (slice->orphan)
    return;
  slice->level = slice->dirty ? MAX (slice->level, cache->min_level) : cache->min_level;
  cache->top_level = MAX (cache->top_level, slice->level);
  if (slice->dirty)
    return;
  slice->dirty = true;
  slice->dirty_next = cache->dirty;
  slice->dirty_link = &cache->dirty;
  if (cache->dirty)
    cache->dirty->dirty_link = &slice->dirty_next;
  cache->dirty = slice;
}

bool
tn_meta_is_dirty (TnMetaCache *cache)
{
  return cache->dirty != NULL;
}

/* ---- Getting ---- */

/* What the process may hold in all caches, and what their budgets come to: memory is the process's. */
static uint64_t process_limit, process_budgets;

void
tn_meta_limit (uint64_t bytes)
{
  __atomic_store_n (&process_limit, bytes, __ATOMIC_RELAXED);
}

static void
change_budget (TnMetaCache *cache, uint64_t budget)
{
  __atomic_add_fetch (&process_budgets, budget - cache->budget, __ATOMIC_RELAXED);
  cache->budget = budget;
}

/* The budget, or the cache's share of the limit. */
static uint64_t
allowance (const TnMetaCache *cache)
{
  const uint64_t limit = __atomic_load_n (&process_limit, __ATOMIC_RELAXED);
  const uint64_t budgets = __atomic_load_n (&process_budgets, __ATOMIC_RELAXED);
  if (!limit || budgets <= limit)
    return cache->budget;
  return (uint64_t) ((double) cache->budget / (double) budgets * (double) limit);
}

static bool
is_full (const TnMetaCache *cache)
{
  return cache->n_slices >= 2 && (cache->n_slices + 1) * (uint64_t) cache->slice_size > allowance (cache);
}

/* The slice to go, or NULL when all are pinned: the oldest one not used since the last look at it. */
static TnMetaSlice *
pick_victim (TnMetaCache *cache)
{
  TnMetaSlice *victim = cache->oldest, *newer;
  for (size_t looks = 2 * cache->n_slices; looks && victim; looks--, victim = newer ? newer : cache->oldest) {
    newer = victim->newer;
    if (victim->pins)
      continue;
    if (!victim->referenced)
      return victim;
    victim->referenced = false;
    unlink_use (victim);
    link_newest (victim);
  }
  return NULL;
}

static int
make_room (TnMetaCache *cache, GError **error)
{
  while (is_full (cache)) {
    TnMetaSlice *victim = pick_victim (cache);
    if (!victim)
      return 0;
    if (victim->dirty) {
      int rc = write_through (cache->domain, victim->level, error);
      if (rc)
        return rc;
    }
    remove_slice (victim);
  }
  return 0;
}

static int
add_slice (TnMetaCache *cache, uint64_t offset, TnMetaSlice **added, GError **error)
{
  int rc = make_room (cache, error);
  if (rc)
    return rc;
  char *data = tn_slab_take (&cache->slab);
  if (!data)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for %s of %u bytes", cache->name,
                    cache->slice_size);
  TnMetaSlice *slice = g_new0 (TnMetaSlice, 1);
  slice->cache = cache;
  slice->offset = offset;
  slice->data = data;
  slice->pins = 1;
  *added = slice;
  return 0;
}

static int
check_offset (TnMetaCache *cache, uint64_t offset, GError **error)
{
  if (!(offset & (cache->slice_size - 1)) && offset <= (uint64_t) INT64_MAX - cache->slice_size)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "%s: %s at offset %#" G_GINT64_MODIFIER "x is not aligned",
                  tn_node_filename (cache->domain->node), cache->name, offset);
}

int
tn_meta_get (TnMetaCache *cache, uint64_t offset, TnMetaSlice **out, GError **error)
{
  TnMetaSlice *slice = look_up (cache, offset);
  if (!slice) {
    int rc = check_offset (cache, offset, error);
    if (!rc)
      rc = add_slice (cache, offset, &slice, error);
    if (rc)
      return rc;
    struct iovec iov = { slice->data, cache->slice_size };
    rc = tn_node_do (cache->domain->node, TN_REQUEST_READ, offset, cache->slice_size, &iov, 1,
                     cache->load_flags, error);
    if (rc) {
      g_prefix_error (error, "%s: ", cache->name);
      free_slice (slice);
      return rc;
    }
    insert (slice);
  } else {
    slice->pins++;
  }
  slice->referenced = true;
  *out = slice;
  return 0;
}

int
tn_meta_new (TnMetaCache *cache, uint64_t offset, TnMetaSlice **out, GError **error)
{
  TnMetaSlice *slice = look_up (cache, offset);
  if (!slice) {
    int rc = check_offset (cache, offset, error);
    if (!rc)
      rc = add_slice (cache, offset, &slice, error);
    if (rc)
      return rc;
    insert (slice);
  } else {
    slice->pins++;
  }
  memset (slice->data, 0, cache->slice_size);
  slice->referenced = true;
  tn_meta_dirty (slice);
  *out = slice;
  return 0;
}

void *
tn_meta_data (TnMetaSlice *slice)
{
  return slice->data;
}

void
tn_meta_put (TnMetaSlice *slice)
{
  if (!slice || --slice->pins)
    return;
  if (slice->orphan)
    free_slice (slice);
}

/* ---- Dropping ---- */

void
tn_meta_forget (TnMetaCache *cache, uint64_t offset, uint64_t length)
{
  TnMetaSlice *older;
  for (TnMetaSlice *slice = cache->newest; slice; slice = older) {
    older = slice->older;
    if (slice->offset + cache->slice_size > offset
        && (slice->offset < offset || slice->offset - offset < length))
      remove_slice (slice);
  }
}

void
tn_meta_drop (TnMetaCache *cache)
{
  TnMetaSlice *older;
  for (TnMetaSlice *slice = cache->newest; slice; slice = older) {
    older = slice->older;
    if (!slice->dirty && !slice->pins)
      remove_slice (slice);
  }
  tn_slab_trim (&cache->slab);
}

void
tn_meta_set_budget (TnMetaCache *cache, uint64_t budget)
{
  /* A smaller one takes effect as slices are added. */
  change_budget (cache, MIN (budget, MAX_BUDGET));
}

/* ---- Caches ---- */

static Domain *
domain_of (TnNode *node)
{
  if (!node->meta_domain) {
    Domain *domain = g_new0 (Domain, 1);
    domain->node = node;
    node->meta_domain = domain;
  }
  return node->meta_domain;
}

void
tn_meta_domain_free (TnNode *node)
{
  g_clear_pointer (&node->meta_domain, g_free);
}

void
tn_meta_add_data_node (TnMetaCache *cache, TnNode *data)
{
  Domain *domain = cache->domain;
  if (!domain->data_nodes)
    domain->data_nodes = g_ptr_array_new ();
  g_ptr_array_add (domain->data_nodes, data);
}

TnMetaCache *
tn_meta_cache_new (TnNode *node, const char *name, uint32_t slice_size, uint64_t budget)
{
  g_return_val_if_fail (tn_is_power_of_2 (slice_size) && slice_size >= 512 && slice_size <= 2u << 20, NULL);
  TnMetaCache *cache = g_new0 (TnMetaCache, 1);
  cache->domain = domain_of (node);
  cache->next = cache->domain->caches;
  cache->domain->caches = cache;
  cache->name = g_strdup (name);
  cache->slice_size = slice_size;
  cache->shift = (uint32_t) __builtin_ctz (slice_size);
  tn_slab_init (&cache->slab, slice_size);
  change_budget (cache, MIN (budget, MAX_BUDGET));
  cache->bucket_bits = (uint32_t) __builtin_ctz (MIN_BUCKETS);
  rehash (cache);
  return cache;
}

void
tn_meta_set_events (TnMetaCache *cache, TnEvent load, TnEvent update)
{
  cache->load_flags = (uint32_t) load << TN_REQUEST_EVENT_SHIFT;
  cache->update_flags = (uint32_t) update << TN_REQUEST_EVENT_SHIFT;
}

void
tn_meta_cache_free (TnMetaCache *cache)
{
  if (!cache)
    return;
  while (cache->newest)
    remove_slice (cache->newest);
  TnMetaCache **link = &cache->domain->caches;
  while (*link != cache)
    link = &(*link)->next;
  *link = cache->next;
  if (!cache->domain->caches)
    g_clear_pointer (&cache->domain->data_nodes, g_ptr_array_unref);
  change_budget (cache, 0);
  tn_slab_clear (&cache->slab);
  g_free (cache->buckets);
  g_free (cache->name);
  g_free (cache);
}
