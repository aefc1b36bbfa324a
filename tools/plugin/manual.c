/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A plugin's manual page, made from what its classes say of themselves. */
#include <config.h>

#include "tool.h"

#define SECTION 7

static void
append_words (GString *out, const char *title, const char *const *words)
{
  if (!words || !*words)
    return;
  g_autofree char *text = g_strjoinv (", ", (char **) words);
  g_string_append_printf (out, ".PP\n%s: ", title);
  cli_append_roff (out, text);
  g_string_append (out, "\n");
}

static void
append_range (GString *out, const TnOption *option)
{
  if (option->choices) {
    g_autofree char *choices = g_strjoinv (", ", (char **) option->choices);
    g_string_append (out, ": ");
    cli_append_roff (out, choices);
  }
  if (option->max)
    g_string_append_printf (out, ", from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, option->min,
                            option->max);
  if (option->value) {
    g_string_append (out, " (default: ");
    cli_append_roff (out, option->value);
    g_string_append_c (out, ')');
  }
}

static void
append_option (GString *out, const TnOption *option)
{
  g_autofree char *when = tool_option_when (option->when);
  g_string_append (out, ".TP\n.B ");
  cli_append_roff (out, option->name);
  g_string_append_printf (out, "\\fR=\\fI%s\\fR\n", tool_option_type_name (option->type));
  cli_append_roff (out, option->help ? option->help : "");
  append_range (out, option);
  g_string_append_printf (out, " [%s]\n", when);
}

static void
append_class (GString *out, const TnClass *class)
{
  g_string_append_printf (out, ".SH %s ", tool_kind_name (class->kind));
  cli_append_roff (out, class->name);
  g_string_append (out, "\n.PP\n");
  cli_append_roff (out, class->summary);
  g_string_append (out, ".\n");
  append_words (out, "Other names", class->aliases);
  append_words (out, "File name suffixes", class->suffixes);
  append_words (out, "URI schemes", class->schemes);
  for (const TnOption *option = class->options; option && option->name; option++)
    append_option (out, option);
}

static int
manual_run (CliArgs *args)
{
  GError *error = NULL;
  const TnPlugin *plugin = tool_find_plugin (args->words[0], &error);
  if (!plugin)
    return cli_fail (args, TOOL_FAILED, &error);
  g_autoptr (GString) out = g_string_new (NULL);
  g_autofree char *upper = g_ascii_strup (plugin->name, -1);
  g_string_append_printf (out, ".TH TENON-%s %d \"\" \"tenon %s\"\n.SH NAME\n", upper, SECTION,
                          PACKAGE_VERSION);
  g_autofree char *name = g_strdup_printf ("tenon-%s", plugin->name);
  cli_append_roff (out, name);
  g_string_append (out, " \\- ");
  cli_append_roff (out, plugin->classes[0] ? plugin->classes[0]->summary : "a plugin of Tenon");
  g_string_append (out, "\n.SH DESCRIPTION\n.PP\nPackage ");
  cli_append_roff (out, plugin->package);
  g_string_append_printf (out, ", version %s.  In brackets: when an option may be set.\n", plugin->version);
  append_words (out, "Codecs that it may need", plugin->requires_codecs);
  for (const TnClass *const *class = plugin->classes; *class; class ++)
    append_class (out, *class);
  cli_print (args, "%s", out->str);
  return TOOL_OK;
}

const CliCommand plugin_manual = {
  .name = "manual",
  .summary = "print a plugin's manual page",
  .words = "NAME|FILE.so",
  .min_words = 1,
  .max_words = 1,
  .run = manual_run,
};
