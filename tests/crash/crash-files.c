/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vmdk images of several files.
 *
 * A new one wants real files, so its pieces are made in the current folder and become disks "cut-0", "cut-1"
 * … beside the descriptor on "cut".  All of them are logged with common turns: a flush of one settles nothing
 * of another, so that a cut tears files apart in every order that the format left open.
 */
#include "crash.h"

#include <glib/gstdio.h>
#include <stdlib.h>

#define PIECE "piece"

typedef struct Piece {
  const char *subformat;
  uint64_t size;
} Piece;

/* "split-sparse:524288", taken apart. */
static Piece
files_parse (const char *text)
{
  static const char *const names[][2] = { { "sparse", "twoGbMaxExtentSparse" },
                                          { "split-flat", "twoGbMaxExtentFlat" },
                                          { "flat", "monolithicFlat" } };
  g_auto (GStrv) words = g_strsplit (text, ":", 2);
  Piece piece = { .size = strtoull (words[1], NULL, 10) };
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++) {
    piece.subformat = strcmp (words[0], names[i][0]) == 0 ? names[i][1] : piece.subformat;
  }
  g_assert_nonnull (piece.subformat);
  return piece;
}

static void
files_take (const char *path, const char *disk_name)
{
  g_autofree char *bytes = NULL;
  gsize size = 0;
  g_assert_true (g_file_get_contents (path, &bytes, &size, NULL));
  memcpy (mem_disk (disk_name, size)->bytes, bytes, size);
}

/* The first extent line of a descriptor, without its end. */
static char *
files_extent_line (const char *descriptor)
{
  g_auto (GStrv) lines = g_strsplit (descriptor, "\n", -1);
  guint i = 0;
  while (lines[i] && !g_str_has_prefix (lines[i], "RW ")) {
    i++;
  }
  g_assert_nonnull (lines[i]);
  return g_strdup (lines[i]);
}

static char *
files_extent_name (const char *descriptor)
{
  g_autofree char *line = files_extent_line (descriptor);
  g_auto (GStrv) words = g_strsplit (line, "\"", 3);
  g_assert_cmpuint (g_strv_length (words), ==, 3);
  return g_strdup (words[1]);
}

/* The first piece's text with the extent lines of all. */
static char *
files_join (const char *text, const char *lines)
{
  g_autofree char *line = files_extent_line (text);
  g_auto (GStrv) around = g_strsplit (text, line, 2);
  return g_strconcat (around[0], lines, around[1], NULL);
}

static char *
files_make_piece (const char *text, guint number, const TnOptions *options)
{
  const Piece piece = files_parse (text);
  g_autoptr (TnOptions) own = tn_options_copy (options);
  g_autoptr (GError) error = NULL;
  g_autofree char *descriptor = g_strdup_printf (PIECE "%u.vmdk", number),
                  *disk = g_strdup_printf ("cut-%u", number);
  char *made = NULL;
  tn_options_set (own, "subformat", piece.subformat);
  tn_image_create (descriptor, "vmdk", own, piece.size, &error);
  g_assert_no_error (error);
  g_assert_true (g_file_get_contents (descriptor, &made, NULL, NULL));
  g_autofree char *extent = files_extent_name (made);
  files_take (extent, disk);
  g_unlink (extent);
  g_unlink (descriptor);
  return made;
}

void
crash_make_files (const char *pieces, const TnOptions *options)
{
  g_auto (GStrv) each = g_strsplit (pieces, "+", -1);
  g_autofree char *first = NULL;
  g_autoptr (GString) lines = g_string_new (NULL);
  for (guint i = 0; each[i]; i++) {
    g_autofree char *text = files_make_piece (each[i], i, options);
    g_autofree char *line = files_extent_line (text);
    g_string_append_printf (lines, "%s%s", i ? "\n" : "", line);
    first = first ? first : g_strdup (text);
  }
  g_autofree char *whole = files_join (first, lines->str);
  memcpy (mem_disk ("cut", strlen (whole))->bytes, whole, strlen (whole));
}

char *
crash_files_options (const char *pieces)
{
  g_auto (GStrv) each = g_strsplit (pieces, "+", -1);
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; each[i]; i++) {
    g_string_append_printf (text, ",extents.%u.driver=mem,extents.%u.filename=cut-%u", i, i, i);
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}
