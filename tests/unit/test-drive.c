/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drives: checks, cache modes, error policies, statistics, the command line's options. */
#include "block-fixture.h"

typedef struct Wait {
  bool done;
  int result;
} Wait;

static void
wait_done (TnRequest *request, int result)
{
  Wait *wait = request->opaque;
  wait->done = true;
  wait->result = result;
}

static void
start (TnDrive *drive, TnRequest *request, Wait *wait, struct iovec *iov, TnRequestOp op, uint64_t offset,
       uint64_t length)
{
  static char buffer[65536];
  *iov = (struct iovec){ buffer, length };
  *wait = (Wait){ 0 };
  *request = (TnRequest){
    .op = op, .iov = iov, .n_iov = 1, .offset = offset, .length = length, .done = wait_done, .opaque = wait
  };
  tn_drive_submit (drive, request);
}

static int
run (TnDrive *drive, TnRequestOp op, uint64_t offset, uint64_t length)
{
  TnRequest request;
  struct iovec iov;
  Wait wait;
  start (drive, &request, &wait, &iov, op, offset, length);
  while (!wait.done)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_true (request.done == wait_done);
  g_assert_true (request.opaque == &wait);
  g_assert_cmpuint (request.flags, ==, 0);
  g_assert_cmpuint (request.offset, ==, offset);
  return wait.result;
}

static TnDrive *
open_drive (const char *text)
{
  g_autoptr (TnOptions) options = options_of (text);
  GError *error = NULL;
  TnDrive *drive = NULL;
  tn_drive_open (options, &drive, &error);
  g_assert_no_error (error);
  return drive;
}

static void
test_checks (void)
{
  mem_disk ("d", 65536);
  TnDrive *drive = open_drive ("file=mem:d,format=raw");
  g_assert_cmpint (run (drive, TN_REQUEST_READ, 0, 512), ==, 0);
  g_assert_cmpint (run (drive, TN_REQUEST_READ, 65536, 512), ==, -EINVAL);
  g_assert_cmpint (run (drive, TN_REQUEST_READ, 65535, 2), ==, -EINVAL);
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, UINT64_MAX, 2), ==, -EINVAL);
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, 0, 512), ==, 0);
  g_assert_cmpint (run (drive, 0, 0, 0), ==, -ENOTSUP);
  g_assert_cmpint (run (drive, 77, 0, 0), ==, -ENOTSUP);
  tn_drive_free (drive);
  drive = open_drive ("file=mem:d,format=raw,readonly=on");
  g_assert_true (tn_drive_is_read_only (drive));
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, 0, 512), ==, -EROFS);
  g_assert_cmpint (run (drive, TN_REQUEST_DISCARD, 0, 512), ==, -EROFS);
  g_assert_cmpint (run (drive, TN_REQUEST_FLUSH, 0, 0), ==, 0);
  tn_drive_free (drive);
  mem_disks_free ();
}

static void
test_cache_modes (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  disk->defer = 2;
  TnDrive *drive = open_drive ("file=mem:d,format=raw,cache=writethrough");
  GError *error = NULL;
  g_assert_false (tn_drive_write_cache (drive));
  run (drive, TN_REQUEST_WRITE, 0, 512);
  g_assert_cmpuint (disk->flushes, ==, 1);
  tn_drive_set_write_cache (drive, true);
  run (drive, TN_REQUEST_WRITE, 0, 512);
  g_assert_cmpuint (disk->flushes, ==, 1);
  run (drive, TN_REQUEST_FLUSH, 0, 0);
  g_assert_cmpuint (disk->flushes, ==, 2);
  /* Nothing has been written since. */
  run (drive, TN_REQUEST_FLUSH, 0, 0);
  g_assert_cmpuint (disk->flushes, ==, 2);

  tn_drive_set_cache_mode (drive, TN_CACHE_UNSAFE, &error);
  g_assert_no_error (error);
  run (drive, TN_REQUEST_WRITE, 0, 512);
  run (drive, TN_REQUEST_FLUSH, 0, 0);
  g_assert_cmpuint (disk->flushes, ==, 2);

  /* Leaving unsafe mode makes good what was ignored. */
  tn_drive_set_cache_mode (drive, TN_CACHE_NONE, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (disk->flushes, ==, 3);
  g_assert_true (tn_node_open_flags (tn_node_child (tn_drive_node (drive), "file")) & TN_OPEN_DIRECT);
  g_assert_true (tn_drive_write_cache (drive));
  tn_drive_set_cache_mode (drive, TN_CACHE_DIRECTSYNC, &error);
  g_assert_no_error (error);
  run (drive, TN_REQUEST_WRITE, 0, 512);
  g_assert_cmpuint (disk->flushes, ==, 4);
  tn_drive_free (drive);
  mem_disks_free ();
}

static void
test_switch_under_load (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  disk->defer = 5;
  TnDrive *drive = open_drive ("file=mem:d,format=raw");
  TnRequest requests[8];
  struct iovec iov[8];
  Wait waits[8];
  GError *error = NULL;
  for (unsigned round = 0; round < 20; round++) {
    for (unsigned i = 0; i < 8; i++)
      start (drive, &requests[i], &waits[i], &iov[i], i & 1 ? TN_REQUEST_WRITE : TN_REQUEST_READ, i * 4096,
             4096);
    tn_drive_set_cache_mode (drive, round & 1 ? TN_CACHE_NONE : TN_CACHE_WRITEBACK, &error);
    g_assert_no_error (error);
    tn_drive_drain (drive);
    for (unsigned i = 0; i < 8; i++) {
      g_assert_true (waits[i].done);
      g_assert_cmpint (waits[i].result, ==, 0);
    }
  }
  tn_drive_free (drive);
  mem_disks_free ();
}

static int
no_space (MemDisk *disk, const TnRequest *request)
{
  return request->op == TN_REQUEST_WRITE ? -ENOSPC : 0;
}

static void
note_stop (bool is_read, int errnum, void *opaque)
{
  g_assert_false (is_read);
  g_assert_cmpint (errnum, ==, ENOSPC);
  ++*(unsigned *) opaque;
}

static void
test_error_policies (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  unsigned stops = 0;
  TnDrive *drive = open_drive ("file=mem:d,format=raw");
  disk->fault = no_space;
  /* With nobody to stop for, it is reported. */
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, 0, 512), ==, -ENOSPC);
  tn_drive_set_error_policy (drive, TN_ERROR_REPORT, TN_ERROR_IGNORE);
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, 0, 512), ==, 0);
  tn_drive_set_error_policy (drive, TN_ERROR_REPORT, TN_ERROR_ENOSPC);
  tn_drive_on_stop (drive, note_stop, &stops);
  TnRequest request;
  struct iovec iov;
  Wait wait;
  start (drive, &request, &wait, &iov, TN_REQUEST_WRITE, 0, 512);
  g_assert_cmpuint (stops, ==, 1);
  g_assert_false (wait.done);
  /* Still no room: it is kept again. */
  tn_drive_retry (drive);
  while (stops < 2)
    tn_loop_iterate (tn_loop_current (), true);
  disk->fault = NULL;
  tn_drive_retry (drive);
  while (!wait.done)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_cmpint (wait.result, ==, 0);
  TnDriveStats stats = { .size = sizeof stats };
  tn_drive_stats (drive, &stats);
  g_assert_cmpuint (stats.write_requests, ==, 3);
  g_assert_cmpuint (stats.write_errors, ==, 1);
  g_assert_cmpuint (stats.in_flight, ==, 0);
  g_assert_cmpuint (stats.write_bytes, ==, 3 * 512);
  tn_drive_free (drive);
  mem_disks_free ();
}

static void
note_resize (void *opaque)
{
  ++*(unsigned *) opaque;
}

static void
test_resize (void)
{
  unsigned calls = 0;
  mem_disk ("d", 65536);
  TnDrive *drive = open_drive ("file=mem:d,format=raw");
  GError *error = NULL;
  tn_drive_on_resize (drive, note_resize, &calls);
  tn_drive_resize (drive, 131072, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (calls, ==, 1);
  g_assert_cmpuint (tn_drive_size (drive), ==, 131072);
  g_assert_cmpint (run (drive, TN_REQUEST_WRITE, 131072 - 512, 512), ==, 0);
  tn_drive_free (drive);
  mem_disks_free ();
}

static void
expect_refusal (const char *text, const char *word)
{
  g_autoptr (TnOptions) options = options_of (text);
  GError *error = NULL;
  TnDrive *drive = NULL;
  g_assert_cmpint (tn_drive_open (options, &drive, &error), <, 0);
  g_assert_null (drive);
  if (!strstr (error->message, word))
    g_error ("'%s' does not say '%s'", error->message, word);
  g_assert_null (strchr (error->message, '\n'));
  g_clear_error (&error);
}

static void
test_options (void)
{
  mem_disk ("d", 65536);
  expect_refusal ("format=raw", "needs a file");
  expect_refusal ("file=mem:none,format=raw", "none");
  expect_refusal ("file=mem:d,format=nosuch", "nosuch");
  expect_refusal ("file=mem:d,format=raw,cache=sometimes", "sometimes");
  expect_refusal ("file=mem:d,format=raw,werror=often", "often");
  expect_refusal ("file=mem:d,format=raw,cach=none", "cach");
  expect_refusal ("file=mem:d,format=raw,file.filenam=x", "filenam");
  TnDrive *drive = open_drive ("file=mem:d,format=raw,discard=unmap,node-name=root,cache=unsafe");
  g_assert_true (tn_node_find ("root") == tn_drive_node (drive));
  g_assert_true (tn_drive_can_discard (drive));
  tn_drive_free (drive);
  g_assert_null (tn_node_find ("root"));
  mem_disks_free ();
}

/* A disk whose format was guessed must not be made into another by its guest. */
static void
test_probed_raw (void)
{
  MemDisk *disk = mem_disk ("d", 65536);
  TnNode *node = open_node_text ("file.driver=mem,file.filename=d", TN_OPEN_WRITE);
  GError *error = NULL;
  g_assert_cmpstr (tn_node_class_name (node), ==, "raw");
  char header[512] = "TOYIMAGE";
  g_assert_cmpint (tn_node_write (node, 0, header, sizeof header, &error), ==, -EPERM);
  g_assert_nonnull (strstr (error->message, "toy"));
  g_clear_error (&error);
  g_assert_cmpint (disk->bytes[0], ==, 0);
  /* Nor in two steps. */
  g_assert_cmpint (tn_node_write (node, 0, header, 4, &error), ==, 0);
  g_assert_cmpint (tn_node_write (node, 4, header + 4, 4, &error), ==, -EPERM);
  g_clear_error (&error);
  memset (header, 0, sizeof header);
  g_assert_cmpint (tn_node_write (node, 0, header, sizeof header, &error), ==, 0);
  tn_node_unref (node);
  node = open_node_text ("driver=raw,file.driver=mem,file.filename=d", TN_OPEN_WRITE);
  g_assert_cmpint (tn_node_write (node, 0, "TOYIMAGE", 8, &error), ==, 0);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_create (void)
{
  GError *error = NULL;
  g_autoptr (TnOptions) options = options_of ("unit=8192");
  tn_image_create ("mem:new", "toy", options, 100000, &error);
  g_assert_no_error (error);
  TnNode *node = open_node_text ("file.driver=mem,file.filename=new", 0);
  g_assert_cmpuint (tn_node_size (node), ==, 100000);
  tn_node_unref (node);
  /* The size of the backing file. */
  g_autoptr (TnOptions) over = options_of ("backing_file=mem:new");
  tn_image_create ("mem:top", "toy", over, UINT64_MAX, &error);
  g_assert_no_error (error);
  node = open_node_text ("file.driver=mem,file.filename=top", 0);
  g_assert_cmpuint (tn_node_size (node), ==, 100000);
  g_assert_nonnull (tn_node_child (node, "backing"));
  tn_node_unref (node);
  /* A wrong option touches nothing. */
  g_autoptr (TnOptions) wrong = options_of ("unit=8192,unti=5");
  g_autofree uint8_t *before = g_memdup2 (mem_disk_find ("top")->bytes, 512);
  g_assert_cmpint (tn_image_create ("mem:top", "toy", wrong, 5, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "unti"));
  g_clear_error (&error);
  g_assert_cmpmem (before, 512, mem_disk_find ("top")->bytes, 512);
  g_assert_cmpint (tn_image_create ("mem:self", "toy", options, UINT64_MAX, &error), ==, -EINVAL);
  g_clear_error (&error);
  g_autoptr (TnOptions) self = options_of ("backing_file=mem:top");
  g_assert_cmpint (tn_image_create ("mem:top", "toy", self, 100000, &error), ==, -EINVAL);
  g_clear_error (&error);
  mem_disks_free ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/drive/checks", test_checks);
  g_test_add_func ("/drive/cache-modes", test_cache_modes);
  g_test_add_func ("/drive/switch-under-load", test_switch_under_load);
  g_test_add_func ("/drive/error-policies", test_error_policies);
  g_test_add_func ("/drive/resize", test_resize);
  g_test_add_func ("/drive/options", test_options);
  g_test_add_func ("/drive/probed-raw", test_probed_raw);
  g_test_add_func ("/drive/create", test_create);
  return g_test_run ();
}
