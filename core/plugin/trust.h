/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose files may become code of this process. */
#ifndef TN_PLUGIN_TRUST_H
#define TN_PLUGIN_TRUST_H

#include <sys/stat.h>

#include <tenon/error.h>

/* Refuses a file or folder that someone other than its owner may write, or whose owner is neither root nor
 * the effective user.  The error names @path and the command that cures it. */
int tn_trust_check_stat (const char *path, const struct stat *st, GError **error);
/* The same for what stands at @path, following symbolic links. */
int tn_trust_check_path (const char *path, GError **error);

#endif
