/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that another process can take away: touching a page behind the end of a file raises SIGBUS.  The
 * handler puts zeroed memory in place of the whole mapping and lets the access go on.  Such a mapping's
 * owner has only hurt itself.
 *
 * What a signal handler looks at is the process's and needs no lock: a table that is written before a mapping
 * is used and cleared before it goes.
 */
#include "memory/shared.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_MAPPINGS 1024

typedef struct Mapping {
  uintptr_t start; /* atomic; 0: free */
  size_t length;
} Mapping;

static GMutex table_lock;
static Mapping table[MOST_MAPPINGS];
static bool guarding;
static struct sigaction before;

static Mapping *
find_mapping (uintptr_t address)
{
  for (unsigned i = 0; i < MOST_MAPPINGS; i++) {
    const uintptr_t start = __atomic_load_n (&table[i].start, __ATOMIC_ACQUIRE);
    if (start != 0 && address >= start && address - start < table[i].length)
      return &table[i];
  }
  return NULL;
}

/* Whoever handled the signal before decides on what is not ours; the access is tried again then. */
static void
not_ours (int number, siginfo_t *info, void *context)
{
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != NULL)
    before.sa_sigaction (number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler (number);
  else
    signal (number, SIG_DFL);
}

static void
bus_error (int number, siginfo_t *info, void *context)
{
  const int saved = errno;
  const Mapping *mapping = info->si_code > 0 ? find_mapping ((uintptr_t) info->si_addr) : NULL;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mapping == NULL
      || mmap ((void *) mapping->start, mapping->length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
    not_ours (number, info, context);
  errno = saved;
}

/* Puts a mapping into the table; false when that is full.  With the lock. */
static bool
note_mapping (const uint8_t *host, size_t length)
{
  for (unsigned i = 0; i < MOST_MAPPINGS; i++)
    if (table[i].start == 0) {
      table[i].length = length;
      __atomic_store_n (&table[i].start, (uintptr_t) host, __ATOMIC_RELEASE);
      return true;
    }
  return false;
}

static void
forget_mapping (const uint8_t *host)
{
  g_mutex_lock (&table_lock);
  for (unsigned i = 0; i < MOST_MAPPINGS; i++)
    if (table[i].start == (uintptr_t) host)
      __atomic_store_n (&table[i].start, 0, __ATOMIC_RELEASE);
  g_mutex_unlock (&table_lock);
}

static int
guard (const char *name, const uint8_t *host, size_t length, GError **error)
{
  struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER };
  bool noted;
  g_mutex_lock (&table_lock);
  sigemptyset (&action.sa_mask);
  guarding = guarding || sigaction (SIGBUS, &action, &before) == 0;
  noted = guarding && note_mapping (host, length);
  g_mutex_unlock (&table_lock);
  return noted ? 0
               : tn_fail (error, TN_MACHINE_ERROR, ENOSPC,
                          "memory '%s': there are %d shared regions already, which is the most", name,
                          MOST_MAPPINGS);
}

static int
check_file (const char *name, int fd, uint64_t offset, uint64_t size, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "memory '%s': cannot look at its file", name);
  if (!S_ISREG (st.st_mode))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "memory '%s' is not in a file or a memfd", name);
  if (offset > (uint64_t) st.st_size || size > (uint64_t) st.st_size - offset)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "memory '%s': %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                    " are not within its file of %" G_GUINT64_FORMAT,
                    name, size, offset, (uint64_t) st.st_size);
  return 0;
}

int
tn_shared_map (const char *name, int fd, uint64_t offset, uint64_t size, uint8_t **host, GError **error)
{
  int r = check_file (name, fd, offset, size, error);
  if (r < 0)
    return r;
  void *at = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t) offset);
  if (at == MAP_FAILED)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "memory '%s': cannot map %" G_GUINT64_FORMAT " MiB",
                          name, size >> 20);
  r = guard (name, at, size, error);
  if (r < 0) {
    munmap (at, size);
    return r;
  }
  *host = at;
  return 0;
}

void
tn_shared_unmap (uint8_t *host, uint64_t size)
{
  forget_mapping (host);
  munmap (host, size);
}
