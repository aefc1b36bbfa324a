/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sub-commands of tenon-plugin. */
#ifndef TENON_PLUGIN_TOOL_H
#define TENON_PLUGIN_TOOL_H

#include "cli.h"

#include <tenon/plugin.h>

/* Exit statuses. */
enum {
  TOOL_OK = 0,
  TOOL_FAILED = 1 /* what was asked for could not be done, or a check found something */
};

extern const CliCommand plugin_list, plugin_show, plugin_manual, plugin_check, plugin_new, plugin_manifest;

/* The plugin that @name means: its own name, a class's name or alias, or a path; loaded. */
const TnPlugin *tool_find_plugin (const char *name, GError **error);

/* Spelling of TnKind, TnSecurity, TnOptionType and TnOptionWhen; g_free() the last. */
const char *tool_kind_name (unsigned kind);
const char *tool_security_name (uint32_t security);
const char *tool_option_type_name (unsigned type);
char *tool_option_when (uint32_t when);

#endif
