/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupt wires. */
#include "machine/machine-private.h"

void
tn_device_add_irq_inputs (TnDevice *device, unsigned count,
                          void (*set) (void *opaque, unsigned number, bool level), void *opaque)
{
  device->set_input = set;
  device->set_input_opaque = opaque;
  for (unsigned i = device->inputs->len; i < count && i < TN_DEVICE_MAX_IRQS; i++) {
    TnIrqInput *input = g_new0 (TnIrqInput, 1);
    pthread_mutex_init (&input->lock, NULL);
    input->device = device;
    input->number = i;
    g_ptr_array_add (device->inputs, input);
  }
}

TnIrq *
tn_device_irq (TnDevice *device, unsigned index)
{
  pthread_mutex_lock (&device->machine->wiring_lock);
  while (device->outputs->len <= index)
    g_ptr_array_add (device->outputs, g_new0 (TnIrq, 1));
  TnIrq *irq = g_ptr_array_index (device->outputs, index);
  pthread_mutex_unlock (&device->machine->wiring_lock);
  return irq;
}

static void
input_change (TnIrqInput *input, bool level)
{
  pthread_mutex_lock (&input->lock);
  const bool before = input->asserted > 0;
  input->asserted += level ? 1 : -1;
  const bool after = input->asserted > 0;
  if (before != after)
    input->device->set_input (input->device->set_input_opaque, input->number, after);
  pthread_mutex_unlock (&input->lock);
}

void
tn_irq_set (TnIrq *irq, bool level)
{
  if (atomic_exchange (&irq->level, level) == level)
    return;
  if (irq->input != NULL)
    input_change (irq->input, level);
  else if (irq->cpu != NULL)
    tn_cpu_set_irq (irq->cpu, irq->line, level);
}

static int
wire_to_device (TnDevice *device, unsigned output, const TnBoardWire *wire, GError **error)
{
  TnDevice *target = tn_machine_find_device (device->machine, wire->target);
  if (target == NULL || wire->line >= target->inputs->len)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "%s: [device %s] irq: device '%s' has no interrupt input %u",
                    device->machine->board->path, device->id, wire->target, wire->line);
  tn_device_irq (device, output)->input = g_ptr_array_index (target->inputs, wire->line);
  return 0;
}

/* Wires to "cpu*" repeat for each hart: outputs 0 … n-1 are hart 0's, n … 2n-1 hart 1's. */
static void
wire_to_cpus (TnDevice *device, unsigned output, unsigned stride, const TnBoardWire *wire)
{
  for (unsigned hart = 0; hart < device->machine->cpus; hart++) {
    TnIrq *irq = tn_device_irq (device, output + hart * stride);
    irq->cpu = tn_cpu_set_get (device->machine->cpu_set, hart);
    irq->line = wire->line;
  }
}

int
tn_device_wire (TnDevice *device, GError **error)
{
  const GPtrArray *wires = device->board != NULL ? device->board->wires : NULL;
  for (guint i = 0; wires != NULL && i < wires->len; i++) {
    const TnBoardWire *wire = g_ptr_array_index (wires, i);
    int r = 0;
    if (strcmp (wire->target, "cpu*") == 0)
      wire_to_cpus (device, i, wires->len, wire);
    else
      r = wire_to_device (device, i, wire, error);
    if (r < 0)
      return r;
  }
  return 0;
}

void
tn_device_irqs_free (TnDevice *device)
{
  for (guint i = 0; i < device->outputs->len; i++)
    g_free (g_ptr_array_index (device->outputs, i));
  g_ptr_array_unref (device->outputs);
  for (guint i = 0; i < device->inputs->len; i++) {
    TnIrqInput *input = g_ptr_array_index (device->inputs, i);
    pthread_mutex_destroy (&input->lock);
    g_free (input);
  }
  g_ptr_array_unref (device->inputs);
}
