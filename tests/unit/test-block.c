/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes: opening, reading, writing, chains, zeroes, conflicts. */
#include "block-fixture.h"

static void
assert_bytes (TnNode *node, uint64_t offset, uint64_t length, int value)
{
  g_autofree uint8_t *bytes = g_malloc (length);
  GError *error = NULL;
  tn_node_read (node, offset, bytes, length, &error);
  g_assert_no_error (error);
  for (uint64_t i = 0; i < length; i++)
    if (bytes[i] != value)
      g_error ("byte at %" G_GUINT64_FORMAT " is %d, not %d", offset + i, bytes[i], value);
}

static void
write_bytes (TnNode *node, uint64_t offset, uint64_t length, int value)
{
  g_autofree uint8_t *bytes = g_malloc (length);
  GError *error = NULL;
  memset (bytes, value, length);
  tn_node_write (node, offset, bytes, length, &error);
  g_assert_no_error (error);
}

static void
test_leaf (const void *driver)
{
  mem_disk ("a", 10000);
  g_autofree char *text = g_strdup_printf ("driver=%s,filename=a", (const char *) driver);
  TnNode *node = open_node_text (text, TN_OPEN_WRITE);
  g_assert_cmpuint (tn_node_size (node), ==, 10000);
  write_bytes (node, 17, 5000, 7);
  assert_bytes (node, 0, 17, 0);
  assert_bytes (node, 17, 5000, 7);
  assert_bytes (node, 5017, 4983, 0);
  /* Beyond the end there are zeroes, and nothing can be written. */
  assert_bytes (node, 9990, 100, 0);
  assert_bytes (node, 20000, 100, 0);
  GError *error = NULL;
  g_assert_cmpint (tn_node_write (node, 9999, "ab", 2, &error), ==, -EINVAL);
  g_assert_nonnull (error);
  g_clear_error (&error);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_plain_and_filter (void)
{
  MemDisk *disk = mem_disk ("a", 8192);
  disk->defer = 3;
  TnNode *node =
      open_node_text ("driver=raw,file.driver=pass,file.file.driver=mem,file.file.filename=a", TN_OPEN_WRITE);
  write_bytes (node, 100, 200, 9);
  assert_bytes (node, 100, 200, 9);
  g_assert_cmpint (disk->bytes[100], ==, 9);
  tn_node_unref (node);
  g_assert_cmpuint (disk->opens, ==, 0);
  mem_disks_free ();
}

static void
test_toy (void)
{
  make_toy ("t", 100000, 4096, NULL);
  TnNode *node = open_node_text ("driver=toy,file.driver=mem,file.filename=t", TN_OPEN_WRITE);
  g_assert_cmpuint (tn_node_size (node), ==, 100000);
  assert_bytes (node, 0, 100000, 0);
  write_bytes (node, 5000, 20000, 3);
  write_bytes (node, 99000, 1000, 4);
  tn_node_unref (node);

  node = open_node_text ("file.driver=mem,file.filename=t", 0);
  g_assert_cmpstr (tn_node_class_name (node), ==, "toy");
  assert_bytes (node, 0, 5000, 0);
  assert_bytes (node, 5000, 20000, 3);
  assert_bytes (node, 25000, 74000, 0);
  assert_bytes (node, 99000, 1000, 4);
  GError *error = NULL;
  g_assert_cmpint (tn_node_write (node, 0, "x", 1, &error), ==, -EROFS);
  g_clear_error (&error);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_chain (void)
{
  make_toy ("base", 50000, 4096, NULL);
  make_toy ("mid", 30000, 8192, "mem:base");
  make_toy ("top", 60000, 4096, "mem:mid");
  TnNode *node = open_node_text ("driver=toy,file.driver=mem,file.filename=base", TN_OPEN_WRITE);
  write_bytes (node, 0, 50000, 1);
  tn_node_unref (node);
  node = open_node_text ("driver=toy,file.driver=mem,file.filename=mid", TN_OPEN_WRITE);
  write_bytes (node, 10000, 100, 2);
  tn_node_unref (node);
  node = open_node_text ("driver=toy,file.driver=mem,file.filename=top", TN_OPEN_WRITE);
  g_assert_nonnull (tn_node_child (tn_node_child (node, "backing"), "backing"));
  write_bytes (node, 20001, 5, 3);
  assert_bytes (node, 0, 10000, 1);
  assert_bytes (node, 10000, 100, 2);
  assert_bytes (node, 10100, 9901, 1);
  assert_bytes (node, 20001, 5, 3);
  assert_bytes (node, 20006, 9994, 1);
  assert_bytes (node, 30000, 30000, 0);
  TnStatus status;
  GError *error = NULL;
  tn_node_status (node, NULL, 0, 60000, &status, &error);
  g_assert_no_error (error);
  g_assert_true (status.data);
  g_assert_cmpuint (status.depth, ==, 2);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_self_reference (void)
{
  make_toy ("loop", 4096, 4096, "mem:loop");
  g_autoptr (TnOptions) options = options_of ("driver=toy,file.driver=mem,file.filename=loop");
  TnNode *node = NULL;
  GError *error = NULL;
  g_assert_cmpint (tn_node_open (options, 0, &node, &error), ==, -ELOOP);
  g_assert_nonnull (strstr (error->message, "refers to itself"));
  g_clear_error (&error);
  mem_disks_free ();
}

static void
test_fast_path (void)
{
  make_toy ("t", 100000, 4096, NULL);
  TnNode *node = open_node_text ("driver=toy,file.driver=mem,file.filename=t", TN_OPEN_WRITE);
  write_bytes (node, 0, 8192, 1);
  TnNodeStats before = { .size = sizeof before }, after = { .size = sizeof after };
  tn_node_stats (node, &before);
  write_bytes (node, 100, 50, 2);
  assert_bytes (node, 100, 50, 2);
  assert_bytes (node, 50000, 50, 0);
  tn_node_stats (node, &after);
  g_assert_cmpuint (after.fast - before.fast, ==, 3);
  tn_node_unref (node);
  mem_disks_free ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/block/leaf/submit", "mem", test_leaf);
  g_test_add_data_func ("/block/leaf/blocking", "memblock", test_leaf);
  g_test_add_func ("/block/plain-and-filter", test_plain_and_filter);
  g_test_add_func ("/block/toy", test_toy);
  g_test_add_func ("/block/chain", test_chain);
  g_test_add_func ("/block/self-reference", test_self_reference);
  g_test_add_func ("/block/fast-path", test_fast_path);
  return g_test_run ();
}
