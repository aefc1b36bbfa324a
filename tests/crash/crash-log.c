/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log of what is done to the disks, and the disks as a power cut leaves them: what was written before a
 * disk's last flush is there; of what came after it all, some, or some torn at a sector.
 */
#include "crash.h"

/* One disk of the image: what it held when the log began, brought forward flush by flush. */
typedef struct Settled {
  MemDisk *disk;
  GArray *ops; /* MemOp, taken from the disk */
  uint8_t *bytes;
  uint64_t size;
  guint done; /* operations that are in bytes */
} Settled;

struct CrashLog {
  Settled *disks;
  guint n;
  GArray *turns; /* uint64_t, of all operations */
};

static gint
compare_turns (gconstpointer a, gconstpointer b)
{
  const uint64_t one = *(const uint64_t *) a, two = *(const uint64_t *) b;
  return one < two ? -1 : one > two;
}

CrashLog *
crash_log_begin (void)
{
  g_autoptr (GPtrArray) disks = mem_disks_named ("cut");
  CrashLog *log = g_new0 (CrashLog, 1);
  log->n = disks->len;
  log->disks = g_new0 (Settled, log->n);
  log->turns = g_array_new (false, false, sizeof (uint64_t));
  for (guint i = 0; i < log->n; i++) {
    MemDisk *disk = disks->pdata[i];
    disk->punches = disk->log = true;
    log->disks[i] =
        (Settled){ .disk = disk, .bytes = g_memdup2 (disk->bytes, disk->size), .size = disk->size };
  }
  return log;
}

void
crash_log_stop (CrashLog *log)
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

void
crash_log_free (CrashLog *log)
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
  g_free (log);
}

uint64_t
crash_last_turn (void)
{
  g_autoptr (GPtrArray) disks = mem_disks_named ("cut");
  uint64_t turn = 0;
  for (guint i = 0; i < disks->len; i++) {
    const GArray *ops = ((MemDisk *) disks->pdata[i])->ops;
    turn = ops->len ? MAX (turn, g_array_index (ops, MemOp, ops->len - 1).turn) : turn;
  }
  return turn;
}

guint
crash_log_length (const CrashLog *log)
{
  return log->turns->len;
}

uint64_t
crash_log_turn (const CrashLog *log, guint n)
{
  return n ? g_array_index (log->turns, uint64_t, n - 1) : 0;
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
replay_torn (GRand *rand, uint8_t **bytes, uint64_t *size, const MemOp *op)
{
  for (uint64_t at = 0; at < op->length; at += CRASH_SECTOR) {
    if (g_rand_boolean (rand)) {
      put (bytes, size, op->offset + at, op->bytes ? op->bytes + at : NULL,
           MIN (CRASH_SECTOR, op->length - at));
    }
  }
}

static void
replay_op (GRand *rand, uint8_t **bytes, uint64_t *size, const MemOp *op, CrashTearing tearing)
{
  if (op->result || op->op == TN_REQUEST_FLUSH || op->op == TN_REQUEST_READ
      || (tearing == TEAR_DROP && g_rand_boolean (rand))) {
    return;
  }
  if (op->op == MEM_OP_RESIZE) {
    set_size (bytes, size, op->length);
  } else if (op->op == TN_REQUEST_DISCARD) {
    const uint64_t from = MIN (op->offset, *size), to = MIN (op->offset + op->length, *size);
    memset (*bytes + from, 0, to - from);
  } else if (tearing == TEAR_SECTORS && op->offset % CRASH_SECTOR == 0) {
    replay_torn (rand, bytes, size, op);
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

/* How many of the first @n operations the last flush among them has made stable. */
static guint
count_stable (const Settled *settled, guint n)
{
  const MemOp *op = NULL;
  while (n > settled->done && !op) {
    const MemOp *last = &g_array_index (settled->ops, MemOp, --n);
    op = last->op == TN_REQUEST_FLUSH && last->result == 0 ? last : NULL;
  }
  while (op && n > settled->done && g_array_index (settled->ops, MemOp, n - 1).turn > op->begun) {
    n--;
  }
  return n;
}

/* Puts the disk as a cut after @turn leaves it. */
static void
cut_disk (GRand *rand, Settled *settled, uint64_t turn, CrashTearing tearing)
{
  const guint n = count_until (settled, turn), barrier = count_stable (settled, n);
  for (; settled->done < barrier; settled->done++) {
    replay_op (rand, &settled->bytes, &settled->size, &g_array_index (settled->ops, MemOp, settled->done),
               TEAR_NOTHING);
  }
  uint64_t size = settled->size;
  uint8_t *bytes = g_malloc (MAX (size, 1));
  memcpy (bytes, settled->bytes, size);
  for (guint i = settled->done; i < n; i++) {
    replay_op (rand, &bytes, &size, &g_array_index (settled->ops, MemOp, i), tearing);
  }
  mem_disk (settled->disk->name, size);
  memcpy (settled->disk->bytes, bytes, size);
  g_free (bytes);
}

void
crash_log_cut (CrashLog *log, uint64_t turn, CrashTearing tearing, GRand *rand)
{
  for (guint i = 0; i < log->n; i++) {
    cut_disk (rand, &log->disks[i], turn, tearing);
  }
}
