/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which known name did a user mean? */
#ifndef TN_UTIL_NEAREST_H
#define TN_UTIL_NEAREST_H

#include <tenon/types.h>

/* The search for the candidate nearest to a mistyped name.  Zero-filled except for `wanted`. */
typedef struct TnNearest {
  const char *wanted;
  const char *best;
  unsigned distance;
} TnNearest;

/* Looks at one candidate, which must outlive the search.  Names that differ in more than a third of
 * their letters are not taken for typing mistakes. */
void tn_nearest_consider (TnNearest *nearest, const char *candidate);

/* Text to append to an error message: "; did you mean 'NAME'?", or "". */
char *tn_nearest_hint (const TnNearest *nearest);

#endif
