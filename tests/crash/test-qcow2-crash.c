/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts and failing writes below qcow2.
 *
 * A random workload runs on a memory disk that logs every write and flush.  Then the disk is put back to what
 * it held at many points of that log: all writes before the last flush, and of those behind it all, some, or
 * some torn at a sector.  Each time the image must open, hold what was flushed, and have no corruption; after
 * a repair, no leak either.  Likewise after each single write has failed.
 *
 * TENON_CRASH_ROUNDS says how many workloads (default 6).
 */
#include "block-fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECTOR 512u
#define DISK (512u << 10)
#define BASE (300u << 10)
#define OPERATIONS 24u

/* ---- The workload and what it promises ---- */

typedef struct Step {
  uint64_t offset, length;
  guint started; /* length of the log then */
} Step;

typedef struct Promise {
  guint logged;    /* length of the log when the flush had ended */
  guint steps;     /* done before the flush */
  uint8_t *stable; /* contents of the disk */
} Promise;

typedef struct Story {
  GRand *rand;
  uint8_t *now;
  uint8_t *unsure; /* per sector: an operation failed there */
  GArray *steps;   /* Step */
  GArray *promises;
  uint32_t cluster;
  bool version2, packs, backing;
} Story;

static void
clear_promise (void *p)
{
  g_free (((Promise *) p)->stable);
}

static void
story_begin (Story *story, uint32_t seed)
{
  *story = (Story){ .rand = g_rand_new_with_seed (seed) };
  story->now = g_malloc0 (DISK);
  story->unsure = g_malloc0 (DISK / SECTOR);
  story->steps = g_array_new (false, false, sizeof (Step));
  story->promises = g_array_new (false, false, sizeof (Promise));
  g_array_set_clear_func (story->promises, clear_promise);
}

static void
story_end (Story *story)
{
  g_rand_free (story->rand);
  g_free (story->now);
  g_free (story->unsure);
  g_array_unref (story->steps);
  g_array_unref (story->promises);
}

static uint32_t
pick (Story *story, uint32_t n)
{
  return (uint32_t) g_rand_int_range (story->rand, 0, (int) n);
}

static void
promise (Story *story, MemDisk *disk)
{
  const Promise made = { disk->ops->len, story->steps->len, g_memdup2 (story->now, DISK) };
  g_array_append_val (story->promises, made);
}

static void
make_image (Story *story)
{
  static const char *const variants[] = {
    "cluster_size=512",
    "cluster_size=4096",
    "cluster_size=4096,lazy_refcounts=on",
    "cluster_size=1024,refcount_bits=64",
    "cluster_size=16384,extended_l2=on",
    "cluster_size=4096,compat=0.10",
    "cluster_size=2048,refcount_bits=1",
  };
  const char *variant = variants[pick (story, G_N_ELEMENTS (variants))];
  g_autoptr (TnOptions) options = options_of (variant);
  g_autoptr (GError) error = NULL;
  story->backing = pick (story, 2);
  MemDisk *base = mem_disk ("/base", BASE);
  memset (base->bytes, 0xba, BASE);
  if (story->backing) {
    tn_options_set (options, "backing_file",
                    "json:{\"driver\":\"raw\",\"file.driver\":\"mem\",\"file.filename\":\"/base\"}");
    tn_options_set (options, "backing_fmt", "raw");
    memset (story->now, 0xba, BASE);
  }
  mem_disk ("cut", 0);
  tn_image_create ("mem:cut", "qcow2", options, DISK, &error);
  g_assert_no_error (error);
  story->version2 = strstr (variant, "0.10");
  story->packs = !strstr (variant, "extended");
  story->cluster = 4096;
  sscanf (variant, "cluster_size=%u", &story->cluster);
}

static TnNode *
open_image (const char *disk, uint32_t flags, GError **error)
{
  g_autofree char *text = g_strdup_printf ("driver=qcow2,file.driver=mem,file.filename=%s", disk);
  g_autoptr (TnOptions) options = options_of (text);
  TnNode *node = NULL;
  return tn_node_open (options, flags, &node, error) == 0 ? node : NULL;
}

static int
write_bytes (Story *story, TnNode *node, uint64_t offset, uint64_t length, uint32_t flags)
{
  g_autofree uint8_t *bytes = g_malloc (length);
  memset (bytes, 1 + (int) pick (story, 255), length);
  memcpy (story->now + offset, bytes, length);
  const struct iovec iov = { bytes, length };
  return tn_node_writev (node, offset, &iov, 1, flags, NULL);
}

static void
one_step (Story *story, TnNode *node, MemDisk *disk)
{
  const uint32_t kind = pick (story, 10);
  const bool whole = kind >= 6;
  const uint32_t align = whole ? story->cluster : SECTOR;
  uint64_t offset = (uint64_t) pick (story, DISK / align) * align;
  uint64_t length = (uint64_t) (1 + pick (story, whole ? 6 : 40)) * align;
  length = kind == 9 ? align : length;
  length = MIN (length, DISK - offset);
  const Step step = { offset, length, disk->ops->len };
  int ret;
  if (kind < 6) {
    ret = write_bytes (story, node, offset, length, 0);
  } else if (kind == 9 && story->packs) {
    ret = write_bytes (story, node, offset, length, TN_REQUEST_PACKED);
  } else if (kind == 8 && !story->version2) {
    ret = tn_node_discard (node, offset, length, NULL);
    memset (story->now + offset, 0, length);
  } else {
    ret = tn_node_write_zeroes (node, offset, length, kind == 6 ? TN_REQUEST_MAY_UNMAP : 0, NULL);
    memset (story->now + offset, 0, length);
  }
  g_array_append_val (story->steps, step);
  memset (story->unsure + offset / SECTOR, ret < 0, length / SECTOR);
}

static void
run_workload (Story *story, TnNode *node, MemDisk *disk)
{
  for (unsigned i = 0; i < OPERATIONS; i++) {
    one_step (story, node, disk);
    if (pick (story, 5) == 0 && tn_node_flush (node, NULL) == 0) {
      promise (story, disk);
    }
  }
}

/* ---- Looking at what is left ---- */

static void
note_finding (const char *line, bool is_error, void *opaque)
{
  if (is_error) {
    g_string_append_printf (opaque, "%s; ", line);
  }
}

static void
check_image (const char *disk, uint32_t fix, bool leaks_allowed, const char *when)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) findings = g_string_new (NULL);
  g_autoptr (TnNode) node =
      open_image (disk, TN_OPEN_CHECK | (fix ? TN_OPEN_WRITE | TN_OPEN_RESIZE : 0), &error);
  g_assert_no_error (error);
  TnInfo info = { .size = sizeof info };
  TnCheck check = { .size = sizeof check, .report = note_finding, .opaque = findings };
  tn_node_info (node, &info, NULL);
  tn_node_check (node, fix, &check, &error);
  g_assert_no_error (error);
  if (check.corruptions && !(info.dirty && !fix)) {
    g_error ("%s: %" G_GUINT64_FORMAT " corruptions: %s", when, check.corruptions, findings->str);
  }
  if (check.leaks && !leaks_allowed) {
    g_error ("%s: %" G_GUINT64_FORMAT " leaks are left", when, check.leaks);
  }
}

/* Sectors that nobody touched since the promise must be as promised. */
static void
check_contents (Story *story, const char *disk, const Promise *made, const uint8_t *touched, const char *when)
{
  g_autoptr (GError) error = NULL;
  g_autofree uint8_t *found = g_malloc (DISK);
  g_autoptr (TnNode) node = open_image (disk, TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
  g_assert_no_error (error);
  tn_node_read (node, 0, found, DISK, &error);
  g_assert_no_error (error);
  for (uint32_t i = 0; i < DISK / SECTOR; i++) {
    if (!touched[i] && memcmp (found + i * SECTOR, made->stable + i * SECTOR, SECTOR)) {
      g_error ("%s: sector %u holds 0x%02x instead of 0x%02x", when, i, found[i * SECTOR],
               made->stable[i * SECTOR]);
    }
  }
}

static const Promise *
last_promise (Story *story, guint cut)
{
  const Promise *last = NULL;
  for (guint i = 0; i < story->promises->len; i++) {
    const Promise *made = &g_array_index (story->promises, Promise, i);
    if (made->logged <= cut) {
      last = made;
    }
  }
  return last;
}

static uint8_t *
touched_since (Story *story, const Promise *made, guint cut)
{
  uint8_t *touched = g_malloc0 (DISK / SECTOR);
  for (guint i = made->steps; i < story->steps->len; i++) {
    const Step *step = &g_array_index (story->steps, Step, i);
    if (step->started <= cut) {
      memset (touched + step->offset / SECTOR, 1, step->length / SECTOR);
    }
  }
  return touched;
}

/* ---- Cuts ---- */

typedef enum Tearing { TEAR_NOTHING, TEAR_DROP, TEAR_SECTORS, TEAR_KINDS } Tearing;

static void
put (MemDisk *disk, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
  if (offset + length > disk->size) {
    g_autofree uint8_t *old = g_memdup2 (disk->bytes, disk->size);
    const uint64_t size = disk->size;
    mem_disk (disk->name, offset + length);
    memcpy (disk->bytes, old, size);
  }
  if (bytes) {
    memcpy (disk->bytes + offset, bytes, length);
  } else {
    memset (disk->bytes + offset, 0, length);
  }
}

static void
replay_op (Story *story, MemDisk *disk, const MemOp *op, Tearing tearing)
{
  if (op->result || (op->op != TN_REQUEST_WRITE && op->op != TN_REQUEST_WRITE_ZEROES)) {
    return;
  }
  if (tearing == TEAR_DROP && pick (story, 2)) {
    return;
  }
  if (tearing != TEAR_SECTORS) {
    put (disk, op->offset, op->bytes, op->length);
    return;
  }
  for (uint64_t at = 0; at < op->length; at += SECTOR) {
    if (pick (story, 2)) {
      put (disk, op->offset + at, op->bytes ? op->bytes + at : NULL, MIN (SECTOR, op->length - at));
    }
  }
}

static MemDisk *
replay (Story *story, const uint8_t *begin, uint64_t size, MemDisk *source, guint cut, Tearing tearing)
{
  guint barrier = 0;
  for (guint i = 0; i < cut; i++) {
    if (g_array_index (source->ops, MemOp, i).op == TN_REQUEST_FLUSH) {
      barrier = i;
    }
  }
  MemDisk *disk = mem_disk ("replay", size);
  memcpy (disk->bytes, begin, size);
  for (guint i = 0; i < cut; i++) {
    replay_op (story, disk, &g_array_index (source->ops, MemOp, i), i < barrier ? TEAR_NOTHING : tearing);
  }
  return disk;
}

static void
ask_qemu (MemDisk *disk, const char *when)
{
  g_autofree char *program = g_find_program_in_path ("qemu-img");
  g_autofree char *path = NULL, *output = NULL;
  int status = 0, fd = program ? g_file_open_tmp ("tenon-cut-XXXXXX", &path, NULL) : -1;
  if (fd < 0) {
    return;
  }
  close (fd);
  g_assert_true (g_file_set_contents (path, (const char *) disk->bytes, (gssize) disk->size, NULL));
  const char *argv[] = { program, "check", "-f", "qcow2", path, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &output,
                               NULL, &status, NULL));
  remove (path);
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0) {
    g_error ("%s: qemu-img check disagrees: %s", when, output);
  }
}

static void
test_power_cuts (gconstpointer data)
{
  const uint32_t seed = GPOINTER_TO_UINT (data);
  g_autoptr (GError) error = NULL;
  Story story;
  MemDisk *disk = mem_disk ("cut", 0);
  story_begin (&story, seed);
  make_image (&story);
  const uint64_t size = disk->size;
  g_autofree uint8_t *begin = g_memdup2 (disk->bytes, size);
  TnNode *node = open_image ("cut", TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, &error);
  g_assert_no_error (error);
  disk->log = true;
  promise (&story, disk);
  run_workload (&story, node, disk);
  tn_node_close (node, &error);
  g_assert_no_error (error);
  disk->log = false;
  for (guint cut = 0; cut <= disk->ops->len; cut++) {
    const Tearing tearing = (Tearing) pick (&story, TEAR_KINDS);
    const Promise *made = last_promise (&story, cut);
    g_autofree uint8_t *touched = touched_since (&story, made, cut);
    g_autofree char *when =
        g_strdup_printf ("seed %u, cut at %u of %u, tearing %u", seed, cut, disk->ops->len, tearing);
    MemDisk *left = replay (&story, begin, size, disk, cut, tearing);
    check_image ("replay", 0, true, when);
    check_contents (&story, "replay", made, touched, when);
    check_image ("replay", TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, false, when);
    check_image ("replay", 0, false, when);
    if (cut % 16 == 0 && !story.backing) {
      ask_qemu (left, when);
    }
  }
  mem_disk_clear_log (disk);
  story_end (&story);
}

/* ---- Failing writes ---- */

typedef struct Fault {
  unsigned countdown;
  int result;
  bool met;
} Fault;

static int
fail_one_write (MemDisk *disk, const TnRequest *request)
{
  Fault *fault = disk->fault_opaque;
  if (request->op == TN_REQUEST_READ || fault->met) {
    return 0;
  }
  if (fault->countdown--) {
    return 0;
  }
  fault->met = true;
  return fault->result;
}

/* false: the workload makes fewer writes than that. */
static bool
fail_at (uint32_t seed, unsigned at, int result)
{
  g_autoptr (GError) error = NULL;
  Story story;
  Fault fault = { at, result, false };
  g_autofree char *when = g_strdup_printf ("seed %u, write %u fails with %d", seed, at, result);
  MemDisk *disk = mem_disk ("cut", 0);
  story_begin (&story, seed);
  make_image (&story);
  TnNode *node = open_image ("cut", TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, &error);
  g_assert_no_error (error);
  disk->fault_opaque = &fault;
  disk->fault = fail_one_write;
  run_workload (&story, node, disk);
  disk->fault = NULL;
  const bool kept = tn_node_close (node, NULL) == 0;
  promise (&story, disk);
  check_image ("cut", 0, true, when);
  if (kept) {
    const Promise *made = &g_array_index (story.promises, Promise, story.promises->len - 1);
    check_contents (&story, "cut", made, story.unsure, when);
  }
  check_image ("cut", TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, false, when);
  story_end (&story);
  return fault.met;
}

static void
test_failing_writes (gconstpointer data)
{
  const uint32_t seed = GPOINTER_TO_UINT (data);
  for (unsigned at = 0; fail_at (seed, at, at % 2 ? -ENOSPC : -EIO); at++) {
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  const char *text = g_getenv ("TENON_CRASH_ROUNDS");
  const unsigned rounds = text ? (unsigned) atoi (text) : 6;
  for (unsigned i = 1; i <= rounds; i++) {
    g_autofree char *cuts = g_strdup_printf ("/qcow2/power-cut/%u", i),
                    *faults = g_strdup_printf ("/qcow2/fault/%u", i);
    g_test_add_data_func (cuts, GUINT_TO_POINTER (i), test_power_cuts);
    g_test_add_data_func (faults, GUINT_TO_POINTER (i), test_failing_writes);
  }
  const int status = g_test_run ();
  mem_disks_free ();
  return status;
}
