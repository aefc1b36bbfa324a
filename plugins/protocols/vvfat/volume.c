/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands before the data: partition table, boot sector, FATs, the root of FAT12 and FAT16. */
#include "vvfat.h"

#define HEADS 16u
#define TRACK 63u
#define CYLINDERS 1024u
#define FLOPPY_SECTORS 5760u /* 2.88 MB */
#define COPIES 2u
#define SERIAL 0x54454e4fu

/* ---- Layout ---- */

static uint32_t
fat_sectors_for (unsigned bits, uint64_t clusters)
{
  const uint64_t bytes = ((clusters + 2) * bits + 7) / 8;
  return (uint32_t) ((bytes + VVFAT_SECTOR - 1) / VVFAT_SECTOR);
}

/* A volume of so many sectors: FATs as large as its clusters need. */
static void
divide_volume (Vvfat *v, uint64_t sectors)
{
  const uint64_t rest = sectors - v->reserved - v->root_sectors;
  v->sectors = sectors;
  v->fat_sectors = fat_sectors_for (v->bits, rest / v->cluster_sectors);
  v->clusters = (uint32_t) ((rest - COPIES * v->fat_sectors) / v->cluster_sectors);
}

/* With 32 bits the disk is as large as the folder needs, and as large as FAT32 must be. */
static int
layout_32 (Vvfat *v, GError **error)
{
  v->reserved = 32;
  v->cluster_sectors = 8;
  v->clusters = (1u << 28) - 16;
  int ret = vvfat_place (v, error);
  if (ret < 0)
    return ret;
  uint64_t used = 0;
  for (guint i = 0; i < v->items->len; i++)
    used += ((const VvfatItem *) g_ptr_array_index (v->items, i))->count;
  const uint64_t clusters = MAX (used + used / 8, 1u << 17);
  divide_volume (v, v->reserved + COPIES * (uint64_t) fat_sectors_for (32, clusters)
                        + clusters * v->cluster_sectors);
  return 0;
}

int
vvfat_choose_layout (Vvfat *v, bool floppy, GError **error)
{
  v->start = floppy ? 0 : TRACK;
  if (v->bits == 32) {
    const int ret = layout_32 (v, error);
    return ret < 0 ? ret : vvfat_place (v, error);
  }
  v->reserved = 1;
  v->root_entries = v->bits == 12 ? 224 : 512;
  v->root_sectors = v->root_entries * VVFAT_ENTRY / VVFAT_SECTOR;
  v->cluster_sectors = floppy ? 2 : 16;
  if (!floppy && v->bits == 12)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vvfat: fat-type=12 is for floppies: add floppy=on");
  if (floppy && v->bits == 16)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vvfat: a floppy has fat-type=12");
  divide_volume (v, floppy ? FLOPPY_SECTORS : HEADS * TRACK * CYLINDERS - TRACK);
  return vvfat_place (v, error);
}

uint64_t
vvfat_data_start (const Vvfat *v)
{
  return v->start + v->reserved + COPIES * (uint64_t) v->fat_sectors + v->root_sectors;
}

/* ---- Sectors ---- */

static void
store_address (uint8_t *out, uint64_t sector)
{
  const uint64_t cylinder = sector / (HEADS * TRACK), head = sector / TRACK % HEADS,
                 in_track = sector % TRACK + 1;
  const bool beyond = cylinder >= CYLINDERS;
  out[0] = (uint8_t) (beyond ? 0xfe : head);
  out[1] = (uint8_t) (beyond ? 0xff : in_track | (cylinder >> 8) << 6);
  out[2] = (uint8_t) (beyond ? 0xff : cylinder);
}

static void
partition_sector (const Vvfat *v, uint8_t *out)
{
  uint8_t *entry = out + 446;
  tn_store_le32 (out + 440, SERIAL);
  entry[0] = 0x80;
  store_address (entry + 1, v->start);
  entry[4] = v->bits == 32 ? 0x0c : 0x06;
  store_address (entry + 5, v->start + v->sectors - 1);
  tn_store_le32 (entry + 8, v->start);
  tn_store_le32 (entry + 12, (uint32_t) v->sectors);
  tn_store_le16 (out + 510, 0xaa55);
}

static void
boot_sector (const Vvfat *v, uint8_t *out)
{
  const bool is_floppy = v->start == 0;
  uint8_t *tail = out + (v->bits == 32 ? 64 : 36);
  memcpy (out, "\xeb\x58\x90TENON   ", 11);
  tn_store_le16 (out + 11, VVFAT_SECTOR);
  out[13] = (uint8_t) v->cluster_sectors;
  tn_store_le16 (out + 14, (uint16_t) v->reserved);
  out[16] = COPIES;
  tn_store_le16 (out + 17, (uint16_t) v->root_entries);
  tn_store_le16 (out + 19, (uint16_t) (v->sectors < 65536 ? v->sectors : 0));
  out[21] = is_floppy ? 0xf0 : 0xf8;
  tn_store_le16 (out + 22, (uint16_t) (v->bits == 32 ? 0 : v->fat_sectors));
  tn_store_le16 (out + 24, is_floppy ? 36 : TRACK);
  tn_store_le16 (out + 26, is_floppy ? 2 : HEADS);
  tn_store_le32 (out + 28, v->start);
  tn_store_le32 (out + 32, (uint32_t) (v->sectors < 65536 ? 0 : v->sectors));
  if (v->bits == 32) {
    tn_store_le32 (out + 36, v->fat_sectors);
    tn_store_le32 (out + 44, v->root->first);
    tn_store_le16 (out + 48, 1);
    tn_store_le16 (out + 50, 6);
  }
  tail[0] = is_floppy ? 0 : 0x80;
  tail[2] = 0x29;
  tn_store_le32 (tail + 3, SERIAL);
  memcpy (tail + 7, v->label, 11);
  memcpy (tail + 18, v->bits == 12 ? "FAT12   " : v->bits == 16 ? "FAT16   " : "FAT32   ", 8);
  tn_store_le16 (out + 510, 0xaa55);
}

/* How much is free is left for the system to count. */
static void
information_sector (uint8_t *out)
{
  memcpy (out, "RRaA", 4);
  memcpy (out + 484, "rrAa", 4);
  tn_store_le32 (out + 488, UINT32_MAX);
  tn_store_le32 (out + 492, UINT32_MAX);
  tn_store_le16 (out + 510, 0xaa55);
}

static void
reserved_sector (const Vvfat *v, uint64_t sector, uint8_t *out)
{
  if (sector == 0 || (v->bits == 32 && sector == 6))
    boot_sector (v, out);
  else if (v->bits == 32 && (sector == 1 || sector == 7))
    information_sector (out);
}

/* The item whose clusters hold @cluster, or NULL. */
static const VvfatItem *
item_of (const Vvfat *v, uint32_t cluster)
{
  guint from = 0, to = v->items->len;
  while (from < to) {
    const guint middle = from + (to - from) / 2;
    const VvfatItem *item = g_ptr_array_index (v->items, middle);
    if (cluster >= item->first && cluster - item->first < item->count)
      return item;
    if (cluster < item->first)
      to = middle;
    else
      from = middle + 1;
  }
  return NULL;
}

static uint32_t
fat_entry (const Vvfat *v, uint64_t cluster)
{
  const uint32_t end = v->bits == 12 ? 0xfff : v->bits == 16 ? 0xffff : 0x0fffffff;
  if (cluster == 0)
    return (end & ~0xffu) | (v->start ? 0xf8 : 0xf0);
  if (cluster == 1)
    return end;
  const VvfatItem *item = cluster < v->clusters + 2ull ? item_of (v, (uint32_t) cluster) : NULL;
  if (!item)
    return 0;
  return cluster + 1 - item->first == item->count ? end : (uint32_t) cluster + 1;
}

static uint8_t
fat12_byte (const Vvfat *v, uint64_t at)
{
  const uint64_t pair = at / 3 * 2;
  const uint32_t both = fat_entry (v, pair) | fat_entry (v, pair + 1) << 12;
  return (uint8_t) (both >> (at % 3 * 8));
}

static void
fat_sector (const Vvfat *v, uint64_t sector, uint8_t *out)
{
  const uint64_t at = sector * VVFAT_SECTOR;
  for (unsigned i = 0; v->bits == 12 && i < VVFAT_SECTOR; i++)
    out[i] = fat12_byte (v, at + i);
  for (unsigned i = 0; v->bits == 16 && i < VVFAT_SECTOR; i += 2)
    tn_store_le16 (out + i, (uint16_t) fat_entry (v, (at + i) / 2));
  for (unsigned i = 0; v->bits == 32 && i < VVFAT_SECTOR; i += 4)
    tn_store_le32 (out + i, fat_entry (v, (at + i) / 4));
}

static void
root_sector (const Vvfat *v, uint64_t sector, uint8_t *out)
{
  const uint64_t at = sector * VVFAT_SECTOR, length = v->root->entries->len;
  if (at < length)
    memcpy (out, v->root->entries->data + at, MIN (VVFAT_SECTOR, length - at));
}

void
vvfat_meta_sector (const Vvfat *v, uint64_t sector, uint8_t out[VVFAT_SECTOR])
{
  memset (out, 0, VVFAT_SECTOR);
  if (sector < v->start) {
    if (sector == 0)
      partition_sector (v, out);
    return;
  }
  sector -= v->start;
  if (sector < v->reserved) {
    reserved_sector (v, sector, out);
    return;
  }
  sector -= v->reserved;
  if (sector < COPIES * (uint64_t) v->fat_sectors)
    fat_sector (v, sector % v->fat_sectors, out);
  else
    root_sector (v, sector - COPIES * (uint64_t) v->fat_sectors, out);
}
