/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The io_uring backend.  Submissions are only queued; the system call that waits also submits them,
 * and what it completes is then read from shared memory.
 */
#define _GNU_SOURCE
#include "io/checkers.h"
#include "io/loop-private.h"

#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SQ_ENTRIES 256
#define CQ_ENTRIES 1024

/* The largest read or write that the kernel takes. */
#define MAX_RW 0x7ffff000u

/* The low bits of a completion's user data say what it belongs to. */
enum { TAG_OP = 0, TAG_WATCH = 1, TAG_WAKE = 2, TAG_IGNORED = 3, TAG_MASK = 3 };

/* Waiting with a timeout in the same call, no lost completions, multishot poll: Linux 5.13. */
#define FEATURES (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_RSRC_TAGS)

typedef struct TnUring {
  struct io_uring ring;
  TnOpQueue backlog; /* operations that found the queue full */
  bool wake_armed;
} TnUring;

/* ---- Set-up ---- */

/* 0, or the negative errno value with which the kernel refuses rings.  A ring of no entries is
 * invalid, so nothing is made. */
int
tn_uring_probe (void)
{
  struct io_uring_params params = { 0 };

  /* Valgrind runs no other thread while one waits on a ring. */
  if (RUNNING_ON_VALGRIND)
    return -ENOSYS;
  if (syscall (SYS_io_uring_setup, 0, &params) >= 0 || errno == EINVAL || errno == EFAULT)
    return 0;
  return -errno;
}

static int
open_ring (struct io_uring *ring, unsigned flags)
{
  struct io_uring_params params = { .flags = flags | IORING_SETUP_CQSIZE, .cq_entries = CQ_ENTRIES };
  int failed = io_uring_queue_init_params (SQ_ENTRIES, ring, &params);

  if (failed)
    return failed;
  if ((params.features & FEATURES) == FEATURES)
    return 0;
  io_uring_queue_exit (ring);
  return -ENOSYS;
}

/* Newer kernels let one thread own the ring and run completions when that thread asks for them,
 * instead of interrupting it. */
bool
tn_uring_open (TnLoop *loop)
{
  static const unsigned flags[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
        | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
  };
  TnUring *uring;
  int failed = -EINVAL;

  if (RUNNING_ON_VALGRIND)
    return false;
  uring = g_new0 (TnUring, 1);
  for (size_t i = 0; i < G_N_ELEMENTS (flags) && failed == -EINVAL; i++)
    failed = open_ring (&uring->ring, flags[i]);
  if (failed) {
    g_free (uring);
    return false;
  }
  loop->engine = uring;
  loop->backend = &tn_backend_uring;
  loop->direct_left = 0;
  return true;
}

/* ---- Submission ---- */

static struct io_uring_sqe *
get_sqe (TnUring *uring)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&uring->ring);

  if (G_LIKELY (sqe))
    return sqe;
  io_uring_submit (&uring->ring);
  return io_uring_get_sqe (&uring->ring);
}

static void
set_user_data (struct io_uring_sqe *sqe, void *object, uint64_t tag)
{
  sqe->user_data = (uintptr_t) object | tag;
}

static void
prepare_rw (struct io_uring_sqe *sqe, const TnFdOp *op, uint8_t single, uint8_t vectored)
{
  if (G_LIKELY (op->n_iov == 1))
    io_uring_prep_rw (single, sqe, op->fd, op->iov->iov_base, (unsigned) MIN (op->iov->iov_len, MAX_RW),
                      op->offset);
  else
    io_uring_prep_rw (vectored, sqe, op->fd, op->iov, MIN (op->n_iov, IOV_MAX), op->offset);
}

static bool
prepare (struct io_uring_sqe *sqe, const TnFdOp *op)
{
  switch (op->opcode) {
  case TN_FD_READ:
    prepare_rw (sqe, op, IORING_OP_READ, IORING_OP_READV);
    return true;
  case TN_FD_WRITE:
    prepare_rw (sqe, op, IORING_OP_WRITE, IORING_OP_WRITEV);
    return true;
  case TN_FD_FSYNC:
    io_uring_prep_fsync (sqe, op->fd, IORING_FSYNC_DATASYNC);
    return true;
  case TN_FD_FALLOCATE:
    io_uring_prep_fallocate (sqe, op->fd, op->flags, (off_t) op->offset, (off_t) op->length);
    return true;
  default:
    return false;
  }
}

static bool
queue_op (TnUring *uring, TnFdOp *op)
{
  struct io_uring_sqe *sqe = get_sqe (uring);

  if (G_UNLIKELY (!sqe))
    return false;
  prepare (sqe, op);
  set_user_data (sqe, op, TAG_OP);
  return true;
}

static void
uring_submit (TnLoop *loop, TnFdOp *op)
{
  TnUring *uring = loop->engine;

  if (G_UNLIKELY (op->opcode < TN_FD_READ || op->opcode > TN_FD_FALLOCATE)) {
    tn_fd_op_finish_later (loop, op, -EINVAL);
    return;
  }
  if (G_UNLIKELY (uring->backlog.head != NULL) || !queue_op (uring, op))
    tn_op_queue_push (&uring->backlog, op);
}

static void
queue_backlog (TnUring *uring)
{
  while (uring->backlog.head) {
    TnFdOp *next = tn_op_core (uring->backlog.head)->next;

    if (!queue_op (uring, uring->backlog.head))
      return;
    uring->backlog.head = next;
    if (!next)
      uring->backlog.tail = NULL;
  }
}

static unsigned
ring_flags (TnUring *uring)
{
  return __atomic_load_n (uring->ring.sq.kflags, __ATOMIC_RELAXED);
}

/* ---- Watches and wake-ups ---- */

/* One shot and armed anew after each delivery: that makes it level-triggered. */
static bool
arm_watch (TnUring *uring, TnWatch *watch)
{
  struct io_uring_sqe *sqe = get_sqe (uring);

  if (!sqe)
    return false;
  io_uring_prep_poll_add (sqe, watch->fd, (unsigned) watch->events);
  set_user_data (sqe, watch, TAG_WATCH);
  watch->armed = watch->events;
  return true;
}

static bool
cancel_watch (TnUring *uring, TnWatch *watch)
{
  struct io_uring_sqe *sqe = get_sqe (uring);

  if (!sqe)
    return false;
  io_uring_prep_poll_remove (sqe, (uintptr_t) watch | TAG_WATCH);
  set_user_data (sqe, NULL, TAG_IGNORED);
  watch->cancelling = true;
  return true;
}

/* Whether the ring now has what is needed. */
static bool
sync_watch (TnLoop *loop, TnWatch *watch)
{
  TnUring *uring = loop->engine;

  if (watch->cancelling || watch->armed == watch->events) {
    if (watch->events || watch->armed)
      return true;
    tn_watch_drop (loop, watch);
    return true;
  }
  return watch->armed ? cancel_watch (uring, watch) : arm_watch (uring, watch);
}

static void
sync_watches (TnLoop *loop)
{
  while (loop->dirty_watches) {
    TnWatch *watch = loop->dirty_watches, *next = watch->next_dirty;

    watch->dirty = false;
    if (!sync_watch (loop, watch)) {
      watch->dirty = true;
      return;
    }
    loop->dirty_watches = next;
  }
}

static int
uring_watch (TnLoop *loop, TnWatch *watch)
{
  if (watch->dirty)
    return 0;
  watch->dirty = true;
  watch->next_dirty = loop->dirty_watches;
  loop->dirty_watches = watch;
  return 0;
}

static void
watch_polled (TnLoop *loop, TnWatch *watch, int result)
{
  watch->armed = 0;
  watch->cancelling = false;
  uring_watch (loop, watch);
  if (result >= 0)
    tn_watch_deliver (watch, (short) result);
  else if (result != -ECANCELED)
    tn_watch_deliver (watch, POLLNVAL);
}

/* Each write to the descriptor is reported once, so that its counter need not be read. */
static void
arm_wake (TnLoop *loop, TnUring *uring)
{
  struct io_uring_sqe *sqe;
  int fd = tn_loop_event_fd (loop);

  if (uring->wake_armed || fd < 0)
    return;
  sqe = get_sqe (uring);
  if (!sqe)
    return;
  io_uring_prep_poll_multishot (sqe, fd, POLLIN);
  set_user_data (sqe, NULL, TAG_WAKE);
  uring->wake_armed = true;
}

/* ---- The loop's calls ---- */

static void
queue_all (TnLoop *loop)
{
  TnUring *uring = loop->engine;

  if (G_UNLIKELY (uring->backlog.head))
    queue_backlog (uring);
  if (G_UNLIKELY (loop->dirty_watches))
    sync_watches (loop);
}

static void
uring_flush (TnLoop *loop)
{
  TnUring *uring = loop->engine;

  queue_all (loop);
  if (ring_flags (uring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
    io_uring_submit_and_get_events (&uring->ring);
  else if (io_uring_sq_ready (&uring->ring))
    io_uring_submit (&uring->ring);
}

/* Failures of the call (EINTR, ETIME, EAGAIN, EBUSY) leave the queue as it is: the loop comes back. */
static void
uring_wait (TnLoop *loop, int64_t timeout)
{
  TnUring *uring = loop->engine;
  struct __kernel_timespec time = { timeout / 1000000000, timeout % 1000000000 };
  struct io_uring_cqe *cqe;

  arm_wake (loop, uring);
  queue_all (loop);
  if (timeout == TN_NEVER)
    io_uring_submit_and_wait (&uring->ring, 1);
  else
    io_uring_submit_and_wait_timeout (&uring->ring, &cqe, 1, &time, NULL);
}

/* Each entry leaves the ring before it is dispatched, so that a nested iteration finds the next. */
static bool
take_cqe (TnUring *uring, struct io_uring_cqe *copy)
{
  struct io_uring_cqe *cqe;
  unsigned head;

  io_uring_for_each_cqe (&uring->ring, head, cqe)
  {
    *copy = *cqe;
    io_uring_cq_advance (&uring->ring, 1);
    return true;
  }
  return false;
}

static bool
dispatch (TnLoop *loop, const struct io_uring_cqe *cqe)
{
  void *object = (void *) (uintptr_t) (cqe->user_data & ~(uint64_t) TAG_MASK);

  switch (cqe->user_data & TAG_MASK) {
  case TAG_OP:
    tn_fd_op_complete (loop, object, cqe->res);
    return true;
  case TAG_WATCH:
    watch_polled (loop, object, cqe->res);
    return true;
  case TAG_WAKE:
    if (!(cqe->flags & IORING_CQE_F_MORE))
      ((TnUring *) loop->engine)->wake_armed = false;
    return false;
  default:
    return false;
  }
}

static bool
uring_reap (TnLoop *loop)
{
  struct io_uring_cqe cqe;
  bool any = false;

  while (take_cqe (loop->engine, &cqe))
    any |= dispatch (loop, &cqe);
  return any;
}

static bool
uring_found (TnLoop *loop)
{
  TnUring *uring = loop->engine;

  return io_uring_cq_ready (&uring->ring) > 0
         || (ring_flags (uring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* Polling the ring itself would not tell of completions that wait for this thread to run them; the
 * event descriptor does.  It is silent but for the time that GLib polls. */
static int
uring_attach (TnLoop *loop)
{
  TnUring *uring = loop->engine;

  io_uring_register_eventfd (&uring->ring, tn_loop_event_fd (loop));
  io_uring_cq_eventfd_toggle (&uring->ring, false);
  return -1;
}

static void
uring_notify (TnLoop *loop, bool on)
{
  io_uring_cq_eventfd_toggle (&((TnUring *) loop->engine)->ring, on);
}

static void
uring_free (TnLoop *loop)
{
  TnUring *uring = g_steal_pointer (&loop->engine);

  io_uring_queue_exit (&uring->ring);
  g_free (uring);
}

const TnBackend tn_backend_uring = {
  .kind = TN_LOOP_URING,
  .submit = uring_submit,
  .flush = uring_flush,
  .wait = uring_wait,
  .reap = uring_reap,
  .found = uring_found,
  .watch = uring_watch,
  .attach = uring_attach,
  .notify = uring_notify,
  .free = uring_free,
};
