/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop-fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000

/* ---- Posts ---- */

typedef struct PostLog {
  GArray *order;
  TnLoop *loop;
  int expected;
} PostLog;

typedef struct PostEntry {
  PostLog *log;
  int number;
} PostEntry;

static void
post_record (void *opaque)
{
  PostEntry *entry = opaque;

  g_array_append_val (entry->log->order, entry->number);
  if ((int) entry->log->order->len == entry->log->expected)
    tn_loop_quit (entry->log->loop);
  g_free (entry);
}

static void
post_number (PostLog *log, int number)
{
  PostEntry *entry = g_new (PostEntry, 1);

  *entry = (PostEntry){ log, number };
  tn_loop_post (log->loop, post_record, entry);
}

static void
assert_ascending (GArray *order, int first, int step)
{
  int expected = first;

  for (guint i = 0; i < order->len; i++) {
    int number = g_array_index (order, int, i);

    if (number % step != first)
      continue;
    g_assert_cmpint (number, ==, expected);
    expected += step;
  }
}

static void
test_post (TnLoop *loop)
{
  PostLog log = { g_array_new (FALSE, FALSE, sizeof (int)), loop, 100 };

  for (int i = 0; i < 100; i++)
    post_number (&log, i);
  g_assert_cmpuint (log.order->len, ==, 0);
  tn_loop_run (loop);
  g_assert_cmpuint (log.order->len, ==, 100);
  assert_ascending (log.order, 0, 1);
  g_array_unref (log.order);
}

#define POSTERS 4
#define POSTS 2000

typedef struct Poster {
  PostLog *log;
  int first;
} Poster;

static gpointer
poster_main (gpointer opaque)
{
  Poster *poster = opaque;

  for (int i = 0; i < POSTS; i++) {
    post_number (poster->log, poster->first + i * POSTERS);
    /* Gives the loop time to fall asleep now and then. */
    if (i % 64 == 0)
      g_usleep (100);
  }
  return NULL;
}

static void
test_post_threads (TnLoop *loop)
{
  PostLog log = { g_array_new (FALSE, FALSE, sizeof (int)), loop, POSTERS * POSTS };
  Poster posters[POSTERS];
  GThread *threads[POSTERS];

  for (int i = 0; i < POSTERS; i++) {
    posters[i] = (Poster){ &log, i };
    threads[i] = g_thread_new ("poster", poster_main, &posters[i]);
  }
  tn_loop_run (loop);
  for (int i = 0; i < POSTERS; i++) {
    g_thread_join (threads[i]);
    assert_ascending (log.order, i, POSTERS);
  }
  g_assert_cmpuint (log.order->len, ==, POSTERS * POSTS);
  g_array_unref (log.order);
}

static void
set_flag (void *opaque)
{
  *(bool *) opaque = true;
}

/* What is posted from a task waits for the next round, and a nested iteration finds what is left. */
typedef struct Nested {
  TnLoop *loop;
  bool inner, outer;
} Nested;

static void
nested_outer (void *opaque)
{
  Nested *nested = opaque;

  iterate_until (nested->loop, &nested->inner);
  nested->outer = true;
}

static void
test_nested (TnLoop *loop)
{
  Nested nested = { .loop = loop };

  tn_loop_post (loop, nested_outer, &nested);
  tn_loop_post (loop, set_flag, &nested.inner);
  iterate_until (loop, &nested.outer);
}

/* ---- Timers ---- */

typedef struct TimerLog {
  GArray *order;
  int64_t last_fired;
} TimerLog;

typedef struct NumberedTimer {
  TnTimer *timer;
  TimerLog *log;
  int64_t deadline;
  int number;
} NumberedTimer;

static void
timer_record (void *opaque)
{
  NumberedTimer *numbered = opaque;

  g_assert_cmpint (tn_clock_ns (), >=, numbered->deadline);
  g_assert_cmpint (numbered->deadline, >=, numbered->log->last_fired);
  numbered->log->last_fired = numbered->deadline;
  g_array_append_val (numbered->log->order, numbered->number);
}

#define TIMERS 200

static void
test_timer_order (TnLoop *loop)
{
  TimerLog log = { g_array_new (FALSE, FALSE, sizeof (int)), 0 };
  NumberedTimer timers[TIMERS];
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  int64_t start = tn_clock_ns ();
  guint stopped = 0;

  for (int i = 0; i < TIMERS; i++) {
    timers[i] = (NumberedTimer){ .log = &log, .number = i };
    timers[i].timer = tn_timer_new (loop, timer_record, &timers[i]);
    tn_timer_set (timers[i].timer, start + 3600ll * 1000 * MS);
  }
  for (int i = 0; i < TIMERS; i++) {
    timers[i].deadline = start + g_rand_int_range (rand, 0, 20 * MS);
    tn_timer_set (timers[i].timer, timers[i].deadline);
  }
  for (int i = 0; i < TIMERS; i += 3, stopped++)
    tn_timer_stop (timers[i].timer);

  while (log.order->len < TIMERS - stopped)
    tn_loop_iterate (loop, true);
  for (guint i = 0; i < log.order->len; i++)
    g_assert_cmpint (g_array_index (log.order, int, i) % 3, !=, 0);
  for (int i = 0; i < TIMERS; i++)
    tn_timer_free (timers[i].timer);
  g_array_unref (log.order);
}

static gpointer
set_timer_main (gpointer opaque)
{
  g_usleep (2000);
  tn_timer_set (opaque, tn_clock_ns ());
  return NULL;
}

/* A sleeping loop learns of a timer that another thread sets before its own next one. */
static void
test_timer_thread (TnLoop *loop)
{
  bool fired = false, late = false;
  TnTimer *far = tn_timer_new (loop, set_flag, &late);
  TnTimer *timer = tn_timer_new (loop, set_flag, &fired);
  GThread *thread;

  tn_timer_set (far, tn_clock_ns () + 3600ll * 1000 * MS);
  thread = g_thread_new ("timer", set_timer_main, timer);
  iterate_until (loop, &fired);
  g_thread_join (thread);
  g_assert_false (late);
  tn_timer_free (timer);
  tn_timer_free (far);
}

typedef struct SelfTimer {
  TnTimer *timer;
  int left;
  bool ended;
} SelfTimer;

static void
self_timer_fire (void *opaque)
{
  SelfTimer *self = opaque;

  if (--self->left > 0) {
    tn_timer_set (self->timer, 0);
    return;
  }
  tn_timer_free (self->timer);
  self->ended = true;
}

/* A timer in the past does not keep the loop from posts, and may be freed by its own call. */
static void
test_timer_self (TnLoop *loop)
{
  SelfTimer self = { .left = 1000 };
  bool posted = false;

  self.timer = tn_timer_new (loop, self_timer_fire, &self);
  tn_timer_set (self.timer, 0);
  tn_loop_post (loop, set_flag, &posted);
  iterate_until (loop, &posted);
  g_assert_false (self.ended);
  iterate_until (loop, &self.ended);
}

static void
test_timer_outlives_loop (void)
{
  TnLoop *loop = tn_loop_new (TN_LOOP_EPOLL, NULL);
  bool fired = false;
  TnTimer *timer = tn_timer_new (loop, set_flag, &fired);

  tn_timer_set (timer, tn_clock_ns () + 1000 * MS);
  tn_loop_free (loop);
  tn_timer_free (timer);
  g_assert_false (fired);
}

/* ---- Operations ---- */

#define FILE_SIZE (1024 * 1024)
#define BLOCK 4096

static uint8_t
byte_at (uint64_t offset)
{
  return (uint8_t) (offset * 31 + (offset >> 12) * 7);
}

static void
fill (uint8_t *bytes, uint64_t offset, size_t n)
{
  for (size_t i = 0; i < n; i++)
    bytes[i] = byte_at (offset + i);
}

/* A file without a name whose bytes are those of byte_at(). */
static int
make_file (void)
{
  g_autofree uint8_t *bytes = g_malloc (FILE_SIZE);
  g_autofree char *name = NULL;
  int fd = g_file_open_tmp ("tenon-loop-XXXXXX", &name, NULL);

  g_assert_cmpint (fd, >=, 0);
  unlink (name);
  fill (bytes, 0, FILE_SIZE);
  g_assert_cmpint (pwrite (fd, bytes, FILE_SIZE, 0), ==, FILE_SIZE);
  return fd;
}

typedef struct Op {
  TnFdOp op; /* first */
  struct iovec iov[2];
  uint8_t bytes[BLOCK];
  int64_t result;
  int *left;
  bool done;
} Op;

static void
op_done (TnFdOp *fd_op, int64_t result)
{
  Op *op = (Op *) fd_op;

  g_assert_false (op->done);
  op->done = true;
  op->result = result;
  if (op->left)
    --*op->left;
}

static void
op_init (Op *op, TnFdEngine engine, int fd, TnFdOpcode opcode, uint64_t offset)
{
  memset (op, 0, sizeof *op);
  op->iov[0] = (struct iovec){ op->bytes, sizeof op->bytes };
  op->op = (TnFdOp){ .opcode = (uint8_t) opcode,
                     .engine = (uint8_t) engine,
                     .fd = fd,
                     .iov = op->iov,
                     .n_iov = 1,
                     .offset = offset,
                     .done = op_done };
}

static int64_t
op_run (TnLoop *loop, Op *op)
{
  tn_loop_submit (loop, &op->op);
  g_assert_false (op->done);
  iterate_until (loop, &op->done);
  return op->result;
}

static void
assert_bytes (const Op *op, uint64_t offset)
{
  for (guint i = 0; i < BLOCK; i++)
    g_assert_cmpuint (op->bytes[i], ==, byte_at (offset + i));
}

#define MANY 3000

/* More at once than any queue on the way holds. */
static void
check_many (TnLoop *loop, TnFdEngine engine, int fd)
{
  g_autofree Op *ops = g_new (Op, MANY);
  int left = MANY;

  for (int i = 0; i < MANY; i++) {
    op_init (&ops[i], engine, fd, TN_FD_READ, (uint64_t) (i * 7919) % (FILE_SIZE / BLOCK) * BLOCK);
    ops[i].left = &left;
    tn_loop_submit (loop, &ops[i].op);
  }
  g_assert_cmpint (left, ==, MANY);
  while (left > 0)
    tn_loop_iterate (loop, true);
  for (int i = 0; i < MANY; i++) {
    g_assert_cmpint (ops[i].result, ==, BLOCK);
    assert_bytes (&ops[i], ops[i].op.offset);
  }
}

static void
check_vectored (TnLoop *loop, TnFdEngine engine, int fd)
{
  Op op;

  op_init (&op, engine, fd, TN_FD_READ, 512);
  op.iov[0] = (struct iovec){ op.bytes, 100 };
  op.iov[1] = (struct iovec){ op.bytes + 100, BLOCK - 100 };
  op.op.n_iov = 2;
  g_assert_cmpint (op_run (loop, &op), ==, BLOCK);
  assert_bytes (&op, 512);
}

static void
check_write (TnLoop *loop, TnFdEngine engine, int fd)
{
  Op op, back;

  op_init (&op, engine, fd, TN_FD_WRITE, FILE_SIZE);
  memset (op.bytes, 0x5a, sizeof op.bytes);
  g_assert_cmpint (op_run (loop, &op), ==, BLOCK);
  op_init (&back, engine, fd, TN_FD_FSYNC, 0);
  g_assert_cmpint (op_run (loop, &back), ==, 0);
  op_init (&back, engine, fd, TN_FD_READ, FILE_SIZE);
  g_assert_cmpint (op_run (loop, &back), ==, BLOCK);
  g_assert_cmpmem (op.bytes, BLOCK, back.bytes, BLOCK);
  g_assert_cmpint (ftruncate (fd, FILE_SIZE), ==, 0);
}

static void
check_fallocate (TnLoop *loop, TnFdEngine engine, int fd)
{
  Op op;

  op_init (&op, engine, fd, TN_FD_FALLOCATE, FILE_SIZE);
  op.op.length = 3 * BLOCK;
  g_assert_cmpint (op_run (loop, &op), ==, 0);
  g_assert_cmpint (lseek (fd, 0, SEEK_END), ==, FILE_SIZE + 3 * BLOCK);
  g_assert_cmpint (ftruncate (fd, FILE_SIZE), ==, 0);
}

static void
check_failures (TnLoop *loop, TnFdEngine engine, int fd)
{
  Op op;

  op_init (&op, engine, fd, TN_FD_READ, FILE_SIZE - 100);
  g_assert_cmpint (op_run (loop, &op), ==, 100);
  op_init (&op, engine, fd, TN_FD_READ, FILE_SIZE + BLOCK);
  g_assert_cmpint (op_run (loop, &op), ==, 0);
  op_init (&op, engine, 9999, TN_FD_READ, 0);
  g_assert_cmpint (op_run (loop, &op), ==, -EBADF);
  op_init (&op, engine, fd, (TnFdOpcode) 77, 0);
  g_assert_cmpint (op_run (loop, &op), ==, -EINVAL);
  op_init (&op, (TnFdEngine) 77, fd, TN_FD_READ, 0);
  g_assert_cmpint (op_run (loop, &op), ==, -EINVAL);
}

static void
check_engine (TnLoop *loop, TnFdEngine engine)
{
  g_autoptr (GError) error = NULL;
  int fd;

  if (tn_loop_has_engine (loop, engine, &error)) {
    g_test_message ("%s", error->message);
    g_assert_cmpint (engine, !=, TN_FD_ENGINE_THREADS);
    return;
  }
  fd = make_file ();
  check_vectored (loop, engine, fd);
  check_write (loop, engine, fd);
  check_fallocate (loop, engine, fd);
  check_failures (loop, engine, fd);
  check_many (loop, engine, fd);
  check_vectored (loop, engine, fd);
  close (fd);
}

static void
test_ops_default (TnLoop *loop)
{
  check_engine (loop, TN_FD_ENGINE_DEFAULT);
}

static void
test_ops_uring (TnLoop *loop)
{
  g_assert_cmpint (tn_loop_has_engine (loop, TN_FD_ENGINE_URING, NULL) == 0, ==,
                   tn_loop_backend (loop) == TN_LOOP_URING);
  check_engine (loop, TN_FD_ENGINE_URING);
}

static void
test_ops_aio (TnLoop *loop)
{
  check_engine (loop, TN_FD_ENGINE_LINUX_AIO);
}

static void
test_ops_threads (TnLoop *loop)
{
  check_engine (loop, TN_FD_ENGINE_THREADS);
}

static void
test_ops_mixed (TnLoop *loop)
{
  TnFdEngine engines[] = { TN_FD_ENGINE_DEFAULT, TN_FD_ENGINE_LINUX_AIO, TN_FD_ENGINE_THREADS };
  g_autofree Op *ops = g_new (Op, 300);
  int fd = make_file (), left = 300;

  if (tn_loop_has_engine (loop, TN_FD_ENGINE_LINUX_AIO, NULL))
    engines[1] = TN_FD_ENGINE_THREADS;
  for (int i = 0; i < 300; i++) {
    op_init (&ops[i], engines[i % 3], fd, TN_FD_READ, (uint64_t) (i % 200) * BLOCK);
    ops[i].left = &left;
    tn_loop_submit (loop, &ops[i].op);
  }
  while (left > 0)
    tn_loop_iterate (loop, true);
  for (int i = 0; i < 300; i++)
    assert_bytes (&ops[i], ops[i].op.offset);
  close (fd);
}

static guint
count_fds (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir))
    n++;
  return n;
}

/* A few operations one after the other need no ring, no descriptor and no thread. */
static void
test_ops_direct (TnLoop *loop)
{
  int fd = make_file ();
  guint before = count_fds ();
  Op op;

  for (int i = 0; i < 20; i++) {
    op_init (&op, TN_FD_ENGINE_DEFAULT, fd, TN_FD_READ, (uint64_t) i * BLOCK);
    g_assert_cmpint (op_run (loop, &op), ==, BLOCK);
    assert_bytes (&op, (uint64_t) i * BLOCK);
  }
  g_assert_cmpuint (count_fds (), ==, before);
  close (fd);
}

/* iterate (false) gets operations done as well. */
static void
test_ops_poll (TnLoop *loop)
{
  int fd = make_file (), left = 100;
  g_autofree Op *ops = g_new (Op, 100);

  for (int i = 0; i < 100; i++) {
    op_init (&ops[i], TN_FD_ENGINE_DEFAULT, fd, TN_FD_READ, (uint64_t) i * BLOCK);
    ops[i].left = &left;
    tn_loop_submit (loop, &ops[i].op);
  }
  while (left > 0)
    if (!tn_loop_iterate (loop, false))
      g_thread_yield ();
  close (fd);
}

/* ---- Watches ---- */

typedef struct Watched {
  TnLoop *loop;
  int calls, bytes, limit;
  short events;
  bool done;
} Watched;

static void
watched_read (int fd, short events, void *opaque)
{
  Watched *watched = opaque;
  char byte;

  watched->calls++;
  watched->events = events;
  g_assert_cmpint (events, ==, POLLIN);
  g_assert_cmpint (read (fd, &byte, 1), ==, 1);
  if (++watched->bytes == watched->limit)
    watched->done = true;
}

static gpointer
pipe_writer (gpointer opaque)
{
  for (int i = 0; i < 50; i++) {
    g_assert_cmpint (write (GPOINTER_TO_INT (opaque), "abcd", 4), ==, 4);
    g_usleep (50);
  }
  return NULL;
}

/* Level-triggered: one byte is read per call, and all arrive. */
static void
test_watch (TnLoop *loop)
{
  Watched watched = { .loop = loop, .limit = 200 };
  GThread *thread;
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  g_assert_cmpint (tn_loop_watch_fd (loop, fds[0], POLLIN, watched_read, &watched, NULL), ==, 0);
  g_assert_false (tn_loop_iterate (loop, false));
  thread = g_thread_new ("writer", pipe_writer, GINT_TO_POINTER (fds[1]));
  iterate_until (loop, &watched.done);
  g_thread_join (thread);
  g_assert_cmpint (watched.calls, ==, 200);

  tn_loop_watch_fd (loop, fds[0], 0, NULL, NULL, NULL);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  for (int i = 0; i < 5; i++)
    tn_loop_iterate (loop, false);
  g_assert_cmpint (watched.calls, ==, 200);
  close (fds[0]);
  close (fds[1]);
}

static void
watched_events (int fd, short events, void *opaque)
{
  Watched *watched = opaque;

  watched->events = events;
  watched->done = true;
}

static void
test_watch_change (TnLoop *loop)
{
  Watched watched = { .loop = loop };
  int fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
  tn_loop_watch_fd (loop, fds[0], POLLIN, watched_events, &watched, NULL);
  tn_loop_iterate (loop, false);
  g_assert_false (watched.done);

  tn_loop_watch_fd (loop, fds[0], POLLIN | POLLOUT, watched_events, &watched, NULL);
  iterate_until (loop, &watched.done);
  g_assert_cmpint (watched.events, ==, POLLOUT);

  watched.done = false;
  tn_loop_watch_fd (loop, fds[0], POLLIN, watched_events, &watched, NULL);
  while (tn_loop_iterate (loop, false))
    watched.done = false;
  g_assert_false (watched.done);
  close (fds[1]);
  iterate_until (loop, &watched.done);
  g_assert_cmpint (watched.events, ==, POLLIN);

  /* The number may be reused as soon as the watch is removed. */
  tn_loop_watch_fd (loop, fds[0], 0, NULL, NULL, NULL);
  close (fds[0]);
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
  watched.done = false;
  tn_loop_watch_fd (loop, fds[0], POLLOUT, watched_events, &watched, NULL);
  iterate_until (loop, &watched.done);
  g_assert_cmpint (watched.events, ==, POLLOUT);
  tn_loop_watch_fd (loop, fds[0], 0, NULL, NULL, NULL);
  close (fds[0]);
  close (fds[1]);
}

static void
watched_remove_self (int fd, short events, void *opaque)
{
  Watched *watched = opaque;

  watched->calls++;
  watched->done = true;
  tn_loop_watch_fd (watched->loop, fd, 0, NULL, NULL, NULL);
}

/* Regular files are always ready; a watch may be removed by its own call. */
static void
test_watch_file (TnLoop *loop)
{
  Watched watched = { .loop = loop };
  int fd = make_file ();

  g_assert_cmpint (tn_loop_watch_fd (loop, fd, POLLIN, watched_remove_self, &watched, NULL), ==, 0);
  iterate_until (loop, &watched.done);
  for (int i = 0; i < 5; i++)
    tn_loop_iterate (loop, false);
  g_assert_cmpint (watched.calls, ==, 1);
  close (fd);
}

/* ---- Workers ---- */

typedef struct Job {
  GThread *caller, *worker;
  bool done;
} Job;

static void
job_work (void *opaque)
{
  Job *job = opaque;

  job->worker = g_thread_self ();
}

static void
job_done (void *opaque)
{
  Job *job = opaque;

  g_assert_true (g_thread_self () == job->caller);
  g_assert_true (job->worker && job->worker != job->caller);
  job->done = true;
}

static void
test_work (TnLoop *loop)
{
  Job jobs[200];

  g_assert_cmpuint (tn_workers_limit (), >=, 4);
  for (guint i = 0; i < G_N_ELEMENTS (jobs); i++) {
    jobs[i] = (Job){ .caller = g_thread_self () };
    tn_loop_work (loop, job_work, job_done, &jobs[i]);
  }
  for (guint i = 0; i < G_N_ELEMENTS (jobs); i++)
    iterate_until (loop, &jobs[i].done);
}

typedef struct Rendezvous {
  GMutex lock;
  GCond met;
  int waiting, done;
} Rendezvous;

static void
meet (void *opaque)
{
  Rendezvous *point = opaque;

  g_mutex_lock (&point->lock);
  point->waiting++;
  g_cond_broadcast (&point->met);
  while (point->waiting < 4)
    g_cond_wait (&point->met, &point->lock);
  g_mutex_unlock (&point->lock);
}

static void
met (void *opaque)
{
  ((Rendezvous *) opaque)->done++;
}

/* Jobs that need each other: the pool must start a thread for each, not queue behind a busy one. */
static void
test_work_parallel (TnLoop *loop)
{
  Rendezvous point = { .waiting = 0 };

  for (int i = 0; i < 4; i++)
    tn_loop_work (loop, meet, met, &point);
  while (point.done < 4)
    tn_loop_iterate (loop, true);
}

/* ---- GLib ---- */

static gpointer
post_later (gpointer opaque)
{
  g_usleep (2000);
  tn_loop_post (tn_loop_current (), set_flag, opaque);
  return NULL;
}

typedef struct Remote {
  TnLoop *loop;
  bool posted;
} Remote;

static gpointer
post_remote (gpointer opaque)
{
  Remote *remote = opaque;

  g_usleep (2000);
  tn_loop_post (remote->loop, set_flag, &remote->posted);
  return NULL;
}

static void
glib_until (GMainContext *context, const bool *flag)
{
  while (!*flag)
    g_main_context_iteration (context, TRUE);
}

static void
glib_ops (TnLoop *loop, GMainContext *context)
{
  int fd = make_file (), left = 100;
  g_autofree Op *ops = g_new (Op, 100);

  for (int i = 0; i < 100; i++) {
    op_init (&ops[i], TN_FD_ENGINE_DEFAULT, fd, TN_FD_READ, (uint64_t) i * BLOCK);
    ops[i].left = &left;
    tn_loop_submit (loop, &ops[i].op);
  }
  while (left > 0)
    g_main_context_iteration (context, TRUE);
  for (int i = 0; i < 100; i++)
    assert_bytes (&ops[i], ops[i].op.offset);
  close (fd);
}

static void
test_glib (TnLoop *loop)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  Watched watched = { .loop = loop, .limit = 200 };
  Remote remote = { .loop = loop };
  bool fired = false;
  TnTimer *timer = tn_timer_new (loop, set_flag, &fired);
  GThread *thread;
  int fds[2];

  tn_loop_attach (loop, context);
  tn_timer_set (timer, tn_clock_ns () + MS);
  glib_until (context, &fired);

  thread = g_thread_new ("remote", post_remote, &remote);
  glib_until (context, &remote.posted);
  g_thread_join (thread);

  glib_ops (loop, context);

  g_assert_cmpint (pipe (fds), ==, 0);
  tn_loop_watch_fd (loop, fds[0], POLLIN, watched_read, &watched, NULL);
  thread = g_thread_new ("writer", pipe_writer, GINT_TO_POINTER (fds[1]));
  glib_until (context, &watched.done);
  g_thread_join (thread);
  tn_loop_watch_fd (loop, fds[0], 0, NULL, NULL, NULL);
  close (fds[0]);
  close (fds[1]);

  /* Once more, now that there is a backend; and driven from inside, as tn_co_run() does. */
  remote.posted = false;
  thread = g_thread_new ("remote", post_remote, &remote);
  glib_until (context, &remote.posted);
  g_thread_join (thread);
  remote.posted = false;
  thread = g_thread_new ("remote", post_remote, &remote);
  iterate_until (loop, &remote.posted);
  g_thread_join (thread);
  tn_timer_free (timer);
}

/* ---- Current loops ---- */

static gpointer
current_main (gpointer opaque)
{
  TnLoop *loop = tn_loop_current ();
  bool posted = false;

  g_assert_true (loop && loop != opaque);
  g_assert_true (loop == tn_loop_current ());
  post_later (&posted);
  iterate_until (loop, &posted);
  /* It is freed with the thread. */
  return NULL;
}

static void
test_current (TnLoop *loop)
{
  g_assert_true (tn_loop_current () == loop);
  g_thread_join (g_thread_new ("other", current_main, loop));
  g_assert_true (tn_loop_current () == loop);
}

static void
test_override (void)
{
  g_autoptr (GError) error = NULL;
  TnLoop *loop;

  g_setenv ("TENON_LOOP", "epoll", TRUE);
  loop = tn_loop_new (TN_LOOP_AUTO, NULL);
  g_assert_cmpint (tn_loop_backend (loop), ==, TN_LOOP_EPOLL);
  tn_loop_free (loop);
  g_setenv ("TENON_LOOP", "carousel", TRUE);
  g_assert_null (tn_loop_new (TN_LOOP_AUTO, &error));
  g_assert_error (error, TN_IO_ERROR, EINVAL);
  g_unsetenv ("TENON_LOOP");
}

/* ---- Quitting ---- */

typedef struct Quitting {
  TnLoop *loop;
  int fd;
  bool synced;
} Quitting;

/* What is asked for in an iteration that is nested in a callback is done, though the loop has been told to
 * quit. */
static void
quit_and_sync (void *opaque)
{
  Quitting *quitting = opaque;
  bool uring = tn_loop_backend (quitting->loop) == TN_LOOP_URING;
  Op op;

  tn_loop_quit (quitting->loop);
  tn_loop_iterate (quitting->loop, false);
  op_init (&op, uring ? TN_FD_ENGINE_URING : TN_FD_ENGINE_THREADS, quitting->fd, TN_FD_FSYNC, 0);
  tn_loop_submit (quitting->loop, &op.op);
  for (unsigned i = 0; i < 1000 && !op.done; i++)
    tn_loop_iterate (quitting->loop, true);
  g_assert_true (op.done);
  g_assert_cmpint (op.result, ==, 0);
  quitting->synced = true;
}

static void
test_quit_nested (TnLoop *loop)
{
  Quitting quitting = { .loop = loop, .fd = make_file () };

  tn_loop_post (loop, quit_and_sync, &quitting);
  tn_loop_run (loop);
  g_assert_true (quitting.synced);
  close (quitting.fd);
}

static void
break_pipe (void)
{
  int ends[2];
  g_assert_cmpint (pipe (ends), ==, 0);
  close (ends[0]);
  g_assert_cmpint (write (ends[1], "x", 1), ==, -1);
  g_assert_cmpint (errno, ==, EPIPE);
  close (ends[1]);
}

/* The default action of SIGPIPE would end this program. */
static void
test_sigpipe (void)
{
  sigset_t set;
  g_assert_cmpint (tn_sigpipe_block (), ==, TN_SIGPIPE_WAS_OPEN);
  break_pipe ();
  g_assert_cmpint (tn_sigpipe_block (), ==, TN_SIGPIPE_WAS_BLOCKED);
  break_pipe ();
  tn_sigpipe_restore (TN_SIGPIPE_WAS_BLOCKED);
  g_assert_cmpint (pthread_sigmask (SIG_BLOCK, NULL, &set), ==, 0);
  g_assert_true (sigismember (&set, SIGPIPE));
  tn_sigpipe_restore (TN_SIGPIPE_WAS_OPEN);
  g_assert_cmpint (pthread_sigmask (SIG_BLOCK, NULL, &set), ==, 0);
  g_assert_false (sigismember (&set, SIGPIPE));
  g_assert_cmpint (sigpending (&set), ==, 0);
  g_assert_false (sigismember (&set, SIGPIPE));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_unsetenv ("TENON_LOOP");
  add_backend_test ("loop/post", test_post);
  add_backend_test ("loop/post-threads", test_post_threads);
  add_backend_test ("loop/nested", test_nested);
  add_backend_test ("loop/current", test_current);
  add_backend_test ("loop/quit-nested", test_quit_nested);
  g_test_add_func ("/loop/sigpipe", test_sigpipe);
  add_backend_test ("timer/order", test_timer_order);
  add_backend_test ("timer/thread", test_timer_thread);
  add_backend_test ("timer/self", test_timer_self);
  g_test_add_func ("/timer/outlives-loop", test_timer_outlives_loop);
  add_backend_test ("ops/direct", test_ops_direct);
  add_backend_test ("ops/default", test_ops_default);
  add_backend_test ("ops/uring", test_ops_uring);
  add_backend_test ("ops/aio", test_ops_aio);
  add_backend_test ("ops/threads", test_ops_threads);
  add_backend_test ("ops/mixed", test_ops_mixed);
  add_backend_test ("ops/poll", test_ops_poll);
  add_backend_test ("watch/level", test_watch);
  add_backend_test ("watch/change", test_watch_change);
  add_backend_test ("watch/file", test_watch_file);
  add_backend_test ("work/done", test_work);
  add_backend_test ("work/parallel", test_work_parallel);
  add_backend_test ("glib/attach", test_glib);
  g_test_add_func ("/loop/override", test_override);
  return g_test_run ();
}
