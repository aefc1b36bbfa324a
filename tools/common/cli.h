/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tools share: a command line described by tables, output and errors.
 *
 * A tool has a table of commands, a command a table of options, and everything else comes from
 * them: parsing, `--help`, the manual page (`--man`) and shell completion (`--completion`).
 *
 *   static const CliOption options[] = {
 *     { .name = "backing-chain", .help = "show the backing files too" },
 *     { 0 }
 *   };
 *   static const CliCommand commands[] = {
 *     { .name = "info", .summary = "describe an image", .words = "FILENAME", .min_words = 1, .max_words = 1,
 *       .options = options, .standard = CLI_FORMAT | CLI_OUTPUT, .run = info_run },
 *     { 0 }
 *   };
 *   static const CliTool tool = { .name = "tenon-img", .summary = "…", .commands = commands };
 *   int main (int argc, char **argv) { return cli_main (&tool, argc, argv); }
 *
 * A command reads its options by long name (cli_flag(), cli_text(), …), prints with cli_print(), reports
 * failures with cli_error() or cli_fail() and returns the exit status.  A tool without sub-commands on its
 * command line sets `.self` instead; its `.commands` are then those of its own prompt, parsed with
 * cli_parse().
 *
 * Spelling: `-q`, `-f FMT`, `-fFMT`, `-qf FMT`, `--format=FMT`, `--format FMT`, unambiguous beginnings of
 * long names, options after words, `--` ends the options.
 */
#ifndef TENON_TOOLS_CLI_H
#define TENON_TOOLS_CLI_H

#include <tenon/option.h>

typedef struct CliOption {
  const char *name;           /* long name without dashes; every option has one; NULL ends the table */
  char letter;                /* short name, or 0 */
  const char *arg;            /* what --help calls the value; NULL: the option is a flag */
  const char *help;           /* lower case, no final full stop */
  const char *const *choices; /* the values allowed, ended by NULL; or NULL: any */
} CliOption;

/* Options that mean the same in every command, as bits of CliCommand.standard. */
typedef enum CliStandard {
  CLI_FORMAT = 1 << 0,       /* -f, --format=FMT */
  CLI_IMAGE_OPTS = 1 << 1,   /* --image-opts */
  CLI_OBJECT = 1 << 2,       /* --object=DEFINITION */
  CLI_SHARE = 1 << 3,        /* -U, --force-share */
  CLI_QUIET = 1 << 4,        /* -q, --quiet */
  CLI_PROGRESS = 1 << 5,     /* -p, --progress */
  CLI_OUTPUT = 1 << 6,       /* --output=human|json */
  CLI_CACHE = 1 << 7,        /* -t, --cache=MODE */
  CLI_SOURCE_CACHE = 1 << 8, /* -T, --source-cache=MODE */
  CLI_UNTRUSTED = 1 << 9,    /* --untrusted */
  CLI_SANDBOX = 1 << 10      /* --no-sandbox, of a sandboxed tool */
} CliStandard;
/* What a command that opens one image takes. */
#define CLI_OPEN (CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_SHARE | CLI_UNTRUSTED)

typedef struct CliArgs CliArgs;
typedef struct CliCommand CliCommand;
typedef struct CliTool CliTool;

/* An exit status that means something particular. */
typedef struct CliStatus {
  int status;
  const char *meaning; /* NULL ends the table */
} CliStatus;

struct CliCommand {
  const char *name;              /* NULL ends the table */
  const char *alias;             /* another name, or NULL */
  const char *summary;           /* lower case, no final full stop */
  const char *words;             /* what --help shows after the options: "FILENAME [SIZE]" */
  unsigned min_words, max_words; /* max 0 with min 0: none */
  bool last_word_plain;          /* the last word is one even if it begins with a dash (-5M) */
  uint32_t standard;             /* CliStandard bits */
  const CliOption *options;      /* or NULL */
  const CliStatus *statuses;     /* or NULL */
  const char *details;           /* paragraphs for --help and the manual; lines end by \n; or NULL */
  int (*run) (CliArgs *args);    /* returns the exit status */
  /* Before the sandbox, and before there are threads: -1 to go on, or the exit status.  May be NULL. */
  int (*prepare) (CliArgs *args);
};

struct CliTool {
  const char *name;
  const char *summary;
  const char *details;
  const CliCommand *commands;
  const CliCommand *self; /* of a tool that takes no command */
  bool sandboxed;         /* opens images, and needs nothing else of the machine */
  bool sockets;           /* but sockets, whatever the command line says */
};

typedef struct CliGiven {
  const CliOption *option;
  const char *value;
} CliGiven;

/* A parsed command line. */
struct CliArgs {
  const CliTool *tool;
  const CliCommand *command;
  CliGiven *given;
  unsigned n_given;
  const char **words;
  unsigned n_words;
  GString *out; /* text not yet written to standard output */
  bool out_failed;
  int out_errno;
  bool no_sandbox, confined; /* sandbox.c */
  uint32_t sandbox_flags;
  int prepared; /* what prepare() leaves for run() */
};

int cli_main (const CliTool *tool, int argc, char **argv);

/* Fills @args (zeroed but for tool) from argv[0..argc), which does not hold the command's name.
 * cli_args_clear() frees what it took.  Does not print. */
int cli_parse (CliArgs *args, const CliCommand *command, int argc, char *const *argv, GError **error);
void cli_args_clear (CliArgs *args);

/* The values of option @name: whether it was given, the last value, the @nth one, one as a size. */
bool cli_flag (const CliArgs *args, const char *name);
const char *cli_text (const CliArgs *args, const char *name);
const char *cli_text_nth (const CliArgs *args, const char *name, unsigned nth);
/* Leaves *value alone when the option is absent. */
int cli_size (const CliArgs *args, const char *name, uint64_t *value, GError **error);
int cli_uint (const CliArgs *args, const char *name, uint64_t min, uint64_t max, uint64_t *value,
              GError **error);
/* As tn_parse_size(), naming @what. */
int cli_parse_size (const char *text, const char *what, uint64_t *value, GError **error);
bool cli_json (const CliArgs *args);
bool cli_quiet (const CliArgs *args);

/* Standard output is gathered and written in large pieces, at the latest by cli_flush(). */
void cli_print (CliArgs *args, const char *format, ...) G_GNUC_PRINTF (2, 3);
void cli_print_text (CliArgs *args, const char *text, size_t length);
void cli_flush (CliArgs *args);
/* Forgets what has been printed and not written yet. */
void cli_discard (CliArgs *args);
/* Writes "TOOL: text\n" to standard error, as one line. */
void cli_error (CliArgs *args, const char *format, ...) G_GNUC_PRINTF (2, 3);
void cli_warning (CliArgs *args, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* Prints and frees *error, and returns @status. */
int cli_fail (CliArgs *args, int status, GError **error);
/* Writes all of it to @fd: 0 or an errno value. */
int cli_write (int fd, const char *text, size_t length);
/* Up to @length bytes, less at the end of the file only: how many, or -errno. */
ssize_t cli_read (int fd, void *bytes, size_t length);

/* For help, manual and completion: option number @index of @command, NULL behind the last. */
const CliOption *cli_option_at (const CliCommand *command, unsigned index);
const CliCommand *cli_find_command (const CliTool *tool, const char *name);
/* Of the tool itself, before the command. */
extern const CliOption cli_tool_options[];

/* "; did you mean 'x'?" or ""; g_free() it. */
char *cli_hint (const char *wanted, const char *const *names);
char *cli_command_hint (const CliTool *tool, const char *wanted);

/* Texts made from the tables. */
char *cli_help_tool (const CliTool *tool);
char *cli_help_command (const CliTool *tool, const CliCommand *command);
/* The synopsis of a command: "info [-f FMT] … FILENAME". */
char *cli_synopsis (const CliCommand *command);
char *cli_manual (const CliTool *tool);
char *cli_completion (const CliTool *tool);
/* Appends @text so that roff shows it as it is. */
void cli_append_roff (GString *out, const char *text);

#endif
