/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing passphrases. */
#include "luks.h"

static int
refuse_others (Luks *s, const TnOptions *options, GError **error)
{
  static const char *const known[] = { "state",     "keyslot", "new-secret", "old-secret",
                                       "iter-time", "force",   NULL };
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *name, *value;
    tn_options_pair (options, i, &name, &value);
    if (!g_strv_contains (known, name))
      return luks_fail (s, error, ENOTSUP, "%s cannot be changed: convert the image instead", name);
  }
  return 0;
}

int
luks_amend (TnNode *node, const TnOptions *options, GError **error)
{
  Luks *s = tn_node_state (node);
  LuksChange change;
  int rc = refuse_others (s, options, error);
  if (!rc)
    rc = luks_change_read (options, "", s->version == 1 ? LUKS1_SLOTS : LUKS2_SLOTS, &change, error);
  if (rc)
    return rc;
  g_autoptr (TnSecret) opened = s->secret_id ? tn_secret_get (s->secret_id, NULL) : NULL;
  rc = s->version == 1 ? luks1_change (s->header, 0, &change, opened, &s->v1, error)
                       : luks2_change (s->header, &s->v2, luks_is_detached (s), &change, opened, error);
  luks_change_clear (&change);
  if (rc && error && *error && !strstr ((*error)->message, tn_node_filename (s->header)))
    g_prefix_error (error, "%s: ", tn_node_filename (s->header));
  return rc;
}
