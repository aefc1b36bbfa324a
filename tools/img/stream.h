/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images that come from standard input or go to standard output. */
#ifndef TENON_TOOLS_IMG_STREAM_H
#define TENON_TOOLS_IMG_STREAM_H

#include "img.h"

/* Does @name mean standard input (output), and not a file or block device behind it that can be opened as
 * such? */
bool img_is_stdin (const char *name);
bool img_is_stdout (const char *name);

/* A temporary file without a name in any folder; *name (g_free() it) leads to it as long as *fd is open. */
int img_spool_make (int *fd, char **name, GError **error);
/* Fills it with all that comes from standard input. */
int img_spool_stdin (int fd, GError **error);

/* Writes to standard output; @data NULL: zeroes.  0 or an errno value, which img_stream_fail() explains. */
int img_stream_write (const void *data, uint64_t length);
int img_stream_fail (int errnum, GError **error);
/* Writes the whole file there. */
int img_stream_file (int fd, GError **error);

#endif
