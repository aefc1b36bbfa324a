/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/option.h>
#include <tenon/secret.h>

static const char *const preallocations[] = { "off", "metadata", "full", NULL };

static const TnOption table[] = {
  { .name = "cluster_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "64k",
    .min = 512,
    .max = 2 << 20 },
  { .name = "lazy", .type = TN_OPTION_BOOL, .when = TN_OPTION_OPEN | TN_OPTION_CREATE, .value = "off" },
  { .name = "prealloc", .type = TN_OPTION_ENUM, .when = TN_OPTION_CREATE, .choices = preallocations },
  { .name = "backing_file", .type = TN_OPTION_STRING, .when = TN_OPTION_CREATE },
  { .name = "file",
    .type = TN_OPTION_NODE,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "where it lives" },
  { .name = "bits", .type = TN_OPTION_UINT, .when = TN_OPTION_OPEN, .min = 1 },
  { .name = NULL },
};

static void
assert_message (GError *error, const char *part)
{
  g_assert_nonnull (error);
  if (!strstr (error->message, part))
    g_error ("'%s' does not mention '%s'", error->message, part);
  g_assert_null (strchr (error->message, '\n'));
  g_error_free (error);
}

/* The set as "key=value;key=value". */
static char *
spell (const TnOptions *options)
{
  GString *text = g_string_new (NULL);
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    g_string_append_printf (text, "%s%s=%s", i ? ";" : "", key, value);
  }
  return g_string_free (text, FALSE);
}

static void
assert_spelled (const TnOptions *options, const char *expected)
{
  g_autofree char *text = spell (options);
  g_assert_cmpstr (text, ==, expected);
}

static void
assert_parsed (const char *text, const char *implied, const char *expected)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  int r = tn_options_parse (options, text, implied, &error);
  g_assert_no_error (error);
  g_assert_cmpint (r, ==, 0);
  assert_spelled (options, expected);
}

static void
assert_not_parsed (const char *text)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  GError *error = NULL;
  tn_options_set (options, "kept", "1");
  g_assert_cmpint (tn_options_parse (options, text, NULL, &error), ==, -EINVAL);
  assert_message (error, "'");
  assert_spelled (options, "kept=1");
}

static void
test_parse (void)
{
  assert_parsed ("", NULL, "");
  assert_parsed ("a=1,b=two,flag", NULL, "a=1;b=two;flag=on");
  assert_parsed ("a=1,,2,b=,,", NULL, "a=1,2;b=,");
  assert_parsed ("a=x=y,a=z", NULL, "a=z");
  assert_parsed ("my,,file.img,b=1", "file", "file=my,file.img;b=1");
  assert_parsed ("b=1,word", "file", "b=1;word=on");
  assert_parsed ("a=1,", NULL, "a=1");
  assert_parsed ("a=,b=2", NULL, "a=;b=2");
  assert_not_parsed ("=1");
  assert_not_parsed ("a=1,=2");
  assert_not_parsed (",a=1");
}

static void
test_set (void)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "a", "1");
  tn_options_set (options, "b", "2");
  tn_options_set (options, "a", tn_options_get (options, "b"));
  tn_options_set (options, "b", tn_options_get (options, "b"));
  assert_spelled (options, "a=2;b=2");
  tn_options_set (options, "a", NULL);
  tn_options_set (options, "absent", NULL);
  tn_options_set_uint (options, "n", UINT64_MAX);
  assert_spelled (options, "b=2;n=18446744073709551615");
  g_assert_cmpuint (tn_options_uint (options, "n"), ==, UINT64_MAX);
  g_assert_false (tn_options_has (options, "a"));
  g_assert_null (tn_options_get (options, "a"));
  g_assert_false (tn_options_bool (options, "a"));
  g_autoptr (TnOptions) copy = tn_options_copy (options);
  tn_options_set (copy, "b", "3");
  assert_spelled (options, "b=2;n=18446744073709551615");
}

static void
test_prefix (void)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_parse (options, "file.driver=x,file=node,filex.y=1,file.a.b=2,file.=3,z=4", NULL, NULL);
  g_autoptr (TnOptions) taken = tn_options_take_prefix (options, "file");
  assert_spelled (taken, "driver=x;a.b=2");
  assert_spelled (options, "file=node;filex.y=1;file.=3;z=4");
  g_autoptr (TnOptions) none = tn_options_take_prefix (options, "absent");
  g_assert_cmpuint (tn_options_count (none), ==, 0);
}

static void
assert_json (const char *text, const char *expected)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  int r = tn_options_parse_json (options, text, &error);
  if (!expected) {
    g_assert_cmpint (r, <, 0);
    g_assert_nonnull (error);
    g_assert_cmpuint (tn_options_count (options), ==, 0);
    return;
  }
  g_assert_no_error (error);
  assert_spelled (options, expected);
}

static void
test_json (void)
{
  assert_json ("{}", "");
  assert_json ("{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"a,b\"}}",
               "driver=qcow2;file.driver=file;file.filename=a,b");
  assert_json ("{\"l\": [1, {\"x\": true}, [false]], \"n\": null, \"m\": -5, \"z\": 9}",
               "l.0=1;l.1.x=on;l.2.0=off;n=;m=-5;z=9");
  assert_json ("{\"file.driver\": \"x\"}", "file.driver=x");
  assert_json ("{\"d\": 1.5}", "d=1.5");
  assert_json ("{\"a\": {}, \"b\": [], \"c\": 1}", "c=1");
  assert_json ("[]", NULL);
  assert_json ("[1]", NULL);
  assert_json ("5", NULL);
  assert_json ("{\"a\": 1, \"a\": 2}", NULL);
  assert_json ("{\"\": 1}", NULL);
  assert_json ("{\"a\": 1} x", NULL);
  assert_json ("{\"a\": 99999999999999999999}", NULL);
  assert_json ("", NULL);
}

static void
test_json_hostile (void)
{
  g_autoptr (GString) deep = g_string_new (NULL);
  for (int i = 0; i < 1000; i++)
    g_string_append (deep, "{\"a\":");
  g_string_append (deep, "1");
  for (int i = 0; i < 1000; i++)
    g_string_append_c (deep, '}');
  assert_json (deep->str, NULL);
  g_autoptr (GString) wide = g_string_new ("{\"a\": [");
  for (int i = 0; i < 5000; i++)
    g_string_append_printf (wide, "%s%d", i ? "," : "", i);
  g_string_append (wide, "]}");
  assert_json (wide->str, NULL);
  g_autofree char *huge = g_strnfill (2 << 20, ' ');
  assert_json (huge, NULL);
}

static void
test_size (void)
{
  static const struct {
    const char *text;
    uint64_t size;
    int result;
  } cases[] = {
    { "0", 0, 0 },
    { "4096", 4096, 0 },
    { "64k", 65536, 0 },
    { "1K", 1024, 0 },
    { "1b", 1, 0 },
    { "1.5G", 1610612736, 0 },
    { "0.1k", 102, 0 },
    { "0.7k", 716, 0 },
    { "2M", 2097152, 0 },
    { "1T", 1ull << 40, 0 },
    { "1P", 1ull << 50, 0 },
    { "15E", 15ull << 60, 0 },
    { "0x10", 16, 0 },
    { "0xFFFFFFFFFFFFFFFF", UINT64_MAX, 0 },
    { "18446744073709551615", UINT64_MAX, 0 },
    { "0.5k", 512, 0 },
    { "15.999E", 18445591152204944769ull, 0 },
    { "0.00000000000000000000000000001k", 0, 0 },
    { "16E", 0, -ERANGE },
    { "18446744073709551616", 0, -ERANGE },
    { "0x10000000000000000", 0, -ERANGE },
    { "", 0, -EINVAL },
    { "k", 0, -EINVAL },
    { "-1", 0, -EINVAL },
    { "1.5", 0, -EINVAL },
    { "1.5b", 0, -EINVAL },
    { "1.k", 0, -EINVAL },
    { "1kB", 0, -EINVAL },
    { " 1", 0, -EINVAL },
    { "1 ", 0, -EINVAL },
    { "0x", 0, -EINVAL },
    { "0x10k", 0, -EINVAL },
    { "1e3", 0, -EINVAL },
    { "1q", 0, -EINVAL },
    { "+1", 0, -EINVAL },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (cases); i++) {
    uint64_t size = 0;
    g_autoptr (GError) error = NULL;
    int r = tn_parse_size (cases[i].text, &size, &error);
    g_test_message ("%s", cases[i].text);
    g_assert_cmpint (r, ==, cases[i].result);
    g_assert_cmpuint (size, ==, cases[i].size);
    g_assert_true ((error == NULL) == (r == 0));
  }
}

static int
check (const char *text, uint32_t when, char **spelled, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_assert_cmpint (tn_options_parse (options, text, NULL, NULL), ==, 0);
  int r = tn_options_check (options, table, sizeof *table, when, "format 'x'", error);
  *spelled = spell (options);
  return r;
}

static void
assert_checked (const char *text, uint32_t when, const char *expected)
{
  g_autofree char *spelled = NULL;
  g_autoptr (GError) error = NULL;
  int r = check (text, when, &spelled, &error);
  g_assert_no_error (error);
  g_assert_cmpint (r, ==, 0);
  g_assert_cmpstr (spelled, ==, expected);
}

static void
assert_refused (const char *text, uint32_t when, const char *part)
{
  g_autofree char *spelled = NULL;
  GError *error = NULL;
  int r = check (text, when, &spelled, &error);
  g_assert_cmpint (r, <, 0);
  g_assert_cmpint (r, ==, tn_error_to_errno (error));
  assert_message (error, part);
}

static void
test_check (void)
{
  assert_checked ("cluster_size=1M,lazy=yes", TN_OPTION_CREATE, "cluster_size=1048576;lazy=on");
  assert_checked ("", TN_OPTION_CREATE, "cluster_size=65536;lazy=off");
  assert_checked ("file=n,bits=0x10", TN_OPTION_OPEN, "file=n;bits=16;lazy=off");
  assert_checked ("file.driver=file,lazy=true", TN_OPTION_OPEN, "file.driver=file;lazy=on");
  assert_checked ("prealloc=full,backing_file=a b", TN_OPTION_CREATE,
                  "prealloc=full;backing_file=a b;cluster_size=65536;lazy=off");
  assert_refused ("", TN_OPTION_OPEN, "needs option 'file': where it lives");
  assert_refused ("cluster_siz=1M", TN_OPTION_CREATE, "did you mean 'cluster_size'");
  assert_refused ("cluster_size=1M", TN_OPTION_OPEN, "only when creating");
  assert_refused ("cluster_size=256", TN_OPTION_CREATE, "512 to 2097152");
  assert_refused ("cluster_size=4M", TN_OPTION_CREATE, "512 to 2097152");
  assert_refused ("cluster_size=99999999E", TN_OPTION_CREATE, "64 bits");
  assert_refused ("cluster_size=big", TN_OPTION_CREATE, "'big'");
  assert_refused ("prealloc=ful", TN_OPTION_CREATE, "off, metadata, full");
  assert_refused ("lazy=maybe", TN_OPTION_CREATE, "on or off");
  assert_refused ("file=n,bits=0", TN_OPTION_OPEN, "1 or more");
  assert_refused ("file=n,bits=1k", TN_OPTION_OPEN, "whole number");
  assert_refused ("backing_file.x=1", TN_OPTION_CREATE, "no option 'backing_file.x'");
  assert_refused ("zzzzzzz=1", TN_OPTION_CREATE, "has no option 'zzzzzzz'");
}

/* Rows of another SDK: longer ones are stepped over, of shorter ones the rest reads as zero. */
static void
test_row_sizes (void)
{
  struct {
    TnOption row;
    uint64_t future[3];
  } longer[] = { { .row = { .name = "a", .type = TN_OPTION_UINT }, .future = { ~0ull, ~0ull, ~0ull } },
                 { .row = { .name = "b", .type = TN_OPTION_BOOL, .value = "on" }, .future = { ~0ull } },
                 { .row = { .name = NULL } } };
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  tn_options_parse (options, "a=5", NULL, NULL);
  tn_options_check (options, &longer[0].row, sizeof longer[0], TN_OPTION_OPEN, "x", &error);
  g_assert_no_error (error);
  assert_spelled (options, "a=5;b=on");

  enum { SHORT = offsetof (TnOption, min) };
  char shorter[3 * SHORT] = { 0 };
  TnOption row = { .name = "c", .type = TN_OPTION_UINT };
  memcpy (shorter, &row, SHORT);
  row.name = "d";
  memcpy (shorter + SHORT, &row, SHORT);
  tn_options_parse (options, "c=18446744073709551615,d=1", NULL, NULL);
  tn_options_set (options, "a", NULL);
  tn_options_set (options, "b", NULL);
  tn_options_check (options, (const TnOption *) (const void *) shorter, SHORT, TN_OPTION_OPEN, "x", &error);
  g_assert_no_error (error);
  assert_spelled (options, "c=18446744073709551615;d=1");
}

/* Whatever is set can be written as a command line and read back. */
static void
test_round_trip (void)
{
  for (int round = 0; round < 2000; round++) {
    g_autoptr (TnOptions) options = tn_options_new ();
    g_autoptr (GString) line = g_string_new (NULL);
    for (int i = g_test_rand_int_range (1, 6); i > 0; i--) {
      g_autofree char *key = g_strdup_printf ("k%d.x", i);
      g_autofree char *value = g_strnfill (g_test_rand_int_range (0, 8), 'x');
      for (char *p = value; *p; p++)
        *p = ",,=ab. \""[g_test_rand_int_range (0, 8)];
      g_auto (GStrv) parts = g_strsplit (value, ",", -1);
      g_autofree char *doubled = g_strjoinv (",,", parts);
      tn_options_set (options, key, value);
      g_string_append_printf (line, "%s%s=%s", line->len ? "," : "", key, doubled);
    }
    g_autofree char *expected = spell (options);
    assert_parsed (line->str, NULL, expected);
  }
}

/* ---- Names without their secrets ---- */

static void
test_hide (void)
{
  static const char *const cases[][2] = {
    { "disk.qcow2", "disk.qcow2" },
    { "", "" },
    { "rbd:p/i:id=eve:key=AQ==:conf=x", "rbd:p/i:id=eve:key=***:conf=x" },
    { "cannot open 'rbd:p/i:key=AQ\\:A': no", "cannot open 'rbd:p/i:key=***': no" },
    { "'rbd:p/i:key:AQ==': no", "'rbd:p/i:key:***': no" },
    { "wrong key: it", "wrong key: it" },
    { "driver=http,url=x,cookie=a=b; c:d,,e,timeout=1", "driver=http,url=x,cookie=***,timeout=1" },
    { "file.password=x", "file.password=***" },
    { "'file.password=x'y', 'z'", "'file.password=***', 'z'" },
    { "key-secret=s0,keyed=1", "key-secret=s0,keyed=1" },
    { "rbd://h/p/i?key=abc&timeout=1", "rbd://h/p/i?key=***&timeout=1" },
    { "https://me:pass:word@host/a:b@c", "https://me:***@host/a:b@c" },
    { "ssh://me@host:22/path", "ssh://me@host:22/path" },
    { "nbd://[::1]:10809/x", "nbd://[::1]:10809/x" },
    { "json:{\"file\": {\"password\": \"a\\\"b\", \"port\": 1}}",
      "json:{\"file\": {\"password\": \"***\", \"port\": 1}}" },
    { "json:{\"file.cookie\":\"unfinished", "json:{\"file.cookie\":\"***" },
    { "give password=WORD", "give password=WORD" },
    { "key=", "key=***" },
    { "=\"://", "=\"://" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *shown = tn_secret_hide (cases[i][0]);
    g_assert_cmpstr (shown, ==, cases[i][1]);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/options/parse", test_parse);
  g_test_add_func ("/options/set", test_set);
  g_test_add_func ("/options/prefix", test_prefix);
  g_test_add_func ("/options/json", test_json);
  g_test_add_func ("/options/json-hostile", test_json_hostile);
  g_test_add_func ("/options/size", test_size);
  g_test_add_func ("/options/check", test_check);
  g_test_add_func ("/options/row-sizes", test_row_sizes);
  g_test_add_func ("/options/round-trip", test_round_trip);
  g_test_add_func ("/options/hide", test_hide);
  return g_test_run ();
}
