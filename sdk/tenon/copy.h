/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/copy.h
 * Copying the contents of nodes into another node: what convert, commit and dd are made of.
 *
 * The copy follows the source's block status, so that holes cost nothing, finds zeroes in what it reads,
 * keeps several requests under way, and writes in order (which keeps the target's allocation in order)
 * while reads and writes overlap.
 */
#ifndef TENON_COPY_H
#define TENON_COPY_H

#include <tenon/node.h>

typedef enum TnCopyFlags {
  TN_COPY_TARGET_ZERO = 1 << 0,  /**< the target reads as zeroes everywhere: zeroes are not written */
  TN_COPY_OUT_OF_ORDER = 1 << 1, /**< write pieces as they come */
  TN_COPY_RANGE =
      1 << 2, /**< let the kernel copy where it can (tn_node_copy_range()); finds no zeroes in data */
  TN_COPY_PACKED = 1 << 3,  /**< write compressed; the target's format must be able to */
  TN_COPY_SALVAGE = 1 << 4, /**< what can't be read becomes zeroes */
  TN_COPY_SHARE = 1 << 5    /**< share data where the file system can (tn_node_share_range()), and copy it
                             * elsewhere; finds no zeroes in what is shared */
} TnCopyFlags;

typedef struct TnCopy {
  uint32_t size;  /**< set by the caller to sizeof (TnCopy) */
  uint32_t flags; /**< TnCopyFlags */

  TnNode *const *sources; /**< their contents one behind the other */
  size_t n_sources;
  /** Below this node of the (only) source's chain nothing is copied: what the nodes above do not hold is left
   * alone in the target.  NULL: copy what a reader sees. */
  TnNode *base;
  uint64_t offset; /**< in the sources, of the target's first byte */
  uint64_t length; /**< bytes to copy; cut at the end of the sources */
  TnNode *target;  /**< writable and at least as large as what is copied */

  uint32_t parallel;    /**< pieces under way; 0: 8 */
  uint32_t write_flags; /**< TnRequestFlags for every write (FUA) */
  uint64_t
      sparse; /**< zeroes are left out in aligned runs of this many bytes; 0: everything is written as data */
  uint64_t rate; /**< bytes per second at most; 0: no limit */

  /** After each piece; @done counts what was skipped, too.  Non-zero (a negative errno value) ends the copy
   * with that.  May be NULL. */
  int (*progress) (uint64_t done, void *opaque);
  /** SALVAGE: a range of the sources that became zeroes.  May be NULL. */
  void (*unreadable) (uint64_t offset, uint64_t length, const GError *why, void *opaque);
  void *opaque;

  /** What is copied, from the first byte to the last, each once and in order, as the target gets it (what the
   * base provides included); @data is NULL for zeroes.  Called on a thread of the worker pool while other
   * pieces are read and written, never twice at a time.  Keeps the kernel from copying (TN_COPY_RANGE).  May
   * be NULL. */
  void (*content) (const void *data, uint64_t length, void *opaque);

  uint64_t
      start; /**< bytes at the beginning that have been copied before: a position checkpoint() was told */
  /** After about @checkpoint_bytes of data, with nothing under way: all below @position has been written (not
   *  flushed).  In a coroutine; an error ends the copy.  May be NULL. */
  int (*checkpoint) (uint64_t position, void *opaque, GError **error);
  uint64_t checkpoint_bytes;
} TnCopy;

/**
 * Copies and waits for the end.  Does not flush.  After a failure the target holds some part of the data.
 * Memory: at most 32 MiB of buffers.  The calling thread's loop runs meanwhile.
 */
TN_API int tn_copy_run (const TnCopy *copy, GError **error);

/** Whether all bytes are zero.  Stops at the first that isn't. */
static inline bool
tn_is_zero (const void *buffer, size_t length)
{
  const unsigned char *bytes = buffer;
  size_t head = length < 16 ? length : 16;
  for (size_t i = 0; i < head; i++)
    if (bytes[i])
      return false;
  /* Each byte equals the one 16 before it; the C library compares as fast as the processor can. */
  return length <= head || memcmp (bytes, bytes + head, length - head) == 0;
}

#endif
