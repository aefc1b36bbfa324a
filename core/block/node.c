/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be asked of a node, and what its driver tells. */
#include "block/internal.h"

const char *
tn_node_name (TnNode *node)
{
  return node->name;
}

const char *
tn_node_filename (TnNode *node)
{
  return node->filename ? node->filename : node->class->name;
}

const char *
tn_node_class_name (TnNode *node)
{
  return node->class->name;
}

const TnClass *
tn_node_class (TnNode *node)
{
  return node->class;
}

uint64_t
tn_node_size (TnNode *node)
{
  return tn_node_size_now (node);
}

bool
tn_node_is_read_only (TnNode *node)
{
  return !(tn_node_flags_now (node) & TN_OPEN_WRITE);
}

uint32_t
tn_node_open_flags (TnNode *node)
{
  return tn_node_flags_now (node);
}

const char *
tn_node_backing_name (TnNode *node)
{
  return node->backing_name;
}

const char *
tn_node_backing_format (TnNode *node)
{
  return node->backing_format;
}

char *
tn_node_backing_path (TnNode *node)
{
  return node->backing_name ? tn_filename_combine (node->filename, node->backing_name) : NULL;
}

void
tn_node_limits (TnNode *node, TnLimits *limits)
{
  *limits = node->limits;
}

void
tn_node_block_sizes (TnNode *node, uint32_t *logical, uint32_t *physical)
{
  while (!node->logical_block && node->file)
    node = node->file;
  *logical = node->logical_block;
  *physical = node->physical_block;
}

void
tn_node_stats (TnNode *node, TnNodeStats *stats)
{
  TnNodeStats now = { .size = sizeof now };
  const TnNodeCounters *counters = &node->counters;
#define COUNTER(field) __atomic_load_n (&counters->field, __ATOMIC_RELAXED)
  now.read_requests = COUNTER (requests[TN_REQUEST_READ]);
  now.write_requests = COUNTER (requests[TN_REQUEST_WRITE]);
  now.flush_requests = COUNTER (requests[TN_REQUEST_FLUSH]);
  now.discard_requests = COUNTER (requests[TN_REQUEST_DISCARD]);
  now.zero_requests = COUNTER (requests[TN_REQUEST_WRITE_ZEROES]);
  now.read_bytes = COUNTER (bytes[TN_REQUEST_READ]);
  now.write_bytes = COUNTER (bytes[TN_REQUEST_WRITE]);
  now.discard_bytes = COUNTER (bytes[TN_REQUEST_DISCARD]);
  now.zero_bytes = COUNTER (bytes[TN_REQUEST_WRITE_ZEROES]);
  now.fast = COUNTER (fast);
  now.failed = COUNTER (failed);
  now.cow_bytes = COUNTER (cow_bytes);
#undef COUNTER
  uint32_t size = stats->size;
  memcpy (stats, &now, MIN (size, sizeof now));
  stats->size = size;
}

/* ---- For drivers ---- */

void *
tn_node_state (TnNode *node)
{
  return node->state;
}

void
tn_node_set_size (TnNode *node, uint64_t size)
{
  __atomic_store_n (&node->size, MIN (size, INT64_MAX), __ATOMIC_RELAXED);
}

void
tn_node_set_backing (TnNode *node, const char *filename, const char *format)
{
  g_free (node->backing_name);
  g_free (node->backing_format);
  node->backing_name = g_strdup (filename);
  node->backing_format = g_strdup (format && *format ? format : NULL);
}

void
tn_node_set_allocation_unit (TnNode *node, uint32_t bytes)
{
  node->unit = bytes;
}

void
tn_node_set_pack_unit (TnNode *node, uint32_t bytes)
{
  node->pack_unit = bytes;
}

void
tn_node_set_always_packed (TnNode *node, bool always)
{
  node->always_packed = always;
}

bool
tn_node_always_packed (TnNode *node)
{
  return node->always_packed;
}

void
tn_node_set_limits (TnNode *node, const TnLimits *limits)
{
  node->limits = *limits;
  node->own_limits = true;
}

void
tn_node_set_block_sizes (TnNode *node, uint32_t logical, uint32_t physical)
{
  node->logical_block = logical;
  node->physical_block = physical;
}

void
tn_node_bump_generation (TnNode *node)
{
  node->generation++;
  tn_unpacked_forget (node, 0, UINT64_MAX);
}
