/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the machine needs of the block layer, where a build has none: every drive is refused.  Weak, so that
 * the block layer's own functions take their place. */
#include <tenon/drive.h>

#define WEAK __attribute__ ((weak))

WEAK int
tn_drive_open (const TnOptions *options, TnDrive **drive, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "this build has no block layer, leave drives out");
}

WEAK TnDrive *
tn_drive_new (TnNode *root, TnCacheMode cache, bool writable)
{
  return NULL;
}

WEAK void
tn_drive_free (TnDrive *drive)
{
}

WEAK void
tn_drive_stats (TnDrive *drive, TnDriveStats *stats)
{
}

WEAK int
tn_node_open (const TnOptions *options, uint32_t flags, TnNode **node, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "this build has no block layer, leave drives out");
}

WEAK void
tn_node_unref (TnNode *node)
{
}

WEAK TnNode *
tn_node_find (const char *name)
{
  return NULL;
}

WEAK uint32_t
tn_node_open_flags (TnNode *node)
{
  return 0;
}

WEAK bool
tn_node_is_read_only (TnNode *node)
{
  return true;
}
