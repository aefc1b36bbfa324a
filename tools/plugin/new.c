/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A new plugin begins as a copy of the SDK's plugin "example" of its kind, under its own name. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "skeletons.h"
#include "tool.h"

/* The name as the copied files need it spelled. */
typedef struct Spelling {
  const char *name; /* acme-disk */
  char *identifier; /* acme_disk, also where a digit begins it */
  char *first;      /* the same, but fit to begin an identifier */
  char *constant;   /* ACME_DISK */
  char *type;       /* AcmeDisk */
} Spelling;

static char *
camel_case (const char *identifier)
{
  GString *text = g_string_new (NULL);
  bool upper = true;
  for (; *identifier; identifier++) {
    if (*identifier != '_')
      g_string_append_c (text, upper ? g_ascii_toupper (*identifier) : *identifier);
    upper = *identifier == '_';
  }
  return g_string_free (text, FALSE);
}

static void
spell (Spelling *spelling, const char *name)
{
  spelling->name = name;
  spelling->identifier = g_strdup (name);
  for (char *p = spelling->identifier; *p; p++) {
    if (!g_ascii_isalnum (*p))
      *p = '_';
  }
  const char *prefix = g_ascii_isdigit (*name) ? "x" : "";
  spelling->first = g_strconcat (prefix, spelling->identifier, NULL);
  spelling->constant = g_ascii_strup (spelling->first, -1);
  spelling->type = camel_case (spelling->first);
}

static void
spelling_clear (Spelling *spelling)
{
  g_free (spelling->identifier);
  g_free (spelling->first);
  g_free (spelling->constant);
  g_free (spelling->type);
}

static const char *
spelled_like (const Spelling *spelling, char before, const char *word, char after)
{
  if (word[0] == 'E')
    return word[1] == 'X' ? spelling->constant : spelling->type;
  if (before == '_')
    return spelling->identifier;
  return after == '_' ? spelling->first : spelling->name;
}

/* Replaces each example, Example and EXAMPLE in @text. */
static char *
rename_all (const char *text, const Spelling *spelling)
{
  const size_t length = strlen ("example");
  GString *renamed = g_string_new (NULL);
  for (const char *p = text; *p;) {
    if (g_ascii_strncasecmp (p, "example", length) == 0) {
      g_string_append (renamed, spelled_like (spelling, p > text ? p[-1] : '\0', p, p[length]));
      p += length;
    } else {
      g_string_append_c (renamed, *p++);
    }
  }
  return g_string_free (renamed, FALSE);
}

static int
fail (CliArgs *args, const char *format, const char *path, int errnum)
{
  cli_error (args, format, path, g_strerror (errnum));
  return TOOL_FAILED;
}

static int
write_new_file (CliArgs *args, const char *path, const char *text)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0)
    return fail (args, "cannot make %s: %s", path, errno);
  int failed = cli_write (fd, text, strlen (text));
  if (close (fd) < 0 && !failed)
    failed = errno;
  return failed ? fail (args, "cannot write %s: %s", path, failed) : TOOL_OK;
}

static int
write_skeleton (CliArgs *args, const ToolSkeleton *skeleton, const char *folder, const Spelling *spelling)
{
  g_autofree char *file_name = rename_all (skeleton->file_name, spelling);
  g_autofree char *path = g_build_filename (folder, file_name, NULL);
  g_autofree char *text = rename_all (skeleton->text, spelling);
  return write_new_file (args, path, text);
}

static bool
is_plugin_name (const char *name)
{
  for (const char *p = name; *p; p++) {
    if (!g_ascii_islower (*p) && !g_ascii_isdigit (*p) && (p == name || *p != '-'))
      return false;
  }
  return *name && strlen (name) <= 40;
}

static bool
is_kind (const char *kind)
{
  for (const ToolSkeleton *skeleton = tool_skeletons; skeleton->kind; skeleton++) {
    if (strcmp (skeleton->kind, kind) == 0)
      return true;
  }
  return false;
}

static int
write_plugin (CliArgs *args, const char *kind, const char *name, const char *folder)
{
  if (g_mkdir (folder, 0755) < 0 && errno != EEXIST)
    return fail (args, "cannot make folder %s: %s", folder, errno);
  Spelling spelling;
  spell (&spelling, name);
  int status = TOOL_OK;
  for (const ToolSkeleton *skeleton = tool_skeletons; skeleton->kind && status == TOOL_OK; skeleton++) {
    if (strcmp (skeleton->kind, kind) == 0)
      status = write_skeleton (args, skeleton, folder, &spelling);
  }
  spelling_clear (&spelling);
  if (status == TOOL_OK)
    cli_print (args, "Wrote %s-%s to %s: run 'make' there, then read its README.md\n", kind, name, folder);
  return status;
}

static int
new_run (CliArgs *args)
{
  const char *kind = args->words[0], *name = args->words[1];
  if (!is_kind (kind)) {
    cli_error (args, "'%s' is no kind of plugin: give format, protocol, device, cpu or codec", kind);
    return TOOL_FAILED;
  }
  if (!is_plugin_name (name)) {
    cli_error (args, "'%s' cannot name a plugin: use up to 40 small letters, digits and '-'", name);
    return TOOL_FAILED;
  }
  g_autofree char *folder =
      args->n_words == 3 ? g_strdup (args->words[2]) : g_strdup_printf ("%s-%s", kind, name);
  return write_plugin (args, kind, name, folder);
}

const CliCommand plugin_new = {
  .name = "new",
  .summary = "write the beginnings of a plugin, ready to build",
  .words = "KIND NAME [FOLDER]",
  .min_words = 2,
  .max_words = 3,
  .run = new_run,
};
