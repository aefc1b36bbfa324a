/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine before it runs: what it is made of, and how it is put together. */
#include "machine/chardev.h"
#include "machine/machine-private.h"
#include "memory/space.h"

#define MIN_MEMORY (UINT64_C (64) * 1024)
#define CONSOLE_INPUT_LIMIT 4096

/* ---- Making and freeing ---- */

TnMachine *
tn_machine_new (const char *name, GError **error)
{
  TnBoard *board = NULL;
  if (tn_board_load (name, &board, error) < 0)
    return NULL;
  TnMachine *machine = g_new0 (TnMachine, 1);
  machine->board = board;
  machine->memory = board->memory;
  machine->cpus = board->cpus;
  machine->cpu_class = g_strdup (board->cpu_class);
  machine->cpu_options = tn_options_new ();
  machine->boot_options = tn_options_new ();
  machine->loop = tn_loop_current ();
  machine->devices = g_ptr_array_new ();
  machine->placed = g_ptr_array_new ();
  machine->pending = g_ptr_array_new ();
  machine->drives = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  machine->chardevs = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  machine->slots_used = g_new0 (unsigned, board->slots->len + 1);
  machine->console_input = g_byte_array_new ();
  pthread_mutex_init (&machine->timer_lock, NULL);
  pthread_mutex_init (&machine->wiring_lock, NULL);
  pthread_mutex_init (&machine->failure_lock, NULL);
  pthread_mutex_init (&machine->console_lock, NULL);
  tn_machine_clock_init (&machine->clock);
  return machine;
}

static void
pending_free (TnPendingDevice *pending)
{
  g_free (pending->class_name);
  g_free (pending->id);
  tn_options_free (pending->options);
  g_free (pending);
}

static void
placed_free (TnBoardDevice *placed)
{
  for (guint i = 0; i < placed->wires->len; i++) {
    TnBoardWire *wire = g_ptr_array_index (placed->wires, i);
    g_free (wire->target);
    g_free (wire);
  }
  g_ptr_array_unref (placed->wires);
  g_ptr_array_unref (placed->properties);
  g_array_unref (placed->addresses);
  tn_options_free (placed->options);
  g_free (placed->id);
  g_free (placed->class_name);
  g_free (placed->node);
  g_free (placed);
}

/* Devices go in the reverse of their order, so that a child goes before its parent, which lets go of it then.
 */
static void
free_devices (TnMachine *machine)
{
  for (guint i = 0; i < machine->devices->len; i++)
    tn_device_quiesce (g_ptr_array_index (machine->devices, i));
  for (guint i = machine->devices->len; i > 0; i--)
    tn_device_unrealize (g_ptr_array_index (machine->devices, i - 1));
  for (guint i = machine->devices->len; i > 0; i--)
    tn_device_free (g_ptr_array_index (machine->devices, i - 1));
  g_ptr_array_unref (machine->devices);
}

static void
free_backends (TnMachine *machine)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, machine->drives);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    tn_drive_free (value);
  g_hash_table_unref (machine->drives);
  g_hash_table_iter_init (&iter, machine->chardevs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    tn_chardev_free (value);
  g_hash_table_unref (machine->chardevs);
}

void
tn_machine_free (TnMachine *machine)
{
  if (machine == NULL)
    return;
  if (machine->cpu_set != NULL)
    tn_cpu_set_pause (machine->cpu_set, NULL, NULL);
  if (machine->space != NULL)
    tn_space_set_listener (machine->space, NULL, NULL);
  free_devices (machine);
  tn_cpu_set_free (machine->cpu_set);
  free_backends (machine);
  tn_loop_iterate (machine->loop, false); /* what they posted still holds them */
  if (machine->monitor_free != NULL)
    machine->monitor_free (machine->monitor);
  tn_space_free (machine->space);
  tn_boot_plan_clear (&machine->boot);
  for (guint i = 0; i < machine->placed->len; i++)
    placed_free (g_ptr_array_index (machine->placed, i));
  for (guint i = 0; i < machine->pending->len; i++)
    pending_free (g_ptr_array_index (machine->pending, i));
  g_ptr_array_unref (machine->placed);
  g_ptr_array_unref (machine->pending);
  g_byte_array_unref (machine->console_input);
  g_clear_error (&machine->failure);
  pthread_mutex_destroy (&machine->timer_lock);
  pthread_mutex_destroy (&machine->wiring_lock);
  pthread_mutex_destroy (&machine->failure_lock);
  pthread_mutex_destroy (&machine->console_lock);
  tn_options_free (machine->cpu_options);
  tn_options_free (machine->boot_options);
  tn_board_free (machine->board);
  g_free (machine->cpu_class);
  g_free (machine->slots_used);
  g_free (machine->fdt);
  g_free (machine);
}

/* ---- What a program sets ---- */

static int
check_unrealized (const TnMachine *machine, GError **error)
{
  if (machine->realized)
    return tn_fail (error, TN_MACHINE_ERROR, EBUSY, "the machine has been built already");
  return 0;
}

int
tn_machine_set_memory (TnMachine *machine, uint64_t bytes, GError **error)
{
  if (bytes % TN_PAGE_SIZE != 0 || bytes < MIN_MEMORY || bytes > machine->board->memory_max)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "board '%s' takes 64 KiB to %" G_GUINT64_FORMAT " MiB of memory in multiples of 4 KiB",
                    machine->board->name, machine->board->memory_max >> 20);
  machine->memory = bytes;
  return check_unrealized (machine, error);
}

int
tn_machine_set_cpus (TnMachine *machine, unsigned count, GError **error)
{
  if (count < 1 || count > machine->board->cpus_max)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "board '%s' takes 1 to %u CPUs", machine->board->name,
                    machine->board->cpus_max);
  machine->cpus = count;
  return check_unrealized (machine, error);
}

int
tn_machine_set_cpu (TnMachine *machine, const char *cpu_class, const TnOptions *options, GError **error)
{
  if (cpu_class != NULL) {
    g_free (machine->cpu_class);
    machine->cpu_class = g_strdup (cpu_class);
  }
  if (options != NULL)
    tn_options_merge (machine->cpu_options, options);
  return check_unrealized (machine, error);
}

int
tn_machine_add_drive (TnMachine *machine, const char *id, TnDrive *drive, GError **error)
{
  if (g_hash_table_contains (machine->drives, id))
    return tn_fail (error, TN_MACHINE_ERROR, EEXIST, "there are two drives '%s', choose another id", id);
  g_hash_table_insert (machine->drives, g_strdup (id), drive);
  return 0;
}

int
tn_machine_add_device (TnMachine *machine, const char *device_class, const char *id, const TnOptions *options,
                       GError **error)
{
  int r = check_unrealized (machine, error);
  if (r < 0)
    return r;
  TnPendingDevice *pending = g_new0 (TnPendingDevice, 1);
  pending->class_name = g_strdup (device_class);
  pending->id = id != NULL ? g_strdup (id) : g_strdup_printf ("%s.%u", device_class, machine->pending->len);
  pending->options = options != NULL ? tn_options_copy (options) : tn_options_new ();
  g_ptr_array_add (machine->pending, pending);
  return 0;
}

int
tn_machine_set_boot (TnMachine *machine, const TnOptions *boot, GError **error)
{
  static const TnOption table[] = {
    { .name = "bios", .type = TN_OPTION_STRING, .help = "firmware file, or none" },
    { .name = "kernel", .type = TN_OPTION_STRING, .help = "kernel file" },
    { .name = "initrd", .type = TN_OPTION_STRING, .help = "initial RAM disk" },
    { .name = "append", .type = TN_OPTION_STRING, .help = "kernel command line" },
    { .name = "dtb",
      .type = TN_OPTION_STRING,
      .help = "device tree blob to use instead of the generated one" },
    { .name = NULL },
  };
  tn_options_merge (machine->boot_options, boot);
  int r = tn_options_check (machine->boot_options, table, sizeof (TnOption), TN_OPTION_OPEN, "boot", error);
  return r < 0 ? r : check_unrealized (machine, error);
}

void
tn_machine_set_reboot (TnMachine *machine, bool reboot)
{
  machine->no_reboot = !reboot;
}

const char *
tn_machine_interface_class (TnMachine *machine, const char *interface)
{
  return tn_options_get (machine->board->interfaces, interface);
}

/* ---- Character devices ---- */

static void
escape_quit (void *opaque)
{
  tn_machine_quit (opaque, 0);
}

static void
escape_monitor_focus (void *opaque, TnChardev *chardev, bool focus)
{
  TnMachine *machine = opaque;
  if (machine->monitor_focus != NULL)
    machine->monitor_focus (machine->monitor, chardev, focus);
}

static void
escape_monitor_input (void *opaque, TnChardev *chardev, const uint8_t *data, size_t length)
{
  TnMachine *machine = opaque;
  if (machine->monitor_input != NULL)
    machine->monitor_input (machine->monitor, chardev, data, length);
}

int
tn_machine_add_chardev (TnMachine *machine, const char *id, const char *spec, GError **error)
{
  static const TnChardevEscape escape = { escape_quit, escape_monitor_focus, escape_monitor_input };
  TnChardevBackend backend;
  if (g_hash_table_contains (machine->chardevs, id))
    return tn_fail (error, TN_MACHINE_ERROR, EEXIST,
                    "there are two character devices '%s', choose another id", id);
  int r = tn_chardev_backend_open (spec, &backend, error);
  if (r < 0)
    return r;
  TnChardev *chardev = tn_chardev_new (machine->loop, &backend, &escape, machine);
  g_hash_table_insert (machine->chardevs, g_strdup (id), chardev);
  if (machine->console == NULL)
    machine->console = chardev;
  return 0;
}

TnChardev *
tn_machine_chardev (TnMachine *machine, const char *id)
{
  return g_hash_table_lookup (machine->chardevs, id);
}

/* A character device that the board names, and nobody has given, is "null". */
static int
complete_chardevs (TnMachine *machine, GError **error)
{
  for (guint i = 0; i < machine->board->devices->len; i++) {
    const TnBoardDevice *device = g_ptr_array_index (machine->board->devices, i);
    const char *id = tn_options_get (device->options, "chardev");
    if (id == NULL || g_hash_table_contains (machine->chardevs, id))
      continue;
    int r = tn_machine_add_chardev (machine, id, "null", error);
    if (r < 0)
      return r;
  }
  return 0;
}

static size_t
console_can_receive (void *opaque)
{
  TnMachine *machine = opaque;
  pthread_mutex_lock (&machine->console_lock);
  size_t room = CONSOLE_INPUT_LIMIT - machine->console_input->len;
  pthread_mutex_unlock (&machine->console_lock);
  return room;
}

static void
console_receive (void *opaque, const uint8_t *data, size_t length)
{
  TnMachine *machine = opaque;
  pthread_mutex_lock (&machine->console_lock);
  g_byte_array_append (machine->console_input, data, (guint) length);
  pthread_mutex_unlock (&machine->console_lock);
}

/* Without a serial port, input goes to the firmware's console calls. */
static void
connect_console (TnMachine *machine)
{
  static const TnChardevHandler handler = { .size = sizeof handler,
                                            .can_receive = console_can_receive,
                                            .receive = console_receive };
  if (machine->console != NULL && !tn_chardev_is_connected (machine->console))
    tn_chardev_connect (machine->console, &handler, machine, NULL);
}

static size_t
cpu_console_write (TnMachine *machine, const void *data, size_t length)
{
  if (machine->console != NULL)
    tn_chardev_write (machine->console, data, length);
  return length;
}

static size_t
cpu_console_read (TnMachine *machine, void *data, size_t length)
{
  pthread_mutex_lock (&machine->console_lock);
  size_t n = MIN (length, machine->console_input->len);
  if (n > 0) {
    memcpy (data, machine->console_input->data, n);
    g_byte_array_remove_range (machine->console_input, 0, (guint) n);
  }
  pthread_mutex_unlock (&machine->console_lock);
  if (n > 0)
    tn_chardev_accept (machine->console);
  return n;
}

/* ---- Building ---- */

static void
memory_changed (void *opaque)
{
  TnMachine *machine = opaque;
  if (machine->cpu_set != NULL)
    tn_cpu_set_memory_changed (machine->cpu_set);
}

static int
build_memory (TnMachine *machine, GError **error)
{
  machine->space = tn_space_new ("memory");
  int r = tn_space_add_ram (machine->space, "ram", machine->board->ram, machine->memory, error);
  for (guint i = 0; r == 0 && i < machine->board->roms->len; i++) {
    const TnBoardRom *rom = g_ptr_array_index (machine->board->roms, i);
    r = tn_space_add_rom (machine->space, rom->name, rom->address, rom->size, NULL, 0, error);
  }
  tn_space_set_listener (machine->space, memory_changed, machine);
  return r;
}

static int
build_cpus (TnMachine *machine, GError **error)
{
  const TnClass *class_ = tn_class_find (TN_KIND_CPU, machine->cpu_class, error);
  if (class_ == NULL)
    return -ENOENT;
  if (class_->major != TN_CPU_MAJOR)
    return tn_fail (
        error, TN_MACHINE_ERROR, EPROTONOSUPPORT,
        "CPU class '%s' was built for version %u of the CPU interface, this is %d: rebuild its plugin",
        class_->name, class_->major, TN_CPU_MAJOR);
  g_autoptr (TnOptions) options = tn_options_copy (machine->protocol->cpu_options);
  tn_options_merge (options, machine->cpu_options);
  g_autofree char *what = g_strdup_printf ("CPU '%s'", class_->name);
  int r = 0;
  if (class_->options != NULL)
    r = tn_options_check (options, class_->options, class_->option_size, TN_OPTION_OPEN, what, error);
  if (r < 0)
    return r;
  const TnCpuHost host = { .machine = machine,
                           .space = machine->space,
                           .clock = &machine->clock,
                           .timebase = machine->board->timebase,
                           .exited = tn_machine_cpu_exited,
                           .console_write = cpu_console_write,
                           .console_read = cpu_console_read };
  return tn_cpu_set_new (&host, class_, machine->cpus, options, &machine->cpu_set, error);
}

static int
build_board_devices (TnMachine *machine, GError **error)
{
  for (guint i = 0; i < machine->board->devices->len; i++) {
    const TnBoardDevice *wanted = g_ptr_array_index (machine->board->devices, i);
    TnDevice *device;
    int r = tn_device_new (machine, wanted->class_name, wanted->id, wanted->options, wanted, NULL, &device,
                           error);
    if (r == 0)
      r = tn_device_realize (device, error);
    if (r < 0)
      return r;
  }
  return 0;
}

/* The board's description of the transport in slot @index. */
static TnBoardDevice *
place_slot (TnMachine *machine, const TnBoardSlots *slots, unsigned index)
{
  TnBoardDevice *placed = g_new0 (TnBoardDevice, 1);
  const uint64_t address = slots->address + slots->stride * index;
  placed->id = g_strdup_printf ("%s-bus.%u", slots->class_name, index);
  placed->class_name = g_strdup (slots->class_name);
  placed->node = g_strdup (slots->node);
  placed->addresses = g_array_new (FALSE, FALSE, sizeof (uint64_t));
  g_array_append_val (placed->addresses, address);
  placed->wires = g_ptr_array_new ();
  placed->properties = g_ptr_array_new ();
  placed->options = tn_options_new ();
  if (slots->wire.target != NULL) {
    TnBoardWire *wire = g_new0 (TnBoardWire, 1);
    wire->target = g_strdup (slots->wire.target);
    wire->line = slots->wire.line + index;
    g_ptr_array_add (placed->wires, wire);
  }
  g_ptr_array_add (machine->placed, placed);
  return placed;
}

/* Makes the transport for a device on @bus in the next free slot. */
static int
build_transport (TnMachine *machine, const char *bus, const char *for_device, TnDevice **transport,
                 GError **error)
{
  for (guint i = 0; i < machine->board->slots->len; i++) {
    const TnBoardSlots *slots = g_ptr_array_index (machine->board->slots, i);
    if (strcmp (slots->bus, bus) != 0)
      continue;
    if (machine->slots_used[i] == slots->count)
      return tn_fail (error, TN_MACHINE_ERROR, ENOSPC,
                      "device '%s': board '%s' has %u places for %s devices, all are taken", for_device,
                      machine->board->name, slots->count, bus);
    const TnBoardDevice *placed = place_slot (machine, slots, machine->slots_used[i]++);
    int r = tn_device_new (machine, placed->class_name, placed->id, placed->options, placed, NULL, transport,
                           error);
    return r < 0 ? r : tn_device_realize (*transport, error);
  }
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s': board '%s' has no place for %s devices",
                  for_device, machine->board->name, bus);
}

static int
build_device (TnMachine *machine, const TnPendingDevice *pending, GError **error)
{
  const TnClass *class_ = tn_class_find (TN_KIND_DEVICE, pending->class_name, error);
  if (class_ == NULL)
    return -ENOENT;
  const TnDeviceOps *ops = class_->ops;
  TnDevice *transport = NULL, *device;
  if (ops->bus == NULL || strcmp (ops->bus, "system") == 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "device '%s' has fixed addresses: it belongs into a board file, not into -device",
                    class_->name);
  int r = build_transport (machine, ops->bus, pending->id, &transport, error);
  if (r == 0)
    r = tn_device_new (machine, pending->class_name, pending->id, pending->options, NULL, transport, &device,
                       error);
  return r < 0 ? r : tn_device_realize (device, error);
}

static int
build_devices (TnMachine *machine, GError **error)
{
  int r = build_board_devices (machine, error);
  for (guint i = 0; r == 0 && i < machine->pending->len; i++)
    r = build_device (machine, g_ptr_array_index (machine->pending, i), error);
  for (guint i = 0; r == 0 && i < machine->devices->len; i++)
    r = tn_device_wire (g_ptr_array_index (machine->devices, i), error);
  return r;
}

int
tn_machine_power_on (TnMachine *machine, GError **error)
{
  int r = tn_machine_place (machine, error);
  if (r == 0)
    r = tn_machine_make_fdt (machine, error);
  if (r < 0)
    return r;
  for (guint i = 0; i < machine->devices->len; i++)
    tn_device_reset (g_ptr_array_index (machine->devices, i));
  return tn_machine_enter (machine, error);
}

int
tn_machine_realize (TnMachine *machine, GError **error)
{
  int r = check_unrealized (machine, error);
  if (r == 0)
    r = tn_machine_choose_protocol (machine, error);
  if (r == 0)
    r = complete_chardevs (machine, error);
  if (r == 0)
    r = build_memory (machine, error);
  if (r == 0)
    r = tn_machine_load_images (machine, error);
  if (r == 0)
    r = build_cpus (machine, error);
  if (r == 0)
    r = build_devices (machine, error);
  if (r == 0)
    r = tn_machine_power_on (machine, error);
  if (r < 0)
    return r;
  connect_console (machine);
  machine->realized = true;
  return 0;
}

/* ---- Looking at it ---- */

TnSpace *
tn_machine_space (TnMachine *machine)
{
  return machine->space;
}

TnCpu *
tn_machine_cpu (TnMachine *machine, unsigned index)
{
  return machine->cpu_set != NULL ? tn_cpu_set_get (machine->cpu_set, index) : NULL;
}

const void *
tn_machine_fdt (TnMachine *machine, size_t *length)
{
  *length = machine->fdt_length;
  return machine->fdt;
}
