/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The power is cut after each operation of a workload. */
#include "crash.h"

static void
cut_everywhere (CrashStory *story, CrashLog *log, uint32_t seed)
{
  for (guint cut = 0; cut <= crash_log_length (log); cut++) {
    const uint64_t turn = crash_log_turn (log, cut);
    const CrashTearing tearing = (CrashTearing) crash_pick (story, CRASH_TEARINGS);
    g_autofree char *when =
        g_strdup_printf ("%s/%s, seed %u, cut at %u of %u, tearing %u", story->kind->driver,
                         story->kind->label, seed, cut, crash_log_length (log), tearing);
    CrashState state;
    crash_expect (story, turn, &state);
    crash_log_cut (log, turn, tearing, story->rand);
    crash_look (story, &state, crash_pick (story, 2), when);
    if (cut % 32 == 0 || cut == crash_log_length (log)) {
      crash_ask_qemu (story, when);
    }
    crash_state_clear (&state);
  }
}

void
crash_test_cuts (const CrashCase *kind, uint32_t seed)
{
  g_autoptr (GError) error = NULL;
  CrashStory story;
  crash_story_begin (&story, kind, seed);
  g_assert_true (crash_make_image (&story));
  CrashLog *log = crash_log_begin ();
  crash_promise (&story);
  TnNode *node = crash_open (&story, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, &error);
  g_assert_no_error (error);
  node = crash_run_workload (&story, node);
  g_assert_nonnull (node);
  tn_node_close (node, &error);
  g_assert_no_error (error);
  crash_log_stop (log);
  cut_everywhere (&story, log, seed);
  crash_log_free (log);
  crash_story_end (&story);
}
