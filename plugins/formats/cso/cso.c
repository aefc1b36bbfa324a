/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, reading, checking; the plugin. */
#include "cso.h"

#include <stdarg.h>

#include <tenon/json.h>

int
cso_fail (const Cso *c, GError **error, int errnum, const char *format, ...)
{
  static const char *const names[] = { "cso", "cso", "zso", "dax" };
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "%s image '%s': %s", names[c->kind],
                  tn_node_filename (c->file), text);
}

const TnCodecOps *
cso_codec (Cso *c, CsoCoding coding, GError **error)
{
  static const char *const names[CSO_CODINGS] = { NULL, "deflate", "lz4", "zlib" };
  const TnCodecOps *codec = g_atomic_pointer_get (&c->codecs[coding]);
  if (!codec) {
    codec = tn_codec_find (names[coding], error);
    g_atomic_pointer_set (&c->codecs[coding], codec);
  }
  return codec;
}

/* ---- Opening ---- */

static int
cso_load (TnNode *node, uint32_t flags, GError **error)
{
  Cso *c = tn_node_state (node);
  const char *name = tn_node_class_name (node);
  c->file = tn_node_child (node, "file");
  c->file_size = tn_node_size (c->file);
  c->kind = strcmp (name, "dax") == 0 ? CSO_DAX : strcmp (name, "zso") == 0 ? CSO_ZISO : CSO_1;
  if (c->kind == CSO_DAX && (flags & TN_OPEN_WRITE))
    return cso_fail (c, error, EROFS, "dax images cannot be written; open it with read-only=on");
  const int ret = c->kind == CSO_DAX ? cso_dax_open (c, error) : cso_index_open (c, error);
  if (ret < 0)
    return ret;
  const uint32_t present = cso_present (c);
  if (present && present < c->blocks && !(flags & (TN_OPEN_WRITE | TN_OPEN_CHECK | TN_OPEN_NO_IO)))
    return cso_fail (c, error, EIO,
                     "it is not complete: %u of %u blocks (check -r all makes zeroes of the rest)", present,
                     c->blocks);
  if (flags & TN_OPEN_WRITE)
    cso_write_open (c);
  tn_node_set_allocation_unit (node, c->block_size);
  tn_node_set_size (node, c->disk_size);
  return 0;
}

static void
cso_clear (Cso *c)
{
  g_clear_pointer (&c->index, g_free);
  g_clear_pointer (&c->lengths, g_free);
  g_clear_pointer (&c->plain, g_free);
  if (c->under_way)
    g_array_unref (g_steal_pointer (&c->under_way));
}

static int
cso_close (TnNode *node, GError **error)
{
  Cso *c = tn_node_state (node);
  const int ret = c->writable ? cso_finish (c, error) : 0;
  cso_clear (c);
  return ret;
}

static int
cso_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const int ret = cso_load (node, flags, error);
  if (ret < 0)
    cso_clear (tn_node_state (node));
  return ret;
}

static int
cso_flush (TnNode *node, GError **error)
{
  Cso *c = tn_node_state (node);
  return c->writable ? cso_save (c, error) : 0;
}

static int
cso_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Cso *c = tn_node_state (node);
  if (!(flags & TN_OPEN_WRITE) == !c->writable)
    return 0;
  return cso_fail (c, error, ENOTSUP, "it cannot change between reading and writing while it is open");
}

/* ---- Reading ---- */

/* Blocks that are fetched and decoded together with block @number.  While an image is being written each
 * stands alone: its neighbours may not have arrived. */
static void
choose_group (const Cso *c, uint32_t number, uint32_t present, uint32_t *first, uint32_t *end)
{
  const uint32_t most = c->writable || c->kind == CSO_DAX ? 1 : MAX (1, CSO_GROUP / c->block_size);
  *first = number / most * most;
  *end = MIN (*first + most, present);
}

static bool
all_plain (const Cso *c, uint32_t first, uint32_t end)
{
  for (uint32_t i = first; i < end; i++) {
    const CsoBlock block = cso_block (c, i);
    if (block.coding != CSO_PLAIN || block.length != c->block_size)
      return false;
  }
  return true;
}

static int
cso_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Cso *c = tn_node_state (node);
  const uint32_t number = (uint32_t) (offset / c->block_size), present = cso_present (c);
  *extent = (TnExtent){ .kind = TN_EXTENT_ZERO, .source = c->file };
  if (number >= present) {
    extent->offset = (uint64_t) present * c->block_size;
    extent->length = c->disk_size - extent->offset;
    return 0;
  }
  uint32_t first, end;
  choose_group (c, number, present, &first, &end);
  const CsoBlock begin = cso_block (c, first), last = cso_block (c, end - 1);
  extent->offset = (uint64_t) first * c->block_size;
  extent->length = MIN ((uint64_t) end * c->block_size, c->disk_size) - extent->offset;
  extent->kind = all_plain (c, first, end) ? TN_EXTENT_DATA : TN_EXTENT_PACKED;
  extent->source_offset = begin.offset;
  extent->packed_length = last.offset + last.length - begin.offset;
  extent->cookie[0] = first;
  extent->cookie[1] = begin.coding;
  return 0;
}

static int
unpack_block (Cso *c, uint32_t number, CsoCoding coding, const void *in, size_t in_length, void *out,
              size_t out_length, GError **error)
{
  if (coding == CSO_PLAIN && in_length >= out_length) {
    memcpy (out, in, out_length);
    return 0;
  }
  const TnCodecOps *codec = coding == CSO_PLAIN ? NULL : cso_codec (c, coding, error);
  if (!codec && coding != CSO_PLAIN)
    return -ENOTSUP;
  g_autoptr (GError) cause = NULL;
  if (codec && codec->decompress (in, in_length, out, out_length, &cause) == 0)
    return 0;
  return cso_fail (c, error, EIO, "block %u is damaged: %s", number,
                   cause ? cause->message : "it has too few bytes");
}

static int
cso_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
            size_t out_length, GError **error)
{
  Cso *c = tn_node_state (node);
  uint32_t number = (uint32_t) extent->cookie[0];
  if (out_length <= c->block_size)
    return unpack_block (c, number, (CsoCoding) extent->cookie[1], in, in_length, out, out_length, error);
  int ret = 0;
  for (size_t done = 0; ret == 0 && done < out_length; done += c->block_size, number++) {
    const CsoBlock block = cso_block (c, number);
    ret =
        unpack_block (c, number, block.coding, (const uint8_t *) in + (block.offset - extent->source_offset),
                      block.length, (uint8_t *) out + done, MIN (c->block_size, out_length - done), error);
  }
  return ret;
}

/* ---- Checking ---- */

static void
report (TnCheck *check, bool is_error, const char *line)
{
  if (check->report)
    check->report (line, is_error, check->opaque);
}

static int
cso_check (TnNode *node, uint32_t fix, TnCheck *check, GError **error)
{
  Cso *c = tn_node_state (node);
  const uint32_t present = cso_present (c);
  check->total_clusters = c->blocks;
  check->allocated_clusters = present;
  for (uint32_t i = 0; i < present; i++)
    check->compressed_clusters += cso_block (c, i).coding != CSO_PLAIN;
  if (present == c->blocks)
    return 0;
  g_autofree char *line =
      g_strdup_printf ("ERROR only %u of %u blocks have been written%s", present, c->blocks,
                       fix & TN_CHECK_FIX_ERRORS ? ": the others become zeroes" : "");
  report (check, true, line);
  if (!(fix & TN_CHECK_FIX_ERRORS)) {
    check->corruptions++;
    return 0;
  }
  check->corruptions_fixed++;
  return cso_finish (c, error);
}

/* ---- What it is ---- */

static int
cso_info (TnNode *node, TnInfo *info, GError **error)
{
  const Cso *c = tn_node_state (node);
  info->cluster_size = c->block_size;
  info->compressed = true;
  info->dirty = cso_present (c) < c->blocks;
  return 0;
}

static char *
cso_info_specific (TnNode *node, GError **error)
{
  static const char *const names[] = { "CISO version 1", "CISO version 2", "ZISO", "DAX" };
  const Cso *c = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "variant", names[c->kind]);
  tn_json_uint (json, "alignment", 1ull << c->align_bits);
  tn_json_uint (json, "blocks", c->blocks);
  tn_json_uint (json, "blocks-present", cso_present (c));
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const TnFormatOps cso_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_PACKS | TN_FORMAT_ALWAYS_PACKS | TN_FORMAT_GROWS,
  .instance_size = sizeof (Cso),
  .open = cso_open,
  .close = cso_close,
  .create = cso_create,
  .map = cso_map,
  .reserve = cso_reserve,
  .commit = cso_commit,
  .cancel = cso_cancel,
  .unmap = cso_unmap,
  .pack = cso_pack,
  .unpack = cso_unpack,
  .flush = cso_flush,
  .check = cso_check,
  .info = cso_info,
  .info_specific = cso_info_specific,
  .measure = cso_measure,
  .reopen = cso_reopen,
};

static const TnFormatOps dax_ops = {
  .size = sizeof (TnFormatOps),
  .instance_size = sizeof (Cso),
  .open = cso_open,
  .close = cso_close,
  .map = cso_map,
  .unpack = cso_unpack,
  .info = cso_info,
  .info_specific = cso_info_specific,
};

static const char *const version_choices[] = { "1", "2", NULL };

static const TnOption cso_options[] = {
  { .name = "block_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "2k",
    .min = 512,
    .max = CSO_MAX_BLOCK,
    .help = "block size, a power of two from 512 to 2M" },
  { .name = "version",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .value = "1",
    .choices = version_choices,
    .help = "1: blocks are deflated; 2: compressed with lz4" },
  { .name = NULL },
};

static const TnOption zso_options[] = {
  { .name = "block_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "2k",
    .min = 512,
    .max = CSO_MAX_BLOCK,
    .help = "block size, a power of two from 512 to 2M" },
  { .name = NULL },
};

static const char *const cso_suffixes[] = { "cso", "ciso", NULL };
static const char *const zso_suffixes[] = { "zso", NULL };
static const char *const dax_suffixes[] = { "dax", NULL };
static const char *const cso_codecs[] = { "deflate", "lz4", "zlib", NULL };

/* The version and two unused bytes of the header tell them from other files of that name. */
static const uint8_t ciso_mask[24] = { 0xff, 0xff, 0xff, 0xff, [20] = 0xfc, [22] = 0xff, 0xff };

static const TnMagic cso_magics[] = {
  { .offset = 0,
    .length = 24,
    .bytes = (const uint8_t *) "CISO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    .mask = ciso_mask },
  { .length = 0 },
};

static const TnMagic zso_magics[] = {
  { .offset = 0,
    .length = 24,
    .bytes = (const uint8_t *) "ZISO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    .mask = ciso_mask },
  { .length = 0 },
};

static const TnMagic dax_magics[] = {
  { .offset = 0, .length = 4, .bytes = (const uint8_t *) "DAX" },
  { .length = 0 },
};

static const TnClass cso_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "cso",
  .summary = "compressed disc images (CISO)",
  .suffixes = cso_suffixes,
  .magics = cso_magics,
  .options = cso_options,
  .ops = &cso_ops,
};

static const TnClass zso_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "zso",
  .summary = "compressed disc images (ZISO)",
  .suffixes = zso_suffixes,
  .magics = zso_magics,
  .options = zso_options,
  .ops = &cso_ops,
};

static const TnClass dax_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "dax",
  .summary = "compressed disc images (DAX), read-only",
  .suffixes = dax_suffixes,
  .magics = dax_magics,
  .ops = &dax_ops,
};

static const TnClass *const cso_classes[] = { &cso_class, &zso_class, &dax_class, NULL };

TN_PLUGIN_DEFINE (format_cso, .security = TN_SECURITY_HARDENED, .name = "format-cso", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-cso",
                  .requires_codecs = cso_codecs, .classes = cso_classes);
