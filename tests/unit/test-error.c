/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/error.h>

static void
test_fail (void)
{
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (tn_fail (&error, TN_BLOCK_ERROR, EINVAL, "bad %s", "cluster"), ==, -EINVAL);
  g_assert_error (error, TN_BLOCK_ERROR, EINVAL);
  g_assert_cmpstr (error->message, ==, "bad cluster");
  g_assert_cmpint (tn_fail (NULL, TN_BLOCK_ERROR, EIO, "unheard"), ==, -EIO);
}

static void
test_fail_errno (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *expected = g_strdup_printf ("cannot open x: %s", g_strerror (ENOENT));

  g_assert_cmpint (tn_fail_errno (&error, TN_IO_ERROR, ENOENT, "cannot open %s", "x"), ==, -ENOENT);
  g_assert_error (error, TN_IO_ERROR, ENOENT);
  g_assert_cmpstr (error->message, ==, expected);
  g_assert_cmpint (tn_fail_errno (NULL, TN_IO_ERROR, EPERM, "unheard"), ==, -EPERM);
}

static void
test_to_errno (void)
{
  const GQuark domains[] = { TN_PLUGIN_ERROR, TN_OPTION_ERROR, TN_IO_ERROR, TN_BLOCK_ERROR,
                             TN_MACHINE_ERROR };
  g_autoptr (GError) foreign =
      g_error_new_literal (g_quark_from_static_string ("foreign"), ENOSPC, "foreign");

  for (guint i = 0; i < G_N_ELEMENTS (domains); i++) {
    g_autoptr (GError) error = g_error_new_literal (domains[i], ENOSPC, "full");

    g_assert_cmpint (tn_error_to_errno (error), ==, -ENOSPC);
    for (guint j = 0; j < i; j++)
      g_assert_cmpuint (domains[i], !=, domains[j]);
  }
  g_assert_cmpint (tn_error_to_errno (foreign), ==, -EIO);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/error/fail", test_fail);
  g_test_add_func ("/error/fail-errno", test_fail_errno);
  g_test_add_func ("/error/to-errno", test_to_errno);
  return g_test_run ();
}
