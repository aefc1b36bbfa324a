/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory for keys: pages of its own, locked and not dumped where the system allows it. */
#include <tenon/cipher.h>

#include <sys/mman.h>
#include <unistd.h>

#define HEAD 64 /* in front of what the caller sees: the length of the mapping; keeps it aligned */

void *
tn_secure_new (size_t length)
{
  size_t page = (size_t) sysconf (_SC_PAGESIZE);
  size_t whole = length > SIZE_MAX - HEAD - page ? 0 : (length + HEAD + page - 1) / page * page;
  char *memory =
      whole ? mmap (NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
  if (!memory || memory == MAP_FAILED)
    g_error ("no memory for %zu bytes of keys", length);
  /* Both are precautions: a process that may lock no memory works all the same. */
  (void) mlock (memory, whole);
  (void) madvise (memory, whole, MADV_DONTDUMP);
  memcpy (memory, &whole, sizeof whole);
  return memory + HEAD;
}

void
tn_secure_free (void *memory)
{
  if (!memory)
    return;
  char *start = (char *) memory - HEAD;
  size_t whole;
  memcpy (&whole, start, sizeof whole);
  explicit_bzero (start, whole);
  munmap (start, whole);
}
