/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The "file" protocol through the public interface: every engine, with and without O_DIRECT, against plain
 * pread(2)/pwrite(2)/stat(2) on the same file.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tenon/node.h>

#define BLOCK 4096u
#define RW (TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP)

typedef struct Mode {
  const char *aio; /* NULL: the default */
  bool direct;
} Mode;

static char *folder;

static char *
test_path (const char *name)
{
  return g_build_filename (folder, name, NULL);
}

static TnOptions *
test_options (const char *path, const Mode *mode)
{
  TnOptions *options = tn_options_new ();

  tn_options_set (options, "driver", g_str_has_prefix (path, "/dev/") ? "host_device" : "file");
  tn_options_set (options, "filename", path);
  if (mode != NULL && mode->aio != NULL)
    tn_options_set (options, "aio", mode->aio);
  return options;
}

static TnNode *
test_open (const char *path, const Mode *mode, uint32_t flags)
{
  g_autoptr (TnOptions) options = test_options (path, mode);
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  tn_node_open (options, flags | (mode != NULL && mode->direct ? TN_OPEN_DIRECT : 0), &node, &error);
  g_assert_no_error (error);
  return node;
}

static void
test_close (TnNode *node)
{
  g_autoptr (GError) error = NULL;

  tn_node_close (node, &error);
  g_assert_no_error (error);
}

/* Makes a file of @size bytes, of @byte or (negative) of a hole. */
static void
test_make (const char *path, uint64_t size, int byte)
{
  int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (ftruncate (fd, (off_t) size), ==, 0);
  if (byte >= 0) {
    g_autofree char *data = g_malloc (size);
    memset (data, byte, size);
    g_assert_cmpint (pwrite (fd, data, size, 0), ==, (ssize_t) size);
  }
  close (fd);
}

static void
test_expect (const char *path, const uint8_t *model, uint64_t size)
{
  g_autofree char *data = NULL;
  gsize length;

  g_assert_true (g_file_get_contents (path, &data, &length, NULL));
  g_assert_cmpmem (data, length, model, size);
}

static void *
test_aligned (size_t size)
{
  void *p = NULL;

  g_assert_cmpint (posix_memalign (&p, BLOCK, size), ==, 0);
  memset (p, 0xa5, size); /* Valgrind does not see what io_uring writes */
  return p;
}

/* Whether engine and mode can be had here; says why not. */
static bool
test_possible (const Mode *mode)
{
  g_autoptr (GError) error = NULL;
  TnFdEngine engine = g_strcmp0 (mode->aio, "io_uring") == 0 ? TN_FD_ENGINE_URING
                      : g_strcmp0 (mode->aio, "native") == 0 ? TN_FD_ENGINE_LINUX_AIO
                                                             : TN_FD_ENGINE_THREADS;
  g_autofree char *path = test_path ("probe");
  int fd;

  if (engine == TN_FD_ENGINE_LINUX_AIO && g_getenv ("TN_UNDER_VALGRIND") != NULL) {
    g_test_skip ("Valgrind does not see what Linux AIO writes");
    return false;
  }
  if (tn_loop_has_engine (tn_loop_current (), engine, &error) < 0) {
    g_test_skip (error->message);
    return false;
  }
  if (!mode->direct)
    return true;
  fd = open (path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  if (fd < 0)
    g_test_skip ("the file system of the temporary folder has no O_DIRECT");
  else
    close (fd);
  return fd >= 0;
}

/* ---- Many requests at a time against a model ---- */

#define DISK (256 * BLOCK)
#define DEPTH 32

typedef struct Load {
  TnNode *node;
  GRand *rand;
  uint8_t *model;
  uint64_t size; /* of the model */
  unsigned started, pending, count;
  bool aligned;
  bool busy[DISK / BLOCK * 2];
} Load;

typedef struct Slot {
  TnRequest request;
  struct iovec iov[2];
  Load *load;
  uint8_t *buffer;
  unsigned first, n; /* blocks */
} Slot;

static void load_start (Slot *slot);

static void
load_check_read (Slot *slot)
{
  Load *load = slot->load;
  TnRequest *r = &slot->request;
  uint64_t inside = r->offset >= load->size ? 0 : MIN (r->length, load->size - r->offset);

  g_assert_cmpmem (slot->buffer, inside, load->model + r->offset, inside);
  for (uint64_t i = inside; i < r->length; i++)
    g_assert_cmpint (slot->buffer[i], ==, 0);
}

static void
load_done (TnRequest *request, int result)
{
  Slot *slot = request->opaque;
  Load *load = slot->load;

  if (request->op == TN_REQUEST_DISCARD && result == -ENOTSUP)
    result = 0;
  else if (result == 0 && request->op == TN_REQUEST_READ)
    load_check_read (slot);
  g_assert_cmpint (result, ==, 0);
  for (unsigned i = 0; i < slot->n; i++)
    load->busy[slot->first + i] = false;
  load->pending--;
  load_start (slot);
}

/* A run of blocks that no other request is using. */
static bool
load_pick (Slot *slot)
{
  Load *load = slot->load;
  unsigned total = (unsigned) (load->size / BLOCK);

  slot->first = (unsigned) g_rand_int_range (load->rand, 0, (gint32) total);
  slot->n = (unsigned) g_rand_int_range (load->rand, 1, 9);
  slot->n = MIN (slot->n, total - slot->first);
  for (unsigned i = 0; i < slot->n; i++)
    if (load->busy[slot->first + i])
      return false;
  for (unsigned i = 0; i < slot->n; i++)
    load->busy[slot->first + i] = true;
  return true;
}

static void
load_write (Slot *slot)
{
  Load *load = slot->load;
  TnRequest *r = &slot->request;

  for (uint64_t i = 0; i < r->length; i++)
    slot->buffer[i] = (uint8_t) g_rand_int (load->rand);
  memcpy (load->model + r->offset, slot->buffer, r->length);
}

static void
load_start (Slot *slot)
{
  static const uint8_t ops[] = { TN_REQUEST_READ, TN_REQUEST_WRITE,        TN_REQUEST_WRITE,
                                 TN_REQUEST_READ, TN_REQUEST_WRITE_ZEROES, TN_REQUEST_FLUSH };
  Load *load = slot->load;
  TnRequest *r = &slot->request;

  if (load->started == load->count || !load_pick (slot))
    return;
  load->started++;
  load->pending++;
  *r = (TnRequest){ .op = ops[g_rand_int_range (load->rand, 0, G_N_ELEMENTS (ops))],
                    .offset = (uint64_t) slot->first * BLOCK,
                    .length = (uint64_t) slot->n * BLOCK,
                    .done = load_done,
                    .opaque = slot };
  if (!load->aligned && r->length > 700) {
    r->offset += 300;
    r->length -= 700;
  }
  slot->iov[0] = (struct iovec){ slot->buffer, BLOCK / 2 };
  slot->iov[1] = (struct iovec){ slot->buffer + BLOCK / 2, r->length - BLOCK / 2 };
  r->iov = slot->iov;
  r->n_iov = 2;
  if (r->op == TN_REQUEST_WRITE)
    load_write (slot);
  if (r->op == TN_REQUEST_WRITE_ZEROES) {
    memset (load->model + r->offset, 0, r->length);
    r->flags = g_rand_boolean (load->rand) ? TN_REQUEST_MAY_UNMAP : 0;
  }
  if (r->op == TN_REQUEST_FLUSH)
    r->offset = r->length = 0;
  tn_node_submit (load->node, r);
}

static void
load_run (Load *load)
{
  g_autofree Slot *slots = g_new0 (Slot, DEPTH);

  for (unsigned i = 0; i < DEPTH; i++) {
    slots[i].load = load;
    slots[i].buffer = test_aligned (8 * BLOCK);
  }
  while (load->started < load->count || load->pending > 0) {
    for (unsigned i = 0; i < DEPTH && load->pending == 0; i++)
      load_start (&slots[i]);
    for (unsigned i = 0; i < DEPTH; i++)
      if (slots[i].request.done == NULL)
        load_start (&slots[i]);
    while (load->pending > 0)
      tn_loop_iterate (tn_loop_current (), true);
  }
  for (unsigned i = 0; i < DEPTH; i++)
    free (slots[i].buffer);
}

static void
test_load (const void *opaque)
{
  const Mode *mode = opaque;
  g_autofree char *path = test_path ("load");
  Load *load;

  if (!test_possible (mode))
    return;
  test_make (path, DISK, 0x5a);
  load = g_new0 (Load, 1);
  load->rand = g_rand_new_with_seed (g_test_rand_int_range (0, G_MAXINT32));
  load->model = g_malloc (DISK);
  memset (load->model, 0x5a, DISK);
  load->size = DISK;
  load->count = 600;
  load->aligned = mode->direct;
  load->node = test_open (path, mode, RW);
  load_run (load);
  test_close (load->node);
  test_expect (path, load->model, DISK);
  g_rand_free (load->rand);
  g_free (load->model);
  g_free (load);
}

/* ---- Ends of files ---- */

static void
test_growth (const void *opaque)
{
  const Mode *mode = opaque;
  g_autofree char *path = test_path ("growth");
  uint8_t *buffer = NULL, *model = NULL;
  TnNode *node;

  if (!test_possible (mode))
    return;
  test_make (path, 0, -1);
  node = test_open (path, mode, RW);
  buffer = test_aligned (2 * BLOCK);
  model = g_malloc0 (6 * BLOCK);
  memset (buffer, 7, 2 * BLOCK);
  memset (model + 4 * BLOCK, 7, 2 * BLOCK);
  g_assert_cmpint (tn_node_write (node, 4 * BLOCK, buffer, 2 * BLOCK, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, 6 * BLOCK);
  /* Beyond the end there are zeroes. */
  memset (buffer, 1, 2 * BLOCK);
  g_assert_cmpint (tn_node_read (node, 5 * BLOCK, buffer, 2 * BLOCK, NULL), ==, 0);
  g_assert_cmpmem (buffer, BLOCK, model + 5 * BLOCK, BLOCK);
  for (unsigned i = 0; i < BLOCK; i++)
    g_assert_cmpint (buffer[BLOCK + i], ==, 0);
  g_assert_cmpint (tn_node_write_zeroes (node, 6 * BLOCK, BLOCK, 0, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, 7 * BLOCK);
  g_assert_cmpint (tn_node_resize (node, 6 * BLOCK, TN_PREALLOC_OFF, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, 6 * BLOCK);
  test_close (node);
  test_expect (path, model, 6 * BLOCK);
  free (buffer);
  g_free (model);
}

/* The size is no multiple of what O_DIRECT wants. */
static void
test_odd_end (const void *opaque)
{
  const Mode *mode = opaque;
  g_autofree char *path = test_path ("odd");
  uint8_t *buffer;
  TnNode *node;

  if (!test_possible (mode))
    return;
  test_make (path, BLOCK + 100, 3);
  node = test_open (path, mode, 0);
  buffer = test_aligned (2 * BLOCK);
  memset (buffer, 1, 2 * BLOCK);
  g_assert_cmpint (tn_node_read (node, 0, buffer, 2 * BLOCK, NULL), ==, 0);
  for (unsigned i = 0; i < 2 * BLOCK; i++)
    g_assert_cmpint (buffer[i], ==, i < BLOCK + 100 ? 3 : 0);
  test_close (node);
  free (buffer);
}

static void *
grow_thread (void *opaque)
{
  TnNode *node = ((void **) opaque)[0];
  unsigned which = GPOINTER_TO_UINT (((void **) opaque)[1]);
  char byte = (char) ('a' + which);

  for (unsigned i = 0; i < 200; i++)
    g_assert_cmpint (tn_node_write (node, i * 2 + which, &byte, 1, NULL), ==, 0);
  tn_loop_free (tn_loop_current ());
  return NULL;
}

static void
test_growth_threads (void)
{
  g_autofree char *path = test_path ("threads");
  GThread *threads[2];
  void *arguments[2][2];
  uint8_t model[400];
  TnNode *node;

  test_make (path, 0, -1);
  node = test_open (path, NULL, RW);
  for (unsigned i = 0; i < 2; i++) {
    arguments[i][0] = node;
    arguments[i][1] = GUINT_TO_POINTER (i);
    threads[i] = g_thread_new ("grow", grow_thread, arguments[i]);
  }
  for (unsigned i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  g_assert_cmpuint (tn_node_size (node), ==, 400);
  test_close (node);
  for (unsigned i = 0; i < sizeof model; i++)
    model[i] = (uint8_t) ('a' + i % 2);
  test_expect (path, model, sizeof model);
}

/* ---- Holes -----------------------------------------------------------------------------------------------
 */

static void
expect_extent (TnNode *node, uint64_t offset, uint32_t kind, uint64_t start, uint64_t end)
{
  TnExtent extent;

  g_assert_cmpint (tn_node_map (node, offset, 1, TN_MAP_PRECISE, &extent, NULL), ==, 0);
  g_assert_cmpuint (extent.kind, ==, kind);
  g_assert_cmpuint (extent.offset, >=, start); /* an extent may begin at the offset asked */
  g_assert_cmpuint (extent.offset, <=, offset);
  g_assert_cmpuint (extent.offset + extent.length, ==, end);
}

static void
test_map (void)
{
  const uint64_t unit = 65536;
  g_autofree char *path = test_path ("map");
  g_autofree char *data = g_malloc (unit);
  TnExtent extent;
  TnNode *node;
  int fd;

  test_make (path, 8 * unit, -1);
  fd = open (path, O_RDWR | O_CLOEXEC);
  memset (data, 1, unit);
  for (unsigned i = 2; i < 4; i++)
    g_assert_cmpint (pwrite (fd, data, unit, (off_t) (i * unit)), ==, (ssize_t) unit);
  if (lseek (fd, 0, SEEK_DATA) == 0) {
    close (fd);
    g_test_skip ("the file system of the temporary folder does not tell holes");
    return;
  }
  close (fd);
  node = test_open (path, NULL, RW);
  g_assert_cmpint (tn_node_map (node, 2 * unit, 1, TN_MAP_NOWAIT, &extent, NULL), ==, -EAGAIN);
  expect_extent (node, 0, TN_EXTENT_ZERO, 0, 2 * unit);
  expect_extent (node, 2 * unit, TN_EXTENT_DATA, 2 * unit, 4 * unit);
  g_assert_cmpint (tn_node_map (node, 3 * unit, 1, TN_MAP_NOWAIT, &extent, NULL), ==, 0);
  g_assert_cmpuint (extent.kind, ==, TN_EXTENT_DATA);
  expect_extent (node, 5 * unit, TN_EXTENT_ZERO, 4 * unit, 8 * unit);
  /* Discarded space is a hole, also for the memory of the last answer. */
  expect_extent (node, 3 * unit, TN_EXTENT_DATA, 2 * unit, 4 * unit);
  g_assert_cmpint (tn_node_discard (node, 3 * unit, unit, NULL), ==, 0);
  expect_extent (node, 3 * unit, TN_EXTENT_ZERO, 3 * unit, 8 * unit);
  /* A hole that has been written to is none any more. */
  expect_extent (node, 6 * unit, TN_EXTENT_ZERO, 3 * unit, 8 * unit);
  g_assert_cmpint (tn_node_write (node, 6 * unit, data, unit, NULL), ==, 0);
  expect_extent (node, 6 * unit, TN_EXTENT_DATA, 6 * unit, 7 * unit);
  test_close (node);
}

static uint64_t
blocks_of (const char *path)
{
  struct stat st;

  g_assert_cmpint (stat (path, &st), ==, 0);
  return (uint64_t) st.st_blocks * 512;
}

static void
test_zero_space (void)
{
  const uint64_t size = 1 << 20;
  g_autofree char *path = test_path ("zero");
  g_autofree uint8_t *model = g_malloc0 (size);
  TnNode *node;

  test_make (path, size, 9);
  node = test_open (path, NULL, RW);
  g_assert_cmpint (tn_node_write_zeroes (node, 0, size / 2, 0, NULL), ==, 0);
  g_assert_cmpuint (blocks_of (path), >=, size); /* zero, yet allocated */
  g_assert_cmpint (tn_node_write_zeroes (node, size / 2, size / 2, TN_REQUEST_MAY_UNMAP, NULL), ==, 0);
  test_close (node);
  g_assert_cmpuint (blocks_of (path), <=, size / 2 + 65536);
  test_expect (path, model, size);
}

/* ---- Making and resizing
 * ------------------------------------------------------------------------------------ */

static int
test_create (const char *path, uint64_t size, const char *prealloc, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();

  if (prealloc != NULL)
    tn_options_set (options, "preallocation", prealloc);
  return tn_image_create (path, "raw", options, size, error);
}

static void
test_preallocation (void)
{
  static const char *const modes[] = { "off", "falloc", "full" };
  const uint64_t size = 2 << 20;
  g_autofree char *path = test_path ("prealloc");
  struct stat st;

  for (unsigned i = 0; i < G_N_ELEMENTS (modes); i++) {
    g_autoptr (GError) error = NULL;
    TnNode *node;

    g_unlink (path);
    g_assert_cmpint (test_create (path, size, modes[i], &error), ==, 0);
    g_assert_no_error (error);
    g_assert_cmpint (stat (path, &st), ==, 0);
    g_assert_cmpint (st.st_size, ==, (off_t) size);
    if (i == 0)
      g_assert_cmpuint (blocks_of (path), <, size / 2);
    else
      g_assert_cmpuint (blocks_of (path), >=, size);
    node = test_open (path, NULL, RW);
    g_assert_cmpint (tn_node_resize (node, 2 * size, (TnPrealloc) (i == 0 ? 0 : i + 1), &error), ==, 0);
    g_assert_no_error (error);
    test_close (node);
    if (i > 0)
      g_assert_cmpuint (blocks_of (path), >=, 2 * size);
  }
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (test_create (path, size, "sometimes", &error), <, 0);
  g_assert_nonnull (error);
}

/* ---- Reopening
 * ---------------------------------------------------------------------------------------------- */

static void
count_done (TnRequest *request, int result)
{
  g_assert_cmpint (result, ==, 0);
  (*(unsigned *) request->opaque)--;
}

static void
reopen_with (TnNode *node, uint32_t flags)
{
  g_autoptr (TnOptions) none = tn_options_new ();
  g_autoptr (GError) error = NULL;

  tn_node_reopen (node, none, flags, &error);
  g_assert_no_error (error);
}

static void
test_reopen (void)
{
  static const uint32_t turns[] = { RW | TN_OPEN_DIRECT, RW, 0, RW | TN_OPEN_DIRECT, TN_OPEN_DIRECT, RW };
  const Mode direct = { "threads", true };
  g_autofree char *path = test_path ("reopen");
  enum { N = 16 };
  g_autofree TnRequest *requests = g_new0 (TnRequest, N);
  struct iovec iov[N];
  unsigned pending = 0;
  TnNode *node;
  char byte = 4;

  if (!test_possible (&direct))
    return;
  test_make (path, N * BLOCK, 2);
  node = test_open (path, NULL, RW);
  for (unsigned turn = 0; turn < G_N_ELEMENTS (turns); turn++) {
    bool writable = (tn_node_open_flags (node) & TN_OPEN_WRITE) != 0;

    for (unsigned i = 0; i < N; i++) {
      iov[i] = (struct iovec){ turn == 0 ? test_aligned (BLOCK) : iov[i].iov_base, BLOCK };
      memset (iov[i].iov_base, (int) turn, BLOCK);
      requests[i] = (TnRequest){ .op = writable && i % 2 ? TN_REQUEST_WRITE : TN_REQUEST_READ,
                                 .offset = i * BLOCK,
                                 .length = BLOCK,
                                 .iov = &iov[i],
                                 .n_iov = 1,
                                 .done = count_done,
                                 .opaque = &pending };
      pending++;
      tn_node_submit (node, &requests[i]);
    }
    reopen_with (node, turns[turn]);
    while (pending > 0)
      tn_loop_iterate (tn_loop_current (), true);
    g_assert_cmpint (tn_node_is_read_only (node), ==, (turns[turn] & TN_OPEN_WRITE) == 0);
    g_assert_cmpint (tn_node_write (node, 0, &byte, 1, NULL) == 0, ==, (turns[turn] & TN_OPEN_WRITE) != 0);
  }
  for (unsigned i = 0; i < N; i++)
    free (iov[i].iov_base);
  test_close (node);
}

/* ---- Copying inside the kernel
 * ---------------------------------------------------------------------------------- */

static void
test_copy (void)
{
  const uint64_t size = 1 << 20;
  g_autofree char *one = test_path ("copy-from"), *two = test_path ("copy-to");
  g_autofree uint8_t *model = g_malloc0 (2 * size);
  g_autoptr (GError) error = NULL;
  TnNode *from, *to;
  int64_t n;

  test_make (one, size, 6);
  test_make (two, 2 * size, -1);
  from = test_open (one, NULL, 0);
  to = test_open (two, NULL, RW);
  n = tn_node_copy_range (from, 0, to, size, size, &error);
  if (n == -ENOTSUP)
    g_test_skip (error->message);
  else {
    g_assert_no_error (error);
    g_assert_cmpint (n, ==, (int64_t) size);
    g_assert_cmpuint (tn_node_size (to), ==, 2 * size);
    memset (model + size, 6, size);
  }
  test_close (from);
  test_close (to);
  if (n > 0)
    test_expect (two, model, 2 * size);
}

/* ---- Locks
 * ---------------------------------------------------------------------------------------------------- */

/* Opens as a program does: a format above the file, which says what it does with it. */
static int
open_image (const char *path, const char *locking, uint32_t flags, TnNode **node, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();

  if (locking != NULL)
    tn_options_set (options, "file.locking", locking);
  return tn_node_open_file (path, "raw", options, flags, node, error);
}

static void
test_locks (void)
{
  g_autofree char *path = test_path ("locked");
  g_autoptr (GError) error = NULL;
  TnNode *writer = NULL, *other = NULL;

  test_make (path, BLOCK, 0);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &writer, &error), ==, 0);
  /* Once more in this process: the locks belong to the open file, so that is refused too. */
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &other, &error), <, 0);
  g_assert_nonnull (error);
  g_assert_nonnull (strstr (error->message, path));
  g_assert_nonnull (strstr (error->message, "this process already"));
  g_clear_error (&error);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_SHARED, &other, &error), ==, 0);
  g_assert_no_error (error);
  test_close (other);
  g_assert_cmpint (open_image (path, "off", TN_OPEN_WRITE, &other, &error), ==, 0);
  g_assert_no_error (error);
  test_close (other);
  /* What was changed by reopening is locked accordingly. */
  reopen_with (writer, 0);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &other, &error), ==, 0);
  g_assert_cmpint (tn_node_reopen (writer, NULL, TN_OPEN_WRITE, &error), <, 0);
  g_assert_nonnull (error);
  g_clear_error (&error);
  test_close (other);
  reopen_with (writer, TN_OPEN_WRITE);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &other, &error), <, 0);
  g_clear_error (&error);
  test_close (writer);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &other, &error), ==, 0);
  test_close (other);
}

/* A child that holds the read lock on @byte until it is killed. */
static pid_t
hold_lock (const char *path, off_t byte)
{
  int pipes[2];
  char c;
  pid_t child;

  g_assert_cmpint (pipe (pipes), ==, 0);
  child = fork ();
  if (child == 0) {
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    int fd = open (path, O_RDWR);
    bool ok = fcntl (fd, F_OFD_SETLK, &lock) == 0 && write (pipes[1], "x", 1) == 1;

    while (ok)
      pause ();
    _exit (1);
  }
  g_assert_cmpint (read (pipes[0], &c, 1), ==, 1);
  close (pipes[0]);
  close (pipes[1]);
  return child;
}

/* Another program's lock, by the bytes that QEMU uses: 201 means that nobody else may write. */
static void
test_lock_holder (void)
{
  g_autofree char *path = test_path ("held");
  g_autofree char *holder = NULL;
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;
  int status;
  pid_t child;

  test_make (path, BLOCK, 0);
  child = hold_lock (path, 201);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &node, &error), <, 0);
  g_assert_nonnull (error);
  holder = g_strdup_printf ("process %d", (int) child);
  g_assert_nonnull (strstr (error->message, "Failed to get \"write\" lock"));
  g_assert_nonnull (strstr (error->message, holder));
  g_clear_error (&error);
  g_assert_cmpint (open_image (path, NULL, 0, &node, &error), ==, 0);
  test_close (node);
  kill (child, SIGKILL);
  waitpid (child, &status, 0);
  g_assert_cmpint (open_image (path, NULL, TN_OPEN_WRITE, &node, &error), ==, 0);
  test_close (node);
}

/* ---- Failures
 * --------------------------------------------------------------------------------------------------- */

static void
expect_open_error (const char *path, const Mode *mode, uint32_t flags, const char *text)
{
  g_autoptr (TnOptions) options = test_options (path, mode);
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  g_assert_cmpint (tn_node_open (options, flags, &node, &error), <, 0);
  g_assert_null (node);
  g_assert_nonnull (error);
  g_assert_nonnull (strstr (error->message, path));
  g_assert_nonnull (strstr (error->message, text));
  g_assert_null (strchr (error->message, '\n'));
}

static void
test_open_errors (void)
{
  const Mode native = { "native", false };
  g_autofree char *missing = test_path ("missing"), *fifo = test_path ("fifo"), *file = test_path ("plain");

  test_make (file, BLOCK, 0);
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  expect_open_error (missing, NULL, 0, "No such file");
  expect_open_error (folder, NULL, 0, "folder");
  expect_open_error (fifo, NULL, 0, "regular file");
  expect_open_error (file, &native, 0, "cache.direct=on");
}

/* As nobody for a moment, where we are root. */
static void
test_no_permission (void)
{
  g_autofree char *path = test_path ("secret");

  test_make (path, BLOCK, 0);
  g_assert_cmpint (chmod (path, 0400), ==, 0);
  if (geteuid () != 0) {
    expect_open_error (path, NULL, TN_OPEN_WRITE, "Permission denied");
    return;
  }
  g_assert_cmpint (chmod (folder, 0755), ==, 0);
  test_close (test_open (path, NULL, 0)); /* the plugin is loaded while it can be */
  g_assert_cmpint (seteuid (65534), ==, 0);
  expect_open_error (path, NULL, TN_OPEN_WRITE, "Permission denied");
  g_assert_cmpint (seteuid (0), ==, 0);
}

/* A small file system of its own; NULL (and skipped) when we may not mount one. */
static char *
mount_small (const char *options)
{
  char *path = test_path ("mount");

  g_mkdir (path, 0755);
  if (mount ("tenon-test", path, "tmpfs", 0, options) == 0)
    return path;
  g_test_skip ("mounting a file system needs root");
  g_free (path);
  return NULL;
}

static void
test_full (void)
{
  const uint64_t size = 1 << 20;
  g_autofree char *mounted = mount_small ("size=1m");
  g_autofree char *path = NULL, *data = NULL;
  g_autoptr (GError) error = NULL;
  TnNode *node;

  if (mounted == NULL)
    return;
  path = g_build_filename (mounted, "a", NULL);
  data = g_malloc0 (4 * size);
  g_assert_cmpint (test_create (path, 8 * size, "full", &error), ==, -ENOSPC);
  g_assert_nonnull (strstr (error->message, path));
  g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS)); /* what was made is gone again */
  g_clear_error (&error);
  g_assert_cmpint (test_create (path, 4 * size, NULL, &error), ==, 0);
  node = test_open (path, NULL, RW);
  g_assert_cmpint (tn_node_write (node, 0, data, 4 * size, &error), ==, -ENOSPC);
  g_clear_error (&error);
  g_assert_cmpint (tn_node_discard (node, 0, 4 * size, NULL), ==, 0);
  g_assert_cmpint (tn_node_write (node, 0, data, size / 2, &error), ==, 0);
  g_assert_cmpint (tn_node_resize (node, 8 * size, TN_PREALLOC_FALLOC, &error), ==, -ENOSPC);
  g_assert_cmpuint (tn_node_size (node), ==, 4 * size);
  test_close (node);
  umount2 (mounted, MNT_DETACH);
}

static void
test_read_only_file_system (void)
{
  g_autofree char *mounted = mount_small ("size=1m");
  g_autofree char *path = NULL, *other = NULL;
  g_autoptr (GError) error = NULL;

  if (mounted == NULL)
    return;
  path = g_build_filename (mounted, "a", NULL);
  other = g_build_filename (mounted, "b", NULL);
  test_make (path, BLOCK, 0);
  g_assert_cmpint (mount ("tenon-test", mounted, "tmpfs", MS_REMOUNT | MS_RDONLY, ""), ==, 0);
  expect_open_error (path, NULL, TN_OPEN_WRITE, "Read-only file system");
  test_close (test_open (path, NULL, 0));
  g_assert_cmpint (test_create (other, BLOCK, NULL, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "Read-only file system"));
  umount2 (mounted, MNT_DETACH);
}

/* ---- Block devices
 * ----------------------------------------------------------------------------------------------- */

static char *
attach_loop (const char *path)
{
  char *quoted = g_shell_quote (path);
  g_autofree char *command = g_strdup_printf ("losetup -f --show %s", quoted);
  char *out = NULL;
  int status = -1;

  g_free (quoted);
  if (geteuid () == 0)
    g_spawn_command_line_sync (command, &out, NULL, &status, NULL);
  if (status == 0)
    return g_strchomp (out);
  g_free (out);
  g_test_skip ("attaching a loop device needs root and losetup");
  return NULL;
}

static void
test_device (void)
{
  const uint64_t size = 4 << 20;
  g_autofree char *path = test_path ("device");
  g_autofree char *device = NULL, *detach = NULL, *data = g_malloc (BLOCK);
  g_autofree uint8_t *model = g_malloc (size);
  g_autoptr (GError) error = NULL;
  TnNode *node;

  test_make (path, size, 1);
  device = attach_loop (path);
  if (device == NULL)
    return;
  memset (model, 1, size);
  node = test_open (device, NULL, RW);
  g_assert_cmpuint (tn_node_size (node), ==, size);
  memset (data, 8, BLOCK);
  memset (model + BLOCK, 8, BLOCK);
  g_assert_cmpint (tn_node_write (node, BLOCK, data, BLOCK, &error), ==, 0);
  memset (model + 65536, 0, 65536);
  g_assert_cmpint (tn_node_write_zeroes (node, 65536, 65536, 0, &error), ==, 0);
  memset (model + 2 * 65536, 0, 65536);
  g_assert_cmpint (tn_node_write_zeroes (node, 2 * 65536, 65536, TN_REQUEST_MAY_UNMAP, &error), ==, 0);
  memset (model + 3 * 65536, 0, 65536);
  g_assert_cmpint (tn_node_discard (node, 3 * 65536, 65536, &error), ==, 0);
  g_assert_cmpint (tn_node_flush (node, &error), ==, 0);
  g_assert_no_error (error);
  g_assert_cmpint (tn_node_resize (node, 2 * size, TN_PREALLOC_OFF, &error), <, 0);
  g_assert_nonnull (strstr (error->message, device));
  test_close (node);
  detach = g_strdup_printf ("losetup -d %s", device);
  g_spawn_command_line_sync (detach, NULL, NULL, NULL, NULL);
  sync ();
  test_expect (path, model, size);
}

static void
test_file_is_no_device (void)
{
  g_autofree char *path = test_path ("nodevice");
  g_autoptr (TnOptions) options = test_options (path, NULL);
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  test_make (path, BLOCK, 0);
  tn_options_set (options, "driver", "host_device");
  g_assert_cmpint (tn_node_open (options, 0, &node, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "block device"));
}

/* ---- main
 * ----------------------------------------------------------------------------------------------------------
 */

static const Mode modes[] = {
  { NULL, false },      { NULL, true },      { "io_uring", false }, { "io_uring", true },
  { "threads", false }, { "threads", true }, { "native", true },
};

static void
add_for_modes (const char *name, void (*test) (const void *opaque))
{
  for (unsigned i = 0; i < G_N_ELEMENTS (modes); i++) {
    g_autofree char *path =
        g_strdup_printf ("/file/%s/%s/%s", name, modes[i].aio != NULL ? modes[i].aio : "default",
                         modes[i].direct ? "direct" : "buffered");
    g_test_add_data_func (path, &modes[i], test);
  }
}

static void
remove_folder (void)
{
  GDir *dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *path = test_path (name);
    g_remove (path);
  }
  g_dir_close (dir);
  g_rmdir (folder);
  g_free (folder);
}

int
main (int argc, char **argv)
{
  int status;

  /* Valgrind's threads stand still while one of them waits on io_uring, so a worker would never get on. */
  if (g_getenv ("TN_UNDER_VALGRIND") != NULL)
    g_setenv ("TENON_LOOP", "epoll", TRUE);
  g_test_init (&argc, &argv, NULL);
  folder = g_dir_make_tmp ("tenon-file-XXXXXX", NULL);
  g_assert_nonnull (folder);
  add_for_modes ("load", test_load);
  add_for_modes ("growth", test_growth);
  add_for_modes ("odd-end", test_odd_end);
  g_test_add_func ("/file/growth-threads", test_growth_threads);
  g_test_add_func ("/file/map", test_map);
  g_test_add_func ("/file/zero-space", test_zero_space);
  g_test_add_func ("/file/preallocation", test_preallocation);
  g_test_add_func ("/file/reopen", test_reopen);
  g_test_add_func ("/file/copy", test_copy);
  g_test_add_func ("/file/locks", test_locks);
  g_test_add_func ("/file/lock-holder", test_lock_holder);
  g_test_add_func ("/file/open-errors", test_open_errors);
  g_test_add_func ("/file/no-permission", test_no_permission);
  g_test_add_func ("/file/full", test_full);
  g_test_add_func ("/file/read-only-file-system", test_read_only_file_system);
  g_test_add_func ("/file/device", test_device);
  g_test_add_func ("/file/no-device", test_file_is_no_device);
  status = g_test_run ();
  tn_loop_free (tn_loop_current ());
  remove_folder ();
  return status;
}
