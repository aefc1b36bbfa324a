/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A drive with many requests under way, while cache modes and the guest's write cache change all the time.
 * What the guest may rely on after a power cut: writes that had ended before a flush was asked for, once that
 * has ended; and every write that ended while it saw no write cache.
 *
 * No two requests that are under way touch the same sector, so that the writes of a sector have an order.
 */
#include "crash.h"

#define SLOTS 8
#define REQUESTS 160
#define LONGEST 24 /* sectors */
#define NEVER UINT64_MAX

typedef struct Change {
  uint64_t sector, n_sectors;
  uint8_t value;
  uint64_t begun;  /* the log's turn when it was asked for */
  uint64_t stable; /* from which turn on it must be there */
  bool ended;
} Change;

typedef struct Modes Modes;

typedef struct Slot {
  TnRequest request;
  Modes *modes;
  bool busy;
  uint64_t sector, n_sectors; /* the request's own fields are not to be looked at while it is under way */
  guint change;               /* its place in Modes.changes */
  GArray *covers;             /* guint, of a flush: changes that had ended */
  bool counts;                /* of a flush: it is not ignored */
  struct iovec iov;
  uint8_t buffer[LONGEST * CRASH_SECTOR];
} Slot;

struct Modes {
  CrashStory *story;
  TnDrive *drive;
  Slot slots[SLOTS];
  GArray *changes;    /* Change, in the order of being asked for */
  GArray *waiting;    /* guint, changes that had ended when the write cache went */
  guint waiting_from; /* when this change or a later one ends, they are stable */
  GArray *unsafe;     /* Unsafe, in the order of time */
  unsigned left, pending;
};

/* Between these turns nothing is flushed, and a power cut may leave anything. */
typedef struct Unsafe {
  uint64_t from, to;
} Unsafe;

/* ---- What may be found ---- */

static void
promise (Modes *modes, guint change)
{
  Change *made = &g_array_index (modes->changes, Change, change);
  made->stable = MIN (made->stable, crash_last_turn ());
}

static void
promise_all (Modes *modes, GArray *changes)
{
  for (guint i = 0; i < changes->len; i++) {
    promise (modes, g_array_index (changes, guint, i));
  }
  g_array_set_size (changes, 0);
}

static void
list_ended (const Modes *modes, GArray *list)
{
  g_array_set_size (list, 0);
  for (guint i = 0; i < modes->changes->len; i++) {
    if (g_array_index (modes->changes, Change, i).ended) {
      g_array_append_val (list, i);
    }
  }
}

static void
apply_change (CrashState *state, const Change *change, uint64_t turn)
{
  for (uint64_t i = change->sector; i < change->sector + change->n_sectors && change->begun <= turn; i++) {
    if (change->stable <= turn) {
      memset (state->may[i], 0, sizeof state->may[i]);
    }
    state->may[i][change->value / 64] |= UINT64_C (1) << (change->value % 64);
  }
}

static void
expect (const Modes *modes, uint64_t turn, CrashState *state)
{
  const uint64_t size = modes->story->size;
  state->may = g_malloc0_n (size / CRASH_SECTOR, sizeof *state->may);
  state->sizes = g_array_new (FALSE, FALSE, sizeof (uint64_t));
  g_array_append_val (state->sizes, size);
  for (uint64_t i = 0; i < size / CRASH_SECTOR; i++) {
    state->may[i][0] = 1;
  }
  for (guint i = 0; i < modes->changes->len; i++) {
    apply_change (state, &g_array_index (modes->changes, Change, i), turn);
  }
}

/* ---- Requests ---- */

static bool
is_taken (const Modes *modes, uint64_t sector, uint64_t n_sectors)
{
  for (unsigned i = 0; i < SLOTS; i++) {
    const Slot *slot = &modes->slots[i];
    if (slot->busy && slot->sector < sector + n_sectors && sector < slot->sector + slot->n_sectors) {
      return true;
    }
  }
  return false;
}

static void
check_read (const Slot *slot)
{
  CrashState state;
  const uint64_t first = slot->request.offset / CRASH_SECTOR;
  expect (slot->modes, UINT64_MAX, &state);
  for (uint64_t i = 0; i < slot->request.length / CRASH_SECTOR; i++) {
    const uint8_t value = slot->buffer[i * CRASH_SECTOR];
    g_assert_true (state.may[first + i][value / 64] >> (value % 64) & 1);
  }
  crash_state_clear (&state);
}

static bool
is_unsafe (const Modes *modes)
{
  return tn_drive_cache_mode (modes->drive) == TN_CACHE_UNSAFE;
}

static void
end_change (Slot *slot)
{
  Modes *modes = slot->modes;
  g_array_index (modes->changes, Change, slot->change).ended = true;
  if (slot->change >= modes->waiting_from) {
    promise_all (modes, modes->waiting);
  }
  if (!tn_drive_write_cache (modes->drive) && !is_unsafe (modes)) {
    promise (modes, slot->change);
  }
}

static void
request_done (TnRequest *request, int result)
{
  Slot *slot = request->opaque;
  Modes *modes = slot->modes;
  g_assert_cmpint (result, ==, 0);
  slot->busy = false;
  modes->pending--;
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    check_read (slot);
    return;
  case TN_REQUEST_FLUSH:
    if (slot->counts && !is_unsafe (modes)) {
      promise_all (modes, slot->covers);
    }
    return;
  default:
    end_change (slot);
  }
}

static void
prepare_change (Modes *modes, Slot *slot)
{
  TnRequest *request = &slot->request;
  const bool zeroes = crash_pick (modes->story, 4) == 0;
  Change change = { .sector = request->offset / CRASH_SECTOR,
                    .n_sectors = request->length / CRASH_SECTOR,
                    .value = zeroes ? 0 : (uint8_t) (1 + crash_pick (modes->story, 255)),
                    .begun = crash_last_turn (),
                    .stable = NEVER };
  request->op = zeroes ? TN_REQUEST_WRITE_ZEROES : TN_REQUEST_WRITE;
  memset (slot->buffer, change.value, request->length);
  slot->change = modes->changes->len;
  g_array_append_val (modes->changes, change);
}

static void
prepare_flush (Modes *modes, Slot *slot)
{
  slot->request.op = TN_REQUEST_FLUSH;
  slot->request.offset = slot->request.length = 0;
  slot->counts = !is_unsafe (modes);
  list_ended (modes, slot->covers);
}

static void
start (Modes *modes, Slot *slot)
{
  const uint64_t sectors = modes->story->size / CRASH_SECTOR, n = 1 + crash_pick (modes->story, LONGEST);
  const uint64_t sector = crash_pick (modes->story, (uint32_t) (sectors - n));
  const uint32_t kind = crash_pick (modes->story, 8);
  if (is_taken (modes, sector, n)) {
    return;
  }
  slot->request = (TnRequest){ .offset = sector * CRASH_SECTOR, .length = n * CRASH_SECTOR };
  if (kind == 0) {
    prepare_flush (modes, slot);
  } else if (kind < 6) {
    prepare_change (modes, slot);
  } else {
    slot->request.op = TN_REQUEST_READ;
  }
  slot->sector = sector;
  slot->n_sectors = slot->request.length / CRASH_SECTOR;
  slot->iov = (struct iovec){ slot->buffer, slot->request.length };
  const bool moves = slot->request.op == TN_REQUEST_READ || slot->request.op == TN_REQUEST_WRITE;
  slot->request.iov = moves ? &slot->iov : NULL;
  slot->request.n_iov = moves;
  slot->request.done = request_done;
  slot->request.opaque = slot;
  slot->busy = true;
  modes->pending++;
  modes->left--;
  tn_drive_submit (modes->drive, &slot->request);
}

/* ---- Modes ---- */

/* The guest switches its write cache, now and then while it does nothing else. */
static void
switch_write_cache (Modes *modes)
{
  const bool before = tn_drive_write_cache (modes->drive), alone = crash_pick (modes->story, 2);
  if (alone) {
    tn_drive_drain (modes->drive);
  }
  tn_drive_set_write_cache (modes->drive, !before);
  if (before && !is_unsafe (modes)) {
    list_ended (modes, modes->waiting);
    modes->waiting_from = modes->changes->len;
  }
  if (alone) {
    tn_drive_drain (modes->drive);
    promise_all (modes, modes->waiting);
  }
}

static void
note_unsafe (Modes *modes, bool before, uint64_t turn)
{
  const bool after = is_unsafe (modes);
  if (!before && after) {
    const Unsafe begun = { turn, NEVER };
    g_array_append_val (modes->unsafe, begun);
  } else if (before && !after) {
    g_array_index (modes->unsafe, Unsafe, modes->unsafe->len - 1).to = crash_last_turn ();
  }
}

static void
switch_mode (Modes *modes)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GArray) ended = g_array_new (FALSE, FALSE, sizeof (guint));
  const TnCacheMode mode = (TnCacheMode) crash_pick (modes->story, TN_CACHE_UNSAFE + 1);
  const bool before = is_unsafe (modes);
  const uint64_t turn = crash_last_turn ();
  list_ended (modes, ended);
  g_assert_cmpint (tn_drive_set_cache_mode (modes->drive, mode, &error), ==, 0);
  note_unsafe (modes, before, turn);
  if (mode != TN_CACHE_UNSAFE) {
    promise_all (modes, ended);
  } else {
    g_array_set_size (modes->waiting, 0);
  }
}

static void
run (Modes *modes)
{
  while (modes->left || modes->pending) {
    Slot *slot = &modes->slots[crash_pick (modes->story, SLOTS)];
    if (modes->left && !slot->busy) {
      start (modes, slot);
    }
    if (modes->left && crash_pick (modes->story, 6) == 0) {
      crash_pick (modes->story, 2) ? switch_mode (modes) : switch_write_cache (modes);
    }
    tn_loop_iterate (tn_loop_current (), false);
  }
}

static bool
is_cut_unsafely (const Modes *modes, uint64_t turn)
{
  for (guint i = 0; i < modes->unsafe->len; i++) {
    const Unsafe *unsafe = &g_array_index (modes->unsafe, Unsafe, i);
    if (unsafe->from <= turn && turn < unsafe->to) {
      return true;
    }
  }
  return false;
}

static void
cut_everywhere (Modes *modes, CrashLog *log, uint32_t seed)
{
  CrashStory *story = modes->story;
  for (guint cut = 0; cut <= crash_log_length (log); cut++) {
    const uint64_t turn = crash_log_turn (log, cut);
    const CrashTearing tearing = (CrashTearing) crash_pick (story, CRASH_TEARINGS);
    g_autofree char *when =
        g_strdup_printf ("%s/%s, modes, seed %u, cut at %u of %u, tearing %u", story->kind->driver,
                         story->kind->label, seed, cut, crash_log_length (log), tearing);
    CrashState state;
    if (is_cut_unsafely (modes, turn)) {
      continue;
    }
    expect (modes, turn, &state);
    crash_log_cut (log, turn, tearing, story->rand);
    crash_look (story, &state, false, when);
    crash_state_clear (&state);
  }
}

void
crash_test_modes (const CrashCase *kind, uint32_t seed)
{
  const CrashCase alone = { kind->driver, kind->label, kind->create, kind->open, kind->flags & ~CRASH_BACKING,
                            kind->size,   kind->qemu,  kind->files };
  g_autoptr (GError) error = NULL;
  CrashStory story;
  g_autofree Modes *modes = g_new0 (Modes, 1);
  crash_story_begin (&story, &alone, seed);
  g_assert_true (crash_make_image (&story));
  CrashLog *log = crash_log_begin ();
  TnNode *node = crash_open (&story, TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
  g_assert_no_error (error);
  mem_disk_find ("cut")->defer = 4;
  modes->story = &story;
  modes->drive = tn_drive_new (node, TN_CACHE_WRITEBACK, true);
  modes->changes = g_array_new (FALSE, FALSE, sizeof (Change));
  modes->waiting = g_array_new (FALSE, FALSE, sizeof (guint));
  modes->unsafe = g_array_new (FALSE, FALSE, sizeof (Unsafe));
  modes->left = REQUESTS;
  for (unsigned i = 0; i < SLOTS; i++) {
    modes->slots[i].modes = modes;
    modes->slots[i].covers = g_array_new (FALSE, FALSE, sizeof (guint));
  }
  run (modes);
  tn_drive_free (modes->drive);
  tn_node_close (node, &error);
  g_assert_no_error (error);
  crash_log_stop (log);
  mem_disk_find ("cut")->defer = 0;
  cut_everywhere (modes, log, seed);
  for (unsigned i = 0; i < SLOTS; i++) {
    g_array_unref (modes->slots[i].covers);
  }
  g_array_unref (modes->changes);
  g_array_unref (modes->waiting);
  g_array_unref (modes->unsafe);
  crash_log_free (log);
  crash_story_end (&story);
}
