/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's folder, and where its files are on the disk. */
#include "vvfat.h"

#include <dirent.h>
#include <sys/stat.h>

void
vvfat_item_free (void *p)
{
  VvfatItem *item = p;
  if (item == NULL)
    return;
  g_clear_pointer (&item->children, g_ptr_array_unref);
  g_clear_pointer (&item->entries, g_byte_array_unref);
  g_free (item->path);
  g_free (item->name);
  g_free (item);
}

/* NULL without an error: it is neither file nor folder, which the disk does not show. */
static VvfatItem *
new_item (Vvfat *v, const char *folder, const char *name, GError **error)
{
  g_autofree char *path = name ? g_build_filename (folder, name, NULL) : g_strdup (folder);
  struct stat status;
  if ((name ? lstat (path, &status) : stat (path, &status)) < 0) {
    tn_fail_errno (error, TN_BLOCK_ERROR, errno, "vvfat: cannot look at '%s'", path);
    return NULL;
  }
  if (!S_ISREG (status.st_mode) && !S_ISDIR (status.st_mode))
    return NULL;
  if (S_ISREG (status.st_mode) && status.st_size > UINT32_MAX) {
    tn_fail (error, TN_BLOCK_ERROR, EFBIG, "vvfat: '%s' is larger than FAT allows (4 GiB)", path);
    return NULL;
  }
  if (++v->listed > VVFAT_MAX_ITEMS) {
    tn_fail (error, TN_BLOCK_ERROR, EFBIG, "vvfat: '%s' holds more than %u files", folder, VVFAT_MAX_ITEMS);
    return NULL;
  }
  VvfatItem *item = g_new0 (VvfatItem, 1);
  item->path = g_steal_pointer (&path);
  item->name = g_strdup (name);
  item->is_folder = S_ISDIR (status.st_mode);
  item->size = item->is_folder ? 0 : (uint64_t) status.st_size;
  item->time = status.st_mtime;
  item->children = item->is_folder ? g_ptr_array_new_with_free_func (vvfat_item_free) : NULL;
  return item;
}

static int
compare_names (const void *a, const void *b)
{
  const VvfatItem *const *left = a, *const *right = b;
  return strcmp ((*left)->name, (*right)->name);
}

static int
list_children (Vvfat *v, VvfatItem *folder, GError **error)
{
  DIR *stream = opendir (folder->path);
  if (!stream)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "vvfat: cannot list '%s'", folder->path);
  int ret = 0;
  for (const struct dirent *found; ret == 0 && (found = readdir (stream)) != NULL;) {
    GError *why = NULL;
    if (strcmp (found->d_name, ".") == 0 || strcmp (found->d_name, "..") == 0)
      continue;
    VvfatItem *item = new_item (v, folder->path, found->d_name, &why);
    if (item) {
      item->parent = folder;
      g_ptr_array_add (folder->children, item);
    } else if (why) {
      ret = tn_error_to_errno (why);
      g_propagate_error (error, why);
    }
  }
  closedir (stream);
  g_ptr_array_sort (folder->children, compare_names);
  return ret;
}

static int
list_tree (Vvfat *v, VvfatItem *folder, unsigned depth, GError **error)
{
  if (depth > VVFAT_MAX_DEPTH)
    return tn_fail (error, TN_BLOCK_ERROR, ELOOP, "vvfat: '%s' is nested more than %u deep", folder->path,
                    VVFAT_MAX_DEPTH);
  int ret = list_children (v, folder, error);
  if (ret == 0)
    ret = vvfat_name_children (folder, error);
  for (guint i = 0; ret == 0 && i < folder->children->len; i++) {
    VvfatItem *child = g_ptr_array_index (folder->children, i);
    if (child->is_folder)
      ret = list_tree (v, child, depth + 1, error);
  }
  return ret;
}

VvfatItem *
vvfat_list (Vvfat *v, const char *folder, GError **error)
{
  VvfatItem *root = new_item (v, folder, NULL, error);
  if (root && root->is_folder && list_tree (v, root, 0, error) == 0)
    return root;
  if (root && !root->is_folder)
    tn_fail (error, TN_BLOCK_ERROR, ENOTDIR, "vvfat: '%s' is no folder", folder);
  vvfat_item_free (root);
  return NULL;
}

/* ---- Clusters ---- */

static uint64_t
clusters_of (const Vvfat *v, const VvfatItem *item)
{
  const uint64_t bytes = item->is_folder ? vvfat_directory_bytes (v, item) : item->size;
  return (bytes + vvfat_cluster_bytes (v) - 1) / vvfat_cluster_bytes (v);
}

static void
place_item (Vvfat *v, VvfatItem *item, uint64_t *next)
{
  const bool has_area = item == v->root && v->bits != 32;
  const uint64_t count = has_area ? 0 : clusters_of (v, item);
  if (count) {
    item->first = (uint32_t) MIN (*next, UINT32_MAX);
    item->count = (uint32_t) count;
    g_ptr_array_add (v->items, item);
  }
  *next += count;
  for (guint i = 0; item->is_folder && i < item->children->len; i++)
    place_item (v, g_ptr_array_index (item->children, i), next);
}

static void
write_directories (const Vvfat *v, VvfatItem *folder)
{
  vvfat_write_directory (v, folder);
  for (guint i = 0; i < folder->children->len; i++) {
    VvfatItem *child = g_ptr_array_index (folder->children, i);
    if (child->is_folder)
      write_directories (v, child);
  }
}

/* Gives everything its clusters; the layout has been chosen.  Again, with more of them, is allowed. */
int
vvfat_place (Vvfat *v, GError **error)
{
  uint64_t next = 2;
  g_ptr_array_set_size (v->items, 0);
  place_item (v, v->root, &next);
  if (next - 2 > v->clusters)
    return tn_fail (error, TN_BLOCK_ERROR, ENOSPC,
                    "vvfat: '%s' needs %" PRIu64 " clusters of %u bytes, FAT%u has %u%s", v->root->path,
                    next - 2, vvfat_cluster_bytes (v), v->bits, v->clusters,
                    v->bits == 32 ? "" : ": use fat-type=32");
  if (v->bits != 32 && vvfat_directory_bytes (v, v->root) > v->root_entries * VVFAT_ENTRY)
    return tn_fail (error, TN_BLOCK_ERROR, ENOSPC,
                    "vvfat: '%s' has more files than the root of FAT%u can hold: use fat-type=32",
                    v->root->path, v->bits);
  write_directories (v, v->root);
  return 0;
}
