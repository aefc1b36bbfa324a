/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "throttle.h"

#define SECOND 1e9

static void
throttle_leak (ThrottleBucket *bucket, double seconds)
{
  bucket->level = MAX (bucket->level - bucket->average * seconds, 0);
  bucket->burst_level = MAX (bucket->burst_level - bucket->max * seconds, 0);
}

/* Seconds until @level has come down to @room at @rate. */
static double
throttle_time (double level, double room, double rate)
{
  return level > room ? (level - room) / rate : 0;
}

static double
throttle_bucket_wait (const ThrottleBucket *bucket)
{
  double wait;

  if (bucket->average <= 0)
    return 0;
  if (bucket->max <= 0)
    return throttle_time (bucket->level, bucket->average / 10, bucket->average);
  wait = throttle_time (bucket->level, bucket->max * bucket->length, bucket->average);
  if (wait > 0 || bucket->length <= 1)
    return wait;
  return throttle_time (bucket->burst_level, bucket->max / 10, bucket->max);
}

static void
throttle_leak_all (ThrottleLimits *limits, int64_t now)
{
  double seconds = now > limits->leaked ? (double) (now - limits->leaked) / SECOND : 0;

  for (unsigned unit = 0; unit < THROTTLE_UNITS; unit++)
    for (unsigned what = 0; what < THROTTLE_WHATS; what++)
      throttle_leak (&limits->buckets[unit][what], seconds);
  limits->leaked = MAX (now, limits->leaked);
}

int64_t
throttle_wait (ThrottleLimits *limits, ThrottleWhat direction, int64_t now)
{
  double wait = 0;

  throttle_leak_all (limits, now);
  for (unsigned unit = 0; unit < THROTTLE_UNITS; unit++) {
    wait = MAX (wait, throttle_bucket_wait (&limits->buckets[unit][THROTTLE_TOTAL]));
    wait = MAX (wait, throttle_bucket_wait (&limits->buckets[unit][direction]));
  }
  /* Rounded up: who wakes too early would wait for nothing again. */
  return wait > 0 ? (int64_t) MIN (wait * SECOND + 1, 1e18) : 0;
}

static void
throttle_fill (ThrottleBucket *bucket, double amount)
{
  if (bucket->average <= 0)
    return;
  bucket->level += amount;
  if (bucket->length > 1)
    bucket->burst_level += amount;
}

void
throttle_account (ThrottleLimits *limits, ThrottleWhat direction, uint64_t bytes)
{
  double size = (double) bytes, operations = 1;

  if (limits->operation_size > 0 && size > limits->operation_size)
    operations = size / limits->operation_size;
  throttle_fill (&limits->buckets[THROTTLE_BYTES][THROTTLE_TOTAL], size);
  throttle_fill (&limits->buckets[THROTTLE_BYTES][direction], size);
  throttle_fill (&limits->buckets[THROTTLE_OPERATIONS][THROTTLE_TOTAL], operations);
  throttle_fill (&limits->buckets[THROTTLE_OPERATIONS][direction], operations);
}
