/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A drive on a real file: several threads read and write while the cache mode, the engine and the guest's
 * write cache change all the time.  Nothing fails, nothing reads wrong, and every byte is there at the end.
 */
#include "block-fixture.h"

#include <glib/gstdio.h>
#include <unistd.h>

#define N_THREADS 2
#define SECTOR 512u
#define AREA (6u << 20) /* of each thread */
#define N_SECTORS (AREA / SECTOR)
#define LONGEST 64u
#define SLOTS 16
#define CHANGES 200

typedef struct Worker Worker;

typedef struct Slot {
  TnRequest request;
  struct iovec iov;
  Worker *worker;
  uint8_t *buffer;
  uint64_t sector, n_sectors; /* the request's own fields are not to be looked at while it is under way */
  bool busy;
} Slot;

struct Worker {
  TnDrive *drive;
  unsigned number, pending;
  bool *stop, ended; /* atomic */
  GRand *rand;
  uint64_t done;
  Slot slots[SLOTS];
  uint8_t values[N_SECTORS];
};

/* ---- Load ---- */

static void
check_read (const Slot *slot)
{
  for (uint64_t i = 0; i < slot->request.length; i++)
    g_assert_cmpint (slot->buffer[i], ==, slot->worker->values[slot->sector + i / SECTOR]);
}

static void
request_done (TnRequest *request, int result)
{
  Slot *slot = request->opaque;
  g_assert_cmpint (result, ==, 0);
  if (request->op == TN_REQUEST_READ)
    check_read (slot);
  slot->busy = false;
  slot->worker->pending--;
  slot->worker->done++;
}

static bool
is_taken (const Worker *worker, uint64_t sector, uint64_t n)
{
  for (unsigned i = 0; i < SLOTS; i++) {
    const Slot *slot = &worker->slots[i];
    if (slot->busy && slot->sector < sector + n && sector < slot->sector + slot->n_sectors)
      return true;
  }
  return false;
}

static TnRequestOp
pick_operation (Worker *worker)
{
  switch (g_rand_int_range (worker->rand, 0, 16)) {
  case 0:
    return TN_REQUEST_FLUSH;
  case 1:
    return TN_REQUEST_WRITE_ZEROES;
  case 2 ... 8:
    return TN_REQUEST_WRITE;
  default:
    return TN_REQUEST_READ;
  }
}

static void
start (Worker *worker, Slot *slot)
{
  const uint32_t n = (uint32_t) g_rand_int_range (worker->rand, 1, LONGEST + 1);
  const uint32_t sector = (uint32_t) g_rand_int_range (worker->rand, 0, (gint32) (N_SECTORS - n));
  const TnRequestOp op = pick_operation (worker);
  const uint8_t value = op == TN_REQUEST_WRITE ? (uint8_t) g_rand_int_range (worker->rand, 1, 256) : 0;
  const bool moves = op == TN_REQUEST_READ || op == TN_REQUEST_WRITE;
  if (is_taken (worker, sector, n))
    return;
  slot->sector = sector;
  slot->n_sectors = op == TN_REQUEST_FLUSH ? 0 : n;
  slot->iov = (struct iovec){ slot->buffer, n * SECTOR };
  slot->request = (TnRequest){ .op = op, .done = request_done, .opaque = slot };
  if (op != TN_REQUEST_FLUSH) {
    slot->request.offset = (sector + worker->number * (uint64_t) N_SECTORS) * SECTOR;
    slot->request.length = n * SECTOR;
  }
  if (moves) {
    slot->request.iov = &slot->iov;
    slot->request.n_iov = 1;
    memset (slot->buffer, value, n * SECTOR);
  }
  if (op == TN_REQUEST_WRITE || op == TN_REQUEST_WRITE_ZEROES)
    memset (worker->values + sector, value, n);
  slot->busy = true;
  worker->pending++;
  tn_drive_submit (worker->drive, &slot->request);
}

static void *
work (void *opaque)
{
  Worker *worker = opaque;
  TnLoop *loop = tn_loop_current ();
  for (bool stop = false; !stop || worker->pending;) {
    stop = __atomic_load_n (worker->stop, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < SLOTS && !stop; i++)
      if (!worker->slots[i].busy)
        start (worker, &worker->slots[i]);
    tn_loop_iterate (loop, worker->pending > 0);
  }
  tn_loop_free (loop);
  __atomic_store_n (&worker->ended, true, __ATOMIC_RELEASE);
  return NULL;
}

static void
worker_init (Worker *worker, unsigned number, TnDrive *drive, bool *stop)
{
  worker->drive = drive;
  worker->number = number;
  worker->stop = stop;
  worker->rand = g_rand_new_with_seed (number + 1);
  for (unsigned i = 0; i < SLOTS; i++) {
    worker->slots[i].worker = worker;
    worker->slots[i].buffer = g_malloc (LONGEST * SECTOR);
  }
}

static void
worker_clear (Worker *worker)
{
  g_rand_free (worker->rand);
  for (unsigned i = 0; i < SLOTS; i++)
    g_free (worker->slots[i].buffer);
}

/* ---- Changes ---- */

static bool
can_be_direct (TnDrive *drive)
{
  g_autoptr (GError) error = NULL;
  if (tn_drive_set_cache_mode (drive, TN_CACHE_NONE, &error) == 0)
    return true;
  g_test_message ("without O_DIRECT: %s", error->message);
  return false;
}

static void
change_something (TnDrive *drive, GRand *rand, bool direct)
{
  static const char *const plain[] = { "cache=writeback,aio=threads", "cache=writethrough,aio=threads",
                                       "cache=unsafe,aio=threads" };
  static const char *const also[] = { "cache=none,aio=threads",      "cache=none,aio=native",
                                      "cache=directsync,aio=native", "cache=writeback,aio=io_uring",
                                      "cache=none,aio=io_uring",     "cache=directsync,aio=io_uring" };
  const gint32 n = (gint32) (G_N_ELEMENTS (plain) + (direct ? G_N_ELEMENTS (also) : 0));
  const gint32 pick = g_rand_int_range (rand, 0, n + 2);
  if (pick >= n) {
    tn_drive_set_write_cache (drive, g_rand_boolean (rand));
    return;
  }
  const gint32 n_plain = (gint32) G_N_ELEMENTS (plain);
  const char *text = pick < n_plain ? plain[pick] : also[pick - n_plain];
  g_autoptr (TnOptions) options = options_of (text);
  g_autoptr (GError) error = NULL;
  tn_drive_reopen (drive, options, &error);
  /* A machine may have no io_uring or no Linux AIO; then nothing has changed. */
  if (error && (strstr (text, "io_uring") || strstr (text, "native")))
    g_test_message ("%s: %s", text, error->message);
  else
    g_assert_no_error (error);
}

static void
check_contents (const char *described, const Worker *workers)
{
  g_autofree uint8_t *bytes = g_malloc (AREA);
  TnNode *node = open_node_text (described, 0);
  for (unsigned i = 0; i < N_THREADS; i++) {
    g_assert_cmpint (tn_node_read (node, i * (uint64_t) AREA, bytes, AREA, NULL), ==, 0);
    for (uint64_t at = 0; at < AREA; at++)
      g_assert_cmpint (bytes[at], ==, workers[i].values[at / SECTOR]);
  }
  tn_node_close (node, NULL);
}

static void
test_live (gconstpointer data)
{
  const char *format = data;
  g_autofree char *path = g_strdup_printf ("drive-live-%d.%s", (int) getpid (), format);
  g_autofree char *described = g_strdup_printf ("driver=%s,file.driver=file,file.filename=%s", format, path);
  g_autoptr (TnOptions) creating = tn_options_new ();
  g_autoptr (GError) error = NULL;
  g_autofree Worker *workers = g_new0 (Worker, N_THREADS);
  g_autoptr (GRand) rand = g_rand_new_with_seed (7);
  GThread *threads[N_THREADS];
  bool stop = false;
  tn_image_create (path, format, creating, N_THREADS * (uint64_t) AREA, &error);
  g_assert_no_error (error);
  TnNode *node = open_node_text (described, TN_OPEN_WRITE | TN_OPEN_RESIZE);
  TnDrive *drive = tn_drive_new (node, TN_CACHE_WRITEBACK, true);
  const bool direct = can_be_direct (drive);
  for (unsigned i = 0; i < N_THREADS; i++) {
    worker_init (&workers[i], i, drive, &stop);
    threads[i] = g_thread_new ("worker", work, &workers[i]);
  }
  for (unsigned i = 0; i < CHANGES; i++) {
    change_something (drive, rand, direct);
    for (unsigned j = 0; j < 4; j++)
      tn_loop_iterate (tn_loop_current (), false); /* what follows a switched write cache */
    g_usleep (2000);
  }
  __atomic_store_n (&stop, true, __ATOMIC_RELEASE);
  for (unsigned i = 0; i < N_THREADS; i++) {
    while (!__atomic_load_n (&workers[i].ended, __ATOMIC_ACQUIRE))
      tn_loop_iterate (tn_loop_current (), false);
    g_thread_join (threads[i]);
    g_test_message ("thread %u: %" G_GUINT64_FORMAT " requests", i, workers[i].done);
  }
  tn_drive_free (drive);
  tn_node_close (node, &error);
  g_assert_no_error (error);
  check_contents (described, workers);
  for (unsigned i = 0; i < N_THREADS; i++)
    worker_clear (&workers[i]);
  g_unlink (path);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/drive/live/raw", "raw", test_live);
  g_test_add_data_func ("/drive/live/qcow2", "qcow2", test_live);
  return g_test_run ();
}
