/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image locks.  QEMU's convention, so that its programs and ours keep off each other's images: a process that
 * does what permission bit i stands for holds a read lock on byte 100 + i, one that denies it to others holds
 * a read lock on byte 200 + i.  Whether anybody else holds a byte is asked by testing for a write lock.  The
 * locks belong to the open file description (OFD), so they survive fork() and do not go when another
 * descriptor of the file is closed.
 */
#include "file.h"

#include <fcntl.h>
#include <unistd.h>

#define FILE_LOCK_PERMISSIONS 100
#define FILE_LOCK_UNSHARED 200
#define FILE_LOCK_BITS 4

/* How long the locks of a process that is gone may be in the way: until the kernel has cancelled its
 * requests. */
#define FILE_LOCK_LINGER_TRIES 20
#define FILE_LOCK_LINGER_USEC 5000

static const char *const file_permission_names[FILE_LOCK_BITS] = { "consistent read", "write",
                                                                   "write unchanged", "resize" };

/* Applies fcntl @command to each run of set bits in @mask: fewer calls than one per byte. */
static int
file_lock_runs (int fd, int command, short type, uint64_t base, uint32_t mask, struct flock *found)
{
  for (uint32_t bit = 0; bit < FILE_LOCK_BITS;) {
    uint32_t end = bit;
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

    while (end < FILE_LOCK_BITS && (mask & (1u << end)) != 0)
      end++;
    if (end == bit) {
      bit++;
      continue;
    }
    lock.l_start = (off_t) (base + bit);
    lock.l_len = (off_t) (end - bit);
    bit = end;
    if (fcntl (fd, command, &lock) < 0)
      return -errno;
    if (command != F_OFD_GETLK || lock.l_type == F_UNLCK)
      continue;
    *found = lock;
    return 1;
  }
  return 0;
}

static int
file_take (int fd, uint32_t permissions, uint32_t unshared)
{
  int r = file_lock_runs (fd, F_OFD_SETLK, F_RDLCK, FILE_LOCK_PERMISSIONS, permissions, NULL);

  return r < 0 ? r : file_lock_runs (fd, F_OFD_SETLK, F_RDLCK, FILE_LOCK_UNSHARED, unshared, NULL);
}

static int
file_give_back (int fd, uint32_t permissions, uint32_t unshared)
{
  int r = file_lock_runs (fd, F_OFD_SETLK, F_UNLCK, FILE_LOCK_PERMISSIONS, permissions, NULL);
  int r2 = file_lock_runs (fd, F_OFD_SETLK, F_UNLCK, FILE_LOCK_UNSHARED, unshared, NULL);

  return r < 0 ? r : r2;
}

/* Closing would unlock, too, but not at once: a request that is done may hold the open file for a moment
 * more, inside the kernel, and the next program to open the image would find it in use.
 */
void
file_unlock_all (int fd)
{
  struct flock lock = { .l_type = F_UNLCK,
                        .l_whence = SEEK_SET,
                        .l_start = FILE_LOCK_PERMISSIONS,
                        .l_len = FILE_LOCK_UNSHARED + FILE_LOCK_BITS - FILE_LOCK_PERMISSIONS };

  (void) fcntl (fd, F_OFD_SETLK, &lock); /* closing is what is left otherwise */
}

int
file_lock_copy (int fd, uint32_t permissions, uint32_t unshared)
{
  return file_take (fd, permissions, unshared);
}

/* The first byte of the run @found that is among the bytes of @mask: the run is another's and may be wider.
 */
static uint32_t
file_conflicting_bit (const struct flock *found, uint64_t base, uint32_t mask)
{
  for (uint32_t bit = 0; bit < FILE_LOCK_BITS; bit++) {
    off_t byte = (off_t) (base + bit);

    if ((mask & (1u << bit)) != 0 && byte >= found->l_start
        && (found->l_len == 0 || byte < found->l_start + found->l_len))
      return bit;
  }
  return 0;
}

/* A lock of somebody else's that is in the way. */
typedef struct FileConflict {
  uint32_t bit;
  bool ours_unshared; /* they do what we deny, rather than deny what we do */
  char *holder;
} FileConflict;

static int
file_fail_conflict (const FileConflict *conflict, const char *filename, GError **error)
{
  return tn_fail (
      error, TN_BLOCK_ERROR, EAGAIN,
      "Failed to get %s\"%s\" lock on '%s': it is in use by %s; end that use first, or read it as it is "
      "with -U (force-share=on)",
      conflict->ours_unshared ? "shared " : "", file_permission_names[conflict->bit], filename,
      conflict->holder != NULL ? conflict->holder : "another process");
}

/* 1 and @conflict when somebody else denies what we do, or does what we deny. */
static int
file_look_for_others (int fd, uint32_t permissions, uint32_t unshared, FileConflict *conflict)
{
  struct flock found;
  int r = file_lock_runs (fd, F_OFD_GETLK, F_WRLCK, FILE_LOCK_UNSHARED, permissions, &found);

  if (r == 1) {
    conflict->ours_unshared = false;
    conflict->bit = file_conflicting_bit (&found, FILE_LOCK_UNSHARED, permissions);
    conflict->holder = file_find_holder (fd, FILE_LOCK_UNSHARED + conflict->bit);
    return 1;
  }
  if (r == 0)
    r = file_lock_runs (fd, F_OFD_GETLK, F_WRLCK, FILE_LOCK_PERMISSIONS, unshared, &found);
  if (r == 1) {
    conflict->ours_unshared = true;
    conflict->bit = file_conflicting_bit (&found, FILE_LOCK_PERMISSIONS, unshared);
    conflict->holder = file_find_holder (fd, FILE_LOCK_PERMISSIONS + conflict->bit);
  }
  return r;
}

/* A lock that no process holds is mostly what one that has just ended leaves for a moment: while the kernel
 * cancels requests of its ring, they keep the file open.  It is worth a short wait.
 */
static int
file_check_others (int fd, const char *filename, uint32_t permissions, uint32_t unshared, GError **error)
{
  FileConflict conflict = { 0 };
  int r = file_look_for_others (fd, permissions, unshared, &conflict);

  for (int tries = 0; r == 1 && conflict.holder == NULL && tries < FILE_LOCK_LINGER_TRIES; tries++) {
    g_usleep (FILE_LOCK_LINGER_USEC);
    r = file_look_for_others (fd, permissions, unshared, &conflict);
  }
  if (r == 1)
    r = file_fail_conflict (&conflict, filename, error);
  else if (r < 0)
    tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not look for other users of '%s'", filename);
  g_free (conflict.holder);
  return r;
}

int
file_lock (int fd, const char *filename, uint32_t old_permissions, uint32_t old_unshared,
           uint32_t permissions, uint32_t unshared, GError **error)
{
  uint32_t new_permissions = permissions & ~old_permissions, new_unshared = unshared & ~old_unshared;
  int r = 0;

  if (new_permissions != 0 || new_unshared != 0) {
    r = file_take (fd, new_permissions, new_unshared);
    if (r < 0)
      tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not lock '%s' (locking=off does without)", filename);
    else
      r = file_check_others (fd, filename, permissions, unshared, error);
  }
  if (r < 0) {
    file_give_back (fd, new_permissions, new_unshared);
    return r;
  }
  r = file_give_back (fd, old_permissions & ~permissions, old_unshared & ~unshared);
  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not unlock '%s'", filename);
  return 0;
}

/* File systems that know no locks answer so, whatever is asked. */
bool
file_can_lock (int fd)
{
  struct flock lock = {
    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = FILE_LOCK_PERMISSIONS, .l_len = 1
  };

  return fcntl (fd, F_OFD_GETLK, &lock) == 0;
}

static int
file_without_locks (FileState *s, GError **error)
{
  if (s->lock_required)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "locking=on was given for '%s', but its file system has no locks: use locking=auto",
                    s->filename);
  s->locks = false;
  return 0;
}

int
file_set_permissions (TnNode *node, uint32_t permissions, uint32_t shared, GError **error)
{
  FileState *s = tn_node_state (node);
  uint32_t unshared = ~shared & FILE_LOCK_ALL;
  g_autoptr (GError) why = NULL;
  int r;

  permissions &= FILE_LOCK_ALL;
  if (!s->locks)
    return 0;
  r = file_lock (s->fd, s->filename, s->permissions, s->unshared, permissions, unshared, &why);
  if (r < 0 && s->permissions == 0 && s->unshared == 0 && !file_can_lock (s->fd))
    return file_without_locks (s, error);
  if (r < 0)
    g_propagate_error (error, g_steal_pointer (&why));
  if (r < 0)
    return r;
  s->permissions = permissions;
  s->unshared = unshared;
  return 0;
}
