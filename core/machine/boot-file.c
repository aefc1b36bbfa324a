/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine/boot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/space.h"
#include "util/fd.h"

struct TnBootFile {
  char *name;
  int fd; /* -1: in memory */
  const uint8_t *data;
  uint64_t size;
};

int
tn_boot_file_open (const char *path, TnBootFile **out, GError **error)
{
  struct stat status;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "cannot open boot image '%s'", path);
  if (fstat (fd, &status) != 0 || !S_ISREG (status.st_mode)) {
    close (fd);
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "boot image '%s' is not a regular file", path);
  }
  TnBootFile *file = g_new0 (TnBootFile, 1);
  file->name = g_strdup (path);
  file->fd = fd;
  file->size = (uint64_t) status.st_size;
  *out = file;
  return 0;
}

TnBootFile *
tn_boot_file_memory (const char *name, const void *data, size_t length)
{
  TnBootFile *file = g_new0 (TnBootFile, 1);
  file->name = g_strdup (name);
  file->fd = -1;
  file->data = data;
  file->size = length;
  return file;
}

void
tn_boot_file_close (TnBootFile *file)
{
  if (file == NULL)
    return;
  if (file->fd >= 0)
    close (file->fd);
  g_free (file->name);
  g_free (file);
}

const char *
tn_boot_file_name (const TnBootFile *file)
{
  return file->name;
}

uint64_t
tn_boot_file_size (const TnBootFile *file)
{
  return file->size;
}

int
tn_boot_file_read (TnBootFile *file, uint64_t offset, void *buffer, size_t length, GError **error)
{
  if (offset > file->size || length > file->size - offset)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "boot image '%s' is truncated: it has %" G_GUINT64_FORMAT
                    " bytes, but refers to byte %" G_GUINT64_FORMAT,
                    file->name, file->size, offset);
  if (file->fd < 0) {
    if (length > 0)
      memcpy (buffer, file->data + offset, length);
    return 0;
  }
  const ssize_t n = tn_fd_pread (file->fd, buffer, length, offset);
  if (n < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, (int) -n, "cannot read boot image '%s'", file->name);
  if ((size_t) n < length)
    return tn_fail (error, TN_MACHINE_ERROR, EIO, "boot image '%s' became shorter while it was read",
                    file->name);
  return 0;
}

int
tn_boot_file_load (TnBootFile *file, uint64_t offset, uint64_t length, TnSpace *space, uint64_t address,
                   GError **error)
{
  while (length > 0) {
    uint64_t part;
    uint8_t *host = tn_space_load_pointer (space, address, &part);
    if (host == NULL)
      return tn_fail (error, TN_MACHINE_ERROR, EFAULT,
                      "boot image '%s' does not fit: there is no RAM at 0x%" G_GINT64_MODIFIER
                      "x, give the machine more memory (-m)",
                      file->name, address);
    part = MIN (part, length);
    int r = tn_boot_file_read (file, offset, host, part, error);
    if (r < 0)
      return r;
    tn_space_mark_dirty (space, address, part);
    offset += part;
    address += part;
    length -= part;
  }
  return 0;
}
