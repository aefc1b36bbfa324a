/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The SiFive test finisher: one register by which a guest ends or resets the machine. */
#include <tenon/device.h>
#include <tenon/plugin.h>

#define FINISHER_SIZE 0x1000

enum { FINISH_FAIL = 0x3333, FINISH_PASS = 0x5555, FINISH_RESET = 0x7777 };

static uint64_t
finisher_read (void *opaque, uint64_t offset, unsigned bytes)
{
  return 0;
}

/* Low half: what to do.  High half: exit code for FAIL. */
static void
finisher_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  TnDevice *device = opaque;
  if (offset != 0)
    return;
  int code = (int) ((value >> 16) & 0xffff);
  switch (value & 0xffff) {
  case FINISH_PASS:
    tn_device_request_shutdown (device, 0);
    break;
  case FINISH_FAIL:
    /* A failure without a code, or one whose low byte is lost on the way to the shell, is still a failure. */
    tn_device_request_shutdown (device, (code & 0xff) != 0 ? code & 0xff : 1);
    break;
  case FINISH_RESET:
    tn_device_request_reset (device);
    break;
  default:
    break;
  }
}

static int
finisher_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnMmioOps registers = {
    .size = sizeof registers, .min_access = 2, .max_access = 4, .read = finisher_read, .write = finisher_write
  };
  return tn_device_add_mmio (device, 0, FINISHER_SIZE, &registers, device, error);
}

static int
finisher_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  static const char *const compatible[] = { "sifive,test1", "sifive,test0", "syscon" };
  tn_fdt_strings (fdt, "compatible", compatible, G_N_ELEMENTS (compatible));
  return 0;
}

static const TnDeviceOps finisher_ops = {
  .size = sizeof (TnDeviceOps),
  .bus = "system",
  .realize = finisher_realize,
  .fdt = finisher_fdt,
};

static const TnClass finisher_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "test-finisher",
  .summary = "register that ends or resets the machine (SiFive test finisher)",
  .ops = &finisher_ops,
};

static const TnClass *const finisher_classes[] = { &finisher_class, NULL };

TN_PLUGIN_DEFINE (device_test_finisher, .name = "device-test-finisher", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-device-test-finisher",
                  .security = TN_SECURITY_HARDENED, .classes = finisher_classes);
