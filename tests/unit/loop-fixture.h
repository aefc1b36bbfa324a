/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a test once for each backend of the loop. */
#ifndef TN_TESTS_LOOP_FIXTURE_H
#define TN_TESTS_LOOP_FIXTURE_H

#include <tenon/loop.h>

typedef struct BackendCase {
  TnLoopBackend backend;
  void (*run) (TnLoop *loop);
} BackendCase;

static inline void
run_backend_case (gconstpointer data)
{
  const BackendCase *test = data;
  g_autoptr (GError) error = NULL;
  TnLoop *loop = tn_loop_new (test->backend, &error);

  if (!loop) {
    g_test_skip (error->message);
    return;
  }
  test->run (loop);
  tn_loop_free (loop);
}

static inline void
add_backend_test (const char *name, void (*run) (TnLoop *loop))
{
  static const struct {
    const char *name;
    TnLoopBackend backend;
  } backends[] = { { "uring", TN_LOOP_URING }, { "epoll", TN_LOOP_EPOLL } };

  for (guint i = 0; i < G_N_ELEMENTS (backends); i++) {
    g_autofree char *path = g_strdup_printf ("/%s/%s", name, backends[i].name);
    BackendCase *test = g_new (BackendCase, 1);

    *test = (BackendCase){ backends[i].backend, run };
    g_test_add_data_func_full (path, test, run_backend_case, g_free);
  }
}

/* Iterates until *flag is set. */
static inline void
iterate_until (TnLoop *loop, const bool *flag)
{
  while (!*flag)
    tn_loop_iterate (loop, true);
}

#endif
