/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The resource fork of older images: data of resources, each behind its length, and a map that lists for
 * every type where they are.
 */
#include "dmg.h"

#define FORK_HEADER 16u
#define MAP_HEADER 28u
#define MOST_MAP (1u << 20)
#define PIECE 4096u

typedef struct Fork {
  Dmg *d;
  uint64_t data_offset, data_length; /* in the file */
  uint8_t *map;
  uint32_t map_length;
} Fork;

static int
damaged (const Dmg *d, GError **error, const char *what)
{
  return dmg_fail (d, error, EINVAL, "its resource fork is damaged: %s", what);
}

/* The table in one resource; @at is within the data of all. */
static int
read_resource (Fork *f, uint32_t at, GError **error)
{
  uint8_t piece[PIECE];
  DmgTable table = { 0 };
  if (f->data_length < 4 || at > f->data_length - 4)
    return damaged (f->d, error, "a resource is behind its end");
  int ret = tn_node_read (f->d->file, f->data_offset + at, piece, 4, error);
  if (ret < 0)
    return ret;
  const uint64_t length = tn_load_be32 (piece), end = (uint64_t) at + 4 + length;
  if (end > f->data_length)
    return damaged (f->d, error, "a resource is longer than the fork");
  for (uint64_t from = (uint64_t) at + 4; from < end && ret == 0; from += PIECE) {
    const uint64_t part = MIN (PIECE, end - from);
    ret = tn_node_read (f->d->file, f->data_offset + from, piece, part, error);
    if (ret == 0)
      ret = dmg_table_feed (f->d, &table, piece, part, error);
  }
  return ret < 0 ? ret : dmg_table_end (f->d, &table, error);
}

static int
read_resources_of_type (Fork *f, uint32_t list, uint32_t count, GError **error)
{
  if (list > f->map_length || count > (f->map_length - list) / 12)
    return damaged (f->d, error, "its list of resources is longer than its map");
  int ret = 0;
  for (uint32_t i = 0; i < count && ret == 0; i++)
    ret = read_resource (f, tn_load_be32 (f->map + list + 12 * i + 4) & 0xffffff, error);
  return ret;
}

/* Numbers of types and resources are stored less one. */
static int
find_tables (Fork *f, GError **error)
{
  const uint32_t types = tn_load_be16 (f->map + 24);
  if (types > f->map_length || f->map_length - types < 2)
    return damaged (f->d, error, "its list of types is behind its end");
  const uint32_t count = (tn_load_be16 (f->map + types) + 1u) & 0xffff;
  if (count > (f->map_length - types - 2) / 8)
    return damaged (f->d, error, "its list of types is longer than its map");
  for (uint32_t i = 0; i < count; i++) {
    const uint8_t *type = f->map + types + 2 + 8 * i;
    if (memcmp (type, "blkx", 4) == 0)
      return read_resources_of_type (f, types + tn_load_be16 (type + 6), tn_load_be16 (type + 4) + 1u, error);
  }
  return dmg_fail (f->d, error, EINVAL, "its resource fork has no tables of chunks (blkx)");
}

int
dmg_resources_read (Dmg *d, uint64_t offset, uint64_t length, GError **error)
{
  uint8_t header[FORK_HEADER];
  if (offset > d->file_size || length > d->file_size - offset || length < FORK_HEADER)
    return damaged (d, error, "it is behind the end of the file");
  int ret = tn_node_read (d->file, offset, header, sizeof header, error);
  if (ret < 0)
    return ret;
  const uint32_t data = tn_load_be32 (header), map = tn_load_be32 (header + 4);
  Fork f = { .d = d,
             .data_offset = offset + data,
             .data_length = tn_load_be32 (header + 8),
             .map_length = tn_load_be32 (header + 12) };
  if (data > length || f.data_length > length - data || map > length || f.map_length > length - map)
    return damaged (d, error, "its parts are longer than the whole");
  if (f.map_length < MAP_HEADER || f.map_length > MOST_MAP)
    return damaged (d, error, "its map has an impossible length");
  g_autofree uint8_t *bytes = g_malloc (f.map_length);
  f.map = bytes;
  ret = tn_node_read (d->file, offset + map, bytes, f.map_length, error);
  return ret < 0 ? ret : find_tables (&f, error);
}
