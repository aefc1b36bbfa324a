/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parsing a command line by its tables. */
#include "cli.h"

static const char *const output_choices[] = { "human", "json", NULL };
static const char *const cache_choices[] = {
  "none", "writeback", "writethrough", "directsync", "unsafe", NULL
};

typedef struct StandardOption {
  uint32_t bit;
  CliOption option;
} StandardOption;

static const StandardOption standard_options[] = {
  { CLI_FORMAT,
    { "format", 'f', "FMT", "format of the image; it is recognised by its contents when not given", NULL } },
  { CLI_IMAGE_OPTS,
    { "image-opts", 0, NULL, "the image is given as key=value options, not as a file name", NULL } },
  { CLI_OBJECT, { "object", 0, "DEFINITION", "define an object, such as secret,id=ID,file=FILE", NULL } },
  { CLI_SHARE, { "force-share", 'U', NULL, "open the image even while another program writes to it", NULL } },
  { CLI_UNTRUSTED, { "untrusted", 0, NULL, "refuse images that refer to other files", NULL } },
  { CLI_SANDBOX,
    { "no-sandbox", 0, NULL, "keep rights that an image has no use for (see sandbox.md)", NULL } },
  { CLI_CACHE, { "cache", 't', "MODE", "cache mode for the image that is written", cache_choices } },
  { CLI_SOURCE_CACHE,
    { "source-cache", 'T', "MODE", "cache mode for the images that are read", cache_choices } },
  { CLI_OUTPUT,
    { "output", 0, "FORM", "print text for people (human) or for programs (json)", output_choices } },
  { CLI_PROGRESS, { "progress", 'p', NULL, "show progress", NULL } },
  { CLI_QUIET, { "quiet", 'q', NULL, "print nothing but errors", NULL } },
};

static const CliOption help_option = { "help", 'h', NULL, "show this help and exit", NULL };

const CliOption *
cli_option_at (const CliCommand *command, unsigned index)
{
  for (const CliOption *option = command->options; option && option->name; option++)
    if (index-- == 0)
      return option;
  for (unsigned i = 0; i < G_N_ELEMENTS (standard_options); i++)
    if ((command->standard & standard_options[i].bit) && index-- == 0)
      return &standard_options[i].option;
  return index == 0 ? &help_option : NULL;
}

const CliCommand *
cli_find_command (const CliTool *tool, const char *name)
{
  for (const CliCommand *command = tool->commands; command && command->name; command++)
    if (strcmp (command->name, name) == 0 || g_strcmp0 (command->alias, name) == 0)
      return command;
  return NULL;
}

char *
cli_hint (const char *wanted, const char *const *names)
{
  const char *nearest = tn_nearest_name (wanted, names);
  return nearest ? g_strdup_printf ("; did you mean '%s'?", nearest) : g_strdup ("");
}

char *
cli_command_hint (const CliTool *tool, const char *wanted)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  for (const CliCommand *command = tool->commands; command && command->name; command++)
    g_ptr_array_add (names, (char *) command->name);
  g_ptr_array_add (names, NULL);
  return cli_hint (wanted, (const char *const *) names->pdata);
}

static char *
option_hint (const CliCommand *command, const char *wanted)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++)
    g_ptr_array_add (names, (char *) option->name);
  g_ptr_array_add (names, NULL);
  const char *nearest = tn_nearest_name (wanted, (const char *const *) names->pdata);
  return nearest ? g_strdup_printf ("; did you mean '--%s'?", nearest) : g_strdup ("");
}

static const CliOption *
find_letter (const CliCommand *command, char letter)
{
  const CliOption *option;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++)
    if (option->letter && option->letter == letter)
      return option;
  return NULL;
}

/* An exact long name, or the only one that begins with the text. */
static const CliOption *
find_long (const CliCommand *command, const char *text, size_t length, bool *ambiguous)
{
  const CliOption *found = NULL, *option;
  *ambiguous = false;
  for (unsigned i = 0; (option = cli_option_at (command, i)); i++) {
    if (strncmp (option->name, text, length) != 0)
      continue;
    if (option->name[length] == '\0') {
      *ambiguous = false;
      return option;
    }
    *ambiguous = found != NULL;
    found = option;
  }
  return *ambiguous ? NULL : found;
}

static int
check_choice (const CliOption *option, const char *value, GError **error)
{
  if (!option->choices || !value || g_strv_contains (option->choices, value))
    return 0;
  g_autofree char *choices = g_strjoinv (", ", (char **) option->choices);
  g_autofree char *hint = cli_hint (value, option->choices);
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option --%s takes one of %s, not '%s'%s", option->name,
                  choices, value, hint);
}

static int
give (CliArgs *args, const CliOption *option, const char *value, GError **error)
{
  int ret = check_choice (option, value, error);
  if (ret < 0)
    return ret;
  args->given[args->n_given++] = (CliGiven){ option, value };
  return 0;
}

/* The value of an option that needs one: the rest of its own argument, or the next argument. */
typedef struct Cursor {
  int argc;
  char *const *argv;
  int at;
} Cursor;

static int
take_value (Cursor *cursor, const CliOption *option, const char **value, GError **error)
{
  if (cursor->at >= cursor->argc)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option --%s needs a value: %s", option->name,
                    option->arg);
  *value = cursor->argv[cursor->at++];
  return 0;
}

static int
parse_long (CliArgs *args, Cursor *cursor, const char *text, GError **error)
{
  size_t length = strcspn (text, "=");
  bool ambiguous;
  const CliOption *option = find_long (args->command, text, length, &ambiguous);
  if (!option) {
    g_autofree char *name = g_strndup (text, length);
    g_autofree char *hint = option_hint (args->command, name);
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s option '--%s'%s", ambiguous ? "ambiguous" : "unknown",
                    name, hint);
  }
  const char *value = NULL;
  if (text[length] == '=') {
    value = text + length + 1;
    if (!option->arg)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option --%s takes no value", option->name);
  } else if (option->arg) {
    int ret = take_value (cursor, option, &value, error);
    if (ret < 0)
      return ret;
  }
  return give (args, option, value, error);
}

static int
parse_letters (CliArgs *args, Cursor *cursor, const char *letters, GError **error)
{
  for (; *letters; letters++) {
    const CliOption *option = find_letter (args->command, *letters);
    if (!option)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "unknown option '-%c'", *letters);
    const char *value = NULL;
    if (option->arg) {
      value = letters + 1;
      if (!*value) {
        int ret = take_value (cursor, option, &value, error);
        if (ret < 0)
          return ret;
      }
      return give (args, option, value, error);
    }
    int ret = give (args, option, NULL, error);
    if (ret < 0)
      return ret;
  }
  return 0;
}

static int
check_words (const CliArgs *args, GError **error)
{
  const CliCommand *command = args->command;
  if (cli_flag (args, "help"))
    return 0;
  if (args->n_words < command->min_words)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "missing argument: %s is needed", command->words);
  if (args->n_words > command->max_words)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "unexpected argument '%s': expected %s",
                    args->words[command->max_words], command->words ? command->words : "none");
  return 0;
}

/* Letters give at most one option each, so the text's length bounds their number. */
static size_t
count_options (int argc, char *const *argv)
{
  size_t n = 1;
  for (int i = 0; i < argc; i++)
    if (argv[i][0] == '-')
      n += argv[i][1] == '-' ? 1 : strlen (argv[i]);
  return n;
}

int
cli_parse (CliArgs *args, const CliCommand *command, int argc, char *const *argv, GError **error)
{
  args->command = command;
  args->given = g_new (CliGiven, count_options (argc, argv));
  args->words = g_new (const char *, argc + 1);
  bool plain_last = command->last_word_plain && argc > 0;
  Cursor cursor = { .argc = plain_last ? argc - 1 : argc, .argv = argv };
  bool options_ended = false;
  while (cursor.at < cursor.argc) {
    const char *arg = argv[cursor.at++];
    int ret = 0;
    if (options_ended || arg[0] != '-' || arg[1] == '\0')
      args->words[args->n_words++] = arg;
    else if (strcmp (arg, "--") == 0)
      options_ended = true;
    else if (arg[1] == '-')
      ret = parse_long (args, &cursor, arg + 2, error);
    else
      ret = parse_letters (args, &cursor, arg + 1, error);
    if (ret < 0)
      return ret;
  }
  if (plain_last) {
    const char *last = argv[argc - 1];
    if (strcmp (last, "--help") == 0 || strcmp (last, "-h") == 0)
      return give (args, &help_option, NULL, error);
    args->words[args->n_words++] = last;
  }
  return check_words (args, error);
}

void
cli_args_clear (CliArgs *args)
{
  g_clear_pointer (&args->given, g_free);
  g_clear_pointer (&args->words, g_free);
  args->n_given = args->n_words = 0;
}

const char *
cli_text_nth (const CliArgs *args, const char *name, unsigned nth)
{
  for (unsigned i = 0; i < args->n_given; i++)
    if (strcmp (args->given[i].option->name, name) == 0 && nth-- == 0)
      return args->given[i].value;
  return NULL;
}

static const CliGiven *
find_given (const CliArgs *args, const char *name)
{
  for (unsigned i = args->n_given; i > 0; i--)
    if (strcmp (args->given[i - 1].option->name, name) == 0)
      return &args->given[i - 1];
  return NULL;
}

const char *
cli_text (const CliArgs *args, const char *name)
{
  const CliGiven *given = find_given (args, name);
  return given ? given->value : NULL;
}

bool
cli_flag (const CliArgs *args, const char *name)
{
  return find_given (args, name) != NULL;
}

int
cli_parse_size (const char *text, const char *what, uint64_t *value, GError **error)
{
  if (tn_parse_size (text, value, NULL) == 0)
    return 0;
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "%s '%s' is not a size: write bytes, or a number with k, M, G, T, P or E (powers of 1024)",
                  what, text);
}

int
cli_size (const CliArgs *args, const char *name, uint64_t *value, GError **error)
{
  const char *text = cli_text (args, name);
  if (!text)
    return 0;
  g_autofree char *what = g_strdup_printf ("--%s", name);
  return cli_parse_size (text, what, value, error);
}

int
cli_uint (const CliArgs *args, const char *name, uint64_t min, uint64_t max, uint64_t *value, GError **error)
{
  const char *text = cli_text (args, name);
  if (!text)
    return 0;
  char *end = NULL;
  errno = 0;
  bool negative = text[strspn (text, " \t")] == '-';
  guint64 number = g_ascii_strtoull (text, &end, 0);
  if (negative || errno || end == text || *end || number < min || number > max)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "--%s '%s' is not a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, name, text,
                    min, max);
  *value = number;
  return 0;
}

bool
cli_json (const CliArgs *args)
{
  return g_strcmp0 (cli_text (args, "output"), "json") == 0;
}

bool
cli_quiet (const CliArgs *args)
{
  return cli_flag (args, "quiet");
}
