/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sub-commands of tenon-plugin.  Each takes its own arguments, argv[0] being its name, and returns the
 * program's exit status. */
#ifndef TENON_PLUGIN_TOOL_H
#define TENON_PLUGIN_TOOL_H

#include <tenon/plugin.h>

/* Exit statuses. */
enum {
  TOOL_OK = 0,
  TOOL_FAILED = 1, /* what was asked for could not be done, or a check found something */
  TOOL_USAGE = 2   /* the command line is wrong */
};

typedef struct ToolCommand {
  const char *name;
  const char *arguments;
  const char *summary;
  int (*run) (int argc, char **argv);
} ToolCommand;

int tool_list (int argc, char **argv);
int tool_show (int argc, char **argv);
int tool_check (int argc, char **argv);
int tool_new (int argc, char **argv);
int tool_manifest (int argc, char **argv);

/* Prints "tenon-plugin: …" on stderr and returns @status. */
int tool_fail (int status, const char *format, ...) TN_PRINTF (2, 3);
/* The same with the text of @error, which it frees. */
int tool_fail_error (GError *error);

/* Looks through the options of a sub-command: sets *json when --output=json is there, and moves the other
 * arguments to the front.  The number of those, or -1 after having reported a wrong option. */
int tool_arguments (int argc, char **argv, bool *json);

/* Spelling of TnKind, TnSecurity, TnOptionType and TnOptionWhen; g_free() the last. */
const char *tool_kind_name (unsigned kind);
const char *tool_security_name (uint32_t security);
const char *tool_option_type_name (unsigned type);
char *tool_option_when (uint32_t when);

#endif
