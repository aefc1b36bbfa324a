/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Spelling of the SDK's constants. */
#include "tool.h"

const char *
tool_kind_name (unsigned kind)
{
  static const char *const names[] = { "unknown", "format", "protocol", "export", "device",
                                       "cpu",     "codec",  "cipher",   "digest", "kdf" };
  return kind < G_N_ELEMENTS (names) ? names[kind] : names[0];
}

const char *
tool_security_name (uint32_t security)
{
  static const char *const names[] = { "unknown", "trusted-input", "hardened" };
  return security < G_N_ELEMENTS (names) ? names[security] : names[0];
}

const char *
tool_option_type_name (unsigned type)
{
  static const char *const names[] = { "text",   "text", "bool",  "number", "size",
                                       "choice", "node", "drive", "chardev" };
  return type < G_N_ELEMENTS (names) ? names[type] : names[0];
}

char *
tool_option_when (uint32_t when)
{
  static const struct {
    uint32_t bit;
    const char *name;
  } bits[] = { { TN_OPTION_OPEN, "open" },
               { TN_OPTION_CREATE, "create" },
               { TN_OPTION_RUNTIME, "runtime" },
               { TN_OPTION_AMEND, "amend" },
               { TN_OPTION_REQUIRED, "required" } };
  GString *text = g_string_new (when & ~(uint32_t) TN_OPTION_REQUIRED ? NULL : "open");
  for (size_t i = 0; i < G_N_ELEMENTS (bits); i++) {
    if (when & bits[i].bit)
      g_string_append_printf (text, "%s%s", text->len ? "," : "", bits[i].name);
  }
  return g_string_free (text, FALSE);
}
