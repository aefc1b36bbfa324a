/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/drive.h
 * Drives: what a device or an export holds.  A root node plus policy: write cache, host cache,
 * flushes, errors, statistics.
 *
 *   cache=        O_DIRECT   guest sees a write cache   flush
 *   writeback     no         yes                        honoured
 *   none          yes        yes                        honoured
 *   writethrough  no         no                         after each write
 *   directsync    yes        no                         after each write
 *   unsafe        no         yes                        ignored
 *
 * Every point can be reached while the guest runs.
 */
#ifndef TENON_DRIVE_H
#define TENON_DRIVE_H

#include <tenon/node.h>

typedef enum TnCacheMode {
  TN_CACHE_WRITEBACK = 0,
  TN_CACHE_NONE = 1,
  TN_CACHE_WRITETHROUGH = 2,
  TN_CACHE_DIRECTSYNC = 3,
  TN_CACHE_UNSAFE = 4
} TnCacheMode;

typedef enum TnErrorPolicy {
  TN_ERROR_REPORT = 0, /**< to the guest */
  TN_ERROR_IGNORE = 1,
  TN_ERROR_STOP = 2,  /**< pause the machine and retry when it goes on */
  TN_ERROR_ENOSPC = 3 /**< stop on ENOSPC, else report */
} TnErrorPolicy;

/** "writeback", "none", … and their spelling. */
TN_API int tn_cache_mode_parse (const char *text, TnCacheMode *mode, GError **error);
/** The open flags that a mode stands for (DIRECT, NO_FLUSH). */
TN_API uint32_t tn_cache_mode_open_flags (TnCacheMode mode);
TN_API const char *tn_cache_mode_name (TnCacheMode mode);

/**
 * Opens a drive as `-drive` describes it: `file`, `format`, `cache`, `aio`, `readonly`, `discard`
 * (ignore|unmap), `detect-zeroes`, `werror`, `rerror`, `snapshot`, plus dotted node options.
 */
TN_API int tn_drive_open (const TnOptions *options, TnDrive **drive, GError **error);
/** A drive on an open node, of which it takes a reference of its own. */
TN_API TnDrive *tn_drive_new (TnNode *root, TnCacheMode cache, bool writable);
/** Waits for its requests, flushes and frees it. */
TN_API void tn_drive_free (TnDrive *drive);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnDrive, tn_drive_free)

TN_API TnNode *tn_drive_node (TnDrive *drive);
TN_API uint64_t tn_drive_size (TnDrive *drive);
TN_API bool tn_drive_is_read_only (TnDrive *drive);
TN_API void tn_drive_limits (TnDrive *drive, TnLimits *limits);
/** Whether discard and write-zeroes reach the storage. */
TN_API bool tn_drive_can_discard (TnDrive *drive);

/** Starts a guest request; see TnRequest.  Out-of-range requests end with -EINVAL, writes to a read-only
 * drive with -EROFS (checked here, so that no device need).  Any thread with a loop; never waits. */
TN_API void tn_drive_submit (TnDrive *drive, TnRequest *request);

/** The guest's view of the write cache: off means that every write is stable when it completes.  When it is
 * switched off, what was written before is flushed, by the loop of the thread that made the drive, and writes
 * that come meanwhile wait for that.  Any thread. */
TN_API bool tn_drive_write_cache (TnDrive *drive);
TN_API void tn_drive_set_write_cache (TnDrive *drive, bool enabled);
/** The mode that comes closest to how the drive is used now. */
TN_API TnCacheMode tn_drive_cache_mode (TnDrive *drive);
/** Moves to another mode while requests go on, and flushes.  May wait.  Sets the guest's view of the write
 * cache, too.  When only the flush failed, the drive is in the new mode, and what had not been flushed may be
 * lost. */
TN_API int tn_drive_set_cache_mode (TnDrive *drive, TnCacheMode mode, GError **error);
/** The same for several things at once that `-drive` says: `cache`, `aio`, and runtime options of nodes
 * (`file.KEY`). May wait. */
TN_API int tn_drive_reopen (TnDrive *drive, const TnOptions *options, GError **error);

/** Called (in the thread that resized) after the size has changed; NULL to stop. */
TN_API void tn_drive_on_resize (TnDrive *drive, void (*resized) (void *opaque), void *opaque);
/** Changes the size of the node and tells the device.  May wait. */
TN_API int tn_drive_resize (TnDrive *drive, uint64_t size, GError **error);
/** Waits until none of its requests is under way.  May wait. */
TN_API void tn_drive_drain (TnDrive *drive);
TN_API int tn_drive_flush (TnDrive *drive, GError **error);

/** What happens to requests that fail; new drives report, except that `-drive` has its own default for writes
 *  (stop on ENOSPC). */
TN_API void tn_drive_set_error_policy (TnDrive *drive, TnErrorPolicy on_read, TnErrorPolicy on_write);
/** Calls @stopped, in the thread that submitted, when a policy says stop: the request is kept until
 * tn_drive_retry(). Without such a function (the default) errors are reported. */
TN_API void tn_drive_on_stop (TnDrive *drive, void (*stopped) (bool is_read, int errnum, void *opaque),
                              void *opaque);
/** Submits what was kept again, each request in its own thread.  Any thread with a loop. */
TN_API void tn_drive_retry (TnDrive *drive);

typedef struct TnDriveStats {
  uint32_t size; /**< set by the caller to sizeof (TnDriveStats) */
  uint32_t in_flight;
  uint64_t read_requests, write_requests, flush_requests, discard_requests;
  uint64_t read_bytes, write_bytes;
  uint64_t read_ns, write_ns, flush_ns; /**< sums of the times from submit to done */
  uint64_t read_errors, write_errors, flush_errors;
} TnDriveStats;
TN_API void tn_drive_stats (TnDrive *drive, TnDriveStats *stats);

#endif
