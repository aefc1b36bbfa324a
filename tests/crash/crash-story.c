/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A random workload, and what a reader may find after it. */
#include "crash.h"

#include <stdlib.h>

#define DEFAULT_SIZE (512u << 10)
#define OPERATIONS 20u
#define BASE_FILL 0xba
#define PARENT "parent.img"

/* A step that may or may not show after a cut. */
typedef struct CrashStep {
  uint64_t offset, length;
  uint64_t size; /* of the disk afterwards */
  uint64_t turn; /* of the last operation on the disks when it began */
  uint8_t value;
  bool noise;            /* instead of a value: the first sector may hold any bytes */
  const CrashState *all; /* instead of a value: every sector gets one of these */
} CrashStep;

typedef struct CrashSnapshot {
  char *name;
  CrashState state;
  bool made, deleted; /* for sure */
} CrashSnapshot;

uint32_t
crash_pick (CrashStory *story, uint32_t n)
{
  return (uint32_t) g_rand_int_range (story->rand, 0, (int) n);
}

/* ---- Sets of values ---- */

static void
state_init (CrashState *state, uint64_t room)
{
  state->may = g_malloc0 (room / CRASH_SECTOR * sizeof *state->may);
  state->sizes = g_array_new (false, false, sizeof (uint64_t));
}

static void
state_copy (CrashState *state, const CrashState *from, uint64_t room)
{
  state->may = g_memdup2 (from->may, room / CRASH_SECTOR * sizeof *state->may);
  state->sizes = g_array_copy (from->sizes);
}

void
crash_state_clear (CrashState *state)
{
  g_clear_pointer (&state->may, g_free);
  g_clear_pointer (&state->sizes, g_array_unref);
}

/* The bytes hold @value; unless that is @sure, what they held before is possible too. */
static void
state_set (CrashState *state, uint64_t offset, uint64_t length, uint8_t value, bool sure)
{
  for (uint64_t i = offset / CRASH_SECTOR; i < (offset + length) / CRASH_SECTOR; i++) {
    if (sure) {
      memset (state->may[i], 0, sizeof state->may[i]);
    }
    state->may[i][value / 64] |= 1ull << (value % 64);
  }
}

/* Any bytes at all are possible too. */
static void
state_set_noise (CrashState *state, uint64_t offset)
{
  memset (state->may[offset / CRASH_SECTOR], 0xff, sizeof *state->may);
}

/* Everything that @from may hold is possible too. */
static void
state_add (CrashState *state, const CrashState *from, uint64_t room)
{
  for (uint64_t i = 0; i < room / CRASH_SECTOR * 4; i++) {
    state->may[i / 4][i % 4] |= from->may[i / 4][i % 4];
  }
}

static void
state_set_size (CrashState *state, uint64_t size, bool sure)
{
  if (sure) {
    g_array_set_size (state->sizes, 0);
  }
  g_array_append_val (state->sizes, size);
}

/* ---- The story ---- */

static void
free_snapshot (void *p)
{
  CrashSnapshot *snapshot = p;
  crash_state_clear (&snapshot->state);
  g_free (snapshot->name);
  g_free (snapshot);
}

static void
clear_promise (void *p)
{
  crash_state_clear (&((CrashPromise *) p)->state);
}

void
crash_story_begin (CrashStory *story, const CrashCase *kind, uint32_t seed)
{
  const uint64_t size = kind->size ? kind->size : DEFAULT_SIZE;
  *story = (CrashStory){ .kind = kind, .size = size, .room = size * 2, .unit = 4096 };
  story->rand = g_rand_new_with_seed (seed);
  story->steps = g_array_new (false, false, sizeof (CrashStep));
  story->promises = g_array_new (false, false, sizeof (CrashPromise));
  story->snapshots = g_ptr_array_new_with_free_func (free_snapshot);
  g_array_set_clear_func (story->promises, clear_promise);
  state_init (&story->now, story->room);
  state_set (&story->now, 0, story->room, 0, true);
  state_set_size (&story->now, size, true);
}

void
crash_story_end (CrashStory *story)
{
  g_rand_free (story->rand);
  g_array_unref (story->steps);
  g_array_unref (story->promises);
  g_ptr_array_unref (story->snapshots);
  crash_state_clear (&story->now);
}

/* Of the operations that any of the image's disks has seen. */
void
crash_promise (CrashStory *story)
{
  CrashPromise made = { .turn = crash_last_turn (), .steps = story->steps->len };
  state_copy (&made.state, &story->now, story->room);
  g_array_append_val (story->promises, made);
}

void
crash_expect (const CrashStory *story, uint64_t turn, CrashState *state)
{
  const CrashPromise *last = NULL;
  for (guint i = 0; i < story->promises->len; i++) {
    const CrashPromise *made = &g_array_index (story->promises, CrashPromise, i);
    last = made->turn <= turn ? made : last;
  }
  g_assert_nonnull (last);
  state_copy (state, &last->state, story->room);
  for (guint i = last->steps; i < story->steps->len; i++) {
    const CrashStep *step = &g_array_index (story->steps, CrashStep, i);
    if (step->turn <= turn && step->all) {
      state_add (state, step->all, story->room);
    } else if (step->turn <= turn) {
      state_set (state, step->offset, step->length, step->value, false);
      if (step->noise) {
        state_set_noise (state, step->offset);
      }
      state_set_size (state, step->size, false);
    }
  }
}

/* ---- The image ---- */

static void
remove_old_disks (void)
{
  g_autoptr (GPtrArray) disks = mem_disks_named ("cut");
  for (guint i = 0; i < disks->len; i++) {
    MemDisk *disk = disks->pdata[i];
    disk->exists = disk->log = false;
    disk->fault = NULL;
    mem_disk_clear_log (disk);
  }
}

/* An image of the same format and size, with something in its first half.  There is a file like it in the
 * current folder, since some formats look where a parent lies before they record that. */
static void
lay_over_parent (CrashStory *story, TnOptions *options)
{
  const uint64_t length = story->size / 2 + 12 * CRASH_SECTOR;
  g_autoptr (TnOptions) same = options_of (story->kind->create);
  g_autofree char *where =
      g_strdup_printf ("driver=%s,file.driver=mem,file.filename=" PARENT, story->kind->driver);
  g_autofree uint8_t *bytes = g_malloc (length);
  MemDisk *disk = mem_disk (PARENT, 0);
  g_assert_cmpint (tn_image_create ("mem:" PARENT, story->kind->driver, same, story->size, NULL), ==, 0);
  TnNode *parent = open_node_text (where, TN_OPEN_WRITE | TN_OPEN_RESIZE);
  memset (bytes, BASE_FILL, length);
  g_assert_cmpint (tn_node_write (parent, 0, bytes, length, NULL), ==, 0);
  g_assert_cmpint (tn_node_close (parent, NULL), ==, 0);
  g_assert_true (g_file_set_contents (PARENT, (const char *) disk->bytes, (gssize) disk->size, NULL));
  tn_options_set (options, "backing_file", PARENT);
  tn_options_set (options, "backing_fmt", story->kind->driver);
  state_set (&story->now, 0, length, BASE_FILL, true);
}

static void
lay_over_base (CrashStory *story, TnOptions *options)
{
  const uint64_t length = story->size / 2 + 12 * CRASH_SECTOR;
  MemDisk *base = mem_disk ("/base", length);
  memset (base->bytes, BASE_FILL, length);
  tn_options_set (options, "backing_file",
                  "json:{\"driver\":\"raw\",\"file.driver\":\"mem\",\"file.filename\":\"/base\"}");
  tn_options_set (options, "backing_fmt", "raw");
  state_set (&story->now, 0, length, BASE_FILL, true);
}

TnNode *
crash_open (const CrashStory *story, uint32_t flags, GError **error)
{
  const char *more = story->kind->open;
  g_autofree char *files = story->kind->files ? crash_files_options (story->kind->files) : g_strdup ("");
  g_autofree char *text = g_strdup_printf ("driver=%s,file.driver=mem,file.filename=cut%s%s%s",
                                           story->kind->driver, more ? "," : "", more ? more : "", files);
  g_autoptr (TnOptions) options = options_of (text);
  TnNode *node = NULL;
  return tn_node_open (options, flags, &node, error) == 0 ? node : NULL;
}

static bool
clear_disk (CrashStory *story)
{
  TnNode *node = crash_open (story, TN_OPEN_WRITE, NULL);
  if (node == NULL) {
    return false;
  }
  const int ret = tn_node_write_zeroes (node, 0, story->size, 0, NULL);
  return tn_node_close (node, NULL) == 0 && ret == 0;
}

bool
crash_make_image (CrashStory *story)
{
  g_autoptr (TnOptions) options = options_of (story->kind->create);
  g_autoptr (GError) error = NULL;
  MemDisk *existing = mem_disk_find ("cut");
  int (*fault) (MemDisk *, const TnRequest *) = existing ? existing->fault : NULL;
  void *opaque = existing ? existing->fault_opaque : NULL;
  remove_old_disks ();
  story->backing = (story->kind->flags & CRASH_BACKING) && crash_pick (story, 2);
  if (story->backing && (story->kind->flags & CRASH_PARENT)) {
    lay_over_parent (story, options);
  } else if (story->backing) {
    lay_over_base (story, options);
  }
  if (story->kind->files) {
    crash_make_files (story->kind->files, options);
    return true;
  }
  MemDisk *disk = mem_disk ("cut", 0);
  disk->punches = true;
  disk->fault = fault;
  disk->fault_opaque = opaque;
  if (tn_image_create ("mem:cut", story->kind->driver, options, story->size, &error) < 0) {
    g_assert_nonnull (error);
    g_test_message ("%s", error->message);
    return false;
  }
  return !(story->kind->flags & CRASH_NEW_IS_NOISE) || clear_disk (story);
}

/* ---- Steps ---- */

/* Notes what @ret made of a change of the bytes. */
static void
note_step (CrashStory *story, CrashStep step, int ret)
{
  step.size = story->size;
  state_set (&story->now, step.offset, step.length, step.value, ret == 0);
  g_array_append_val (story->steps, step);
}

static CrashStep
pick_range (CrashStory *story, uint64_t align, uint32_t most)
{
  CrashStep step = { .turn = crash_last_turn () };
  const uint64_t units = (story->size + align - 1) / align;
  step.offset = crash_pick (story, (uint32_t) units) * align;
  step.length = MIN ((1 + crash_pick (story, most)) * align, story->size - step.offset);
  return step;
}

static void
write_step (CrashStory *story, TnNode *node, uint64_t align, uint32_t most, uint32_t flags)
{
  CrashStep step = pick_range (story, align, most);
  step.value = (uint8_t) (1 + crash_pick (story, 255));
  g_autofree uint8_t *bytes = g_malloc (step.length);
  memset (bytes, step.value, step.length);
  const struct iovec iov = { bytes, step.length };
  note_step (story, step, tn_node_writev (node, step.offset, &iov, 1, flags, NULL));
}

static void
zero_step (CrashStory *story, TnNode *node, uint64_t align, uint32_t flags)
{
  const CrashStep step = pick_range (story, align, 6);
  note_step (story, step, tn_node_write_zeroes (node, step.offset, step.length, flags, NULL));
}

static void
discard_step (CrashStory *story, TnNode *node)
{
  const CrashStep step = pick_range (story, story->unit, 6);
  const int ret = tn_node_discard (node, step.offset, step.length, NULL);
  note_step (story, step, story->kind->flags & CRASH_DISCARD_ZERO ? ret : -1);
}

static void
resize_step (CrashStory *story, TnNode *node)
{
  const uint64_t old = story->size, sectors = story->room / CRASH_SECTOR;
  uint64_t size = (1 + crash_pick (story, (uint32_t) sectors)) * CRASH_SECTOR;
  if (size < old && !(story->kind->flags & CRASH_SHRINK)) {
    size = old + (old - size) % (story->room - old + CRASH_SECTOR);
    size = MIN (size, story->room);
  }
  const uint64_t turn = crash_last_turn ();
  const int ret = tn_node_resize (node, size, TN_PREALLOC_OFF, NULL);
  story->size = tn_node_size (node);
  g_assert_cmpuint (story->size, ==, ret == 0 ? size : story->size);
  state_set_size (&story->now, size, ret == 0);
  if (ret < 0) {
    state_set_size (&story->now, story->size, false);
  }
  /* What lies behind the smaller end is gone, or reads as zeroes when it comes back. */
  const CrashStep step = { .offset = MIN (old, size),
                           .length = story->room - MIN (old, size),
                           .size = size,
                           .turn = turn,
                           .noise = (story->kind->flags & CRASH_SEAM) && MIN (old, size) < story->room };
  state_set (&story->now, step.offset, step.length, 0, ret == 0);
  if (ret < 0 && step.noise) {
    state_set_noise (&story->now, step.offset);
  }
  g_array_append_val (story->steps, step);
}

static void
make_snapshot (CrashStory *story, TnNode *node)
{
  CrashSnapshot *snapshot = g_new0 (CrashSnapshot, 1);
  snapshot->name = g_strdup_printf ("s%u", story->snapshots->len);
  state_copy (&snapshot->state, &story->now, story->room);
  snapshot->made = tn_node_snapshot (node, TN_SNAPSHOT_CREATE, snapshot->name, NULL) == 0;
  g_ptr_array_add (story->snapshots, snapshot);
}

static void
apply_snapshot (CrashStory *story, TnNode *node, const CrashSnapshot *snapshot)
{
  const CrashStep step = { .turn = crash_last_turn (), .size = story->size, .all = &snapshot->state };
  const int ret = tn_node_snapshot (node, TN_SNAPSHOT_APPLY, snapshot->name, NULL);
  if (ret == 0) {
    memset (story->now.may, 0, story->room / CRASH_SECTOR * sizeof *story->now.may);
  }
  state_add (&story->now, &snapshot->state, story->room);
  g_array_append_val (story->steps, step);
}

static void
snapshot_step (CrashStory *story, TnNode *node)
{
  const uint32_t n = story->snapshots->len, kind = crash_pick (story, 3);
  CrashSnapshot *snapshot = n ? story->snapshots->pdata[crash_pick (story, n)] : NULL;
  if (kind == 0 || snapshot == NULL || !snapshot->made || snapshot->deleted) {
    make_snapshot (story, node);
  } else if (kind == 1) {
    apply_snapshot (story, node, snapshot);
  } else {
    snapshot->deleted = true;
    (void) tn_node_snapshot (node, TN_SNAPSHOT_DELETE, snapshot->name, NULL);
  }
}

static void
one_step (CrashStory *story, TnNode *node)
{
  const uint32_t flags = story->kind->flags, kind = crash_pick (story, 12);
  if ((flags & CRASH_SNAPSHOTS) && crash_pick (story, 5) == 0) {
    snapshot_step (story, node);
  } else if (kind < 6) {
    write_step (story, node, CRASH_SECTOR, 40, 0);
  } else if (kind == 6) {
    write_step (story, node, story->unit, 3, 0);
  } else if (kind == 7 && (flags & CRASH_PACKS)) {
    write_step (story, node, story->unit, 1, TN_REQUEST_PACKED);
  } else if (kind == 8) {
    discard_step (story, node);
  } else if (kind == 9 && (flags & CRASH_RESIZE)) {
    resize_step (story, node);
  } else {
    zero_step (story, node, kind == 10 ? CRASH_SECTOR : story->unit, kind == 7 ? TN_REQUEST_MAY_UNMAP : 0);
  }
}

static TnNode *
reopen (CrashStory *story, TnNode *node)
{
  if (tn_node_close (node, NULL) == 0) {
    crash_promise (story);
  } else {
    crash_state_clear (&story->now);
    crash_expect (story, UINT64_MAX, &story->now);
  }
  node = crash_open (story, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, NULL);
  story->size = node ? tn_node_size (node) : story->size;
  return node;
}

TnNode *
crash_run_workload (CrashStory *story, TnNode *node)
{
  TnInfo info = { .size = sizeof info };
  if (tn_node_info (node, &info, NULL) == 0 && info.cluster_size) {
    story->unit = info.cluster_size;
  }
  for (unsigned i = 0; i < OPERATIONS && node; i++) {
    one_step (story, node);
    const uint32_t next = crash_pick (story, 24);
    if (next < 5 && tn_node_flush (node, NULL) == 0) {
      crash_promise (story);
    } else if (next == 5) {
      node = reopen (story, node);
    }
  }
  return node;
}
