/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File names: paths, protocols, json:{}, relative to a base. */
#include "block-fixture.h"

#include "block/internal.h"

typedef struct Case {
  const char *filename, *base;
  const char *key, *value; /* one option that must come out; NULL: an error */
} Case;

static const Case parse_cases[] = {
  { "disk.img", NULL, "filename", "disk.img" },
  { "disk.img", NULL, "driver", "file" },
  { "/a/b:c.img", NULL, "filename", "/a/b:c.img" },
  { "./a:b.img", NULL, "filename", "./a:b.img" },
  { "file:disk.img", NULL, "filename", "disk.img" },
  { "disk.img", "/images/top.img", "filename", "/images/disk.img" },
  { "disk.img", "top.img", "filename", "disk.img" },
  { "sub/disk.img", "dir/top.img", "filename", "dir/sub/disk.img" },
  { "/disk.img", "/images/top.img", "filename", "/disk.img" },
  { "mem:base", "/images/top.img", "driver", "mem" },
  { "mem:base", NULL, "filename", "base" },
  { "base", "mem:dir/top", "filename", "dir/base" },
  { "base", "mem:top", "filename", "base" },
  { "json:{\"driver\": \"mem\", \"filename\": \"x\"}", NULL, "driver", "mem" },
  { "json:{\"file\": {\"driver\": \"mem\", \"filename\": \"x\"}}", NULL, "file.filename", "x" },
  { "json:{\"file.filename\": \"x.img\"}", "/images/top.img", "file.filename", "x.img" },
  { "nosuch:thing", NULL, NULL, NULL },
  { "", NULL, NULL, NULL },
  { "json:{", NULL, NULL, NULL },
  { "json:[1]", NULL, NULL, NULL },
};

static void
test_parse (void)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (parse_cases); i++) {
    const Case *wanted = &parse_cases[i];
    GError *error = NULL;
    TnOptions *options = NULL;
    int rc = tn_node_parse_filename (wanted->filename, wanted->base, &options, &error);
    if (!wanted->key) {
      g_assert_cmpint (rc, <, 0);
      g_assert_nonnull (error);
      g_assert_null (options);
      g_clear_error (&error);
      continue;
    }
    g_assert_no_error (error);
    g_assert_cmpstr (tn_options_get (options, wanted->key), ==, wanted->value);
    tn_options_free (options);
  }
}

static void
test_unknown_protocol_says_how (void)
{
  GError *error = NULL;
  TnOptions *options = NULL;
  tn_node_parse_filename ("a:b.img", NULL, &options, &error);
  g_assert_nonnull (strstr (error->message, "./a:b.img"));
  g_clear_error (&error);
}

static void
test_graph (void)
{
  GError *error = NULL;
  TnOptions *options = NULL;
  tn_filename_to_graph ("mem:x", "toy", NULL, &options, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (tn_options_get (options, "driver"), ==, "toy");
  g_assert_cmpstr (tn_options_get (options, "file.driver"), ==, "mem");
  g_clear_pointer (&options, tn_options_free);
  g_assert_cmpint (tn_filename_to_graph ("json:{\"driver\":\"toy\",\"file\":{\"filename\":\"x\"}}", "raw",
                                         NULL, &options, &error),
                   ==, -EINVAL);
  g_clear_error (&error);
  /* A protocol alone is opened as it is, or below the format asked for. */
  tn_filename_to_graph ("json:{\"driver\":\"mem\",\"filename\":\"x\"}", NULL, NULL, &options, &error);
  g_assert_cmpstr (tn_options_get (options, "driver"), ==, "mem");
  g_clear_pointer (&options, tn_options_free);
  tn_filename_to_graph ("json:{\"driver\":\"mem\",\"filename\":\"x\"}", "toy", NULL, &options, &error);
  g_assert_cmpstr (tn_options_get (options, "file.driver"), ==, "mem");
  g_clear_pointer (&options, tn_options_free);
}

/* A name made from options opens the same thing again. */
static void
test_round_trip (void)
{
  g_autoptr (TnOptions) options = options_of ("filename=a\"b\\c,x.y=1");
  g_autofree char *name = tn_filename_from_options ("mem", options);
  GError *error = NULL;
  TnOptions *parsed = NULL;
  tn_node_parse_filename (name, NULL, &parsed, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (tn_options_get (parsed, "filename"), ==, "a\"b\\c");
  g_assert_cmpstr (tn_options_get (parsed, "x.y"), ==, "1");
  g_assert_cmpstr (tn_options_get (parsed, "driver"), ==, "mem");
  tn_options_free (parsed);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/filename/parse", test_parse);
  g_test_add_func ("/filename/unknown-protocol", test_unknown_protocol_says_how);
  g_test_add_func ("/filename/graph", test_graph);
  g_test_add_func ("/filename/round-trip", test_round_trip);
  return g_test_run ();
}
