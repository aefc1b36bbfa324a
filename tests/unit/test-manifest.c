/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/manifest.h"

#define PATH "/plugins/format-acme.tenon"

static const char good[] = "# a comment\n"
                           "[plugin]\n"
                           "name=format-acme\n"
                           "abi=1.0\n"
                           "version = 0.9 beta \n"
                           "licence=MIT\n"
                           "package=tenon-format-acme\n"
                           "security=hardened\n"
                           "requires-codecs=zstd;zlib;\n"
                           "\n"
                           "[format acme]\n"
                           "version=1.7\n"
                           "summary=\\sdisks; made by \\\\acme\n"
                           "aliases=ac;acm_e\n"
                           "suffixes=acme;\n"
                           "magics=0:41434d45/ffffdfdf;-512:00ff;\n"
                           "future-key=whatever\n"
                           "[protocol acme]\n"
                           "version=1.0\n"
                           "summary=acme over a wire\n"
                           "schemes=acme;acme+tls;\n";

static TnManifest *
parse (const char *text, GError **error)
{
  return tn_manifest_parse (text, strlen (text), PATH, error);
}

static void
test_good (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnManifest) manifest = parse (good, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (manifest->n_classes, ==, 2);
  g_assert_cmpstr (manifest->version, ==, "0.9 beta");
  const TnClassInfo *format = &manifest->classes[0].info;
  g_assert_cmpint (format->kind, ==, TN_KIND_FORMAT);
  g_assert_cmpuint (format->minor, ==, 7);
  g_assert_cmpuint (format->security, ==, TN_SECURITY_HARDENED);
  g_assert_cmpstr (format->plugin, ==, "format-acme");
  const TnMagic *magics = manifest->classes[0].magics;
  g_assert_cmpmem (magics[0].bytes, magics[0].length, "ACME", 4);
  g_assert_cmpmem (magics[0].mask, magics[0].length, "\xff\xff\xdf\xdf", 4);
  g_assert_cmpint (magics[1].offset, ==, -512);
  g_assert_cmpmem (magics[1].bytes, magics[1].length, "\x00\xff", 2);
  g_assert_null (magics[1].mask);
  g_assert_cmpuint (magics[2].length, ==, 0);
  g_assert_cmpstr (manifest->classes[1].info.schemes[1], ==, "acme+tls");
}

/* GLib's parser sees the same text and lists. */
static void
test_against_key_file (void)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();
  g_assert_true (g_key_file_load_from_data (file, good, sizeof good - 1, 0, NULL));
  g_autoptr (TnManifest) manifest = parse (good, NULL);
  g_autofree char *summary = g_key_file_get_string (file, "format acme", "summary", NULL);
  g_assert_cmpstr (manifest->classes[0].info.summary, ==, summary);
  g_auto (GStrv) aliases = g_key_file_get_string_list (file, "format acme", "aliases", NULL, NULL);
  g_assert_true (g_strv_equal ((const char *const *) aliases, manifest->classes[0].info.aliases));
  g_auto (GStrv) codecs = g_key_file_get_string_list (file, "plugin", "requires-codecs", NULL, NULL);
  g_assert_true (g_strv_equal ((const char *const *) codecs, manifest->requires_codecs));
}

/* The good text with the one occurrence of @from replaced. */
static char *
replaced (const char *from, const char *to)
{
  const char *at = strstr (good, from);
  g_assert_nonnull (at);
  return g_strdup_printf ("%.*s%s%s", (int) (at - good), good, to, at + strlen (from));
}

static void
test_damaged (void)
{
  static const struct {
    const char *from, *to;
    unsigned line; /* 0: any */
  } cases[] = {
    { "[plugin]\n", "", 2 },
    { "[plugin]", "[plugin", 2 },
    { "[plugin]", "[]", 2 },
    { "abi=1.0", "abi=1", 4 },
    { "abi=1.0", "abi=1.0x", 4 },
    { "abi=1.0", "abi=1.70000", 4 },
    { "abi=1.0", "abi=-1.0", 4 },
    { "abi=1.0\n", "", 0 },
    { "licence=MIT", "licence=", 6 },
    { "licence=MIT", "licence=a\nlicence=b", 7 },
    { "name=format-acme", "name=format-other", 0 },
    { "name=format-acme", "name=../x", 3 },
    { "security=hardened", "security=best", 8 },
    { "zstd;zlib", "zs td", 9 },
    { "[format acme]", "[fromat acme]", 11 },
    { "[format acme]", "[format ../x]", 11 },
    { "[format acme]", "[format]", 11 },
    { "[protocol acme]", "[format acme]", 18 },
    { "version=1.7\n", "", 0 },
    { "\\sdisks", "\\qdisks", 13 },
    { "acme over a wire", "acme\\", 20 },
    { "ac;acm_e", "ac;;x", 14 },
    { "ac;acm_e", "ac\naliases=x", 15 },
    { "0:41434d45", "41434d45", 16 },
    { "0:41434d45", "0:4143zz45", 16 },
    { "0:41434d45", "0:4143454", 16 },
    { "0:41434d45", "99999999999999999999:41434d45", 16 },
    { "/ffffdfdf", "/ff", 16 },
    { "0:41434d45/ffffdfdf", "0:", 16 },
    { "-512:00ff", "-512:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", 16 },
    { "summary=acme over a wire", "summary=bell \x07", 20 },
    { "schemes=acme;acme+tls;", "no equals sign", 21 },
    { "schemes=acme;acme+tls;", "=value", 21 },
    { "future-key=whatever", "magics=0:00;", 17 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *text = replaced (cases[i].from, cases[i].to);
    g_autoptr (GError) error = NULL;
    g_test_message ("%s -> %s", cases[i].from, cases[i].to);
    g_assert_null (parse (text, &error));
    g_assert_error (error, TN_PLUGIN_ERROR, EINVAL);
    g_autofree char *where = g_strdup_printf ("%s:%u: ", PATH, cases[i].line);
    if (!g_str_has_prefix (error->message, cases[i].line ? where : PATH ":"))
      g_error ("'%s' does not begin with '%s'", error->message, where);
    g_assert_null (strchr (error->message, '\n'));
  }
}

static void
test_not_text (void)
{
  g_autoptr (GError) error = NULL;
  g_assert_null (tn_manifest_parse (good, sizeof good, PATH, &error)); /* with its NUL */
  g_clear_error (&error);
  g_assert_null (tn_manifest_parse ("\xff\xfe", 2, PATH, &error));
  g_clear_error (&error);
  g_assert_null (tn_manifest_parse ("", 0, PATH, &error));
  g_clear_error (&error);
  g_autofree char *huge = g_strnfill (TN_MANIFEST_MAX_SIZE + 1, '\n');
  g_assert_null (tn_manifest_parse (huge, TN_MANIFEST_MAX_SIZE + 1, PATH, &error));
  g_assert_nonnull (error);
}

static void
test_many (void)
{
  g_autoptr (GString) text = g_string_new (good);
  for (int i = 0; i < 100; i++)
    g_string_append_printf (text, "[format x%d]\nversion=1.0\nsummary=x\n", i);
  g_autoptr (GError) error = NULL;
  g_assert_null (parse (text->str, &error));
  g_assert_nonnull (strstr (error->message, "more than"));
  g_string_assign (text, good);
  g_string_append (text, "aliases=");
  for (int i = 0; i < 1000; i++)
    g_string_append (text, "a;");
  g_clear_error (&error);
  g_assert_null (parse (text->str, &error));
  g_assert_nonnull (strstr (error->message, "more than"));
}

/* Random damage gives a manifest or an error, never both, neither or worse. */
static void
test_mutations (void)
{
  for (int round = 0; round < 20000; round++) {
    g_autofree char *text = g_strdup (good);
    size_t length = sizeof good - 1;
    for (int i = g_test_rand_int_range (1, 5); i > 0; i--)
      text[g_test_rand_int_range (0, (int) length)] = (char) g_test_rand_int_range (0, 256);
    length -= (size_t) g_test_rand_int_range (0, 40);
    g_autoptr (GError) error = NULL;
    g_autoptr (TnManifest) manifest = tn_manifest_parse (text, length, PATH, &error);
    g_assert_true ((manifest == NULL) == (error != NULL));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/manifest/good", test_good);
  g_test_add_func ("/manifest/against-key-file", test_against_key_file);
  g_test_add_func ("/manifest/damaged", test_damaged);
  g_test_add_func ("/manifest/not-text", test_not_text);
  g_test_add_func ("/manifest/many", test_many);
  g_test_add_func ("/manifest/mutations", test_mutations);
  return g_test_run ();
}
