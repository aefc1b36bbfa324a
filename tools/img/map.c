/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img map */
#include "picture.h"

#include <tenon/json.h>
#include <tenon/loop.h>

typedef struct MapEntry {
  uint64_t start, length;
  unsigned depth;
  bool present, zero, data, packed, has_offset;
  uint64_t offset;
  TnNode *host;
} MapEntry;

/* Where nothing is allocated, the answer comes from the deepest image that still reaches to the offset; below
 * it there is nothing to ask. */
static unsigned
depth_of_nothing (TnNode *node, uint64_t offset, uint64_t *length)
{
  unsigned depth = 0;
  for (TnNode *backing = tn_node_child (node, "backing"); backing;
       backing = tn_node_child (backing, "backing"), depth++) {
    uint64_t size = tn_node_size (backing);
    if (offset >= size)
      return depth;
    *length = MIN (*length, size - offset);
  }
  return depth;
}

static int
look (TnNode *node, uint64_t offset, uint64_t length, MapEntry *entry, GError **error)
{
  TnStatus status;
  int ret = tn_node_status (node, NULL, offset, length, &status, error);
  if (ret < 0)
    return ret;
  *entry = (MapEntry){ .start = offset,
                       .length = MIN (status.length, length),
                       .depth = status.depth,
                       .present = status.allocated,
                       .zero = status.zero,
                       .data = status.data,
                       .packed = status.packed,
                       .has_offset = status.has_offset,
                       .offset = status.host_offset,
                       .host = status.host };
  if (entry->length == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "%s: no block status at offset %" G_GUINT64_FORMAT,
                    tn_node_filename (node), offset);
  if (!entry->present)
    entry->depth = depth_of_nothing (node, offset, &entry->length);
  return 0;
}

static bool
continues (const MapEntry *entry, const MapEntry *next)
{
  if (entry->zero != next->zero || entry->data != next->data || entry->present != next->present
      || entry->depth != next->depth || entry->has_offset != next->has_offset)
    return false;
  return !entry->has_offset || (entry->host == next->host && entry->offset + entry->length == next->offset);
}

static int
print_human (CliArgs *args, const MapEntry *entry, GError **error)
{
  if (!entry->data || entry->zero)
    return 0;
  if (!entry->has_offset)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s holds compressed or encrypted data, which has no place to show; use --output=json",
                    args->words[0]);
  cli_print (args, "%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%s\n",
             entry->start, entry->length, entry->offset, entry->host ? tn_node_filename (entry->host) : "");
  return 0;
}

#define MAP_LINE 256 /* more than the longest entry takes */

static char *
put_number (char *to, uint64_t number)
{
  char digits[20];
  unsigned n = 0;
  do
    digits[n++] = (char) ('0' + number % 10);
  while ((number /= 10));
  while (n)
    *to++ = digits[--n];
  return to;
}

static char *
put_bool (char *to, const char *name, bool value)
{
  return stpcpy (stpcpy (to, name), value ? "true" : "false");
}

/* There may be millions of these: printf() would take most of the time. */
static void
print_json (CliArgs *args, const MapEntry *entry, bool first)
{
  char line[MAP_LINE], *to = line;
  to = put_number (stpcpy (to, first ? "[{ \"start\": " : ",\n{ \"start\": "), entry->start);
  to = put_number (stpcpy (to, ", \"length\": "), entry->length);
  to = put_number (stpcpy (to, ", \"depth\": "), entry->depth);
  to = put_bool (to, ", \"present\": ", entry->present);
  to = put_bool (to, ", \"zero\": ", entry->zero);
  to = put_bool (to, ", \"data\": ", entry->data);
  if (entry->has_offset)
    to = put_number (stpcpy (to, ", \"offset\": "), entry->offset);
  stpcpy (to, "}");
  cli_print (args, "%s", line);
}

typedef struct MapPrinter {
  CliArgs *args;
  bool json, begun;
} MapPrinter;

static int
print_entry (MapPrinter *printer, const MapEntry *entry, GError **error)
{
  if (!printer->json)
    return print_human (printer->args, entry, error);
  print_json (printer->args, entry, !printer->begun);
  printer->begun = true;
  return 0;
}

static int
print_map (MapPrinter *printer, TnNode *node, uint64_t start, uint64_t end, GError **error)
{
  MapEntry entry = { .start = start }, next;
  int ret = 0;
  if (!printer->json)
    cli_print (printer->args, "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
  for (uint64_t at = start; at < end && ret >= 0; at = next.start + next.length) {
    ret = look (node, at, end - at, &next, error);
    if (ret < 0)
      return ret;
    if (at > start && continues (&entry, &next)) {
      entry.length += next.length;
      continue;
    }
    if (at > start)
      ret = print_entry (printer, &entry, error);
    entry = next;
  }
  if (ret >= 0)
    ret = print_entry (printer, &entry, error);
  if (ret >= 0 && printer->json)
    cli_print (printer->args, "]\n");
  return ret;
}

static ImgShade
shade_of (const MapEntry *entry)
{
  if (!entry->present)
    return IMG_SHADE_NOTHING;
  if (entry->zero || !entry->data)
    return IMG_SHADE_ZERO;
  return entry->packed ? IMG_SHADE_PACKED : IMG_SHADE_DATA;
}

static int
draw_map (const char *filename, TnNode *node, uint64_t start, uint64_t end, GError **error)
{
  g_autoptr (ImgPicture) picture = img_picture_new (node, start, end);
  for (uint64_t at = start; at < end;) {
    MapEntry entry;
    int ret = look (node, at, end - at, &entry, error);
    if (ret < 0)
      return ret;
    img_picture_add (picture, at, entry.length, shade_of (&entry), entry.depth);
    at += entry.length;
  }
  return img_picture_write (picture, filename, error);
}

typedef struct MapJob {
  CliArgs *args;
  const char *picture;
  TnNode *node;
  uint64_t start, end;
  int result;
  GError **error;
} MapJob;

/* One coroutine for all questions: each would make one of its own otherwise. */
static void
map_main (void *opaque)
{
  MapJob *job = opaque;
  MapPrinter printer = { .args = job->args, .json = cli_json (job->args) };
  job->result = job->picture ? draw_map (job->picture, job->node, job->start, job->end, job->error)
                             : print_map (&printer, job->node, job->start, job->end, job->error);
}

static int
map (CliArgs *args, GError **error)
{
  const char *picture = cli_text (args, "picture");
  uint64_t start = 0, length = UINT64_MAX;
  int ret = cli_size (args, "start-offset", &start, error);
  if (ret >= 0)
    ret = cli_size (args, "max-length", &length, error);
  if (ret >= 0 && picture)
    ret = img_picture_check (picture, error);
  if (ret < 0)
    return ret;
  g_autoptr (TnNode) node = NULL;
  ret = cli_open (args, args->words[0], 0, &node, error);
  if (ret >= 0)
    ret = cli_seal (args, TN_SANDBOX_PLUGINS, picture,
                    TN_SANDBOX_READ | TN_SANDBOX_WRITE | TN_SANDBOX_REMOVE | TN_SANDBOX_MAKE, error);
  if (ret < 0)
    return ret;
  uint64_t size = tn_node_size (node);
  uint64_t end = start >= size ? start : start + MIN (length, size - start);
  MapJob job = { args, picture, node, start, end, 0, error };
  tn_co_run (map_main, &job);
  return job.result;
}

static int
map_run (CliArgs *args)
{
  GError *error = NULL;
  return map (args, &error) < 0 ? cli_fail (args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
}

static const CliOption map_options[] = { { "start-offset", 's', "OFFSET", "where to begin", NULL },
                                         { "max-length", 'l', "SIZE", "how much to look at", NULL },
                                         { "picture", 0, "FILE.svg|FILE.png", "draw a picture instead",
                                           NULL },
                                         { 0 } };

const CliCommand img_map = {
  .name = "map",
  .summary = "show where the contents of an image are stored",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_OUTPUT,
  .options = map_options,
  .details = "--picture draws the disk line by line: data in the colour of the image of the backing chain "
             "that holds\n"
             "it, compressed data hatched, zeroes, and what no image holds; the legend has the amounts.\n",
  .run = map_run,
};
