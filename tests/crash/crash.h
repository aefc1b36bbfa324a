/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts and failing writes below an image format: what the parts of the harness share.
 *
 * crash-story.c   a random workload, and what a reader may find after it
 * crash-look.c    looking at an image: contents, check, repair
 * crash-log.c     the log of writes and flushes, and disks as a power cut leaves them
 * crash-cut.c     the workload cut at every point
 * crash-files.c   images of several files
 * crash-keys.c    changes of passphrases, cut and failing at every operation
 * crash-modes.c   a drive whose cache mode changes all the time, cut at every point
 * crash-fault.c   the same workload with a failure at every single operation
 * test-format-crash.c   the table of formats; how to add one
 */
#ifndef CRASH_H
#define CRASH_H

#include "block-fixture.h"

#define CRASH_SECTOR 512u

typedef enum CrashFlags {
  CRASH_PACKS = 1 << 0,         /* compressed writes */
  CRASH_BACKING = 1 << 1,       /* every other image lies over a backing file */
  CRASH_RESIZE = 1 << 2,        /* the disk grows, and keeps exactly the size asked for */
  CRASH_SHRINK = 1 << 3,        /* and shrinks */
  CRASH_DISCARD_ZERO = 1 << 4,  /* what is discarded reads as zeroes; else as before or as zeroes */
  CRASH_RECOVERS = 1 << 5,      /* after a cut it may want to be opened for writing before reading */
  CRASH_LOST_ON_SYNC = 1 << 6,  /* sectors written since the flush may hold anything (no order is kept) */
  CRASH_SNAPSHOTS = 1 << 8,     /* internal snapshots are made, applied and deleted */
  CRASH_CHECK_REPORTS = 1 << 7, /* check may find corruptions after a cut that repair then removes */
  CRASH_LEAKS_STAY = 1 << 9,    /* the format cannot record that a place between others is free */
  CRASH_NEW_IS_NOISE = 1 << 10, /* a new disk holds anything: it is written first (encryption) */
  CRASH_SEAM = 1 << 12,         /* while the size changes, the sector at the smaller end may show a footer */
  CRASH_PARENT = 1 << 11,       /* what it lies over is of the same format (with BACKING) */
  CRASH_MODES = 1 << 13,        /* cache modes are changed, too, in a run of their own */
} CrashFlags;

/* One line of the table. */
typedef struct CrashCase {
  const char *driver; /* the format's class name */
  const char *label;  /* names the case among those of one driver */
  const char *create; /* create options, "a=b,c=d" */
  const char *open;   /* more open options, or NULL */
  uint32_t flags;     /* CrashFlags */
  uint64_t size;      /* of the disk; 0: 512 KiB */
  const char *qemu;   /* its name in qemu-img when that can check it, else NULL */
  const char
      *files; /* vmdk: the files it consists of, "KIND:BYTES+…" of sparse, split-flat and flat; or NULL */
} CrashCase;

/* ---- The story: what was done, and what may be found (crash-story.c) ---- */

/* Bytes that a sector may be filled with, and sizes that the disk may have. */
typedef struct CrashState {
  uint64_t (*may)[4]; /* per sector, a set of byte values */
  GArray *sizes;      /* uint64_t */
} CrashState;

typedef struct CrashPromise {
  uint64_t turn; /* of the last operation on the disks when the flush had ended */
  guint steps;   /* done before the flush */
  CrashState state;
} CrashPromise;

typedef struct CrashStory {
  const CrashCase *kind;
  GRand *rand;
  uint64_t size, room; /* of the disk now, and of the arrays in bytes */
  uint64_t unit;       /* the format's, or 4 KiB */
  bool backing;
  CrashState now;
  GArray *steps;        /* CrashStep */
  GArray *promises;     /* CrashPromise */
  GPtrArray *snapshots; /* CrashSnapshot */
} CrashStory;

void crash_story_begin (CrashStory *story, const CrashCase *kind, uint32_t seed);
void crash_story_end (CrashStory *story);
/* Makes the image, on disk "cut" and others whose names begin so; false when that failed. */
bool crash_make_image (CrashStory *story);
TnNode *crash_open (const CrashStory *story, uint32_t flags, GError **error);
/* All that was written so far must be found from now on. */
void crash_promise (CrashStory *story);
/* Random operations, a promise after each flush.  NULL when the image could not be reopened on the way. */
TnNode *crash_run_workload (CrashStory *story, TnNode *node);
/* What may be found when the power goes after @turn; free it with crash_state_clear(). */
void crash_expect (const CrashStory *story, uint64_t turn, CrashState *state);
void crash_state_clear (CrashState *state);
uint32_t crash_pick (CrashStory *story, uint32_t n);

/* ---- Several files (crash-files.c) ---- */

/* Makes the image of @pieces on disks "cut", "cut-0", "cut-1" … */
void crash_make_files (const char *pieces, const TnOptions *options);
/* Options, beginning with a comma, that say where its extents are; g_free() it. */
char *crash_files_options (const char *pieces);

/* ---- The log (crash-log.c) ---- */

typedef struct CrashLog CrashLog;
/* What becomes of what was not flushed: all is there, or some of it, or some sectors of some of it. */
typedef enum CrashTearing { TEAR_NOTHING, TEAR_DROP, TEAR_SECTORS, CRASH_TEARINGS } CrashTearing;

/* Logs what is done to the disks whose names begin with "cut", from now on until it is stopped. */
CrashLog *crash_log_begin (void);
void crash_log_stop (CrashLog *log);
void crash_log_free (CrashLog *log);
guint crash_log_length (const CrashLog *log);
/* The turn of the @n-th operation, counted from 1; 0 for the beginning. */
uint64_t crash_log_turn (const CrashLog *log, guint n);
/* The turn of the last operation so far. */
uint64_t crash_last_turn (void);
/* Puts the disks as a cut after @turn leaves them; turns must not fall from call to call. */
void crash_log_cut (CrashLog *log, uint64_t turn, CrashTearing tearing, GRand *rand);

/* ---- Looking (crash-look.c); each ends the test with @when in front of what is wrong ---- */

/* Opens, reads, checks, repairs and reads again. */
void crash_look (CrashStory *story, const CrashState *state, bool write_first, const char *when);
/* Has qemu-img check what is on disk "cut" after the repair. */
void crash_ask_qemu (CrashStory *story, const char *when);

/* ---- Failing operations (crash-fault.c) ---- */

typedef struct CrashFault {
  unsigned countdown; /* operations that still succeed */
  int result;
  bool lasting; /* all that come after it fail, too */
  bool met;
} CrashFault;

/* For the disks whose names begin with "cut"; NULL: nothing fails any more. */
void crash_fault_set (CrashFault *fault);

/* ---- The tests ---- */
void crash_test_cuts (const CrashCase *kind, uint32_t seed);
void crash_test_faults (const CrashCase *kind, uint32_t seed);
void crash_test_modes (const CrashCase *kind, uint32_t seed);
/* Adds the tests of key slots whose names @wanted takes, "luks/keys-version1" and so on. */
void crash_add_key_tests (uint32_t first, unsigned rounds,
                          bool (*wanted) (const char *driver, const char *label));

#endif
