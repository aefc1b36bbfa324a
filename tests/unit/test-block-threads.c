/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One node used from several threads, each with its own loop and its own pages, in units that they share. */
#include "block-fixture.h"

#define N_THREADS 3
#define PAGE 512
#define N_PAGES 240

typedef struct Worker {
  TnNode *node;
  unsigned number;
  unsigned pending;
  guint32 seed;
  uint8_t values[N_PAGES];
} Worker;

typedef struct Op {
  TnRequest request;
  struct iovec iov;
  Worker *worker;
  unsigned page;
  uint8_t bytes[PAGE];
} Op;

static void
op_done (TnRequest *request, int result)
{
  Op *op = request->opaque;
  g_assert_cmpint (result, ==, 0);
  if (request->op == TN_REQUEST_READ)
    for (unsigned i = 0; i < PAGE; i++)
      g_assert_cmpint (op->bytes[i], ==, op->worker->values[op->page]);
  op->worker->pending--;
  g_free (op);
}

static void
submit (Worker *worker, unsigned page, TnRequestOp kind, uint8_t value)
{
  Op *op = g_new0 (Op, 1);
  memset (op->bytes, value, PAGE);
  op->worker = worker;
  op->page = page;
  op->iov = (struct iovec){ op->bytes, PAGE };
  /* Pages of the threads take turns. */
  op->request = (TnRequest){ .op = kind,
                             .iov = &op->iov,
                             .n_iov = 1,
                             .offset = (page * (uint64_t) N_THREADS + worker->number) * PAGE,
                             .length = PAGE,
                             .done = op_done,
                             .opaque = op };
  if (kind == TN_REQUEST_WRITE)
    worker->values[page] = value;
  if (kind == TN_REQUEST_WRITE_ZEROES)
    worker->values[page] = 0;
  worker->pending++;
  tn_node_submit (worker->node, &op->request);
}

static void
work_rounds (Worker *worker)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (worker->seed);
  for (unsigned round = 0; round < 150; round++) {
    unsigned page = (unsigned) g_rand_int_range (rand, 0, N_PAGES - 8);
    for (unsigned i = 0; i < 8; i++) {
      int kind = g_rand_int_range (rand, 0, 10);
      submit (worker, page + i,
              kind < 4   ? TN_REQUEST_READ
              : kind < 9 ? TN_REQUEST_WRITE
                         : TN_REQUEST_WRITE_ZEROES,
              (uint8_t) g_rand_int (rand));
    }
    while (worker->pending)
      tn_loop_iterate (tn_loop_current (), true);
    GError *error = NULL;
    if (round % 16 == 0)
      tn_node_flush (worker->node, &error);
    g_assert_no_error (error);
  }
}

static void *
worker_main (void *opaque)
{
  TnLoop *loop = tn_loop_current ();
  work_rounds (opaque);
  tn_loop_free (loop);
  return NULL;
}

static void
test_threads (const void *graph)
{
  make_toy ("t", N_THREADS * N_PAGES * PAGE, 8192, NULL);
  mem_disk_find ("t")->defer = 2;
  TnNode *node = open_node_text (graph, TN_OPEN_WRITE);
  Worker *workers = g_new0 (Worker, N_THREADS);
  GThread *threads[N_THREADS];
  for (unsigned i = 0; i < N_THREADS; i++) {
    workers[i].node = node;
    workers[i].number = i;
    workers[i].seed = (guint32) g_test_rand_int ();
    threads[i] = g_thread_new ("worker", worker_main, &workers[i]);
  }
  for (unsigned i = 0; i < N_THREADS; i++)
    g_thread_join (threads[i]);
  for (unsigned i = 0; i < N_THREADS; i++)
    for (unsigned page = 0; page < N_PAGES; page++)
      submit (&workers[i], page, TN_REQUEST_READ, 0);
  for (unsigned i = 0; i < N_THREADS; i++)
    while (workers[i].pending)
      tn_loop_iterate (tn_loop_current (), true);
  g_free (workers);
  tn_node_unref (node);
  mem_disks_free ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/block/threads/submit", "driver=toy,file.driver=mem,file.filename=t", test_threads);
  g_test_add_data_func ("/block/threads/blocking", "driver=toy,file.driver=memblock,file.filename=t",
                        test_threads);
  return g_test_run ();
}
