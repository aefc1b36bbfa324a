/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal of an in-place change: what its writer and its reader share. */
#ifndef TN_BLOCK_INPLACE_H
#define TN_BLOCK_INPLACE_H

#include <tenon/error.h>
#include <tenon/inplace.h>

#define INPLACE_MAGIC "tenon in-place 1"
#define INPLACE_DIGEST 32u /* SHA-256 */
#define INPLACE_TRAILER 128u
#define INPLACE_MAX_RANGES (16u << 20)

/*
 * The last bytes of the journal, numbers little-endian: magic (16), old size, new size, offset of the table,
 * its number of ranges (8 each), digest of samples from what is kept (32), digest of the table and of what
 * stands before in the trailer (32), zeroes.  The table has offset and length (8 each) of every range that is
 * kept.
 */
typedef struct InplaceJournal {
  uint64_t old_size, new_size, table;
  TnRange *keep;
  size_t n_keep;
  uint8_t samples[INPLACE_DIGEST];
} InplaceJournal;

/* inplace-journal.c */
int inplace_journal_write (int fd, const char *name, const InplaceJournal *journal, GError **error);
int inplace_journal_read (int fd, const char *name, InplaceJournal *journal, GError **error);
void inplace_journal_clear (InplaceJournal *journal);
/* A digest of some of what is kept in the file @fd: it does not change while the journal is carried out. */
int inplace_sample (int fd, const char *name, const InplaceJournal *journal, uint8_t digest[INPLACE_DIGEST],
                    GError **error);
/* Calls @visit for the runs of the new contents that are not kept: of the journal @fd's data, or its holes.
 */
int inplace_foreach (int fd, const char *name, const InplaceJournal *journal,
                     int (*visit) (uint64_t offset, uint64_t length, bool data, void *opaque, GError **error),
                     void *opaque, GError **error);

#endif
