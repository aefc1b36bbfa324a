/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The "raw" format: windows on a file, checked against the file itself. */
#include <glib/gstdio.h>
#include <unistd.h>

#include <tenon/node.h>

#define SIZE 65536u

static char *path;

/* The file holds byte i % 251 at place i. */
static void
make_file (void)
{
  g_autofree char *data = g_malloc (SIZE);

  for (unsigned i = 0; i < SIZE; i++)
    data[i] = (char) (i % 251);
  g_assert_true (g_file_set_contents (path, data, SIZE, NULL));
}

static int
open_raw (const char *text, uint32_t flags, TnNode **node, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();

  g_assert_cmpint (tn_options_parse (options, text, NULL, NULL), ==, 0);
  return tn_node_open_file (path, "raw", options, flags, node, error);
}

static void
test_window (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *data = NULL;
  uint8_t buffer[1000];
  TnNode *node = NULL;
  gsize length;

  make_file ();
  g_assert_cmpint (open_raw ("offset=1000,size=5000", TN_OPEN_WRITE, &node, &error), ==, 0);
  g_assert_no_error (error);
  g_assert_cmpuint (tn_node_size (node), ==, 5000);
  g_assert_cmpint (tn_node_read (node, 4000, buffer, 1000, NULL), ==, 0);
  for (unsigned i = 0; i < 1000; i++)
    g_assert_cmpint (buffer[i], ==, (5000 + i) % 251);
  /* Nothing reaches beyond the window. */
  g_assert_cmpint (tn_node_read (node, 4001, buffer, 1000, NULL), <, 0);
  g_assert_cmpint (tn_node_write (node, 5000, buffer, 1, NULL), <, 0);
  g_assert_cmpint (tn_node_write (node, UINT64_MAX - 10, buffer, 1, NULL), <, 0);
  memset (buffer, 0xee, sizeof buffer);
  g_assert_cmpint (tn_node_write (node, 0, buffer, 10, NULL), ==, 0);
  g_assert_cmpint (tn_node_write_zeroes (node, 4990, 10, TN_REQUEST_MAY_UNMAP, NULL), ==, 0);
  g_assert_cmpint (tn_node_resize (node, 6000, TN_PREALLOC_OFF, &error), <, 0);
  g_clear_error (&error);
  g_assert_cmpint (tn_node_close (node, NULL), ==, 0);
  g_assert_true (g_file_get_contents (path, &data, &length, NULL));
  g_assert_cmpuint (length, ==, SIZE);
  for (unsigned i = 0; i < SIZE; i++) {
    uint8_t want = i >= 1000 && i < 1010 ? 0xee : i >= 5990 && i < 6000 ? 0 : (uint8_t) (i % 251);
    g_assert_cmpint ((uint8_t) data[i], ==, want);
  }
}

static void
test_open_window (void)
{
  TnNode *node = NULL;

  make_file ();
  g_assert_cmpint (open_raw ("offset=1000", TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, SIZE - 1000);
  g_assert_cmpint (tn_node_resize (node, 3000, TN_PREALLOC_OFF, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, 3000);
  g_assert_cmpint (tn_node_close (node, NULL), ==, 0);
  g_autofree char *data = NULL;
  gsize length;
  g_assert_true (g_file_get_contents (path, &data, &length, NULL));
  g_assert_cmpuint (length, ==, 4000);
}

static void
test_wrong_windows (void)
{
  static const char *const wrong[] = { "offset=65537",
                                       "offset=1000,size=65000",
                                       "size=65537",
                                       "size=9223372036854775807",
                                       "offset=9223372036854775807,size=9223372036854775807",
                                       "offset=-1",
                                       "size=x",
                                       "ofset=0" };

  make_file ();
  for (unsigned i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) error = NULL;
    TnNode *node = NULL;

    g_assert_cmpint (open_raw (wrong[i], 0, &node, &error), <, 0);
    g_assert_nonnull (error);
    g_assert_null (node);
  }
}

static void
test_probed (void)
{
  TnNode *node = NULL;

  make_file ();
  g_assert_cmpint (tn_node_open_file (path, NULL, NULL, 0, &node, NULL), ==, 0);
  g_assert_cmpstr (tn_node_class_name (node), ==, "raw");
  tn_node_unref (node);
}

static void
test_create_measure (void)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  TnMeasure measure = { .size = sizeof measure };
  TnNode *node = NULL;

  g_unlink (path);
  g_assert_cmpint (tn_image_create (path, "raw", options, 1000, NULL), ==, 0);
  g_assert_cmpint (open_raw ("", 0, &node, NULL), ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, 1024); /* whole sectors */
  tn_node_unref (node);
  g_assert_cmpint (tn_image_measure ("raw", options, NULL, 1000, &measure, NULL), ==, 0);
  g_assert_cmpuint (measure.required, ==, 1024);
  g_assert_cmpuint (measure.fully_allocated, ==, 1024);
  g_assert_cmpuint (measure.bitmaps, ==, UINT64_MAX);
  g_assert_cmpint (tn_image_measure ("raw", options, NULL, UINT64_MAX, &measure, NULL), <, 0);
}

int
main (int argc, char **argv)
{
  int status, fd;

  g_test_init (&argc, &argv, NULL);
  fd = g_file_open_tmp ("tenon-raw-XXXXXX", &path, NULL);
  g_assert_cmpint (fd, >=, 0);
  close (fd);
  g_test_add_func ("/raw/window", test_window);
  g_test_add_func ("/raw/open-window", test_open_window);
  g_test_add_func ("/raw/wrong-windows", test_wrong_windows);
  g_test_add_func ("/raw/probed", test_probed);
  g_test_add_func ("/raw/create-measure", test_create_measure);
  status = g_test_run ();
  tn_loop_free (tn_loop_current ());
  g_unlink (path);
  g_free (path);
  return status;
}
