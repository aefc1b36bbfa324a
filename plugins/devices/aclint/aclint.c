/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RISC-V ACLINT in the layout of SiFive's CLINT: software interrupts (MSWI) and timers (MTIMER).
 *
 *   0x0000 + 4 × hart   msip
 *   0x4000 + 8 × hart   mtimecmp
 *   0xbff8              mtime
 *
 * Outputs, for each hart in turn: software interrupt, timer interrupt. */
#include <tenon/device.h>
#include <tenon/plugin.h>

#define ACLINT_SIZE 0x10000
#define MTIMECMP 0x4000
#define MTIME 0xbff8
#define MAX_HARTS 4095
#define NANOSECONDS 1000000000

typedef struct AclintHart {
  uint64_t mtimecmp;
  uint32_t msip;
} AclintHart;

typedef struct Aclint {
  TnDevice *device;
  TnTimer *timer;
  AclintHart *harts;
  unsigned n_harts;
  uint64_t timebase;
  uint64_t mtime_offset; /* added to machine time: the guest may set mtime */
} Aclint;

static const TnStateField aclint_fields[] = {
  { "mtime-offset", offsetof (Aclint, mtime_offset), TN_STATE_U64, 1, 0, 0 },
  { .name = NULL },
};

static uint64_t
aclint_mtime (const Aclint *aclint)
{
  const unsigned __int128 ns = (unsigned __int128) (uint64_t) tn_device_clock_ns (aclint->device);
  return (uint64_t) (ns * aclint->timebase / NANOSECONDS) + aclint->mtime_offset;
}

/* Machine time at which mtime reaches @ticks, rounded up; INT64_MAX when that is out of reach. */
static int64_t
aclint_deadline (const Aclint *aclint, uint64_t ticks)
{
  const uint64_t relative = ticks - aclint->mtime_offset;
  const unsigned __int128 ns =
      ((unsigned __int128) relative * NANOSECONDS + aclint->timebase - 1) / aclint->timebase;
  return ns >= INT64_MAX ? INT64_MAX : (int64_t) ns;
}

/* Sets every timer line and the next wake-up.  The caller holds the lock. */
static void
aclint_update_timers (Aclint *aclint)
{
  const uint64_t now = aclint_mtime (aclint);
  int64_t next = INT64_MAX;
  for (unsigned i = 0; i < aclint->n_harts; i++) {
    const uint64_t compare = aclint->harts[i].mtimecmp;
    tn_irq_set (tn_device_irq (aclint->device, 2 * i + 1), now >= compare);
    if (now < compare)
      next = MIN (next, aclint_deadline (aclint, compare));
  }
  tn_device_timer_set (aclint->device, aclint->timer, next);
}

static void
aclint_timer_fired (void *opaque)
{
  Aclint *aclint = opaque;
  tn_device_lock (aclint->device);
  aclint_update_timers (aclint);
  tn_device_unlock (aclint->device);
}

/* ---- Registers ---- */

/* A 64-bit register may be read and written in halves. */
static uint64_t
aclint_extract (uint64_t value, uint64_t offset, unsigned bytes)
{
  return bytes == 8 ? value : (uint32_t) (value >> (offset & 4 ? 32 : 0));
}

static uint64_t
aclint_insert (uint64_t old, uint64_t offset, unsigned bytes, uint64_t value)
{
  if (bytes == 8)
    return value;
  const unsigned shift = offset & 4 ? 32 : 0;
  return (old & ~((uint64_t) UINT32_MAX << shift)) | ((uint64_t) (uint32_t) value << shift);
}

static uint64_t
aclint_read (void *opaque, uint64_t offset, unsigned bytes)
{
  Aclint *aclint = opaque;
  uint64_t value = 0;
  tn_device_lock (aclint->device);
  if (offset < MTIMECMP) {
    if (offset / 4 < aclint->n_harts)
      value = aclint->harts[offset / 4].msip;
  } else if (offset < MTIME) {
    const uint64_t hart = (offset - MTIMECMP) / 8;
    if (hart < aclint->n_harts)
      value = aclint_extract (aclint->harts[hart].mtimecmp, offset, bytes);
  } else if (offset < MTIME + 8) {
    value = aclint_extract (aclint_mtime (aclint), offset, bytes);
  }
  tn_device_unlock (aclint->device);
  return value;
}

static void
aclint_write_mtime (Aclint *aclint, uint64_t offset, uint64_t value, unsigned bytes)
{
  const uint64_t now = aclint_mtime (aclint);
  aclint->mtime_offset += aclint_insert (now, offset, bytes, value) - now;
}

static void
aclint_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  Aclint *aclint = opaque;
  tn_device_lock (aclint->device);
  if (offset < MTIMECMP) {
    const uint64_t hart = offset / 4;
    if (hart < aclint->n_harts) {
      aclint->harts[hart].msip = value & 1;
      tn_irq_set (tn_device_irq (aclint->device, (unsigned) (2 * hart)), value & 1);
    }
  } else if (offset < MTIME) {
    const uint64_t hart = (offset - MTIMECMP) / 8;
    if (hart < aclint->n_harts) {
      aclint->harts[hart].mtimecmp = aclint_insert (aclint->harts[hart].mtimecmp, offset, bytes, value);
      aclint_update_timers (aclint);
    }
  } else if (offset < MTIME + 8) {
    aclint_write_mtime (aclint, offset, value, bytes);
    aclint_update_timers (aclint);
  }
  tn_device_unlock (aclint->device);
}

/* ---- Class ---- */

static int
aclint_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnMmioOps registers = {
    .size = sizeof registers, .min_access = 4, .max_access = 8, .read = aclint_read, .write = aclint_write
  };
  Aclint *aclint = tn_device_state (device);
  aclint->device = device;
  aclint->n_harts = tn_device_cpu_count (device);
  if (aclint->n_harts > MAX_HARTS)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s' serves at most %d harts",
                    tn_device_id (device), MAX_HARTS);
  aclint->timebase = tn_device_timebase (device);
  aclint->harts = g_new0 (AclintHart, aclint->n_harts);
  aclint->timer = tn_device_timer_new (device, aclint_timer_fired, aclint);
  return tn_device_add_mmio (device, 0, ACLINT_SIZE, &registers, aclint, error);
}

static void
aclint_unrealize (TnDevice *device)
{
  Aclint *aclint = tn_device_state (device);
  g_free (aclint->harts);
}

static void
aclint_reset (TnDevice *device)
{
  Aclint *aclint = tn_device_state (device);
  aclint->mtime_offset = 0;
  for (unsigned i = 0; i < aclint->n_harts; i++) {
    aclint->harts[i] = (AclintHart){ .mtimecmp = UINT64_MAX };
    tn_irq_set (tn_device_irq (device, 2 * i), false);
  }
  aclint_update_timers (aclint);
}

static int
aclint_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  static const char *const compatible[] = { "sifive,clint0", "riscv,clint0" };
  tn_fdt_strings (fdt, "compatible", compatible, G_N_ELEMENTS (compatible));
  return 0;
}

static const TnDeviceOps aclint_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (Aclint),
  .bus = "system",
  .realize = aclint_realize,
  .unrealize = aclint_unrealize,
  .reset = aclint_reset,
  .fdt = aclint_fdt,
  .state_version = 1,
  .state = aclint_fields,
};

static const TnClass aclint_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "aclint",
  .summary = "RISC-V timers and software interrupts (ACLINT, CLINT layout)",
  .ops = &aclint_ops,
};

static const TnClass *const aclint_classes[] = { &aclint_class, NULL };

TN_PLUGIN_DEFINE (device_aclint, .name = "device-aclint", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-device-aclint", .security = TN_SECURITY_HARDENED,
                  .classes = aclint_classes);
