/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Write-zeroes and discard.  File systems and devices differ in what they can do, so each request walks a
 * short list of ways, from the best to the dearest, and what is found not to work is not tried again.
 */
#include "file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

typedef enum FileStep {
  FILE_STEP_PUNCH,       /* give the space back; what is left reads as zeroes */
  FILE_STEP_ZERO_RANGE,  /* keep the space (or make it), mark it as zero */
  FILE_STEP_APPEND,      /* behind the end: newly allocated space is zero */
  FILE_STEP_PUNCH_FIRST, /* give the space back … */
  FILE_STEP_REFILL,      /* … and allocate it again; only reached from PUNCH_FIRST */
  FILE_STEP_ZEROOUT,     /* block devices: have the kernel write zeroes */
  FILE_STEP_ZERO_END,
  FILE_STEP_DISCARD_PUNCH, /* discard begins here */
  FILE_STEP_DISCARD_DEVICE,
  FILE_STEP_DISCARD_END
} FileStep;

static const struct {
  int mode;
  FileLacks needs;
} file_steps[] = {
  [FILE_STEP_PUNCH] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FILE_LACKS_PUNCH },
  [FILE_STEP_ZERO_RANGE] = { FALLOC_FL_ZERO_RANGE, FILE_LACKS_ZERO_RANGE },
  [FILE_STEP_APPEND] = { 0, FILE_LACKS_ALLOCATE },
  [FILE_STEP_PUNCH_FIRST] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FILE_LACKS_PUNCH },
  [FILE_STEP_REFILL] = { 0, FILE_LACKS_ALLOCATE },
  [FILE_STEP_ZEROOUT] = { 0, FILE_LACKS_ZEROOUT },
  [FILE_STEP_DISCARD_PUNCH] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FILE_LACKS_PUNCH },
  [FILE_STEP_DISCARD_DEVICE] = { 0, FILE_LACKS_DISCARD },
};

static void file_step_done (FileOp *op, int64_t result);

static bool
file_step_applies (FileOp *op, FileStep step)
{
  FileState *s = op->state;
  TnRequest *request = op->request;
  bool inside = request->offset + request->length <= file_size (s);
  /* Where a device has no way of its own, the kernel writes the zeroes out. */
  bool may_be_slow = (request->flags & TN_REQUEST_NO_FALLBACK) == 0;

  if (step == FILE_STEP_ZERO_END || step == FILE_STEP_DISCARD_END || file_lacks (s, file_steps[step].needs))
    return false;
  switch (step) {
  case FILE_STEP_PUNCH:
    return inside && (request->flags & TN_REQUEST_MAY_UNMAP) != 0;
  case FILE_STEP_ZERO_RANGE:
    return !s->block_device || may_be_slow;
  case FILE_STEP_APPEND:
    return !s->block_device && request->offset >= file_size (s);
  case FILE_STEP_PUNCH_FIRST:
    return !s->block_device && inside && !file_lacks (s, FILE_LACKS_ALLOCATE);
  case FILE_STEP_REFILL:
    return false;
  case FILE_STEP_DISCARD_PUNCH:
    return !s->block_device;
  case FILE_STEP_ZEROOUT:
    return s->block_device && may_be_slow;
  default:
    return s->block_device;
  }
}

static void
file_ioctl_work (void *opaque)
{
  FileOp *op = opaque;
  uint64_t range[2] = { op->request->offset, op->request->length };
  unsigned long what = op->step == FILE_STEP_ZEROOUT ? BLKZEROOUT : BLKDISCARD;

  op->result = MIN (op->state->host->control (op->fd.fd, what, range), 0);
}

static void
file_ioctl_done (void *opaque)
{
  FileOp *op = opaque;

  file_step_done (op, op->result);
}

static void
file_fallocate_done (TnFdOp *fd, int64_t result)
{
  file_step_done ((FileOp *) fd, result);
}

static void
file_step_start (FileOp *op, FileStep step)
{
  op->step = step;
  if (step == FILE_STEP_ZEROOUT || step == FILE_STEP_DISCARD_DEVICE) {
    tn_loop_work (tn_loop_current (), file_ioctl_work, file_ioctl_done, op);
    return;
  }
  op->fd.flags = file_steps[step].mode;
  tn_loop_submit (tn_loop_current (), &op->fd);
}

static void
file_step_from (FileOp *op, int step)
{
  int end = step <= FILE_STEP_ZERO_END ? FILE_STEP_ZERO_END : FILE_STEP_DISCARD_END;

  for (; step < end; step++)
    if (file_step_applies (op, step)) {
      file_step_start (op, step);
      return;
    }
  file_op_finish (op, -ENOTSUP);
}

static void
file_step_ok (FileOp *op)
{
  FileState *s = op->state;

  if (op->step == FILE_STEP_PUNCH_FIRST) {
    file_step_start (op, FILE_STEP_REFILL);
    return;
  }
  if (op->step == FILE_STEP_ZERO_RANGE || op->step == FILE_STEP_APPEND)
    file_grown_to (s, op->request->offset + op->request->length);
  file_map_forget (s);
  file_op_finish (op, 0);
}

static void
file_step_done (FileOp *op, int64_t result)
{
  switch (result) {
  case 0:
    file_step_ok (op);
    return;
  case -EINTR:
    file_step_start (op, op->step);
    return;
  case -EOPNOTSUPP:
  case -ENOSYS:
  case -ENODEV: /* fallocate(2) on block devices, before Linux 4.9 */
  case -ENOTTY:
    file_set_lacks (op->state, file_steps[op->step].needs);
    /* The hole that PUNCH_FIRST made reads as zeroes, which is all that was asked. */
    if (op->step == FILE_STEP_REFILL) {
      file_map_forget (op->state);
      file_op_finish (op, 0);
      return;
    }
    break;
  case -EINVAL:
  case -EPERM:
  case -EBUSY: /* a device that is mounted, or part of another: it can be written to all the same */
    /* This range or this file cannot; another one may. */
    break;
  default:
    file_op_finish (op, (int) result);
    return;
  }
  file_step_from (op, op->step + 1);
}

static void
file_start (FileState *s, TnRequest *request, FileStep step)
{
  FileOp *op = file_op_init (s, request, TN_FD_FALLOCATE, file_fallocate_done);

  if (request->length == 0) {
    file_op_finish (op, 0);
    return;
  }
  file_step_from (op, step);
}

void
file_zero_start (FileState *s, TnRequest *request)
{
  file_start (s, request, FILE_STEP_PUNCH);
}

void
file_discard_start (FileState *s, TnRequest *request)
{
  file_start (s, request, FILE_STEP_DISCARD_PUNCH);
}
