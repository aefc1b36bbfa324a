/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tailspace.h"

#include <tenon/protocol.h>

typedef struct Run {
  uint64_t offset, length;
} Run;

void
tail_space_init (TailSpace *space, uint64_t end)
{
  *space = (TailSpace){ .end = end, .free = g_array_new (false, false, sizeof (Run)) };
}

void
tail_space_clear (TailSpace *space)
{
  g_clear_pointer (&space->free, g_array_unref);
}

void
tail_space_reset (TailSpace *space, uint64_t end)
{
  space->end = end;
  g_array_set_size (space->free, 0);
}

static bool
tail_space_take_free (TailSpace *space, uint64_t length, uint64_t align, uint64_t *offset)
{
  for (guint i = 0; i < space->free->len; i++) {
    Run *run = &g_array_index (space->free, Run, i);
    if (run->length < length || (run->offset & (align - 1))) {
      continue;
    }
    *offset = run->offset;
    run->offset += length;
    run->length -= length;
    if (run->length == 0) {
      g_array_remove_index_fast (space->free, i);
    }
    return true;
  }
  return false;
}

int
tail_space_take (TailSpace *space, uint64_t length, uint64_t align, uint64_t *offset)
{
  if (tail_space_take_free (space, length, align, offset)) {
    return 0;
  }
  const uint64_t most = INT64_MAX;
  if (space->end > most - align || length > most - align - space->end) {
    return -EFBIG;
  }
  *offset = (space->end + align - 1) & ~(align - 1);
  space->end = *offset + length;
  return 0;
}

void
tail_space_give (TailSpace *space, uint64_t offset, uint64_t length)
{
  const Run given = { offset, length };
  g_array_append_val (space->free, given);
  for (guint i = 0; i < space->free->len; i++) {
    const Run run = g_array_index (space->free, Run, i);
    if (run.offset + run.length == space->end) {
      space->end = run.offset;
      g_array_remove_index_fast (space->free, i);
      i = (guint) -1; /* another may be the last one now */
    }
  }
}

int
tail_space_extend (const TailSpace *space, TnNode *file, GError **error)
{
  return tn_node_size (file) < space->end ? tn_node_resize (file, space->end, TN_PREALLOC_OFF, error) : 0;
}

int
tail_space_cut (const TailSpace *space, TnNode *file, GError **error)
{
  return tn_node_size (file) > space->end ? tn_node_resize (file, space->end, TN_PREALLOC_OFF, error) : 0;
}

/* Only a leaf says what its new bytes hold. */
bool
tail_space_grows_with_zeroes (TnNode *file)
{
  const TnClass *class = tn_node_class (file);
  if (class == NULL || class->kind != TN_KIND_PROTOCOL) {
    return false;
  }
  const TnProtocolOps *ops = class->ops;
  return ops->size >= 2 * sizeof (uint32_t) && (ops->flags & TN_PROTOCOL_ZERO_INIT)
         && (ops->flags & TN_PROTOCOL_GROWS);
}

int
tail_space_make_zeroes (TnNode *file, uint64_t length, GError **error)
{
  const uint64_t old = MIN (tn_node_size (file), length);
  if (!tail_space_grows_with_zeroes (file) || old == length) {
    return tn_node_write_zeroes (file, 0, length, 0, error);
  }
  int ret = old ? tn_node_write_zeroes (file, 0, old, 0, error) : 0;
  return ret < 0 ? ret : tn_node_resize (file, length, TN_PREALLOC_OFF, error);
}

int
tail_space_measure (TnNode *source, uint64_t unit, uint64_t *used, GError **error)
{
  const uint64_t size = tn_node_size (source);
  uint64_t counted = 0; /* end of the last unit counted */
  *used = 0;
  for (uint64_t at = 0; at < size;) {
    TnStatus status = { 0 };
    int ret = tn_node_status (source, NULL, at, size - at, &status, error);
    if (ret < 0) {
      return ret;
    }
    const uint64_t length = CLAMP (status.length, 1, size - at);
    if (!status.zero) {
      const uint64_t start = MAX (at - at % unit, counted);
      const uint64_t end = (at + length + unit - 1) / unit * unit;
      *used += end > start ? end - start : 0;
      counted = MAX (counted, end);
    }
    at += length;
  }
  return 0;
}
