/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding and loading plugins in folders made for each test.  The plugin is tests/unit/fixtures/plugin.c. */
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tenon/format.h>
#include <tenon/protocol.h>

#include "plugin/registry.h"

#define FIXTURE "tests/unit/fixtures/.libs/format-fixture.so"

typedef struct Folder {
  char *path;
  TnRegistry *registry;
} Folder;

static char *
in_folder (const Folder *folder, const char *name)
{
  return g_build_filename (folder->path, name, NULL);
}

static void
write_file (const Folder *folder, const char *name, const char *text, gssize length)
{
  g_autofree char *path = in_folder (folder, name);
  g_autoptr (GError) error = NULL;
  g_file_set_contents (path, text, length, &error);
  g_assert_no_error (error);
  g_assert_cmpint (g_chmod (path, 0644), ==, 0);
}

static char *
fixture_path (void)
{
  const char *build = g_getenv ("TN_BUILD_DIR");
  return g_build_filename (build ? build : ".", FIXTURE, NULL);
}

/* The fixture's manifest, made once. */
static const char *
manifest_text (void)
{
  static char *text;
  if (text)
    return text;
  g_autofree char *path = fixture_path ();
  g_autoptr (GError) error = NULL;
  TnRegistry *registry = tn_registry_new ();
  const TnPlugin *plugin = tn_registry_load_file (registry, path, &error);
  g_assert_no_error (error);
  text = tn_plugin_manifest (plugin, "format-fixture.so");
  tn_registry_free (registry);
  return text;
}

static void
add_fixture (const Folder *folder)
{
  g_autofree char *source = fixture_path ();
  g_autofree char *bytes = NULL;
  gsize length;
  g_assert_true (g_file_get_contents (source, &bytes, &length, NULL));
  write_file (folder, "format-fixture.so", bytes, (gssize) length);
  write_file (folder, "format-fixture.tenon", manifest_text (), -1);
}

/* A manifest whose object is never needed. */
static void
add_manifest (const Folder *folder, const char *kind, const char *name, const char *rest)
{
  g_autofree char *file_name = g_strdup_printf ("%s-%s.tenon", kind, name);
  g_autofree char *text =
      g_strdup_printf ("[plugin]\nname=%s-%s\nabi=1.0\nversion=1\nlicence=MIT\npackage=acme-%s\n"
                       "[%s %s]\nversion=1.0\nsummary=about %s\n%s\n",
                       kind, name, name, kind, name, name, rest);
  write_file (folder, file_name, text, -1);
}

static void
setup (Folder *folder, gconstpointer data)
{
  folder->path = g_dir_make_tmp ("tenon-plugin-XXXXXX", NULL);
  folder->registry = tn_registry_new ();
  tn_registry_append_directory (folder->registry, folder->path, false);
  add_fixture (folder);
}

static void
teardown (Folder *folder, gconstpointer data)
{
  tn_registry_free (folder->registry);
  g_chmod (folder->path, 0755);
  GDir *dir = g_dir_open (folder->path, 0, NULL);
  for (const char *name; (name = g_dir_read_name (dir));) {
    g_autofree char *path = in_folder (folder, name);
    g_unlink (path);
  }
  g_dir_close (dir);
  g_rmdir (folder->path);
  g_free (folder->path);
}

static void
assert_found (const Folder *folder, TnKind kind, const char *name, const char *canonical)
{
  g_autoptr (GError) error = NULL;
  const TnClass *class = tn_registry_find (folder->registry, kind, name, &error);
  g_assert_no_error (error);
  g_assert_nonnull (class);
  g_assert_cmpstr (class->name, ==, canonical);
  g_assert_cmpint (class->kind, ==, kind);
}

static void
assert_failed (const TnClass *class, GError *error, const char *const *parts)
{
  g_assert_null (class);
  g_assert_nonnull (error);
  g_test_message ("%s", error->message);
  g_assert_true (error->domain == TN_PLUGIN_ERROR);
  g_assert_null (strchr (error->message, '\n'));
  for (; *parts; parts++) {
    if (!strstr (error->message, *parts))
      g_error ("'%s' does not mention '%s'", error->message, *parts);
  }
  g_error_free (error);
}

/* The further arguments, up to NULL, are parts of the message. */
static void G_GNUC_NULL_TERMINATED
assert_not_found (const Folder *folder, TnKind kind, const char *name, ...)
{
  const char *parts[8] = { NULL };
  va_list args;
  va_start (args, name);
  for (size_t i = 0; i < G_N_ELEMENTS (parts) && (parts[i] = va_arg (args, const char *)); i++)
    ;
  va_end (args);
  GError *why = NULL;
  const TnClass *class = tn_registry_find (folder->registry, kind, name, &why);
  assert_failed (class, why, parts);
}

static void
test_find (Folder *folder, gconstpointer data)
{
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
  assert_found (folder, TN_KIND_FORMAT, "fixed", "fixture");
  assert_found (folder, TN_KIND_FORMAT, "fx_1", "fixture");
  assert_found (folder, TN_KIND_PROTOCOL, "fixture", "fixture");
  g_autoptr (GError) error = NULL;
  const TnClass *class = tn_registry_find_scheme (folder->registry, "fix+tls", &error);
  g_assert_no_error (error);
  g_assert_cmpint (class->kind, ==, TN_KIND_PROTOCOL);
  const TnProtocolOps *ops = class->ops;
  g_assert_cmpuint (ops->size, ==, sizeof *ops);
}

/* By alias first, when no manifest has been read at all. */
static void
test_find_alias (Folder *folder, gconstpointer data)
{
  assert_found (folder, TN_KIND_FORMAT, "fixed", "fixture");
}

/* A class of another kind than the file's name says is found by looking at everything. */
static void
test_find_other_kind (Folder *folder, gconstpointer data)
{
  assert_found (folder, TN_KIND_PROTOCOL, "fixture", "fixture");
}

static void
test_not_found (Folder *folder, gconstpointer data)
{
  assert_not_found (folder, TN_KIND_FORMAT, "fixtrue", "format 'fixtrue'", "tenon-format-fixtrue",
                    "did you mean 'fixture'", NULL);
  assert_not_found (folder, TN_KIND_DEVICE, "fixture", "'fixture' is a format, not a device", NULL);
  assert_not_found (folder, TN_KIND_FORMAT, "../x", "'../x'", NULL);
  assert_not_found (folder, TN_KIND_FORMAT, "", "''", NULL);
  GError *why = NULL;
  const TnClass *class = tn_registry_find_scheme (folder->registry, "gopher", &why);
  assert_failed (class, why, (const char *const[]){ "URI scheme 'gopher'", "install", NULL });
  /* No failure is remembered. */
  add_manifest (folder, "cpu", "late", "");
  assert_not_found (folder, TN_KIND_CPU, "late", "cpu-late.so", "is missing", "install package 'acme-late'",
                    NULL);
}

static void
test_missing_object (Folder *folder, gconstpointer data)
{
  g_autofree char *object = in_folder (folder, "format-fixture.so");
  g_unlink (object);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", object, "is missing", "tenon-format-fixture", NULL);
}

static void
test_no_plugin (Folder *folder, gconstpointer data)
{
  add_manifest (folder, "format", "text", "");
  g_autofree char *text = g_strnfill (4096, 't');
  write_file (folder, "format-text.so", text, -1);
  assert_not_found (folder, TN_KIND_FORMAT, "text", "format-text.so", "cannot load the plugin", "ELF", NULL);
}

/* The manifest promises a class that the object doesn't have. */
static void
test_stale_manifest (Folder *folder, gconstpointer data)
{
  g_autofree char *text = g_strconcat (manifest_text (), "[format more]\nversion=1.0\nsummary=more\n", NULL);
  write_file (folder, "format-fixture.tenon", text, -1);
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
  assert_not_found (folder, TN_KIND_FORMAT, "more", "does not match", "format-fixture.tenon", "reinstall",
                    NULL);
}

static void
count (const TnClassInfo *info, void *opaque)
{
  ++*(unsigned *) opaque;
  g_assert_nonnull (info->name);
  g_assert_nonnull (info->aliases);
}

static void
count_damaged (const char *path, const GError *why, void *opaque)
{
  *(unsigned *) opaque += 100;
  g_assert_nonnull (strstr (why->message, path));
}

static unsigned
count_all (const Folder *folder, TnKind kind)
{
  unsigned n = 0;
  g_autoptr (GError) error = NULL;
  tn_registry_foreach (folder->registry, kind, count, count_damaged, &n, &error);
  g_assert_no_error (error);
  return n;
}

/* A bad manifest is named, and the others work. */
static void
test_damaged (Folder *folder, gconstpointer data)
{
  write_file (folder, "format-bad.tenon", "[plugin]\nname=format-bad\nnonsense\n", -1);
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
  assert_not_found (folder, TN_KIND_FORMAT, "bad", "format 'bad'", "format-bad.tenon:3: ", NULL);
  assert_found (folder, TN_KIND_FORMAT, "fixed", "fixture");
  g_assert_cmpuint (count_all (folder, 0), ==, 102);
  /* It is read again, and was repaired. */
  add_manifest (folder, "format", "bad", "");
  g_assert_cmpuint (count_all (folder, 0), ==, 3);
  g_assert_cmpuint (count_all (folder, TN_KIND_PROTOCOL), ==, 1);
}

static void
test_odd_files (Folder *folder, gconstpointer data)
{
  g_autofree char *fifo = in_folder (folder, "format-fifo.tenon");
  g_autofree char *dangling = in_folder (folder, "format-dangling.tenon");
  g_autofree char *directory = in_folder (folder, "format-directory.tenon");
  g_autofree char *huge = g_strnfill (100000, '#');
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  g_assert_cmpint (symlink ("/nonexistent", dangling), ==, 0);
  g_assert_cmpint (g_mkdir (directory, 0755), ==, 0);
  write_file (folder, "format-huge.tenon", huge, -1);
  assert_found (folder, TN_KIND_FORMAT, "fixed", "fixture");
  assert_not_found (folder, TN_KIND_FORMAT, "nothing", "not looked at", "and 2 more", NULL);
  g_rmdir (directory);
}

static void
test_trust_folder (Folder *folder, gconstpointer data)
{
  g_chmod (folder->path, 0777);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", folder->path, "not trusted", "mode 0777", "chmod go-w",
                    NULL);
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_registry_add_directory (folder->registry, folder->path, &error), ==, -EPERM);
  g_clear_error (&error);
  g_assert_cmpint (tn_registry_add_directory (folder->registry, "/nonexistent", &error), ==, -ENOENT);
  g_clear_error (&error);
  g_assert_cmpint (tn_registry_add_directory (folder->registry, "/dev/null", &error), ==, -ENOTDIR);
  g_chmod (folder->path, 0755);
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
}

static void
test_trust_file (Folder *folder, gconstpointer data)
{
  const char *const names[] = { "format-fixture.so", "format-fixture.tenon" };
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *path = in_folder (folder, names[i]);
    g_chmod (path, 0664);
    assert_not_found (folder, TN_KIND_FORMAT, "fixture", path, "not trusted", "chmod go-w", NULL);
    g_chmod (path, 0644);
  }
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
}

static void
test_trust_owner (Folder *folder, gconstpointer data)
{
  if (geteuid () != 0) {
    g_test_skip ("only root can give files away");
    return;
  }
  g_autofree char *path = in_folder (folder, "format-fixture.so");
  g_assert_cmpint (chown (path, 12345, 0), ==, 0);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", path, "belongs to user 12345", "chown", NULL);
}

static void
test_allow (Folder *folder, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  add_manifest (folder, "format", "other", "");
  tn_registry_allow (folder->registry, "other", &error);
  g_assert_no_error (error);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", "format 'fixture' is not allowed",
                    "add 'format-fixture'", NULL);
  g_assert_cmpuint (count_all (folder, 0), ==, 1);
  tn_registry_allow (folder->registry, "other, fixed", &error);
  g_assert_no_error (error);
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
  /* One that is loaded already is no exception. */
  tn_registry_allow (folder->registry, "format-other", &error);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", "not allowed", NULL);
  tn_registry_allow (folder->registry, "fixtre", &error);
  g_assert_no_error (error);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", "names 'fixtre'", "did you mean 'fixture'", NULL);
  g_assert_cmpint (tn_registry_allow (folder->registry, "a,,b", &error), ==, -EINVAL);
  g_clear_error (&error);
  tn_registry_allow (folder->registry, NULL, &error);
  assert_found (folder, TN_KIND_FORMAT, "fixture", "fixture");
}

static void
test_precedence (Folder *folder, gconstpointer data)
{
  Folder second;
  setup (&second, NULL);
  g_autoptr (GError) error = NULL;
  tn_registry_add_directory (folder->registry, second.path, &error);
  g_assert_no_error (error);
  g_autofree char *object = in_folder (&second, "format-fixture.so");
  g_unlink (object);
  assert_not_found (folder, TN_KIND_FORMAT, "fixture", object, NULL);
  teardown (&second, NULL);
}

static const char *
probe (const Folder *folder, const char *bytes, size_t length)
{
  return tn_registry_probe (folder->registry, NULL, bytes, MIN (length, 16),
                            bytes + length - MIN (length, 16), MIN (length, 16), length);
}

static void
test_probe (Folder *folder, gconstpointer data)
{
  add_manifest (folder, "format", "longer", "magics=0:4649580102");
  add_manifest (folder, "format", "aaa", "magics=0:46495801;9223372036854775807:00;-9223372036854775808:00");
  g_assert_cmpstr (probe (folder, "FIX\x01\x02zzz", 8), ==, "longer");
  g_assert_cmpstr (probe (folder, "FIX\x01zzzz", 8), ==, "aaa");
  g_assert_cmpstr (probe (folder, "0123456789012345678901234567890123456789Fixture!", 48), ==, "fixture");
  g_assert_cmpstr (probe (folder, "fixture!", 8), ==, "fixture");
  g_assert_null (probe (folder, "fixturE!", 8));
  g_assert_null (probe (folder, "FIX", 3));
  g_assert_null (probe (folder, "", 0));
  g_assert_null (tn_registry_probe (folder->registry, NULL, "", 0, "", 0, UINT64_MAX));
}

static const char *
probe_named (const Folder *folder, const char *filename)
{
  return tn_registry_probe (folder->registry, filename, "FIX\x01\x02", 5, "FIX\x01\x02", 5, 5);
}

/* A matching plugin named like the suffix is taken without a look at the others. */
static void
test_probe_suffix (Folder *folder, gconstpointer data)
{
  add_manifest (folder, "format", "shorter", "magics=0:464958");
  add_manifest (folder, "format", "other", "magics=0:00");
  add_manifest (folder, "format", "longer", "magics=0:4649580102");
  g_assert_cmpstr (probe_named (folder, "disk.shorter"), ==, "shorter");
  g_assert_cmpstr (probe_named (folder, "a.longer/disk"), ==, "longer");
  g_assert_cmpstr (probe_named (folder, "disk.other"), ==, "longer");
  g_assert_cmpstr (probe_named (folder, "disk.img"), ==, "longer");
  g_assert_cmpstr (probe_named (folder, "disk."), ==, "longer");
}

static void
see_loaded (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  g_string_append_printf (opaque, "%s because of %s;", plugin->name, why);
}

static void
test_loaded (Folder *folder, gconstpointer data)
{
  g_autoptr (GString) seen = g_string_new (NULL);
  count_all (folder, 0);
  tn_registry_foreach_loaded (folder->registry, see_loaded, seen);
  g_assert_cmpstr (seen->str, ==, "");
  assert_found (folder, TN_KIND_FORMAT, "fixed", "fixture");
  tn_registry_find_scheme (folder->registry, "fix", NULL);
  tn_registry_foreach_loaded (folder->registry, see_loaded, seen);
  g_assert_cmpstr (seen->str, ==, "format-fixture because of format 'fixed';");
}

static void
test_load_file (Folder *folder, gconstpointer data)
{
  g_autofree char *object = in_folder (folder, "format-fixture.so");
  const TnPlugin *plugin = tn_registry_load_file (folder->registry, object, NULL);
  g_assert_nonnull (plugin);
  g_assert_true (plugin == tn_registry_load_file (folder->registry, object, NULL));
  g_autofree char *renamed = in_folder (folder, "format-renamed.so");
  g_assert_cmpint (g_rename (object, renamed), ==, 0);
  g_autoptr (GError) error = NULL;
  g_assert_null (tn_registry_load_file (folder->registry, renamed, &error));
  g_assert_nonnull (strstr (error->message, "renamed"));
  g_clear_error (&error);
  g_assert_null (tn_registry_load_file (folder->registry, "/etc/passwd", &error));
  g_assert_nonnull (strstr (error->message, ".so"));
}

static void *
find_often (void *opaque)
{
  const Folder *folder = opaque;
  for (int i = 0; i < 200; i++) {
    assert_found (folder, TN_KIND_FORMAT, i % 2 ? "fixture" : "fixed", "fixture");
    g_assert_null (tn_registry_find (folder->registry, TN_KIND_CODEC, "absent", NULL));
    g_assert_cmpstr (probe (folder, "FIX\x01zzzz", 8), ==, "fixture");
    g_assert_cmpuint (count_all (folder, TN_KIND_FORMAT), ==, 1);
  }
  return NULL;
}

static void
test_threads (Folder *folder, gconstpointer data)
{
  GThread *threads[4];
  for (size_t i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("find", find_often, folder);
  for (size_t i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
}

/* Each registry loads anew; the class is the same in every respect and nothing is left over. */
static void
test_many_loads (Folder *folder, gconstpointer data)
{
  for (int i = 0; i < 1000; i++) {
    TnRegistry *registry = tn_registry_new ();
    tn_registry_append_directory (registry, folder->path, false);
    g_assert_nonnull (tn_registry_find (registry, TN_KIND_FORMAT, i % 2 ? "fixture" : "fixed", NULL));
    tn_registry_free (registry);
  }
}

static void
add (const char *path, void (*test) (Folder *folder, gconstpointer data))
{
  g_test_add (path, Folder, NULL, setup, test, teardown);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/plugin/find", test_find);
  add ("/plugin/find-alias", test_find_alias);
  add ("/plugin/find-other-kind", test_find_other_kind);
  add ("/plugin/not-found", test_not_found);
  add ("/plugin/missing-object", test_missing_object);
  add ("/plugin/no-plugin", test_no_plugin);
  add ("/plugin/stale-manifest", test_stale_manifest);
  add ("/plugin/damaged", test_damaged);
  add ("/plugin/odd-files", test_odd_files);
  add ("/plugin/trust-folder", test_trust_folder);
  add ("/plugin/trust-file", test_trust_file);
  add ("/plugin/trust-owner", test_trust_owner);
  add ("/plugin/allow", test_allow);
  add ("/plugin/precedence", test_precedence);
  add ("/plugin/probe", test_probe);
  add ("/plugin/probe-suffix", test_probe_suffix);
  add ("/plugin/loaded", test_loaded);
  add ("/plugin/load-file", test_load_file);
  add ("/plugin/threads", test_threads);
  add ("/plugin/many-loads", test_many_loads);
  return g_test_run ();
}
