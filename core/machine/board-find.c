/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where board files are: TENON_BOARD_PATH, beside the installed or the built library, the compiled-in place.
 */
#include <config.h>

#include "machine/board.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <tenon/machine.h>

static void
add_directory (GPtrArray *directories, char *directory)
{
  for (guint i = 0; i < directories->len; i++) {
    if (strcmp (g_ptr_array_index (directories, i), directory) == 0) {
      g_free (directory);
      return;
    }
  }
  g_ptr_array_add (directories, directory);
}

/* The directory that holds the object this code is in. */
static char *
own_directory (void)
{
  Dl_info info;
  if (dladdr ((const void *) tn_board_load, &info) == 0 || info.dli_fname == NULL)
    return NULL;
  g_autofree char *real = realpath (info.dli_fname, NULL);
  return real != NULL ? g_path_get_dirname (real) : NULL;
}

static GPtrArray *
board_directories (void)
{
  GPtrArray *directories = g_ptr_array_new_with_free_func (g_free);
  /* A raised program doesn't let its caller choose. */
  const char *path = getauxval (AT_SECURE) == 0 ? g_getenv ("TENON_BOARD_PATH") : NULL;
  g_auto (GStrv) given = g_strsplit (path != NULL ? path : "", ":", TN_BOARD_MAX_ITEMS);
  for (char **directory = given; *directory != NULL; directory++) {
    if (**directory != '\0')
      add_directory (directories, g_strdup (*directory));
  }
  g_autofree char *own = own_directory ();
  if (own != NULL)
    add_directory (directories, g_build_filename (own, "..", "share", "tenon", "boards", NULL));
  add_directory (directories, g_strdup (TN_BOARD_DIR));
  return directories;
}

static int
board_read (const char *path, TnBoard **board, GError **error)
{
  struct stat status;
  if (stat (path, &status) != 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "cannot read board '%s'", path);
  if (!S_ISREG (status.st_mode) || status.st_size > TN_BOARD_MAX_FILE)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s is not a board file", path);
  g_autofree char *text = NULL;
  size_t length;
  g_autoptr (GError) why = NULL;
  if (!g_file_get_contents (path, &text, &length, &why))
    return tn_fail (error, TN_MACHINE_ERROR, EIO, "%s", why->message);
  return tn_board_parse (path, text, length, board, error);
}

int
tn_board_load (const char *name, TnBoard **board, GError **error)
{
  if (strchr (name, '/') != NULL)
    return board_read (name, board, error);
  g_autoptr (GPtrArray) directories = board_directories ();
  g_autofree char *file = g_strconcat (name, ".board", NULL);
  for (guint i = 0; i < directories->len; i++) {
    g_autofree char *path = g_build_filename (g_ptr_array_index (directories, i), file, NULL);
    if (g_file_test (path, G_FILE_TEST_EXISTS))
      return board_read (path, board, error);
  }
  return tn_fail (error, TN_MACHINE_ERROR, ENOENT, "there is no board '%s': -M help lists those there are",
                  name);
}

static int
name_order (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

void
tn_boards_foreach (void (*visit) (const char *name, const char *summary, void *opaque), void *opaque)
{
  g_autoptr (GPtrArray) directories = board_directories ();
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < directories->len; i++) {
    GDir *dir = g_dir_open (g_ptr_array_index (directories, i), 0, NULL);
    const char *entry;
    while (dir != NULL && (entry = g_dir_read_name (dir)) != NULL) {
      if (!g_str_has_suffix (entry, ".board"))
        continue;
      char *name = g_strndup (entry, strlen (entry) - strlen (".board"));
      if (g_hash_table_add (seen, name))
        g_ptr_array_add (names, name);
      else
        g_free (name);
    }
    if (dir != NULL)
      g_dir_close (dir);
  }
  g_ptr_array_sort (names, name_order);
  for (guint i = 0; i < names->len; i++) {
    g_autoptr (TnBoard) board = NULL;
    g_autoptr (GError) why = NULL;
    const char *name = g_ptr_array_index (names, i);
    /* A broken file is listed with what is wrong with it. */
    if (tn_board_load (name, &board, &why) < 0)
      visit (name, why->message, opaque);
    else
      visit (name, board->summary, opaque);
  }
}
