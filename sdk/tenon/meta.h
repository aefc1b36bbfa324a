/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/meta.h
 * The metadata service: a cache of on-disk tables with declared write order.
 *
 * A cache holds fixed-size, aligned slices of one node (a format's file), least recently used first
 * out, within a byte budget.  Dirty slices are written by flush or eviction only, and never before
 * what they depend on:
 *  - tn_meta_order (after, before): nothing dirtied in `after` from now on reaches the disk before what is
 * dirty in `before` now is on stable storage;
 *  - tn_meta_after_data (cache): nothing dirtied from now on reaches the disk before data written
 *    so far to the node is on stable storage.
 * Declaring both directions between two caches is allowed: the service writes the earlier one first.
 * Declare the order first, then change the slice, then tn_meta_dirty().
 *
 * All functions are for the format's serialised callbacks (or under its own lock) and may wait, except those
 * marked NOWAIT.
 */
#ifndef TENON_META_H
#define TENON_META_H

#include <tenon/node.h>

/** A cache over @node of slices of @slice_size bytes (a power of two from 512 to 2 MiB), at most @budget
 * bytes of them in memory (at least two slices are always allowed).  @name appears in errors: "L2 table". */
TN_API TnMetaCache *tn_meta_cache_new (TnNode *node, const char *name, uint32_t slice_size, uint64_t budget);
/** What reading and writing slices of this cache is for (TnEvent); at first NONE. */
TN_API void tn_meta_set_events (TnMetaCache *cache, TnEvent load, TnEvent update);
/** Frees it; dirty slices are lost (flush first). */
TN_API void tn_meta_cache_free (TnMetaCache *cache);

/** NOWAIT: the bytes of the slice at @offset (a multiple of the slice size) if they are in memory, else NULL.
 * Valid until the next call that may wait. */
TN_API void *tn_meta_peek (TnMetaCache *cache, uint64_t offset);

/** The slice at @offset, read if need be and pinned until tn_meta_put(). */
TN_API int tn_meta_get (TnMetaCache *cache, uint64_t offset, TnMetaSlice **slice, GError **error);
/** A pinned slice that is zero-filled and dirty, without reading. */
TN_API int tn_meta_new (TnMetaCache *cache, uint64_t offset, TnMetaSlice **slice, GError **error);
TN_API void *tn_meta_data (TnMetaSlice *slice);
TN_API void tn_meta_dirty (TnMetaSlice *slice);
TN_API void tn_meta_put (TnMetaSlice *slice);

TN_API int tn_meta_order (TnMetaCache *after, TnMetaCache *before, GError **error);
TN_API void tn_meta_after_data (TnMetaCache *cache);
/** Data is also written to @data (an external data file, an extent file), a child of the format's node:
 * tn_meta_after_data() then speaks of that, too.  Once for each such node, while caches over the node of
 * @cache exist. */
TN_API void tn_meta_add_data_node (TnMetaCache *cache, TnNode *data);

/** Writes everything dirty and what it depends on, in order, and flushes the node: afterwards all of it is on
 * stable storage.  One call may flush several caches of the same node with fewest barriers. */
TN_API int tn_meta_flush (TnMetaCache *const *caches, size_t n, GError **error);
/** As tn_meta_flush() without its last barrier: for a format's flush(), after which the core flushes the
 * format's children without holding its map lock. */
TN_API int tn_meta_write (TnMetaCache *const *caches, size_t n, GError **error);
/** For a format's flushed(): what tn_meta_write() wrote is on stable storage. */
TN_API void tn_meta_written_is_stable (TnMetaCache *cache);
/** Forgets slices that lie in the range without writing them (freed tables). */
TN_API void tn_meta_forget (TnMetaCache *cache, uint64_t offset, uint64_t length);
/** Drops all clean slices (e.g. another process may have written). */
TN_API void tn_meta_drop (TnMetaCache *cache);
TN_API bool tn_meta_is_dirty (TnMetaCache *cache);
TN_API void tn_meta_set_budget (TnMetaCache *cache, uint64_t budget);
/** For programs, any thread: when the budgets of all caches of the process come to more than @bytes, each may
 * hold its proportional share of them only (two slices at least).  0, as at first: there is no limit. */
TN_API void tn_meta_limit (uint64_t bytes);

#endif
