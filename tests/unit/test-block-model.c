/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random requests, many at a time, compared with an array of bytes.
 *
 * Requests of one round touch disjoint bytes, though often the same units, so their outcome is known whatever
 * the order.  Where an injected fault made a change fail, the bytes may be either the old or the new ones;
 * all around them must be as before.
 */
#include "block-fixture.h"

#define MAX_ROUND 8

typedef struct Config {
  const char *name;
  const char *graph; /* of the node under test, over disk "top" */
  uint64_t size;
  uint32_t unit; /* 0: plain format */
  uint32_t alignment;
  uint64_t max_transfer;
  unsigned defer;
  unsigned backing; /* images below */
  unsigned faults;  /* one write in so many fails */
} Config;

typedef struct Model {
  const Config *config;
  GRand *rand;
  uint64_t size;
  uint8_t *bytes;
  uint8_t *unknown; /* 1: after a failed change */
  TnNode *node;
  unsigned pending;
} Model;

typedef struct Op {
  TnRequest request;
  Model *model;
  struct iovec iov[4];
  uint8_t *buffer;
  uint8_t fill;
  bool packed;
} Op;

/* ---- Faults ---- */

static int
random_fault (MemDisk *disk, const TnRequest *request)
{
  Model *model = disk->fault_opaque;
  if (request->op == TN_REQUEST_READ || request->op == TN_REQUEST_FLUSH)
    return 0;
  return g_rand_int_range (model->rand, 0, (int) model->config->faults) ? 0 : -EIO;
}

/* ---- One operation ---- */

static void
compare (const Model *model, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
  for (uint64_t i = 0; i < length; i++)
    if (bytes[i] != model->bytes[offset + i] && !model->unknown[offset + i])
      g_error ("%s: byte at %" G_GUINT64_FORMAT " is %02x, should be %02x", model->config->name, offset + i,
               bytes[i], model->bytes[offset + i]);
}

static void
note_change (Model *model, uint64_t offset, uint64_t length, const uint8_t *bytes, int result)
{
  for (uint64_t i = 0; i < length; i++) {
    uint8_t value = bytes ? bytes[i] : 0;
    if (result)
      model->unknown[offset + i] = 1;
    else
      model->unknown[offset + i] = 0;
    model->bytes[offset + i] = value;
  }
}

static void
note_discard (Model *model, uint64_t offset, uint64_t length, int result)
{
  uint32_t unit = model->config->unit;
  if (!unit)
    return;
  uint64_t start = (offset + unit - 1) / unit * unit, end = offset + length;
  if (end != model->size)
    end = end / unit * unit;
  if (start < end)
    note_change (model, start, end - start, NULL, result);
}

static void
op_done (TnRequest *request, int result)
{
  Op *op = request->opaque;
  Model *model = op->model;
  model->pending--;
  if (result)
    g_assert_cmpuint (model->config->faults, !=, 0);
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    if (!result)
      compare (model, request->offset, op->buffer, request->length);
    break;
  case TN_REQUEST_WRITE:
    note_change (model, request->offset, request->length, op->buffer, result);
    break;
  case TN_REQUEST_WRITE_ZEROES:
    note_change (model, request->offset, request->length, NULL, result);
    break;
  case TN_REQUEST_DISCARD:
    note_discard (model, request->offset, request->length, result);
    break;
  case TN_REQUEST_FLUSH:
    break;
  }
  g_free (op->buffer);
  g_free (op);
}

/* Cuts the buffer into pieces of odd lengths. */
static void
make_iov (Op *op, GRand *rand)
{
  uint64_t done = 0, length = op->request.length;
  unsigned n = 0;
  while (done < length) {
    uint64_t piece = n == G_N_ELEMENTS (op->iov) - 1
                         ? length - done
                         : (uint64_t) g_rand_int_range (rand, 1, (int) (length - done) + 1);
    op->iov[n++] = (struct iovec){ op->buffer + done, piece };
    done += piece;
  }
  op->request.iov = op->iov;
  op->request.n_iov = n;
}

static void
submit (Model *model, TnRequestOp kind, uint64_t offset, uint64_t length)
{
  Op *op = g_new0 (Op, 1);
  GRand *rand = model->rand;
  op->model = model;
  op->request.op = kind;
  op->request.offset = offset;
  op->request.length = length;
  op->request.done = op_done;
  op->request.opaque = op;
  op->buffer = g_malloc0 (length + 1);
  if (kind == TN_REQUEST_WRITE) {
    uint32_t unit = model->config->unit;
    int style = g_rand_int_range (rand, 0, 4);
    for (uint64_t i = 0; i < length; i++)
      op->buffer[i] = style == 0 ? 0 : style == 1 ? 0x77 : (uint8_t) g_rand_int (rand);
    if (unit && offset % unit == 0 && (length % unit == 0 || offset + length == model->size) && style < 3)
      op->request.flags |= TN_REQUEST_PACKED;
    else if (style == 3)
      op->request.flags |= TN_REQUEST_FUA;
  }
  if (kind == TN_REQUEST_WRITE_ZEROES && g_rand_boolean (rand))
    op->request.flags |= TN_REQUEST_MAY_UNMAP;
  if (kind == TN_REQUEST_READ || kind == TN_REQUEST_WRITE)
    make_iov (op, rand);
  model->pending++;
  tn_node_submit (model->node, &op->request);
}

static TnRequestOp
random_op (GRand *rand)
{
  static const TnRequestOp ops[] = { TN_REQUEST_READ,    TN_REQUEST_READ,  TN_REQUEST_READ,
                                     TN_REQUEST_WRITE,   TN_REQUEST_WRITE, TN_REQUEST_WRITE,
                                     TN_REQUEST_WRITE,   TN_REQUEST_WRITE, TN_REQUEST_WRITE_ZEROES,
                                     TN_REQUEST_DISCARD, TN_REQUEST_FLUSH };
  return ops[g_rand_int_range (rand, 0, G_N_ELEMENTS (ops))];
}

/* A round of requests in rising, disjoint ranges; discards get a round's rest to themselves, for the units
 * around them are not theirs. */
static void
round_of_requests (Model *model)
{
  GRand *rand = model->rand;
  uint32_t step = model->config->unit ? model->config->unit : 4096;
  uint64_t at = (uint64_t) g_rand_double_range (rand, 0, (double) model->size);
  if (g_rand_boolean (rand))
    at = at / step * step;
  unsigned n = (unsigned) g_rand_int_range (rand, 1, MAX_ROUND + 1);
  for (unsigned i = 0; i < n && at < model->size; i++) {
    uint64_t length = (uint64_t) g_rand_int_range (rand, 1, (int) step * (g_rand_boolean (rand) ? 1 : 4));
    if (g_rand_int_range (rand, 0, 3) == 0)
      length = step * (uint64_t) g_rand_int_range (rand, 1, 4);
    length = MIN (length, model->size - at);
    submit (model, random_op (rand), at, length);
    at += length;
    if (g_rand_boolean (rand))
      at += (uint64_t) g_rand_int_range (rand, 0, (int) step);
  }
  while (model->pending)
    tn_loop_iterate (tn_loop_current (), true);
}

/* ---- A run ---- */

static void
compare_all (Model *model)
{
  g_autofree uint8_t *bytes = g_malloc (model->size);
  GError *error = NULL;
  tn_node_read (model->node, 0, bytes, model->size, &error);
  g_assert_no_error (error);
  compare (model, 0, bytes, model->size);
}

static void
open_model (Model *model)
{
  model->node = open_node_text (model->config->graph, TN_OPEN_WRITE | TN_OPEN_UNMAP);
  g_assert_cmpuint (tn_node_size (model->node), ==, model->size);
}

static void
fill_backing (Model *model, const char *name, uint64_t size)
{
  g_autofree char *graph = g_strdup_printf ("driver=toy,file.driver=mem,file.filename=%s", name);
  g_autoptr (TnNode) node = open_node_text (graph, TN_OPEN_WRITE);
  for (unsigned i = 0; i < 10; i++) {
    uint64_t offset = (uint64_t) g_rand_double_range (model->rand, 0, (double) size);
    uint64_t length = (uint64_t) g_rand_int_range (model->rand, 1, 20000);
    length = MIN (length, size - offset);
    g_autofree uint8_t *bytes = g_malloc (length);
    memset (bytes, 1 + (int) i, length);
    GError *error = NULL;
    tn_node_write (node, offset, bytes, length, &error);
    g_assert_no_error (error);
    memcpy (model->bytes + offset, bytes, MIN (length, offset < model->size ? model->size - offset : 0));
  }
}

static void
make_images (Model *model)
{
  const Config *config = model->config;
  g_autofree char *below = NULL;
  for (unsigned i = 0; i < config->backing; i++) {
    g_autofree char *name = g_strdup_printf ("backing%u", i);
    /* Each one as long as the next, so that what is seen through it is what it holds; the first is shorter.
     */
    uint64_t size = i ? model->size : model->size - 5000;
    make_toy (name, size, i & 1 ? 2048 : 8192, below);
    fill_backing (model, name, size);
    g_free (below);
    below = g_strdup_printf ("mem:%s", name);
  }
  if (config->unit)
    make_toy ("top", config->size, config->unit, below);
  else
    mem_disk ("top", config->size);
  MemDisk *disk = mem_disk_find ("top");
  disk->alignment = config->alignment;
  disk->max_transfer = config->max_transfer;
  disk->defer = config->defer;
}

static void
set_faults (Model *model, bool on)
{
  MemDisk *disk = mem_disk_find ("top");
  disk->fault_opaque = model;
  disk->fault = on && model->config->faults ? random_fault : NULL;
}

static void
run_model (const void *data)
{
  const Config *config = data;
  Model model = { .config = config, .size = config->size };
  model.rand = g_rand_new_with_seed ((guint32) g_test_rand_int ());
  model.bytes = g_malloc0 (config->size);
  model.unknown = g_malloc0 (config->size);
  make_images (&model);
  for (unsigned life = 0; life < 4; life++) {
    open_model (&model);
    compare_all (&model);
    set_faults (&model, true);
    for (unsigned i = 0; i < 100; i++)
      round_of_requests (&model);
    set_faults (&model, false);
    compare_all (&model);
    GError *error = NULL;
    tn_node_close (model.node, &error);
    g_assert_no_error (error);
  }
  g_free (model.bytes);
  g_free (model.unknown);
  g_rand_free (model.rand);
  mem_disks_free ();
}

#define TOY "driver=toy,file.driver=mem,file.filename=top"
#define RAW "driver=raw,file.driver=mem,file.filename=top"

static const Config configs[] = {
  { "plain", RAW, 100000, 0, 0, 0, 3, 0, 0 },
  { "plain-aligned", RAW, 100352, 0, 512, 0, 3, 0, 0 },
  { "plain-aligned-odd-size", RAW, 100001, 0, 512, 0, 3, 0, 0 },
  { "plain-split", RAW, 100352, 0, 512, 2048, 3, 0, 0 },
  { "plain-blocking", "driver=raw,file.driver=memblock,file.filename=top", 50000, 0, 0, 0, 0, 0, 0 },
  { "at-once", TOY, 200000, 4096, 0, 0, 0, 0, 0 },
  { "deferred", TOY, 200000, 4096, 0, 0, 5, 0, 0 },
  { "small-units", TOY, 90000, 512, 0, 0, 4, 0, 0 },
  { "large-units", TOY, 500000, 65536, 0, 0, 4, 0, 0 },
  { "one-below", TOY, 200000, 4096, 0, 0, 4, 1, 0 },
  { "two-below", TOY, 200000, 16384, 0, 0, 4, 2, 0 },
  { "aligned", TOY, 200000, 4096, 512, 0, 4, 1, 0 },
  { "aligned-split", TOY, 200000, 16384, 512, 8192, 4, 1, 0 },
  { "small-units-aligned", TOY, 90000, 512, 4096, 0, 4, 0, 0 },
  { "filter", "driver=toy,file.driver=pass,file.file.driver=mem,file.file.filename=top", 200000, 4096, 512, 0,
    4, 1, 0 },
  { "nested", "driver=toy,file.driver=raw,file.file.driver=mem,file.file.filename=top", 200000, 4096, 0, 0, 4,
    1, 0 },
  { "blocking", "driver=toy,file.driver=memblock,file.filename=top", 60000, 4096, 0, 0, 0, 1, 0 },
  { "detect-zeroes", TOY ",detect-zeroes=unmap", 200000, 4096, 0, 0, 4, 1, 0 },
  { "faults", TOY, 200000, 4096, 0, 0, 4, 1, 20 },
  { "faults-aligned", TOY, 200000, 4096, 512, 0, 4, 1, 20 },
};

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS (configs); i++) {
    g_autofree char *path = g_strdup_printf ("/block/model/%s", configs[i].name);
    g_test_add_data_func (path, &configs[i], run_model);
  }
  return g_test_run ();
}
