/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Check and repair: what their parts share. */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "counts.h"
#include "qcow2.h"

/* An L2 table, walked once however many L1 tables refer to it. */
typedef struct Qcow2Table {
  uint64_t offset, guest; /* guest offset of its first entry, by the first reference */
  uint32_t weight;        /* references */
  bool active;            /* by the active L1 table */
} Qcow2Table;

typedef struct Qcow2Walk {
  Qcow2 *q;
  TnCheck *check;
  uint32_t fix;
  bool quiet;
  bool rebuild;   /* the refcount structures themselves are damaged */
  bool changed;   /* something was repaired */
  bool new_order; /* counts get another width: the header says so together with where they are */
  uint64_t file_size;
  uint64_t corruptions, leaks;
  uint64_t end; /* behind the highest cluster in use or counted on disk */
  Qcow2Counts counts;
  GHashTable *tables; /* offset -> Qcow2Table */
  GHashTable *blocks; /* offsets of refcount blocks */
} Qcow2Walk;

void qcow2_walk_corruption (Qcow2Walk *walk, const char *format, ...) TN_PRINTF (2, 3);
void qcow2_walk_leak (Qcow2Walk *walk, const char *format, ...) TN_PRINTF (2, 3);
/* Counts what bytes [offset, offset + length) occupy. */
int qcow2_walk_count (Qcow2Walk *walk, uint64_t offset, uint64_t length, uint32_t weight, GError **error);
/* Whether a table at @offset would lie over another one. */
bool qcow2_walk_is_metadata (Qcow2Walk *walk, uint64_t offset, uint64_t length);

/* walk-tables.c: L1 and L2 tables, snapshots */
int qcow2_walk_tables (Qcow2Walk *walk, GError **error);
/* The "copied" flags of the active tables against the counts on disk. */
int qcow2_walk_copied (Qcow2Walk *walk, GError **error);

/* repair.c */
int qcow2_walk_refcounts (Qcow2Walk *walk, GError **error);
int qcow2_walk_compare (Qcow2Walk *walk, GError **error);
int qcow2_rebuild_refcounts (Qcow2Walk *walk, GError **error);

#endif
