/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where blocks are: the path of every request. */
#include "vdi.h"

uint64_t
vdi_place (const Vdi *v, uint32_t entry)
{
  return v->header.data_offset + entry * v->stride + v->header.block_extra;
}

const char *
vdi_entry_fault (const Vdi *v, uint32_t entry)
{
  if (entry >= VDI_ZERO)
    return NULL;
  if (entry >= v->header.blocks)
    return "is larger than the number of blocks";
  if (vdi_place (v, entry) >= tn_node_size (v->file))
    return "points beyond the end of the file";
  return NULL;
}

static int
vdi_bad_entry (const Vdi *v, uint64_t block, uint32_t entry, uint32_t flags, GError **error)
{
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  return vdi_fail (v, error, EIO, "entry %" PRIu64 " (%u) of its block map %s: run check", block, entry,
                   vdi_entry_fault (v, entry));
}

/* A differencing image knows its parent by UUID alone; the user says where it is. */
static int
vdi_check_parent (Vdi *v, uint32_t flags, GError **error)
{
  TnNode *parent = tn_node_child (v->node, "backing");
  if (v->parent_known || (tn_node_open_flags (v->node) & TN_OPEN_NO_BACKING))
    return 0;
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  if (!parent)
    return vdi_fail (v, error, EINVAL,
                     "it is a differencing image, which needs its parent: name it with "
                     "backing.driver=vdi,backing.file.filename=FILE");
  if (tn_node_class (parent) == tn_node_class (v->node)) {
    const Vdi *of = tn_node_state (parent);
    if (memcmp (of->header.uuid, v->header.uuid_parent, 16) != 0)
      return vdi_fail (v, error, EINVAL, "'%s' is not its parent: the UUIDs differ",
                       tn_node_filename (parent));
  }
  v->parent_known = true;
  return 0;
}

static uint32_t
vdi_kind (uint32_t entry)
{
  if (entry == VDI_UNALLOCATED)
    return TN_EXTENT_UNALLOCATED;
  return entry == VDI_ZERO ? TN_EXTENT_ZERO : TN_EXTENT_DATA;
}

/* How many blocks from the cursor's on are of the same kind, and for data one behind the other. */
static uint64_t
vdi_run (const Vdi *v, BlockCursor *cursor, uint32_t first, uint64_t most)
{
  const uint32_t kind = vdi_kind (first);
  uint64_t n = 1;
  while (n < most && block_cursor_next (cursor)) {
    const uint32_t entry = tn_load_le32 (block_cursor_entry (cursor));
    if (vdi_kind (entry) != kind)
      break;
    if (kind == TN_EXTENT_DATA
        && (entry != first + n || v->header.block_extra || vdi_entry_fault (v, entry) != NULL))
      break;
    n++;
  }
  return n;
}

int
vdi_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Vdi *v = tn_node_state (node);
  const uint64_t block_size = v->header.block_size, block = offset / block_size;
  BlockCursor cursor;
  if (offset >= v->size)
    return flags & TN_MAP_NOWAIT ? -EAGAIN
                                 : vdi_fail (v, error, EINVAL, "offset %" PRIu64 " is outside", offset);
  int ret = v->header.type == VDI_DIFFERENCING ? vdi_check_parent (v, flags, error) : 0;
  if (ret == 0)
    ret = block_cursor_begin (&cursor, &v->map, block, flags & TN_MAP_NOWAIT, error);
  if (ret < 0)
    return ret;
  const uint32_t entry = tn_load_le32 (block_cursor_entry (&cursor));
  const uint64_t end = offset + CLAMP (length, 1, v->size - offset);
  if (vdi_entry_fault (v, entry))
    ret = vdi_bad_entry (v, block, entry, flags, error);
  if (ret == 0) {
    const uint64_t n = vdi_run (v, &cursor, entry, (end + block_size - 1) / block_size - block);
    extent->offset = block * block_size;
    extent->length = MIN (n * block_size, v->size - extent->offset);
    extent->kind = vdi_kind (entry);
  }
  block_cursor_end (&cursor);
  if (ret == 0 && extent->kind == TN_EXTENT_DATA) {
    extent->flags = v->writable ? TN_EXTENT_WRITABLE : 0;
    extent->source = v->file;
    extent->source_offset = vdi_place (v, entry);
  }
  return ret;
}
