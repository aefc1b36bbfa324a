/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device tree of a machine, from its objects; or the user's own, completed. */
#include <libfdt.h>
#include <sys/random.h>

#include "machine/fdt.h"
#include "machine/machine-private.h"

#define USER_FDT_MAX (2 * 1024 * 1024)

static void
write_chosen (TnFdt *fdt, TnMachine *machine)
{
  const char *append = tn_options_get (machine->boot_options, "append");
  const TnBootPlan *boot = &machine->boot;
  uint8_t seed[32];
  tn_fdt_begin (fdt, "chosen");
  if (append != NULL)
    tn_fdt_string (fdt, "bootargs", append);
  TnDevice *console = tn_machine_find_device (machine, machine->board->console);
  if (console != NULL && console->regions[0].mapped) {
    g_autofree char *path = g_strdup_printf ("/soc/%s@%" G_GINT64_MODIFIER "x", console->board->node,
                                             console->regions[0].address);
    tn_fdt_string (fdt, "stdout-path", path);
  }
  if (boot->initrd_length > 0) {
    tn_fdt_u64 (fdt, "linux,initrd-start", boot->initrd);
    tn_fdt_u64 (fdt, "linux,initrd-end", boot->initrd + boot->initrd_length);
  }
  if (getrandom (seed, sizeof seed, GRND_NONBLOCK) == (ssize_t) sizeof seed)
    tn_fdt_data (fdt, "rng-seed", seed, sizeof seed);
  tn_fdt_end (fdt);
}

static void
write_memory (TnFdt *fdt, TnMachine *machine)
{
  g_autofree char *name = g_strdup_printf ("memory@%" G_GINT64_MODIFIER "x", machine->board->ram);
  const uint64_t reg[] = { machine->board->ram, machine->memory };
  tn_fdt_begin (fdt, name);
  tn_fdt_string (fdt, "device_type", "memory");
  tn_fdt_u64s (fdt, "reg", reg, 2);
  tn_fdt_end (fdt);
}

static int
write_cpu (TnFdt *fdt, TnMachine *machine, unsigned index, GError **error)
{
  TnCpu *cpu = tn_cpu_set_get (machine->cpu_set, index);
  g_autofree char *name = g_strdup_printf ("cpu@%x", index);
  g_autofree char *id = g_strdup_printf ("cpu%u", index);
  tn_fdt_begin (fdt, name);
  tn_fdt_object (fdt, id);
  tn_fdt_string (fdt, "device_type", "cpu");
  tn_fdt_u32 (fdt, "reg", index);
  tn_fdt_string (fdt, "status", "okay");
  const TnCpuOps *ops = tn_cpu_ops (cpu);
  int r = ops->fdt != NULL ? ops->fdt (cpu, fdt, error) : 0;
  if (r < 0)
    return r;
  if (machine->board->hart_controller != NULL) {
    g_autofree char *controller = g_strdup_printf ("cpu%u.intc", index);
    tn_fdt_begin (fdt, "interrupt-controller");
    tn_fdt_object (fdt, controller);
    tn_fdt_string (fdt, "compatible", machine->board->hart_controller);
    tn_fdt_u32 (fdt, "#interrupt-cells", 1);
    tn_fdt_empty (fdt, "interrupt-controller");
    tn_fdt_end (fdt);
  }
  tn_fdt_end (fdt);
  return 0;
}

static int
write_cpus (TnFdt *fdt, TnMachine *machine, GError **error)
{
  tn_fdt_begin (fdt, "cpus");
  tn_fdt_u32 (fdt, "#address-cells", 1);
  tn_fdt_u32 (fdt, "#size-cells", 0);
  tn_fdt_u32 (fdt, "timebase-frequency", (uint32_t) machine->board->timebase);
  for (unsigned i = 0; i < machine->cpus; i++) {
    int r = write_cpu (fdt, machine, i, error);
    if (r < 0)
      return r;
  }
  tn_fdt_end (fdt);
  return 0;
}

/* ---- Devices ---- */

static bool
wires_go_to_cpus (const GPtrArray *wires)
{
  return strcmp (((const TnBoardWire *) g_ptr_array_index (wires, 0))->target, "cpu*") == 0;
}

static void
write_cpu_wires (TnFdt *fdt, TnMachine *machine, const GPtrArray *wires)
{
  g_autoptr (GArray) cells = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  for (unsigned hart = 0; hart < machine->cpus; hart++) {
    g_autofree char *controller = g_strdup_printf ("cpu%u.intc", hart);
    for (guint i = 0; i < wires->len; i++) {
      const TnBoardWire *wire = g_ptr_array_index (wires, i);
      uint32_t pair[] = { tn_fdt_phandle (fdt, controller), wire->line };
      g_array_append_vals (cells, pair, 2);
    }
  }
  tn_fdt_cells (fdt, "interrupts-extended", (const uint32_t *) (void *) cells->data, cells->len);
}

static void
write_wires (TnFdt *fdt, TnMachine *machine, const GPtrArray *wires)
{
  if (wires->len == 0)
    return;
  if (wires_go_to_cpus (wires)) {
    write_cpu_wires (fdt, machine, wires);
    return;
  }
  g_autoptr (GArray) lines = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  for (guint i = 0; i < wires->len; i++) {
    uint32_t line = ((const TnBoardWire *) g_ptr_array_index (wires, i))->line;
    g_array_append_val (lines, line);
  }
  const TnBoardWire *first = g_ptr_array_index (wires, 0);
  tn_fdt_cells (fdt, "interrupts", (const uint32_t *) (void *) lines->data, lines->len);
  tn_fdt_u32 (fdt, "interrupt-parent", tn_fdt_phandle (fdt, first->target));
}

static void
write_regions (TnFdt *fdt, const TnDevice *device)
{
  uint64_t reg[2 * TN_DEVICE_MAX_REGIONS];
  size_t n = 0;
  for (unsigned i = 0; i < TN_DEVICE_MAX_REGIONS; i++) {
    if (!device->regions[i].mapped)
      continue;
    reg[n++] = device->regions[i].address;
    reg[n++] = device->regions[i].size;
  }
  if (n > 0)
    tn_fdt_u64s (fdt, "reg", reg, n);
}

static int
write_properties (TnFdt *fdt, const TnMachine *machine, const char *owner, const GPtrArray *properties,
                  GError **error)
{
  for (guint i = 0; i < properties->len; i++) {
    const TnBoardProperty *property = g_ptr_array_index (properties, i);
    int r = tn_fdt_notation (fdt, property->name, property->value, error);
    if (r < 0) {
      if (error != NULL && *error != NULL)
        g_prefix_error (error, "%s: [%s] ", machine->board->path, owner);
      return r;
    }
  }
  return 0;
}

static int
write_device (TnFdt *fdt, TnDevice *device, GError **error)
{
  if (device->ops.fdt == NULL || device->board == NULL)
    return 0;
  g_autofree char *name =
      device->regions[0].mapped
          ? g_strdup_printf ("%s@%" G_GINT64_MODIFIER "x", device->board->node, device->regions[0].address)
          : g_strdup (device->board->node);
  tn_fdt_begin (fdt, name);
  tn_fdt_object (fdt, device->id);
  int r = device->ops.fdt (device, fdt, error);
  if (r < 0)
    return r;
  write_regions (fdt, device);
  write_wires (fdt, device->machine, device->board->wires);
  r = write_properties (fdt, device->machine, device->id, device->board->properties, error);
  tn_fdt_end (fdt);
  return r;
}

static int
write_devices (TnFdt *fdt, TnMachine *machine, GError **error)
{
  tn_fdt_begin (fdt, "soc");
  tn_fdt_string (fdt, "compatible", "simple-bus");
  tn_fdt_u32 (fdt, "#address-cells", 2);
  tn_fdt_u32 (fdt, "#size-cells", 2);
  tn_fdt_empty (fdt, "ranges");
  for (guint i = 0; i < machine->devices->len; i++) {
    int r = write_device (fdt, g_ptr_array_index (machine->devices, i), error);
    if (r < 0)
      return r;
  }
  tn_fdt_end (fdt);
  return 0;
}

static int
write_nodes (TnFdt *fdt, TnMachine *machine, GError **error)
{
  for (guint i = 0; i < machine->board->nodes->len; i++) {
    const TnBoardNode *node = g_ptr_array_index (machine->board->nodes, i);
    tn_fdt_begin (fdt, node->name);
    int r = write_properties (fdt, machine, node->name, node->properties, error);
    if (r < 0)
      return r;
    tn_fdt_end (fdt);
  }
  return 0;
}

static int
write_tree (TnFdt *fdt, void *opaque, GError **error)
{
  TnMachine *machine = opaque;
  const TnBoard *board = machine->board;
  tn_fdt_begin (fdt, "");
  tn_fdt_u32 (fdt, "#address-cells", 2);
  tn_fdt_u32 (fdt, "#size-cells", 2);
  tn_fdt_strings (fdt, "compatible", (const char *const *) board->compatible,
                  g_strv_length (board->compatible));
  tn_fdt_string (fdt, "model", board->model);
  write_chosen (fdt, machine);
  write_memory (fdt, machine);
  int r = write_cpus (fdt, machine, error);
  if (r == 0)
    r = write_devices (fdt, machine, error);
  if (r == 0)
    r = write_nodes (fdt, machine, error);
  tn_fdt_end (fdt);
  return r;
}

/* ---- The user's own tree ---- */

static int
complete_chosen (void *blob, const TnMachine *machine)
{
  const char *append = tn_options_get (machine->boot_options, "append");
  int chosen = fdt_path_offset (blob, "/chosen");
  if (chosen == -FDT_ERR_NOTFOUND)
    chosen = fdt_add_subnode (blob, 0, "chosen");
  if (chosen < 0)
    return chosen;
  int r = append != NULL ? fdt_setprop_string (blob, chosen, "bootargs", append) : 0;
  if (r == 0 && machine->boot.initrd_length > 0)
    r = fdt_setprop_u64 (blob, chosen, "linux,initrd-start", machine->boot.initrd);
  if (r == 0 && machine->boot.initrd_length > 0)
    r = fdt_setprop_u64 (blob, chosen, "linux,initrd-end",
                         machine->boot.initrd + machine->boot.initrd_length);
  return r;
}

int
tn_fdt_check_blob (const void *blob, size_t length, const char *name, GError **error)
{
  int r = length >= sizeof (struct fdt_header) ? fdt_check_full (blob, length) : -FDT_ERR_TRUNCATED;
  if (r < 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s' is not a device tree blob: %s", name,
                    fdt_strerror (r));
  return 0;
}

static int
load_user_tree (TnMachine *machine, const char *path, GError **error)
{
  g_autoptr (TnBootFile) file = NULL;
  int r = tn_boot_file_open (path, &file, error);
  if (r < 0)
    return r;
  const uint64_t size = tn_boot_file_size (file);
  if (size > USER_FDT_MAX)
    return tn_fail (error, TN_MACHINE_ERROR, EFBIG, "'%s' is too large for a device tree blob", path);
  g_autofree void *raw = g_malloc (size + 1);
  r = tn_boot_file_read (file, 0, raw, size, error);
  if (r == 0)
    r = tn_fdt_check_blob (raw, size, path, error);
  if (r < 0)
    return r;
  const char *append = tn_options_get (machine->boot_options, "append");
  const size_t room = size + 4096 + (append != NULL ? strlen (append) : 0);
  g_autofree void *blob = g_malloc0 (room);
  r = fdt_open_into (raw, blob, (int) room);
  if (r == 0)
    r = complete_chosen (blob, machine);
  if (r < 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "cannot complete the device tree '%s': %s", path,
                    fdt_strerror (r));
  fdt_pack (blob);
  machine->fdt_length = fdt_totalsize (blob);
  machine->fdt = g_steal_pointer (&blob);
  return 0;
}

int
tn_machine_make_fdt (TnMachine *machine, GError **error)
{
  const char *path = tn_options_get (machine->boot_options, "dtb");
  g_clear_pointer (&machine->fdt, g_free);
  machine->fdt_length = 0;
  if (path != NULL)
    return load_user_tree (machine, path, error);
  return tn_fdt_build (write_tree, machine, &machine->fdt, &machine->fdt_length, error);
}
