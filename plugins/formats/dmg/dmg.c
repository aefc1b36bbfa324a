/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and reading. */
#include "dmg.h"

#include <stdarg.h>

#include <tenon/json.h>

#define MERGED 4096u   /* chunks of zeroes taken together at most */
#define SEARCHED 1024u /* bytes at the end in which the trailer is looked for */

/* Places in the trailer. */
#define AT_HEADER_SIZE 8
#define AT_DATA 24
#define AT_RESOURCES 40
#define AT_SEGMENTS 60
#define AT_PLIST 216
#define AT_SECTORS 492

int
dmg_fail (const Dmg *d, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "dmg image '%s': %s", tn_node_filename (d->file), text);
}

/* ---- Opening ---- */

static bool
is_trailer (const uint8_t *bytes)
{
  return memcmp (bytes, "koly", 4) == 0 && tn_load_be32 (bytes + AT_HEADER_SIZE) == DMG_TRAILER;
}

/* What copied or downloaded an image may have added a few bytes behind it. */
static int
find_trailer (const Dmg *d, uint8_t *trailer, GError **error)
{
  uint8_t end[SEARCHED];
  const size_t length = MIN (d->file_size, SEARCHED);
  if (length < DMG_TRAILER)
    return dmg_fail (d, error, EINVAL, "%" PRIu64 " bytes are too few for one", d->file_size);
  int ret = tn_node_read (d->file, d->file_size - length, end, length, error);
  if (ret < 0)
    return ret;
  for (size_t back = DMG_TRAILER; back <= length; back++) {
    if (!is_trailer (end + length - back))
      continue;
    memcpy (trailer, end + length - back, DMG_TRAILER);
    return 0;
  }
  ret = tn_node_read (d->file, 0, trailer, DMG_TRAILER, error);
  if (ret < 0 || is_trailer (trailer))
    return ret;
  if (memcmp (trailer, "encrcdsa", 8) == 0)
    return dmg_fail (d, error, ENOTSUP, "encrypted images are not supported");
  return dmg_fail (d, error, EINVAL,
                   "it has no trailer ('koly'); a plain read/write image is to be opened as raw");
}

static int
read_tables (Dmg *d, const uint8_t *trailer, GError **error)
{
  const uint64_t plist_length = tn_load_be64 (trailer + AT_PLIST + 8),
                 resources_length = tn_load_be64 (trailer + AT_RESOURCES + 8);
  if (plist_length)
    return dmg_plist_read (d, tn_load_be64 (trailer + AT_PLIST), plist_length, error);
  if (resources_length)
    return dmg_resources_read (d, tn_load_be64 (trailer + AT_RESOURCES), resources_length, error);
  return dmg_fail (d, error, EINVAL, "its trailer names neither a property list nor a resource fork");
}

static int
dmg_load (TnNode *node, uint32_t flags, GError **error)
{
  Dmg *d = tn_node_state (node);
  uint8_t trailer[DMG_TRAILER];
  d->file = tn_node_child (node, "file");
  d->file_size = tn_node_size (d->file);
  d->chunks = g_array_new (FALSE, FALSE, sizeof (DmgChunk));
  if (flags & TN_OPEN_WRITE)
    return dmg_fail (d, error, EROFS, "dmg images cannot be written; open it with read-only=on");
  int ret = find_trailer (d, trailer, error);
  if (ret < 0)
    return ret;
  if (tn_load_be32 (trailer + AT_SEGMENTS) > 1)
    return dmg_fail (d, error, ENOTSUP, "images in several segments (.dmgpart) are not supported");
  d->data_offset = tn_load_be64 (trailer + AT_DATA);
  ret = read_tables (d, trailer, error);
  if (ret < 0 || (ret = dmg_chunks_settle (d, tn_load_be64 (trailer + AT_SECTORS), error)) < 0)
    return ret;
  tn_node_set_allocation_unit (node, DMG_SECTOR);
  tn_node_set_size (node, d->sectors * DMG_SECTOR);
  return 0;
}

static void
dmg_clear (Dmg *d)
{
  if (d->chunks)
    g_array_unref (g_steal_pointer (&d->chunks));
}

static int
dmg_close (TnNode *node, GError **error)
{
  dmg_clear (tn_node_state (node));
  return 0;
}

static int
dmg_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const int ret = dmg_load (node, flags, error);
  if (ret < 0)
    dmg_clear (tn_node_state (node));
  return ret;
}

/* ---- Reading ---- */

/* The number of the first chunk that ends behind @sector. */
static guint
find_chunk (const Dmg *d, uint64_t sector)
{
  guint from = 0, to = d->chunks->len;
  while (from < to) {
    const guint middle = from + (to - from) / 2;
    const DmgChunk *chunk = &g_array_index (d->chunks, DmgChunk, middle);
    if (chunk->sector + chunk->count <= sector)
      from = middle + 1;
    else
      to = middle;
  }
  return from;
}

/* Up to where nothing is stored; @number: the first chunk that may be there. */
static uint64_t
end_of_zeroes (const Dmg *d, guint number)
{
  const guint most = number + MERGED;
  for (; number < d->chunks->len; number++) {
    const DmgChunk *chunk = &g_array_index (d->chunks, DmgChunk, number);
    if ((chunk->type != DMG_ZERO && chunk->type != DMG_IGNORE) || number == most)
      return chunk->sector;
  }
  return d->sectors;
}

static void
set_range (TnExtent *extent, uint64_t sector, uint64_t end)
{
  extent->offset = sector * DMG_SECTOR;
  extent->length = (end - sector) * DMG_SECTOR;
}

int
dmg_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Dmg *d = tn_node_state (node);
  const uint64_t sector = offset / DMG_SECTOR;
  const guint number = find_chunk (d, sector);
  const uint64_t zeroes = end_of_zeroes (d, number);
  *extent = (TnExtent){ .kind = TN_EXTENT_ZERO };
  if (zeroes > sector) {
    set_range (extent, sector, zeroes);
    return 0;
  }
  const DmgChunk *chunk = &g_array_index (d->chunks, DmgChunk, number);
  set_range (extent, chunk->sector, chunk->sector + chunk->count);
  extent->kind = chunk->type == DMG_RAW ? TN_EXTENT_DATA : TN_EXTENT_PACKED;
  extent->source = d->file;
  extent->source_offset = chunk->offset;
  extent->packed_length = chunk->packed_length;
  extent->cookie[0] = chunk->type;
  return 0;
}

static const TnCodecOps *
find_codec (Dmg *d, unsigned type, GError **error)
{
  static const char *const names[DMG_CODECS] = { "adc", "zlib", "bzip2", "lzfse", "xz" };
  const unsigned number = type - DMG_ADC;
  const TnCodecOps *codec = g_atomic_pointer_get (&d->codecs[number]);
  if (!codec) {
    codec = tn_codec_find (names[number], error);
    g_atomic_pointer_set (&d->codecs[number], codec);
  }
  return codec;
}

int
dmg_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
            size_t out_length, GError **error)
{
  Dmg *d = tn_node_state (node);
  const TnCodecOps *codec = find_codec (d, (unsigned) extent->cookie[0], error);
  if (!codec)
    return -ENOTSUP;
  g_autoptr (GError) cause = NULL;
  const int ret = codec->decompress (in, in_length, out, out_length, &cause);
  if (ret == 0)
    return 0;
  return dmg_fail (d, error, EIO, "the chunk of sector %" PRIu64 " at offset %" PRIu64 " is damaged: %s",
                   extent->offset / DMG_SECTOR, extent->source_offset,
                   cause ? cause->message : g_strerror (-ret));
}

/* ---- What it is ---- */

static int
dmg_info (TnNode *node, TnInfo *info, GError **error)
{
  const Dmg *d = tn_node_state (node);
  for (guint i = 0; i < d->chunks->len && !info->compressed; i++)
    info->compressed = g_array_index (d->chunks, DmgChunk, i).type >= DMG_ADC;
  return 0;
}

static char *
dmg_info_specific (TnNode *node, GError **error)
{
  static const char *const names[DMG_CODECS] = { "adc", "zlib", "bzip2", "lzfse", "lzma" };
  const Dmg *d = tn_node_state (node);
  unsigned seen = 0;
  for (guint i = 0; i < d->chunks->len; i++) {
    const uint32_t type = g_array_index (d->chunks, DmgChunk, i).type;
    seen |= type >= DMG_ADC ? 1u << (type - DMG_ADC) : 0;
  }
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "chunks", d->chunks->len);
  tn_json_array_begin (json, "compression");
  for (unsigned i = 0; i < DMG_CODECS; i++)
    if (seen & (1u << i))
      tn_json_string (json, NULL, names[i]);
  tn_json_array_end (json);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

static const TnFormatOps dmg_ops = {
  .size = sizeof (TnFormatOps),
  .instance_size = sizeof (Dmg),
  .open = dmg_open,
  .close = dmg_close,
  .map = dmg_map,
  .unpack = dmg_unpack,
  .info = dmg_info,
  .info_specific = dmg_info_specific,
};

static const char *const dmg_suffixes[] = { "dmg", NULL };
static const char *const dmg_codecs[] = { "adc", "zlib", "bzip2", "lzfse", "xz", NULL };

static const TnMagic dmg_magics[] = {
  { .offset = -512, .length = 12, .bytes = (const uint8_t *) "koly\0\0\0\4\0\0\2\0" },
  { .length = 0 },
};

static const TnClass dmg_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "dmg",
  .summary = "Apple's disk images (UDIF), read-only",
  .suffixes = dmg_suffixes,
  .magics = dmg_magics,
  .ops = &dmg_ops,
};

static const TnClass *const dmg_classes[] = { &dmg_class, NULL };

TN_PLUGIN_DEFINE (format_dmg, .security = TN_SECURITY_HARDENED, .name = "format-dmg", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-dmg",
                  .requires_codecs = dmg_codecs, .classes = dmg_classes);
