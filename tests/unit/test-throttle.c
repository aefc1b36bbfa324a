/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The arithmetic of the filter `throttle`, with a clock of the test's own, and whose turn it is in a group.
 */
#include "../../plugins/filters/throttle/throttle.h"

#define SECOND INT64_C (1000000000)

static ThrottleLimits
limits_of (const char *text)
{
  ThrottleLimits limits = { 0 };
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (tn_options_parse (options, text, NULL, &error), ==, 0);
  g_assert_cmpint (throttle_read_limits (&limits, options, "test", &error), >=, 0);
  return limits;
}

/* How many requests of @bytes get through in the @seconds behind @from. */
static unsigned
count_in (ThrottleLimits *limits, ThrottleWhat direction, uint64_t bytes, int64_t from, int64_t seconds)
{
  int64_t now = from;
  unsigned n = 0;

  for (;;) {
    now += throttle_wait (limits, direction, now);
    if (now >= from + seconds * SECOND)
      return n;
    throttle_account (limits, direction, bytes);
    n++;
    g_assert_cmpuint (n, <, 10000000);
  }
}

static void
assert_near (unsigned n, unsigned wanted, unsigned tolerance)
{
  g_assert_cmpuint (n + tolerance, >=, wanted);
  g_assert_cmpuint (n, <=, wanted + tolerance);
}

static void
test_rates (void)
{
  ThrottleLimits iops = limits_of ("iops-total=100"), bps = limits_of ("x-bps-read=1M");

  /* A tenth of a second may come at once. */
  assert_near (count_in (&iops, THROTTLE_READ, 4096, SECOND, 10), 1000 + 10, 2);
  assert_near (count_in (&bps, THROTTLE_READ, 65536, SECOND, 10), 160 + 2, 2);
  g_assert_cmpint (throttle_wait (&bps, THROTTLE_WRITE, 20 * SECOND), ==, 0);
}

static void
test_size (void)
{
  ThrottleLimits limits = limits_of ("limits.iops-write=100,limits.iops-size=4096");

  assert_near (count_in (&limits, THROTTLE_WRITE, 16384, SECOND, 10), 250 + 3, 2);
}

static void
test_bursts (void)
{
  ThrottleLimits limits = limits_of ("iops-total=100,iops-total-max=1000,iops-total-max-length=3");
  int64_t now = SECOND;

  /* A thousand a second, until three seconds' worth has come; then the average. */
  assert_near (count_in (&limits, THROTTLE_READ, 512, now, 2), 2000 + 100, 5);
  assert_near (count_in (&limits, THROTTLE_READ, 512, now + 2 * SECOND, 100), 100 * 100 + 1000 + 100, 15);
  assert_near (count_in (&limits, THROTTLE_READ, 512, now + 102 * SECOND, 10), 1000, 5);
}

static void
test_clock_backwards (void)
{
  ThrottleLimits limits = limits_of ("iops-total=1");

  throttle_wait (&limits, THROTTLE_READ, 5 * SECOND);
  throttle_account (&limits, THROTTLE_READ, 1);
  g_assert_cmpint (throttle_wait (&limits, THROTTLE_READ, SECOND), >, 0);
  g_assert_cmpint (throttle_wait (&limits, THROTTLE_READ, 7 * SECOND), ==, 0);
}

/* Members of one group are served in turns, however many requests one of them has. */
static void
test_fairness (void)
{
  ThrottleGroup group = { 0 };
  ThrottleMember members[3] = { 0 };
  ThrottleWaiter waiters[3][30] = { 0 };
  unsigned served[3] = { 0 }, n_of[3] = { 30, 5, 10 };
  ThrottleWaiter *at;

  for (unsigned m = 0; m < 3; m++)
    throttle_group_join (&group, &members[m]);
  for (unsigned m = 0; m < 3; m++)
    for (unsigned i = 0; i < n_of[m]; i++) {
      waiters[m][i].opaque = &served[m];
      throttle_group_queue (&group, &members[m], THROTTLE_READ, &waiters[m][i]);
    }
  at = group.head[THROTTLE_READ];
  for (unsigned i = 0; i < 15; i++) {
    ++*(unsigned *) at->opaque;
    at = throttle_group_next (&group, THROTTLE_READ);
  }
  for (unsigned m = 0; m < 3; m++)
    g_assert_cmpuint (served[m], ==, 5);
  while (at != NULL) {
    ++*(unsigned *) at->opaque;
    at = throttle_group_next (&group, THROTTLE_READ);
  }
  for (unsigned m = 0; m < 3; m++) {
    g_assert_cmpuint (served[m], ==, n_of[m]);
    throttle_group_leave (&group, &members[m]);
  }
  g_assert_null (group.members);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/throttle/rates", test_rates);
  g_test_add_func ("/throttle/size", test_size);
  g_test_add_func ("/throttle/bursts", test_bursts);
  g_test_add_func ("/throttle/clock-backwards", test_clock_backwards);
  g_test_add_func ("/throttle/fairness", test_fairness);
  return g_test_run ();
}
