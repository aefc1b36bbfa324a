/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "plugin/manifest.h"
#include "plugin/trust.h"

/* Far more than any distribution has plugins; a folder with more is not a plugin folder. */
#define MAX_MANIFESTS 4096

TnDirectory *
tn_directory_new (const char *path)
{
  TnDirectory *directory = g_new0 (TnDirectory, 1);
  directory->path = g_canonicalize_filename (path, NULL);
  return directory;
}

void
tn_directory_free (TnDirectory *directory)
{
  if (directory->names)
    g_ptr_array_unref (directory->names);
  g_free (directory->path);
  g_free (directory);
}

char *
tn_directory_path (const TnDirectory *directory, const char *name)
{
  return g_strconcat (directory->path, "/", name, NULL);
}

int
tn_directory_check (TnDirectory *directory, GError **error)
{
  if (directory->trusted)
    return 0;
  struct stat st;
  if (stat (directory->path, &st) < 0)
    return tn_fail_errno (error, TN_PLUGIN_ERROR, errno, "cannot use plugin folder %s", directory->path);
  if (!S_ISDIR (st.st_mode))
    return tn_fail (error, TN_PLUGIN_ERROR, ENOTDIR, "%s is not a folder: name one that holds plugins",
                    directory->path);
  int r = tn_trust_check_stat (directory->path, &st, error);
  directory->trusted = r == 0;
  return r;
}

static int
compare_names (const void *a, const void *b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

int
tn_directory_list (TnDirectory *directory, bool again, GError **error)
{
  if (directory->names && !again)
    return 0;
  DIR *stream = opendir (directory->path);
  if (!stream)
    return tn_fail_errno (error, TN_PLUGIN_ERROR, errno, "cannot list plugin folder %s", directory->path);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  for (const struct dirent *entry; (entry = readdir (stream)) && names->len < MAX_MANIFESTS;) {
    if (entry->d_name[0] != '.' && g_str_has_suffix (entry->d_name, TN_MANIFEST_SUFFIX))
      g_ptr_array_add (names, g_strdup (entry->d_name));
  }
  closedir (stream);
  if (names->len >= MAX_MANIFESTS)
    return tn_fail (error, TN_PLUGIN_ERROR, E2BIG,
                    "plugin folder %s holds more than %d manifests: clear it out", directory->path,
                    MAX_MANIFESTS);
  g_ptr_array_sort (names, compare_names);
  if (directory->names)
    g_ptr_array_unref (directory->names);
  directory->names = g_steal_pointer (&names);
  return 0;
}

ssize_t
tn_file_read (const char *path, char *buffer, size_t size, GError **error)
{
  /* A FIFO in the place of a manifest must not make anyone wait. */
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && errno == ENOENT)
    return -ENOENT;
  if (fd < 0)
    return tn_fail_errno (error, TN_PLUGIN_ERROR, errno, "cannot open %s", path);
  /* One read gives all of a regular file that is short enough; a file being written meanwhile would be
   * damaged however often it is asked. */
  ssize_t n;
  do
    n = read (fd, buffer, size);
  while (n < 0 && errno == EINTR);
  int failed = n < 0 ? errno : 0;
  close (fd);
  if (failed)
    return tn_fail_errno (error, TN_PLUGIN_ERROR, failed, "cannot read %s", path);
  if ((size_t) n == size)
    return tn_fail (error, TN_PLUGIN_ERROR, EFBIG, "%s is larger than %zu bytes: it is not a manifest", path,
                    size - 1);
  return n;
}
