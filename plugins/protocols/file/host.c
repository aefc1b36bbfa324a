/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel's answers about devices. */
#include "file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int
file_host_look (const char *path, struct stat *st)
{
  return stat (path, st) < 0 ? -errno : 0;
}

static int
file_host_look_at (int fd, struct stat *st)
{
  return fstat (fd, st) < 0 ? -errno : 0;
}

static int
file_host_open (const char *path, int flags)
{
  int fd;

  do
    fd = open (path, flags | O_CLOEXEC | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : fd;
}

static int
file_host_control (int fd, unsigned long request, void *argument)
{
  int answer = ioctl (fd, request, argument);

  return answer < 0 ? -errno : answer;
}

static bool
file_host_read (const char *path, char *text, size_t room)
{
  int fd = file_host_open (path, O_RDONLY);
  ssize_t n;

  if (fd < 0)
    return false;
  n = read (fd, text, room - 1);
  close (fd);
  if (n <= 0)
    return false;
  text[n] = '\0';
  g_strchomp (text);
  return true;
}

/* A partition has no queue of its own. */
static bool
file_host_attribute (dev_t device, const char *name, char *text, size_t room)
{
  static const char *const places[] = { "", "../" };

  for (unsigned i = 0; i < G_N_ELEMENTS (places); i++) {
    g_autofree char *path =
        g_strdup_printf ("/sys/dev/block/%u:%u/%s%s", major (device), minor (device), places[i], name);

    if (file_host_read (path, text, room))
      return true;
  }
  return false;
}

const FileHost file_host_kernel = {
  .look = file_host_look,
  .look_at = file_host_look_at,
  .open = file_host_open,
  .control = file_host_control,
  .attribute = file_host_attribute,
};
