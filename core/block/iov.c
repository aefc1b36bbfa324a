/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts of I/O vectors, zero bytes, buffers. */
#include "block/internal.h"

#include <stdlib.h>

typedef struct Cursor {
  const struct iovec *iov;
  unsigned n;
  size_t within;
} Cursor;

static Cursor
cursor_at (const struct iovec *iov, unsigned n, uint64_t skip)
{
  while (n && skip >= iov->iov_len) {
    skip -= iov->iov_len;
    iov++;
    n--;
  }
  return (Cursor){ iov, n, skip };
}

/* The next run of at most @length bytes; its size is 0 at the end of the vector. */
static struct iovec
cursor_next (Cursor *cursor, uint64_t length)
{
  while (cursor->n && cursor->within == cursor->iov->iov_len) {
    cursor->iov++;
    cursor->n--;
    cursor->within = 0;
  }
  if (!cursor->n)
    return (struct iovec){ NULL, 0 };
  size_t run = MIN (cursor->iov->iov_len - cursor->within, length);
  struct iovec part = { (char *) cursor->iov->iov_base + cursor->within, run };
  cursor->within += run;
  return part;
}

unsigned
tn_iov_slice (const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length, struct iovec *out)
{
  Cursor cursor = cursor_at (iov, n, skip);
  unsigned count = 0;
  while (length) {
    struct iovec part = cursor_next (&cursor, length);
    if (!part.iov_len)
      break;
    out[count++] = part;
    length -= part.iov_len;
  }
  return count;
}

void
tn_iov_zero (const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length)
{
  Cursor cursor = cursor_at (iov, n, skip);
  while (length) {
    struct iovec part = cursor_next (&cursor, length);
    if (!part.iov_len)
      break;
    memset (part.iov_base, 0, part.iov_len);
    length -= part.iov_len;
  }
}

void
tn_iov_from_buffer (const struct iovec *iov, unsigned n, uint64_t skip, const void *buffer, uint64_t length)
{
  Cursor cursor = cursor_at (iov, n, skip);
  const char *from = buffer;
  while (length) {
    struct iovec part = cursor_next (&cursor, length);
    if (!part.iov_len)
      break;
    memcpy (part.iov_base, from, part.iov_len);
    from += part.iov_len;
    length -= part.iov_len;
  }
}

void
tn_iov_to_buffer (const struct iovec *iov, unsigned n, uint64_t skip, void *buffer, uint64_t length)
{
  Cursor cursor = cursor_at (iov, n, skip);
  char *to = buffer;
  while (length) {
    struct iovec part = cursor_next (&cursor, length);
    if (!part.iov_len)
      break;
    memcpy (to, part.iov_base, part.iov_len);
    to += part.iov_len;
    length -= part.iov_len;
  }
}

static bool
is_zero (const char *bytes, size_t length)
{
  size_t head = MIN (length, 16);
  for (size_t i = 0; i < head; i++)
    if (bytes[i])
      return false;
  /* All equal to the ones before, which are zero. */
  return length <= 16 || !memcmp (bytes, bytes + 16, length - 16);
}

bool
tn_iov_is_zero (const struct iovec *iov, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    if (!is_zero (iov[i].iov_base, iov[i].iov_len))
      return false;
  return true;
}

/* In .bss and never written, so it costs the process at most one page. */
static const char zero_bytes[64 * 1024] __attribute__ ((aligned (4096)));

const void *
tn_zero_page (size_t *length)
{
  *length = sizeof zero_bytes;
  return zero_bytes;
}

void *
tn_buffer_new (size_t length)
{
  void *buffer = NULL;
  /* Large enough an alignment for any direct I/O. */
  if (posix_memalign (&buffer, 4096, MAX (length, 1)))
    return NULL;
  return buffer;
}
