/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands of monitors. */
#include <config.h>

#include "monitor.h"

#include <tenon/object.h>

typedef struct Command {
  Daemon *daemon;
  TnOptions *arguments;
  TnJson *json; /* where the answer goes when it has succeeded: one value called "return" */
  bool *capable;
  bool answered;
} Command;

static void
answer_nothing (Command *command)
{
  tn_json_object_begin (command->json, "return");
  tn_json_object_end (command->json);
}

/* The text of argument @name, which has to be there. */
static int
need (const Command *command, const char *name, const char **value, GError **error)
{
  *value = tn_options_get (command->arguments, name);
  return *value ? 0 : tn_fail (error, TN_OPTION_ERROR, EINVAL, "Parameter '%s' is missing", name);
}

/* ---- The monitor itself ---- */

static int
capabilities (Command *command, GError **error)
{
  *command->capable = true;
  return 0;
}

static void
write_version (TnJson *json, const char *name)
{
  static const char *const places[] = { "major", "minor", "micro" };
  g_auto (GStrv) numbers = g_strsplit (PACKAGE_VERSION ".0.0", ".", -1);
  tn_json_object_begin (json, name);
  tn_json_object_begin (json, "qemu");
  for (size_t i = 0; i < G_N_ELEMENTS (places); i++)
    tn_json_uint (json, places[i], g_ascii_strtoull (numbers[i], NULL, 10));
  tn_json_object_end (json);
  tn_json_string (json, "package", "Tenon " PACKAGE_VERSION);
  tn_json_object_end (json);
}

static int
query_version (Command *command, GError **error)
{
  write_version (command->json, "return");
  command->answered = true;
  return 0;
}

static int
quit (Command *command, GError **error)
{
  tn_loop_quit (command->daemon->loop);
  return 0;
}

/* ---- Nodes ---- */

static int
blockdev_add (Command *command, GError **error)
{
  return daemon_blockdev_add (command->daemon, command->arguments, error);
}

static int
blockdev_del (Command *command, GError **error)
{
  const char *name;
  const int rc = need (command, "node-name", &name, error);
  return rc < 0 ? rc : daemon_blockdev_del (command->daemon, name, error);
}

static int
query_nodes (Command *command, GError **error)
{
  daemon_list_nodes (command->daemon, command->json);
  command->answered = true;
  return 0;
}

static int
block_resize (Command *command, GError **error)
{
  const char *name, *text;
  uint64_t size;
  int rc = need (command, "node-name", &name, error);
  if (rc == 0)
    rc = need (command, "size", &text, error);
  if (rc < 0)
    return rc;
  if (tn_parse_size (text, &size, NULL) < 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' is not a size", text);
  return daemon_resize (command->daemon, name, size, error);
}

/* "KIND,id=…,key=value", commas doubled within values. */
static char *
object_text (const TnOptions *arguments)
{
  GString *text = g_string_new (tn_options_get (arguments, "qom-type"));
  for (size_t i = 0; i < tn_options_count (arguments); i++) {
    const char *key, *value;
    tn_options_pair (arguments, i, &key, &value);
    if (strcmp (key, "qom-type") == 0)
      continue;
    g_auto (GStrv) parts = g_strsplit (value, ",", -1);
    g_autofree char *doubled = g_strjoinv (",,", parts);
    g_string_append_printf (text, ",%s=%s", key, doubled);
  }
  return g_string_free (text, FALSE);
}

static int
object_add (Command *command, GError **error)
{
  const char *kind, *id;
  int rc = need (command, "qom-type", &kind, error);
  if (rc == 0)
    rc = need (command, "id", &id, error);
  if (rc < 0)
    return rc;
  g_autofree char *text = object_text (command->arguments);
  return tn_object_define (text, error);
}

/* ---- Exports ---- */

static int
export_add (Command *command, GError **error)
{
  return daemon_export_add (command->daemon, command->arguments, error);
}

static int
export_del (Command *command, GError **error)
{
  const char *id, *mode = tn_options_get (command->arguments, "mode");
  const int rc = need (command, "id", &id, error);
  if (rc < 0)
    return rc;
  if (mode && strcmp (mode, "safe") != 0 && strcmp (mode, "hard") != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "mode is safe or hard, not '%s'", mode);
  return daemon_export_del (command->daemon, id, mode && strcmp (mode, "hard") == 0, error);
}

static int
query_exports (Command *command, GError **error)
{
  daemon_list_exports (command->daemon, command->json);
  command->answered = true;
  return 0;
}

static int
nbd_start (Command *command, GError **error)
{
  return daemon_nbd_start (command->daemon, command->arguments, error);
}

static int
nbd_stop (Command *command, GError **error)
{
  return daemon_nbd_stop (command->daemon, error);
}

/* ---- All of them ---- */

static int query_commands (Command *command, GError **error);

static const struct {
  const char *name;
  int (*run) (Command *command, GError **error);
} commands[] = {
  { "qmp_capabilities", capabilities },
  { "query-version", query_version },
  { "query-commands", query_commands },
  { "query-named-block-nodes", query_nodes },
  { "query-block-exports", query_exports },
  { "blockdev-add", blockdev_add },
  { "blockdev-del", blockdev_del },
  { "block_resize", block_resize },
  { "block-export-add", export_add },
  { "block-export-del", export_del },
  { "nbd-server-start", nbd_start },
  { "nbd-server-stop", nbd_stop },
  { "object-add", object_add },
  { "quit", quit },
};

static int
query_commands (Command *command, GError **error)
{
  tn_json_array_begin (command->json, "return");
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++) {
    tn_json_object_begin (command->json, NULL);
    tn_json_string (command->json, "name", commands[i].name);
    tn_json_object_end (command->json);
  }
  tn_json_array_end (command->json);
  command->answered = true;
  return 0;
}

/* *class tells clients what kind of error it is. */
static int
execute (Command *command, const char *name, const char **class, GError **error)
{
  *class = "CommandNotFound";
  if (!*command->capable && strcmp (name, "qmp_capabilities") != 0)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "Expecting capabilities negotiation with 'qmp_capabilities'");
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++)
    if (strcmp (commands[i].name, name) == 0) {
      *class = "GenericError";
      return commands[i].run (command, error);
    }
  return tn_fail (error, TN_OPTION_ERROR, ENOENT, "The command %s has not been found", name);
}

/* ---- Text ---- */

/* What tn_options_parse_json() forgets: the type of the id, which is given back as it was. */
typedef struct Id {
  unsigned depth;
  TnJsonType type;
  char *value;
} Id;

static int
find_id (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Id *id = opaque;
  if (type == TN_JSON_OBJECT_END || type == TN_JSON_ARRAY_END)
    id->depth--;
  if (id->depth == 1 && value && g_strcmp0 (name, "id") == 0) {
    id->type = type;
    id->value = g_strdup (value);
  }
  if (type == TN_JSON_OBJECT_BEGIN || type == TN_JSON_ARRAY_BEGIN)
    id->depth++;
  return 0;
}

static void
write_id (TnJson *json, const Id *id)
{
  if (id->value && id->type == TN_JSON_STRING)
    tn_json_string (json, "id", id->value);
  else if (id->value)
    tn_json_text (json, "id", id->value, NULL);
}

static void
write_error (TnJson *json, const char *class, const char *text)
{
  tn_json_object_begin (json, "error");
  tn_json_string (json, "class", class);
  tn_json_string (json, "desc", text);
  tn_json_object_end (json);
}

/* Takes @text apart and runs it.  The answer's value is complete then, or *error is set. */
static int
run_text (Command *command, const char *text, Id *id, const char **class, GError **error)
{
  g_autoptr (TnOptions) all = tn_options_new ();
  *class = "GenericError";
  int rc = tn_json_read (text, find_id, id, error);
  if (rc == 0)
    rc = tn_options_parse_json (all, text, error);
  if (rc < 0)
    return rc;
  const char *name = tn_options_get (all, "execute");
  if (!name)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "QMP input lacks member 'execute'");
  command->arguments = tn_options_take_prefix (all, "arguments");
  rc = execute (command, name, class, error);
  tn_options_free (command->arguments);
  return rc;
}

void
daemon_command (Daemon *daemon, const char *text, bool pretty, bool *capable, GString *out)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) answer = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (answer, pretty);
  Command command = { .daemon = daemon, .json = json, .capable = capable };
  const char *class;
  Id id = { 0 };
  tn_json_object_begin (json, NULL);
  if (run_text (&command, text, &id, &class, &error) < 0)
    write_error (json, class, error->message);
  else if (!command.answered)
    answer_nothing (&command);
  write_id (json, &id);
  tn_json_object_end (json);
  g_string_append_printf (out, "%s\r\n", answer->str);
  g_free (id.value);
}

void
daemon_greeting (bool pretty, GString *out)
{
  g_autoptr (TnJson) json = tn_json_new (out, pretty);
  tn_json_object_begin (json, NULL);
  tn_json_object_begin (json, "QMP");
  write_version (json, "version");
  tn_json_array_begin (json, "capabilities");
  tn_json_array_end (json);
  tn_json_object_end (json);
  tn_json_object_end (json);
  g_string_append (out, "\r\n");
}
