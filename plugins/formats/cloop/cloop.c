/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and reading. */
#include "cloop.h"

#include <stdarg.h>

#include <tenon/json.h>

int
cloop_fail (const Cloop *c, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "cloop image '%s': %s", tn_node_filename (c->file), text);
}

/* ---- Opening ---- */

static unsigned
version_of (const uint8_t *header)
{
  const uint8_t *text = header + CLOOP_VERSION_AT;
  return text[0] == 'V' && g_ascii_isdigit (text[1]) && text[2] == '.' ? text[1] - '0' : 0;
}

static void
parse_header (Cloop *c, const uint8_t *header)
{
  c->version = version_of (header);
  c->block_size = tn_load_be32 (header + CLOOP_PREAMBLE);
  c->blocks = tn_load_be32 (header + CLOOP_PREAMBLE + 4);
  c->index_offset = CLOOP_HEADER;
}

/* From V4.0 on the header may also stand at the end, with the index before it. */
static int
read_footer (Cloop *c, GError **error)
{
  uint8_t footer[CLOOP_HEADER];
  const int ret = tn_node_read (c->file, c->file_size - CLOOP_HEADER, footer, sizeof footer, error);
  if (ret < 0 || version_of (footer) < 2)
    return ret;
  parse_header (c, footer);
  const uint64_t length = ((uint64_t) c->blocks + 1) * 8;
  if (length > c->file_size - CLOOP_HEADER)
    return cloop_fail (c, error, EINVAL, "its index of %u blocks is larger than the file", c->blocks);
  c->index_offset = c->file_size - CLOOP_HEADER - length;
  return 0;
}

static int
read_header (Cloop *c, GError **error)
{
  uint8_t header[CLOOP_HEADER];
  if (c->file_size < CLOOP_HEADER + 8)
    return cloop_fail (c, error, EINVAL, "%" PRIu64 " bytes are too few for one", c->file_size);
  int ret = tn_node_read (c->file, 0, header, sizeof header, error);
  if (ret < 0)
    return ret;
  parse_header (c, header);
  if (c->version == 0 && memcmp (header, "#!", 2) != 0)
    ret = read_footer (c, error);
  if (ret < 0)
    return ret;
  if (c->version > 4)
    return cloop_fail (c, error, ENOTSUP, "version %u is unknown", c->version);
  if (c->block_size == 0 || c->block_size % 512 || c->block_size > CLOOP_MAX_BLOCK)
    return cloop_fail (c, error, EINVAL, "its block size of %u is no multiple of 512 from 512 to %u",
                       c->block_size, CLOOP_MAX_BLOCK);
  return 0;
}

static int
cloop_load (TnNode *node, uint32_t flags, GError **error)
{
  Cloop *c = tn_node_state (node);
  c->file = tn_node_child (node, "file");
  c->file_size = tn_node_size (c->file);
  if (flags & TN_OPEN_WRITE)
    return cloop_fail (c, error, EROFS, "cloop images cannot be written; open it with read-only=on");
  int ret = read_header (c, error);
  if (ret < 0 || (ret = cloop_index_open (c, error)) < 0)
    return ret;
  tn_node_set_allocation_unit (node, c->block_size);
  tn_node_set_size (node, (uint64_t) c->blocks * c->block_size);
  return 0;
}

static void
cloop_clear (Cloop *c)
{
  g_clear_pointer (&c->cache, tn_meta_cache_free);
  g_clear_pointer (&c->offsets, g_free);
}

static int
cloop_close (TnNode *node, GError **error)
{
  cloop_clear (tn_node_state (node));
  return 0;
}

static int
cloop_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const int ret = cloop_load (node, flags, error);
  if (ret < 0)
    cloop_clear (tn_node_state (node));
  return ret;
}

/* ---- Reading ---- */

int
cloop_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Cloop *c = tn_node_state (node);
  const uint64_t number = offset / c->block_size;
  CloopBlock block;
  const int ret = cloop_index_block (c, number, flags & TN_MAP_NOWAIT, &block, error);
  if (ret < 0)
    return ret;
  *extent = (TnExtent){ .offset = number * c->block_size,
                        .length = c->block_size,
                        .kind = block.coding == CLOOP_PLAIN ? TN_EXTENT_DATA : TN_EXTENT_PACKED,
                        .source = c->file,
                        .source_offset = block.offset,
                        .packed_length = block.length,
                        .cookie = { block.coding } };
  return 0;
}

static const TnCodecOps *
find_codec (Cloop *c, unsigned coding, GError **error)
{
  static const char *const names[CLOOP_CODINGS] = { "zlib", NULL, "xz", "lz4" };
  const TnCodecOps *codec = g_atomic_pointer_get (&c->codecs[coding]);
  if (!codec) {
    codec = tn_codec_find (names[coding], error);
    g_atomic_pointer_set (&c->codecs[coding], codec);
  }
  return codec;
}

int
cloop_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
              size_t out_length, GError **error)
{
  Cloop *c = tn_node_state (node);
  const TnCodecOps *codec = find_codec (c, (unsigned) extent->cookie[0], error);
  if (!codec)
    return -ENOTSUP;
  g_autoptr (GError) cause = NULL;
  const int ret = codec->decompress (in, in_length, out, out_length, &cause);
  if (ret == 0)
    return 0;
  return cloop_fail (c, error, EIO, "block %" PRIu64 " at offset %" PRIu64 " is damaged: %s",
                     extent->offset / c->block_size, extent->source_offset,
                     cause ? cause->message : g_strerror (-ret));
}

/* ---- What it is ---- */

static int
cloop_info (TnNode *node, TnInfo *info, GError **error)
{
  const Cloop *c = tn_node_state (node);
  info->cluster_size = c->block_size;
  info->compressed = true;
  return 0;
}

static char *
cloop_info_specific (TnNode *node, GError **error)
{
  const Cloop *c = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "version", cloop_index_name (c));
  tn_json_uint (json, "blocks", c->blocks);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const TnFormatOps cloop_ops = {
  .size = sizeof (TnFormatOps),
  .instance_size = sizeof (Cloop),
  .open = cloop_open,
  .close = cloop_close,
  .map = cloop_map,
  .unpack = cloop_unpack,
  .info = cloop_info,
  .info_specific = cloop_info_specific,
};

static const char *const cloop_suffixes[] = { "cloop", NULL };
static const char *const cloop_codecs[] = { "zlib", "xz", "lz4", NULL };

static const TnMagic cloop_magics[] = {
  { .offset = 0, .length = 22, .bytes = (const uint8_t *) "#!/bin/sh\n#V2.0 Format" },
  { .offset = 0, .length = 22, .bytes = (const uint8_t *) "#!/bin/sh\n#V3.0 Format" },
  { .offset = 0, .length = 15, .bytes = (const uint8_t *) "#!/bin/sh\n#V4.0" },
  { .offset = -136, .length = 15, .bytes = (const uint8_t *) "#!/bin/sh\n#V4.0" },
  { .length = 0 },
};

static const TnClass cloop_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "cloop",
  .summary = "compressed loop images of Knoppix, read-only",
  .suffixes = cloop_suffixes,
  .magics = cloop_magics,
  .ops = &cloop_ops,
};

static const TnClass *const cloop_classes[] = { &cloop_class, NULL };

TN_PLUGIN_DEFINE (format_cloop, .security = TN_SECURITY_HARDENED, .name = "format-cloop", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-cloop",
                  .requires_codecs = cloop_codecs, .classes = cloop_classes);
