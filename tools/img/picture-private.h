/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a picture is made of, for those that draw it. */
#ifndef TENON_TOOLS_IMG_PICTURE_PRIVATE_H
#define TENON_TOOLS_IMG_PICTURE_PRIVATE_H

#include "picture.h"

#define COLUMNS 128
#define ROWS 64
#define CELL 7 /* pixels */
#define MARGIN 20

/* Images of a chain with a colour of their own; those below share the last. */
#define LAYERS 8

enum { KIND_NOTHING, KIND_ZERO, KIND_LAYERS, N_KINDS = KIND_LAYERS + 2 * LAYERS };

#define COLOUR_GROUND 0xf4f6f8u
#define COLOUR_NOTHING 0xffffffu
#define COLOUR_ZERO 0xc3ccd4u

typedef struct Cell {
  uint64_t bytes[N_KINDS];
} Cell;

struct ImgPicture {
  TnNode *node;
  uint64_t start, end, cell_bytes;
  unsigned columns, rows;
  uint64_t total[N_KINDS];
  Cell *cells;
};

/* What a cell looks like; equal neighbours are drawn as one. */
typedef struct Look {
  unsigned kind, tenths; /* how much of the cell it takes */
} Look;

Look img_picture_look (const ImgPicture *picture, unsigned index);
/* Cells of line @row: the last one may be shorter. */
unsigned img_picture_row_cells (const ImgPicture *picture, unsigned row);
/* 0xrrggbb of data, zeroes or nothing. */
uint32_t img_picture_colour (unsigned kind);
/* Compressed data is hatched. */
bool img_picture_hatched (unsigned kind);
/* What stands beside the colour of @kind.  g_free() it. */
char *img_picture_legend (const ImgPicture *picture, unsigned kind);

/* The whole file. */
GString *img_picture_svg (const ImgPicture *picture);
int img_picture_png (const ImgPicture *picture, GString **png, GError **error);

#endif
