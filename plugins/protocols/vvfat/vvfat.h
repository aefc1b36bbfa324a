/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A folder of the host as a FAT disk, read-only.
 *
 * The folder is listed once, when the disk is opened.  Every file and folder gets one run of clusters, so
 * that a FAT entry follows from its number and no table is kept; directories are kept, the bytes of files are
 * read when they are asked for.
 */
#ifndef VVFAT_H
#define VVFAT_H

#include <inttypes.h>

#include <tenon/protocol.h>

#define VVFAT_SECTOR 512u
#define VVFAT_ENTRY 32u
#define VVFAT_MAX_ITEMS (1u << 16)
#define VVFAT_MAX_DEPTH 32u

/* A file or folder. */
typedef struct VvfatItem {
  char *path, *name;
  bool is_folder;
  uint64_t size; /* of a file */
  int64_t time;
  uint8_t short_name[11];
  uint32_t first, count; /* clusters; none: 0 */
  GPtrArray *children;   /* VvfatItem *, of a folder */
  GByteArray *entries;   /* of a folder: the directory */
  const struct VvfatItem *parent;
} VvfatItem;

typedef struct Vvfat {
  char *label;
  unsigned bits;  /* of a FAT entry: 12, 16, 32 */
  uint32_t start; /* sectors before the volume: a partition table, or none */
  uint32_t reserved, fat_sectors, root_sectors, cluster_sectors;
  uint32_t root_entries; /* 12 and 16 bits */
  uint32_t clusters;
  uint64_t sectors; /* of the volume */
  VvfatItem *root;
  GPtrArray *items; /* with clusters, in their order; the root too with 32 bits */
  uint32_t listed;
} Vvfat;

/* tree.c */
VvfatItem *vvfat_list (Vvfat *v, const char *folder, GError **error);
void vvfat_item_free (void *item);
int vvfat_place (Vvfat *v, GError **error);
/* directory.c */
int vvfat_name_children (VvfatItem *folder, GError **error);
uint32_t vvfat_directory_bytes (const Vvfat *v, const VvfatItem *folder);
void vvfat_write_directory (const Vvfat *v, VvfatItem *folder);
/* volume.c */
int vvfat_choose_layout (Vvfat *v, bool floppy, GError **error);
/* One sector in front of the data, counted from the beginning of the disk. */
void vvfat_meta_sector (const Vvfat *v, uint64_t sector, uint8_t out[VVFAT_SECTOR]);
uint64_t vvfat_data_start (const Vvfat *v);

static inline uint32_t
vvfat_cluster_bytes (const Vvfat *v)
{
  return v->cluster_sectors * VVFAT_SECTOR;
}

#endif
