/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What copying is made of: the cursor (copy-cursor.c) and the workers (copy.c). */
#ifndef TENON_CORE_BLOCK_COPY_PRIVATE_H
#define TENON_CORE_BLOCK_COPY_PRIVATE_H

#include <tenon/copy.h>
#include <tenon/loop.h>

#define COPY_SECTOR 512          /* what salvaging tries to read at a time */
#define COPY_ZEROES (256u << 20) /* bytes of zeroes written at a time */
#define COPY_SHARED (64u << 20)  /* bytes shared at a time */

typedef enum CopyKind {
  COPY_SKIP, /* nothing to do: the base has it */
  COPY_ZERO,
  COPY_DATA
} CopyKind;

/* Offsets are the target's. */
typedef struct CopyPiece {
  uint64_t offset, length;
  uint64_t ticket; /* whose turn it is to write */
  CopyKind kind;
} CopyPiece;

typedef struct CopyJob CopyJob;

typedef struct CopyWorker {
  CopyJob *job;
  unsigned char *buffer; /* while it copies data */
  unsigned pieces;
  CopyPiece piece;
  TnCoroutine *waiting; /* for its turn to write */
  TnCoroutine *shower;  /* waits for its turn to show the contents */
  TnRequest request;
  struct iovec iov;
  TnCoroutine *self; /* waits for its write */
  bool written;
  int result;
} CopyWorker;

struct CopyJob {
  TnCopy copy;
  uint64_t total; /* bytes to copy */
  uint64_t unit;  /* pieces and zero runs begin and end at multiples of it */
  uint64_t chunk;
  CopyWorker *workers;
  unsigned n_workers, running;
  unsigned char *arena;
  size_t arena_size;
  unsigned char **free_buffers; /* a stack; of the first n_unfilled no memory has been made yet */
  unsigned n_free, n_unfilled;
  TnCoroutine *owner;
  bool owner_waits;

  /* The cursor; held while the status of the sources is asked for, which may wait. */
  TnCoMutex cursor;
  uint64_t position;   /* next byte not handed out */
  uint64_t status_end; /* up to where status_kind is known, from the last place asked for */
  CopyKind status_kind;
  uint64_t next_ticket;

  /* Checkpoints; by the holder of the cursor, too. */
  uint64_t unsafe;        /* bytes handed out since the last one */
  unsigned active;        /* pieces under way */
  TnCoroutine *quiescing; /* waits for them */

  uint64_t turn;
  uint64_t shown; /* bytes that copy.content() was told of */
  uint64_t done;
  int64_t next_start_ns; /* rate limit */
  bool no_range;         /* the kernel could not copy once */
  bool no_share;         /* the file system could not share once */
  int result;
  GError *error;
};

/* The first failure is the one reported; takes @error. */
void copy_fail (CopyJob *job, int result, GError *error);
void copy_advance (CopyJob *job, uint64_t bytes);
/* Reads the sources at @offset of the target. */
int copy_read (CopyJob *job, uint64_t offset, unsigned char *buffer, uint64_t length, GError **error);
/* Which source holds byte @offset of the target, and where.  There is always one below job->total. */
TnNode *copy_locate (const CopyJob *job, uint64_t offset, uint64_t *source_offset, uint64_t *left);
/* Takes the next piece: 1, 0 at the end, or -errno.  The cursor is held. */
int copy_next_locked (CopyJob *job, CopyPiece *piece, GError **error);

#endif
