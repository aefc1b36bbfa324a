/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/authz.h"

typedef struct Rule {
  char *match;
  bool allow, glob;
} Rule;

struct TnAuthzRules {
  GArray *rules; /* of Rule */
  bool allow;    /* when none matches */
};

static const char *const policy_choices[] = { "deny", "allow", NULL };
static const char *const format_choices[] = { "exact", "glob", NULL };

static const TnOption rule_options[] = {
  { "match", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "name, or pattern of names" },
  { "policy", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "what becomes of those who match",
    .choices = policy_choices },
  { "format", TN_OPTION_ENUM, TN_OPTION_OPEN, "exact", "glob: '*' and '?' stand for others",
    .choices = format_choices },
  { NULL },
};

static const TnOption list_options[] = {
  { "policy", TN_OPTION_ENUM, TN_OPTION_OPEN, "deny", "what becomes of those whom no rule matches",
    .choices = policy_choices },
  { NULL },
};

static bool
is (const TnOptions *options, const char *key, const char *value)
{
  return strcmp (tn_options_get (options, key), value) == 0;
}

static void
clear_rule (gpointer data)
{
  g_free (((Rule *) data)->match);
}

static int
add_rule (TnAuthzRules *rules, TnOptions *options, const char *what, GError **error)
{
  g_autofree char *owner = g_strdup_printf ("%s: rules.%u", what, rules->rules->len);
  const int rc = tn_options_check (options, rule_options, sizeof *rule_options, TN_OPTION_OPEN, owner, error);
  if (rc < 0)
    return rc;
  const Rule rule = { g_strdup (tn_options_get (options, "match")), is (options, "policy", "allow"),
                      is (options, "format", "glob") };
  g_array_append_val (rules->rules, rule);
  return 0;
}

/* They are numbered from 0. */
static int
add_rules (TnAuthzRules *rules, TnOptions *all, const char *what, GError **error)
{
  int rc = 0;
  for (bool more = true; more && rc == 0;) {
    g_autofree char *number = g_strdup_printf ("%u", rules->rules->len);
    g_autoptr (TnOptions) one = tn_options_take_prefix (all, number);
    more = tn_options_count (one) > 0;
    if (more)
      rc = add_rule (rules, one, what, error);
  }
  if (rc == 0 && tn_options_count (all)) {
    const char *key, *value;
    tn_options_pair (all, 0, &key, &value);
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "%s: rules are called rules.0, rules.1 and so on; there is rules.%s, but no rules.%u",
                    what, key, rules->rules->len);
  }
  return rc;
}

int
tn_authz_rules_new (TnOptions *options, const char *what, TnAuthzRules **result, GError **error)
{
  g_autoptr (TnOptions) list = tn_options_take_prefix (options, "rules");
  g_autoptr (TnAuthzRules) rules = g_new0 (TnAuthzRules, 1);
  rules->rules = g_array_new (FALSE, FALSE, sizeof (Rule));
  g_array_set_clear_func (rules->rules, clear_rule);
  int rc = tn_options_check (options, list_options, sizeof *list_options, TN_OPTION_OPEN, what, error);
  if (rc == 0)
    rc = add_rules (rules, list, what, error);
  if (rc < 0)
    return rc;
  rules->allow = is (options, "policy", "allow");
  *result = g_steal_pointer (&rules);
  return 0;
}

void
tn_authz_rules_free (TnAuthzRules *rules)
{
  if (!rules)
    return;
  g_array_unref (rules->rules);
  g_free (rules);
}

/* '*' stands for any characters, '?' for one of UTF-8.  Takes up to the product of both lengths. */
static bool
glob_matches (const char *pattern, const char *text)
{
  const char *star = NULL, *from = NULL; /* the last '*', and where what it stands for ends */
  while (*text) {
    if (*pattern == '*') {
      star = pattern++;
      from = text;
    } else if (*pattern == '?') {
      pattern++;
      text = g_utf8_next_char (text);
    } else if (*pattern == *text) {
      pattern++;
      text++;
    } else if (star) {
      pattern = star + 1;
      from = text = g_utf8_next_char (from);
    } else {
      return false;
    }
  }
  while (*pattern == '*')
    pattern++;
  return *pattern == '\0';
}

static bool
matches (const Rule *rule, const char *identity)
{
  return rule->glob ? glob_matches (rule->match, identity) : strcmp (rule->match, identity) == 0;
}

bool
tn_authz_rules_allow (const TnAuthzRules *rules, const char *identity)
{
  for (guint i = 0; i < rules->rules->len; i++) {
    const Rule *rule = &g_array_index (rules->rules, Rule, i);
    if (matches (rule, identity))
      return rule->allow;
  }
  return rules->allow;
}
