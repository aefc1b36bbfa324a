/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images: opening and closing, making and removing. */
#include "rbd.h"

#define IMAGE_FORMAT 2

static int
rbd_fail_image (const RbdCluster *cluster, const RbdPlace *place, int rc, const char *verb, GError **error)
{
  const int errnum = MIN (-rc, 4095);
  if (rc == -ENOENT)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "cannot %s %s: there is no such %s in pool '%s' of the %s",
                    verb, place->name, place->snapshot ? "image, or snapshot of it," : "image", place->pool,
                    cluster->where);
  if (rc == -EPERM || rc == -EACCES)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "cannot %s %s: client.%s lacks the right to, says the %s (check its caps)", verb,
                    place->name, place->user ? place->user : "admin", cluster->where);
  if (rc == -ETIMEDOUT)
    return tn_fail (error, TN_BLOCK_ERROR, ETIMEDOUT,
                    "cannot %s %s: the %s has not done it in time (option timeout)", verb, place->name,
                    cluster->where);
  return tn_fail_errno (error, TN_BLOCK_ERROR, errnum, "cannot %s %s at the %s", verb, place->name,
                        cluster->where);
}

/* ---- Opening ---- */

/* In a thread of librbd's, where it must not be asked anything. */
static void
rbd_image_changed (void *opaque)
{
  __atomic_store_n ((int *) opaque, 1, __ATOMIC_RELEASE);
}

/* The object map tells about whole objects, one after the other, and nothing about a parent. */
static bool
rbd_image_maps (rbd_image_t handle)
{
  uint64_t features, flags, stripes, overlap;
  return rbd_get_features (handle, &features) == 0 && (features & RBD_FEATURE_FAST_DIFF)
         && rbd_get_flags (handle, &flags) == 0
         && !(flags & (RBD_FLAG_FAST_DIFF_INVALID | RBD_FLAG_OBJECT_MAP_INVALID))
         && rbd_get_stripe_count (handle, &stripes) == 0 && stripes == 1
         && rbd_get_overlap (handle, &overlap) == 0 && overlap == 0;
}

static int
rbd_image_examine (RbdImage *image)
{
  rbd_image_info_t info;
  const int rc = rbd_stat (image->handle, &info, sizeof info);
  if (rc < 0)
    return rc;
  if (info.size > INT64_MAX || info.obj_size == 0)
    return -EOVERFLOW;
  image->size = info.size;
  image->object_size = info.obj_size;
  image->maps = rbd_image_maps (image->handle);
  return 0;
}

int
rbd_image_open (RbdImage *image, const RbdCluster *cluster, const RbdPlace *place, bool writable, int *stale,
                GError **error)
{
  *image = (RbdImage){ .writable = writable };
  if (writable && place->snapshot)
    return tn_fail (error, TN_BLOCK_ERROR, EROFS,
                    "%s is a snapshot, which can't be written: open it read-only", place->name);
  int rc = writable ? rbd_open (cluster->pool, place->image, &image->handle, NULL)
                    : rbd_open_read_only (cluster->pool, place->image, &image->handle, place->snapshot);
  if (rc < 0) {
    image->handle = NULL;
    return rbd_fail_image (cluster, place, rc, "open", error);
  }
  if (writable && stale)
    image->watched = rbd_update_watch (image->handle, &image->watch, rbd_image_changed, stale) == 0;
  rc = rbd_image_examine (image);
  if (rc < 0) {
    rbd_image_close (image);
    return rbd_fail_image (cluster, place, rc, "open", error);
  }
  return 0;
}

int
rbd_image_close (RbdImage *image)
{
  if (!image->handle)
    return 0;
  if (image->watched)
    rbd_update_unwatch (image->handle, image->watch);
  const int rc = rbd_close (image->handle);
  *image = (RbdImage){ 0 };
  return rc;
}

/* ---- Making ---- */

static int
rbd_image_create (const RbdCluster *cluster, const RbdPlace *place, uint64_t size, uint64_t object_size)
{
  rbd_image_options_t options;
  rbd_image_options_create (&options);
  int rc = rbd_image_options_set_uint64 (options, RBD_IMAGE_OPTION_FORMAT, IMAGE_FORMAT);
  if (rc == 0 && object_size)
    rc = rbd_image_options_set_uint64 (options, RBD_IMAGE_OPTION_ORDER,
                                       (uint64_t) __builtin_ctzll (object_size));
  if (rc == 0)
    rc = rbd_create4 (cluster->pool, place->image, size, options);
  rbd_image_options_destroy (options);
  return rc;
}

/* What is there keeps its snapshots and its kind of objects. */
static int
rbd_image_empty (const RbdCluster *cluster, const RbdPlace *place, uint64_t size, uint64_t object_size,
                 GError **error)
{
  RbdImage image;
  int rc = rbd_image_open (&image, cluster, place, true, NULL, error);
  if (rc < 0)
    return rc;
  const uint64_t present = image.object_size;
  const bool fits = !object_size || object_size == present;
  if (fits)
    rc = rbd_resize (image.handle, 0);
  if (fits && rc == 0 && size)
    rc = rbd_resize (image.handle, size);
  const int closed = rbd_image_close (&image);
  if (!fits)
    return tn_fail (error, TN_BLOCK_ERROR, EEXIST,
                    "%s is there already, with objects of %" G_GUINT64_FORMAT
                    " bytes: remove it first (rbd rm), "
                    "or leave the object size out",
                    place->name, present);
  rc = rc < 0 ? rc : closed;
  return rc < 0 ? rbd_fail_image (cluster, place, rc, "empty", error) : 0;
}

int
rbd_image_make (const RbdCluster *cluster, const RbdPlace *place, uint64_t size, uint64_t object_size,
                GError **error)
{
  if (place->snapshot)
    return tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "%s is a snapshot: an image is made by a name without '@'; snapshots by 'rbd snap create'",
        place->name);
  const int rc = rbd_image_create (cluster, place, size, object_size);
  if (rc == -EEXIST)
    return rbd_image_empty (cluster, place, size, object_size, error);
  return rc < 0 ? rbd_fail_image (cluster, place, rc, "create", error) : 0;
}

int
rbd_image_remove (const RbdCluster *cluster, const RbdPlace *place, GError **error)
{
  const int rc = rbd_remove (cluster->pool, place->image);
  return rc < 0 ? rbd_fail_image (cluster, place, rc, "remove", error) : 0;
}
