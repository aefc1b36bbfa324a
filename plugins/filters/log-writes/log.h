/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log that the device-mapper target log-writes defines: a super block, then entries of one block, each
 * with its data behind it.
 */
#ifndef TENON_LOG_WRITES_H
#define TENON_LOG_WRITES_H

#include <tenon/node.h>

#define LOG_FLUSH UINT64_C (1)
#define LOG_FUA UINT64_C (2)
#define LOG_DISCARD UINT64_C (4)

#define LOG_BLOCK_MAX (8u << 20)

typedef struct Log {
  TnNode *node;
  uint32_t block;           /* bytes in a sector of the log */
  uint64_t next;            /* block of the next entry */
  uint64_t n_entries;       /* written */
  uint64_t in_super;        /* as many as the super block tells of */
  uint64_t update_interval; /* entries between two writes of the super block */
  TnCoMutex lock;           /* entries are written one by one */
} Log;

/* A new log, or the end of the one that is there. */
int log_start (Log *log, GError **error);
int log_resume (Log *log, GError **error);
/* In a coroutine.  @n_iov 0: nothing, or zeroes, as many as @data_length. */
int log_append (Log *log, uint64_t flags, uint64_t offset, uint64_t length, const struct iovec *iov,
                unsigned n_iov, uint64_t data_length);
/* In a coroutine: everything appended is on stable storage. */
int log_flush (Log *log, GError **error);

#endif
