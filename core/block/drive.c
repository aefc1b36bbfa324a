/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drives: what stands between a device and the block graph. */
#include "block/drive-private.h"

/* ---- Life ---- */

TnDrive *
tn_drive_new (TnNode *root, TnCacheMode cache, bool writable)
{
  TnDrive *drive = g_new0 (TnDrive, 1);
  drive->root = tn_node_ref (root);
  drive->loop = tn_loop_current ();
  drive->writable = writable && !tn_node_is_read_only (root);
  tn_drive_adopt_mode (drive, cache);
  return drive;
}

static void
drain_main (void *opaque)
{
  tn_underway_wait (&((TnDrive *) opaque)->underway);
}

void
tn_drive_drain (TnDrive *drive)
{
  tn_co_run (drain_main, drive);
}

int
tn_drive_flush (TnDrive *drive, GError **error)
{
  return tn_node_flush (drive->root, error);
}

static void fail_kept (TnDrive *drive);

void
tn_drive_free (TnDrive *drive)
{
  if (!drive)
    return;
  fail_kept (drive);
  tn_drive_drain (drive);
  if (drive->writable)
    tn_node_flush (drive->root, NULL);
  tn_node_unref (drive->root);
  g_free (drive);
}

/* ---- Properties ---- */

TnNode *
tn_drive_node (TnDrive *drive)
{
  return drive->root;
}

uint64_t
tn_drive_size (TnDrive *drive)
{
  return tn_node_size_now (drive->root);
}

bool
tn_drive_is_read_only (TnDrive *drive)
{
  return !drive->writable;
}

void
tn_drive_limits (TnDrive *drive, TnLimits *limits)
{
  tn_node_limits (drive->root, limits);
}

bool
tn_drive_can_discard (TnDrive *drive)
{
  return drive->writable && (tn_node_flags_now (drive->root) & TN_OPEN_UNMAP);
}

void
tn_drive_on_resize (TnDrive *drive, void (*resized) (void *opaque), void *opaque)
{
  drive->resized = resized;
  drive->resized_opaque = opaque;
}

int
tn_drive_resize (TnDrive *drive, uint64_t size, GError **error)
{
  int rc = tn_node_resize (drive->root, size, TN_PREALLOC_OFF, error);
  if (!rc && drive->resized)
    drive->resized (drive->resized_opaque);
  return rc;
}

void
tn_drive_set_error_policy (TnDrive *drive, TnErrorPolicy on_read, TnErrorPolicy on_write)
{
  drive->on_read = on_read;
  drive->on_write = on_write;
}

void
tn_drive_on_stop (TnDrive *drive, void (*stopped) (bool is_read, int errnum, void *opaque), void *opaque)
{
  drive->stopped = stopped;
  drive->stopped_opaque = opaque;
}

/* ---- Requests ---- */

/* In the drive's words of the request. */
typedef struct DriveState {
  TnDrive *drive;
  void (*done) (TnRequest *request, int result);
  void *opaque;
  int64_t start;
  uint16_t flags;
  uint8_t op;
} DriveState;

G_STATIC_ASSERT (sizeof (DriveState) <= TN_REQUEST_DRIVE_WORDS * sizeof (uintptr_t));

static void drive_done (TnRequest *request, int result);

static void
end_request (TnRequest *request, int result)
{
  DriveState *state = tn_request_drive_state (request);
  TnDrive *drive = state->drive;
  TnDriveCounters *counters = &drive->counters;
  unsigned op = state->op;
  tn_count (&counters->requests[op], 1);
  tn_count (&counters->bytes[op], request->length);
  tn_count (&counters->ns[op], (uint64_t) (tn_clock_ns () - state->start));
  if (G_UNLIKELY (result < 0))
    tn_count (&counters->errors[op], 1);
  request->op = state->op;
  request->flags = state->flags;
  request->done = state->done;
  request->opaque = state->opaque;
  tn_underway_leave (&drive->underway);
  request->done (request, result);
}

TnDriveKept *
tn_drive_kept_new (TnDrive *drive, TnRequest *request)
{
  TnDriveKept *kept = g_new (TnDriveKept, 1);
  *kept = (TnDriveKept){ request, drive, tn_loop_current () };
  return kept;
}

static void
keep (TnDrive *drive, TnRequest *request)
{
  TnDriveKept *kept = tn_drive_kept_new (drive, request);
  tn_spin_lock (&drive->kept_spin);
  drive->kept = g_slist_prepend (drive->kept, kept);
  tn_spin_unlock (&drive->kept_spin);
}

/* Whether the error has been dealt with so that nothing is reported yet. */
static bool
handle_error (TnDrive *drive, TnRequest *request, int *result)
{
  bool is_read = request->op == TN_REQUEST_READ;
  TnErrorPolicy policy = is_read ? drive->on_read : drive->on_write;
  if (policy == TN_ERROR_ENOSPC)
    policy = *result == -ENOSPC ? TN_ERROR_STOP : TN_ERROR_REPORT;
  if (policy == TN_ERROR_IGNORE)
    *result = 0;
  if (policy != TN_ERROR_STOP || !drive->stopped)
    return false;
  keep (drive, request);
  drive->stopped (is_read, -*result, drive->stopped_opaque);
  return true;
}

/* A change that came while there was a write cache, and ends when there is none any more. */
static bool
is_unstable (TnDrive *drive, const TnRequest *request)
{
  return request->op != TN_REQUEST_READ && request->op != TN_REQUEST_FLUSH
         && !(request->flags & TN_REQUEST_FUA) && !tn_drive_write_cache (drive)
         && !tn_drive_ignores_flush (drive);
}

static void
drive_done (TnRequest *request, int result)
{
  DriveState *state = tn_request_drive_state (request);
  if (G_UNLIKELY (result < 0) && handle_error (state->drive, request, &result))
    return;
  if (G_UNLIKELY (result >= 0 && is_unstable (state->drive, request))) {
    request->op = TN_REQUEST_FLUSH;
    tn_node_submit (state->drive->root, request);
    return;
  }
  end_request (request, result);
}

static void
submit_kept (void *opaque)
{
  TnDriveKept *kept = opaque;
  tn_node_submit (kept->drive->root, kept->request);
  g_free (kept);
}

static GSList *
take_kept (TnDrive *drive)
{
  tn_spin_lock (&drive->kept_spin);
  GSList *kept = g_steal_pointer (&drive->kept);
  tn_spin_unlock (&drive->kept_spin);
  return g_slist_reverse (kept);
}

void
tn_drive_go_on (GSList *kept)
{
  for (GSList *each = kept; each; each = each->next)
    tn_loop_post (((TnDriveKept *) each->data)->loop, submit_kept, each->data);
  g_slist_free (kept);
}

void
tn_drive_retry (TnDrive *drive)
{
  tn_drive_go_on (take_kept (drive));
}

static void
fail_one (void *opaque)
{
  TnDriveKept *kept = opaque;
  end_request (kept->request, -EIO);
  g_free (kept);
}

/* The drive goes: nobody will retry. */
static void
fail_kept (TnDrive *drive)
{
  g_autoptr (GSList) kept = take_kept (drive);
  for (GSList *each = kept; each; each = each->next)
    tn_loop_post (((TnDriveKept *) each->data)->loop, fail_one, each->data);
}

static int
check (TnDrive *drive, const TnRequest *request)
{
  if (request->op < TN_REQUEST_READ || request->op > TN_REQUEST_FLUSH)
    return -ENOTSUP;
  if (request->op == TN_REQUEST_FLUSH)
    return 0;
  uint64_t size = tn_drive_size (drive);
  if (request->offset > size || request->length > size - request->offset)
    return -EINVAL;
  return request->op != TN_REQUEST_READ && !drive->writable ? -EROFS : 0;
}

/* Whether a flush has nothing to do. */
static bool
is_idle_flush (TnDrive *drive, const TnRequest *request)
{
  return request->op == TN_REQUEST_FLUSH && (!drive->writable || tn_drive_ignores_flush (drive));
}

void
tn_drive_submit (TnDrive *drive, TnRequest *request)
{
  int rc = check (drive, request);
  if (G_UNLIKELY (rc)) {
    if (rc != -ENOTSUP)
      tn_count (&drive->counters.errors[request->op], 1);
    request->done (request, rc);
    return;
  }
  DriveState *state = tn_request_drive_state (request);
  state->drive = drive;
  state->done = request->done;
  state->opaque = request->opaque;
  state->start = tn_clock_ns ();
  state->op = request->op;
  state->flags = request->flags;
  request->done = drive_done;
  tn_underway_enter (&drive->underway);
  if (G_UNLIKELY (is_idle_flush (drive, request))) {
    end_request (request, 0);
    return;
  }
  if (request->op != TN_REQUEST_READ && tn_drive_ignores_flush (drive))
    request->flags &= ~TN_REQUEST_FUA;
  else if (request->op != TN_REQUEST_READ && request->op != TN_REQUEST_FLUSH && !tn_drive_write_cache (drive))
    request->flags |= TN_REQUEST_FUA;
  if (G_UNLIKELY (__atomic_load_n (&drive->settling, __ATOMIC_SEQ_CST)) && request->op != TN_REQUEST_READ
      && tn_drive_settle_first (drive, request))
    return;
  tn_node_submit (drive->root, request);
}

/* ---- Statistics ---- */

static uint64_t
read_counter (const uint64_t *counter)
{
  return __atomic_load_n (counter, __ATOMIC_RELAXED);
}

void
tn_drive_stats (TnDrive *drive, TnDriveStats *stats)
{
  const TnDriveCounters *counters = &drive->counters;
  TnDriveStats now = {
    .size = sizeof now,
    .in_flight = __atomic_load_n (&drive->underway.count, __ATOMIC_RELAXED) & ~TN_UNDERWAY_AWAITED,
    .read_requests = read_counter (&counters->requests[TN_REQUEST_READ]),
    .write_requests = read_counter (&counters->requests[TN_REQUEST_WRITE])
                      + read_counter (&counters->requests[TN_REQUEST_WRITE_ZEROES]),
    .flush_requests = read_counter (&counters->requests[TN_REQUEST_FLUSH]),
    .discard_requests = read_counter (&counters->requests[TN_REQUEST_DISCARD]),
    .read_bytes = read_counter (&counters->bytes[TN_REQUEST_READ]),
    .write_bytes = read_counter (&counters->bytes[TN_REQUEST_WRITE])
                   + read_counter (&counters->bytes[TN_REQUEST_WRITE_ZEROES]),
    .read_ns = read_counter (&counters->ns[TN_REQUEST_READ]),
    .write_ns = read_counter (&counters->ns[TN_REQUEST_WRITE])
                + read_counter (&counters->ns[TN_REQUEST_WRITE_ZEROES]),
    .flush_ns = read_counter (&counters->ns[TN_REQUEST_FLUSH]),
    .read_errors = read_counter (&counters->errors[TN_REQUEST_READ]),
    .write_errors = read_counter (&counters->errors[TN_REQUEST_WRITE])
                    + read_counter (&counters->errors[TN_REQUEST_WRITE_ZEROES]),
    .flush_errors = read_counter (&counters->errors[TN_REQUEST_FLUSH]),
  };
  uint32_t size = stats->size;
  memcpy (stats, &now, MIN (size, sizeof now));
  stats->size = size;
}
