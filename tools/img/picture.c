/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk is cut into equal cells, drawn line by line.  A cell has the colour of what takes most of it,
 * paler the less of it that is.  Data has the colour of the image in the chain that holds it; compressed data
 * is hatched.
 */
#include "picture-private.h"
#include "units.h"

#include <tenon/codec.h>

#define SECTOR 512

static const uint32_t layer_colours[LAYERS] = { 0x2463a8, 0xd9742b, 0x2f9e62, 0xa2479f,
                                                0xc2a51f, 0x3aa6ad, 0x8c5b3b, 0x6a6f9c };

static bool
is_png (const char *filename)
{
  return g_str_has_suffix (filename, ".png");
}

int
img_picture_check (const char *filename, GError **error)
{
  if (g_str_has_suffix (filename, ".svg"))
    return 0;
  if (is_png (filename))
    return tn_codec_find ("zlib", error) ? 0 : -ENOENT; /* before plugins are out of reach */
  return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                  "'%s': pictures are SVG or PNG; give a name that ends in .svg or .png", filename);
}

ImgPicture *
img_picture_new (TnNode *node, uint64_t start, uint64_t end)
{
  ImgPicture *picture = g_new0 (ImgPicture, 1);
  uint64_t length = end - start, cells = COLUMNS * ROWS;
  picture->node = node;
  picture->start = start;
  picture->end = end;
  picture->cell_bytes = MAX (SECTOR, ((length + cells - 1) / cells + SECTOR - 1) / SECTOR * SECTOR);
  cells = MAX (1, length / picture->cell_bytes + (length % picture->cell_bytes != 0));
  picture->columns = MIN (cells, COLUMNS);
  picture->rows = (cells + COLUMNS - 1) / COLUMNS;
  picture->cells = g_new0 (Cell, (gsize) picture->rows * picture->columns);
  return picture;
}

void
img_picture_free (ImgPicture *picture)
{
  if (picture)
    g_free (picture->cells);
  g_free (picture);
}

static unsigned
kind_of (ImgShade shade, unsigned depth)
{
  if (shade == IMG_SHADE_NOTHING || shade == IMG_SHADE_ZERO)
    return shade == IMG_SHADE_ZERO ? KIND_ZERO : KIND_NOTHING;
  return KIND_LAYERS + 2 * MIN (depth, LAYERS - 1) + (shade == IMG_SHADE_PACKED);
}

void
img_picture_add (ImgPicture *picture, uint64_t offset, uint64_t length, ImgShade shade, unsigned depth)
{
  unsigned kind = kind_of (shade, depth);
  picture->total[kind] += length;
  while (length > 0) {
    uint64_t at = offset - picture->start, within = at % picture->cell_bytes;
    uint64_t n = MIN (length, picture->cell_bytes - within);
    picture->cells[at / picture->cell_bytes].bytes[kind] += n;
    offset += n;
    length -= n;
  }
}

/* ---- For those that draw ---- */

/* Of data and zeroes; what is nothing shows as the ground. */
Look
img_picture_look (const ImgPicture *picture, unsigned index)
{
  Look look = { KIND_NOTHING, 10 };
  const Cell *cell = &picture->cells[index];
  uint64_t most = 0;
  for (unsigned kind = KIND_ZERO; kind < N_KINDS; kind++) {
    if (cell->bytes[kind] <= most)
      continue;
    most = cell->bytes[kind];
    look.kind = kind;
  }
  if (most)
    look.tenths = 3 + 7 * most / picture->cell_bytes;
  return look;
}

unsigned
img_picture_row_cells (const ImgPicture *picture, unsigned row)
{
  uint64_t length = picture->end - picture->start;
  uint64_t cells = length / picture->cell_bytes + (length % picture->cell_bytes != 0);
  return MIN (picture->columns, cells - (uint64_t) row * picture->columns);
}

uint32_t
img_picture_colour (unsigned kind)
{
  if (kind < KIND_LAYERS)
    return kind == KIND_ZERO ? COLOUR_ZERO : COLOUR_NOTHING;
  return layer_colours[(kind - KIND_LAYERS) / 2];
}

bool
img_picture_hatched (unsigned kind)
{
  return kind >= KIND_LAYERS && (kind - KIND_LAYERS) % 2;
}

/* The image that is @layer below the top. */
static const char *
layer_name (const ImgPicture *picture, unsigned layer)
{
  TnNode *node = picture->node;
  for (unsigned i = 0; i < layer && node; i++)
    node = tn_node_child (node, "backing");
  return node ? tn_node_filename (node) : "";
}

char *
img_picture_legend (const ImgPicture *picture, unsigned kind)
{
  g_autofree char *size = g_strdup (cli_human_size (picture->total[kind]).text);
  double percent = picture->total[kind] * 100.0 / MAX (picture->end - picture->start, 1);
  if (kind < KIND_LAYERS)
    return g_strdup_printf ("%s: %s (%.1f%%)", kind == KIND_ZERO ? "zeroes" : "not allocated anywhere", size,
                            percent);
  unsigned layer = (kind - KIND_LAYERS) / 2;
  bool packed = (kind - KIND_LAYERS) % 2;
  return g_strdup_printf ("%s in %s%s%s: %s (%.1f%%)", packed ? "compressed data" : "data",
                          layer_name (picture, layer), layer ? " (backing)" : "",
                          layer == LAYERS - 1 ? " and below" : "", size, percent);
}

int
img_picture_write (ImgPicture *picture, const char *filename, GError **error)
{
  g_autoptr (GString) out = NULL;
  g_autoptr (GError) why = NULL;
  int ret = 0;
  if (is_png (filename))
    ret = img_picture_png (picture, &out, error);
  else
    out = img_picture_svg (picture);
  if (ret < 0 || g_file_set_contents (filename, out->str, out->len, &why))
    return ret;
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "the picture cannot be written: %s", why->message);
}
