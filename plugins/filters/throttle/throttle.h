/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * throttle: limits on requests and bytes per second.
 *
 *   bucket.c    how much may pass when; knows no clock
 *   limits.c    limits as users write them
 *   group.c     whose turn it is
 *   throttle.c  the filter
 */
#ifndef TENON_THROTTLE_H
#define TENON_THROTTLE_H

#include <tenon/protocol.h>

#define THROTTLE_MAX UINT64_C (1000000000000000)

/* Leaks @average units per second.  With @max it holds as much as @max a second would bring in @length
 * seconds, and a second bucket, leaking @max, keeps it from coming faster than that. */
typedef struct ThrottleBucket {
  double average, max, length;
  double level, burst_level;
} ThrottleBucket;

typedef enum ThrottleUnit { THROTTLE_BYTES, THROTTLE_OPERATIONS, THROTTLE_UNITS } ThrottleUnit;
typedef enum ThrottleWhat { THROTTLE_TOTAL, THROTTLE_READ, THROTTLE_WRITE, THROTTLE_WHATS } ThrottleWhat;

typedef struct ThrottleLimits {
  ThrottleBucket buckets[THROTTLE_UNITS][THROTTLE_WHATS];
  double operation_size; /* bytes that count as one operation; 0: a request is one */
  int64_t leaked;        /* when the buckets were last looked at, ns */
} ThrottleLimits;

/* bucket.c */
/* How many ns from @now on the next request in this direction has to wait. */
int64_t throttle_wait (ThrottleLimits *limits, ThrottleWhat direction, int64_t now);
void throttle_account (ThrottleLimits *limits, ThrottleWhat direction, uint64_t bytes);

/* limits.c */
/* Reads `bps-total`, `iops-read-max` … behind any of the prefixes `x-` and `limits.`. */
int throttle_read_limits (ThrottleLimits *limits, const TnOptions *options, const char *what, GError **error);

/* group.c */
typedef struct ThrottleWaiter ThrottleWaiter;
struct ThrottleWaiter {
  ThrottleWaiter *next;
  void *opaque;
  bool asleep; /* waits to be woken; else it has its turn */
};

/* The requests of one filter that wait, by direction. */
typedef struct ThrottleMember ThrottleMember;
struct ThrottleMember {
  ThrottleMember *next; /* in a ring */
  ThrottleWaiter *first[THROTTLE_WHATS], *last[THROTTLE_WHATS];
};

typedef struct ThrottleGroup {
  GMutex lock; /* for all of it and its members; taken by the callers of the functions below */
  ThrottleLimits limits;
  ThrottleMember *members;              /* any one of the ring */
  ThrottleMember *turn[THROTTLE_WHATS]; /* who was served last */
  ThrottleWaiter *head[THROTTLE_WHATS]; /* whose turn it is, or NULL */
} ThrottleGroup;

void throttle_group_join (ThrottleGroup *group, ThrottleMember *member);
void throttle_group_leave (ThrottleGroup *group, ThrottleMember *member);
/* Puts @waiter behind those of its member; it may have its turn at once. */
void throttle_group_queue (ThrottleGroup *group, ThrottleMember *member, ThrottleWhat direction,
                           ThrottleWaiter *waiter);
/* The one whose turn it was goes; returns the next, of the next member that has one, or NULL. */
ThrottleWaiter *throttle_group_next (ThrottleGroup *group, ThrottleWhat direction);

#endif
