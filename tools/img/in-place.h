/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing an image's format without copying its data: what the parts share. */
#ifndef TENON_TOOLS_IN_PLACE_H
#define TENON_TOOLS_IN_PLACE_H

#include "img.h"
#include "progress.h"

#include <tenon/inplace.h>

/* Bytes of the disk one behind the other that stand so in the file, too. */
typedef struct InPlaceExtent {
  uint64_t offset, length, place;
} InPlaceExtent;

/* What the old format says. */
typedef struct InPlaceSource {
  TnNode *node, *file;
  uint64_t size, file_size;
  GArray *extents; /* InPlaceExtent, ascending, also over holes of the file */
  GArray *data;    /* TnRange of the disk, ascending: where the file has data */
} InPlaceSource;

/* Reads the map of @node; refuses what cannot stay where it is. */
int in_place_source (InPlaceSource *source, TnNode *node, GError **error);
void in_place_source_clear (InPlaceSource *source);

/* How the new format takes that over. */
typedef struct InPlaceLayout {
  TnNode *target;
  uint64_t unit;     /* that the target allocates, or 4 KiB */
  uint64_t occupied; /* the target's own metadata is before this place */
  uint64_t end;      /* of what was in the old file, to a whole unit */
  bool trailed;      /* a preallocated target has something right behind the disk */
  GArray *kept;      /* TnRange of the file */
  GArray *moved;     /* TnRange of the disk */
  uint64_t kept_bytes, moved_bytes;
  CliProgress progress; /* of what moves */
} InPlaceLayout;

/* Links everything that may stay; says what must move. */
int in_place_adopt (InPlaceLayout *layout, const InPlaceSource *source, GError **error);
/* Writes what must move to where the target wants it. */
int in_place_move (InPlaceLayout *layout, const InPlaceSource *source, GError **error);

/* Gives places before @layout->end that nothing has to units that must move, then to units that read as
 * zeroes, as far as there are such.  After in_place_adopt(), before in_place_move(). */
int in_place_fill_gaps (InPlaceLayout *layout, GError **error);

/* The file that holds @node's disk from its first byte to its last, and nothing else; NULL: there is none. */
int in_place_data_file (TnNode *node, char **path, GError **error);
/* @path becomes the plain disk @data, which loses its own name. */
int in_place_take_name (const char *data, const char *path, GError **error);
/* The plain disk @path gets the name of @data, beside it, and @shadow its own. */
int in_place_give_name (const char *path, const char *shadow, const char *data, GError **error);

/* `convert --in-place`: returns the exit status. */
int img_convert_in_place (CliArgs *args, const TnOptions *options);

#endif
