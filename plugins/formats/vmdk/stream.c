/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * streamOptimized: compressed grains, each behind a marker, in the order in which they come; each grain table
 * behind its grains; at the end the directory, a footer and an end marker.
 *
 * Writing appends.  What stands behind the last grain table (directory, footer, end marker) is overwritten by
 * the next grain and written anew by the next flush.  A grain is written once.
 */
#include "vmdk.h"

#include <tenon/codec.h>

#define STREAM_MAX_GD_ENTRIES (1u << 20) /* 32 TiB in the usual grains */

struct VmdkStream {
  uint32_t *directory;
  uint8_t *table; /* of `current` */
  uint64_t current;
  bool dirty;     /* the table is not as in the file */
  bool finished;  /* the file is whole */
  uint64_t end;   /* where the next grain goes */
  uint64_t stale; /* bytes before this may hold anything */
};

static uint64_t
vmdk_round_sector (uint64_t bytes)
{
  return (bytes + VMDK_SECTOR - 1) & ~(uint64_t) (VMDK_SECTOR - 1);
}

static void
vmdk_store_marker (uint8_t *sector, uint64_t sectors, uint32_t type)
{
  memset (sector, 0, VMDK_SECTOR);
  tn_store_le64 (sector, sectors);
  tn_store_le32 (sector + 12, type);
}

/* ---- Beginning ---- */

static int
vmdk_stream_load (Vmdk *v, VmdkStream *stream, GError **error)
{
  const VmdkSparse *s = &v->extents[0].sparse;
  const uint64_t bytes = s->gd_entries * 4;
  stream->directory = g_malloc0 (MAX (vmdk_round_sector (bytes), VMDK_SECTOR));
  stream->table = g_malloc0 (vmdk_round_sector (s->gt_entries * 4u));
  stream->current = UINT64_MAX;
  stream->finished = true;
  stream->end = s->gd_offset - VMDK_SECTOR;
  stream->stale = tn_node_size (v->file);
  int ret = bytes ? tn_node_read (v->file, s->gd_offset, stream->directory, bytes, error) : 0;
  for (uint64_t i = 0; i < s->gd_entries; i++) {
    stream->directory[i] = GUINT32_FROM_LE (stream->directory[i]);
  }
  return ret;
}

int
vmdk_stream_new (Vmdk *v, GError **error)
{
  const VmdkSparse *s = &v->extents[0].sparse;
  const uint64_t gd_bytes = vmdk_round_sector (s->gd_entries * 4);
  if (!s->markers || !s->footer_offset || s->gd_offset < 2 * VMDK_SECTOR
      || s->gd_offset + gd_bytes != s->footer_offset || s->gd_entries > STREAM_MAX_GD_ENTRIES) {
    return vmdk_fail (
        v, error, EROFS,
        "its compressed grains are not laid out so that it could be continued: convert it to write to it");
  }
  VmdkStream *stream = g_new0 (VmdkStream, 1);
  int ret = vmdk_stream_load (v, stream, error);
  if (ret < 0) {
    vmdk_stream_free (stream);
    return ret;
  }
  v->stream = stream;
  tn_node_set_always_packed (v->node, true);
  return 0;
}

void
vmdk_stream_free (VmdkStream *stream)
{
  if (stream) {
    g_free (stream->directory);
    g_free (stream->table);
    g_free (stream);
  }
}

/* ---- Tables ---- */

static int
vmdk_stream_put_table (Vmdk *v, GError **error)
{
  VmdkStream *stream = v->stream;
  const uint32_t bytes = v->extents[0].sparse.gt_entries * 4;
  if (!stream->dirty) {
    return 0;
  }
  if (stream->end / VMDK_SECTOR >= UINT32_MAX - bytes / VMDK_SECTOR) {
    return vmdk_fail (v, error, EFBIG, "the file cannot grow beyond 2 TiB");
  }
  g_autofree uint8_t *both = g_malloc (VMDK_SECTOR + bytes);
  vmdk_store_marker (both, bytes / VMDK_SECTOR, VMDK_MARKER_GT);
  memcpy (both + VMDK_SECTOR, stream->table, bytes);
  int ret = tn_node_write (v->file, stream->end, both, VMDK_SECTOR + bytes, error);
  if (ret < 0) {
    return ret;
  }
  stream->directory[stream->current] = (uint32_t) (stream->end / VMDK_SECTOR + 1);
  stream->end += VMDK_SECTOR + bytes;
  stream->dirty = false;
  return 0;
}

static int
vmdk_stream_place (Vmdk *v, uint64_t index, uint64_t *place, GError **error)
{
  VmdkExtent *e = &v->extents[0];
  *place = (uint64_t) v->stream->directory[index] * VMDK_SECTOR;
  if (*place == 0 || vmdk_valid_table (e, *place)) {
    return 0;
  }
  return vmdk_corrupt (
      e, error, "entry %" PRIu64 " of the grain directory is 0x%" PRIx64 ", where no grain table can be",
      index, *place / VMDK_SECTOR);
}

static int
vmdk_stream_switch (Vmdk *v, uint64_t index, GError **error)
{
  VmdkStream *stream = v->stream;
  const uint32_t bytes = v->extents[0].sparse.gt_entries * 4;
  uint64_t place;
  if (stream->current == index) {
    return 0;
  }
  int ret = vmdk_stream_put_table (v, error);
  if (ret < 0 || (ret = vmdk_stream_place (v, index, &place, error)) < 0) {
    return ret;
  }
  stream->current = UINT64_MAX;
  memset (stream->table, 0, bytes);
  if (place && (ret = tn_node_read (v->file, place, stream->table, bytes, error)) < 0) {
    return ret;
  }
  stream->current = index;
  return 0;
}

int
vmdk_stream_entry (Vmdk *v, uint64_t at, uint64_t *entry, GError **error)
{
  const VmdkExtent *e = &v->extents[0];
  const uint64_t index = at / vmdk_gt_span (e), slot = at / e->sparse.grain % e->sparse.gt_entries;
  uint8_t bytes[4];
  uint64_t place;
  if (v->stream->current == index) {
    *entry = tn_load_le32 (v->stream->table + slot * 4);
    return 0;
  }
  int ret = vmdk_stream_place (v, index, &place, error);
  *entry = 0;
  if (ret < 0 || place == 0) {
    return ret;
  }
  ret = tn_node_read (v->file, place + slot * 4, bytes, sizeof bytes, error);
  *entry = ret < 0 ? 0 : tn_load_le32 (bytes);
  return ret;
}

/* ---- Grains ---- */

static uint8_t *
vmdk_stream_slot (const Vmdk *v, uint64_t at)
{
  const VmdkSparse *s = &v->extents[0].sparse;
  return v->stream->table + at / s->grain % s->gt_entries * 4;
}

int
vmdk_stream_reserve (Vmdk *v, uint64_t offset, TnExtent *extent, GError **error)
{
  VmdkStream *stream = v->stream;
  const VmdkExtent *e = &v->extents[0];
  const uint64_t at = offset & ~(e->sparse.grain - 1);
  int ret = vmdk_stream_switch (v, at / vmdk_gt_span (e), error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_le32 (vmdk_stream_slot (v, at))) {
    return vmdk_fail (
        v, error, ENOTSUP,
        "the grain at offset %" PRIu64 " has been written: a streamOptimized image is written once", at);
  }
  const uint64_t bytes = vmdk_round_sector (VMDK_MARKER_BYTES + extent->packed_length);
  if ((stream->end + bytes) / VMDK_SECTOR > UINT32_MAX) {
    return vmdk_fail (v, error, EFBIG, "the file cannot grow beyond 2 TiB");
  }
  *extent = (TnExtent){
    .offset = at,
    .length = e->sparse.grain,
    .kind = TN_EXTENT_PACKED,
    .flags = TN_EXTENT_NEW,
    .source = v->file,
    .source_offset = stream->end + VMDK_MARKER_BYTES,
    .packed_length = extent->packed_length,
    .generation = extent->generation,
  };
  tn_store_le32 (vmdk_stream_slot (v, at), (uint32_t) (stream->end / VMDK_SECTOR));
  stream->end += bytes;
  stream->dirty = true;
  stream->finished = false;
  return 0;
}

int
vmdk_stream_commit (Vmdk *v, TnExtent *extent, GError **error)
{
  static const uint8_t zeroes[VMDK_SECTOR];
  const VmdkExtent *e = &v->extents[0];
  uint8_t marker[VMDK_MARKER_BYTES];
  const uint64_t behind = extent->source_offset + extent->packed_length;
  const uint64_t padding = vmdk_round_sector (behind) - behind;
  tn_store_le64 (marker, extent->offset / VMDK_SECTOR);
  tn_store_le32 (marker + 8, (uint32_t) extent->packed_length);
  int ret = tn_node_write (v->file, extent->source_offset - VMDK_MARKER_BYTES, marker, sizeof marker, error);
  if (ret == 0 && padding && (behind < v->stream->stale || !e->zero_tail)) {
    ret = tn_node_write (v->file, behind, zeroes, padding, error);
  }
  if (ret == 0) {
    extent->flags &= ~(uint32_t) TN_EXTENT_NEW;
  }
  return ret;
}

/* Its room stays empty. */
void
vmdk_stream_cancel (Vmdk *v, TnExtent *extent)
{
  if (vmdk_stream_switch (v, extent->offset / vmdk_gt_span (&v->extents[0]), NULL) == 0) {
    tn_store_le32 (vmdk_stream_slot (v, extent->offset), 0);
    v->stream->dirty = true;
  }
}

/* ---- The end ---- */

int
vmdk_stream_finish (Vmdk *v, GError **error)
{
  VmdkStream *stream = v->stream;
  VmdkSparse *s = &v->extents[0].sparse;
  const uint64_t gd_bytes = vmdk_round_sector (s->gd_entries * 4);
  int ret = stream->finished ? 0 : vmdk_stream_put_table (v, error);
  if (ret < 0 || stream->finished) {
    return ret;
  }
  const uint64_t gd_offset = stream->end + VMDK_SECTOR, length = gd_bytes + 4 * VMDK_SECTOR;
  g_autofree uint8_t *tail = g_malloc0 (length);
  vmdk_store_marker (tail, gd_bytes / VMDK_SECTOR, VMDK_MARKER_GD);
  for (uint64_t i = 0; i < s->gd_entries; i++) {
    tn_store_le32 (tail + VMDK_SECTOR + i * 4, stream->directory[i]);
  }
  uint8_t *footer = tail + VMDK_SECTOR + gd_bytes;
  vmdk_store_marker (footer, 1, VMDK_MARKER_FOOTER);
  vmdk_sparse_encode (s, gd_offset, footer + VMDK_SECTOR);
  if ((ret = tn_node_write (v->file, stream->end, tail, length, error)) < 0) {
    return ret;
  }
  if (tn_node_size (v->file) > stream->end + length
      && (ret = tn_node_resize (v->file, stream->end + length, TN_PREALLOC_OFF, error)) < 0) {
    return ret;
  }
  stream->finished = true;
  stream->stale = stream->end + length;
  s->gd_offset = gd_offset;
  return 0;
}

/* ---- Compression ---- */

uint64_t
vmdk_packed_limit (const VmdkExtent *e)
{
  return VMDK_MARKER_BYTES + e->sparse.grain + e->sparse.grain / 4 + 4096;
}

int
vmdk_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
           GError **error)
{
  Vmdk *v = tn_node_state (node);
  if (v->stream == NULL) {
    return vmdk_fail (v, error, ENOTSUP, "compressed data needs subformat=streamOptimized");
  }
  const TnCodecOps *codec = tn_codec_find ("zlib", error);
  return codec ? codec->compress (0, 0, in, in_length, out, out_size, out_length, error) : -ENOTSUP;
}

/* Where the compressed bytes are behind the marker. */
static int
vmdk_read_marker (const VmdkExtent *e, const TnExtent *extent, const uint8_t **in, size_t *length,
                  GError **error)
{
  if (!e->sparse.markers) {
    return 0;
  }
  const uint64_t first = *length >= VMDK_MARKER_BYTES ? tn_load_le64 (*in) : 0;
  const uint32_t size = *length >= VMDK_MARKER_BYTES ? tn_load_le32 (*in + 8) : 0;
  if (*length < VMDK_MARKER_BYTES || first != (extent->offset - e->start) / VMDK_SECTOR
      || size > *length - VMDK_MARKER_BYTES) {
    return vmdk_corrupt (e, error,
                         "the grain of guest offset 0x%" PRIx64 " has no sensible marker at 0x%" PRIx64
                         " (sector %" PRIu64 ", %u bytes)",
                         extent->offset, extent->source_offset, first, size);
  }
  *in += VMDK_MARKER_BYTES;
  *length = size;
  return 0;
}

int
vmdk_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
             size_t out_length, GError **error)
{
  Vmdk *v = tn_node_state (node);
  const VmdkExtent *e = vmdk_extent_at (v, extent->offset);
  const uint8_t *bytes = in;
  size_t length = in_length;
  int ret = vmdk_read_marker (e, extent, &bytes, &length, error);
  if (ret < 0) {
    return ret;
  }
  if (length == 0) {
    memset (out, 0, out_length);
    return 0;
  }
  const TnCodecOps *codec = tn_codec_find ("zlib", error);
  if (codec == NULL) {
    return -ENOTSUP;
  }
  GError *cause = NULL;
  ret = codec->decompress (bytes, length, out, out_length, &cause);
  if (ret < 0) {
    vmdk_corrupt (e, error,
                  "the compressed grain of guest offset 0x%" PRIx64 " at 0x%" PRIx64 " is damaged: %s",
                  extent->offset, extent->source_offset, cause ? cause->message : g_strerror (-ret));
    g_clear_error (&cause);
    return -EIO;
  }
  return 0;
}
