/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The "null" protocol: its size, its zeroes, its latency, its use from several threads. */
#include <tenon/node.h>

#define DEPTH 64

static TnNode *
test_open (const char *driver, const char *text)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  tn_options_set (options, "driver", driver);
  tn_options_parse (options, text, NULL, &error);
  g_assert_no_error (error);
  tn_node_open (options, TN_OPEN_WRITE, &node, &error);
  g_assert_no_error (error);
  return node;
}

static void
test_size (void)
{
  static const char *const names[] = { "null", "null-co", "null-aio" };

  for (unsigned i = 0; i < G_N_ELEMENTS (names); i++) {
    TnNode *node = test_open (names[i], "");

    g_assert_cmpuint (tn_node_size (node), ==, 1 << 30);
    tn_node_unref (node);
    node = test_open (names[i], "size=12345");
    g_assert_cmpuint (tn_node_size (node), ==, 12345);
    tn_node_unref (node);
  }
}

static void
test_read_zeroes (void)
{
  TnNode *node = test_open ("null", "read-zeroes=on");
  char buffer[100];

  memset (buffer, 1, sizeof buffer);
  g_assert_cmpint (tn_node_write (node, 5, buffer, sizeof buffer, NULL), ==, 0);
  g_assert_cmpint (tn_node_read (node, 5, buffer, sizeof buffer, NULL), ==, 0);
  for (unsigned i = 0; i < sizeof buffer; i++)
    g_assert_cmpint (buffer[i], ==, 0);
  g_assert_cmpint (tn_node_flush (node, NULL), ==, 0);
  g_assert_cmpint (tn_node_discard (node, 0, 512, NULL), ==, 0);
  g_assert_cmpint (tn_node_write_zeroes (node, 0, 512, 0, NULL), ==, 0);
  tn_node_unref (node);
}

typedef struct Count {
  unsigned pending, done;
  TnNode *node;
} Count;

static void
count_done (TnRequest *request, int result)
{
  Count *count = request->opaque;

  g_assert_cmpint (result, ==, 0);
  count->done++;
  if (count->done + count->pending <= 4 * DEPTH)
    tn_node_submit (count->node, request); /* from inside done() */
  else
    count->pending--;
}

static void
run_many (TnNode *node)
{
  g_autofree TnRequest *requests = g_new0 (TnRequest, DEPTH);
  char buffer[512];
  struct iovec iov = { buffer, sizeof buffer };
  Count count = { .node = node };

  for (unsigned i = 0; i < DEPTH; i++) {
    requests[i] = (TnRequest){ .op = TN_REQUEST_READ,
                               .iov = &iov,
                               .n_iov = 1,
                               .offset = i * 512,
                               .length = 512,
                               .done = count_done,
                               .opaque = &count };
    count.pending++;
    tn_node_submit (node, &requests[i]);
  }
  while (count.pending > 0)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_cmpuint (count.done, >=, 3 * DEPTH);
}

static void
test_depth (void)
{
  TnNode *node = test_open ("null", "");

  run_many (node);
  tn_node_unref (node);
}

/* No request ends before its time; later is the machine's business. */
static void
test_latency (void)
{
  TnNode *node = test_open ("null", "latency-ns=2000000");
  char byte;
  int64_t start = tn_clock_ns ();

  g_assert_cmpint (tn_node_read (node, 0, &byte, 1, NULL), ==, 0);
  g_assert_cmpint (tn_clock_ns () - start, >=, 2000000);
  run_many (node);
  tn_node_unref (node);
}

static void *
run_in_thread (void *node)
{
  run_many (node);
  tn_loop_free (tn_loop_current ());
  return NULL;
}

static void
test_threads (void)
{
  TnNode *node = test_open ("null", "latency-ns=1000");
  GThread *threads[3];

  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("null", run_in_thread, node);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  tn_node_unref (node);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/null/size", test_size);
  g_test_add_func ("/null/read-zeroes", test_read_zeroes);
  g_test_add_func ("/null/depth", test_depth);
  g_test_add_func ("/null/latency", test_latency);
  g_test_add_func ("/null/threads", test_threads);
  status = g_test_run ();
  tn_loop_free (tn_loop_current ());
  return status;
}
