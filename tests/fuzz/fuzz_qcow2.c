/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens the input as a qcow2 image on a memory disk, walks its map, reads, checks; when the last byte is odd
 * also writes, discards, repairs.  Needs TENON_PLUGIN_PATH, so that the plugins are found.
 */
#include "block-fixture.h"

#define MOST_INPUT (1u << 20)
#define MAX_STEPS 256u
#define READ_SIZE 65536u

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static TnNode *
open_input (uint32_t flags)
{
  g_autoptr (TnOptions) options = options_of ("driver=qcow2,backing=,file.driver=mem,file.filename=fuzz");
  TnNode *node = NULL;
  return tn_node_open (options, flags | TN_OPEN_UNTRUSTED, &node, NULL) == 0 ? node : NULL;
}

static void
walk_map (TnNode *node)
{
  const uint64_t size = tn_node_size (node);
  g_autofree uint8_t *buffer = g_malloc (READ_SIZE);
  uint64_t at = 0;
  for (unsigned step = 0; step < MAX_STEPS && at < size; step++) {
    TnExtent extent;
    if (tn_node_map (node, at, size - at, 0, &extent, NULL) < 0) {
      at += READ_SIZE;
      continue;
    }
    (void) tn_node_read (node, at, buffer, MIN (READ_SIZE, size - at), NULL);
    at = extent.offset + extent.length;
  }
}

static void
change (TnNode *node)
{
  const uint64_t size = tn_node_size (node), length = MIN (size, READ_SIZE);
  g_autofree uint8_t *buffer = g_malloc0 (READ_SIZE);
  if (length == 0) {
    return;
  }
  (void) tn_node_write (node, 0, buffer, length, NULL);
  (void) tn_node_discard (node, 0, length, NULL);
  (void) tn_node_write (node, size - length, buffer, length, NULL);
  (void) tn_node_write_zeroes (node, 0, length, TN_REQUEST_MAY_UNMAP, NULL);
  (void) tn_node_flush (node, NULL);
}

static void
check (uint32_t flags, uint32_t fix)
{
  TnCheck result = { .size = sizeof result };
  TnNode *node = open_input (flags | TN_OPEN_CHECK);
  if (node) {
    (void) tn_node_check (node, fix, &result, NULL);
    (void) tn_node_close (node, NULL);
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size == 0 || size > MOST_INPUT) {
    return 0;
  }
  const bool writes = data[size - 1] & 1;
  MemDisk *disk = mem_disk ("fuzz", size);
  memcpy (disk->bytes, data, size);
  TnNode *node = open_input (writes ? TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP : 0);
  if (node) {
    g_free (tn_node_info_specific (node, NULL));
    walk_map (node);
    if (writes) {
      change (node);
    }
    (void) tn_node_close (node, NULL);
  }
  check (0, 0);
  if (writes) {
    check (TN_OPEN_WRITE | TN_OPEN_RESIZE, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS);
  }
  return 0;
}
