/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder of plugins: which manifests stand in it, and what they say. */
#ifndef TN_PLUGIN_DIRECTORY_H
#define TN_PLUGIN_DIRECTORY_H

#include <tenon/plugin.h>

typedef struct TnDirectory {
  char *path;       /* absolute */
  GPtrArray *names; /* of the manifests, sorted; NULL: not listed yet */
  bool trusted;     /* its own permissions were found good */
  bool optional;    /* it need not exist */
} TnDirectory;

TnDirectory *tn_directory_new (const char *path);
void tn_directory_free (TnDirectory *directory);

/* Checks, once, whether the folder may be used. */
int tn_directory_check (TnDirectory *directory, GError **error);

/* Lists the folder, unless that was done and @again is false.  It must have been checked. */
int tn_directory_list (TnDirectory *directory, bool again, GError **error);

/* The path of the file @name in the folder; g_free() it. */
char *tn_directory_path (const TnDirectory *directory, const char *name);

/* Reads the file at @path into @buffer of @size bytes: its length, -ENOENT without an error when there is
 * none, or another failure.  A longer file is an error. */
ssize_t tn_file_read (const char *path, char *buffer, size_t size, GError **error);

#endif
