/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options as users and images spell them: command lines, json:{…}, tables, sizes.  The first byte chooses. */
#include <tenon/json.h>
#include <tenon/option.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static const char *const choices[] = { "one", "two", NULL };

static const TnOption table[] = {
  { .name = "size", .type = TN_OPTION_SIZE, .min = 1, .max = 1 << 30, .value = "4k" },
  { .name = "n", .type = TN_OPTION_UINT },
  { .name = "flag", .type = TN_OPTION_BOOL, .value = "off" },
  { .name = "which", .type = TN_OPTION_ENUM, .choices = choices },
  { .name = "file", .type = TN_OPTION_NODE },
  { .name = "text", .type = TN_OPTION_STRING, .when = TN_OPTION_CREATE },
  { .name = NULL },
};

static void
use_options (TnOptions *options)
{
  G_GNUC_UNUSED g_autoptr (TnOptions) below = tn_options_take_prefix (options, "file");
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    g_assert_cmpstr (tn_options_get (options, key), ==, value);
  }
  g_autoptr (GError) error = NULL;
  int r = tn_options_check (options, table, sizeof *table, TN_OPTION_OPEN, "fuzz", &error);
  g_assert_true ((r < 0) == (error != NULL));
  if (r == 0)
    g_assert_cmpuint (tn_options_uint (options, "size"), <=, 1 << 30);
}

/* What was written is read back the same. */
static void
write_and_read (const char *text)
{
  g_autoptr (GString) written = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (written, true);
  g_autoptr (GError) error = NULL;
  tn_json_object_begin (json, NULL);
  tn_json_string (json, text, text);
  int r = tn_json_text (json, "copy", text, NULL);
  tn_json_object_end (json);
  g_autoptr (TnOptions) options = tn_options_new ();
  bool same_name = !*text || strcmp (text, "copy") == 0;
  if (r == 0 && !same_name && tn_options_parse_json (options, written->str, &error) < 0)
    g_assert_true (error->code == E2BIG || strstr (error->message, "without a name"));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  g_autofree char *text = g_strndup ((const char *) data + 1, size - 1);
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  uint64_t number;
  int r = 0;
  switch (data[0] % 4) {
  case 0:
    r = tn_options_parse (options, text, data[0] & 4 ? "file" : NULL, &error);
    break;
  case 1:
    r = tn_options_parse_json (options, text, &error);
    break;
  case 2:
    r = tn_parse_size (text, &number, &error);
    break;
  default:
    write_and_read (text);
  }
  g_assert_true ((r < 0) == (error != NULL));
  use_options (options);
  return 0;
}
