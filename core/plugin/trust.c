/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/trust.h"

#include <unistd.h>

int
tn_trust_check_stat (const char *path, const struct stat *st, GError **error)
{
  if (st->st_mode & (S_IWGRP | S_IWOTH))
    return tn_fail (error, TN_PLUGIN_ERROR, EPERM,
                    "%s is not trusted: others than its owner can write it (mode %04o): run 'chmod go-w %s'",
                    path, (unsigned) st->st_mode & 07777, path);
  if (st->st_uid != 0 && st->st_uid != geteuid ())
    return tn_fail (
        error, TN_PLUGIN_ERROR, EPERM,
        "%s is not trusted: it belongs to user %u, neither to root nor to user %u: run 'chown %u %s'", path,
        (unsigned) st->st_uid, (unsigned) geteuid (), (unsigned) geteuid (), path);
  return 0;
}

int
tn_trust_check_path (const char *path, GError **error)
{
  struct stat st;
  if (stat (path, &st) < 0)
    return tn_fail_errno (error, TN_PLUGIN_ERROR, errno, "%s", path);
  return tn_trust_check_stat (path, &st, error);
}
