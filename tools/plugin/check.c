/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE /* RTLD_DEFAULT */

#include <dlfcn.h>

#include "symbols.h"
#include "tool.h"

#define DESCRIPTOR_SUFFIX "_LTX_tenon_plugin"

typedef struct Report {
  CliArgs *args;
  const char *file;
  unsigned failures;
} Report;

static void
passed (const Report *report, const char *what)
{
  cli_print (report->args, "ok      %s\n", what);
}

static void TN_PRINTF (2, 3) failed (Report *report, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  cli_print (report->args, "FAILED  %s\n", text);
  report->failures++;
}

/* "format-acme" -> "format_acme_LTX_tenon_plugin" */
static char *
descriptor_symbol (const char *file)
{
  g_autofree char *base = g_path_get_basename (file);
  char *dot = strrchr (base, '.');
  if (dot)
    *dot = '\0';
  for (char *p = base; *p; p++) {
    if (!g_ascii_isalnum (*p))
      *p = '_';
  }
  return g_strconcat (base, DESCRIPTOR_SUFFIX, NULL);
}

static void
check_exported (Report *report, const ElfSymbols *symbols)
{
  g_autofree char *wanted = descriptor_symbol (report->file);
  bool found = false;
  for (guint i = 0; i < symbols->exported->len; i++) {
    const char *name = g_ptr_array_index (symbols->exported, i);
    if (strcmp (name, wanted) == 0)
      found = true;
    else
      failed (report, "exports '%s' beside its descriptor: compile with -fvisibility=hidden", name);
  }
  if (found)
    passed (report, "exports its descriptor");
  else
    failed (report, "does not export '%s': write TN_PLUGIN_DEFINE (%.*s, ...), and name the file accordingly",
            wanted, (int) (strlen (wanted) - strlen (DESCRIPTOR_SUFFIX)), wanted);
}

static void
check_undefined (Report *report, const ElfSymbols *symbols)
{
  unsigned failures = report->failures;
  unsigned used = 0;
  for (guint i = 0; i < symbols->undefined->len; i++) {
    const char *name = g_ptr_array_index (symbols->undefined, i);
    if (!g_str_has_prefix (name, "tn_"))
      continue;
    used++;
    if (!dlsym (RTLD_DEFAULT, name))
      failed (report, "calls '%s', which this Tenon's SDK (%d.%d) does not have: install a newer Tenon", name,
              TN_ABI_MAJOR, TN_ABI_MINOR);
  }
  if (report->failures > failures)
    return;
  g_autofree char *text = g_strdup_printf ("all %u functions that it calls are in the SDK", used);
  passed (report, text);
}

/* False: the file is no sound object, and the system's loader might crash on it. */
static bool
check_symbols (Report *report)
{
  ElfSymbols symbols;
  g_autoptr (GError) error = NULL;
  if (elf_read_symbols (report->file, &symbols, &error) < 0) {
    failed (report, "%s", error->message);
    return false;
  }
  check_exported (report, &symbols);
  check_undefined (report, &symbols);
  elf_symbols_clear (&symbols);
  return true;
}

/* The number of the first line in which the two differ. */
static unsigned
first_difference (const char *a, const char *b)
{
  unsigned line = 1;
  for (; *a && *a == *b; a++, b++)
    line += *a == '\n';
  return line;
}

static void
check_manifest (Report *report, const TnPlugin *plugin)
{
  g_autofree char *stem = g_strndup (report->file, strlen (report->file) - strlen (".so"));
  g_autofree char *path = g_strconcat (stem, ".tenon", NULL);
  g_autofree char *text = NULL;
  g_autoptr (GError) error = NULL;
  if (!g_file_get_contents (path, &text, NULL, &error)) {
    failed (report, "%s: write it with 'tenon-plugin manifest %s > %s'", error->message, report->file, path);
    return;
  }
  g_autofree char *object_name = g_path_get_basename (report->file);
  g_autofree char *wanted = tn_plugin_manifest (plugin, object_name);
  if (strcmp (text, wanted) == 0)
    passed (report, "its manifest is there and up to date");
  else
    failed (report, "%s:%u: differs from the descriptor: write it anew with 'tenon-plugin manifest %s > %s'",
            path, first_difference (text, wanted), report->file, path);
}

static void
check_descriptor (Report *report)
{
  g_autoptr (GError) error = NULL;
  const TnPlugin *plugin = tn_plugin_load_file (report->file, &error);
  if (!plugin) {
    failed (report, "%s", error->message);
    return;
  }
  g_autofree char *text = g_strdup_printf ("loads: ABI %u.%u, and its descriptor is in order",
                                           plugin->abi_major, plugin->abi_minor);
  passed (report, text);
  check_manifest (report, plugin);
}

static int
check_run (CliArgs *args)
{
  unsigned failures = 0;
  for (unsigned i = 0; i < args->n_words; i++) {
    Report report = { .args = args, .file = args->words[i] };
    cli_print (args, "%s\n", args->words[i]);
    if (check_symbols (&report))
      check_descriptor (&report);
    failures += report.failures;
  }
  return failures ? TOOL_FAILED : TOOL_OK;
}

static const CliStatus check_statuses[] = { { TOOL_OK, "all is well" },
                                            { TOOL_FAILED, "something is wrong with a plugin" },
                                            { 0 } };

const CliCommand plugin_check = {
  .name = "check",
  .summary = "check ABI, symbols, descriptor and manifest",
  .words = "FILE.so...",
  .min_words = 1,
  .max_words = UINT_MAX,
  .statuses = check_statuses,
  .run = check_run,
};
