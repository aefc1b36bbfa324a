/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which image a differencing one is based on. */
#include "vhdx.h"

#include "../common/utf16.h"
#include "../common/windows-path.h"

#define ENTRY_SIZE 12u
#define MAX_ENTRIES 64u

static char *
vhdx_locator_text (const uint8_t *item, uint32_t length, uint32_t offset, uint16_t bytes)
{
  if (offset > length || bytes > length - offset)
    return NULL;
  return utf16_to_utf8 (item + offset, bytes, false);
}

/* Where the value of a key is to be kept, or NULL. */
static char **
vhdx_locator_slot (Vhdx *v, const char *key)
{
  static const char *const linkages[] = { "parent_linkage", "parent_linkage2" };
  static const char *const paths[] = { "relative_path", "absolute_win32_path", "volume_path" };
  for (unsigned i = 0; i < G_N_ELEMENTS (linkages); i++)
    if (strcmp (key, linkages[i]) == 0)
      return &v->parent_linkage[i];
  for (unsigned i = 0; i < G_N_ELEMENTS (paths); i++)
    if (strcmp (key, paths[i]) == 0)
      return &v->parent_paths[i];
  return NULL;
}

void
vhdx_parse_locator (Vhdx *v, const uint8_t *item, uint32_t length)
{
  const uint16_t count = tn_load_le16 (item + 18);
  if (memcmp (item, vhdx_guid_locator_type, 16) != 0)
    return;
  for (unsigned i = 0; i < MIN (count, MAX_ENTRIES) && 20 + (i + 1) * ENTRY_SIZE <= length; i++) {
    const uint8_t *entry = item + 20 + i * ENTRY_SIZE;
    g_autofree char *key = vhdx_locator_text (item, length, tn_load_le32 (entry), tn_load_le16 (entry + 8));
    g_autofree char *value =
        vhdx_locator_text (item, length, tn_load_le32 (entry + 4), tn_load_le16 (entry + 10));
    char **slot = key && value ? vhdx_locator_slot (v, key) : NULL;
    if (slot && !*slot)
      *slot = g_steal_pointer (&value);
  }
}

void
vhdx_name_parent (Vhdx *v, uint32_t flags)
{
  const bool may_look = !(flags & (TN_OPEN_NO_IO | TN_OPEN_UNTRUSTED | TN_OPEN_NO_BACKING));
  g_autofree char *first = NULL;
  for (unsigned i = 0; i < G_N_ELEMENTS (v->parent_paths); i++) {
    g_autofree char *name = v->parent_paths[i] ? windows_path_beside (v->parent_paths[i]) : NULL;
    if (!name)
      continue;
    if (may_look && windows_path_exists (tn_node_filename (v->node), name)) {
      tn_node_set_backing (v->node, name, "vhdx");
      return;
    }
    if (!first)
      first = g_steal_pointer (&name);
  }
  if (first)
    tn_node_set_backing (v->node, first, "vhdx");
}

/* A linkage is the GUID of the parent's contents, in braces. */
static bool
vhdx_is_linkage (const char *text, const uint8_t guid[16])
{
  char wanted[UUID_TEXT_SIZE];
  if (!text || strlen (text) != UUID_TEXT_SIZE + 1 || text[0] != '{')
    return false;
  uuid_to_text (guid, true, wanted);
  return g_ascii_strncasecmp (text + 1, wanted, UUID_TEXT_SIZE - 1) == 0;
}

int
vhdx_check_parent (Vhdx *v, uint32_t flags, GError **error)
{
  TnNode *parent = tn_node_child (v->node, "backing");
  if (v->parent_known || (tn_node_open_flags (v->node) & TN_OPEN_NO_BACKING))
    return 0;
  if (flags & TN_MAP_NOWAIT)
    return -EAGAIN;
  if (!parent)
    return vhdx_fail (v, error, EINVAL,
                      "it is a differencing image, which needs its parent: name it with "
                      "backing.driver=vhdx,backing.file.filename=FILE");
  if (tn_node_class (parent) == tn_node_class (v->node)) {
    const Vhdx *of = tn_node_state (parent);
    if (!vhdx_is_linkage (v->parent_linkage[0], of->header.data_guid)
        && !vhdx_is_linkage (v->parent_linkage[1], of->header.data_guid))
      return vhdx_fail (v, error, EINVAL,
                        "'%s' is not its parent, or has been written to since: the GUIDs differ",
                        tn_node_filename (parent));
  }
  v->parent_known = true;
  return 0;
}
