/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Extents: the files that a descriptor names.
 *
 * Descriptors come from strangers.  What one names must lie in its own folder or below it, links followed,
 * unless the user names the file himself (extents.N.filename=…) or allows it (allow-outside=on).
 */
#include "../common/tailspace.h"
#include "vmdk.h"

#include <stdlib.h>

#define VMDK_GT_BUDGET (24u << 20)
#define VMDK_GD_BUDGET (4u << 20)
#define VMDK_MIN_BUDGET (32u << 10)
/* Slices to be written hold nothing but tables, which begin and end with sectors. */
#define VMDK_WRITE_SLICE VMDK_SECTOR
#define VMDK_READ_SLICE VMDK_MAX_SLICE

/* ---- Names ---- */

static char *
vmdk_real_path (const char *path)
{
  char *real = realpath (path, NULL);
  char *copy = g_strdup (real);
  free (real);
  return copy;
}

static bool
vmdk_is_below (const char *path, const char *folder)
{
  const size_t n = strlen (folder);
  return strncmp (folder, path, n) == 0 && (path[n] == '/' || strcmp (folder, "/") == 0);
}

static bool
vmdk_climbs (const char *name)
{
  g_auto (GStrv) parts = g_strsplit (name, "/", -1);
  return g_strv_contains ((const char *const *) parts, "..");
}

/* Where the named file is, or NULL: outside, and that is not allowed. */
static char *
vmdk_extent_path (const Vmdk *v, const char *name)
{
  g_autofree char *folder = g_path_get_dirname (tn_node_filename (v->file));
  g_autofree char *path = g_path_is_absolute (name) ? g_strdup (name) : g_build_filename (folder, name, NULL);
  if (v->allow_outside) {
    return g_steal_pointer (&path);
  }
  if (g_path_is_absolute (name) || vmdk_climbs (name)) {
    return NULL;
  }
  g_autofree char *home = vmdk_real_path (folder), *real = vmdk_real_path (path);
  /* A file that is not there is for the protocol to complain of. */
  return real == NULL || (home && vmdk_is_below (real, home)) ? g_steal_pointer (&path) : NULL;
}

/* ---- Files ---- */

static int
vmdk_open_named (Vmdk *v, VmdkExtent *e, const VmdkLine *line, const char *role, GError **error)
{
  e->path = vmdk_extent_path (v, line->name);
  if (e->path == NULL) {
    return vmdk_fail (
        v, error, EACCES,
        "its extent '%s' is not in the image's folder: if that is right, give allow-outside=on, or "
        "name the file yourself with %s.driver=file,%s.filename=…",
        line->name, role, role);
  }
  g_autoptr (TnOptions) chosen = tn_options_new ();
  tn_options_set (chosen, "driver", "file");
  tn_options_set (chosen, "filename", e->path);
  if (line->access != VMDK_READ_WRITE) {
    tn_options_set (chosen, "read-only", "on");
  }
  return tn_node_open_child (v->node, role, chosen, &e->file, error);
}

/* Several flat extents may be pieces of one file. */
static int
vmdk_share_file (Vmdk *v, size_t index, const VmdkLine *line, bool *shared, GError **error)
{
  VmdkExtent *e = &v->extents[index];
  const GArray *lines = v->descriptor.lines;
  *shared = false;
  for (size_t i = 0; i < index; i++) {
    const VmdkLine *other = &g_array_index (lines, VmdkLine, i);
    VmdkExtent *o = &v->extents[i];
    if (o->file == NULL || g_strcmp0 (other->name, line->name) != 0) {
      continue;
    }
    const bool apart =
        e->file_offset >= o->file_offset + o->length || o->file_offset >= e->file_offset + e->length;
    if (e->type != VMDK_FLAT || o->type != VMDK_FLAT || !apart || line->access != other->access) {
      return vmdk_fail (v, error, EINVAL, "its extents %zu and %zu overlap in the file '%s'", i, index,
                        line->name);
    }
    e->file = o->file;
    *shared = true;
  }
  return 0;
}

static int
vmdk_open_file (Vmdk *v, size_t index, const VmdkLine *line, GError **error)
{
  VmdkExtent *e = &v->extents[index];
  bool shared;
  g_autofree char *role = g_strdup_printf ("extents.%zu", index);
  if (tn_node_child_described (v->node, role)) {
    return tn_node_open_child (v->node, role, NULL, &e->file, error);
  }
  int ret = vmdk_share_file (v, index, line, &shared, error);
  if (ret < 0 || shared) {
    return ret;
  }
  if (g_strcmp0 (tn_node_class_name (v->file), "file") != 0) {
    return vmdk_fail (v, error, ENOTSUP,
                      "its extent '%s' is only looked for beside a local file: name it with %s.driver=…",
                      line->name, role);
  }
  return vmdk_open_named (v, e, line, role, error);
}

/* ---- Sparse extents ---- */

static void
vmdk_free_caches (VmdkExtent *e)
{
  g_clear_pointer (&e->gd, tn_meta_cache_free);
  g_clear_pointer (&e->gt, tn_meta_cache_free);
  g_clear_pointer (&e->rgd, tn_meta_cache_free);
  g_clear_pointer (&e->rgt, tn_meta_cache_free);
}

static void
vmdk_attach_caches (const Vmdk *v, VmdkExtent *e)
{
  const uint64_t gt = MAX (VMDK_GT_BUDGET / v->n_extents, VMDK_MIN_BUDGET);
  const uint64_t gd = MAX (VMDK_GD_BUDGET / v->n_extents, VMDK_MIN_BUDGET);
  e->slice_bytes = e->writable ? VMDK_WRITE_SLICE : VMDK_READ_SLICE;
  e->gd = tn_meta_cache_new (e->file, "grain directory", e->slice_bytes, gd);
  e->gt = tn_meta_cache_new (e->file, "grain table", e->slice_bytes, gt);
  if (e->sparse.rgd_offset) {
    e->rgd = tn_meta_cache_new (e->file, "second grain directory", e->slice_bytes, gd);
    e->rgt = tn_meta_cache_new (e->file, "second grain table", e->slice_bytes, gt);
  }
}

static int
vmdk_attach_sparse (Vmdk *v, VmdkExtent *e, const uint8_t *head, GError **error)
{
  int ret = vmdk_sparse_read (e->file, head, &e->sparse, error);
  if (ret < 0) {
    return ret;
  }
  if (e->length > e->sparse.capacity) {
    return vmdk_fail (v, error, EINVAL, "it takes %" PRIu64 " bytes from the extent '%s', which has %" PRIu64,
                      e->length, tn_node_filename (e->file), e->sparse.capacity);
  }
  e->zero_tail = tail_space_grows_with_zeroes (e->file);
  e->free = g_array_new (false, false, sizeof (VmdkRun));
  e->freed = g_array_new (false, false, sizeof (VmdkRun));
  vmdk_attach_caches (v, e);
  return 0;
}

static int
vmdk_attach_sparse_file (Vmdk *v, VmdkExtent *e, GError **error)
{
  uint8_t head[VMDK_HEADER_BYTES];
  if (tn_node_size (e->file) < sizeof head) {
    return vmdk_fail (v, error, EINVAL, "its extent '%s' is too short to be one", tn_node_filename (e->file));
  }
  int ret = tn_node_read (e->file, 0, head, sizeof head, error);
  return ret < 0 ? ret : vmdk_attach_sparse (v, e, head, error);
}

static int
vmdk_attach_flat (Vmdk *v, VmdkExtent *e, GError **error)
{
  const uint64_t size = tn_node_size (e->file);
  if (e->file_offset > size || e->length > size - e->file_offset) {
    return vmdk_fail (v, error, EINVAL,
                      "its extent '%s' should have %" PRIu64 " bytes from 0x%" PRIx64
                      " on, the file has %" PRIu64,
                      tn_node_filename (e->file), e->length, e->file_offset, size);
  }
  return 0;
}

/* ---- From lines to extents ---- */

static int
vmdk_open_extent (Vmdk *v, size_t index, GError **error)
{
  const VmdkLine *line = &g_array_index (v->descriptor.lines, VmdkLine, index);
  VmdkExtent *e = &v->extents[index];
  *e = (VmdkExtent){
    .type = line->type,
    .may_write = line->access == VMDK_READ_WRITE && line->type != VMDK_ZERO,
    .start = v->size,
    .length = line->sectors * VMDK_SECTOR,
    .file_offset = line->first * VMDK_SECTOR,
  };
  if (e->length > INT64_MAX - v->size) {
    return vmdk_fail (v, error, EFBIG, "its extents together are larger than any disk");
  }
  v->size += e->length;
  if (e->type == VMDK_ZERO || line->access == VMDK_NO_ACCESS || (v->flags & TN_OPEN_NO_IO)) {
    return 0;
  }
  int ret = vmdk_open_file (v, index, line, error);
  if (ret < 0) {
    return ret;
  }
  return e->type == VMDK_FLAT ? vmdk_attach_flat (v, e, error) : vmdk_attach_sparse_file (v, e, error);
}

/* ---- Writing ---- */

/* Grains of all extents must fall on common borders, since what is allocated together is told by these. */
static int
vmdk_check_writing (const Vmdk *v, const VmdkExtent *e, GError **error)
{
  const VmdkSparse *s = &e->sparse;
  if (e->type != VMDK_SPARSE || e->file == NULL || !e->may_write) {
    return 0;
  }
  if (s->sesparse || s->cowd) {
    return vmdk_fail (v, error, EROFS, "%s extents can only be read: convert it to write to it",
                      s->sesparse ? "seSparse" : "COWD");
  }
  if (s->grain != v->grain || e->start % v->grain) {
    return vmdk_fail (v, error, EROFS,
                      "the grains of its extents do not lie on common borders, so that it can only be read: "
                      "convert it to write to it");
  }
  if (s->compressed && v->n_extents > 1) {
    return vmdk_fail (v, error, EROFS,
                      "a compressed extent of several can only be read: convert it to write to it");
  }
  return 0;
}

static void
vmdk_switch_extent (const Vmdk *v, VmdkExtent *e)
{
  e->writable = v->writable && e->may_write && e->file;
  if (e->gd == NULL) {
    return;
  }
  const uint64_t grain = e->sparse.grain;
  e->end = (MAX (tn_node_size (e->file), e->sparse.overhead) + grain - 1) / grain * grain;
  g_array_set_size (e->free, 0);
  g_array_set_size (e->freed, 0);
  vmdk_free_caches (e);
  vmdk_attach_caches (v, e);
}

int
vmdk_set_writing (Vmdk *v, bool writing, GError **error)
{
  const bool packed =
      v->n_extents == 1 && v->extents[0].type == VMDK_SPARSE && v->extents[0].sparse.compressed;
  for (size_t i = 0; writing && i < v->n_extents; i++) {
    int ret = vmdk_check_writing (v, &v->extents[i], error);
    if (ret < 0) {
      return ret;
    }
  }
  g_clear_pointer (&v->stream, vmdk_stream_free);
  int ret = writing && packed ? vmdk_stream_new (v, error) : 0;
  if (ret < 0) {
    return ret;
  }
  v->writable = writing;
  v->touched = false;
  for (size_t i = 0; i < v->n_extents; i++) {
    vmdk_switch_extent (v, &v->extents[i]);
  }
  return 0;
}

/* ---- All of them ---- */

static void
vmdk_choose_grain (Vmdk *v)
{
  for (size_t i = 0; i < v->n_extents; i++) {
    if (v->extents[i].gd) {
      v->grain = MAX (v->grain, (uint32_t) v->extents[i].sparse.grain);
    }
  }
}

static int
vmdk_open_single (Vmdk *v, const uint8_t *head, GError **error)
{
  v->extents = g_new0 (VmdkExtent, 1);
  v->n_extents = 1;
  VmdkExtent *e = v->extents;
  *e = (VmdkExtent){ .type = VMDK_SPARSE, .may_write = true, .file = v->file };
  int ret = vmdk_attach_sparse (v, e, head, error);
  v->size = e->length = e->sparse.capacity;
  return ret;
}

static int
vmdk_open_lines (Vmdk *v, GError **error)
{
  if (v->descriptor.lines->len == 0) {
    return vmdk_fail (v, error, EINVAL, "its descriptor names no extent");
  }
  v->n_extents = v->descriptor.lines->len;
  v->extents = g_new0 (VmdkExtent, v->n_extents);
  for (size_t i = 0; i < v->n_extents; i++) {
    int ret = vmdk_open_extent (v, i, error);
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

int
vmdk_open_extents (Vmdk *v, const uint8_t *head, GError **error)
{
  int ret = head ? vmdk_open_single (v, head, error) : vmdk_open_lines (v, error);
  if (ret < 0) {
    return ret;
  }
  vmdk_choose_grain (v);
  return v->writable ? vmdk_set_writing (v, true, error) : 0;
}

void
vmdk_close_extents (Vmdk *v)
{
  for (size_t i = 0; i < v->n_extents; i++) {
    VmdkExtent *e = &v->extents[i];
    vmdk_free_caches (e);
    g_clear_pointer (&e->free, g_array_unref);
    g_clear_pointer (&e->freed, g_array_unref);
    g_free (e->path);
  }
  g_clear_pointer (&v->extents, g_free);
  v->n_extents = 0;
}

VmdkExtent *
vmdk_extent_at (Vmdk *v, uint64_t offset)
{
  size_t low = 0, high = v->n_extents;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    if (v->extents[middle].start <= offset) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return &v->extents[low];
}
