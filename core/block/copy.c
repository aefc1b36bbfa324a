/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copying nodes: a cursor hands out pieces, workers (coroutines) read and write them. */
#include "copy-private.h"
#include "block/internal.h"

#include <tenon/format.h>

#include <sys/mman.h>

#define COPY_CHUNK (256u << 10)  /* bytes read at a time: what stays in the processor's caches */
#define COPY_BUFFERS (32u << 20) /* bytes of buffers at most */
#define COPY_PARALLEL 8          /* pieces under way unless the caller says */
#define COPY_PIECES                                                                                          \
  (4u << 20) /* bytes of larger pieces under way unless the caller says; at least two pieces */
#define COPY_PARALLEL_MAX 64
#define COPY_PIECES_PER_TURN 32     /* that one worker copies before the loop has a turn */
#define COPY_UNIT_MAX (16u << 20)   /* largest run that zeroes are looked for in */
#define COPY_CLUSTER_MAX (2u << 20) /* larger clusters are filled piece by piece, unless they are packed */

/* ---- Failing ---- */

static void
copy_wake (TnCoroutine **waiting)
{
  TnCoroutine *coroutine = *waiting;
  *waiting = NULL;
  if (coroutine)
    tn_co_wake (coroutine);
}

static void
copy_wake_all (CopyJob *job)
{
  for (unsigned i = 0; i < job->n_workers; i++) {
    copy_wake (&job->workers[i].waiting);
    copy_wake (&job->workers[i].shower);
  }
}

void
copy_fail (CopyJob *job, int result, GError *error)
{
  if (job->result < 0) {
    g_clear_error (&error);
    return;
  }
  job->result = result;
  job->error = error;
  copy_wake_all (job);
}

void
copy_advance (CopyJob *job, uint64_t bytes)
{
  job->done += bytes;
  int ret = job->copy.progress ? job->copy.progress (job->done, job->copy.opaque) : 0;
  if (ret >= 0)
    return;
  GError *error = NULL;
  tn_fail (&error, TN_BLOCK_ERROR, -ret, "the copy was stopped");
  copy_fail (job, ret, error);
}

static bool
copy_next (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  GError *error = NULL;
  tn_co_mutex_lock (&job->cursor);
  int ret = copy_next_locked (job, &worker->piece, &error);
  tn_co_mutex_unlock (&job->cursor);
  if (ret < 0)
    copy_fail (job, ret, error);
  if (ret > 0 && job->result < 0)
    job->active--;
  return ret > 0 && job->result >= 0;
}

/* ---- Writing the target ---- */

static void
copy_pass_turn (CopyJob *job)
{
  job->turn++;
  for (unsigned i = 0; i < job->n_workers; i++) {
    CopyWorker *worker = &job->workers[i];
    if (!worker->waiting || worker->piece.ticket != job->turn)
      continue;
    copy_wake (&worker->waiting);
    return;
  }
}

static bool
copy_await_turn (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  if (job->copy.flags & TN_COPY_OUT_OF_ORDER)
    return job->result >= 0;
  if (job->turn != worker->piece.ticket && job->result >= 0) {
    worker->waiting = tn_co_self ();
    tn_co_yield ();
  }
  return job->result >= 0;
}

static void
copy_written (TnRequest *request, int result)
{
  CopyWorker *worker = request->opaque;
  worker->result = result;
  worker->written = true;
  if (worker->self)
    tn_co_wake (worker->self);
}

/* Writes a run of the worker's piece.  With the @last run the turn goes to the next worker as soon as the
 * write is on its way: the target sees the writes in order and still has several at a time. */
static void
copy_write (CopyWorker *worker, TnRequestOp op, uint64_t offset, uint64_t length, uint32_t flags, bool last)
{
  CopyJob *job = worker->job;
  worker->iov = (struct iovec){ worker->buffer + (offset - worker->piece.offset), length };
  TnRequest *request = &worker->request;
  request->op = op;
  request->flags = flags | job->copy.write_flags;
  request->n_iov = op == TN_REQUEST_WRITE ? 1 : 0;
  request->iov = op == TN_REQUEST_WRITE ? &worker->iov : NULL;
  request->offset = offset;
  request->length = length;
  request->done = copy_written;
  request->opaque = worker;
  worker->written = false;
  worker->self = NULL;
  GError *error = NULL;
  tn_node_submit_with_error (job->copy.target, request, &error);
  if (last)
    copy_pass_turn (job);
  if (!worker->written) {
    worker->self = tn_co_self ();
    tn_co_yield ();
  }
  if (worker->result >= 0) {
    g_clear_error (&error);
    return;
  }
  if (!error)
    tn_fail_errno (&error, TN_BLOCK_ERROR, -worker->result,
                   "%s: cannot write %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT,
                   tn_node_filename (job->copy.target), length, offset);
  copy_fail (job, worker->result, error);
}

/* Whether zeroes need no writing because the target has them there. */
static bool
copy_is_zero_already (CopyJob *job, uint64_t offset, uint64_t length)
{
  if (job->copy.flags & TN_COPY_TARGET_ZERO)
    return true;
  TnStatus status;
  return tn_node_status (job->copy.target, NULL, offset, length, &status, NULL) >= 0 && status.zero
         && status.length >= length;
}

static void
copy_write_zeroes (CopyWorker *worker, uint64_t offset, uint64_t length, bool last)
{
  if (!copy_is_zero_already (worker->job, offset, length))
    copy_write (worker, TN_REQUEST_WRITE_ZEROES, offset, length, TN_REQUEST_MAY_UNMAP, last);
  else if (last)
    copy_pass_turn (worker->job);
}

/* How far the bytes from @at on are all zero, or all not, in whole units. */
static uint64_t
copy_run_end (const CopyJob *job, const CopyPiece *piece, const unsigned char *buffer, uint64_t at,
              bool *zero)
{
  uint64_t end = piece->offset + piece->length;
  for (uint64_t block = at; block < end; block += job->unit) {
    bool block_zero = tn_is_zero (buffer + (block - piece->offset), MIN (job->unit, end - block));
    if (block == at)
      *zero = block_zero;
    else if (block_zero != *zero)
      return block;
  }
  return end;
}

/* A target whose size was rounded up ends in a unit that the sources fill in part: packed writes are whole.
 */
static void
copy_complete_unit (CopyWorker *worker)
{
  const CopyJob *job = worker->job;
  CopyPiece *piece = &worker->piece;
  const uint64_t end = piece->offset + piece->length, size = tn_node_size (job->copy.target);
  if (!(job->copy.flags & TN_COPY_PACKED) || end != job->total || end >= size || end % job->unit == 0)
    return;
  const uint64_t missing = MIN (size - end, job->unit - end % job->unit);
  memset (worker->buffer + piece->length, 0, missing);
  piece->length += missing;
}

static void
copy_write_data (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  const CopyPiece *piece = &worker->piece;
  copy_complete_unit (worker);
  uint64_t end = piece->offset + piece->length;
  uint32_t flags = job->copy.flags & TN_COPY_PACKED ? TN_REQUEST_PACKED : 0;
  for (uint64_t at = piece->offset, next; at < end && job->result >= 0; at = next) {
    bool zero = false;
    next = job->copy.sparse ? copy_run_end (job, piece, worker->buffer, at, &zero) : end;
    if (zero)
      copy_write_zeroes (worker, at, next - at, next == end);
    else
      copy_write (worker, TN_REQUEST_WRITE, at, next - at, flags, next == end);
  }
}

/* Lets the kernel copy the piece: whether it did. */
static bool
copy_by_range (CopyJob *job, const CopyPiece *piece)
{
  if (!(job->copy.flags & TN_COPY_RANGE) || job->no_range || job->copy.content)
    return false;
  uint64_t source_offset, left;
  TnNode *source = copy_locate (job, piece->offset, &source_offset, &left);
  if (left < piece->length)
    return false;
  for (uint64_t copied = 0; copied < piece->length;) {
    int64_t n = tn_node_copy_range (source, source_offset + copied, job->copy.target, piece->offset + copied,
                                    piece->length - copied, NULL);
    if (n <= 0) {
      job->no_range = true;
      return false;
    }
    copied += n;
  }
  return true;
}

/* ---- Showing what is copied ---- */

static void
copy_show_work (void *opaque)
{
  const CopyWorker *worker = opaque;
  const TnCopy *copy = &worker->job->copy;
  copy->content (worker->piece.kind == COPY_ZERO ? NULL : worker->buffer, worker->piece.length, copy->opaque);
}

/* In the order of the contents.  The piece has been written by now: who waits here holds up nobody's write.
 */
static void
copy_show (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  if (!job->copy.content || job->result < 0)
    return;
  if (job->shown != worker->piece.offset) {
    worker->shower = tn_co_self ();
    tn_co_yield ();
  }
  if (job->result < 0)
    return;
  tn_co_work (copy_show_work, worker);
  job->shown += worker->piece.length;
  for (unsigned i = 0; i < job->n_workers; i++)
    if (job->workers[i].shower && job->workers[i].piece.offset == job->shown)
      copy_wake (&job->workers[i].shower);
}

/* ---- Workers ---- */

static void
copy_pace (CopyJob *job, uint64_t length)
{
  if (!job->copy.rate)
    return;
  int64_t now = tn_clock_ns ();
  int64_t start = MAX (now, job->next_start_ns);
  job->next_start_ns = start + (int64_t) ((double) length * 1e9 / job->copy.rate);
  if (start > now)
    tn_co_sleep (start - now);
}

static void
copy_piece (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  const CopyPiece *piece = &worker->piece;
  GError *error = NULL;
  copy_pace (job, piece->length);
  if (piece->kind == COPY_DATA && copy_by_range (job, piece)) {
    if (copy_await_turn (worker))
      copy_pass_turn (job);
    return;
  }
  int ret =
      piece->kind == COPY_ZERO ? 0 : copy_read (job, piece->offset, worker->buffer, piece->length, &error);
  if (ret < 0)
    copy_fail (job, ret, error);
  if (!copy_await_turn (worker))
    return;
  if (piece->kind == COPY_DATA)
    copy_write_data (worker);
  else if (piece->kind == COPY_ZERO)
    copy_write_zeroes (worker, piece->offset, piece->length, true);
  else
    copy_pass_turn (job);
}

/* The buffer used last: it is in the processor's caches, and where requests end at once the others are never
 * touched.  It gets its memory in one go: a fault per page costs more than the copying of the page. */
static void
copy_take_buffer (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  if (worker->piece.kind == COPY_ZERO)
    return;
  unsigned char *buffer = worker->buffer = job->free_buffers[--job->n_free];
#ifdef MADV_POPULATE_WRITE
  if (job->n_free >= job->n_unfilled)
    return;
  job->n_unfilled = job->n_free;
  uint64_t length = MIN (job->chunk, job->arena_size - (uint64_t) (buffer - job->arena));
  /* An older kernel refuses; then each page is made when it is touched. */
  madvise (buffer, length, MADV_POPULATE_WRITE);
#endif
}

static void
copy_give_buffer (CopyWorker *worker)
{
  CopyJob *job = worker->job;
  if (worker->buffer)
    job->free_buffers[job->n_free++] = g_steal_pointer (&worker->buffer);
}

/* Where reads and writes end at once, a worker would never let go of the loop. */
static void
copy_take_turns (CopyWorker *worker)
{
  if (++worker->pieces % COPY_PIECES_PER_TURN == 0)
    tn_co_sleep (0);
}

static void
copy_worker (void *opaque)
{
  CopyWorker *worker = opaque;
  CopyJob *job = worker->job;
  while (job->result >= 0 && copy_next (worker)) {
    copy_take_buffer (worker);
    copy_piece (worker);
    copy_show (worker);
    copy_give_buffer (worker);
    job->active--;
    if (job->result >= 0)
      copy_advance (job, worker->piece.length);
    if (job->active == 0)
      copy_wake (&job->quiescing);
    copy_take_turns (worker);
  }
  if (--job->running == 0 && job->owner_waits)
    tn_co_wake (job->owner);
}

static void
copy_main (void *opaque)
{
  CopyJob *job = opaque;
  job->owner = tn_co_self ();
  job->running = job->n_workers;
  for (unsigned i = 0; i < job->n_workers; i++)
    tn_co_start (copy_worker, &job->workers[i]);
  if (job->running == 0)
    return;
  job->owner_waits = true;
  tn_co_yield ();
}

/* ---- Setting up ---- */

static int
copy_check (const TnCopy *copy, uint64_t total, GError **error)
{
  if (copy->n_sources == 0 || !copy->target)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a copy needs a source and a target");
  if (copy->base && copy->n_sources != 1)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "only a single source can be copied above its base");
  if (total > tn_node_size (copy->target))
    return tn_fail (error, TN_BLOCK_ERROR, ENOSPC,
                    "%s: %" G_GUINT64_FORMAT " bytes do not fit in %" G_GUINT64_FORMAT "; enlarge it first",
                    tn_node_filename (copy->target), total, tn_node_size (copy->target));
  return 0;
}

static int
copy_total (const TnCopy *copy, uint64_t *total, GError **error)
{
  uint64_t sum = 0;
  for (size_t i = 0; i < copy->n_sources; i++)
    if (__builtin_add_overflow (sum, tn_node_size (copy->sources[i]), &sum) || sum > INT64_MAX)
      return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "the sources together are larger than any disk");
  *total = MIN (copy->length, sum - MIN (sum, copy->offset));
  return 0;
}

/* Zero runs of the wanted length, in whole clusters of the target: a cluster is allocated as a whole anyway.
 */
static bool
copy_target_packs (const CopyJob *job)
{
  const TnClass *class = tn_node_class (job->copy.target);
  const TnFormatOps *ops = class->kind == TN_KIND_FORMAT ? class->ops : NULL;
  return tn_node_always_packed (job->copy.target) || (ops && (ops->flags & TN_FORMAT_ALWAYS_PACKS));
}

static int
copy_choose_unit (CopyJob *job, GError **error)
{
  TnInfo info = { .size = sizeof info };
  TnLimits limits;
  int ret = tn_node_info (job->copy.target, &info, error);
  if (ret < 0)
    return ret;
  tn_node_limits (job->copy.target, &limits);
  if (copy_target_packs (job))
    job->copy.flags |= TN_COPY_PACKED;
  uint64_t cluster = MAX (MAX (info.cluster_size, limits.request_alignment), COPY_SECTOR);
  if (!(job->copy.flags & TN_COPY_PACKED) && cluster % COPY_CLUSTER_MAX == 0)
    cluster = COPY_CLUSTER_MAX;
  uint64_t wanted = job->copy.sparse ? job->copy.sparse : 4096;
  job->unit = (wanted + cluster - 1) / cluster * cluster;
  if (job->copy.flags & TN_COPY_PACKED)
    job->unit = cluster;
  if (job->unit > MAX (COPY_UNIT_MAX, cluster) || cluster > COPY_BUFFERS)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "zero runs of %" G_GUINT64_FORMAT " bytes are too long to look for", job->unit);
  /* A packed write is one cluster, and each is packed on a processor of its own. */
  bool packed = job->copy.flags & TN_COPY_PACKED;
  job->chunk = packed ? job->unit : MAX (job->unit, COPY_CHUNK / job->unit * job->unit);
  return 0;
}

static unsigned
copy_parallel (const CopyJob *job)
{
  if (job->copy.parallel)
    return MIN (job->copy.parallel, COPY_PARALLEL_MAX);
  if (job->copy.flags & TN_COPY_PACKED)
    return COPY_PARALLEL;
  return CLAMP (COPY_PIECES / job->chunk, 2, COPY_PARALLEL);
}

static int
copy_allocate (CopyJob *job, GError **error)
{
  uint64_t pieces = job->total / job->chunk + 1;
  uint64_t wanted = copy_parallel (job);
  job->n_workers = MAX (1, MIN (MIN (wanted, pieces), COPY_BUFFERS / job->chunk));
  uint64_t used = MIN (job->chunk, MAX (job->total, 1));
  const bool less = job->n_workers == 1 && !(job->copy.flags & TN_COPY_PACKED);
  job->arena_size = (less ? used : job->chunk) * job->n_workers;
  job->arena = mmap (NULL, job->arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (job->arena == MAP_FAILED)
    return tn_fail_errno (error, TN_BLOCK_ERROR, ENOMEM, "no memory for %zu bytes of buffers",
                          job->arena_size);
  job->workers = g_new0 (CopyWorker, job->n_workers);
  job->free_buffers = g_new (unsigned char *, job->n_workers);
  job->n_free = job->n_unfilled = job->n_workers;
  for (unsigned i = 0; i < job->n_workers; i++) {
    job->workers[i].job = job;
    job->free_buffers[i] = job->arena + i * job->chunk;
  }
  return 0;
}

static int
copy_begin_at (CopyJob *job, GError **error)
{
  uint64_t start = MIN (job->copy.start, job->total);
  if (start % job->unit && start < job->total)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "a copy cannot go on at offset %" G_GUINT64_FORMAT
                    ", which is no multiple of %" G_GUINT64_FORMAT,
                    start, job->unit);
  job->position = job->shown = job->done = start;
  return 0;
}

int
tn_copy_run (const TnCopy *copy, GError **error)
{
  CopyJob job = { 0 };
  memcpy (&job.copy, copy, MIN (copy->size, sizeof job.copy));
  int ret = copy_total (&job.copy, &job.total, error);
  if (ret >= 0)
    ret = copy_check (&job.copy, job.total, error);
  if (ret >= 0)
    ret = copy_choose_unit (&job, error);
  if (ret >= 0)
    ret = copy_begin_at (&job, error);
  if (ret >= 0)
    ret = copy_allocate (&job, error);
  if (ret < 0)
    return ret;
  tn_co_run (copy_main, &job);
  g_free (job.workers);
  g_free (job.free_buffers);
  munmap (job.arena, job.arena_size);
  if (job.result < 0)
    g_propagate_error (error, job.error);
  return job.result;
}
