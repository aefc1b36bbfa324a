/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device's life and what it may ask the core. */
#include "machine/machine-private.h"

void *
tn_device_state (TnDevice *device)
{
  return device->state;
}

const char *
tn_device_id (TnDevice *device)
{
  return device->id;
}

const TnDeviceOps *
tn_device_ops (TnDevice *device)
{
  return &device->ops;
}

TnMachine *
tn_device_machine (TnDevice *device)
{
  return device->machine;
}

TnDevice *
tn_device_parent (TnDevice *device)
{
  return device->parent;
}

void
tn_device_set_bus_data (TnDevice *device, void *data)
{
  device->bus_data = data;
}

void *
tn_device_bus_data (TnDevice *device)
{
  return device->bus_data;
}

TnSpace *
tn_device_space (TnDevice *device)
{
  return device->machine->space;
}

TnLoop *
tn_device_loop (TnDevice *device)
{
  return device->machine->loop;
}

void
tn_device_lock (TnDevice *device)
{
  pthread_mutex_lock (&device->lock);
}

void
tn_device_unlock (TnDevice *device)
{
  pthread_mutex_unlock (&device->lock);
}

int64_t
tn_device_clock_ns (TnDevice *device)
{
  return tn_machine_clock_now (&device->machine->clock);
}

unsigned
tn_device_cpu_count (TnDevice *device)
{
  return device->machine->cpus;
}

void
tn_device_cpu_irq (TnDevice *device, unsigned cpu, unsigned line, bool level)
{
  TnCpu *hart = tn_cpu_set_get (device->machine->cpu_set, cpu);
  if (hart != NULL)
    tn_cpu_set_irq (hart, line, level);
}

uint64_t
tn_device_timebase (TnDevice *device)
{
  return device->machine->board->timebase;
}

void
tn_device_request_shutdown (TnDevice *device, int exit_status)
{
  tn_machine_quit (device->machine, exit_status);
}

void
tn_device_request_reset (TnDevice *device)
{
  tn_machine_reset (device->machine);
}

bool
tn_device_boot_symbol (TnDevice *device, const char *name, uint64_t *value)
{
  return tn_boot_plan_symbol (&device->machine->boot, name, value);
}

TnDrive *
tn_device_drive (TnDevice *device, const char *id, GError **error)
{
  TnDrive *drive = g_hash_table_lookup (device->machine->drives, id);
  if (drive == NULL)
    tn_fail (error, TN_MACHINE_ERROR, ENOENT,
             "device '%s': there is no drive '%s', add -drive id=%s,if=none,file=…", device->id, id, id);
  return drive;
}

TnChardev *
tn_device_chardev (TnDevice *device, const char *id, GError **error)
{
  TnChardev *chardev = g_hash_table_lookup (device->machine->chardevs, id);
  if (chardev == NULL)
    tn_fail (error, TN_MACHINE_ERROR, ENOENT,
             "device '%s': there is no character device '%s', add -chardev …,id=%s", device->id, id, id);
  return chardev;
}

int
tn_device_add_mmio (TnDevice *device, unsigned index, uint64_t size, const TnMmioOps *ops, void *opaque,
                    GError **error)
{
  if (index >= TN_DEVICE_MAX_REGIONS || size == 0 || device->regions[index].offered)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s': register region %u is not valid",
                    device->id, index);
  TnDeviceRegion *region = &device->regions[index];
  region->offered = true;
  region->size = size;
  memcpy (&region->ops, ops, MIN (ops->size, sizeof region->ops));
  region->ops.size = sizeof region->ops;
  region->opaque = opaque;
  return 0;
}

/* ---- Life ---- */

static int
device_check_class (const TnClass *class_, const TnDeviceOps *ops, GError **error)
{
  if (class_->major != TN_DEVICE_MAJOR)
    return tn_fail (
        error, TN_MACHINE_ERROR, EPROTONOSUPPORT,
        "device class '%s' was built for version %u of the device interface, this is %d: rebuild its plugin",
        class_->name, class_->major, TN_DEVICE_MAJOR);
  if (ops->bus == NULL || ops->realize == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "device class '%s' lacks its bus or realize(), reinstall its plugin", class_->name);
  return 0;
}

int
tn_device_new (TnMachine *machine, const char *class_name, const char *id, const TnOptions *options,
               const TnBoardDevice *board, TnDevice *parent, TnDevice **out, GError **error)
{
  if (tn_machine_find_device (machine, id) != NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EEXIST, "there are two devices '%s', choose another id", id);
  const TnClass *class_ = tn_class_find (TN_KIND_DEVICE, class_name, error);
  if (class_ == NULL)
    return -ENOENT;
  const TnDeviceOps *ops = class_->ops;
  TnDevice *device = g_new0 (TnDevice, 1);
  memcpy (&device->ops, ops, MIN (ops->size, sizeof device->ops));
  device->machine = machine;
  device->class_ = class_;
  device->id = g_strdup (id);
  device->board = board;
  device->parent = parent;
  device->options = tn_options_copy (options);
  device->state = g_malloc0 (MAX (ops->instance_size, 1u));
  device->outputs = g_ptr_array_new ();
  device->inputs = g_ptr_array_new ();
  device->timers = g_ptr_array_new ();
  pthread_mutex_init (&device->lock, NULL);
  g_autofree char *what = g_strdup_printf ("device '%s'", class_->name);
  int r = device_check_class (class_, &device->ops, error);
  if (r == 0 && class_->options != NULL)
    r = tn_options_check (device->options, class_->options, class_->option_size, TN_OPTION_OPEN, what, error);
  else if (r == 0 && tn_options_count (device->options) > 0)
    r = tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s has no options", what);
  if (r < 0) {
    tn_device_free (device);
    return r;
  }
  g_ptr_array_add (machine->devices, device);
  *out = device;
  return 0;
}

static int
device_map (TnDevice *device, GError **error)
{
  const GArray *addresses = device->board != NULL ? device->board->addresses : NULL;
  for (guint i = 0; i < TN_DEVICE_MAX_REGIONS; i++) {
    TnDeviceRegion *region = &device->regions[i];
    if (!region->offered)
      continue;
    if (addresses == NULL || i >= addresses->len)
      return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                      "%s: [device %s] address: the device has registers, say where",
                      device->machine->board->path, device->id);
    region->address = g_array_index (addresses, uint64_t, i);
    int r = tn_space_add_mmio (device->machine->space, device->id, region->address, region->size,
                               &region->ops, region->opaque, error);
    if (r < 0)
      return r;
    region->mapped = true;
  }
  return 0;
}

int
tn_device_realize (TnDevice *device, GError **error)
{
  if (device->parent == NULL && strcmp (device->ops.bus, "system") != 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "device '%s' sits on the bus '%s', which this board does not have", device->id,
                    device->ops.bus);
  tn_device_lock (device);
  int r = device->ops.realize (device, device->options, error);
  tn_device_unlock (device);
  if (r < 0)
    return r;
  device->realized = true;
  r = device_map (device, error);
  if (r < 0 || device->parent == NULL)
    return r;
  if (device->parent->ops.attach == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s' takes no devices", device->parent->id);
  return device->parent->ops.attach (device->parent, device, error);
}

void
tn_device_reset (TnDevice *device)
{
  if (device->ops.reset == NULL)
    return;
  tn_device_lock (device);
  device->ops.reset (device);
  tn_device_unlock (device);
}

void
tn_device_quiesce (TnDevice *device)
{
  if (device->realized && device->ops.quiesce != NULL)
    device->ops.quiesce (device);
}

void
tn_device_unrealize (TnDevice *device)
{
  for (guint i = 0; i < TN_DEVICE_MAX_REGIONS; i++) {
    if (device->regions[i].mapped)
      tn_space_remove (device->machine->space, device->regions[i].address, NULL);
  }
  if (device->realized && device->ops.unrealize != NULL)
    device->ops.unrealize (device);
  device->realized = false;
}

void
tn_device_free (TnDevice *device)
{
  tn_device_timers_free (device);
  tn_device_irqs_free (device);
  pthread_mutex_destroy (&device->lock);
  tn_options_free (device->options);
  g_free (device->state);
  g_free (device->id);
  g_free (device);
}

TnDevice *
tn_machine_find_device (TnMachine *machine, const char *id)
{
  for (guint i = 0; i < machine->devices->len; i++) {
    TnDevice *device = g_ptr_array_index (machine->devices, i);
    if (strcmp (device->id, id) == 0)
      return device;
  }
  return NULL;
}
