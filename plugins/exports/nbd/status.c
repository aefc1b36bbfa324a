/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers to block status: for every context that was chosen, runs of equal state. */
#include "server.h"

#define MAX_RUNS 1024

typedef struct StateRun {
  uint64_t length;
  uint32_t state;
} StateRun;

typedef struct Answer {
  NbdOp *op;
  GByteArray *bytes;
  unsigned most; /* runs per context */
} Answer;

static int
state_at (NbdExport *export, uint32_t context, uint64_t offset, uint64_t limit, StateRun *run)
{
  TnStatus status;
  if (context >= 2) {
    const NbdBitmap *bitmap = g_ptr_array_index (export->bitmaps, context - 2);
    run->state = nbd_bitmap_at (bitmap, offset, limit, &run->length);
    return 0;
  }
  const int rc = tn_node_status (tn_drive_node (export->drive), NULL, offset, limit, &status, NULL);
  if (rc < 0)
    return rc;
  run->length = MIN (status.length, limit);
  if (context == 1)
    run->state = status.allocated ? status.depth + 1 : 0;
  else
    run->state = (status.data ? 0 : NBD_STATE_HOLE) | (status.zero ? NBD_STATE_ZERO : 0);
  return run->length ? 0 : -EIO;
}

static void
put_run (Answer *answer, const StateRun *run)
{
  uint8_t entry[16];
  const bool extended = answer->op->connection->extended;
  if (extended) {
    tn_store_be64 (entry, run->length);
    tn_store_be64 (entry + 8, run->state);
  } else {
    tn_store_be32 (entry, (uint32_t) run->length);
    tn_store_be32 (entry + 4, run->state);
  }
  g_byte_array_append (answer->bytes, entry, extended ? 16 : 8);
}

/* Gathers neighbours of the same state: the number of runs, or -errno. */
static int
put_runs (Answer *answer, uint32_t context)
{
  const NbdOp *op = answer->op;
  NbdExport *export = op->connection->export;
  const uint64_t end = op->header.offset + op->header.length;
  StateRun run = { 0 }, next;
  unsigned n = 0;
  for (uint64_t at = op->header.offset; at < end && n < answer->most; at += next.length) {
    const int rc = state_at (export, context, at, end - at, &next);
    if (rc < 0)
      return rc;
    if (run.length && run.state != next.state) {
      put_run (answer, &run);
      n++;
      run.length = 0;
    }
    run = (StateRun){ run.length + next.length, next.state };
  }
  if (n < answer->most)
    put_run (answer, &run);
  return (int) MIN (n + 1, answer->most);
}

/* One chunk: its header is written last, when its length is known. */
static int
put_context (Answer *answer, uint32_t context, bool last)
{
  const NbdOp *op = answer->op;
  const bool extended = op->connection->extended;
  const size_t head = nbd_chunk_size (extended);
  const guint begin = answer->bytes->len;
  uint8_t zeroes[NBD_EXTENDED_REPLY_SIZE + 8] = { 0 };
  g_byte_array_append (answer->bytes, zeroes, (guint) (head + (extended ? 8 : 4)));
  const int n = put_runs (answer, context);
  if (n < 0)
    return n;
  uint8_t *chunk = answer->bytes->data + begin;
  nbd_put_chunk (chunk, extended,
                 &(NbdChunkHeader){ .flags = last ? NBD_REPLY_FLAG_DONE : 0,
                                    .type = extended ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS,
                                    .cookie = op->header.cookie,
                                    .offset = op->header.offset,
                                    .length = answer->bytes->len - begin - head });
  tn_store_be32 (chunk + head, context);
  if (extended)
    tn_store_be32 (chunk + head + 4, (uint32_t) n);
  return 0;
}

void
nbd_status_main (void *opaque)
{
  NbdOp *op = opaque;
  NbdConnection *c = op->connection;
  Answer answer = { .op = op, .bytes = g_byte_array_new () };
  answer.most = op->header.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : MAX_RUNS;
  int rc = 0;
  for (unsigned i = 0; i < c->n_contexts && rc == 0; i++)
    rc = put_context (&answer, c->contexts[i], i == c->n_contexts - 1);
  if (rc < 0) {
    g_byte_array_unref (answer.bytes);
    nbd_op_end (op, rc);
    return;
  }
  gsize length;
  op->extra = g_byte_array_steal (answer.bytes, &length);
  g_byte_array_unref (answer.bytes);
  op->extra_size = length;
  nbd_memory_take (c, length);
  op->own_out[0] = (struct iovec){ op->extra, length };
  nbd_op_end_with (op, op->own_out, 1);
}
