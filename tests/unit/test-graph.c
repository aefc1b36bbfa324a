/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes that share others: locks, names, data files, copies below formats, flushes that others need not wait
 * for. */
#include "block-fixture.h"

#include <tenon/copy.h>

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define ALL (TN_PERM_CONSISTENT_READ | TN_PERM_WRITE | TN_PERM_WRITE_UNCHANGED | TN_PERM_RESIZE)
#define NORMAL (TN_PERM_CONSISTENT_READ | TN_PERM_WRITE_UNCHANGED)

static int
try_open (const char *text, uint32_t flags, TnNode **node)
{
  g_autoptr (TnOptions) options = options_of (text);
  g_autoptr (GError) error = NULL;
  *node = NULL;
  int rc = tn_node_open (options, flags, node, &error);
  if (error)
    g_test_message ("%s", error->message);
  return rc;
}

static void
fill (TnNode *node, uint64_t offset, uint64_t length, uint8_t value)
{
  g_autoptr (GError) error = NULL;
  g_autofree uint8_t *bytes = g_malloc (length);
  memset (bytes, value, length);
  tn_node_write (node, offset, bytes, length, &error);
  g_assert_no_error (error);
}

static void
assert_filled (TnNode *node, uint64_t offset, uint64_t length, uint8_t value)
{
  g_autoptr (GError) error = NULL;
  g_autofree uint8_t *bytes = g_malloc (length);
  tn_node_read (node, offset, bytes, length, &error);
  g_assert_no_error (error);
  for (uint64_t i = 0; i < length; i++)
    g_assert_cmpuint (bytes[i], ==, value);
}

static bool
has_format (const char *name)
{
  if (tn_class_find (TN_KIND_FORMAT, name, NULL))
    return true;
  g_test_skip ("the format has not been built");
  return false;
}

static void
create (const char *filename, const char *format, const char *text, uint64_t size)
{
  g_autoptr (TnOptions) options = options_of (text);
  g_autoptr (GError) error = NULL;
  tn_image_create (filename, format, options, size, &error);
  g_assert_no_error (error);
}

/* ---- Permissions ---- */

static void
test_leaf_alone (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  TnNode *node = open_node_text ("driver=mem,filename=d", TN_OPEN_WRITE);
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ | TN_PERM_WRITE);
  g_assert_cmpuint (disk->shared, ==, NORMAL);
  tn_node_unref (node);
  node = open_node_text ("driver=pass,file.driver=mem,file.filename=d,force-share=on", 0);
  g_assert_cmpuint (disk->permissions, ==, 0);
  g_assert_cmpuint (disk->shared, ==, ALL);
  tn_node_unref (node);
  mem_disks_free ();
}

/* A reader of plain bytes bears a writer beside it; the file is locked for both. */
static void
test_readers_and_a_writer (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  TnNode *leaf = open_node_text ("driver=mem,filename=d,node-name=leaf", TN_OPEN_WRITE);
  TnNode *reader = open_node_text ("driver=raw,file=leaf,read-only=on", TN_OPEN_WRITE);
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ);
  g_assert_cmpuint (disk->shared, ==, ALL);
  TnNode *writer = open_node_text ("driver=raw,file=leaf", TN_OPEN_WRITE), *more;
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ | TN_PERM_WRITE);
  g_assert_cmpuint (disk->shared, ==, NORMAL);
  g_assert_cmpint (try_open ("driver=raw,file=leaf", TN_OPEN_WRITE, &more), ==, -EBUSY);
  g_assert_null (more);
  tn_node_unref (writer);
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ);
  g_assert_cmpuint (disk->shared, ==, ALL);
  g_assert_cmpint (try_open ("driver=raw,file=leaf", TN_OPEN_WRITE, &more), ==, 0);
  tn_node_unref (more);
  tn_node_unref (reader);
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ | TN_PERM_WRITE);
  tn_node_unref (leaf);
  mem_disks_free ();
}

/* A reader of tables does not bear one. */
static void
test_tables_do_not_change (void)
{
  make_toy ("d", 65536, TOY_UNIT, NULL);
  TnNode *leaf = open_node_text ("driver=mem,filename=d,node-name=leaf", TN_OPEN_WRITE);
  TnNode *reader = open_node_text ("driver=toy,file=leaf,read-only=on", TN_OPEN_WRITE), *writer;
  g_assert_cmpint (try_open ("driver=raw,file=leaf", TN_OPEN_WRITE, &writer), ==, -EBUSY);
  tn_node_unref (reader);
  tn_node_unref (leaf);
  mem_disks_free ();
}

static void
test_filters_pass_on (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  TnNode *leaf = open_node_text ("driver=mem,filename=d,node-name=leaf", TN_OPEN_WRITE);
  TnNode *node = open_node_text ("driver=raw,file.driver=pass,file.file=leaf", TN_OPEN_WRITE), *second;
  g_assert_cmpuint (disk->permissions, ==, TN_PERM_CONSISTENT_READ | TN_PERM_WRITE);
  g_assert_cmpint (try_open ("driver=raw,file=leaf", TN_OPEN_WRITE, &second), ==, -EBUSY);
  tn_node_unref (node);
  tn_node_unref (leaf);
  mem_disks_free ();
}

/* ---- Names ---- */

static void
test_json_backing_name (void)
{
  g_autofree char *folder = g_dir_make_tmp ("tenon-graph-XXXXXX", NULL), *old = g_get_current_dir ();
  if (!has_format ("qcow2"))
    return;
  g_assert_cmpint (g_chdir (folder), ==, 0);
  g_mkdir ("d", 0700);
  create ("base", "raw", "", 65536);
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  tn_options_set (options, "backing_file", "json:{\"driver\":\"raw\",\"file.filename\":\"base\"}");
  tn_image_create ("d/top", "qcow2", options, 65536, &error);
  g_assert_no_error (error);
  TnNode *node = open_node_text ("filename=d/top", 0);
  g_assert_cmpstr (tn_node_filename (tn_node_child (node, "backing")), ==, "base");
  tn_node_unref (node);
  g_unlink ("d/top");
  g_unlink ("base");
  g_rmdir ("d");
  g_assert_cmpint (g_chdir (old), ==, 0);
  g_rmdir (folder);
}

/* ---- External data files ---- */

static void
test_data_file_by_user (void)
{
  TnNode *node;
  if (!has_format ("qcow2"))
    return;
  mem_disk ("i", 0);
  create ("mem:i", "qcow2", "data_file=i.data", 65536 * 4);
  node = open_node_text ("driver=qcow2,file.driver=mem,file.filename=i", TN_OPEN_WRITE);
  fill (node, 0, 65536, 7);
  tn_node_unref (node);
  MemDisk *data = mem_disk_find ("i.data"), *other = mem_disk ("elsewhere", data->size);
  g_assert_cmpuint (data->bytes[65535], ==, 7);
  memset (other->bytes, 9, 65536);
  node = open_node_text ("driver=qcow2,file.driver=mem,file.filename=i,data-file.driver=mem,"
                         "data-file.filename=elsewhere",
                         0);
  assert_filled (node, 0, 65536, 9);
  tn_node_unref (node);
  TnNode *leaf = open_node_text ("driver=mem,filename=elsewhere,node-name=leaf", TN_OPEN_WRITE);
  node = open_node_text ("driver=qcow2,file.driver=mem,file.filename=i,data-file=leaf", TN_OPEN_WRITE);
  fill (node, 65536, 65536, 8);
  tn_node_unref (node);
  g_assert_cmpuint (other->bytes[65536], ==, 8);
  g_assert_cmpuint (data->bytes[65536], ==, 0);
  tn_node_unref (leaf);
  g_assert_cmpint (try_open ("driver=qcow2,file.driver=mem,file.filename=i", TN_OPEN_UNTRUSTED, &node), <, 0);
  mem_disk ("plain", 0);
  create ("mem:plain", "qcow2", "", 65536);
  g_assert_cmpint (try_open ("driver=qcow2,file.driver=mem,file.filename=plain,data-file.driver=mem,"
                             "data-file.filename=elsewhere",
                             0, &node),
                   ==, -EINVAL);
  mem_disks_free ();
}

/* A file that only the image names must be in its folder. */
static void
test_data_file_confined (gconstpointer name)
{
  TnNode *node;
  if (!has_format ("qcow2"))
    return;
  g_autofree char *text = g_strdup_printf ("data_file=%s", (const char *) name);
  mem_disk ("in/i", 0);
  mem_disk ("out", 0);
  create ("mem:in/i", "qcow2", text, 65536);
  g_assert_cmpint (try_open ("driver=qcow2,file.driver=mem,file.filename=in/i", 0, &node), ==, -EACCES);
  mem_disks_free ();
}

/* ---- Copies ---- */

static void
test_copy_range (void)
{
  g_autofree char *folder = g_dir_make_tmp ("tenon-graph-XXXXXX", NULL);
  g_autofree char *from_name = g_build_filename (folder, "from", NULL),
                  *to_name = g_build_filename (folder, "to", NULL);
  g_autoptr (GError) error = NULL;
  TnNode *from = NULL, *to = NULL;
  if (!has_format ("qcow2"))
    return;
  create (from_name, "raw", "", 1 << 20);
  create (to_name, "qcow2", "", 1 << 20);
  tn_node_open_file (from_name, "raw", NULL, TN_OPEN_WRITE, &from, &error);
  g_assert_no_error (error);
  tn_node_open_file (to_name, "qcow2", NULL, TN_OPEN_WRITE, &to, &error);
  g_assert_no_error (error);
  fill (from, 0, 1 << 20, 5);
  /* Nothing is allocated there. */
  g_assert_cmpint (tn_node_copy_range (from, 0, to, 65536, 65536, NULL), ==, -ENOTSUP);
  fill (to, 65536, 3 * 65536, 1);
  int64_t copied = tn_node_copy_range (from, 4096, to, 65536 + 8192, 65536, &error);
  if (copied == -ENOTSUP)
    g_test_skip ("the kernel does not copy here");
  else {
    g_assert_no_error (error);
    g_assert_cmpint (copied, >, 0);
    assert_filled (to, 65536, 8192, 1);
    assert_filled (to, 65536 + 8192, (uint64_t) copied, 5);
    assert_filled (to, 65536 + 8192 + (uint64_t) copied, 65536, 1);
  }
  g_assert_cmpint (tn_node_copy_range (from, 1 << 20, to, 0, 1, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_node_copy_range (to, 0, to, 65536, 4096, NULL), ==, -ENOTSUP);
  tn_node_unref (from);
  tn_node_unref (to);
  tn_node_open_file (to_name, "qcow2", NULL, 0, &to, &error);
  g_assert_no_error (error);
  g_assert_cmpint (tn_node_copy_range (to, 0, to, 0, 1, NULL), ==, -EROFS);
  tn_node_unref (to);
  g_unlink (from_name);
  g_unlink (to_name);
  g_rmdir (folder);
}

#define SHARED_SIZE (8u << 20)
#define SHARED_UNIT 65536u

/* Clusters in any order, some left out, some of zeroes. */
static void
fill_scattered (TnNode *node)
{
  for (unsigned i = 0; i < 2 * SHARED_SIZE / SHARED_UNIT; i++) {
    uint64_t at = (uint64_t) g_random_int_range (0, SHARED_SIZE / SHARED_UNIT) * SHARED_UNIT;
    fill (node, at, SHARED_UNIT, (uint8_t) g_random_int_range (0, 4));
  }
}

static void
assert_same (TnNode *a, TnNode *b)
{
  g_autofree uint8_t *left = g_malloc (SHARED_SIZE), *right = g_malloc (SHARED_SIZE);
  g_autoptr (GError) error = NULL;
  tn_node_read (a, 0, left, SHARED_SIZE, &error);
  g_assert_no_error (error);
  tn_node_read (b, 0, right, SHARED_SIZE, &error);
  g_assert_no_error (error);
  g_assert_cmpmem (left, SHARED_SIZE, right, SHARED_SIZE);
}

static void
share_all (const char *from_format, const char *to_format, unsigned shares)
{
  g_autofree char *from_text = g_strdup_printf ("driver=%s,file.driver=mem,file.filename=from", from_format),
                  *to_text = g_strdup_printf ("driver=%s,file.driver=mem,file.filename=to", to_format);
  g_autoptr (GError) error = NULL;
  MemDisk *disk = mem_disk ("to", 0);
  TnCheck check = { .size = sizeof check };
  mem_disk ("from", 0);
  create ("mem:from", from_format, "", SHARED_SIZE);
  create ("mem:to", to_format, "", SHARED_SIZE);
  disk->shares = shares;
  TnNode *from = open_node_text (from_text, TN_OPEN_WRITE | TN_OPEN_RESIZE);
  TnNode *to = open_node_text (to_text, TN_OPEN_WRITE | TN_OPEN_RESIZE);
  fill_scattered (from);
  TnNode *const sources[] = { from };
  const TnCopy copy = { .size = sizeof copy,
                        .flags = TN_COPY_SHARE | TN_COPY_TARGET_ZERO,
                        .sources = sources,
                        .n_sources = 1,
                        .length = SHARED_SIZE,
                        .target = to,
                        .sparse = 4096 };
  tn_copy_run (&copy, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (disk->shared_calls, >, 0);
  assert_same (from, to);
  if (strcmp (to_format, "raw") != 0)
    g_assert_cmpint (tn_node_check (to, 0, &check, NULL), ==, 0);
  g_assert_cmpuint (check.corruptions + check.leaks, ==, 0);
  tn_node_unref (from);
  tn_node_unref (to);
  mem_disks_free ();
}

/* What is shared in pieces, with refusals among them, is the same as what is copied. */
static void
test_share (void)
{
  static const char *const formats[] = { "raw", "qcow2" };
  if (!has_format ("qcow2"))
    return;
  for (unsigned i = 0; i < 40; i++)
    share_all (formats[i & 1], formats[i >> 1 & 1], i % 5 ? 1000 : 2 + i % 7);
}

/* ---- Flushing ---- */

static void
note_end (TnRequest *request, int result)
{
  g_assert_cmpint (result, ==, 0);
  *(bool *) request->opaque = true;
}

/* While a flush waits for the device, others allocate. */
static void
test_flush_holds_nobody_up (void)
{
  bool flushed = false, written = false;
  uint8_t bytes[512] = { 1 };
  const struct iovec iov = { bytes, sizeof bytes };
  TnRequest flush = { .op = TN_REQUEST_FLUSH, .done = note_end, .opaque = &flushed },
            write = { .op = TN_REQUEST_WRITE,
                      .iov = &iov,
                      .n_iov = 1,
                      .offset = 65536 * 3,
                      .length = sizeof bytes,
                      .done = note_end,
                      .opaque = &written };
  if (!has_format ("qcow2"))
    return;
  MemDisk *disk = mem_disk ("i", 0);
  create ("mem:i", "qcow2", "", 1 << 20);
  TnNode *node = open_node_text ("driver=qcow2,file.driver=mem,file.filename=i", TN_OPEN_WRITE);
  fill (node, 0, 65536, 1);
  tn_node_flush (node, NULL);
  fill (node, 512, 512, 2); /* in place: no table has changed */
  disk->flush_turns = 100000;
  tn_node_submit (node, &flush);
  tn_node_submit (node, &write);
  while (!written)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_false (flushed);
  while (!flushed)
    tn_loop_iterate (tn_loop_current (), true);
  disk->flush_turns = 0;
  tn_node_unref (node);
  node = open_node_text ("driver=qcow2,file.driver=mem,file.filename=i", 0);
  assert_filled (node, 512, 512, 2);
  assert_filled (node, 65536 * 3, 1, 1);
  tn_node_unref (node);
  mem_disks_free ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/graph/permissions/leaf-alone", test_leaf_alone);
  g_test_add_func ("/graph/permissions/readers-and-a-writer", test_readers_and_a_writer);
  g_test_add_func ("/graph/permissions/tables", test_tables_do_not_change);
  g_test_add_func ("/graph/permissions/filters", test_filters_pass_on);
  g_test_add_func ("/graph/names/json-backing", test_json_backing_name);
  g_test_add_func ("/graph/data-file/by-user", test_data_file_by_user);
  g_test_add_data_func ("/graph/data-file/parent-folder", "../out", test_data_file_confined);
  g_test_add_func ("/graph/copy-range", test_copy_range);
  g_test_add_func ("/graph/share", test_share);
  g_test_add_func ("/graph/flush", test_flush_holds_nobody_up);
  return g_test_run ();
}
