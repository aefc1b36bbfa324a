/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The external data file.  The user may name any; one that only the image names must lie in the image's own
 * folder or below it, since images come from strangers.
 */
#include "qcow2.h"

#include <stdlib.h>

static bool
user_named_it (const TnOptions *options)
{
  for (size_t i = 0; options && i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (strcmp (key, "data-file") == 0 || g_str_has_prefix (key, "data-file.")) {
      return true;
    }
  }
  return false;
}

static char *
real_folder (const char *path)
{
  g_autofree char *folder = g_path_get_dirname (path);
  char *real = realpath (folder, NULL);
  char *copy = g_strdup (real);
  free (real);
  return copy;
}

/* The path of the named file if it is one below the image's folder. */
static char *
confined_path (const char *image, const char *name)
{
  g_autofree char *home = real_folder (image);
  g_autofree char *folder = g_path_get_dirname (image);
  g_autofree char *path = g_path_is_absolute (name) ? g_strdup (name) : g_build_filename (folder, name, NULL);
  g_autofree char *there = real_folder (path);
  const size_t n = home ? strlen (home) : 0;
  const bool inside = home && there && strncmp (home, there, n) == 0
                      && (there[n] == '\0' || there[n] == '/' || strcmp (home, "/") == 0);
  return inside ? g_steal_pointer (&path) : NULL;
}

int
qcow2_open_data_file (Qcow2 *q, const TnOptions *options, GError **error)
{
  TnNode *child = NULL;
  if (!q->external) {
    return user_named_it (options)
               ? qcow2_fail (q, error, EINVAL, "it has no external data file: leave data-file out")
               : 0;
  }
  if (user_named_it (options)) {
    int ret = tn_node_open_child (q->node, "data-file", NULL, &child, error);
    q->data = child;
    return ret;
  }
  if (q->data_file_name == NULL) {
    return qcow2_fail (q, error, EINVAL, "it does not name its external data file: give data-file=…");
  }
  if (q->flags & TN_OPEN_UNTRUSTED) {
    return qcow2_fail (q, error, EACCES, "an untrusted image may not refer to the data file '%s'",
                       q->data_file_name);
  }
  g_autofree char *path = confined_path (tn_node_filename (q->file), q->data_file_name);
  if (path == NULL) {
    return qcow2_fail (
        q, error, EACCES,
        "the data file '%s' is not in the image's folder: if that is right, name it yourself with "
        "data-file.driver=file,data-file.filename=…",
        q->data_file_name);
  }
  g_autoptr (TnOptions) chosen = tn_options_new ();
  tn_options_set (chosen, "driver", "file");
  tn_options_set (chosen, "filename", path);
  int ret = tn_node_open_child (q->node, "data-file", chosen, &child, error);
  q->data = ret < 0 ? q->file : child;
  return ret;
}
