/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The external data file.  The user may name any; one that only the image names must lie in the image's own
 * folder or below it, since images come from strangers.
 */
#include "qcow2.h"

#include <tenon/json.h>

#include <stdlib.h>

static char *
real_folder (const char *path)
{
  g_autofree char *folder = g_path_get_dirname (path);
  char *real = realpath (folder, NULL);
  char *copy = g_strdup (real);
  free (real);
  return copy;
}

static bool
is_local (const TnOptions *place)
{
  return g_strcmp0 (tn_options_get (place, "driver"), "file") == 0;
}

static bool
lies_below (const char *image, const char *path)
{
  g_autofree char *home = real_folder (image);
  g_autofree char *there = real_folder (path);
  const size_t n = home ? strlen (home) : 0;
  return home && there && strncmp (home, there, n) == 0
         && (there[n] == '\0' || there[n] == '/' || strcmp (home, "/") == 0);
}

/* Neither absolute, nor of another protocol, nor leading out of the folder. */
static bool
is_plain_name (const char *name)
{
  return *name && *name != '/' && strchr (name, ':') == NULL && strstr (name, "..") == NULL;
}

static bool
is_confined (const TnOptions *image, const TnOptions *place, const char *name)
{
  if (g_strcmp0 (tn_options_get (image, "driver"), tn_options_get (place, "driver")) != 0) {
    return false;
  }
  return is_local (image)
             ? lies_below (tn_options_get (image, "filename"), tn_options_get (place, "filename"))
             : is_plain_name (name);
}

/* Where the file that the image names is; NULL when it is not below the image's folder. */
static TnOptions *
confined_place (Qcow2 *q)
{
  const char *image_name = tn_node_filename (q->file);
  g_autoptr (TnOptions) image = NULL, place = NULL;
  if (tn_node_parse_filename (image_name, NULL, &image, NULL) < 0
      || tn_node_parse_filename (q->data_file_name, image_name, &place, NULL) < 0
      || !is_confined (image, place, q->data_file_name)) {
    return NULL;
  }
  return g_steal_pointer (&place);
}

/* @place: NULL for what the user said. */
static int
use_data_file (Qcow2 *q, const TnOptions *place, GError **error)
{
  TnNode *child = NULL;
  int ret = tn_node_open_child (q->node, "data-file", place, &child, error);
  if (ret < 0) {
    return ret;
  }
  q->data = child;
  tn_meta_add_data_node (q->l2_cache, child);
  return 0;
}

int
qcow2_open_data_file (Qcow2 *q, GError **error)
{
  const bool by_user = tn_node_child_described (q->node, "data-file");
  if (!q->external) {
    return by_user ? qcow2_fail (q, error, EINVAL, "it has no external data file: leave data-file out") : 0;
  }
  if (by_user) {
    return use_data_file (q, NULL, error);
  }
  if (q->data_file_name == NULL) {
    return qcow2_fail (q, error, EINVAL, "it does not name its external data file: give data-file=…");
  }
  if (q->flags & TN_OPEN_UNTRUSTED) {
    return qcow2_fail (q, error, EACCES, "an untrusted image may not refer to the data file '%s'",
                       q->data_file_name);
  }
  g_autoptr (TnOptions) chosen = confined_place (q);
  if (chosen == NULL) {
    return qcow2_fail (
        q, error, EACCES,
        "the data file '%s' is not in the image's folder: if that is right, name it yourself with "
        "data-file.driver=file,data-file.filename=…",
        q->data_file_name);
  }
  return use_data_file (q, chosen, error);
}

/* Relative names are relative to the image's folder, where they will be looked for. */
int
qcow2_create_data_file (TnNode *file, const char *name, TnPrealloc prealloc, uint64_t size, GError **error)
{
  g_autoptr (TnOptions) place = NULL, options = tn_options_new ();
  g_autoptr (GString) text = g_string_new ("json:");
  g_autoptr (TnJson) json = tn_json_new (text, false);
  int ret = tn_node_parse_filename (name, tn_node_filename (file), &place, error);
  if (ret < 0) {
    return ret;
  }
  tn_json_object_begin (json, NULL);
  for (size_t i = 0; i < tn_options_count (place); i++) {
    const char *key, *value;
    tn_options_pair (place, i, &key, &value);
    tn_json_string (json, key, value);
  }
  tn_json_object_end (json);
  if (prealloc >= TN_PREALLOC_FALLOC) {
    tn_options_set (options, "preallocation", prealloc == TN_PREALLOC_FULL ? "full" : "falloc");
  }
  return tn_image_create (text->str, "raw", options, size, error);
}
