/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A picture as PNG (ISO/IEC 15948): the cells alone.  There is nothing here to draw letters with, so the
 * legend goes into a text chunk.
 */
#include "picture-private.h"

#include <tenon/codec.h>

#define BYTES 3 /* of a pixel: red, green, blue */
#define HATCH 4 /* pixels from one line to the next */

typedef struct Canvas {
  unsigned width, height;
  size_t stride; /* of a line: the filter's number and the pixels */
  uint8_t *bytes;
} Canvas;

/* ---- Pixels ---- */

/* @tenths of @colour over white. */
static uint32_t
pale (uint32_t colour, unsigned tenths)
{
  uint32_t mixed = 0;
  for (unsigned shift = 0; shift < 24; shift += 8)
    mixed |= ((colour >> shift & 0xff) * tenths + 0xff * (10 - tenths)) / 10 << shift;
  return mixed;
}

static void
set_pixel (Canvas *canvas, unsigned x, unsigned y, uint32_t colour)
{
  uint8_t *pixel = canvas->bytes + y * canvas->stride + 1 + (size_t) x * BYTES;
  pixel[0] = colour >> 16;
  pixel[1] = colour >> 8;
  pixel[2] = colour;
}

static void
draw_cell (Canvas *canvas, unsigned column, unsigned row, Look look)
{
  const uint32_t colour = pale (img_picture_colour (look.kind), look.tenths);
  const bool hatched = img_picture_hatched (look.kind);
  for (unsigned y = MARGIN + row * CELL, end = y + CELL; y < end; y++)
    for (unsigned x = MARGIN + column * CELL, last = x + CELL; x < last; x++)
      set_pixel (canvas, x, y, hatched && (x + y) % HATCH == 0 ? COLOUR_NOTHING : colour);
}

static void
draw (Canvas *canvas, const ImgPicture *picture)
{
  for (unsigned y = 0; y < canvas->height; y++)
    for (unsigned x = 0; x < canvas->width; x++)
      set_pixel (canvas, x, y, COLOUR_GROUND);
  for (unsigned row = 0; row < picture->rows; row++)
    for (unsigned column = 0, n = img_picture_row_cells (picture, row); column < n; column++)
      draw_cell (canvas, column, row, img_picture_look (picture, row * picture->columns + column));
}

/* ---- Chunks ---- */

static uint32_t
crc (const char *bytes, size_t length)
{
  uint32_t value = 0xffffffff;
  for (size_t i = 0; i < length; i++) {
    value ^= (uint8_t) bytes[i];
    for (unsigned bit = 0; bit < 8; bit++)
      value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value;
}

static void
append_number (GString *png, uint32_t number)
{
  uint8_t bytes[4];
  tn_store_be32 (bytes, number);
  g_string_append_len (png, (const char *) bytes, sizeof bytes);
}

static void
append_chunk (GString *png, const char *type, const void *data, size_t length)
{
  append_number (png, (uint32_t) length);
  const size_t start = png->len;
  g_string_append (png, type);
  g_string_append_len (png, data, (gssize) length);
  append_number (png, crc (png->str + start, png->len - start));
}

static void
append_header (GString *png, const Canvas *canvas)
{
  uint8_t header[13] = { [8] = 8, [9] = 2 }; /* bits of a sample; red, green and blue */
  tn_store_be32 (header, canvas->width);
  tn_store_be32 (header + 4, canvas->height);
  append_chunk (png, "IHDR", header, sizeof header);
}

/* UTF-8, as file names are. */
static void
append_legend (GString *png, const ImgPicture *picture)
{
  static const char head[] = "Description\0\0\0\0"; /* keyword; not compressed; no language; no translation */
  g_autoptr (GString) text = g_string_new_len (head, sizeof head);
  g_string_append (text, tn_node_filename (picture->node));
  for (unsigned kind = 0; kind < N_KINDS; kind++) {
    if (picture->total[kind] == 0)
      continue;
    g_autofree char *line = img_picture_legend (picture, kind);
    g_string_append_printf (text, "\n#%06x%s: %s", img_picture_colour (kind),
                            img_picture_hatched (kind) ? " hatched" : "", line);
  }
  append_chunk (png, "iTXt", text->str, text->len);
}

static int
append_pixels (GString *png, const Canvas *canvas, GError **error)
{
  const TnCodecOps *codec = tn_codec_find ("zlib", error);
  const size_t length = canvas->stride * canvas->height, room = length + length / 8 + 1024;
  g_autofree uint8_t *packed = g_malloc (room);
  size_t n = 0;
  int ret = codec ? codec->compress (0, 0, canvas->bytes, length, packed, room, &n, error) : -ENOENT;
  if (ret >= 0)
    append_chunk (png, "IDAT", packed, n);
  return MIN (ret, 0);
}

int
img_picture_png (const ImgPicture *picture, GString **png, GError **error)
{
  Canvas canvas = { .width = 2 * MARGIN + COLUMNS * CELL, .height = 2 * MARGIN + picture->rows * CELL };
  canvas.stride = 1 + (size_t) canvas.width * BYTES;
  g_autofree uint8_t *bytes = g_malloc0 (canvas.stride * canvas.height);
  canvas.bytes = bytes;
  draw (&canvas, picture);
  *png = g_string_new_len ("\x89PNG\r\n\x1a\n", 8);
  append_header (*png, &canvas);
  append_legend (*png, picture);
  const int ret = append_pixels (*png, &canvas, error);
  append_chunk (*png, "IEND", NULL, 0);
  return ret;
}
