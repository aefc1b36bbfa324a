/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may come in, by id.  Users refer to these objects from anywhere, so there is one set per process, as
 * with secrets. */
#include "util/authz.h"

#define PREFIX "authz-"
#define MAX_OBJECTS 4096
#define SHOWN 256 /* bytes of a name in messages */

struct TnAuthz {
  char *id;
  char *identity;      /* authz-simple */
  TnAuthzRules *rules; /* authz-list */
  TnAuthzFile *file;   /* authz-listfile */
};

static GMutex objects_lock;
static GHashTable *objects; /* id → TnAuthz */

static const TnOption simple_options[] = {
  { "identity", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL,
    "the one name that may come in" },
  { NULL },
};

static const TnOption file_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "file of rules, in JSON" },
  { "refresh", TN_OPTION_BOOL, TN_OPTION_OPEN, "on", "read it again when it has changed" },
  { NULL },
};

/* ---- Kinds ---- */

static void
authz_free (gpointer data)
{
  TnAuthz *authz = data;
  if (authz->file)
    tn_authz_file_free (authz->file);
  tn_authz_rules_free (authz->rules);
  g_free (authz->identity);
  g_free (authz->id);
  g_free (authz);
}

static int
fill (TnAuthz *authz, const char *kind, TnOptions *options, const char *what, GError **error)
{
  if (strcmp (kind, "list") == 0)
    return tn_authz_rules_new (options, what, &authz->rules, error);
  const bool simple = strcmp (kind, "simple") == 0;
  if (!simple && strcmp (kind, "listfile") != 0)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "%s is not supported: use authz-simple, authz-list or authz-listfile", what);
  const int rc = tn_options_check (options, simple ? simple_options : file_options, sizeof (TnOption),
                                   TN_OPTION_OPEN, what, error);
  if (rc < 0)
    return rc;
  if (simple)
    authz->identity = g_strdup (tn_options_get (options, "identity"));
  else
    return tn_authz_file_new (tn_options_get (options, "filename"), tn_options_bool (options, "refresh"),
                              &authz->file, error);
  return 0;
}

/* ---- The set ---- */

static int
add (TnAuthz *authz, GError **error)
{
  g_mutex_lock (&objects_lock);
  if (!objects)
    objects = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, authz_free);
  const bool taken = g_hash_table_contains (objects, authz->id),
             full = g_hash_table_size (objects) >= MAX_OBJECTS;
  if (!taken && !full)
    g_hash_table_insert (objects, authz->id, authz);
  g_mutex_unlock (&objects_lock);
  if (taken)
    return tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is another authz object called '%s' already",
                    authz->id);
  return full
             ? tn_fail (error, TN_OPTION_ERROR, E2BIG, "more than %d authz objects are too many", MAX_OBJECTS)
             : 0;
}

int
tn_authz_define (const char *type, const TnOptions *options, GError **error)
{
  const char *kind = g_str_has_prefix (type, PREFIX) ? type + strlen (PREFIX) : type;
  g_autofree char *what = g_strdup_printf ("object '" PREFIX "%s'", kind);
  g_autoptr (TnOptions) rest = tn_options_copy (options);
  const char *id = tn_options_get (options, "id");
  if (!id || !*id)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--object " PREFIX "%s needs id=NAME", kind);
  TnAuthz *authz = g_new0 (TnAuthz, 1);
  authz->id = g_strdup (id);
  tn_options_set (rest, "id", NULL);
  int rc = fill (authz, kind, rest, what, error);
  if (rc == 0)
    rc = add (authz, error);
  if (rc < 0)
    authz_free (authz);
  return rc;
}

int
tn_authz_find (const char *id, TnAuthz **authz, GError **error)
{
  g_mutex_lock (&objects_lock);
  *authz = objects ? g_hash_table_lookup (objects, id) : NULL;
  g_mutex_unlock (&objects_lock);
  if (!*authz)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT,
                    "there is no authz object '%s': define it with --object authz-simple,id=%s,identity=NAME",
                    id, id);
  return (*authz)->file ? tn_authz_file_keep ((*authz)->file, error) : 0;
}

/* ---- Questions ---- */

/* A name comes from outside: nothing of it may look like another line. */
static char *
printable (const char *identity)
{
  g_autofree char *start = g_strndup (identity, SHOWN);
  char *valid = g_utf8_make_valid (start, -1);
  for (char *at = valid; *at; at++)
    if (g_ascii_iscntrl (*at))
      *at = '?';
  return valid;
}

static int
ask (TnAuthz *authz, const char *identity, bool *allowed, GError **error)
{
  if (!g_utf8_validate (identity, -1, NULL))
    *allowed = false;
  else if (authz->file)
    return tn_authz_file_allows (authz->file, identity, allowed, error);
  else if (authz->rules)
    *allowed = tn_authz_rules_allow (authz->rules, identity);
  else
    *allowed = strcmp (authz->identity, identity) == 0;
  return 0;
}

int
tn_authz_check (TnAuthz *authz, const char *identity, GError **error)
{
  bool allowed = false;
  g_autofree char *shown = printable (identity);
  if (ask (authz, identity, &allowed, error) < 0) {
    g_prefix_error (error, "authz object '%s' lets nobody in, such as '%s': ", authz->id, shown);
    return -EACCES;
  }
  return allowed ? 0
                 : tn_fail (error, TN_OPTION_ERROR, EACCES, "authz object '%s' does not let '%s' in",
                            authz->id, shown);
}
