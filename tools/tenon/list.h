/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists for -M help, -device help, -device CLASS,help. */
#ifndef TENON_TOOL_LIST_H
#define TENON_TOOL_LIST_H

#include <tenon/plugin.h>

void tenon_list_boards (void);
int tenon_list_classes (TnKind kind, GError **error);
int tenon_list_options (TnKind kind, const char *name, GError **error);

#endif
