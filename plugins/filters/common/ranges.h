/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is at which bytes: a copy excludes writes and other copies of the same bytes, writes exclude nobody
 * else. */
#ifndef TENON_FILTER_RANGES_H
#define TENON_FILTER_RANGES_H

#include <tenon/loop.h>

typedef struct TnRange TnRange;
struct TnRange {
  TnRange *next;
  uint64_t start, end;
  bool copies;
};

typedef struct TnRangeWaiter TnRangeWaiter;

typedef struct TnRanges {
  GMutex lock;
  TnRange *first;
  TnRangeWaiter *waiters;
} TnRanges;

/* Enters @range unless it would have to wait. */
bool tn_ranges_try (TnRanges *ranges, TnRange *range);
/* In a coroutine: enters @range. */
void tn_ranges_enter (TnRanges *ranges, TnRange *range);
void tn_ranges_leave (TnRanges *ranges, TnRange *range);

#endif
