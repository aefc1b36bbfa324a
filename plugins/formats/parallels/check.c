/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check: looks for BAT entries that cannot be or that name a cluster twice, for a mark that the image was not
 * closed, for a format extension that cannot be read, and for clusters behind all that is used.
 *
 * Repair clears entries that cannot be right, gives clusters that are used twice a copy each, drops a damaged
 * extension, and cuts the file off behind the last use.
 */
#include "../common/clusterset.h"
#include "parallels.h"

#include <stdarg.h>

#define CHUNK 65536u

typedef struct ParallelsWalk {
  Parallels *p;
  TnCheck *check;
  uint32_t fix;
  ClusterSet *used; /* clusters from data_start on */
  uint64_t last;    /* place of the cluster before, for counting fragments */
  uint64_t shared;  /* BAT entries whose cluster another one names as well */
} ParallelsWalk;

static void parallels_report (ParallelsWalk *walk, bool is_error, const char *format, ...) TN_PRINTF (3, 4);

static void
parallels_report (ParallelsWalk *walk, bool is_error, const char *format, ...)
{
  va_list args;
  if (walk->check->report == NULL) {
    return;
  }
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  walk->check->report (line, is_error, walk->check->opaque);
}

static int
parallels_use (ParallelsWalk *walk, uint64_t host, GError **error)
{
  const Parallels *p = walk->p;
  int ret = cluster_set_add (walk->used, (host - p->data_start) / p->cluster_size, 1);
  if (ret < 0) {
    walk->check->check_errors++;
    return parallels_fail (p, error, ENOMEM, "there is not enough memory to check it");
  }
  return ret;
}

static void
parallels_mended (ParallelsWalk *walk)
{
  walk->check->corruptions--;
  walk->check->corruptions_fixed++;
}

/* ---- The BAT ---- */

static int
parallels_copy_cluster (Parallels *p, uint64_t from, uint64_t to, GError **error)
{
  const uint64_t step = 1u << 20, inside = MIN (p->cluster_size, tn_node_size (p->file) - from);
  g_autofree uint8_t *bytes = g_malloc (MIN (step, p->cluster_size));
  int ret = 0;
  for (uint64_t at = 0; ret == 0 && at < inside; at += step) {
    const uint64_t n = MIN (step, inside - at);
    if ((ret = tn_node_read (p->file, from + at, bytes, n, error)) == 0) {
      ret = tn_node_write (p->file, to + at, bytes, n, error);
    }
  }
  return ret < 0 ? ret : parallels_extend (p, error);
}

static int
parallels_separate (ParallelsWalk *walk, uint64_t index, uint64_t host, GError **error)
{
  Parallels *p = walk->p;
  uint64_t copy = 0;
  walk->shared++;
  walk->check->corruptions++;
  parallels_report (walk, true, "ERROR cluster at 0x%" PRIx64 ": used again by BAT entry %" PRIu64, host,
                    index);
  /* Only who asks for a repair wants the file to grow. */
  if (!(walk->fix & TN_CHECK_FIX_ERRORS) || !(p->flags & TN_OPEN_CHECK)) {
    return 0;
  }
  int ret = parallels_alloc (p, 1, &copy, error);
  if (ret < 0 || (ret = parallels_copy_cluster (p, host, copy, error)) < 0
      || (ret = parallels_use (walk, copy, error)) < 0
      || (ret = parallels_bat_set (p, index, parallels_entry (p, copy), error)) < 0) {
    return ret;
  }
  parallels_mended (walk);
  return 0;
}

static int
parallels_walk_entry (ParallelsWalk *walk, uint64_t index, uint32_t entry, GError **error)
{
  Parallels *p = walk->p;
  const uint64_t host = parallels_host (p, entry);
  if (!parallels_valid_host (p, host, index)) {
    walk->check->corruptions++;
    parallels_report (walk, true, "ERROR BAT entry %" PRIu64 " is 0x%x, where no cluster can be", index,
                      entry);
    if (!(walk->fix & TN_CHECK_FIX_ERRORS)) {
      return 0;
    }
    int ret = parallels_bat_set (p, index, 0, error);
    if (ret == 0) {
      parallels_mended (walk);
    }
    return ret;
  }
  walk->check->allocated_clusters++;
  if (walk->last && walk->last + p->cluster_size != host) {
    walk->check->fragmented_clusters++;
  }
  walk->last = host;
  int twice = parallels_use (walk, host, error);
  return twice > 0 ? parallels_separate (walk, index, host, error) : twice;
}

static int
parallels_walk_bat (ParallelsWalk *walk, GError **error)
{
  Parallels *p = walk->p;
  g_autofree uint8_t *chunk = g_malloc (CHUNK);
  for (uint64_t first = 0; first < p->header.entries; first += CHUNK / 4) {
    const uint64_t n = MIN (CHUNK / 4, p->header.entries - first);
    int ret = tn_node_read (p->file, PARALLELS_HEADER_BYTES + first * 4, chunk, n * 4, error);
    if (ret < 0) {
      walk->check->check_errors++;
      return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
      const uint32_t entry = tn_load_le32 (chunk + i * 4);
      if (entry && (ret = parallels_walk_entry (walk, first + i, entry, error)) < 0) {
        return ret;
      }
    }
  }
  return 0;
}

/* ---- The rest ---- */

static int
parallels_walk_extension (ParallelsWalk *walk, GError **error)
{
  Parallels *p = walk->p;
  if (p->extension_read) {
    int ret = parallels_use (walk, p->header.ext_offset * PARALLELS_SECTOR, error);
    for (guint i = 0; ret >= 0 && i < p->bitmaps->len; i++) {
      const ParallelsBitmap *bitmap = &g_array_index (p->bitmaps, ParallelsBitmap, i);
      for (uint32_t j = 0; ret >= 0 && j < bitmap->l1_size; j++) {
        const uint64_t sector = bitmap->l1[j];
        const bool placed = sector > 1 && sector <= tn_node_size (p->file) / PARALLELS_SECTOR
                            && sector * PARALLELS_SECTOR >= p->data_start;
        ret = placed ? parallels_use (walk, sector * PARALLELS_SECTOR, error) : 0;
      }
    }
    return MIN (ret, 0);
  }
  if (p->header.ext_offset == 0 || p->header.in_use != PARALLELS_CLOSED) {
    return 0;
  }
  walk->check->corruptions++;
  parallels_report (walk, true, "ERROR the format extension at sector %" PRIu64 " cannot be read",
                    p->header.ext_offset);
  if (walk->fix & TN_CHECK_FIX_ERRORS) {
    p->header.ext_offset = 0;
    parallels_mended (walk);
  }
  return 0;
}

static void
parallels_walk_mark (ParallelsWalk *walk)
{
  /* Not one that this session has set itself. */
  if (walk->p->header.in_use != PARALLELS_IN_USE || walk->p->touched) {
    return;
  }
  walk->check->corruptions++;
  parallels_report (walk, true, "ERROR the image was not closed properly");
  if (walk->fix & TN_CHECK_FIX_ERRORS) {
    parallels_mended (walk);
  }
}

static int
parallels_walk_leaks (ParallelsWalk *walk, GError **error)
{
  Parallels *p = walk->p;
  const uint64_t end = cluster_set_end (walk->used), leaked = p->space.end > end ? p->space.end - end : 0;
  walk->check->image_end_offset = p->data_start + end * p->cluster_size;
  walk->check->leaks = leaked;
  if (leaked == 0) {
    return 0;
  }
  parallels_report (walk, false, "%" PRIu64 " clusters at the end of the file are not used by anything",
                    leaked);
  if (!(walk->fix & TN_CHECK_FIX_LEAKS)) {
    return 0;
  }
  /* What was dropped must be forgotten on the disk before its place goes. */
  int ret = parallels_sync (p, error);
  if (ret == 0) {
    tail_space_reset (&p->space, end);
    ret = parallels_cut (p, error);
  }
  if (ret == 0) {
    walk->check->leaks = 0;
    walk->check->leaks_fixed += leaked;
  }
  return ret;
}

int
parallels_check_image (Parallels *p, uint32_t fix, TnCheck *check, GError **error)
{
  g_autoptr (ClusterSet) used = cluster_set_new ();
  ParallelsWalk walk = { .p = p, .check = check, .fix = fix, .used = used };
  check->total_clusters = p->header.entries;
  int ret = p->writable ? parallels_sync (p, error) : 0;
  if (ret < 0) {
    return ret;
  }
  parallels_walk_mark (&walk);
  if ((ret = parallels_walk_extension (&walk, error)) < 0 || (ret = parallels_walk_bat (&walk, error)) < 0
      || (ret = parallels_walk_leaks (&walk, error)) < 0) {
    return ret;
  }
  tn_node_bump_generation (p->node);
  if (!p->writable || (check->corruptions_fixed == 0 && check->leaks_fixed == 0)) {
    return 0;
  }
  if (check->corruptions == 0 && p->header.in_use == PARALLELS_IN_USE) {
    p->header.in_use = 0;
  }
  return parallels_header_write (p, error);
}

int
parallels_count_shared (Parallels *p, uint64_t *shared, GError **error)
{
  g_autoptr (ClusterSet) used = cluster_set_new ();
  TnCheck check = { .size = sizeof check };
  ParallelsWalk walk = { .p = p, .check = &check, .used = used };
  int ret = parallels_walk_extension (&walk, error);
  if (ret >= 0) {
    ret = parallels_walk_bat (&walk, error);
  }
  *shared = walk.shared;
  return ret;
}

int
parallels_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Parallels *p = tn_node_state (node);
  int ret = fix ? parallels_need_writable (p, error) : 0;
  return ret < 0 ? ret : parallels_check_image (p, fix, check, error);
}
