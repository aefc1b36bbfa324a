/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "build.h"

#include <stdio.h>
#include <tenon/drive.h>

/* ---- CPUs and memory ---- */

static int
set_memory (const TenonArgs *args, TnMachine *machine, GError **error)
{
  uint64_t bytes;
  if (args->memory == NULL)
    return 0;
  const char *text = g_str_has_prefix (args->memory, "size=") ? args->memory + 5 : args->memory;
  int r = tn_parse_size (text, &bytes, error);
  if (r < 0)
    return r;
  /* A bare number counts MiB. */
  if (g_ascii_isdigit (text[strlen (text) - 1])) {
    if (bytes > UINT64_MAX >> 20)
      return tn_fail (error, TN_OPTION_ERROR, ERANGE, "-m %s is too much", args->memory);
    bytes <<= 20;
  }
  return tn_machine_set_memory (machine, bytes, error);
}

static int
set_cpus (const TenonArgs *args, TnMachine *machine, GError **error)
{
  guint64 count;
  if (args->smp == NULL)
    return 0;
  const char *text = g_str_has_prefix (args->smp, "cpus=") ? args->smp + 5 : args->smp;
  if (!g_ascii_string_to_unsigned (text, 10, 1, 4096, &count, NULL))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-smp %s: wants a number of CPUs", args->smp);
  return tn_machine_set_cpus (machine, (unsigned) count, error);
}

static int
set_cpu (const TenonArgs *args, TnMachine *machine, GError **error)
{
  if (args->cpu == NULL)
    return 0;
  g_autoptr (TnOptions) options = tn_options_new ();
  int r = tn_options_parse (options, args->cpu, "class", error);
  if (r < 0)
    return r;
  g_autofree char *class_name = g_strdup (tn_options_get (options, "class"));
  tn_options_set (options, "class", NULL);
  return tn_machine_set_cpu (machine, class_name, options, error);
}

/* ---- Character devices ---- */

/* The core's spelling of what -chardev says. */
static int
parse_chardev (const char *text, char **id, char **spec, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  int r = tn_options_parse (options, text, "backend", error);
  if (r < 0)
    return r;
  const char *backend = tn_options_get (options, "backend");
  const char *name = tn_options_get (options, "id");
  const char *path = tn_options_get (options, "path");
  if (backend == NULL || name == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-chardev %s: wants stdio, null, pty or file, and id=", text);
  if (strcmp (backend, "file") == 0 && path == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-chardev %s: a file wants path=", text);
  *id = g_strdup (name);
  if (strcmp (backend, "file") == 0)
    *spec = g_strconcat ("file:", path, NULL);
  else
    *spec = g_strconcat (g_strcmp0 (tn_options_get (options, "mux"), "on") == 0 ? "mux:" : "", backend, NULL);
  return 0;
}

static char *
find_chardev (const TenonArgs *args, const char *wanted)
{
  for (guint i = 0; i < args->chardevs->len; i++) {
    g_autofree char *id = NULL, *spec = NULL;
    if (parse_chardev (g_ptr_array_index (args->chardevs, i), &id, &spec, NULL) == 0
        && strcmp (id, wanted) == 0)
      return g_steal_pointer (&spec);
  }
  return NULL;
}

/* "mon:stdio" and "none" are the spellings of the command line, "mux:stdio" and "null" the core's. */
static int
serial_spec (const TenonArgs *args, const char *text, char **spec, GError **error)
{
  if (strcmp (text, "mon:stdio") == 0)
    *spec = g_strdup ("mux:stdio");
  else if (strcmp (text, "none") == 0)
    *spec = g_strdup ("null");
  else if (g_str_has_prefix (text, "chardev:"))
    *spec = find_chardev (args, text + 8);
  else
    *spec = g_strdup (text);
  if (*spec == NULL)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "-serial %s: there is no such -chardev", text);
  return 0;
}

static void
report_path (TnMachine *machine, const char *id)
{
  TnChardev *chardev = tn_machine_chardev (machine, id);
  const char *path = chardev != NULL ? tn_chardev_path (chardev) : NULL;
  if (path != NULL)
    fprintf (stderr, "tenon: %s is at %s\n", id, path);
}

static int
add_chardev (TnMachine *machine, const char *id, const char *spec, GError **error)
{
  int r = tn_machine_add_chardev (machine, id, spec, error);
  if (r == 0)
    report_path (machine, id);
  return r;
}

/* Whether -serial has taken a -chardev over. */
static bool
taken_by_serial (const TenonArgs *args, const char *id)
{
  g_autofree char *word = g_strconcat ("chardev:", id, NULL);
  return g_ptr_array_find_with_equal_func (args->serials, word, g_str_equal, NULL);
}

static int
add_chardevs (const TenonArgs *args, TnMachine *machine, GError **error)
{
  int r = 0;
  for (guint i = 0; r == 0 && i < args->serials->len; i++) {
    g_autofree char *id = g_strdup_printf ("serial%u", i);
    g_autofree char *spec = NULL;
    r = serial_spec (args, g_ptr_array_index (args->serials, i), &spec, error);
    if (r == 0)
      r = add_chardev (machine, id, spec, error);
  }
  bool stdio_taken = args->serials->len > 0;
  for (guint i = 0; r == 0 && i < args->chardevs->len; i++) {
    g_autofree char *id = NULL, *spec = NULL;
    r = parse_chardev (g_ptr_array_index (args->chardevs, i), &id, &spec, error);
    if (r < 0 || taken_by_serial (args, id))
      continue;
    stdio_taken = stdio_taken || g_str_has_suffix (spec, "stdio");
    r = add_chardev (machine, id, spec, error);
  }
  if (r == 0 && !stdio_taken && args->action == TENON_RUN)
    r = add_chardev (machine, "serial0", "mux:stdio", error);
  return r;
}

/* ---- Disks ---- */

static char *
take_option (TnOptions *options, const char *key)
{
  char *value = g_strdup (tn_options_get (options, key));
  tn_options_set (options, key, NULL);
  return value;
}

/* -drive: a drive, and the device that the board makes for its interface. */
static int
add_drive (TnMachine *machine, const char *text, unsigned index, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  int r = tn_options_parse (options, text, NULL, error);
  if (r < 0)
    return r;
  g_autofree char *interface = take_option (options, "if");
  g_autofree char *id = take_option (options, "id");
  g_autofree char *media = take_option (options, "media");
  g_free (take_option (options, "index"));
  if (id == NULL)
    id = g_strdup_printf ("%s%u", interface != NULL ? interface : "drive", index);
  if (media != NULL && strcmp (media, "disk") != 0)
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP, "-drive %s: media=%s is not supported, leave it out",
                    text, media);
  const char *class_name = NULL;
  if (g_strcmp0 (interface, "none") != 0) {
    class_name = tn_machine_interface_class (machine, interface != NULL ? interface : "virtio");
    if (class_name == NULL)
      return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                      "-drive %s: this board has no interface '%s', use if=none with -device", text,
                      interface != NULL ? interface : "virtio");
  }
  TnDrive *drive = NULL;
  r = tn_drive_open (options, &drive, error);
  if (r < 0)
    return r;
  r = tn_machine_add_drive (machine, id, drive, error);
  if (r < 0) {
    tn_drive_free (drive);
    return r;
  }
  if (class_name == NULL)
    return 0;
  g_autoptr (TnOptions) device = tn_options_new ();
  tn_options_set (device, "drive", id);
  return tn_machine_add_device (machine, class_name, NULL, device, error);
}

static int
open_blockdev (const char *text, GPtrArray *nodes, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  int r = *text == '{' ? tn_options_parse_json (options, text, error)
                       : tn_options_parse (options, text, "driver", error);
  if (r < 0)
    return r;
  if (tn_options_get (options, "node-name") == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-blockdev %s: wants node-name=", text);
  const char *read_only = tn_options_get (options, "read-only");
  const bool writable = g_strcmp0 (read_only, "on") != 0 && g_strcmp0 (read_only, "true") != 0;
  TnNode *node = NULL;
  r = tn_node_open (options, writable ? TN_OPEN_WRITE : 0, &node, error);
  if (r == 0)
    g_ptr_array_add (nodes, node);
  return r;
}

/* A device's drive= may name a node: it gets a drive of its own. */
static int
make_drive_of_node (TnMachine *machine, const char *name, GPtrArray *made, GError **error)
{
  TnNode *node = tn_node_find (name);
  if (node == NULL || g_ptr_array_find_with_equal_func (made, name, g_str_equal, NULL))
    return 0;
  const bool direct = tn_node_open_flags (node) & TN_OPEN_DIRECT;
  TnDrive *drive =
      tn_drive_new (node, direct ? TN_CACHE_NONE : TN_CACHE_WRITEBACK, !tn_node_is_read_only (node));
  int r = tn_machine_add_drive (machine, name, drive, error);
  if (r < 0) {
    tn_drive_free (drive);
    return r;
  }
  g_ptr_array_add (made, g_strdup (name));
  return 0;
}

static int
add_device (TnMachine *machine, const char *text, GPtrArray *made, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  int r = *text == '{' ? tn_options_parse_json (options, text, error)
                       : tn_options_parse (options, text, "driver", error);
  if (r < 0)
    return r;
  g_autofree char *class_name = take_option (options, "driver");
  g_autofree char *id = take_option (options, "id");
  g_free (take_option (options, "bus"));
  if (class_name == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-device %s: wants a class, -device help lists them",
                    text);
  const char *drive = tn_options_get (options, "drive");
  if (drive != NULL)
    r = make_drive_of_node (machine, drive, made, error);
  return r < 0 ? r : tn_machine_add_device (machine, class_name, id, options, error);
}

static int
add_disks_and_devices (const TenonArgs *args, TnMachine *machine, GError **error)
{
  g_autoptr (GPtrArray) nodes = g_ptr_array_new_with_free_func ((GDestroyNotify) tn_node_unref);
  g_autoptr (GPtrArray) made = g_ptr_array_new_with_free_func (g_free);
  int r = 0;
  for (guint i = 0; r == 0 && i < args->blockdevs->len; i++)
    r = open_blockdev (g_ptr_array_index (args->blockdevs, i), nodes, error);
  for (guint i = 0; r == 0 && i < args->drives->len; i++)
    r = add_drive (machine, g_ptr_array_index (args->drives, i), i, error);
  for (guint i = 0; r == 0 && i < args->devices->len; i++)
    r = add_device (machine, g_ptr_array_index (args->devices, i), made, error);
  return r;
}

/* ---- All of it ---- */

int
tenon_build (const TenonArgs *args, TnMachine **out, GError **error)
{
  if (args->board == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "which machine? -M BOARD says, -M help lists the boards");
  g_autoptr (TnMachine) machine = tn_machine_new (args->board, error);
  if (machine == NULL)
    return -EINVAL;
  tn_machine_set_reboot (machine, !args->no_reboot);
  int r = set_memory (args, machine, error);
  if (r == 0)
    r = set_cpus (args, machine, error);
  if (r == 0)
    r = set_cpu (args, machine, error);
  if (r == 0)
    r = tn_machine_set_boot (machine, args->boot, error);
  if (r == 0)
    r = add_chardevs (args, machine, error);
  if (r == 0)
    r = add_disks_and_devices (args, machine, error);
  if (r == 0)
    r = tn_machine_realize (machine, error);
  if (r == 0)
    *out = g_steal_pointer (&machine);
  return r;
}
