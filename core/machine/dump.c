/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine as text: objects, memory map, wiring, plugins. */
#include "machine/machine-private.h"

static void
dump_region (const char *name, const char *kind, uint64_t base, uint64_t size, void *opaque)
{
  g_string_append_printf (opaque, "  %016" G_GINT64_MODIFIER "x-%016" G_GINT64_MODIFIER "x %-4s %s\n", base,
                          base + size - 1, kind, name);
}

void
tn_machine_dump_memory (TnMachine *machine, GString *out)
{
  g_string_append (out, "memory map:\n");
  tn_space_foreach (machine->space, dump_region, out);
}

static void
dump_wires (const TnDevice *device, GString *out)
{
  const GPtrArray *wires = device->board != NULL ? device->board->wires : NULL;
  for (guint i = 0; wires != NULL && i < wires->len; i++) {
    const TnBoardWire *wire = g_ptr_array_index (wires, i);
    g_string_append_printf (out, "%s%s:%u", i == 0 ? "  -> " : ", ", wire->target, wire->line);
  }
}

static void
dump_device (const TnDevice *device, GString *out)
{
  g_string_append_printf (out, "  %s%s (%s)", device->parent != NULL ? "  on " : "",
                          device->parent != NULL ? device->parent->id : device->id, device->class_->name);
  if (device->parent != NULL)
    g_string_append_printf (out, " %s", device->id);
  for (unsigned i = 0; i < TN_DEVICE_MAX_REGIONS; i++) {
    if (device->regions[i].mapped)
      g_string_append_printf (out, " @ 0x%" G_GINT64_MODIFIER "x", device->regions[i].address);
  }
  dump_wires (device, out);
  g_string_append_c (out, '\n');
  for (size_t i = 0; i < tn_options_count (device->options); i++) {
    const char *key, *value;
    tn_options_pair (device->options, i, &key, &value);
    g_string_append_printf (out, "      %s=%s\n", key, value);
  }
}

static void
dump_plugin (const TnPlugin *plugin, const char *path, const char *why, void *opaque)
{
  g_string_append_printf (opaque, "  %-24s %s (%s)\n", plugin->name, why != NULL ? why : "",
                          path != NULL ? path : "built in");
}

void
tn_machine_dump_plugins (GString *out)
{
  g_string_append (out, "plugins:\n");
  tn_plugins_foreach_loaded (dump_plugin, out);
}

char *
tn_machine_dump (TnMachine *machine)
{
  GString *out = g_string_new (NULL);
  g_string_append_printf (out, "board %s: %s\n  from %s\n", machine->board->name, machine->board->summary,
                          machine->board->path);
  g_string_append_printf (out, "cpus: %u x %s, time base %" G_GUINT64_FORMAT " Hz\n", machine->cpus,
                          machine->cpu_class, machine->board->timebase);
  g_string_append (out, "devices:\n");
  for (guint i = 0; i < machine->devices->len; i++)
    dump_device (g_ptr_array_index (machine->devices, i), out);
  if (machine->space != NULL)
    tn_machine_dump_memory (machine, out);
  tn_machine_dump_plugins (out);
  return g_string_free (out, FALSE);
}
