/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/error.h>

#include <stdarg.h>

GQuark
tn_plugin_error_quark (void)
{
  return g_quark_from_static_string ("tn-plugin-error-quark");
}

GQuark
tn_option_error_quark (void)
{
  return g_quark_from_static_string ("tn-option-error-quark");
}

GQuark
tn_io_error_quark (void)
{
  return g_quark_from_static_string ("tn-io-error-quark");
}

GQuark
tn_block_error_quark (void)
{
  return g_quark_from_static_string ("tn-block-error-quark");
}

GQuark
tn_machine_error_quark (void)
{
  return g_quark_from_static_string ("tn-machine-error-quark");
}

int
tn_fail (GError **error, GQuark domain, int errnum, const char *format, ...)
{
  va_list args;

  if (error) {
    va_start (args, format);
    *error = g_error_new_valist (domain, errnum, format, args);
    va_end (args);
  }
  return -errnum;
}

int
tn_fail_errno (GError **error, GQuark domain, int errnum, const char *format, ...)
{
  g_autofree char *what = NULL;
  va_list args;

  if (!error)
    return -errnum;
  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  *error = g_error_new (domain, errnum, "%s: %s", what, g_strerror (errnum));
  return -errnum;
}

static bool
is_tenon_domain (GQuark domain)
{
  return domain == TN_BLOCK_ERROR || domain == TN_IO_ERROR || domain == TN_PLUGIN_ERROR
         || domain == TN_OPTION_ERROR || domain == TN_MACHINE_ERROR;
}

int
tn_error_to_errno (const GError *error)
{
  if (!is_tenon_domain (error->domain) || error->code <= 0)
    return -EIO;
  return -error->code;
}
