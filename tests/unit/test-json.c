/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <jansson.h>
#include <math.h>

#include <tenon/json.h>

static char *
write_sample (bool pretty)
{
  GString *text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, pretty);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "name", "a\"b\\c\n\x01\xc3\xa9\xf0\x9f\x98\x80\x7f");
  tn_json_uint (json, "big", UINT64_MAX);
  tn_json_int (json, "low", INT64_MIN);
  tn_json_bool (json, "yes", true);
  tn_json_double (json, "half", 0.5);
  tn_json_double (json, "nan", NAN);
  tn_json_string (json, "none", NULL);
  tn_json_array_begin (json, "list");
  tn_json_uint (json, NULL, 1);
  tn_json_object_begin (json, NULL);
  tn_json_object_end (json);
  tn_json_array_begin (json, NULL);
  tn_json_array_end (json);
  tn_json_array_end (json);
  tn_json_object_end (json);
  return g_string_free (text, FALSE);
}

static void
test_layout (void)
{
  g_autofree char *compact = write_sample (false);
  g_assert_cmpstr (
      compact, ==,
      "{\"name\": \"a\\\"b\\\\c\\n\\u0001\\u00E9\\uD83D\\uDE00\\u007F\", \"big\": 18446744073709551615, "
      "\"low\": -9223372036854775808, \"yes\": true, \"half\": 0.5, \"nan\": null, \"none\": null, "
      "\"list\": [1, {}, []]}");
  g_autofree char *pretty = write_sample (true);
  g_assert_nonnull (strstr (pretty, "{\n    \"name\": \"a"));
  g_assert_nonnull (strstr (
      pretty, ",\n    \"list\": [\n        1,\n        {\n        },\n        [\n        ]\n    ]\n}"));
}

static void
test_against_jansson (void)
{
  for (int pretty = 0; pretty < 2; pretty++) {
    g_autofree char *text = write_sample (pretty);
    char *big = strstr (text, "18446744073709551615");
    memcpy (big, "00000000000000000001" + 19, 1);
    memset (big + 1, ' ', 19); /* more than jansson's integers hold */
    json_t *root = json_loads (text, 0, NULL);
    g_assert_nonnull (root);
    g_assert_cmpstr (json_string_value (json_object_get (root, "name")), ==,
                     "a\"b\\c\n\x01\xc3\xa9\xf0\x9f\x98\x80\x7f");
    g_assert_true (json_integer_value (json_object_get (root, "low")) == INT64_MIN);
    g_assert_true (json_is_true (json_object_get (root, "yes")));
    g_assert_cmpfloat (json_real_value (json_object_get (root, "half")), ==, 0.5);
    g_assert_cmpuint (json_array_size (json_object_get (root, "list")), ==, 3);
    json_decref (root);
  }
}

/* Any bytes at all become a string that jansson accepts, and the valid ones come back as they were. */
static void
test_strings (void)
{
  for (int round = 0; round < 3000; round++) {
    char bytes[24] = "";
    int length = g_test_rand_int_range (0, 20);
    for (int i = 0; i < length; i++)
      bytes[i] = (char) g_test_rand_int_range (1, 256);
    g_autoptr (GString) text = g_string_new (NULL);
    g_autoptr (TnJson) json = tn_json_new (text, false);
    tn_json_array_begin (json, NULL);
    tn_json_string (json, NULL, bytes);
    tn_json_array_end (json);
    json_t *root = json_loads (text->str, 0, NULL);
    g_assert_nonnull (root);
    g_autofree char *valid = g_utf8_make_valid (bytes, -1);
    if (strcmp (valid, bytes) == 0)
      g_assert_cmpstr (json_string_value (json_array_get (root, 0)), ==, bytes);
    json_decref (root);
  }
}

static int
record (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  GString *seen = opaque;
  g_string_append_printf (seen, "%d%s%s%s%s ", type, name ? ":" : "", name ? name : "", value ? "=" : "",
                          value ? value : "");
  return value && strcmp (value, "stop") == 0 ? -EINTR : 0;
}

static void
test_read (void)
{
  g_autoptr (GString) seen = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  int r = tn_json_read ("{\"a\": [1, 2.5, \"x\"], \"b\": {\"c\": null}, \"d\": true}", record, seen, &error);
  g_assert_no_error (error);
  g_assert_cmpint (r, ==, 0);
  g_assert_cmpstr (seen->str, ==, "1 3:a 6=1 7=2.5 5=x 4 1:b 9:c 2 8:d=true 2 ");
  g_string_truncate (seen, 0);
  g_assert_cmpint (tn_json_read ("[1, \"stop\", 2]", record, seen, NULL), ==, -EINTR);
  g_assert_cmpstr (seen->str, ==, "3 6=1 5=stop ");
  g_assert_cmpint (tn_json_read ("{\n\"a\" 1}", record, seen, &error), ==, -EINVAL);
  g_assert_nonnull (strstr (error->message, "line 2"));
}

static void
test_splice (void)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  g_autoptr (GError) error = NULL;
  tn_json_object_begin (json, NULL);
  g_assert_cmpint (tn_json_text (json, "data", "{\"compat\":\"1.1\",\"lazy\":false,\"n\":[1,2]}", &error), ==,
                   0);
  g_assert_no_error (error);
  g_assert_cmpint (tn_json_text (json, "bad", "{\"a\": 1, \"a\": 2}", &error), <, 0);
  g_assert_nonnull (error);
  tn_json_uint (json, "size", 5);
  tn_json_object_end (json);
  g_assert_cmpstr (
      text->str, ==,
      "{\n    \"data\": {\n        \"compat\": \"1.1\",\n        \"lazy\": false,\n        \"n\": [\n"
      "            1,\n            2\n        ]\n    },\n    \"size\": 5\n}");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/json/layout", test_layout);
  g_test_add_func ("/json/against-jansson", test_against_jansson);
  g_test_add_func ("/json/strings", test_strings);
  g_test_add_func ("/json/read", test_read);
  g_test_add_func ("/json/splice", test_splice);
  return g_test_run ();
}
