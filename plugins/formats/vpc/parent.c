/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which image a differencing one is based on. */
#include "vpc.h"

#include <sys/stat.h>

#include "../common/utf16.h"
#include "../common/windows-path.h"

#define MAX_LOCATOR 4096u

/* ---- Names ---- */

/* What a locator says, as a path below the image's folder, or NULL. */
static char *
vpc_locator_path (Vpc *v, const VpcLocator *locator)
{
  uint8_t bytes[MAX_LOCATOR + 1];
  const uint64_t file_size = tn_node_size (v->file);
  if (locator->length == 0 || locator->length > MAX_LOCATOR || locator->offset > file_size
      || locator->length > file_size - locator->offset
      || tn_node_read (v->file, locator->offset, bytes, locator->length, NULL) < 0)
    return NULL;
  bytes[locator->length] = 0;
  g_autofree char *path = NULL;
  if (strcmp (locator->platform, "W2ru") == 0 || strcmp (locator->platform, "W2ku") == 0)
    path = utf16_to_utf8 (bytes, locator->length, false);
  else if (strcmp (locator->platform, "MacX") == 0)
    path = g_uri_unescape_string ((const char *) bytes, "/");
  else if (strcmp (locator->platform, "Wi2r") == 0 || strcmp (locator->platform, "Wi2k") == 0)
    path = g_strdup ((const char *) bytes);
  return path && g_utf8_validate (path, -1, NULL) ? windows_path_beside (path) : NULL;
}

static void
vpc_add_candidate (GPtrArray *names, char *name)
{
  if (name)
    g_ptr_array_add (names, name);
}

/* Relative names first, then the last components of absolute ones, then the name in the header. */
static GPtrArray *
vpc_candidates (Vpc *v)
{
  static const char *const platforms[] = { "W2ru", "Wi2r", "W2ku", "MacX", "Wi2k" };
  GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
  for (unsigned i = 0; i < G_N_ELEMENTS (platforms); i++)
    for (unsigned j = 0; j < VPC_LOCATORS; j++)
      if (strcmp (v->locators[j].platform, platforms[i]) == 0)
        vpc_add_candidate (names, vpc_locator_path (v, &v->locators[j]));
  if (v->parent_name)
    vpc_add_candidate (names, windows_path_beside (v->parent_name));
  return names;
}

void
vpc_name_parent (Vpc *v, uint32_t flags)
{
  const bool may_look = !(flags & (TN_OPEN_NO_IO | TN_OPEN_UNTRUSTED | TN_OPEN_NO_BACKING));
  g_autoptr (GPtrArray) names = vpc_candidates (v);
  guint chosen = 0;
  while (may_look && chosen < names->len
         && !windows_path_exists (tn_node_filename (v->node), g_ptr_array_index (names, chosen)))
    chosen++;
  if (names->len)
    tn_node_set_backing (v->node, g_ptr_array_index (names, chosen < names->len ? chosen : 0), "vpc");
}

/* ---- Is it the right one? ---- */

static int
vpc_check_identity (const Vpc *v, const Vpc *parent, GError **error)
{
  struct stat status;
  if (memcmp (parent->footer.uuid, v->parent_uuid, 16) != 0)
    return vpc_fail (v, error, EINVAL, "'%s' is not its parent: the UUIDs differ",
                     tn_node_filename (parent->file));
  if (!v->check_parent_time || v->parent_time == parent->footer.time_stamp)
    return 0;
  if (stat (tn_node_filename (parent->file), &status) == 0 && vpc_time (status.st_mtime) == v->parent_time)
    return 0;
  return vpc_fail (v, error, EINVAL,
                   "its parent '%s' has been changed since: the time stamps differ (check_parent_time=off "
                   "opens it all the same)",
                   tn_node_filename (parent->file));
}

int
vpc_check_parent (Vpc *v, uint32_t flags, GError **error)
{
  TnNode *parent = tn_node_child (v->node, "backing");
  if (v->parent_known || (tn_node_open_flags (v->node) & TN_OPEN_NO_BACKING))
    return 0;
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  if (!parent)
    return vpc_fail (v, error, EINVAL,
                     "it is a differencing image, which needs its parent: name it with "
                     "backing.driver=vpc,backing.file.filename=FILE");
  if (tn_node_class (parent) == tn_node_class (v->node)) {
    const int ret = vpc_check_identity (v, tn_node_state (parent), error);
    if (ret < 0)
      return ret;
  }
  v->parent_known = true;
  return 0;
}
