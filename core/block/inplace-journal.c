/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal of an in-place change on disk. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SEEK_DATA */
#endif
#include "block/inplace.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fd.h"

#define SAMPLES 64u
#define SAMPLE_BYTES 512u
#define TABLE_CHUNK 4096u                      /* ranges */
#define SEALED (16u + 4 * 8u + INPLACE_DIGEST) /* bytes of the trailer that its digest covers */

static int
read_all (int fd, const char *name, void *bytes, size_t length, uint64_t offset, GError **error)
{
  const ssize_t n = tn_fd_pread (fd, bytes, length, offset);
  if (n == (ssize_t) length)
    return 0;
  return tn_fail_errno (error, TN_BLOCK_ERROR, n < 0 ? (int) -n : EIO, "%s: could not be read", name);
}

static int
write_all (int fd, const char *name, const void *bytes, size_t length, uint64_t offset, GError **error)
{
  const int ret = tn_fd_pwrite (fd, bytes, length, offset);
  return ret == 0 ? 0 : tn_fail_errno (error, TN_BLOCK_ERROR, -ret, "%s: could not be written", name);
}

static void
digest_end (GChecksum *checksum, uint8_t digest[INPLACE_DIGEST])
{
  gsize length = INPLACE_DIGEST;
  g_checksum_get_digest (checksum, digest, &length);
}

/* ---- Writing ---- */

int
inplace_journal_write (int fd, const char *name, const InplaceJournal *journal, GError **error)
{
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree TnRange *chunk = g_new (TnRange, TABLE_CHUNK);
  uint8_t trailer[INPLACE_TRAILER] = INPLACE_MAGIC;
  uint64_t at = journal->table;
  for (size_t i = 0; i < journal->n_keep;) {
    const size_t n = MIN (journal->n_keep - i, TABLE_CHUNK);
    for (size_t j = 0; j < n; j++)
      chunk[j] = (TnRange){ GUINT64_TO_LE (journal->keep[i + j].offset),
                            GUINT64_TO_LE (journal->keep[i + j].length) };
    const int ret = write_all (fd, name, chunk, n * sizeof *chunk, at, error);
    if (ret < 0)
      return ret;
    g_checksum_update (checksum, (const guchar *) chunk, (gssize) (n * sizeof *chunk));
    at += n * sizeof *chunk;
    i += n;
  }
  tn_store_le64 (trailer + 16, journal->old_size);
  tn_store_le64 (trailer + 24, journal->new_size);
  tn_store_le64 (trailer + 32, journal->table);
  tn_store_le64 (trailer + 40, journal->n_keep);
  memcpy (trailer + 48, journal->samples, INPLACE_DIGEST);
  g_checksum_update (checksum, trailer, SEALED);
  digest_end (checksum, trailer + SEALED);
  return write_all (fd, name, trailer, sizeof trailer, at, error);
}

/* ---- Reading ---- */

static int
damaged (const char *name, GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EINVAL,
      "%s: is damaged, or no journal of an in-place conversion; remove it if the image beside it is "
      "whole",
      name);
}

static int
check_ranges (const InplaceJournal *journal, const char *name, GError **error)
{
  uint64_t end = 0;
  for (size_t i = 0; i < journal->n_keep; i++) {
    const TnRange *range = &journal->keep[i];
    if (range->length == 0 || range->offset < end || range->offset > journal->new_size
        || range->length > journal->new_size - range->offset)
      return damaged (name, error);
    end = range->offset + range->length;
  }
  return 0;
}

static int
read_table (int fd, const char *name, InplaceJournal *journal, const uint8_t *trailer, GError **error)
{
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  uint8_t digest[INPLACE_DIGEST];
  const size_t bytes = journal->n_keep * sizeof *journal->keep;
  journal->keep = g_try_malloc (MAX (bytes, 1));
  if (journal->keep == NULL)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "%s: no memory for its table", name);
  const int ret = read_all (fd, name, journal->keep, bytes, journal->table, error);
  if (ret < 0)
    return ret;
  g_checksum_update (checksum, (const guchar *) journal->keep, (gssize) bytes);
  g_checksum_update (checksum, trailer, SEALED);
  digest_end (checksum, digest);
  if (memcmp (digest, trailer + SEALED, sizeof digest) != 0)
    return damaged (name, error);
  for (size_t i = 0; i < journal->n_keep; i++) {
    journal->keep[i].offset = GUINT64_FROM_LE (journal->keep[i].offset);
    journal->keep[i].length = GUINT64_FROM_LE (journal->keep[i].length);
  }
  return check_ranges (journal, name, error);
}

int
inplace_journal_read (int fd, const char *name, InplaceJournal *journal, GError **error)
{
  uint8_t trailer[INPLACE_TRAILER];
  struct stat st;
  *journal = (InplaceJournal){ 0 };
  if (fstat (fd, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s", name);
  if ((uint64_t) st.st_size < sizeof trailer)
    return damaged (name, error);
  const uint64_t end = (uint64_t) st.st_size - sizeof trailer;
  int ret = read_all (fd, name, trailer, sizeof trailer, end, error);
  if (ret < 0)
    return ret;
  journal->old_size = tn_load_le64 (trailer + 16);
  journal->new_size = tn_load_le64 (trailer + 24);
  journal->table = tn_load_le64 (trailer + 32);
  const uint64_t n = tn_load_le64 (trailer + 40);
  if (memcmp (trailer, INPLACE_MAGIC, 16) != 0 || n > INPLACE_MAX_RANGES || journal->table > end
      || n * sizeof *journal->keep != end - journal->table || journal->new_size > journal->table
      || journal->old_size > INT64_MAX)
    return damaged (name, error);
  journal->n_keep = n;
  memcpy (journal->samples, trailer + 48, sizeof journal->samples);
  ret = read_table (fd, name, journal, trailer, error);
  if (ret < 0)
    inplace_journal_clear (journal);
  return ret;
}

void
inplace_journal_clear (InplaceJournal *journal)
{
  g_clear_pointer (&journal->keep, g_free);
}

/* ---- What is kept, what is replaced ---- */

int
inplace_sample (int fd, const char *name, const InplaceJournal *journal, uint8_t digest[INPLACE_DIGEST],
                GError **error)
{
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  uint8_t bytes[SAMPLE_BYTES];
  const size_t step = journal->n_keep / SAMPLES + 1;
  for (size_t i = 0; i < journal->n_keep; i += step) {
    const TnRange *range = &journal->keep[i];
    const size_t length = MIN (range->length, sizeof bytes);
    /* A range that covers most of the file is looked at in several places. */
    const uint64_t places = journal->n_keep < SAMPLES ? SAMPLES / journal->n_keep : 1;
    for (uint64_t j = 0; j < places; j++) {
      const uint64_t skip = (range->length - length) / places * j;
      const int ret = read_all (fd, name, bytes, length, range->offset + skip, error);
      if (ret < 0)
        return ret;
      g_checksum_update (checksum, bytes, (gssize) length);
    }
  }
  digest_end (checksum, digest);
  return 0;
}

/* Where the run of data or hole at @at ends, at @end the latest. */
static uint64_t
run_end (int fd, uint64_t at, uint64_t end, bool *data)
{
  const off_t next = lseek (fd, (off_t) at, SEEK_DATA);
  if (next < 0) {
    *data = errno != ENXIO; /* ENXIO: a hole up to the end; else the file system does not tell */
    return end;
  }
  *data = (uint64_t) next == at;
  if (!*data)
    return MIN ((uint64_t) next, end);
  const off_t hole = lseek (fd, (off_t) at, SEEK_HOLE);
  return hole < 0 || (uint64_t) hole <= at ? end : MIN ((uint64_t) hole, end);
}

int
inplace_foreach (int fd, const char *name, const InplaceJournal *journal,
                 int (*visit) (uint64_t offset, uint64_t length, bool data, void *opaque, GError **error),
                 void *opaque, GError **error)
{
  uint64_t at = 0;
  for (size_t i = 0; i <= journal->n_keep; i++) {
    const uint64_t end = i < journal->n_keep ? journal->keep[i].offset : journal->new_size;
    while (at < end) {
      bool data;
      const uint64_t next = run_end (fd, at, end, &data);
      const int ret = visit (at, next - at, data, opaque, error);
      if (ret < 0)
        return ret;
      at = next;
    }
    if (i < journal->n_keep)
      at = end + journal->keep[i].length;
  }
  return 0;
}
