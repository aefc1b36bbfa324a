/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done to an image as a whole: size, check, references, flags. */
#include "block/internal.h"

int
tn_node_unsupported (TnNode *node, const char *what, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: %s '%s' does not support %s", tn_node_filename (node),
                  node->is_format ? "format" : "protocol", node->class->name, what);
}

int
tn_node_need_writable (TnNode *node, const char *what, GError **error)
{
  if (tn_node_flags_now (node) & TN_OPEN_WRITE)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EROFS, "%s: cannot %s: opened read-only", tn_node_filename (node),
                  what);
}

/* ---- Breakpoints ---- */

int
tn_node_breakpoint (TnNode *node, TnBreakAction action, const char *event, const char *tag, GError **error)
{
  for (TnNode *at = node; at; at = at->file)
    if (!at->is_format && at->protocol.breakpoint)
      return at->protocol.breakpoint (at, action, event, tag, error);
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                  "'%s' is not opened through a filter that can stop requests: open it as "
                  "blkdebug:CONFIG:IMAGE",
                  tn_node_filename (node));
}

/* ---- Size ---- */

typedef struct Resize {
  uint64_t size;
  TnPrealloc prealloc;
} Resize;

static int
resize_leaf (TnNode *node, const Resize *resize, GError **error)
{
  if (node->is_filter && node->file) {
    int rc = tn_node_resize (node->file, resize->size, resize->prealloc, error);
    if (!rc)
      tn_node_set_size (node, tn_node_size_now (node->file));
    return rc;
  }
  if (!node->protocol.resize)
    return tn_node_unsupported (node, "resizing", error);
  int stale = tn_node_is_stale (node) ? tn_node_renew (node, error) : 0;
  if (stale)
    return stale;
  int rc = node->protocol.resize (node, resize->size, resize->prealloc, error);
  if (rc < 0)
    return rc;
  tn_node_set_size (node, resize->size);
  __atomic_fetch_add (&node->written, 1, __ATOMIC_RELEASE);
  return 0;
}

static int
resize_format (TnNode *node, const Resize *resize, GError **error)
{
  if (!node->format.resize)
    return tn_node_unsupported (node, "resizing", error);
  TnTrack track;
  if (node->tracked)
    tn_track_enter (&track, node, 0, UINT64_MAX, true);
  tn_map_lock (node);
  int rc = node->format.resize (node, resize->size, resize->prealloc, error);
  if (rc >= 0) {
    tn_node_set_size (node, resize->size);
    tn_node_bump_generation (node);
  }
  tn_map_unlock (node);
  if (node->tracked)
    tn_track_leave (&track);
  return MIN (rc, 0);
}

static int
resize_main (TnNode *node, void *opaque, GError **error)
{
  return node->is_format ? resize_format (node, opaque, error) : resize_leaf (node, opaque, error);
}

int
tn_node_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  int rc = tn_node_need_writable (node, "resize", error);
  if (rc)
    return rc;
  if (size > INT64_MAX)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large",
                    tn_node_filename (node), size);
  Resize resize = { size, prealloc };
  return tn_node_co_run (node, resize_main, &resize, error);
}

static int
current_size_main (TnNode *node, void *opaque, GError **error)
{
  uint64_t *size = opaque;
  while (node->is_filter && node->file)
    node = node->file;
  if (!node->is_format && node->protocol.get_size)
    return tn_failure (node->protocol.get_size (node, size, error));
  *size = tn_node_size_now (node);
  return 0;
}

int
tn_node_current_size (TnNode *node, uint64_t *size, GError **error)
{
  return tn_node_co_run (node, current_size_main, size, error);
}

/* ---- Information ---- */

static int
info_main (TnNode *node, void *opaque, GError **error)
{
  TnInfo *info = opaque;
  TnNode *leaf = tn_node_leaf (node);
  if (!leaf->is_format && leaf->protocol.allocated
      && leaf->protocol.allocated (leaf, &info->allocated, NULL) < 0)
    info->allocated = UINT64_MAX;
  return node->is_format && node->format.info ? tn_failure (node->format.info (node, info, error)) : 0;
}

int
tn_node_info (TnNode *node, TnInfo *info, GError **error)
{
  TnInfo now = { .size = sizeof now, .virtual_size = tn_node_size_now (node), .allocated = UINT64_MAX };
  int rc = tn_node_call (node, info_main, &now, error);
  if (rc)
    return rc;
  uint32_t size = info->size;
  memcpy (info, &now, MIN (size, sizeof now));
  info->size = size;
  return 0;
}

static int
specific_main (TnNode *node, void *opaque, GError **error)
{
  char *(*specific) (TnNode *, GError **) =
      node->is_format ? node->format.info_specific : node->protocol.info_specific;
  char **text = opaque;
  *text = specific ? specific (node, error) : NULL;
  return 0;
}

char *
tn_node_info_specific (TnNode *node, GError **error)
{
  char *data = NULL;
  tn_node_call (node, specific_main, &data, error);
  if (!data)
    return NULL;
  char *text = g_strdup_printf ("{\"type\": \"%s\", \"data\": %s}", node->class->name, data);
  g_free (data);
  return text;
}

typedef struct Visit {
  void (*visit) (const TnSnapshot *snapshot, void *opaque);
  void *opaque;
} Visit;

static int
snapshots_main (TnNode *node, void *opaque, GError **error)
{
  Visit *visit = opaque;
  return tn_failure (node->format.snapshots (node, visit->visit, visit->opaque, error));
}

int
tn_node_snapshots (TnNode *node, void (*visit) (const TnSnapshot *snapshot, void *opaque), void *opaque,
                   GError **error)
{
  if (!node->is_format || !node->format.snapshots)
    return 0; /* it has none */
  Visit call = { visit, opaque };
  return tn_node_call (node, snapshots_main, &call, error);
}

/* ---- Calls that need the image for themselves ---- */

typedef struct Alone {
  TnNodeCall call;
  void *opaque;
} Alone;

static int
alone_main (TnNode *node, void *opaque, GError **error)
{
  Alone *alone = opaque;
  tn_node_quiesce (node);
  if (node->is_format)
    tn_map_lock (node);
  int rc = alone->call (node, alone->opaque, error);
  if (node->is_format)
    tn_map_unlock (node);
  tn_node_resume (node);
  return MIN (rc, 0);
}

int
tn_node_call_alone (TnNode *node, TnNodeCall call, void *opaque, GError **error)
{
  Alone alone = { call, opaque };
  return tn_node_co_run (node, alone_main, &alone, error);
}

typedef struct CheckCall {
  uint32_t fix;
  TnCheck *check;
} CheckCall;

static int
check_main (TnNode *node, void *opaque, GError **error)
{
  CheckCall *call = opaque;
  int rc = node->format.check (node, call->fix, call->check, error);
  if (call->fix)
    tn_node_bump_generation (node);
  return rc;
}

int
tn_node_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  if (!node->is_format || !node->format.check)
    return tn_node_unsupported (node, "checks", error);
  if (fix && tn_node_need_writable (node, "repair", error))
    return -EROFS;
  TnCheck now = { 0 };
  memcpy (&now, check, MIN (check->size, sizeof now));
  now.size = sizeof now;
  CheckCall call = { fix, &now };
  int rc = tn_node_call_alone (node, check_main, &call, error);
  uint32_t size = check->size;
  memcpy (check, &now, MIN (size, sizeof now));
  check->size = size;
  return rc;
}

typedef struct Reference {
  const char *filename, *format;
} Reference;

static int
reference_main (TnNode *node, void *opaque, GError **error)
{
  Reference *reference = opaque;
  int rc = node->format.set_backing (node, reference->filename, reference->format, error);
  if (rc >= 0)
    tn_node_set_backing (node, reference->filename, reference->format);
  return rc;
}

int
tn_node_set_backing_reference (TnNode *node, const char *filename, const char *format, GError **error)
{
  if (!node->is_format || !node->format.set_backing)
    return tn_node_unsupported (node, "backing files", error);
  int rc = tn_node_need_writable (node, "change the backing file", error);
  Reference reference = { filename, format };
  return rc ? rc : tn_node_call_alone (node, reference_main, &reference, error);
}

static bool
contains (TnNode *chain, const TnNode *node)
{
  for (; chain; chain = chain->backing)
    if (chain == node)
      return true;
  return false;
}

typedef struct Replace {
  TnNode *backing, *old;
} Replace;

static int
replace_main (TnNode *node, void *opaque, GError **error)
{
  Replace *replace = opaque;
  replace->old = tn_node_detach (node, "backing");
  if (replace->backing)
    tn_node_attach (node, "backing", tn_node_ref (replace->backing));
  tn_node_bump_generation (node);
  return 0;
}

int
tn_node_replace_backing (TnNode *node, TnNode *backing, GError **error)
{
  if (!node->is_format || !(node->format.flags & TN_FORMAT_BACKING))
    return tn_node_unsupported (node, "backing files", error);
  if (contains (backing, node))
    return tn_fail (error, TN_BLOCK_ERROR, ELOOP, "%s: cannot become its own backing file",
                    tn_node_filename (node));
  Replace replace = { backing, NULL };
  int rc = tn_node_call_alone (node, replace_main, &replace, error);
  tn_node_unref (replace.old);
  return rc;
}

static int
empty_main (TnNode *node, void *opaque, GError **error)
{
  int rc = node->format.make_empty (node, error);
  tn_node_bump_generation (node);
  return rc;
}

int
tn_node_make_empty (TnNode *node, GError **error)
{
  if (!node->is_format || !node->format.make_empty)
    return tn_node_unsupported (node, "emptying", error);
  int rc = tn_node_need_writable (node, "empty it", error);
  return rc ? rc : tn_node_call_alone (node, empty_main, NULL, error);
}

/* ---- Copying below ---- */

typedef struct Copy {
  uint64_t from_offset, to_offset, length;
  TnNode *to;
  int64_t (*between) (TnNode *from, struct Copy *copy, GError **error);
  int64_t result;
} Copy;

/* The leaf place of a range, when it is one piece of plain data. */
static TnNode *
leaf_place (TnNode *node, uint64_t *offset, uint64_t *length, bool write)
{
  while (node->is_format) {
    TnExtent extent;
    if (tn_route_map (node, *offset, *length, write ? TN_MAP_WRITE : 0, &extent, NULL)
        || extent.kind != TN_EXTENT_DATA || (extent.flags & TN_EXTENT_ENCRYPTED)
        || (write && !(extent.flags & TN_EXTENT_WRITABLE)))
      return NULL;
    uint64_t skip = *offset - extent.offset;
    *length = MIN (*length, extent.length - skip);
    node = extent.source;
    *offset = extent.source_offset + skip;
  }
  return node->is_filter ? NULL : node;
}

static int64_t
copy_between (TnNode *from, Copy *copy, GError **error)
{
  uint64_t length = copy->length, from_offset = copy->from_offset, to_offset = copy->to_offset;
  TnNode *source = leaf_place (from, &from_offset, &length, false);
  TnNode *target = source ? leaf_place (copy->to, &to_offset, &length, true) : NULL;
  if (!target || source->class != target->class || !source->protocol.copy_range)
    return -ENOTSUP;
  int64_t copied = source->protocol.copy_range (source, from_offset, target, to_offset, length, error);
  tn_leaf_written (target, to_offset, copied > 0 ? (uint64_t) copied : 0, copied < 0 ? -EIO : 0);
  return copied;
}

/* As copy_between(), but what the target has no place for gets one. */
static int64_t
share_between (TnNode *from, Copy *copy, GError **error)
{
  uint64_t length = copy->length, from_offset = copy->from_offset, to_offset = copy->to_offset;
  TnNode *source = leaf_place (from, &from_offset, &length, false);
  if (!source || !source->protocol.share_range)
    return -ENOTSUP;
  uint64_t placed = length;
  TnNode *target = leaf_place (copy->to, &to_offset, &placed, true);
  if (target)
    return tn_leaf_share (source, from_offset, target, to_offset, placed, error);
  return copy->to->is_format ? tn_cow_share (copy->to, copy->to_offset, length, source, from_offset, error)
                             : -ENOTSUP;
}

static int
copy_main (TnNode *from, void *opaque, GError **error)
{
  Copy *copy = opaque;
  TnTrack read_track, write_track;
  if (from->tracked)
    tn_track_enter (&read_track, from, copy->from_offset, copy->from_offset + copy->length, false);
  if (copy->to->tracked)
    tn_track_enter (&write_track, copy->to, copy->to_offset, copy->to_offset + copy->length, false);
  copy->result = copy->between (from, copy, error);
  if (copy->to->tracked)
    tn_track_leave (&write_track);
  if (from->tracked)
    tn_track_leave (&read_track);
  return 0;
}

static bool
lies_within (TnNode *node, uint64_t offset, uint64_t length)
{
  uint64_t size = tn_node_size_now (node);
  return offset <= size && length <= size - offset;
}

static int64_t
copy_below (TnNode *from, Copy *copy, GError **error)
{
  TnNode *to = copy->to;
  uint64_t from_offset = copy->from_offset, to_offset = copy->to_offset, length = copy->length;
  int rc = tn_node_need_writable (to, "copy to it", error);
  if (rc)
    return rc;
  if (!lies_within (from, from_offset, length) || !lies_within (to, to_offset, length))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "cannot copy %" G_GUINT64_FORMAT " bytes from '%s' to '%s': beyond the end", length,
                    tn_node_filename (from), tn_node_filename (to));
  if (from == to)
    return -ENOTSUP;
  tn_node_co_run (from, copy_main, copy, error);
  return copy->result;
}

int64_t
tn_node_copy_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                    GError **error)
{
  Copy copy = { from_offset, to_offset, length, to, copy_between, 0 };
  return copy_below (from, &copy, error);
}

int64_t
tn_node_share_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                     GError **error)
{
  Copy copy = { from_offset, to_offset, length, to, share_between, 0 };
  return copy_below (from, &copy, error);
}
