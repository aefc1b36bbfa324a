/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The JSON text of a version 2 header with key slots added and removed; everything else stays as it is, known
 * or not. */
#include "luks2.h"

typedef struct Edit {
  TnJson *json;
  GPtrArray *names; /* of the objects and arrays around */
  unsigned skipped; /* depth within something that is left out */
  uint32_t removed;
  const Luks2Added *added;
} Edit;

static const char *
outer (const Edit *edit, guint depth)
{
  return depth < edit->names->len ? g_ptr_array_index (edit->names, depth) : "";
}

/* Whether @text is the number of a slot in @slots. */
static bool
is_one_of (const char *text, uint32_t slots)
{
  guint64 id;
  return text && g_ascii_string_to_unsigned (text, 10, 0, LUKS2_SLOTS - 1, &id, NULL) && (slots >> id & 1);
}

/* Within the slots that a digest or a token is for. */
static bool
in_slot_list (const Edit *edit)
{
  return edit->names->len == 4 && strcmp (outer (edit, 3), "keyslots") == 0
         && (strcmp (outer (edit, 1), "digests") == 0 || strcmp (outer (edit, 1), "tokens") == 0);
}

static void
begin (Edit *edit, TnJsonType type, const char *name)
{
  if (edit->names->len == 2 && strcmp (outer (edit, 1), "keyslots") == 0 && is_one_of (name, edit->removed)) {
    edit->skipped = 1;
    return;
  }
  if (type == TN_JSON_OBJECT_BEGIN)
    tn_json_object_begin (edit->json, name);
  else
    tn_json_array_begin (edit->json, name);
  g_ptr_array_add (edit->names, g_strdup (name ? name : ""));
}

/* What has been added stands at the end of its surroundings. */
static void
end (Edit *edit, TnJsonType type)
{
  const Luks2Added *added = edit->added;
  char id[12] = "", digest[12] = "";
  if (added) {
    g_snprintf (id, sizeof id, "%u", added->id);
    g_snprintf (digest, sizeof digest, "%u", added->digest);
  }
  if (added && in_slot_list (edit) && strcmp (outer (edit, 1), "digests") == 0
      && strcmp (outer (edit, 2), digest) == 0)
    tn_json_string (edit->json, NULL, id);
  if (added && edit->names->len == 2 && strcmp (outer (edit, 1), "keyslots") == 0)
    luks2_write_slot (edit->json, id, &added->slot, added->encryption);
  if (type == TN_JSON_OBJECT_END)
    tn_json_object_end (edit->json);
  else
    tn_json_array_end (edit->json);
  g_ptr_array_set_size (edit->names, (gint) edit->names->len - 1);
}

static void
copy_value (TnJson *json, TnJsonType type, const char *name, const char *value)
{
  if (type == TN_JSON_STRING)
    tn_json_string (json, name, value);
  else if (type == TN_JSON_INT && *value == '-')
    tn_json_int (json, name, g_ascii_strtoll (value, NULL, 10));
  else if (type == TN_JSON_INT)
    tn_json_uint (json, name, g_ascii_strtoull (value, NULL, 10));
  else if (type == TN_JSON_DOUBLE)
    tn_json_double (json, name, g_ascii_strtod (value, NULL));
  else if (type == TN_JSON_BOOL)
    tn_json_bool (json, name, strcmp (value, "true") == 0);
  else
    tn_json_null (json, name);
}

static int
on_event (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Edit *edit = opaque;
  const bool begins = type == TN_JSON_OBJECT_BEGIN || type == TN_JSON_ARRAY_BEGIN,
             ends = type == TN_JSON_OBJECT_END || type == TN_JSON_ARRAY_END;
  if (edit->skipped) {
    edit->skipped += begins;
    edit->skipped -= ends;
  } else if (begins) {
    begin (edit, type, name);
  } else if (ends) {
    end (edit, type);
  } else if (edit->names->len == 3 && strcmp (outer (edit, 1), "keyslots") == 0
             && g_strcmp0 (name, "type") == 0 && g_strcmp0 (value, "luks2") != 0) {
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "LUKS: key slot %s is of type '%.32s', whose owner must change it", outer (edit, 2),
                    value ? value : "");
  } else if (!in_slot_list (edit) || !is_one_of (value, edit->removed)) {
    copy_value (edit->json, type, name, value);
  }
  return 0;
}

int
luks2_edit (const char *text, uint32_t removed, const Luks2Added *added, GString **out, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  GString *edited = g_string_new (NULL);
  Edit edit = { .json = tn_json_new (edited, false), .names = names, .removed = removed, .added = added };
  const int rc = tn_json_read (text, on_event, &edit, error);
  tn_json_free (edit.json);
  if (rc < 0) {
    g_string_free (edited, TRUE);
    return rc;
  }
  *out = edited;
  return 0;
}
