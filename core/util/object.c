/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What users define with --object, other than secrets. */
#include <tenon/json.h>
#include <tenon/object.h>
#include <tenon/secret.h>

#define MAX_OBJECTS 4096

typedef struct Object {
  TnOptions *options;
  void *state; /* NULL until somebody asks */
  size_t size;
} Object;

static GMutex objects_lock;
static GHashTable *objects; /* "KIND ID" → Object */

static bool
is_kept (const char *kind)
{
  return g_strcmp0 (kind, "throttle-group") == 0;
}

static int
keep (const char *kind, TnOptions *options, GError **error)
{
  const char *id = tn_options_get (options, "id");
  if (!id || !*id)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--object %s needs id=NAME", kind);
  char *key = g_strdup_printf ("%s %s", kind, id);
  tn_options_set (options, "id", NULL);
  g_mutex_lock (&objects_lock);
  if (!objects)
    objects = g_hash_table_new (g_str_hash, g_str_equal);
  int rc = 0;
  if (g_hash_table_contains (objects, key)) {
    rc = tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is another object '%s' already", key);
  } else if (g_hash_table_size (objects) >= MAX_OBJECTS) {
    rc = tn_fail (error, TN_OPTION_ERROR, E2BIG, "more than %d objects are too many", MAX_OBJECTS);
  } else {
    Object *object = g_new0 (Object, 1);
    object->options = tn_options_copy (options);
    g_hash_table_insert (objects, g_steal_pointer (&key), object);
  }
  g_mutex_unlock (&objects_lock);
  g_free (key);
  return rc;
}

/* Of JSON, which may hold a secret, nothing is taken but the kind. */
static int
find_kind (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  char **kind = opaque;
  if (type == TN_JSON_STRING && g_strcmp0 (name, "qom-type") == 0 && !*kind)
    *kind = g_strdup (value);
  return 0;
}

static int
define_json (char *text, GError **error)
{
  g_autofree char *kind = NULL;
  g_autoptr (TnOptions) options = tn_options_new ();
  int rc = tn_json_read (text, find_kind, &kind, error);
  if (rc || !is_kept (kind))
    return rc ? rc : tn_secret_define_object (text, error);
  rc = tn_options_parse_json (options, text, error);
  tn_options_set (options, "qom-type", NULL);
  return rc ? rc : keep (kind, options, error);
}

int
tn_object_define (char *text, GError **error)
{
  if (*text == '{')
    return define_json (text, error);
  size_t length = strcspn (text, ",");
  g_autofree char *kind = g_strndup (text, length);
  if (!is_kept (kind))
    return tn_secret_define_object (text, error);
  g_autoptr (TnOptions) options = tn_options_new ();
  int rc = text[length] ? tn_options_parse (options, text + length + 1, NULL, error) : 0;
  return rc ? rc : keep (kind, options, error);
}

static int
make_state (Object *object, size_t size, TnObjectInit init, GError **error)
{
  void *made = g_malloc0 (size);
  int rc = init (made, object->options, error);
  if (rc) {
    g_free (made);
    return rc;
  }
  object->state = made;
  object->size = size;
  return 0;
}

int
tn_object_state (const char *kind, const char *id, size_t size, TnObjectInit init, void **state,
                 GError **error)
{
  g_autofree char *key = g_strdup_printf ("%s %s", kind, id);
  g_mutex_lock (&objects_lock);
  Object *object = objects ? g_hash_table_lookup (objects, key) : NULL;
  int rc = 0;
  if (!object)
    rc = tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no %s '%s': define it with --object %s,id=%s,…",
                  kind, id, kind, id);
  else if (!object->state)
    rc = make_state (object, size, init, error);
  else if (object->size != size)
    rc = tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s '%s' is in use by another version of its plugin", kind,
                  id);
  if (!rc)
    *state = object->state;
  g_mutex_unlock (&objects_lock);
  return rc;
}
