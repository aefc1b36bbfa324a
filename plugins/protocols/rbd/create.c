/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Creating and removing, as the core asks for it. */
#include "rbd.h"

#define SMALLEST_OBJECT 4096
#define LARGEST_OBJECT (32u << 20)

typedef struct Making {
  RbdPlace place;
  uint64_t size, object_size;
  bool remove;
  int rc;
  GError *error;
} Making;

static void
rbd_make_work (void *opaque)
{
  Making *making = opaque;
  RbdCluster cluster = { 0 };
  making->rc = rbd_cluster_open (&cluster, &making->place, false, &making->error);
  if (making->rc < 0)
    return;
  making->rc = making->remove ? rbd_image_remove (&cluster, &making->place, &making->error)
                              : rbd_image_make (&cluster, &making->place, making->size, making->object_size,
                                                &making->error);
  rbd_cluster_close (&cluster);
}

static int
rbd_read_object_size (Making *making, const TnOptions *options, GError **error)
{
  const char *given = tn_options_has (options, "object-size") ? "object-size" : "cluster_size";
  if (!tn_options_has (options, given))
    return 0;
  making->object_size = tn_options_uint (options, given);
  if (making->object_size < SMALLEST_OBJECT || making->object_size > LARGEST_OBJECT
      || (making->object_size & (making->object_size - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "%s of protocol 'rbd' has to be a power of two from 4k to 32M", given);
  return 0;
}

static int
rbd_make (Making *making, const TnOptions *options, GError **error)
{
  int rc = rbd_place_read (&making->place, options, error);
  if (rc == 0)
    rc = rbd_read_object_size (making, options, error);
  if (rc == 0) {
    rbd_work_and_wait (rbd_make_work, making);
    rc = making->rc;
  }
  if (making->error)
    g_propagate_error (error, making->error);
  rbd_place_clear (&making->place);
  return rc;
}

int
rbd_create_node (const TnOptions *options, uint64_t size, GError **error)
{
  Making making = { .size = size };
  return rbd_make (&making, options, error);
}

int
rbd_remove_node (const TnOptions *options, GError **error)
{
  Making making = { .remove = true };
  return rbd_make (&making, options, error);
}
