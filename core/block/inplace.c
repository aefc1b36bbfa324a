/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In-place changes: published by one rename, then carried out.
 *
 * Before the rename is on disk the file is untouched; from then on the journal holds everything that differs,
 * and what it keeps is never written.  Carrying it out may therefore be cut short anywhere and begun anew.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate() */
#endif
#include "block/inplace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fd.h"

#define CHUNK (1u << 20)

typedef struct Change {
  const char *path, *name; /* of the file and of its journal */
  int fd, journal_fd;
  InplaceJournal journal;
  uint8_t *buffer;
} Change;

static int
fail_errno (const char *name, const char *what, GError **error)
{
  return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s: %s", name, what);
}

static int
sync_folder_of (const char *path, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path);
  const int fd = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return fail_errno (folder, "could not be opened", error);
  const int ret = fsync (fd) < 0 && errno != EINVAL ? fail_errno (folder, "could not be synced", error) : 0;
  close (fd);
  return ret;
}

static void
change_clear (Change *change)
{
  inplace_journal_clear (&change->journal);
  g_free (change->buffer);
  if (change->fd >= 0)
    close (change->fd);
  if (change->journal_fd >= 0)
    close (change->journal_fd);
}

/* ---- Publishing ---- */

/* Space for data, so that it cannot run out half-way.  What the file reads as stays the same. */
static int
take_room (uint64_t offset, uint64_t length, bool data, void *opaque, GError **error)
{
  const Change *change = opaque;
  if (!data || fallocate (change->fd, FALLOC_FL_KEEP_SIZE, (off_t) offset, (off_t) length) == 0)
    return 0;
  if (errno == EOPNOTSUPP || errno == ENOSYS)
    return 0;
  return fail_errno (change->path, "no room for what its new format needs", error);
}

static int
seal_shadow (Change *change, uint64_t new_size, const TnRange *keep, size_t n_keep, GError **error)
{
  struct stat st;
  if (fstat (change->fd, &st) < 0)
    return fail_errno (change->path, "could not be looked at", error);
  change->journal = (InplaceJournal){
    .old_size = (uint64_t) st.st_size,
    .new_size = new_size,
    .table = (new_size + 4095) & ~(uint64_t) 4095,
    .keep = g_memdup2 (keep, n_keep * sizeof *keep),
    .n_keep = n_keep,
  };
  int ret = inplace_sample (change->fd, change->path, &change->journal, change->journal.samples, error);
  if (ret < 0)
    return ret;
  ret = inplace_foreach (change->journal_fd, change->name, &change->journal, take_room, change, error);
  if (ret < 0) {
    (void) !ftruncate (change->fd, st.st_size); /* gives back what was taken beyond the end */
    return ret;
  }
  if (ftruncate (change->journal_fd, (off_t) change->journal.table) < 0)
    return fail_errno (change->name, "could not be resized", error);
  ret = inplace_journal_write (change->journal_fd, change->name, &change->journal, error);
  if (ret == 0 && fsync (change->journal_fd) < 0)
    ret = fail_errno (change->name, "could not be synced", error);
  return ret;
}

int
tn_inplace_publish (const char *path, const char *shadow, uint64_t new_size, const TnRange *keep,
                    size_t n_keep, GError **error)
{
  if (n_keep > INPLACE_MAX_RANGES)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "%s: is in more than %u pieces; copy it with tenon-img convert", path,
                    INPLACE_MAX_RANGES);
  g_autofree char *real = realpath (path, NULL);
  if (real == NULL)
    return fail_errno (path, "could not be found", error);
  g_autofree char *name = g_strconcat (real, TN_INPLACE_SUFFIX, NULL);
  Change change = { .path = path, .name = shadow, .fd = -1, .journal_fd = -1 };
  change.fd = open (real, O_RDWR | O_CLOEXEC);
  change.journal_fd = open (shadow, O_RDWR | O_CLOEXEC);
  int ret = change.fd < 0           ? fail_errno (path, "could not be opened", error)
            : change.journal_fd < 0 ? fail_errno (shadow, "could not be opened", error)
                                    : seal_shadow (&change, new_size, keep, n_keep, error);
  if (ret == 0 && rename (shadow, name) < 0)
    ret = fail_errno (name, "could not be made", error);
  if (ret == 0)
    ret = sync_folder_of (real, error);
  change_clear (&change);
  return ret;
}

/* ---- Carrying out ---- */

static int
copy_run (Change *change, uint64_t offset, uint64_t length, GError **error)
{
  while (length) {
    const size_t part = MIN (length, CHUNK);
    const ssize_t n = tn_fd_pread (change->journal_fd, change->buffer, part, offset);
    if (n < (ssize_t) part)
      return tn_fail_errno (error, TN_BLOCK_ERROR, n < 0 ? (int) -n : EIO, "%s: could not be read",
                            change->name);
    const int ret = tn_fd_pwrite (change->fd, change->buffer, part, offset);
    if (ret < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, -ret, "%s: could not be written", change->path);
    offset += part;
    length -= part;
  }
  return 0;
}

static int
write_zeroes (Change *change, uint64_t offset, uint64_t length, GError **error)
{
  static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE };
  for (unsigned i = 0; i < G_N_ELEMENTS (modes); i++)
    if (fallocate (change->fd, modes[i], (off_t) offset, (off_t) length) == 0)
      return 0;
  return copy_run (change, offset, length, error); /* the journal's hole reads as zeroes */
}

static int
apply_run (uint64_t offset, uint64_t length, bool data, void *opaque, GError **error)
{
  Change *change = opaque;
  return data ? copy_run (change, offset, length, error) : write_zeroes (change, offset, length, error);
}

static int
check_belongs (const Change *change, const struct stat *file, const struct stat *journal, GError **error)
{
  const InplaceJournal *j = &change->journal;
  const uint64_t size = (uint64_t) file->st_size;
  uint8_t samples[INPLACE_DIGEST];
  /* Writes may reach the disk in another order than changes of the size. */
  bool fits = size >= MIN (j->old_size, j->new_size) && size <= MAX (j->old_size, j->new_size)
              && file->st_uid == journal->st_uid;
  if (fits) {
    const int ret = inplace_sample (change->fd, change->path, j, samples, error);
    if (ret < 0)
      return ret;
    fits = memcmp (samples, j->samples, sizeof samples) == 0;
  }
  if (fits)
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, ESTALE,
      "%s: is not the file that '%s' is the conversion of; if it was replaced since, remove the latter",
      change->path, change->name);
}

static int
apply (Change *change, GError **error)
{
  const uint64_t size = change->journal.new_size;
  struct stat file, journal;
  if (fstat (change->fd, &file) < 0 || fstat (change->journal_fd, &journal) < 0)
    return fail_errno (change->path, "could not be looked at", error);
  int ret = check_belongs (change, &file, &journal, error);
  if (ret < 0)
    return ret;
  change->buffer = g_malloc (CHUNK);
  if ((uint64_t) file.st_size < size && ftruncate (change->fd, (off_t) size) < 0)
    return fail_errno (change->path, "could not grow", error);
  ret = inplace_foreach (change->journal_fd, change->name, &change->journal, apply_run, change, error);
  if (ret < 0)
    return ret;
  /* Also gives back what was set aside beyond the end. */
  if (ftruncate (change->fd, (off_t) size) < 0)
    return fail_errno (change->path, "could not be cut", error);
  return fsync (change->fd) < 0 ? fail_errno (change->path, "could not be synced", error) : 0;
}

/* Two programs may find the journal at a time; the second one finds it carried out. */
static int
finish_locked (Change *change, GError **error)
{
  struct stat st;
  if (flock (change->journal_fd, LOCK_EX) < 0 || fstat (change->journal_fd, &st) < 0)
    return fail_errno (change->name, "could not be locked", error);
  if (st.st_nlink == 0)
    return 0;
  int ret = inplace_journal_read (change->journal_fd, change->name, &change->journal, error);
  if (ret == 0)
    ret = apply (change, error);
  if (ret == 0 && unlink (change->name) < 0)
    ret = fail_errno (change->name, "could not be removed", error);
  if (ret == 0)
    ret = sync_folder_of (change->name, error);
  if (ret < 0)
    return ret;
  /* Where the journal was made, when that could not be removed in time. */
  g_autofree char *folder = g_strconcat (change->name, TN_INPLACE_SHADOW_SUFFIX, NULL);
  (void) rmdir (folder);
  return 1;
}

bool
tn_inplace_pending (const char *path)
{
  char link[1];
  /* Links to folders lead to the journal as they lead to the file: looking up every one is for links to
   * files. */
  const bool is_link = readlink (path, link, sizeof link) >= 0;
  g_autofree char *real = is_link ? realpath (path, NULL) : NULL; /* from malloc(), as GLib's memory is */
  g_autofree char *name = g_strconcat (real ? real : path, TN_INPLACE_SUFFIX, NULL);
  return access (name, F_OK) == 0;
}

int
tn_inplace_finish (const char *path, bool write, GError **error)
{
  /* realpath() comes from malloc(), as GLib's memory does. */
  g_autofree char *real = realpath (path, NULL);
  if (real == NULL)
    return 0; /* whoever opens it will say so */
  g_autofree char *name = g_strconcat (real, TN_INPLACE_SUFFIX, NULL);
  if (access (name, F_OK) < 0)
    return 0;
  if (!write)
    return tn_fail (error, TN_BLOCK_ERROR, EBUSY,
                    "%s: its conversion was interrupted; finish it with: tenon-img convert --in-place '%s'",
                    path, path);
  Change change = { .path = path, .name = name, .fd = -1, .journal_fd = -1 };
  change.journal_fd = open (name, O_RDWR | O_CLOEXEC);
  if (change.journal_fd < 0)
    return errno == ENOENT ? 0 : fail_errno (name, "could not be opened", error);
  change.fd = open (real, O_RDWR | O_CLOEXEC);
  const int ret =
      change.fd < 0 ? fail_errno (path, "could not be opened", error) : finish_locked (&change, error);
  change_clear (&change);
  return ret;
}
