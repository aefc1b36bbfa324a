/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, reading, checking; the plugin. */
#include "lz4.h"

#include <stdarg.h>

#include <tenon/json.h>

int
lz4_fail (const Lz4 *z, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "lz4 image '%s': %s", tn_node_filename (z->file), text);
}

/* ---- Opening ---- */

/* A new image holds zeroes.  One that somebody began to write and did not finish is not shown as if it held
 * zeroes where the data should be. */
static int
check_complete (const Lz4 *z, uint32_t flags, GError **error)
{
  if (z->present == 0 || z->present == z->blocks)
    return z->present || z->file_size == LZ4_FRAME_HEADER || z->blocks == 0
               ? 0
               : lz4_fail (z, error, EIO, "its first block is damaged");
  if (flags & (TN_OPEN_WRITE | TN_OPEN_CHECK | TN_OPEN_NO_IO))
    return 0;
  return lz4_fail (z, error, EIO,
                   "it is not complete: %" PRIu64 " of %" PRIu64
                   " blocks (check -r all makes zeroes of the rest)",
                   z->present, z->blocks);
}

static void
lz4_forget (Lz4 *z)
{
  g_clear_pointer (&z->table, tn_meta_cache_free);
  g_clear_pointer (&z->entries, g_free);
}

static int
lz4_open_checked (Lz4 *z, uint32_t flags, GError **error)
{
  int ret = lz4_frame_open (z, error);
  if (ret < 0 || (ret = lz4_table_open (z, error)) < 0 || (ret = check_complete (z, flags, error)) < 0)
    return ret;
  if (z->writable && z->block_checksum && z->present < z->blocks)
    return lz4_fail (z, error, ENOTSUP, "blocks with checksums are read only");
  return 0;
}

static int
lz4_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Lz4 *z = tn_node_state (node);
  z->file = tn_node_child (node, "file");
  z->file_size = tn_node_size (z->file);
  z->writable = flags & TN_OPEN_WRITE;
  z->codec = tn_codec_find ("lz4", error);
  if (!z->codec)
    return -ENOENT;
  const int ret = lz4_open_checked (z, flags, error);
  if (ret < 0) {
    lz4_forget (z);
    return ret;
  }
  tn_node_set_allocation_unit (node, z->block_size);
  tn_node_set_size (node, z->disk_size);
  return 0;
}

static int
lz4_close (TnNode *node, GError **error)
{
  Lz4 *z = tn_node_state (node);
  const int ret = z->writable ? lz4_finish (z, error) : 0;
  lz4_forget (z);
  return ret;
}

static int
lz4_flush (TnNode *node, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  return tn_node_flush (z->file, error);
}

static int
lz4_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  if (!(flags & TN_OPEN_WRITE) == !z->writable)
    return 0;
  return lz4_fail (z, error, ENOTSUP, "it cannot change between reading and writing while it is open");
}

/* ---- Reading ---- */

static int
lz4_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  const uint64_t number = offset / z->block_size;
  Lz4Block block;
  *extent = (TnExtent){ .kind = TN_EXTENT_ZERO };
  if (number >= z->present) {
    extent->offset = z->present * z->block_size;
    extent->length = z->disk_size - extent->offset;
    return 0;
  }
  const int ret = lz4_table_block (z, number, flags & TN_MAP_NOWAIT, &block, error);
  if (ret < 0)
    return ret;
  extent->offset = number * z->block_size;
  extent->length = lz4_block_bytes (z, number);
  extent->kind = block.plain ? TN_EXTENT_DATA : TN_EXTENT_PACKED;
  extent->source = z->file;
  extent->source_offset = block.offset;
  extent->packed_length = block.length;
  return 0;
}

static int
lz4_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
            size_t out_length, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  g_autoptr (GError) cause = NULL;
  if (z->codec->decompress (in, in_length, out, out_length, &cause) == 0)
    return 0;
  return lz4_fail (z, error, EIO, "block %" PRIu64 " at offset %" PRIu64 " is damaged: %s",
                   extent->offset / z->block_size, extent->source_offset, cause ? cause->message : "");
}

/* ---- Checking ---- */

static int
check_places (const Lz4 *z, TnCheck *check)
{
  for (uint64_t i = 0; i < z->present; i++) {
    g_autoptr (GError) why = NULL;
    Lz4Block block;
    if (lz4_table_block (z, i, false, &block, &why) == 0) {
      check->compressed_clusters += !block.plain;
      continue;
    }
    check->corruptions++;
    if (check->report)
      check->report (why->message, true, check->opaque);
  }
  return 0;
}

static int
lz4_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Lz4 *z = tn_node_state (node);
  const uint64_t present = z->present;
  check->total_clusters = z->blocks;
  check->allocated_clusters = present;
  check_places (z, check);
  if (z->complete)
    return 0;
  g_autofree char *line = g_strdup_printf ("ERROR %" PRIu64 " of %" PRIu64 " blocks, and no end%s", present,
                                           z->blocks, fix & TN_CHECK_FIX_ERRORS ? ": completing it" : "");
  if (check->report)
    check->report (line, true, check->opaque);
  if (!(fix & TN_CHECK_FIX_ERRORS)) {
    check->corruptions++;
    return 0;
  }
  check->corruptions_fixed++;
  return lz4_finish (z, error);
}

/* ---- What it is ---- */

static int
lz4_info (TnNode *node, TnInfo *info, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  info->cluster_size = z->block_size;
  info->compressed = true;
  info->dirty = z->present < z->blocks;
  return 0;
}

static char *
lz4_info_specific (TnNode *node, GError **error)
{
  const Lz4 *z = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "blocks", z->blocks);
  tn_json_uint (json, "blocks-present", z->present);
  tn_json_bool (json, "seek-table", z->table);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const TnFormatOps lz4_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_PACKS | TN_FORMAT_ALWAYS_PACKS | TN_FORMAT_GROWS,
  .instance_size = sizeof (Lz4),
  .open = lz4_open,
  .close = lz4_close,
  .create = lz4_create,
  .map = lz4_map,
  .reserve = lz4_reserve,
  .commit = lz4_commit,
  .cancel = lz4_cancel,
  .unmap = lz4_unmap,
  .pack = lz4_pack,
  .unpack = lz4_unpack,
  .flush = lz4_flush,
  .check = lz4_check,
  .info = lz4_info,
  .info_specific = lz4_info_specific,
  .measure = lz4_measure,
  .reopen = lz4_reopen,
};

static const TnOption lz4_options[] = {
  { .name = "block_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "64k",
    .min = 64 << 10,
    .max = 4 << 20,
    .help = "bytes compressed at a time: 64k, 256k, 1M or 4M" },
  { .name = NULL },
};

static const char *const lz4_suffixes[] = { "lz4", NULL };
static const char *const lz4_codecs[] = { "lz4", NULL };

/* Of the flags: the version, independent blocks, a content size, no dictionary. */
static const TnMagic lz4_magics[] = {
  { .offset = 0,
    .length = 5,
    .bytes = (const uint8_t *) "\x04\x22\x4d\x18\x68",
    .mask = (const uint8_t *) "\xff\xff\xff\xff\xe9" },
  { .length = 0 },
};

static const TnClass lz4_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "lz4",
  .summary = "a disk as an LZ4 frame with a seek table",
  .suffixes = lz4_suffixes,
  .magics = lz4_magics,
  .options = lz4_options,
  .ops = &lz4_ops,
};

static const TnClass *const lz4_classes[] = { &lz4_class, NULL };

TN_PLUGIN_DEFINE (format_lz4, .security = TN_SECURITY_HARDENED, .name = "format-lz4", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-lz4",
                  .requires_codecs = lz4_codecs, .classes = lz4_classes);
