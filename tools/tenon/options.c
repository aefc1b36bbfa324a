/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <stdlib.h>

#include <tenon/object.h>

typedef struct Option {
  const char *name; /* without dashes */
  const char *alias;
  const char *arg; /* what --help calls the value; NULL: a flag */
  const char *help;
  int (*take) (TenonArgs *args, const char *value, GError **error);
} Option;

static int
take_text (char **place, const char *value)
{
  g_free (*place);
  *place = g_strdup (value);
  return 0;
}

/* ---- What each option does ---- */

static int
take_machine (TenonArgs *args, const char *value, GError **error)
{
  g_auto (GStrv) words = g_strsplit (value, ",", 16);
  if (words[0] == NULL || *words[0] == '\0')
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-M wants a board: -M help lists them");
  if (strcmp (words[0], "help") == 0 || strcmp (words[0], "?") == 0) {
    args->action = TENON_LIST_BOARDS;
    return 0;
  }
  const char *board = g_str_has_prefix (words[0], "type=") ? words[0] + 5 : words[0];
  take_text (&args->board, board);
  for (char **word = words + 1; *word != NULL; word++) {
    if (strcmp (*word, "dump") == 0) {
      args->action = TENON_DUMP;
    } else if (g_str_has_prefix (*word, "dumpdtb=") && (*word)[8] != '\0') {
      args->action = TENON_DUMP_FDT;
      take_text (&args->dump_fdt, *word + 8);
    } else {
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-M %s: '%s' is not known, dump and dumpdtb=FILE are",
                      board, *word);
    }
  }
  return 0;
}

static int
take_memory (TenonArgs *args, const char *value, GError **error)
{
  return take_text (&args->memory, value);
}

static int
take_smp (TenonArgs *args, const char *value, GError **error)
{
  return take_text (&args->smp, value);
}

static int
take_cpu (TenonArgs *args, const char *value, GError **error)
{
  if (strcmp (value, "help") == 0) {
    args->action = TENON_LIST_CPUS;
    return 0;
  }
  return take_text (&args->cpu, value);
}

static int
take_kernel (TenonArgs *args, const char *value, GError **error)
{
  tn_options_set (args->boot, "kernel", value);
  return 0;
}

static int
take_initrd (TenonArgs *args, const char *value, GError **error)
{
  tn_options_set (args->boot, "initrd", value);
  return 0;
}

static int
take_append (TenonArgs *args, const char *value, GError **error)
{
  tn_options_set (args->boot, "append", value);
  return 0;
}

static int
take_dtb (TenonArgs *args, const char *value, GError **error)
{
  tn_options_set (args->boot, "dtb", value);
  return 0;
}

static int
take_bios (TenonArgs *args, const char *value, GError **error)
{
  tn_options_set (args->boot, "bios", value);
  return 0;
}

static int
take_drive (TenonArgs *args, const char *value, GError **error)
{
  g_ptr_array_add (args->drives, g_strdup (value));
  return 0;
}

static int
take_object (TenonArgs *args, const char *value, GError **error)
{
  return tn_object_define ((char *) value, error);
}

static int
take_blockdev (TenonArgs *args, const char *value, GError **error)
{
  g_ptr_array_add (args->blockdevs, g_strdup (value));
  return 0;
}

static int
take_device (TenonArgs *args, const char *value, GError **error)
{
  if (strcmp (value, "help") == 0 || strcmp (value, "?") == 0) {
    args->action = TENON_LIST_DEVICES;
    return 0;
  }
  if (g_str_has_suffix (value, ",help") || g_str_has_suffix (value, ",?")) {
    args->action = TENON_DEVICE_HELP;
    g_free (args->help_class);
    args->help_class = g_strndup (value, strcspn (value, ","));
    return 0;
  }
  g_ptr_array_add (args->devices, g_strdup (value));
  return 0;
}

static int
take_chardev (TenonArgs *args, const char *value, GError **error)
{
  g_ptr_array_add (args->chardevs, g_strdup (value));
  return 0;
}

static int
take_serial (TenonArgs *args, const char *value, GError **error)
{
  g_ptr_array_add (args->serials, g_strdup (value));
  return 0;
}

static int
take_nographic (TenonArgs *args, const char *value, GError **error)
{
  args->nographic = true;
  return 0;
}

/* There is no display: only asking for none can be granted. */
static int
take_display (TenonArgs *args, const char *value, GError **error)
{
  if (strcmp (value, "none") != 0)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP, "-display %s: there are no displays, use -nographic",
                    value);
  return 0;
}

/* The monitor sits behind the console's escape keys. */
static int
take_monitor (TenonArgs *args, const char *value, GError **error)
{
  if (strcmp (value, "none") != 0)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "-monitor %s: the monitor is reached by Ctrl-A c on the console, leave the option out",
                    value);
  return 0;
}

static int
take_no_reboot (TenonArgs *args, const char *value, GError **error)
{
  args->no_reboot = true;
  return 0;
}

static int
take_paused (TenonArgs *args, const char *value, GError **error)
{
  args->paused = true;
  return 0;
}

static int
take_plugins (TenonArgs *args, const char *value, GError **error)
{
  return take_text (&args->plugins, value);
}

static int
take_plugin_dir (TenonArgs *args, const char *value, GError **error)
{
  g_ptr_array_add (args->plugin_dirs, g_strdup (value));
  return 0;
}

static int
take_dump_plugins (TenonArgs *args, const char *value, GError **error)
{
  args->dump_plugins = true;
  return 0;
}

static int
take_help (TenonArgs *args, const char *value, GError **error)
{
  args->action = TENON_HELP;
  return 0;
}

static int
take_version (TenonArgs *args, const char *value, GError **error)
{
  args->action = TENON_VERSION;
  return 0;
}

static const Option options[] = {
  { "M", "machine", "BOARD[,dump][,dumpdtb=FILE]", "board to emulate; help lists them, dump prints its parts",
    take_machine },
  { "m", "memory", "SIZE", "memory, in MiB unless it has a suffix (256M, 2G)", take_memory },
  { "smp", NULL, "N", "number of CPUs", take_smp },
  { "cpu", NULL, "CLASS[,OPTION=VALUE…]", "CPU and its options; help lists them", take_cpu },
  { "kernel", NULL, "FILE", "kernel to boot", take_kernel },
  { "initrd", NULL, "FILE", "initial RAM disk for it", take_initrd },
  { "append", NULL, "TEXT", "its command line", take_append },
  { "dtb", NULL, "FILE", "device tree to use instead of the generated one", take_dtb },
  { "bios", NULL, "FILE|none|default", "firmware to run in machine mode; default: the CPU's own services",
    take_bios },
  { "drive", NULL, "file=FILE[,if=virtio|none][,id=ID][,format=F][,cache=MODE][,aio=ENGINE]…", "disk",
    take_drive },
  { "object", NULL, "secret,id=ID,file=FILE", "a passphrase, for key-secret=ID", take_object },
  { "blockdev", NULL, "driver=D,node-name=NAME,…|{JSON}", "block node, for -device …,drive=NAME",
    take_blockdev },
  { "device", NULL, "CLASS[,id=ID][,OPTION=VALUE…]",
    "further device; help lists them, CLASS,help its options", take_device },
  { "chardev", NULL, "stdio|null|pty|file,id=ID[,path=FILE][,mux=on]", "character device", take_chardev },
  { "serial", NULL, "stdio|mon:stdio|null|pty|file:PATH|chardev:ID", "where the serial port goes",
    take_serial },
  { "nographic", NULL, NULL, "console and monitor on this terminal (the default)", take_nographic },
  { "display", NULL, "none", "accepted for compatibility", take_display },
  { "monitor", NULL, "none", "accepted for compatibility", take_monitor },
  { "no-reboot", NULL, NULL, "end instead of rebooting", take_no_reboot },
  { "S", NULL, NULL, "wait for cont in the monitor before the first instruction", take_paused },
  { "plugins", NULL, "LIST", "load none but these plugins", take_plugins },
  { "plugin-dir", NULL, "DIR", "look for plugins there first", take_plugin_dir },
  { "dump-plugins", NULL, NULL, "say at the end which plugins were loaded, and why", take_dump_plugins },
  { "help", "h", NULL, "this text", take_help },
  { "version", NULL, NULL, "version", take_version },
};

/* ---- Parsing ---- */

static const Option *
find_option (const char *name, size_t length)
{
  for (size_t i = 0; i < G_N_ELEMENTS (options); i++) {
    const Option *option = &options[i];
    if ((strlen (option->name) == length && strncmp (option->name, name, length) == 0)
        || (option->alias != NULL && strlen (option->alias) == length
            && strncmp (option->alias, name, length) == 0))
      return option;
  }
  return NULL;
}

/* Takes the option at argv[i] and its value; returns how many words that were. */
static int
parse_one (TenonArgs *args, int argc, char **argv, int i, GError **error)
{
  const char *word = argv[i];
  if (*word != '-' || word[1] == '\0')
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' is no option: a disk is given with -drive file=%s",
                    word, word);
  const char *name = word + (word[1] == '-' ? 2 : 1);
  const char *equals = word[1] == '-' ? strchr (name, '=') : NULL;
  const Option *option = find_option (name, equals != NULL ? (size_t) (equals - name) : strlen (name));
  if (option == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "there is no option '%s': --help lists them", word);
  if (option->arg == NULL) {
    if (equals != NULL)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option '-%s' takes no value", option->name);
    int r = option->take (args, NULL, error);
    return r < 0 ? r : 1;
  }
  const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[i + 1] : NULL;
  if (value == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "option '%s' wants a value: %s", word, option->arg);
  int r = option->take (args, value, error);
  return r < 0 ? r : equals != NULL ? 1 : 2;
}

int
tenon_args_parse (TenonArgs *args, int argc, char **argv, GError **error)
{
  *args = (TenonArgs){ .action = TENON_RUN };
  args->boot = tn_options_new ();
  GPtrArray **lists[] = { &args->drives,   &args->blockdevs, &args->devices,
                          &args->chardevs, &args->serials,   &args->plugin_dirs };
  for (size_t i = 0; i < G_N_ELEMENTS (lists); i++)
    *lists[i] = g_ptr_array_new_with_free_func (g_free);
  for (int i = 1; i < argc;) {
    int n = parse_one (args, argc, argv, i, error);
    if (n < 0)
      return n;
    i += n;
  }
  return 0;
}

void
tenon_args_clear (TenonArgs *args)
{
  GPtrArray *lists[] = { args->drives,   args->blockdevs, args->devices,
                         args->chardevs, args->serials,   args->plugin_dirs };
  for (size_t i = 0; i < G_N_ELEMENTS (lists); i++)
    g_ptr_array_unref (lists[i]);
  tn_options_free (args->boot);
  char *texts[] = { args->board, args->dump_fdt, args->help_class, args->memory,
                    args->smp,   args->cpu,      args->plugins };
  for (size_t i = 0; i < G_N_ELEMENTS (texts); i++)
    g_free (texts[i]);
}

char *
tenon_help (void)
{
  GString *text = g_string_new ("Usage: tenon -M BOARD [OPTION…]\n\nRuns a virtual machine.\n\n");
  for (size_t i = 0; i < G_N_ELEMENTS (options); i++) {
    const Option *option = &options[i];
    g_string_append_printf (text, "  -%s%s%s\n        %s\n", option->name, option->arg != NULL ? " " : "",
                            option->arg != NULL ? option->arg : "", option->help);
  }
  g_string_append (
      text, "\nOn the console: Ctrl-A x ends the machine, Ctrl-A c reaches the monitor, Ctrl-A h helps.\n"
            "Exit status: the guest's (0 after a power-off); 1 for bad input.\n");
  return g_string_free (text, FALSE);
}
