/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of sdk/examples, carried in the program. */
#ifndef TENON_PLUGIN_SKELETONS_H
#define TENON_PLUGIN_SKELETONS_H

#include <stddef.h>

typedef struct ToolSkeleton {
  const char *kind;      /* "format" */
  const char *file_name; /* "example.c" */
  const char *text;
} ToolSkeleton;

/* Ended by a NULL kind. */
extern const ToolSkeleton tool_skeletons[];

#endif
