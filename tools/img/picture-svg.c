/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A picture as SVG, with its legend. */
#include "picture-private.h"
#include "units.h"

#define HEAD 58
#define LINE 20

static char *
fill_of (unsigned kind)
{
  return img_picture_hatched (kind) ? g_strdup_printf ("url(#packed%u)", (kind - KIND_LAYERS) / 2)
                                    : g_strdup_printf ("#%06x", img_picture_colour (kind));
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
  unsigned n = img_picture_row_cells (picture, row);
  for (unsigned from = 0, to; from < n; from = to) {
    Look look = img_picture_look (picture, row * picture->columns + from);
    for (to = from + 1; to < n; to++) {
      Look next = img_picture_look (picture, row * picture->columns + to);
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

static void
draw_legend (const ImgPicture *picture, GString *out, unsigned y)
{
  for (unsigned i = 0; i < N_KINDS; i++) {
    unsigned kind = (i + KIND_LAYERS) % N_KINDS; /* data first */
    if (picture->total[kind] == 0)
      continue;
    g_autofree char *text = img_picture_legend (picture, kind);
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
        "<rect width=\"4\" height=\"4\" fill=\"#%06x\"/>"
        "<path d=\"M0 4L4 0\" stroke=\"#ffffff\" stroke-width=\"1.2\"/></pattern>\n",
        i, img_picture_colour (KIND_LAYERS + 2 * i));
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

GString *
img_picture_svg (const ImgPicture *picture)
{
  GString *out = g_string_new ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
  unsigned width = 2 * MARGIN + COLUMNS * CELL, below = HEAD + picture->rows * CELL + MARGIN;
  unsigned height = below + legend_lines (picture) * LINE + MARGIN / 2;
  g_string_append_printf (
      out,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\">\n"
      "<style>text{font-family:sans-serif;fill:#20262b}.title{font-size:15px;font-weight:bold}"
      ".legend{font-size:12px}</style>\n",
      width, height, width, height);
  draw_patterns (out);
  g_string_append_printf (out, "<rect width=\"%u\" height=\"%u\" fill=\"#%06x\"/>\n", width, height,
                          COLOUR_GROUND);
  draw_head (picture, out);
  for (unsigned row = 0; row < picture->rows; row++)
    draw_row (picture, out, row);
  draw_legend (picture, out, below);
  g_string_append (out, "</svg>\n");
  return out;
}
