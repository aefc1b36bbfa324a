/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who holds a lock.  The kernel names no process for a lock of an open file description, but lists the locks
 * of each descriptor in /proc/PID/fdinfo, as far as we may look there.  Only error messages need it, so time
 * is no matter.
 */
#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:1234 100 103" → whether 100 ≤ @byte ≤ 103. */
static bool
file_lock_line_covers (const char *line, uint64_t byte)
{
  g_auto (GStrv) words = NULL;
  const char *first = NULL, *last = NULL;
  guint n;

  if (!g_str_has_prefix (line, "lock:"))
    return false;
  words = g_strsplit_set (line, " \t", -1);
  n = g_strv_length (words);
  for (guint i = n; i > 0 && first == NULL; i--) {
    if (*words[i - 1] == '\0')
      continue;
    if (last == NULL)
      last = words[i - 1];
    else
      first = words[i - 1];
  }
  if (first == NULL || g_ascii_strtoull (first, NULL, 10) > byte)
    return false;
  return strcmp (last, "EOF") == 0 || g_ascii_strtoull (last, NULL, 10) >= byte;
}

static bool
file_descriptor_has_lock (const char *pid, const char *fd, uint64_t byte)
{
  g_autofree char *path = g_strdup_printf ("/proc/%s/fdinfo/%s", pid, fd);
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return false;
  lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++)
    if (file_lock_line_covers (*line, byte))
      return true;
  return false;
}

/* Whether process @pid has the lock through a descriptor other than our own @self. */
static bool
file_process_has_lock (const char *pid, const struct stat *file, int self, uint64_t byte)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%s/fd", pid);
  bool ours = strtol (pid, NULL, 10) == (long) getpid ();
  GDir *dir = g_dir_open (folder, 0, NULL);
  const char *fd;
  bool found = false;

  if (dir == NULL)
    return false;
  while (!found && (fd = g_dir_read_name (dir)) != NULL) {
    g_autofree char *path = g_strdup_printf ("%s/%s", folder, fd);
    struct stat st;

    if (ours && strtol (fd, NULL, 10) == self)
      continue;
    if (stat (path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
      found = file_descriptor_has_lock (pid, fd, byte);
  }
  g_dir_close (dir);
  return found;
}

static char *
file_describe_process (const char *pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%s/comm", pid);
  g_autofree char *name = NULL;

  if (strtol (pid, NULL, 10) == (long) getpid ())
    return g_strdup ("this process already");
  if (!g_file_get_contents (path, &name, NULL, NULL))
    return g_strdup_printf ("process %s", pid);
  g_strchomp (name);
  for (char *c = name; *c != '\0'; c++)
    if (!g_ascii_isprint (*c))
      *c = '?';
  return g_strdup_printf ("process %s (%s)", pid, name);
}

char *
file_find_holder (int fd, uint64_t byte)
{
  struct stat file;
  GDir *dir;
  const char *pid;
  char *holder = NULL;

  if (fstat (fd, &file) < 0 || (dir = g_dir_open ("/proc", 0, NULL)) == NULL)
    return NULL;
  while (holder == NULL && (pid = g_dir_read_name (dir)) != NULL)
    if (g_ascii_isdigit (*pid) && file_process_has_lock (pid, &file, fd, byte))
      holder = file_describe_process (pid);
  g_dir_close (dir);
  return holder;
}
