/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protocols and a format for tests of the block layer. */
#ifndef BLOCK_FIXTURE_H
#define BLOCK_FIXTURE_H

#include <pthread.h>

#include <tenon/drive.h>
#include <tenon/format.h>
#include <tenon/meta.h>
#include <tenon/protocol.h>

/* A disk in memory, opened by protocol "mem" (asynchronous) or "memblock" (blocking) with its name as
 * filename. */
#define MEM_OP_RESIZE 0x80 /* beside TnRequestOp: the disk's length became MemOp.length */
typedef struct MemOp {
  uint8_t op;
  int result;
  uint64_t offset, length;
  uint8_t *bytes; /* of a write */
  uint64_t turn;  /* place among the operations of all disks */
  uint64_t begun; /* of a flush: the last operation that had ended when it was asked for */
} MemOp;

typedef struct MemDisk {
  char *name;
  pthread_mutex_t lock; /* known to ThreadSanitizer, unlike GLib's */
  uint8_t *bytes;
  uint64_t size, capacity;
  bool exists;
  /* How it behaves. */
  uint32_t alignment; /* requests that are not aligned abort the test */
  uint64_t max_transfer;
  unsigned defer;       /* completes after so many turns of the loop; 0: at once */
  unsigned flush_turns; /* a flush completes after so many turns instead */
  int (*fault) (struct MemDisk *disk, const TnRequest *request); /* non-zero: the result instead */
  void *fault_opaque;
  bool fixed;      /* writes beyond the end are cut off */
  bool punches;    /* what is discarded reads as zeroes */
  unsigned shares; /* lets others' bytes be shared, but for each call with this number; 0: never */
  unsigned shared_calls;
  bool log;
  GArray *ops; /* MemOp, in order of completion */
  unsigned submitted, flushes, opens;
  uint32_t permissions, shared;
} MemDisk;

MemDisk *mem_disk (const char *name, uint64_t size);
MemDisk *mem_disk_find (const char *name);
/* The disks whose names begin with @prefix, in the order of their names; free it with g_ptr_array_unref(). */
GPtrArray *mem_disks_named (const char *prefix);
/* Frees all disks. */
void mem_disks_free (void);
void mem_disk_clear_log (MemDisk *disk);

/* Options from "a=b,c=d". */
TnOptions *options_of (const char *text);
/* Opens by option text; aborts the test on failure. */
TnNode *open_node_text (const char *text, uint32_t flags);
/* Makes an image of format "toy" on the disk @name. */
void make_toy (const char *name, uint64_t size, uint32_t unit, const char *backing);

/* The toy format: a header, a table of units behind it, data units appended. */
#define TOY_UNIT 4096
extern unsigned toy_maps_waited; /* times that NOWAIT was refused */

#endif
