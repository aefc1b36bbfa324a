/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an image keeps beside its contents: internal snapshots, dirty bitmaps, the options it was made with.
 */
#include "block/internal.h"

typedef struct Change {
  uint32_t action;
  const char *name;
  uint64_t granularity;
  const TnOptions *options;
} Change;

/* ---- Snapshots ---- */

static int
snapshot_main (TnNode *node, void *opaque, GError **error)
{
  const Change *change = opaque;
  int rc = node->format.snapshot (node, change->action, change->name, error);
  tn_node_bump_generation (node);
  return rc;
}

int
tn_node_snapshot (TnNode *node, TnSnapshotAction action, const char *name, GError **error)
{
  if (!node->is_format || !node->format.snapshot)
    return tn_node_unsupported (node, "internal snapshots", error);
  int rc = tn_node_need_writable (node, "change its snapshots", error);
  Change change = { .action = action, .name = name };
  return rc ? rc : tn_node_call_alone (node, snapshot_main, &change, error);
}

/* ---- Bitmaps ---- */

static int
bitmap_main (TnNode *node, void *opaque, GError **error)
{
  const Change *change = opaque;
  return node->format.bitmap (node, change->action, change->name, change->granularity, error);
}

static int
check_bitmaps (TnNode *node, GError **error)
{
  return node->is_format && node->format.bitmap ? 0 : tn_node_unsupported (node, "dirty bitmaps", error);
}

int
tn_node_bitmap (TnNode *node, TnBitmapAction action, const char *name, uint64_t granularity, GError **error)
{
  int rc = check_bitmaps (node, error);
  if (!rc)
    rc = tn_node_need_writable (node, "change its bitmaps", error);
  Change change = { .action = action, .name = name, .granularity = granularity };
  return rc ? rc : tn_node_call_alone (node, bitmap_main, &change, error);
}

typedef struct Visit {
  void (*visit) (const TnBitmap *bitmap, void *opaque);
  void *opaque;
} Visit;

static int
bitmaps_main (TnNode *node, void *opaque, GError **error)
{
  const Visit *call = opaque;
  return node->format.bitmaps (node, call->visit, call->opaque, error);
}

int
tn_node_bitmaps (TnNode *node, void (*visit) (const TnBitmap *bitmap, void *opaque), void *opaque,
                 GError **error)
{
  if (!node->is_format || !node->format.bitmaps)
    return 0; /* it has none */
  Visit call = { visit, opaque };
  return tn_node_call (node, bitmaps_main, &call, error);
}

typedef struct Runs {
  const char *name;
  int (*dirty) (uint64_t offset, uint64_t length, void *opaque, GError **error);
  void *opaque;
} Runs;

static int
bitmap_visit_main (TnNode *node, void *opaque, GError **error)
{
  const Runs *runs = opaque;
  return node->format.bitmap_visit (node, runs->name, runs->dirty, runs->opaque, error);
}

int
tn_node_bitmap_visit (TnNode *node, const char *name,
                      int (*dirty) (uint64_t offset, uint64_t length, void *opaque, GError **error),
                      void *opaque, GError **error)
{
  if (!node->is_format || !node->format.bitmap_visit)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "%s: there is no bitmap '%s': its format keeps none",
                    tn_node_filename (node), name);
  Runs runs = { name, dirty, opaque };
  return tn_node_call (node, bitmap_visit_main, &runs, error);
}

typedef struct Merge {
  TnNode *from;
  const char *name, *from_name;
  TnNode *to;
} Merge;

static int
mark (uint64_t offset, uint64_t length, void *opaque, GError **error)
{
  const Merge *merge = opaque;
  return merge->to->format.bitmap_mark (merge->to, merge->name, offset, length, error);
}

static int
merge_main (TnNode *to, void *opaque, GError **error)
{
  Merge *merge = opaque;
  TnNode *from = merge->from;
  if (from != to)
    tn_map_lock (from);
  int rc = from->format.bitmap_visit (from, merge->from_name, mark, merge, error);
  if (from != to)
    tn_map_unlock (from);
  return rc;
}

int
tn_node_bitmap_merge (TnNode *node, const char *name, TnNode *from, const char *from_name, GError **error)
{
  int rc = check_bitmaps (node, error);
  if (!rc)
    rc = check_bitmaps (from, error);
  if (!rc)
    rc = tn_node_need_writable (node, "change its bitmaps", error);
  if (!rc && tn_node_size_now (node) != tn_node_size_now (from))
    rc = tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: bitmaps of disks of different size cannot be merged",
                  tn_node_filename (node));
  Merge merge = { .from = from, .name = name, .from_name = from_name, .to = node };
  return rc ? rc : tn_node_call_alone (node, merge_main, &merge, error);
}

/* ---- Options ---- */

static int
amend_main (TnNode *node, void *opaque, GError **error)
{
  const Change *change = opaque;
  int rc = node->format.amend (node, change->options, error);
  tn_node_bump_generation (node);
  return rc;
}

int
tn_node_amend (TnNode *node, const TnOptions *options, GError **error)
{
  if (!node->is_format || !node->format.amend)
    return tn_node_unsupported (node, "changing its options", error);
  int rc = tn_node_need_writable (node, "change its options", error);
  if (rc)
    return rc;
  g_autoptr (TnOptions) checked = tn_options_copy (options);
  tn_options_set (checked, "size", NULL); /* every format's */
  const TnClass *class = node->class;
  rc = tn_options_check (checked, class->options, class->option_size, TN_OPTION_CREATE | TN_OPTION_AMEND,
                         class->name, error);
  Change change = { .options = options }; /* without the defaults of what was not given */
  return rc ? rc : tn_node_call_alone (node, amend_main, &change, error);
}
