/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The image format "example": a header of 512 bytes, a table with one entry for each block of the disk, then
 * the blocks in the order in which they were first written.  All numbers are little-endian.
 *
 *     0  8 bytes   magic
 *     8  4 bytes   version, 1
 *    12  4 bytes   block size: a power of two, 4 KiB to 1 MiB
 *    16  8 bytes   size of the disk in bytes
 *   512  8 bytes for each block: its offset in the file, 0 when nothing was written there
 *
 * The driver answers where bytes live; the core reads and writes them.
 */
#include <tenon/format.h>

#define EXAMPLE_MAGIC "TnExmpl\x1a"
#define EXAMPLE_VERSION 1
#define EXAMPLE_HEADER_SIZE 512
#define EXAMPLE_MIN_BLOCK 4096
#define EXAMPLE_MAX_BLOCK (1 << 20)
/* Bounds the memory that an image can make its reader take. */
#define EXAMPLE_MAX_BLOCKS (1 << 22)

typedef struct ExampleState {
  uint64_t *table; /* as on disk: little-endian */
  uint64_t n_blocks;
  uint64_t block_size;
  uint64_t next_free;              /* where the next new block goes */
  uint64_t dirty_begin, dirty_end; /* entries that the file doesn't have yet */
} ExampleState;

static uint64_t
example_table_end (uint64_t n_blocks)
{
  return EXAMPLE_HEADER_SIZE + n_blocks * sizeof (uint64_t);
}

static uint64_t
example_round_up (uint64_t value, uint64_t unit)
{
  return (value + unit - 1) / unit * unit;
}

static int
example_check_geometry (uint64_t size, uint64_t block_size, GError **error)
{
  bool power_of_two = block_size && (block_size & (block_size - 1)) == 0;
  if (!power_of_two || block_size < EXAMPLE_MIN_BLOCK || block_size > EXAMPLE_MAX_BLOCK)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "block size %" G_GUINT64_FORMAT " is not a power of two from %d to %d", block_size,
                    EXAMPLE_MIN_BLOCK, EXAMPLE_MAX_BLOCK);
  if (size > EXAMPLE_MAX_BLOCKS * block_size)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "size %" G_GUINT64_FORMAT " is too large for block size %" G_GUINT64_FORMAT
                    ": the limit is %d blocks",
                    size, block_size, EXAMPLE_MAX_BLOCKS);
  return 0;
}

static int
example_read_header (TnNode *node, ExampleState *state, GError **error)
{
  uint8_t header[EXAMPLE_HEADER_SIZE];
  int r = tn_node_read (tn_node_child (node, "file"), 0, header, sizeof header, error);
  if (r < 0)
    return r;
  if (memcmp (header, EXAMPLE_MAGIC, 8) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s is not an image of this format",
                    tn_node_filename (node));
  if (tn_load_le32 (header + 8) != EXAMPLE_VERSION)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s has version %u of the format, this driver knows %d",
                    tn_node_filename (node), tn_load_le32 (header + 8), EXAMPLE_VERSION);
  state->block_size = tn_load_le32 (header + 12);
  uint64_t size = tn_load_le64 (header + 16);
  r = example_check_geometry (size, state->block_size, error);
  if (r < 0)
    return r;
  state->n_blocks = example_round_up (size, state->block_size) / state->block_size;
  tn_node_set_size (node, size);
  return 0;
}

/* Checks each entry once, so that map() can trust them. */
static int
example_check_table (TnNode *node, ExampleState *state, GError **error)
{
  uint64_t data_start = example_round_up (example_table_end (state->n_blocks), state->block_size);
  state->next_free = data_start;
  for (uint64_t i = 0; i < state->n_blocks; i++) {
    uint64_t at = tn_load_le64 (&state->table[i]);
    if (at == 0)
      continue;
    if (at < data_start || at % state->block_size || at > (uint64_t) INT64_MAX - state->block_size)
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "%s: table entry %" G_GUINT64_FORMAT " points to offset 0x%" G_GINT64_MODIFIER
                      "x, where no block can be",
                      tn_node_filename (node), i, at);
    state->next_free = MAX (state->next_free, at + state->block_size);
  }
  return 0;
}

static int
example_read_table (TnNode *node, ExampleState *state, GError **error)
{
  state->table = g_new0 (uint64_t, state->n_blocks);
  int r = tn_node_read (tn_node_child (node, "file"), EXAMPLE_HEADER_SIZE, state->table,
                        state->n_blocks * sizeof (uint64_t), error);
  return r < 0 ? r : example_check_table (node, state, error);
}

static int
example_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  ExampleState *state = tn_node_state (node);
  int r = example_read_header (node, state, error);
  if (r == 0)
    r = example_read_table (node, state, error);
  if (r < 0) {
    g_clear_pointer (&state->table, g_free);
    return r;
  }
  tn_node_set_allocation_unit (node, (uint32_t) state->block_size);
  return 0;
}

static int
example_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  uint64_t block = offset / state->block_size;
  uint64_t at = tn_load_le64 (&state->table[block]);
  uint64_t start = block * state->block_size;
  extent->offset = start;
  extent->length = MIN (state->block_size, tn_node_size (node) - start);
  if (!at) {
    extent->kind = TN_EXTENT_UNALLOCATED;
    return 0;
  }
  extent->kind = TN_EXTENT_DATA;
  extent->flags = TN_EXTENT_WRITABLE;
  extent->source = tn_node_child (node, "file");
  extent->source_offset = at;
  return 0;
}

static int
example_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
                 GError **error)
{
  ExampleState *state = tn_node_state (node);
  if (flags & TN_RESERVE_PACKED)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: the format has no compression",
                    tn_node_filename (node));
  extent->offset = offset / state->block_size * state->block_size;
  extent->length = state->block_size;
  extent->kind = TN_EXTENT_DATA;
  extent->flags = TN_EXTENT_NEW;
  extent->source = tn_node_child (node, "file");
  extent->source_offset = state->next_free;
  state->next_free += state->block_size;
  return 0;
}

static int
example_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  ExampleState *state = tn_node_state (node);
  for (size_t i = 0; i < n; i++) {
    uint64_t block = extents[i].offset / state->block_size;
    bool clean = state->dirty_begin == state->dirty_end;
    tn_store_le64 (&state->table[block], extents[i].source_offset);
    state->dirty_begin = clean ? block : MIN (state->dirty_begin, block);
    state->dirty_end = clean ? block + 1 : MAX (state->dirty_end, block + 1);
    extents[i].flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return 0;
}

static void
example_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  /* The last block handed out is taken back; others stay unused until the image is opened again. */
  ExampleState *state = tn_node_state (node);
  for (size_t i = n; i-- > 0;) {
    if (extents[i].source_offset + state->block_size == state->next_free)
      state->next_free -= state->block_size;
  }
}

/* The data first, then the table that refers to it, so that no crash leaves an entry without its data. */
static int
example_flush (TnNode *node, GError **error)
{
  ExampleState *state = tn_node_state (node);
  TnNode *file = tn_node_child (node, "file");
  int r = tn_node_flush (file, error);
  if (r < 0 || state->dirty_begin == state->dirty_end)
    return r;
  r = tn_node_write (file, EXAMPLE_HEADER_SIZE + state->dirty_begin * sizeof (uint64_t),
                     state->table + state->dirty_begin,
                     (state->dirty_end - state->dirty_begin) * sizeof (uint64_t), error);
  if (r < 0)
    return r;
  state->dirty_begin = state->dirty_end = 0;
  return tn_node_flush (file, error);
}

static int
example_close (TnNode *node, GError **error)
{
  ExampleState *state = tn_node_state (node);
  int r = tn_node_is_read_only (node) ? 0 : example_flush (node, error);
  g_clear_pointer (&state->table, g_free);
  return r;
}

static int
example_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  uint64_t block_size = tn_options_uint (options, "block_size");
  int r = example_check_geometry (size, block_size, error);
  if (r < 0)
    return r;
  uint64_t n_blocks = example_round_up (size, block_size) / block_size;
  uint64_t data_start = example_round_up (example_table_end (n_blocks), block_size);
  r = tn_node_resize (file, data_start, TN_PREALLOC_OFF, error);
  if (r < 0)
    return r;
  uint8_t header[EXAMPLE_HEADER_SIZE] = EXAMPLE_MAGIC;
  tn_store_le32 (header + 8, EXAMPLE_VERSION);
  tn_store_le32 (header + 12, (uint32_t) block_size);
  tn_store_le64 (header + 16, size);
  r = tn_node_write_zeroes (file, EXAMPLE_HEADER_SIZE, data_start - EXAMPLE_HEADER_SIZE, 0, error);
  return r < 0 ? r : tn_node_write (file, 0, header, sizeof header, error);
}

static int
example_info (TnNode *node, TnInfo *info, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  info->cluster_size = (uint32_t) state->block_size;
  return 0;
}

static const TnFormatOps example_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_GROWS,
  .instance_size = sizeof (ExampleState),
  .open = example_open,
  .close = example_close,
  .create = example_create,
  .map = example_map,
  .reserve = example_reserve,
  .commit = example_commit,
  .cancel = example_cancel,
  .flush = example_flush,
  .info = example_info,
};

static const TnOption example_options[] = {
  { .name = "block_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "64k",
    .help = "bytes that are allocated at a time",
    .min = EXAMPLE_MIN_BLOCK,
    .max = EXAMPLE_MAX_BLOCK },
  { .name = NULL },
};

static const TnMagic example_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) EXAMPLE_MAGIC },
  { .length = 0 },
};

static const TnClass example_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "example",
  .summary = "a header, a table of blocks, and the blocks",
  .magics = example_magics,
  .options = example_options,
  .ops = &example_ops,
};

static const TnClass *const example_classes[] = { &example_class, NULL };

TN_PLUGIN_DEFINE (format_example, .name = "format-example", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-format-example", .security = TN_SECURITY_TRUSTED_INPUT,
                  .classes = example_classes);
