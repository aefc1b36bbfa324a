/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `info` shows. */
#include "luks.h"

int
luks_info (TnNode *node, TnInfo *info, GError **error)
{
  info->encrypted = true;
  return 0;
}

char *
luks_info_specific (TnNode *node, GError **error)
{
  Luks *s = tn_node_state (node);
  GString *text = g_string_new (NULL);
  TnJson *json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_bool (json, "detached-header", luks_is_detached (s));
  if (s->version == 1)
    luks1_describe (&s->v1, json);
  else
    luks2_describe (s->v2, json);
  tn_json_object_end (json);
  tn_json_free (json);
  return g_string_free (text, FALSE);
}
