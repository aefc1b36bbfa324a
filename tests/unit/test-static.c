/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A plugin that is linked in, as --enable-static-plugins=format-fixture would do: the table of such plugins
 * is made by the same script, and libltdl finds it among what is preloaded. */
#include <tenon/format.h>

#include "plugin/load.h"
#include "plugin/registry.h"

static void
see (const TnClassInfo *info, void *opaque)
{
  GString *seen = opaque;
  g_assert_null (info->path);
  g_assert_null (info->manifest_path);
  g_assert_cmpstr (info->plugin, ==, "format-fixture");
  g_string_append_printf (seen, "%d:%s ", info->kind, info->name);
}

static void
see_loaded (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  g_string_append_printf (opaque, "%s (%s): %s", plugin->name, path, why);
}

/* Known and usable without folder, manifest or object. */
static void
test_found (void)
{
  TnRegistry *registry = tn_registry_new ();
  g_autoptr (GString) seen = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  tn_registry_foreach (registry, 0, see, NULL, seen, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (seen->str, ==, "1:fixture 2:fixture ");
  const TnClass *class = tn_registry_find (registry, TN_KIND_FORMAT, "fixed", &error);
  g_assert_no_error (error);
  g_assert_cmpstr (class->name, ==, "fixture");
  const TnFormatOps *ops = class->ops;
  g_assert_nonnull (ops->map);
  g_assert_cmpstr (tn_registry_probe (registry, NULL, "FIX\x01", 4, "FIX\x01", 4, 4), ==, "fixture");
  g_assert_nonnull (tn_registry_find_scheme (registry, "fix", &error));
  g_string_truncate (seen, 0);
  tn_registry_foreach_loaded (registry, see_loaded, seen);
  g_assert_cmpstr (seen->str, ==, "format-fixture (linked in): format 'fixed'");
  tn_registry_free (registry);
}

/* It obeys the list of allowed plugins like any other. */
static void
test_allowed (void)
{
  TnRegistry *registry = tn_registry_new ();
  g_autoptr (GError) error = NULL;
  tn_registry_allow (registry, "fixture", &error);
  g_assert_nonnull (tn_registry_find (registry, TN_KIND_FORMAT, "fixture", &error));
  g_assert_no_error (error);
  tn_registry_allow (registry, "other", &error);
  g_assert_null (tn_registry_find (registry, TN_KIND_FORMAT, "fixture", &error));
  g_assert_nonnull (strstr (error->message, "'other'"));
  tn_registry_free (registry);
}

static void
test_unknown (void)
{
  g_autoptr (GError) error = NULL;
  g_assert_null (tn_object_load (NULL, "format-absent", NULL, &error));
  g_assert_nonnull (strstr (error->message, "format-absent"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/static/found", test_found);
  g_test_add_func ("/static/allowed", test_allowed);
  g_test_add_func ("/static/unknown", test_unknown);
  return g_test_run ();
}
