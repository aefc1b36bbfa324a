/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading packed extents: decoding on workers, with a small cache of decoded ones. */
#include "block/internal.h"

#include <stdlib.h>

#define MAX_ENTRIES 8
#define WORTH_A_WORKER (16u << 10) /* shorter ones are decoded at once */
#define RUN_BYTES (256u << 10)     /* encoded bytes that are fetched together */
#define MAX_SPARES 8

/* ---- The cache ---- */

typedef struct Entry {
  uint64_t offset, length; /* of the extent; 0 long: free */
  uint64_t used;           /* when, by the cache's count */
  char *bytes;
  GSList *waiters; /* while loading: TnCoroutine * */
  unsigned readers;
  bool loading, stale;
} Entry;

struct TnUnpacked {
  TnSpin spin;
  uint64_t uses;
  Entry entries[MAX_ENTRIES];
  /* Memory for encoded bytes, RUN_BYTES each: new memory costs more than what is done with it. */
  void *spares[MAX_SPARES];
  unsigned n_spares;
};

static TnUnpacked *
cache_of (TnNode *node)
{
  TnUnpacked *cache = __atomic_load_n (&node->unpacked, __ATOMIC_ACQUIRE);
  if (cache)
    return cache;
  TnUnpacked *made = g_new0 (TnUnpacked, 1), *none = NULL;
  if (__atomic_compare_exchange_n (&node->unpacked, &none, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return made;
  g_free (made);
  return none;
}

static void
clear_entry (Entry *entry)
{
  free (entry->bytes);
  *entry = (Entry){ 0 };
}

/* Under the lock. */
static void
drop_if_stale (Entry *entry)
{
  if (entry->stale && !entry->readers && !entry->loading)
    clear_entry (entry);
}

static Entry *
find_entry (TnUnpacked *cache, const TnExtent *extent)
{
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    if (entry->length == extent->length && entry->offset == extent->offset && !entry->stale)
      return entry;
  }
  return NULL;
}

static Entry *
take_oldest (TnUnpacked *cache)
{
  Entry *oldest = NULL;
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    if (!entry->readers && !entry->loading && (!oldest || entry->used < oldest->used))
      oldest = entry;
  }
  if (oldest)
    clear_entry (oldest);
  return oldest;
}

typedef enum Found { FOUND_READY, FOUND_LOADING, FOUND_NEW, FOUND_NO_ROOM } Found;

/* Looks the extent up.  READY: *entry is held for reading; NEW: the caller must load it; LOADING: the running
 * coroutine has been queued and must yield. */
static Found
look_up (TnUnpacked *cache, const TnExtent *extent, Entry **entry)
{
  Found found;
  tn_spin_lock (&cache->spin);
  *entry = find_entry (cache, extent);
  if (*entry && (*entry)->loading) {
    (*entry)->waiters = g_slist_prepend ((*entry)->waiters, tn_co_self ());
    found = FOUND_LOADING;
  } else if (*entry) {
    (*entry)->readers++;
    found = FOUND_READY;
  } else {
    *entry = take_oldest (cache);
    found = *entry ? FOUND_NEW : FOUND_NO_ROOM;
    if (*entry)
      **entry = (Entry){ .offset = extent->offset, .length = extent->length, .loading = true };
  }
  if (*entry)
    (*entry)->used = ++cache->uses;
  tn_spin_unlock (&cache->spin);
  return found;
}

/* After loading: gives the entry its bytes (or drops it when @bytes is NULL) and holds it for reading. */
static void
end_loading (TnUnpacked *cache, Entry *entry, char *bytes)
{
  tn_spin_lock (&cache->spin);
  GSList *waiters = g_steal_pointer (&entry->waiters);
  entry->loading = false;
  entry->bytes = bytes;
  entry->readers = 1;
  if (!bytes)
    entry->stale = true;
  tn_spin_unlock (&cache->spin);
  for (GSList *each = waiters; each; each = each->next)
    tn_co_wake (each->data);
  g_slist_free (waiters);
}

static void
end_reading (TnUnpacked *cache, Entry *entry)
{
  tn_spin_lock (&cache->spin);
  entry->readers--;
  drop_if_stale (entry);
  tn_spin_unlock (&cache->spin);
}

void
tn_unpacked_forget (TnNode *node, uint64_t offset, uint64_t length)
{
  TnUnpacked *cache = __atomic_load_n (&node->unpacked, __ATOMIC_ACQUIRE);
  if (!cache)
    return;
  tn_spin_lock (&cache->spin);
  for (unsigned i = 0; i < MAX_ENTRIES; i++) {
    Entry *entry = &cache->entries[i];
    bool before = entry->offset + entry->length <= offset;
    bool behind = entry->offset >= offset && entry->offset - offset >= length;
    if (!entry->length || before || behind)
      continue;
    entry->stale = true;
    drop_if_stale (entry);
  }
  tn_spin_unlock (&cache->spin);
}

void
tn_unpacked_free (TnNode *node)
{
  TnUnpacked *cache = g_steal_pointer (&node->unpacked);
  if (!cache)
    return;
  for (unsigned i = 0; i < MAX_ENTRIES; i++)
    clear_entry (&cache->entries[i]);
  while (cache->n_spares)
    free (cache->spares[--cache->n_spares]);
  g_free (cache);
}

static char *
take_spare (TnUnpacked *cache)
{
  tn_spin_lock (&cache->spin);
  char *spare = cache->n_spares ? cache->spares[--cache->n_spares] : NULL;
  tn_spin_unlock (&cache->spin);
  return spare ? spare : tn_buffer_new (RUN_BYTES);
}

static void
give_spare (TnUnpacked *cache, char *spare)
{
  tn_spin_lock (&cache->spin);
  bool kept = cache->n_spares < MAX_SPARES;
  if (kept)
    cache->spares[cache->n_spares++] = spare;
  tn_spin_unlock (&cache->spin);
  if (!kept)
    free (spare);
}

/* ---- Decoding ---- */

typedef struct Decode {
  TnPackedRun *run;
  const char *packed;
  GError *error;
  int result;
} Decode;

static void
decode_work (void *opaque)
{
  Decode *decode = opaque;
  TnPackedRun *run = decode->run;
  for (unsigned i = 0; i < run->n && !decode->result; i++) {
    const TnExtent *extent = &run->extents[i];
    const char *packed = decode->packed + (extent->source_offset - run->start);
    int rc = run->node->format.unpack (run->node, extent, packed, extent->packed_length, run->places[i],
                                       extent->length, &decode->error);
    decode->result = MIN (rc, 0);
  }
}

static int
decode_run (TnPackedRun *run, const char *packed, GError **error)
{
  Decode decode = { run, packed, NULL, 0 };
  if (run->length >= WORTH_A_WORKER)
    tn_co_work (decode_work, &decode);
  else
    decode_work (&decode);
  if (decode.result && decode.error)
    g_propagate_error (error, decode.error);
  return decode.result;
}

static int
fetch_run (TnPackedRun *run, GError **error)
{
  uint64_t length = run->end - run->start;
  TnUnpacked *cache = cache_of (run->node);
  char *packed = length <= RUN_BYTES ? take_spare (cache) : tn_buffer_new (length);
  if (!packed)
    return -ENOMEM;
  int rc = tn_node_read (run->source, run->start, packed, length, error);
  if (!rc)
    rc = decode_run (run, packed, error);
  if (length <= RUN_BYTES)
    give_spare (cache, packed);
  else
    free (packed);
  return rc;
}

int
tn_packed_run_read (TnPackedRun *run, GError **error)
{
  int rc = run->n ? fetch_run (run, error) : 0;
  run->n = 0;
  return rc;
}

/* Whether what lies encoded in [start, end) can be fetched in one with the others. */
static bool
joins (const TnPackedRun *run, const TnNode *node, const TnExtent *extent, uint64_t end)
{
  return run->n < TN_PACKED_RUN && run->node == node && run->source == extent->source
         && extent->source_offset >= run->start && extent->source_offset <= run->end
         && end - run->start <= RUN_BYTES;
}

static bool
run_add (TnPackedRun *run, TnNode *node, const TnExtent *extent, char *to)
{
  uint64_t end = extent->source_offset + extent->packed_length;
  if (!run->n) {
    run->node = node;
    run->source = extent->source;
    run->start = run->end = extent->source_offset;
    run->length = 0;
  } else if (!joins (run, node, extent, end)) {
    return false;
  }
  run->extents[run->n] = *extent;
  run->places[run->n++] = to;
  run->end = MAX (run->end, end);
  run->length += extent->length;
  return true;
}

static int
add_or_read (TnPackedRun *run, TnNode *node, const TnExtent *extent, char *to, GError **error)
{
  if (run_add (run, node, extent, to))
    return 0;
  int rc = tn_packed_run_read (run, error);
  if (!rc)
    run_add (run, node, extent, to);
  return rc;
}

/* ---- Reading ---- */

/* The caller's memory when it takes the whole extent in one piece. */
static char *
direct_place (const TnExtent *extent, uint64_t length, const TnData *data, uint64_t to)
{
  if (length != extent->length)
    return NULL;
  if (data->n_iov == 1)
    return (char *) data->iov->iov_base + (to - data->base);
  g_autofree struct iovec *part = g_try_new (struct iovec, data->n_iov);
  if (!part || tn_iov_slice (data->iov, data->n_iov, to - data->base, length, part) != 1)
    return NULL;
  return part[0].iov_base;
}

static int
load (TnNode *node, const TnExtent *extent, char *to, GError **error)
{
  TnPackedRun run;
  run.n = 0;
  run_add (&run, node, extent, to);
  return tn_packed_run_read (&run, error);
}

static int
load_and_copy (TnNode *node, const TnExtent *extent, uint64_t skip, uint64_t length, const TnData *data,
               uint64_t to, char **bytes, GError **error)
{
  *bytes = tn_buffer_new (extent->length);
  if (!*bytes)
    return -ENOMEM;
  int rc = load (node, extent, *bytes, error);
  if (!rc)
    tn_iov_from_buffer (data->iov, data->n_iov, to - data->base, *bytes + skip, length);
  else
    g_clear_pointer (bytes, free);
  return rc;
}

static int
read_cached (TnNode *node, const TnExtent *extent, uint64_t skip, uint64_t length, const TnData *data,
             uint64_t to, GError **error)
{
  TnUnpacked *cache = cache_of (node);
  Entry *entry;
  Found found;
  while ((found = look_up (cache, extent, &entry)) == FOUND_LOADING)
    tn_co_yield ();
  if (found == FOUND_READY) {
    tn_iov_from_buffer (data->iov, data->n_iov, to - data->base, entry->bytes + skip, length);
    end_reading (cache, entry);
    return 0;
  }
  char *bytes;
  int rc = load_and_copy (node, extent, skip, length, data, to, &bytes, error);
  if (found == FOUND_NO_ROOM) {
    free (bytes);
    return rc;
  }
  end_loading (cache, entry, bytes);
  end_reading (cache, entry);
  return rc;
}

int
tn_packed_read (TnPackedRun *run, const TnResolved *resolved, const TnData *data, uint64_t to, GError **error)
{
  TnNode *node = resolved->node;
  const TnExtent *extent = &resolved->extent;
  if (!node->format.unpack)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: format '%s' cannot decode", tn_node_filename (node),
                    node->class->name);
  char *place = direct_place (extent, resolved->length, data, to);
  if (place)
    return add_or_read (run, node, extent, place, error);
  return read_cached (node, extent, resolved->offset - extent->offset, resolved->length, data, to, error);
}
