/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --help, made from the tables. */
#include "cli.h"

#include <tenon/plugin.h>

#define HELP_COLUMN 28
#define HELP_WIDTH 100

/* Appends @text from column @column on, broken between words, further lines indented alike. */
static void
append_wrapped (GString *out, const char *text, size_t column)
{
  size_t at = column;
  g_auto (GStrv) words = g_strsplit (text, " ", -1);
  for (char **word = words; *word; word++) {
    size_t length = strlen (*word);
    if (at > column && at + 1 + length > HELP_WIDTH) {
      g_string_append_printf (out, "\n%*s", (int) column, "");
      at = column;
    } else if (at > column) {
      g_string_append_c (out, ' ');
      at++;
    }
    g_string_append (out, *word);
    at += length;
  }
  g_string_append_c (out, '\n');
}

static void
append_entry (GString *out, const char *left, const char *text)
{
  g_string_append (out, left);
  size_t length = strlen (left);
  if (length + 2 > HELP_COLUMN) {
    g_string_append_c (out, '\n');
    length = 0;
  }
  g_string_append_printf (out, "%*s", (int) (HELP_COLUMN - length), "");
  append_wrapped (out, text, HELP_COLUMN);
}

static void
append_option (GString *out, const CliOption *option)
{
  g_autoptr (GString) left = g_string_new ("  ");
  g_string_append_printf (left, option->letter ? "-%c, " : "    ", option->letter);
  g_string_append_printf (left, "--%s%s%s", option->name, option->arg ? "=" : "",
                          option->arg ? option->arg : "");
  if (!option->choices) {
    append_entry (out, left->str, option->help);
    return;
  }
  g_autofree char *choices = g_strjoinv (", ", (char **) option->choices);
  g_autofree char *text = g_strdup_printf ("%s: %s", option->help, choices);
  append_entry (out, left->str, text);
}

static void
append_options (GString *out, const CliCommand *command)
{
  const CliOption *option;
  g_string_append (out, "\nOptions:\n");
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++)
    append_option (out, option);
}

static void
append_statuses (GString *out, const CliCommand *command)
{
  if (!command->statuses)
    return;
  g_string_append (out, "\nExit status:\n");
  for (const CliStatus *status = command->statuses; status->meaning; status++) {
    g_autofree char *left = g_strdup_printf ("  %d", status->status);
    append_entry (out, left, status->meaning);
  }
}

static void
append_details (GString *out, const char *details)
{
  if (details)
    g_string_append_printf (out, "\n%s", details);
}

char *
cli_synopsis (const CliCommand *command)
{
  GString *out = g_string_new (command->name);
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++) {
    if (strcmp (option->name, "help") == 0)
      continue;
    g_string_append (out, " [");
    if (option->letter)
      g_string_append_printf (out, "-%c%s%s", option->letter, option->arg ? " " : "",
                              option->arg ? option->arg : "");
    else
      g_string_append_printf (out, "--%s%s%s", option->name, option->arg ? "=" : "",
                              option->arg ? option->arg : "");
    g_string_append_c (out, ']');
  }
  if (command->words)
    g_string_append_printf (out, " %s", command->words);
  return g_string_free (out, FALSE);
}

char *
cli_help_command (const CliTool *tool, const CliCommand *command)
{
  GString *out = g_string_new (NULL);
  g_string_append_printf (out, "Usage: %s %s [OPTION…]%s%s\n%c%s.\n", tool->name, command->name,
                          command->words ? " " : "", command->words ? command->words : "",
                          g_ascii_toupper (command->summary[0]), command->summary + 1);
  append_options (out, command);
  append_statuses (out, command);
  append_details (out, command->details);
  return g_string_free (out, FALSE);
}

static void
append_commands (GString *out, const CliTool *tool)
{
  g_string_append (out, "\nCommands:\n");
  for (const CliCommand *command = tool->commands; command && command->name; command++) {
    g_autofree char *left = g_strdup_printf ("  %s%s%s", command->name, command->alias ? ", " : "",
                                             command->alias ? command->alias : "");
    append_entry (out, left, command->summary);
  }
}

static void
append_class (const TnClassInfo *info, void *opaque)
{
  g_string_append_printf (opaque, " %s", info->name);
}

static void
append_classes (GString *out, const char *title, TnKind kind)
{
  g_string_append (out, title);
  size_t before = out->len;
  if (tn_plugins_foreach (kind, append_class, NULL, out, NULL) < 0 || out->len == before)
    g_string_append (out, " none found");
  g_string_append_c (out, '\n');
}

static char *
help_self (const CliTool *tool)
{
  GString *out = g_string_new (NULL);
  g_string_append_printf (out, "Usage: %s [OPTION…]%s%s\n%c%s.\n", tool->name, tool->self->words ? " " : "",
                          tool->self->words ? tool->self->words : "", g_ascii_toupper (tool->summary[0]),
                          tool->summary + 1);
  append_options (out, tool->self);
  for (const CliOption *option = cli_tool_options; option->name; option++)
    append_option (out, option);
  append_statuses (out, tool->self);
  append_commands (out, tool);
  append_details (out, tool->details);
  return g_string_free (out, FALSE);
}

char *
cli_help_tool (const CliTool *tool)
{
  if (tool->self)
    return help_self (tool);
  GString *out = g_string_new (NULL);
  g_string_append_printf (out, "Usage: %s [OPTION…] COMMAND [OPTION…] ARGUMENT…\n%c%s.\n", tool->name,
                          g_ascii_toupper (tool->summary[0]), tool->summary + 1);
  append_commands (out, tool);
  g_string_append (out, "\nOptions before the command:\n");
  for (const CliOption *option = cli_tool_options; option->name; option++)
    append_option (out, option);
  append_option (out, &(const CliOption){ "help", 'h', NULL, "show this help and exit", NULL });
  append_details (out, tool->details);
  append_classes (out, "\nSupported formats:", TN_KIND_FORMAT);
  append_classes (out, "Supported protocols:", TN_KIND_PROTOCOL);
  g_string_append_printf (out, "\n'%s COMMAND --help' tells about a command.\n", tool->name);
  return g_string_free (out, FALSE);
}
