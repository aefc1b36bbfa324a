/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header.  It shares its sector with the beginning of the BAT and is changed through the same cache. */
#include "parallels.h"

#define PARALLELS_VERSION 2

uint64_t
parallels_bat_end (uint64_t entries)
{
  return PARALLELS_HEADER_BYTES + entries * 4;
}

static uint64_t
parallels_round_up (uint64_t value, uint64_t unit)
{
  return (value + unit - 1) / unit * unit;
}

static void
parallels_header_decode (ParallelsHeader *h, const uint8_t *bytes)
{
  *h = (ParallelsHeader){
    .ext = memcmp (bytes, PARALLELS_MAGIC_EXT, 16) == 0,
    .heads = tn_load_le32 (bytes + 20),
    .cylinders = tn_load_le32 (bytes + 24),
    .tracks = tn_load_le32 (bytes + 28),
    .entries = tn_load_le32 (bytes + 32),
    .sectors = tn_load_le64 (bytes + 36),
    .in_use = tn_load_le32 (bytes + 44),
    .data_offset = tn_load_le32 (bytes + 48),
    .flags = tn_load_le32 (bytes + 52),
    .ext_offset = tn_load_le64 (bytes + 56),
  };
  if (!h->ext) {
    h->sectors &= UINT32_MAX; /* the rest is somebody's own */
  }
}

void
parallels_header_encode (const ParallelsHeader *h, uint8_t *bytes)
{
  memcpy (bytes, h->ext ? PARALLELS_MAGIC_EXT : PARALLELS_MAGIC, 16);
  tn_store_le32 (bytes + 16, PARALLELS_VERSION);
  tn_store_le32 (bytes + 20, h->heads);
  tn_store_le32 (bytes + 24, h->cylinders);
  tn_store_le32 (bytes + 28, h->tracks);
  tn_store_le32 (bytes + 32, h->entries);
  tn_store_le32 (bytes + 36, (uint32_t) h->sectors);
  if (h->ext) {
    tn_store_le32 (bytes + 40, (uint32_t) (h->sectors >> 32));
  }
  tn_store_le32 (bytes + 44, h->in_use);
  tn_store_le32 (bytes + 48, h->data_offset);
  tn_store_le32 (bytes + 52, h->flags);
  tn_store_le64 (bytes + 56, h->ext_offset);
}

static int
parallels_check_geometry (const Parallels *p, GError **error)
{
  const ParallelsHeader *h = &p->header;
  if (h->tracks == 0 || h->tracks > PARALLELS_MAX_TRACKS) {
    return parallels_fail (p, error, EINVAL, "the header gives clusters of %u sectors", h->tracks);
  }
  if (h->entries > PARALLELS_MAX_ENTRIES) {
    return parallels_fail (p, error, EFBIG, "the header gives a BAT of %u entries", h->entries);
  }
  if (h->sectors > INT64_MAX / PARALLELS_SECTOR || h->sectors > (uint64_t) h->entries * h->tracks) {
    return parallels_fail (
        p, error, EINVAL, "the header gives a disk of %" PRIu64 " sectors, but its BAT has %u clusters of %u",
        h->sectors, h->entries, h->tracks);
  }
  return 0;
}

static int
parallels_set_geometry (Parallels *p, uint64_t file_size, GError **error)
{
  const ParallelsHeader *h = &p->header;
  const uint64_t bat_end = parallels_bat_end (h->entries);
  const uint64_t start = MAX ((uint64_t) h->data_offset * PARALLELS_SECTOR, bat_end);
  if (bat_end > file_size) {
    return parallels_fail (p, error, EINVAL,
                           "its BAT of %u entries is not within the file of %" PRIu64
                           " bytes: is it truncated?",
                           h->entries, file_size);
  }
  p->size = h->sectors * PARALLELS_SECTOR;
  p->cluster_size = h->tracks * PARALLELS_SECTOR;
  p->data_start = parallels_round_up (start, h->ext ? p->cluster_size : PARALLELS_SECTOR);
  /* No slice of the BAT may hold bytes of a cluster. */
  p->slice_bytes = parallels_round_up (bat_end, 4096) <= p->data_start ? 4096 : PARALLELS_SECTOR;
  return 0;
}

int
parallels_header_read (Parallels *p, GError **error)
{
  const uint64_t file_size = tn_node_size (p->file);
  uint8_t head[PARALLELS_HEADER_BYTES];
  if (file_size < sizeof head) {
    return parallels_fail (p, error, EINVAL, "a file of %" PRIu64 " bytes has no room for the header",
                           file_size);
  }
  int ret = tn_node_read (p->file, 0, head, sizeof head, error);
  if (ret < 0) {
    return ret;
  }
  if (memcmp (head, PARALLELS_MAGIC, 16) != 0 && memcmp (head, PARALLELS_MAGIC_EXT, 16) != 0) {
    return parallels_fail (p, error, EINVAL, "it does not begin as a Parallels image does");
  }
  if (tn_load_le32 (head + 16) != PARALLELS_VERSION) {
    return parallels_fail (p, error, ENOTSUP, "its version is %u, known is %u", tn_load_le32 (head + 16),
                           PARALLELS_VERSION);
  }
  parallels_header_decode (&p->header, head);
  ret = parallels_check_geometry (p, error);
  return ret < 0 ? ret : parallels_set_geometry (p, file_size, error);
}

int
parallels_header_write (Parallels *p, GError **error)
{
  TnMetaSlice *slice;
  int ret = tn_meta_get (p->bat, 0, &slice, error);
  if (ret < 0) {
    return ret;
  }
  tn_meta_after_data (p->bat);
  parallels_header_encode (&p->header, tn_meta_data (slice));
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return parallels_sync (p, error);
}
