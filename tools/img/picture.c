/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk is cut into equal cells, drawn line by line.  A cell has the colour of what takes most of it,
 * paler the less of it that is.  Data has the colour of the image in the chain that holds it; compressed data
 * is hatched.
 */
#include "picture.h"
#include "units.h"

#define COLUMNS 128
#define ROWS 64
#define CELL 7 /* pixels */
#define MARGIN 20
#define HEAD 58
#define LINE 20
#define SECTOR 512

/* Images of a chain with a colour of their own; those below share the last. */
#define LAYERS 8

enum { KIND_NOTHING, KIND_ZERO, KIND_LAYERS, N_KINDS = KIND_LAYERS + 2 * LAYERS };

static const char *const layer_colours[LAYERS] = { "#2463a8", "#d9742b", "#2f9e62", "#a2479f",
                                                   "#c2a51f", "#3aa6ad", "#8c5b3b", "#6a6f9c" };

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

int
img_picture_check (const char *filename, GError **error)
{
  if (g_str_has_suffix (filename, ".svg"))
    return 0;
  return tn_fail (error, TN_OPTION_ERROR, ENOTSUP, "'%s': pictures are SVG; give a name that ends in .svg",
                  filename);
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

/* ---- Drawing ---- */

/* What a cell looks like; equal neighbours are drawn as one. */
typedef struct Look {
  unsigned kind, tenths; /* how much of the cell it takes */
} Look;

/* Of data and zeroes; what is nothing shows as the ground. */
static Look
look_of (const ImgPicture *picture, unsigned index)
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

static char *
fill_of (unsigned kind)
{
  if (kind == KIND_NOTHING)
    return g_strdup ("#ffffff");
  if (kind == KIND_ZERO)
    return g_strdup ("#c3ccd4");
  unsigned layer = (kind - KIND_LAYERS) / 2;
  return (kind - KIND_LAYERS) % 2 ? g_strdup_printf ("url(#packed%u)", layer)
                                  : g_strdup (layer_colours[layer]);
}

static void
draw_box (GString *out, unsigned x, unsigned y, unsigned width, unsigned height, Look look)
{
  g_autofree char *fill = fill_of (look.kind);
  g_string_append_printf (out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"", x, y, width,
                          height, fill);
  if (look.tenths < 10)
    g_string_append_printf (out, " fill-opacity=\"0.%u\"", look.tenths);
  g_string_append (out, "/>\n");
}

static void
draw_row (const ImgPicture *picture, GString *out, unsigned row)
{
  uint64_t length = picture->end - picture->start;
  uint64_t cells = length / picture->cell_bytes + (length % picture->cell_bytes != 0);
  unsigned n = MIN (picture->columns, cells - (uint64_t) row * picture->columns);
  for (unsigned from = 0, to; from < n; from = to) {
    Look look = look_of (picture, row * picture->columns + from);
    for (to = from + 1; to < n; to++) {
      Look next = look_of (picture, row * picture->columns + to);
      if (next.kind != look.kind || next.tenths != look.tenths)
        break;
    }
    draw_box (out, MARGIN + from * CELL, HEAD + row * CELL, (to - from) * CELL, CELL, look);
  }
}

static void
draw_text (GString *out, unsigned x, unsigned y, const char *class, const char *text)
{
  g_autofree char *escaped = g_markup_escape_text (text, -1);
  g_string_append_printf (out, "<text x=\"%u\" y=\"%u\" class=\"%s\">%s</text>\n", x, y, class, escaped);
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

static char *
legend_text (const ImgPicture *picture, unsigned kind)
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

static void
draw_legend (const ImgPicture *picture, GString *out, unsigned y)
{
  for (unsigned i = 0; i < N_KINDS; i++) {
    unsigned kind = (i + KIND_LAYERS) % N_KINDS; /* data first */
    if (picture->total[kind] == 0)
      continue;
    g_autofree char *text = legend_text (picture, kind);
    g_string_append_printf (out, "<g stroke=\"#8a939b\" stroke-width=\"1\">");
    draw_box (out, MARGIN, y, 12, 12, (Look){ kind, 10 });
    g_string_append (out, "</g>\n");
    draw_text (out, MARGIN + 20, y + 11, "legend", text);
    y += LINE;
  }
}

static unsigned
legend_lines (const ImgPicture *picture)
{
  unsigned n = 0;
  for (unsigned kind = 0; kind < N_KINDS; kind++)
    n += picture->total[kind] != 0;
  return n;
}

static void
draw_patterns (GString *out)
{
  g_string_append (out, "<defs>\n");
  for (unsigned i = 0; i < LAYERS; i++)
    g_string_append_printf (
        out,
        "<pattern id=\"packed%u\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">"
        "<rect width=\"4\" height=\"4\" fill=\"%s\"/>"
        "<path d=\"M0 4L4 0\" stroke=\"#ffffff\" stroke-width=\"1.2\"/></pattern>\n",
        i, layer_colours[i]);
  g_string_append (out, "</defs>\n");
}

static void
draw_head (const ImgPicture *picture, GString *out)
{
  g_autofree char *length = g_strdup (cli_human_size (picture->end - picture->start).text);
  g_autofree char *title = g_strdup_printf ("%s (%s, %s)", tn_node_filename (picture->node),
                                            tn_node_class_name (picture->node), length);
  g_autofree char *scale = g_strdup_printf ("from offset %" G_GUINT64_FORMAT
                                            "; a cell is %s, a line %s; paler where a part only is used",
                                            picture->start, cli_human_size (picture->cell_bytes).text,
                                            cli_human_size (picture->cell_bytes * picture->columns).text);
  draw_text (out, MARGIN, 28, "title", title);
  draw_text (out, MARGIN, 46, "legend", scale);
}

int
img_picture_write (ImgPicture *picture, const char *filename, GError **error)
{
  g_autoptr (GString) out = g_string_new ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
  g_autoptr (GError) why = NULL;
  unsigned width = 2 * MARGIN + COLUMNS * CELL, below = HEAD + picture->rows * CELL + MARGIN;
  unsigned height = below + legend_lines (picture) * LINE + MARGIN / 2;
  g_string_append_printf (
      out,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\">\n"
      "<style>text{font-family:sans-serif;fill:#20262b}.title{font-size:15px;font-weight:bold}"
      ".legend{font-size:12px}</style>\n",
      width, height, width, height);
  draw_patterns (out);
  g_string_append_printf (out, "<rect width=\"%u\" height=\"%u\" fill=\"#f4f6f8\"/>\n", width, height);
  draw_head (picture, out);
  for (unsigned row = 0; row < picture->rows; row++)
    draw_row (picture, out, row);
  draw_legend (picture, out, below);
  g_string_append (out, "</svg>\n");
  if (g_file_set_contents (filename, out->str, out->len, &why))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "the picture cannot be written: %s", why->message);
}
