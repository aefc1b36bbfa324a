/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manual page and the completion script, made from the tables. */
#include <config.h>

#include "cli.h"

/* roff reads a backslash, a leading dot or quote, and a bare dash specially. */
void
cli_append_roff (GString *out, const char *text)
{
  bool line_start = true;
  for (; *text; text++) {
    if (line_start && (*text == '.' || *text == '\''))
      g_string_append (out, "\\&");
    if (g_str_has_prefix (text, "…")) {
      /* Not every roff reads UTF-8. */
      g_string_append (out, "...");
      text += strlen ("…") - 1;
    } else if (*text == '\\')
      g_string_append (out, "\\e");
    else if (*text == '-')
      g_string_append (out, "\\-");
    else
      g_string_append_c (out, *text);
    line_start = *text == '\n';
  }
}

static void
append_man_option (GString *out, const CliOption *option)
{
  g_string_append (out, ".TP\n.B ");
  g_autofree char *letter = option->letter ? g_strdup_printf ("-%c, ", option->letter) : g_strdup ("");
  g_autofree char *name = g_strdup_printf ("%s--%s", letter, option->name);
  cli_append_roff (out, name);
  if (option->arg)
    g_string_append_printf (out, "\\fR=\\fI%s\\fR", option->arg);
  g_string_append_c (out, '\n');
  cli_append_roff (out, option->help);
  if (option->choices) {
    g_autofree char *choices = g_strjoinv (", ", (char **) option->choices);
    g_string_append (out, ": ");
    cli_append_roff (out, choices);
  }
  g_string_append_c (out, '\n');
}

static void
append_man_details (GString *out, const char *details)
{
  if (!details)
    return;
  g_string_append (out, ".PP\n.nf\n");
  cli_append_roff (out, details);
  g_string_append (out, ".fi\n");
}

static void
append_man_command (GString *out, const CliCommand *command)
{
  g_autofree char *synopsis = cli_synopsis (command);
  g_string_append_printf (out, ".SS %s\n.PP\n", command->name);
  cli_append_roff (out, synopsis);
  g_string_append (out, "\n.PP\n");
  g_string_append_c (out, g_ascii_toupper (command->summary[0]));
  cli_append_roff (out, command->summary + 1);
  g_string_append (out, ".\n");
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++)
    append_man_option (out, option);
  if (command->statuses)
    g_string_append (out, ".PP\nExit status:\n");
  for (const CliStatus *status = command->statuses; status && status->meaning; status++) {
    g_string_append_printf (out, ".TP\n.B %d\n", status->status);
    cli_append_roff (out, status->meaning);
    g_string_append_c (out, '\n');
  }
  append_man_details (out, command->details);
}

static void
append_man_options (GString *out, const CliTool *tool)
{
  g_string_append (out, ".SH OPTIONS\n");
  const CliOption *option;
  for (unsigned i = 0; tool->self && (option = cli_option_at (tool->self, i)); i++)
    append_man_option (out, option);
  for (option = cli_tool_options; option->name; option++)
    append_man_option (out, option);
  for (const CliStatus *status = tool->self ? tool->self->statuses : NULL; status && status->meaning;
       status++)
    g_string_append_printf (out, ".PP\nExit status %d: %s.\n", status->status, status->meaning);
}

char *
cli_manual (const CliTool *tool)
{
  GString *out = g_string_new (NULL);
  g_autofree char *upper = g_ascii_strup (tool->name, -1);
  g_string_append_printf (out, ".TH %s 1 \"\" \"tenon %s\"\n.SH NAME\n", upper, PACKAGE_VERSION);
  cli_append_roff (out, tool->name);
  g_string_append (out, " \\- ");
  cli_append_roff (out, tool->summary);
  g_string_append (out, "\n.SH SYNOPSIS\n.B ");
  cli_append_roff (out, tool->name);
  g_string_append_printf (out, "\n[\\fIOPTION\\fR]... %s\n",
                          tool->self ? (tool->self->words ? tool->self->words : "")
                                     : "\\fICOMMAND\\fR [\\fIOPTION\\fR]... \\fIARGUMENT\\fR...");
  if (tool->details) {
    g_string_append (out, ".SH DESCRIPTION\n");
    append_man_details (out, tool->details);
  }
  append_man_options (out, tool);
  if (tool->commands)
    g_string_append (out, ".SH COMMANDS\n");
  for (const CliCommand *command = tool->commands; command && command->name; command++)
    append_man_command (out, command);
  return g_string_free (out, FALSE);
}

static void
append_option_words (GString *out, const CliCommand *command)
{
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++) {
    if (option->letter)
      g_string_append_printf (out, " -%c", option->letter);
    g_string_append_printf (out, " --%s%s", option->name, option->arg ? "=" : "");
  }
}

/* After an option with choices (either spelling), the choices. */
static void
append_choice_cases (GString *out, const CliTool *tool, const CliCommand *command)
{
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++) {
    if (!option->choices)
      continue;
    g_autofree char *choices = g_strjoinv (" ", (char **) option->choices);
    const char *of = tool->self ? "" : command->name;
    g_string_append_printf (out, "    '%s --%s'", of, option->name);
    if (option->letter)
      g_string_append_printf (out, "|'%s -%c'", of, option->letter);
    g_string_append_printf (out, ") COMPREPLY=($(compgen -W '%s' -- \"$word\")); return;;\n", choices);
  }
}

char *
cli_completion (const CliTool *tool)
{
  GString *out = g_string_new (NULL);
  g_autofree char *function = g_strdup_printf ("_%s", tool->name);
  g_strdelimit (function, "-", '_');
  g_string_append_printf (
      out,
      "# bash completion for %s\n%s ()\n{\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= i\n"
      "  COMPREPLY=()\n"
      "  if [ \"$word\" = = ]; then word=; fi\n"
      "  if [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi\n",
      tool->name, function);
  if (!tool->self)
    g_string_append (
        out, "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
             "    case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break;; esac\n  done\n");
  g_string_append (out, "  case \"$command $before\" in\n");
  const CliCommand alone[] = { tool->self ? *tool->self : (CliCommand){ 0 }, { 0 } };
  const CliCommand *commands = tool->self ? alone : tool->commands;
  for (const CliCommand *command = commands; command->name; command++)
    append_choice_cases (out, tool, command);
  g_string_append (out, "  esac\n  local options=\n  case \"$command\" in\n");
  if (!tool->self) {
    g_string_append (out, "    '') options='--help --version --plugins= --plugin-dir=");
    for (const CliCommand *command = commands; command->name; command++)
      g_string_append_printf (out, " %s", command->name);
    g_string_append (out, "';;\n");
  }
  for (const CliCommand *command = commands; command->name; command++) {
    g_string_append_printf (out, "    '%s') options='", tool->self ? "" : command->name);
    append_option_words (out, command);
    g_string_append (out, "';;\n");
  }
  g_string_append_printf (out,
                          "  esac\n  case \"$word\" in\n    -*) ;;\n    *) if [ -n \"$command\" ] || %s; "
                          "then return; fi;;\n  esac\n"
                          "  COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
                          "  case \"$COMPREPLY\" in *=) compopt -o nospace;; esac\n"
                          "}\ncomplete -o default -F %s %s\n",
                          tool->self ? "true" : "false", function, tool->name);
  return g_string_free (out, FALSE);
}
