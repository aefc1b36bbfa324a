/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What O_DIRECT demands of offsets, lengths and buffers. */
#include "file.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SAFE_ALIGNMENT 4096
#define FILE_MAX_ALIGNMENT 65536

static bool
file_is_power_of_two (uint64_t value)
{
  return value != 0 && (value & (value - 1)) == 0;
}

/* The kernel's own word, since Linux 6.1. */
static bool
file_alignment_from_statx (int fd, uint32_t *request, uint32_t *memory)
{
#ifdef STATX_DIOALIGN
  struct statx st;

  if (statx (fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0 || (st.stx_mask & STATX_DIOALIGN) == 0)
    return false;
  if (!file_is_power_of_two (st.stx_dio_offset_align) || !file_is_power_of_two (st.stx_dio_mem_align))
    return false;
  *request = st.stx_dio_offset_align;
  *memory = st.stx_dio_mem_align;
  return true;
#else
  return false;
#endif
}

static bool
file_alignment_from_device (const FileState *s, uint32_t *request, uint32_t *memory)
{
  int sector = 0;

  if (!s->block_device || s->host->control (s->fd, BLKSSZGET, &sector) < 0 || sector <= 0
      || !file_is_power_of_two ((unsigned) sector))
    return false;
  *request = (uint32_t) sector;
  *memory = (uint32_t) MAX (sector, 512);
  return true;
}

/* The smallest block that can be read.  A file without a byte tells nothing. */
static bool
file_alignment_by_trial (int fd, uint32_t *request, uint32_t *memory)
{
  void *buffer;
  bool found = false;

  if (posix_memalign (&buffer, FILE_MAX_ALIGNMENT, FILE_MAX_ALIGNMENT) != 0)
    return false;
  for (uint32_t size = 512; size <= FILE_MAX_ALIGNMENT && !found; size *= 2) {
    ssize_t n = pread (fd, buffer, size, 0);

    if (n == 0 || (n < 0 && errno != EINVAL))
      break;
    found = n > 0;
    if (found)
      *request = size;
  }
  free (buffer);
  *memory = MAX (*request, FILE_SAFE_ALIGNMENT);
  return found;
}

int
file_probe_limits (FileState *s, bool direct, TnLimits *limits, GError **error)
{
  uint32_t request = FILE_SAFE_ALIGNMENT, memory = FILE_SAFE_ALIGNMENT;

  *limits = (TnLimits){ .request_alignment = 1, .memory_alignment = 1, .max_iov = IOV_MAX };
  if (!direct)
    return 0;
  if (!file_alignment_from_statx (s->fd, &request, &memory)
      && !file_alignment_from_device (s, &request, &memory)
      && !file_alignment_by_trial (s->fd, &request, &memory))
    request = memory = FILE_SAFE_ALIGNMENT;
  if (request > FILE_MAX_ALIGNMENT || memory > FILE_MAX_ALIGNMENT)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "'%s' needs O_DIRECT requests of %u bytes, more than is supported: use cache.direct=off",
                    s->filename, MAX (request, memory));
  limits->request_alignment = request;
  limits->memory_alignment = memory;
  return 0;
}
