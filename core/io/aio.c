/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linux AIO: io_submit(2) in batches, completions from the ring that the kernel shares. */
#define _GNU_SOURCE
#include "io/checkers.h"
#include "io/loop-private.h"

#include <limits.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 256
#define BATCH 64

/* What an aio_context_t points to (fs/aio.c of Linux; unchanged since 2.6). */
typedef struct AioRing {
  uint32_t id, nr;
  uint32_t head; /* moved by us */
  uint32_t tail; /* moved by the kernel */
  uint32_t magic, compat, incompat, header_length;
  struct io_event events[];
} AioRing;

#define AIO_RING_MAGIC 0xa10a10a1

typedef struct TnAio {
  aio_context_t context;
  int event_fd;
  uint32_t in_kernel;
  bool shared; /* completions can be read where the kernel puts them */
  TnOpQueue queue;
} TnAio;

static AioRing *
ring_of (const TnAio *aio)
{
  return (AioRing *) (uintptr_t) aio->context;
}

static bool
can_share (const TnAio *aio)
{
  return ring_of (aio)->magic == AIO_RING_MAGIC && ring_of (aio)->incompat == 0;
}

static bool
take_shared (AioRing *ring, struct io_event *event)
{
  uint32_t head = ring->head;

  if (head == __atomic_load_n (&ring->tail, __ATOMIC_ACQUIRE))
    return false;
  *event = ring->events[head];
  __atomic_store_n (&ring->head, (head + 1) % ring->nr, __ATOMIC_RELEASE);
  return true;
}

static bool
take_event (TnAio *aio, struct io_event *event)
{
  struct timespec now = { 0, 0 };

  if (G_LIKELY (aio->shared))
    return take_shared (ring_of (aio), event);
  return syscall (SYS_io_getevents, aio->context, 0, 1, event, &now) == 1;
}

static void
aio_ready (int fd, short events, void *opaque)
{
  TnLoop *loop = opaque;
  struct io_event event;
  uint64_t count;

  if (read (fd, &count, sizeof count) < 0 && errno != EAGAIN)
    return;
  while (take_event (loop->aio, &event)) {
    loop->aio->in_kernel--;
    tn_fd_op_complete (loop, (TnFdOp *) (uintptr_t) event.data, event.res);
  }
}

static int
aio_watch (TnLoop *loop, TnAio *aio, GError **error)
{
  aio->event_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (aio->event_fd < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot make an event descriptor for Linux AIO");
  return tn_loop_watch_fd (loop, aio->event_fd, POLLIN, aio_ready, loop, error);
}

int
tn_aio_available (TnLoop *loop, GError **error)
{
  TnAio *aio = loop->aio;
  int failed;

  if (aio)
    return 0;
  /* Valgrind takes the kernel's ring for memory that nobody allocated, and expects control blocks to
   * live until their completion. */
  if (RUNNING_ON_VALGRIND)
    return tn_fail (error, TN_IO_ERROR, ENOSYS,
                    "Linux AIO cannot be used under Valgrind: use the threads engine");
  aio = g_new0 (TnAio, 1);
  if (syscall (SYS_io_setup, DEPTH, &aio->context)) {
    failed =
        tn_fail_errno (error, TN_IO_ERROR, errno, "Linux AIO cannot be used here (the threads engine can)");
    g_free (aio);
    return failed;
  }
  aio->shared = can_share (aio);
  failed = aio_watch (loop, aio, error);
  loop->aio = aio;
  if (failed)
    tn_aio_free (loop);
  return failed;
}

void
tn_aio_submit (TnLoop *loop, TnFdOp *op)
{
  int failed;

  /* The kernel would only queue the others to threads of its own. */
  if (op->opcode != TN_FD_READ && op->opcode != TN_FD_WRITE) {
    tn_fd_op_submit_threads (loop, op);
    return;
  }
  failed = loop->aio ? 0 : tn_aio_available (loop, NULL);
  if (failed)
    tn_fd_op_finish_later (loop, op, failed);
  else
    tn_op_queue_push (&loop->aio->queue, op);
}

static void
prepare (const TnAio *aio, const TnFdOp *op, struct iocb *iocb)
{
  *iocb = (struct iocb){
    .aio_data = (uintptr_t) op,
    .aio_lio_opcode = op->opcode == TN_FD_READ ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV,
    .aio_fildes = (uint32_t) op->fd,
    .aio_buf = (uintptr_t) op->iov,
    .aio_nbytes = MIN (op->n_iov, IOV_MAX),
    .aio_offset = (int64_t) op->offset,
    .aio_flags = IOCB_FLAG_RESFD,
    .aio_resfd = (uint32_t) aio->event_fd,
  };
}

/* Hands the first operations of the queue over; their number, or a negative errno value for the first. */
static long
submit_batch (TnAio *aio)
{
  struct iocb iocbs[BATCH], *pointers[BATCH];
  uint32_t n = 0, room = MIN (BATCH, DEPTH - aio->in_kernel);
  long taken;

  for (TnFdOp *op = aio->queue.head; op && n < room; op = tn_op_core (op)->next, n++) {
    prepare (aio, op, &iocbs[n]);
    pointers[n] = &iocbs[n];
  }
  taken = syscall (SYS_io_submit, aio->context, (long) n, pointers);
  return taken < 0 ? -errno : taken;
}

void
tn_aio_flush (TnLoop *loop)
{
  TnAio *aio = loop->aio;

  while (aio->queue.head && aio->in_kernel < DEPTH) {
    long taken = submit_batch (aio);

    /* Short of memory: try again when something has completed. */
    if ((taken == -EAGAIN || taken == 0) && aio->in_kernel > 0)
      return;
    if (taken == -EINTR)
      continue;
    if (taken <= 0) {
      tn_fd_op_finish_later (loop, tn_op_queue_pop (&aio->queue), taken ? taken : -EAGAIN);
      continue;
    }
    aio->in_kernel += (uint32_t) taken;
    while (taken-- > 0)
      tn_op_queue_pop (&aio->queue);
  }
}

void
tn_aio_free (TnLoop *loop)
{
  TnAio *aio = g_steal_pointer (&loop->aio);

  if (!aio)
    return;
  if (aio->event_fd >= 0) {
    tn_loop_watch_fd (loop, aio->event_fd, 0, NULL, NULL, NULL);
    close (aio->event_fd);
  }
  syscall (SYS_io_destroy, aio->context);
  g_free (aio);
}
