/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Media that can be taken out. */
#include "block/internal.h"

typedef struct Medium {
  bool on; /* for eject and lock */
  int (*call) (TnNode *drive, const struct Medium *medium, GError **error);
} Medium;

static int
is_inserted (TnNode *drive, const Medium *medium, GError **error)
{
  return drive->protocol.is_inserted (drive, error);
}

static int
medium_changed (TnNode *drive, const Medium *medium, GError **error)
{
  return drive->protocol.medium_changed ? drive->protocol.medium_changed (drive, error)
                                        : tn_node_unsupported (drive, "telling of exchanged media", error);
}

static int
eject (TnNode *drive, const Medium *medium, GError **error)
{
  return drive->protocol.eject ? drive->protocol.eject (drive, medium->on, error)
                               : tn_node_unsupported (drive, "ejecting", error);
}

static int
lock_medium (TnNode *drive, const Medium *medium, GError **error)
{
  return drive->protocol.lock_medium ? drive->protocol.lock_medium (drive, medium->on, error)
                                     : tn_node_unsupported (drive, "locking its medium", error);
}

static TnNode *
find_drive (TnNode *node)
{
  while (node && (node->is_format || !node->protocol.is_inserted))
    node = node->file;
  return node;
}

static int
medium_main (TnNode *drive, void *opaque, GError **error)
{
  const Medium *medium = opaque;
  return medium->call (drive, medium, error);
}

static int
call_drive (TnNode *node, Medium *medium, GError **error)
{
  TnNode *drive = find_drive (node);
  if (!drive)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: is not in a drive whose medium can be taken out",
                    tn_node_filename (node));
  return tn_node_co_run (drive, medium_main, medium, error);
}

int
tn_node_is_inserted (TnNode *node, GError **error)
{
  Medium medium = { .call = is_inserted };
  return find_drive (node) ? call_drive (node, &medium, error) : 1;
}

int
tn_node_medium_changed (TnNode *node, GError **error)
{
  Medium medium = { .call = medium_changed };
  return call_drive (node, &medium, error);
}

int
tn_node_eject (TnNode *node, bool open, GError **error)
{
  Medium medium = { .on = open, .call = eject };
  return tn_failure (call_drive (node, &medium, error));
}

int
tn_node_lock_medium (TnNode *node, bool locked, GError **error)
{
  Medium medium = { .on = locked, .call = lock_medium };
  return tn_failure (call_drive (node, &medium, error));
}
