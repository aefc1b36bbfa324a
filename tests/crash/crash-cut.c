/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power is cut after each operation of the log.  What was written before a disk's last flush is there; of
 * what came after it all, some, or some torn at a sector.
 */
#include "crash.h"

typedef enum Tearing { TEAR_NOTHING, TEAR_DROP, TEAR_SECTORS, TEAR_KINDS } Tearing;

/* One disk of the image: what it held when the log began, brought forward flush by flush. */
typedef struct Settled {
  MemDisk *disk;
  GArray *ops; /* MemOp, taken from the disk */
  uint8_t *bytes;
  uint64_t size;
  guint done; /* operations that are in bytes */
} Settled;

typedef struct Log {
  Settled *disks;
  guint n;
  GArray *turns; /* uint64_t, of all operations */
} Log;

static gint
compare_turns (gconstpointer a, gconstpointer b)
{
  const uint64_t one = *(const uint64_t *) a, two = *(const uint64_t *) b;
  return one < two ? -1 : one > two;
}

static void
log_begin (Log *log)
{
  g_autoptr (GPtrArray) disks = mem_disks_named ("cut");
  log->n = disks->len;
  log->disks = g_new0 (Settled, log->n);
  log->turns = g_array_new (false, false, sizeof (uint64_t));
  for (guint i = 0; i < log->n; i++) {
    MemDisk *disk = disks->pdata[i];
    disk->punches = disk->log = true;
    log->disks[i] =
        (Settled){ .disk = disk, .bytes = g_memdup2 (disk->bytes, disk->size), .size = disk->size };
  }
}

static void
log_stop (Log *log)
{
  for (guint i = 0; i < log->n; i++) {
    Settled *settled = &log->disks[i];
    settled->disk->log = false;
    settled->ops = settled->disk->ops;
    settled->disk->ops = g_array_new (FALSE, TRUE, sizeof (MemOp));
    for (guint j = 0; j < settled->ops->len; j++) {
      g_array_append_val (log->turns, g_array_index (settled->ops, MemOp, j).turn);
    }
  }
  g_array_sort (log->turns, compare_turns);
}

static void
log_clear (Log *log)
{
  for (guint i = 0; i < log->n; i++) {
    Settled *settled = &log->disks[i];
    for (guint j = 0; j < settled->ops->len; j++) {
      g_free (g_array_index (settled->ops, MemOp, j).bytes);
    }
    g_array_unref (settled->ops);
    g_free (settled->bytes);
  }
  g_free (log->disks);
  g_array_unref (log->turns);
}

/* ---- Replaying ---- */

static void
set_size (uint8_t **bytes, uint64_t *size, uint64_t wanted)
{
  *bytes = g_realloc (*bytes, MAX (wanted, 1));
  if (wanted > *size) {
    memset (*bytes + *size, 0, wanted - *size);
  }
  *size = wanted;
}

static void
put (uint8_t **bytes, uint64_t *size, uint64_t offset, const uint8_t *data, uint64_t length)
{
  if (offset + length > *size) {
    set_size (bytes, size, offset + length);
  }
  if (data) {
    memcpy (*bytes + offset, data, length);
  } else {
    memset (*bytes + offset, 0, length);
  }
}

static void
replay_torn (CrashStory *story, uint8_t **bytes, uint64_t *size, const MemOp *op)
{
  for (uint64_t at = 0; at < op->length; at += CRASH_SECTOR) {
    if (crash_pick (story, 2)) {
      put (bytes, size, op->offset + at, op->bytes ? op->bytes + at : NULL,
           MIN (CRASH_SECTOR, op->length - at));
    }
  }
}

static void
replay_op (CrashStory *story, uint8_t **bytes, uint64_t *size, const MemOp *op, Tearing tearing)
{
  if (op->result || op->op == TN_REQUEST_FLUSH || op->op == TN_REQUEST_READ
      || (tearing == TEAR_DROP && crash_pick (story, 2))) {
    return;
  }
  if (op->op == MEM_OP_RESIZE) {
    set_size (bytes, size, op->length);
  } else if (op->op == TN_REQUEST_DISCARD) {
    const uint64_t from = MIN (op->offset, *size), to = MIN (op->offset + op->length, *size);
    memset (*bytes + from, 0, to - from);
  } else if (tearing == TEAR_SECTORS && op->offset % CRASH_SECTOR == 0) {
    replay_torn (story, bytes, size, op);
  } else {
    put (bytes, size, op->offset, op->bytes, op->length);
  }
}

/* Operations up to and with @turn. */
static guint
count_until (const Settled *settled, uint64_t turn)
{
  guint n = settled->done;
  while (n < settled->ops->len && g_array_index (settled->ops, MemOp, n).turn <= turn) {
    n++;
  }
  return n;
}

static bool
is_barrier (const MemOp *op)
{
  return op->op == TN_REQUEST_FLUSH && op->result == 0;
}

/* Puts the disk as a cut after @turn leaves it. */
static void
cut_disk (CrashStory *story, Settled *settled, uint64_t turn, Tearing tearing)
{
  const guint n = count_until (settled, turn);
  guint barrier = n;
  while (barrier > settled->done && !is_barrier (&g_array_index (settled->ops, MemOp, barrier - 1))) {
    barrier--;
  }
  for (; settled->done < barrier; settled->done++) {
    replay_op (story, &settled->bytes, &settled->size, &g_array_index (settled->ops, MemOp, settled->done),
               TEAR_NOTHING);
  }
  uint64_t size = settled->size;
  uint8_t *bytes = g_malloc (MAX (size, 1));
  memcpy (bytes, settled->bytes, size);
  for (guint i = settled->done; i < n; i++) {
    replay_op (story, &bytes, &size, &g_array_index (settled->ops, MemOp, i), tearing);
  }
  mem_disk (settled->disk->name, size);
  memcpy (settled->disk->bytes, bytes, size);
  g_free (bytes);
}

static void
cut_everywhere (CrashStory *story, Log *log, uint32_t seed)
{
  for (guint cut = 0; cut <= log->turns->len; cut++) {
    const uint64_t turn = cut ? g_array_index (log->turns, uint64_t, cut - 1) : 0;
    const Tearing tearing = (Tearing) crash_pick (story, TEAR_KINDS);
    g_autofree char *when =
        g_strdup_printf ("%s/%s, seed %u, cut at %u of %u, tearing %u", story->kind->driver,
                         story->kind->label, seed, cut, log->turns->len, tearing);
    CrashState state;
    crash_expect (story, turn, &state);
    for (guint i = 0; i < log->n; i++) {
      cut_disk (story, &log->disks[i], turn, tearing);
    }
    crash_look (story, &state, crash_pick (story, 2), when);
    if (cut % 32 == 0 || cut == log->turns->len) {
      crash_ask_qemu (story, when);
    }
    crash_state_clear (&state);
  }
}

void
crash_test_cuts (const CrashCase *kind, uint32_t seed)
{
  g_autoptr (GError) error = NULL;
  CrashStory story;
  Log log;
  crash_story_begin (&story, kind, seed);
  g_assert_true (crash_make_image (&story));
  log_begin (&log);
  crash_promise (&story);
  TnNode *node = crash_open (&story, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, &error);
  g_assert_no_error (error);
  node = crash_run_workload (&story, node);
  g_assert_nonnull (node);
  tn_node_close (node, &error);
  g_assert_no_error (error);
  log_stop (&log);
  cut_everywhere (&story, &log, seed);
  log_clear (&log);
  crash_story_end (&story);
}
