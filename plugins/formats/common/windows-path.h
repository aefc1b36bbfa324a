/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of parent images as Windows programs write them. */
#ifndef FORMATS_COMMON_WINDOWS_PATH_H
#define FORMATS_COMMON_WINDOWS_PATH_H

#include <tenon/types.h>

/*
 * Where @path (which may have back slashes, a drive letter, leading dots) would be found below the folder of
 * the image: a relative path that does not leave the folder is kept, of any other the last component is.  So
 * an image can't reach out of its folder.  NULL: there is no name in it.
 */
static inline char *
windows_path_beside (const char *path)
{
  g_autofree char *slashed = g_strdelimit (g_strdup (path), "\\", '/');
  const char *at = slashed;
  while (at[0] == '.' && at[1] == '/')
    at += 2;
  const bool outside = *at == '/' || strchr (at, ':') || g_str_has_prefix (at, "../") || strstr (at, "/../");
  if (outside) {
    const char *slash = strrchr (at, '/'), *colon = strrchr (at, ':');
    at = slash ? slash + 1 : colon ? colon + 1 : at;
  }
  if (*at == '\0' || strcmp (at, ".") == 0 || strcmp (at, "..") == 0 || strchr (at, ':')
      || g_str_has_suffix (at, "/..") || g_str_has_suffix (at, "/"))
    return NULL;
  return g_strdup (at);
}

/* Whether @name is a file in the folder of the image @filename. */
static inline bool
windows_path_exists (const char *filename, const char *name)
{
  g_autofree char *folder = g_path_get_dirname (filename);
  g_autofree char *path = g_build_filename (folder, name, NULL);
  return g_file_test (path, G_FILE_TEST_IS_REGULAR);
}

#endif
