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
  bool ignores_flush;
  TnUnderway underway;
  TnDriveCounters counters;

  void (*stopped) (bool is_read, int errnum, void *opaque);
  void *stopped_opaque;
  TnSpin kept_spin;
  GSList *kept; /* Kept *, latest first */

  void (*resized) (void *opaque);
  void *resized_opaque;
};

#endif
