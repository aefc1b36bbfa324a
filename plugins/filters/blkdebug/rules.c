/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rules, from options such as inject-error.0.event=read_aio and from a configuration file. */
#include "blkdebug.h"

#include <stdio.h>

#define MAX_CONFIG (1 << 20)

static const char *const blkdebug_iotypes[] = { "read", "write", "write-zeroes", "discard", "flush", NULL };

/* In the order of blkdebug_iotypes. */
static const TnRequestOp blkdebug_operations[] = { TN_REQUEST_READ, TN_REQUEST_WRITE, TN_REQUEST_WRITE_ZEROES,
                                                   TN_REQUEST_DISCARD, TN_REQUEST_FLUSH };

static const TnOption blkdebug_inject_options[] = {
  { "event", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "when the rule comes into force" },
  { "state", TN_OPTION_UINT, TN_OPTION_OPEN, "0", "in which state; 0: in all", 0, INT32_MAX },
  { "iotype", TN_OPTION_ENUM, TN_OPTION_OPEN, NULL, "which requests fail (default: all)",
    .choices = blkdebug_iotypes },
  { "errno", TN_OPTION_UINT, TN_OPTION_OPEN, "5", "the error", 0, 4095 },
  { "sector", TN_OPTION_UINT, TN_OPTION_OPEN, NULL, "only requests with this sector", 0, INT64_MAX / 512 },
  { "once", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "the rule goes with the first error" },
  { "immediately", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "fail before the submitting call returns" },
  { NULL },
};

static const TnOption blkdebug_state_options[] = {
  { "event", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "when the state changes" },
  { "state", TN_OPTION_UINT, TN_OPTION_OPEN, "0", "from which state; 0: from any", 0, INT32_MAX },
  { "new_state", TN_OPTION_UINT, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "to which state", 0, INT32_MAX },
  { NULL },
};

void
blkdebug_rule_free (BlkdebugRule *rule)
{
  g_free (rule->tag);
  g_free (rule);
}

static uint32_t
blkdebug_iotype_bits (const char *name)
{
  uint32_t bits = 0;

  for (unsigned i = 0; blkdebug_iotypes[i] != NULL; i++)
    if (name == NULL || strcmp (name, blkdebug_iotypes[i]) == 0)
      bits |= 1u << blkdebug_operations[i];
  return bits;
}

static void
blkdebug_fill_inject (BlkdebugRule *rule, const TnOptions *options)
{
  rule->error = (int) tn_options_uint (options, "errno");
  rule->operations = blkdebug_iotype_bits (tn_options_get (options, "iotype"));
  rule->offset =
      tn_options_has (options, "sector") ? (int64_t) (tn_options_uint (options, "sector") * 512) : -1;
  rule->once = tn_options_bool (options, "once");
  rule->immediately = tn_options_bool (options, "immediately");
}

static int
blkdebug_add_rule (GPtrArray *rules, BlkdebugAction action, TnOptions *options, const char *what,
                   GError **error)
{
  const TnOption *table = action == BLKDEBUG_INJECT ? blkdebug_inject_options : blkdebug_state_options;
  BlkdebugRule *rule;
  const char *event;
  int number;
  int r = tn_options_check (options, table, sizeof *table, TN_OPTION_OPEN, what, error);

  if (r < 0)
    return r;
  event = tn_options_get (options, "event");
  number = blkdebug_event_number (event);
  if (number < 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: '%s' is not the name of an event", what, event);
  if (rules->len >= BLKDEBUG_MAX_RULES)
    return tn_fail (error, TN_BLOCK_ERROR, E2BIG, "%s: more than %d rules are too many", what,
                    BLKDEBUG_MAX_RULES);
  rule = g_new0 (BlkdebugRule, 1);
  rule->action = action;
  rule->event = number;
  rule->state = tn_options_uint (options, "state");
  if (action == BLKDEBUG_INJECT)
    blkdebug_fill_inject (rule, options);
  else
    rule->new_state = tn_options_uint (options, "new_state");
  g_ptr_array_add (rules, rule);
  return 0;
}

/* ---- From options ---- */

/* NAME.0.KEY, NAME.1.KEY …, without gaps. */
static int
blkdebug_read_list (GPtrArray *rules, TnOptions *options, const char *name, BlkdebugAction action,
                    GError **error)
{
  for (unsigned i = 0;; i++) {
    g_autofree char *prefix = g_strdup_printf ("%s.%u", name, i);
    g_autoptr (TnOptions) one = tn_options_take_prefix (options, prefix);
    int r;

    if (tn_options_count (one) == 0)
      return 0;
    r = blkdebug_add_rule (rules, action, one, prefix, error);
    if (r < 0)
      return r;
  }
}

static int
blkdebug_refuse_rest (const TnOptions *options, GError **error)
{
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;

    tn_options_pair (options, i, &key, &value);
    if (g_str_has_prefix (key, "inject-error.") || g_str_has_prefix (key, "set-state."))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "blkdebug: option '%s' stands alone: rules are numbered from 0 without gaps", key);
  }
  return 0;
}

/* ---- From a file ---- */

typedef struct BlkdebugConfig {
  const char *path;
  unsigned line;
  BlkdebugAction action; /* of the group that is being read, or 0 */
  unsigned begun;        /* the line where it began */
  TnOptions *group;
} BlkdebugConfig;

static int
blkdebug_end_group (BlkdebugConfig *config, GPtrArray *rules, GError **error)
{
  g_autofree char *what = g_strdup_printf ("%s:%u", config->path, config->begun);
  int r = 0;

  if (config->action != 0)
    r = blkdebug_add_rule (rules, config->action, config->group, what, error);
  tn_options_free (config->group);
  config->group = tn_options_new ();
  config->action = 0;
  return r;
}

static int
blkdebug_begin_group (BlkdebugConfig *config, GPtrArray *rules, const char *line, GError **error)
{
  int r = blkdebug_end_group (config, rules, error);

  if (r < 0)
    return r;
  config->begun = config->line;
  if (strcmp (line, "[inject-error]") == 0)
    config->action = BLKDEBUG_INJECT;
  else if (strcmp (line, "[set-state]") == 0)
    config->action = BLKDEBUG_SET_STATE;
  else
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s:%u: no group %s: write [inject-error] or [set-state]",
                    config->path, config->line, line);
  return 0;
}

/* KEY = "VALUE" */
static int
blkdebug_read_pair (BlkdebugConfig *config, char *line, GError **error)
{
  char *equals = strchr (line, '=');
  char *value = equals != NULL ? g_strstrip (equals + 1) : NULL;
  size_t length = value != NULL ? strlen (value) : 0;

  if (length < 2 || value[0] != '"' || value[length - 1] != '"' || config->action == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s:%u: wanted KEY = \"VALUE\" inside a group",
                    config->path, config->line);
  value[length - 1] = '\0';
  *equals = '\0';
  tn_options_set (config->group, g_strstrip (line), value + 1);
  return 0;
}

static int
blkdebug_read_line (BlkdebugConfig *config, GPtrArray *rules, char *line, GError **error)
{
  line = g_strstrip (line);
  if (*line == '\0' || *line == '#')
    return 0;
  return *line == '[' ? blkdebug_begin_group (config, rules, line, error)
                      : blkdebug_read_pair (config, line, error);
}

static int
blkdebug_load (const char *path, char **text, GError **error)
{
  FILE *file = fopen (path, "re");
  size_t n;

  if (file == NULL)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot read the rules of blkdebug from '%s'", path);
  *text = g_malloc (MAX_CONFIG + 1);
  n = fread (*text, 1, MAX_CONFIG + 1, file);
  fclose (file);
  if (n > MAX_CONFIG)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "'%s' is too long for a file of rules", path);
  (*text)[n] = '\0';
  return 0;
}

static int
blkdebug_read_file (GPtrArray *rules, const char *path, GError **error)
{
  BlkdebugConfig config = { .path = path };
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  int r = blkdebug_load (path, &text, error);

  if (r < 0)
    return r;
  lines = g_strsplit (text, "\n", -1);
  config.group = tn_options_new ();
  for (unsigned i = 0; r == 0 && lines[i] != NULL; i++) {
    config.line = i + 1;
    r = blkdebug_read_line (&config, rules, lines[i], error);
  }
  if (r == 0)
    r = blkdebug_end_group (&config, rules, error);
  tn_options_free (config.group);
  return r;
}

int
blkdebug_read_rules (GPtrArray *rules, const TnOptions *options, GError **error)
{
  const char *path = tn_options_get (options, "config");
  g_autoptr (TnOptions) left = tn_options_copy (options);
  int r = path != NULL && *path != '\0' ? blkdebug_read_file (rules, path, error) : 0;

  if (r == 0)
    r = blkdebug_read_list (rules, left, "inject-error", BLKDEBUG_INJECT, error);
  if (r == 0)
    r = blkdebug_read_list (rules, left, "set-state", BLKDEBUG_SET_STATE, error);
  return r == 0 ? blkdebug_refuse_rest (left, error) : r;
}
