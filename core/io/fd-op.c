/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations on file descriptors: which engine runs one, and those that are plain system calls. */
#define _GNU_SOURCE
#include "io/loop-private.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

static int64_t
call_once (const TnFdOp *op)
{
  int n_iov = MIN (op->n_iov, IOV_MAX);

  switch (op->opcode) {
  case TN_FD_READ:
    return n_iov == 1 ? pread (op->fd, op->iov->iov_base, op->iov->iov_len, (off_t) op->offset)
                      : preadv (op->fd, op->iov, n_iov, (off_t) op->offset);
  case TN_FD_WRITE:
    return n_iov == 1 ? pwrite (op->fd, op->iov->iov_base, op->iov->iov_len, (off_t) op->offset)
                      : pwritev (op->fd, op->iov, n_iov, (off_t) op->offset);
  case TN_FD_FSYNC:
    return fdatasync (op->fd);
  case TN_FD_FALLOCATE:
    return fallocate (op->fd, op->flags, (off_t) op->offset, (off_t) op->length);
  default:
    errno = EINVAL;
    return -1;
  }
}

static int64_t
call (const TnFdOp *op)
{
  int64_t result;

  do
    result = call_once (op);
  while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

void
tn_fd_op_complete (TnLoop *loop, TnFdOp *op, int64_t result)
{
  loop->in_flight--;
  op->done (op, result);
}

void
tn_fd_op_finish_later (TnLoop *loop, TnFdOp *op, int64_t result)
{
  tn_op_core (op)->result = result;
  tn_op_queue_push (&loop->finished, op);
}

static bool
run_finished (TnLoop *loop)
{
  TnFdOp *last = loop->finished.tail, *op;

  if (!last)
    return false;
  do {
    op = tn_op_queue_pop (&loop->finished);
    if (!op)
      break;
    tn_fd_op_complete (loop, op, tn_op_core (op)->result);
  } while (op != last);
  return true;
}

static bool
run_held (TnLoop *loop)
{
  TnFdOp *op = g_steal_pointer (&loop->held);

  if (!op)
    return false;
  loop->direct_left--;
  tn_fd_op_complete (loop, op, call (op));
  return true;
}

bool
tn_fd_op_run_local (TnLoop *loop)
{
  bool any = run_finished (loop);

  return run_held (loop) || any;
}

/* ---- Worker threads ---- */

static void
threads_done (TnLoopTask *task)
{
  TnOpCore *core = (TnOpCore *) ((char *) task - offsetof (TnOpCore, task));

  tn_fd_op_complete (core->loop, tn_op_of_core (core), core->result);
}

static void
threads_run (TnWorkItem *item)
{
  TnOpCore *core = (TnOpCore *) ((char *) item - offsetof (TnOpCore, work));

  core->result = call (tn_op_of_core (core));
  core->task.run = threads_done;
  tn_loop_post_task (core->loop, &core->task);
}

void
tn_fd_op_submit_threads (TnLoop *loop, TnFdOp *op)
{
  TnOpCore *core = tn_op_core (op);

  core->loop = loop;
  core->work.run = threads_run;
  tn_workers_submit (&core->work);
}

/* ---- Choosing ---- */

/* An event-driven loop must not block; one that has had two operations at once gains from a ring. */
static bool
may_hold (const TnLoop *loop)
{
  return loop->direct_left > 0 && loop->in_flight == 0 && !loop->watches && !loop->source;
}

static void
release_held (TnLoop *loop)
{
  TnFdOp *op = g_steal_pointer (&loop->held);

  loop->direct_left = 0;
  if (op)
    tn_loop_ensure_backend (loop)->submit (loop, op);
}

static void
submit_default (TnLoop *loop, TnFdOp *op)
{
  if (G_UNLIKELY (loop->direct_left)) {
    if (may_hold (loop)) {
      loop->held = op;
      return;
    }
    release_held (loop);
  }
  tn_loop_ensure_backend (loop)->submit (loop, op);
}

static void
submit_uring (TnLoop *loop, TnFdOp *op)
{
  release_held (loop);
  if (tn_loop_ensure_backend (loop)->kind == TN_LOOP_URING)
    loop->backend->submit (loop, op);
  else
    tn_fd_op_finish_later (loop, op, -ENOSYS);
}

/* A ring takes several at once for less. */
static void
submit_call (TnLoop *loop, TnFdOp *op)
{
  if (loop->in_flight == 0)
    tn_fd_op_finish_later (loop, op, call (op));
  else
    submit_default (loop, op);
}

void
tn_loop_submit (TnLoop *loop, TnFdOp *op)
{
  switch (op->engine) {
  case TN_FD_ENGINE_DEFAULT:
    submit_default (loop, op);
    break;
  case TN_FD_ENGINE_URING:
    submit_uring (loop, op);
    break;
  case TN_FD_ENGINE_LINUX_AIO:
    tn_aio_submit (loop, op);
    break;
  case TN_FD_ENGINE_THREADS:
    tn_fd_op_submit_threads (loop, op);
    break;
  case TN_FD_ENGINE_CALL:
    submit_call (loop, op);
    break;
  default:
    tn_fd_op_finish_later (loop, op, -EINVAL);
  }
  loop->in_flight++;
}

int
tn_loop_has_engine (TnLoop *loop, TnFdEngine engine, GError **error)
{
  int failed;

  switch (engine) {
  case TN_FD_ENGINE_DEFAULT:
  case TN_FD_ENGINE_THREADS:
  case TN_FD_ENGINE_CALL:
    return 0;
  case TN_FD_ENGINE_LINUX_AIO:
    return tn_aio_available (loop, error);
  case TN_FD_ENGINE_URING:
    if (loop->backend ? loop->backend->kind == TN_LOOP_EPOLL : loop->wanted == TN_LOOP_EPOLL)
      return tn_fail (error, TN_IO_ERROR, ENOSYS,
                      "this loop runs without io_uring: use the threads engine, or unset TENON_LOOP");
    failed = loop->backend ? 0 : tn_uring_probe ();
    if (failed)
      return tn_fail_errno (error, TN_IO_ERROR, -failed,
                            "io_uring cannot be used here (the threads engine can)");
    return 0;
  default:
    return tn_fail (error, TN_IO_ERROR, EINVAL, "engine %d does not exist", (int) engine);
  }
}
