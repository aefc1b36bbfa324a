/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening images as the options shared by all commands say. */
#ifndef TENON_TOOLS_IMAGE_H
#define TENON_TOOLS_IMAGE_H

#include "cli.h"

#include <tenon/drive.h>
#include <tenon/node.h>

/* A cache mode as a tool uses it. */
typedef struct CliCache {
  TnCacheMode mode;
  uint32_t open_flags;  /* TnOpenFlags */
  uint32_t write_flags; /* TnRequestFlags for writes: FUA when there is to be no write cache */
} CliCache;

/* The mode that option @name ("cache" or "source-cache") holds, or @fallback when it is absent. */
int cli_cache (const CliArgs *args, const char *name, TnCacheMode fallback, CliCache *cache, GError **error);

/* Defines what every --object says; kinds that Tenon has no use for are refused. */
int cli_define_objects (const CliArgs *args, GError **error);

/* Opens @name, which is key=value options when @image_opts.  @format may be NULL (probe), also @more, options
 * for the top node.  -U and --untrusted of @args are obeyed.  The error names the image. */
int cli_open_as (const CliArgs *args, const char *name, bool image_opts, const char *format,
                 const TnOptions *more, uint32_t flags, TnNode **node, GError **error);
/* As the command's own -f and --image-opts say. */
int cli_open (const CliArgs *args, const char *name, uint32_t flags, TnNode **node, GError **error);
/* Closes a node that has been written, reporting what could not be stored: @status, or EXIT_FAILURE on an
 * error. */
int cli_close (CliArgs *args, TnNode *node, int status);

/* Whether @format names a format class (-O, -f); the error lists or suggests. */
int cli_find_format (const char *format, const TnClass **found, GError **error);
/* Is @text a request for the list of what may be given: "help" or "?" */
bool cli_is_help (const char *text);
/* Prints the options of class @format that apply at @when (TnOptionWhen bits). */
int cli_print_options (CliArgs *args, const TnClass *const *classes, unsigned n, uint32_t when);
/* Prints the names of all formats. */
int cli_print_formats (CliArgs *args);
/* Do both paths lead to the same file? */
bool cli_same_file (const char *a, const char *b);

#endif
