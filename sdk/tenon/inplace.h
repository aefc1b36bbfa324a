/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/inplace.h
 * Replacing parts of a file in one step that a power cut cannot leave half done.
 *
 * A shadow file holds what the file is to hold, except for ranges that are kept as they are.
 * tn_inplace_publish() makes the shadow the file's journal (PATH.tenon-convert, one rename); from then on the
 * change has happened, and tn_inplace_finish() carries it out, as often as it takes.  The protocol "file"
 * calls it for every file that it opens.
 */
#ifndef TENON_INPLACE_H
#define TENON_INPLACE_H

#include <tenon/types.h>

/** Appended to a file's name, links followed. */
#define TN_INPLACE_SUFFIX ".tenon-convert"
/** Appended to that: a folder in which a shadow file may be made; tn_inplace_finish() removes it if it is
 * empty. */
#define TN_INPLACE_SHADOW_SUFFIX ".new"

typedef struct TnRange {
  uint64_t offset, length;
} TnRange;

/**
 * Puts the shadow file @shadow, which is on the file system of @path and closed, on stable storage and makes
 * it the journal of @path: of its first @new_size bytes, all that is not in @keep replaces the same place of
 * @path; what is a hole in the shadow becomes one.  @keep is sorted and without overlaps.  Room for what will
 * be written is taken before.  After a failure @path is as it was.
 */
TN_API int tn_inplace_publish (const char *path, const char *shadow, uint64_t new_size, const TnRange *keep,
                               size_t n_keep, GError **error);

/** Whether @path has a journal that waits to be carried out. */
TN_API bool tn_inplace_pending (const char *path);

/**
 * Carries out the journal of @path, if there is one: 1 when it did, 0 when there is none.  Without @write: an
 * error that says how to.  The caller sees to it that nobody else uses @path meanwhile, by its image locks;
 * opening it for writing through the protocol "file" does all of that.
 */
TN_API int tn_inplace_finish (const char *path, bool write, GError **error);

#endif
