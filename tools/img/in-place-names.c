/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In-place conversion between a plain disk and a small file that names one: nothing but names changes, and
 * the last of them by one rename.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "in-place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int
in_place_data_file (TnNode *node, char **path, GError **error)
{
  const uint64_t size = tn_node_size (node);
  TnExtent extent;
  *path = NULL;
  if (size == 0 || tn_node_backing_name (node))
    return 0;
  const int ret = tn_node_map (node, 0, size, 0, &extent, error);
  if (ret < 0)
    return ret;
  if (extent.kind == TN_EXTENT_DATA && !(extent.flags & TN_EXTENT_ENCRYPTED) && extent.offset == 0
      && extent.length >= size && extent.source && extent.source_offset == 0
      && tn_node_size (extent.source) == size && !tn_node_child (extent.source, "file"))
    *path = g_strdup (tn_node_filename (extent.source));
  return 0;
}

static int
sync_folder (const char *path, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path);
  const int fd = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool failed = fd < 0 || fsync (fd) < 0;
  const int ret =
      failed ? tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not sync the folder '%s'", folder) : 0;
  if (fd >= 0)
    close (fd);
  return ret;
}

static int
sync_file (const char *path, GError **error)
{
  const int fd = open (path, O_RDONLY | O_CLOEXEC);
  const bool failed = fd < 0 || fsync (fd) < 0;
  const int ret = failed ? tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not sync '%s'", path) : 0;
  if (fd >= 0)
    close (fd);
  return ret;
}

static bool
is_same_file (const char *a, const char *b)
{
  struct stat one, two;
  return stat (a, &one) == 0 && stat (b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

int
in_place_take_name (const char *data, const char *path, GError **error)
{
  int ret = sync_file (data, error);
  if (ret == 0 && rename (data, path) < 0)
    ret = tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not rename '%s' to '%s'", data, path);
  return ret < 0 ? ret : sync_folder (path, error);
}

int
in_place_give_name (const char *path, const char *shadow, const char *data, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path), *base = g_path_get_basename (data);
  g_autofree char *name = g_build_filename (folder, base, NULL);
  int ret = sync_file (shadow, error);
  if (ret < 0)
    return ret;
  /* A cut before the rename leaves this second name, and the image as it was. */
  if (link (path, name) < 0 && !(errno == EEXIST && is_same_file (path, name)))
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not give '%s' the name '%s'", path, name);
  ret = sync_folder (path, error);
  if (ret == 0 && rename (shadow, path) < 0)
    ret = tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not rename '%s' to '%s'", shadow, path);
  if (ret < 0) {
    (void) unlink (name);
    return ret;
  }
  return sync_folder (path, error);
}
