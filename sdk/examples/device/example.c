/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device "example": one register that counts how often it was read.  Reading it gives the number of reads
 * before, writing sets the count. */
#include <tenon/device.h>
#include <tenon/plugin.h>

#define EXAMPLE_REGION_SIZE 0x1000

typedef struct ExampleState {
  uint64_t count;
} ExampleState;

static uint64_t
example_read (void *opaque, uint64_t offset, unsigned bytes)
{
  TnDevice *device = opaque;
  ExampleState *state = tn_device_state (device);
  if (offset != 0)
    return 0;
  tn_device_lock (device);
  uint64_t count = state->count++;
  tn_device_unlock (device);
  return count;
}

static void
example_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  TnDevice *device = opaque;
  ExampleState *state = tn_device_state (device);
  if (offset != 0)
    return;
  tn_device_lock (device);
  state->count = value;
  tn_device_unlock (device);
}

static const TnMmioOps example_registers = {
  .size = sizeof (TnMmioOps),
  .min_access = 4,
  .max_access = 8,
  .read = example_read,
  .write = example_write,
};

static int
example_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  return tn_device_add_mmio (device, 0, EXAMPLE_REGION_SIZE, &example_registers, device, error);
}

static void
example_reset (TnDevice *device)
{
  ExampleState *state = tn_device_state (device);
  state->count = 0;
}

static const TnStateField example_state[] = {
  { .name = "count", .offset = offsetof (ExampleState, count), .type = TN_STATE_U64, .since = 1 },
  { .name = NULL },
};

static const TnDeviceOps example_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (ExampleState),
  .bus = "system",
  .realize = example_realize,
  .reset = example_reset,
  .state_version = 1,
  .state = example_state,
};

static const TnClass example_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "example",
  .summary = "a register that counts how often it was read",
  .ops = &example_ops,
};

static const TnClass *const example_classes[] = { &example_class, NULL };

TN_PLUGIN_DEFINE (device_example, .name = "device-example", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-device-example", .classes = example_classes);
