/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A drive's insides, for drive.c and drive-open.c. */
#ifndef TN_BLOCK_DRIVE_PRIVATE_H
#define TN_BLOCK_DRIVE_PRIVATE_H

#include "block/internal.h"

typedef struct TnDriveCounters {
  uint64_t requests[6], bytes[6], ns[6], errors[6]; /* by TnRequestOp */
} TnDriveCounters;

struct TnDrive {
  TnNode *root;
  bool writable;
  uint8_t write_cache;       /* atomic */
  uint8_t on_read, on_write; /* TnErrorPolicy */
  uint8_t ignores_flush;     /* atomic */
  TnLoop *loop;              /* of the thread that made it */
  TnUnderway underway;
  TnDriveCounters counters;

  void (*stopped) (bool is_read, int errnum, void *opaque);
  void *stopped_opaque;
  TnSpin kept_spin;
  GSList *kept; /* Kept *, latest first */
  TnSpin settle_spin;
  unsigned settling;    /* atomic: how many flushes make good what was written with a write cache */
  GSList *settle_later; /* Kept *, latest first: what came meanwhile */

  void (*resized) (void *opaque);
  void *resized_opaque;
};

/* A request that goes on later, in its own thread. */
typedef struct TnDriveKept {
  TnRequest *request;
  TnDrive *drive;
  TnLoop *loop;
} TnDriveKept;

/* drive.c */
TnDriveKept *tn_drive_kept_new (TnDrive *drive, TnRequest *request);
/* Submits each of @kept (TnDriveKept *) and frees the list. */
void tn_drive_go_on (GSList *kept);

/* drive-cache.c */
void tn_drive_adopt_mode (TnDrive *drive, TnCacheMode mode);
/* Keeps @request while what a write cache held is being made good; false: nothing is. */
bool tn_drive_settle_first (TnDrive *drive, TnRequest *request);

static inline bool
tn_drive_ignores_flush (TnDrive *drive)
{
  return __atomic_load_n (&drive->ignores_flush, __ATOMIC_RELAXED);
}

#endif
