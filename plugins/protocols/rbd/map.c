/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where data is, and what `info` tells. */
#include "rbd.h"

#include <tenon/json.h>

#define FOUND (-9000) /* ends the walk through the objects; no errno */
#define MAX_SNAPSHOTS 65536

/* ---- Where data is ---- */

typedef struct RbdSearch {
  RbdClient *client;
  uint64_t offset, end;          /* asked for; at the ends of objects */
  uint64_t data_begin, data_end; /* the first run of data that ends behind @offset */
  uint64_t wanted;
  int rc;
} RbdSearch;

static int
rbd_meet_data (uint64_t offset, size_t length, int exists, void *opaque)
{
  RbdSearch *search = opaque;
  if (!exists || offset + length <= search->wanted)
    return 0;
  if (search->data_end == 0) {
    search->data_begin = offset;
    search->data_end = offset + length;
    return offset > search->wanted ? FOUND : 0;
  }
  if (offset > search->data_end)
    return FOUND;
  search->data_end = MAX (search->data_end, offset + length);
  return 0;
}

static void
rbd_search_work (void *opaque)
{
  RbdSearch *search = opaque;
  const int rc = rbd_diff_iterate2 (search->client->image.handle, NULL, search->offset,
                                    search->end - search->offset, 0, 1, rbd_meet_data, search);
  search->rc = rc == FOUND ? 0 : rc;
}

/* librbd before 1.17 gets the offsets wrong where it does not begin with an object. */
static int
rbd_look (RbdClient *client, uint64_t offset, uint64_t size, TnExtent *extent)
{
  const uint64_t object = client->image.object_size;
  RbdSearch search = { .client = client, .offset = offset - offset % object, .end = size, .wanted = offset };
  rbd_work_and_wait (rbd_search_work, &search);
  if (search.rc < 0)
    return search.rc;
  const bool data = search.data_end && search.data_begin <= offset;
  const uint64_t end = data ? search.data_end : search.data_end ? search.data_begin : size;
  *extent = (TnExtent){ .offset = offset,
                        .length = MIN (end, size) - offset,
                        .kind = data ? TN_EXTENT_DATA : TN_EXTENT_ZERO,
                        .flags = client->image.writable ? TN_EXTENT_WRITABLE : 0,
                        .source_offset = offset };
  return 0;
}

int
rbd_map_find (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error)
{
  RbdClient *client = rbd_client_of (node);
  const uint64_t size = MIN (rbd_size_now (client), tn_node_size (node));
  if (!client->image.maps || offset >= size) {
    *extent = (TnExtent){ .length = MAX (tn_node_size (node), offset + length),
                          .kind = TN_EXTENT_DATA,
                          .flags = client->image.writable ? TN_EXTENT_WRITABLE : 0 };
    return 0;
  }
  if ((flags & TN_MAP_NOWAIT) || !tn_co_self ())
    return -EAGAIN;
  const int rc = rbd_look (client, offset, size, extent);
  return rc < 0
             ? tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-rc, 4095), "the %s does not say where %s has data",
                              client->cluster.where, client->place.name)
             : 0;
}

/* ---- What there is to tell ---- */

typedef struct RbdFacts {
  RbdClient *client;
  GString *text;
} RbdFacts;

static void
rbd_tell_features (TnJson *json, rbd_image_t image)
{
  uint64_t features;
  size_t length = 1024;
  g_autofree char *names = g_malloc0 (length);
  if (rbd_get_features (image, &features) < 0 || rbd_features_to_string (features, names, &length) < 0)
    return;
  g_auto (GStrv) list = g_strsplit (names, ",", -1);
  tn_json_array_begin (json, "features");
  for (char **name = list; *name; name++)
    tn_json_string (json, NULL, *name);
  tn_json_array_end (json);
}

static void
rbd_tell_parent (TnJson *json, rbd_image_t image)
{
  rbd_linked_image_spec_t parent;
  rbd_snap_spec_t snapshot;
  if (rbd_get_parent (image, &parent, &snapshot) < 0)
    return;
  const bool space = parent.pool_namespace && *parent.pool_namespace;
  g_autofree char *name =
      g_strdup_printf ("%s/%s%s%s@%s", parent.pool_name, space ? parent.pool_namespace : "", space ? "/" : "",
                       parent.image_name, snapshot.name);
  tn_json_string (json, "parent", name);
  rbd_linked_image_spec_cleanup (&parent);
  rbd_snap_spec_cleanup (&snapshot);
}

/* The list may become longer while it is asked for. */
static rbd_snap_info_t *
rbd_snapshots (rbd_image_t image, int *n)
{
  int room = 64, rc;
  rbd_snap_info_t *list = g_new0 (rbd_snap_info_t, (gsize) room);
  while ((*n = room, rc = rbd_snap_list (image, list, n)) == -ERANGE && *n > room && *n < MAX_SNAPSHOTS) {
    room = *n;
    g_free (list);
    list = g_new0 (rbd_snap_info_t, (gsize) room);
  }
  if (rc >= 0) {
    *n = rc;
    return list;
  }
  g_free (list);
  return NULL;
}

static void
rbd_tell_snapshots (TnJson *json, rbd_image_t image)
{
  int n;
  rbd_snap_info_t *list = rbd_snapshots (image, &n);
  if (!list)
    return;
  tn_json_array_begin (json, "snapshots");
  for (int i = 0; i < n; i++) {
    tn_json_object_begin (json, NULL);
    tn_json_uint (json, "id", list[i].id);
    tn_json_string (json, "name", list[i].name);
    tn_json_uint (json, "virtual-size", list[i].size);
    tn_json_object_end (json);
  }
  tn_json_array_end (json);
  if (n > 0)
    rbd_snap_list_end (list);
  g_free (list);
}

static void
rbd_tell (void *opaque)
{
  RbdFacts *facts = opaque;
  rbd_image_t image = facts->client->image.handle;
  g_autoptr (TnJson) json = tn_json_new (facts->text, false);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "object-size", facts->client->image.object_size);
  rbd_tell_features (json, image);
  rbd_tell_parent (json, image);
  rbd_tell_snapshots (json, image);
  tn_json_object_end (json);
}

char *
rbd_map_info (TnNode *node, GError **error)
{
  RbdFacts facts = { rbd_client_of (node), g_string_new (NULL) };
  rbd_work_and_wait (rbd_tell, &facts);
  return g_string_free (facts.text, FALSE);
}
