/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The Goldfish real-time clock: nanoseconds since 1970 in UTC, with an alarm.
 *
 *   0x00 TIME_LOW (reading it latches TIME_HIGH)   0x04 TIME_HIGH
 *   0x08 ALARM_LOW (writing it arms)               0x0c ALARM_HIGH
 *   0x10 IRQ_ENABLED   0x14 CLEAR_ALARM   0x18 ALARM_STATUS   0x1c CLEAR_INTERRUPT */
#include <time.h>

#include <tenon/device.h>
#include <tenon/plugin.h>

#define RTC_SIZE 0x1000

enum {
  RTC_TIME_LOW = 0x00,
  RTC_TIME_HIGH = 0x04,
  RTC_ALARM_LOW = 0x08,
  RTC_ALARM_HIGH = 0x0c,
  RTC_IRQ_ENABLED = 0x10,
  RTC_CLEAR_ALARM = 0x14,
  RTC_ALARM_STATUS = 0x18,
  RTC_CLEAR_INTERRUPT = 0x1c
};

typedef struct Rtc {
  TnDevice *device;
  TnTimer *timer;
  TnIrq *irq;
  int64_t offset; /* wall clock minus machine time: the guest may set the clock */
  uint64_t alarm;
  uint32_t latched_high;
  uint32_t alarm_high;
  bool armed, irq_enabled, pending;
} Rtc;

static const TnStateField rtc_fields[] = {
  { "offset", offsetof (Rtc, offset), TN_STATE_U64, 1, 0, 0 },
  { "alarm", offsetof (Rtc, alarm), TN_STATE_U64, 1, 0, 0 },
  { "latched-high", offsetof (Rtc, latched_high), TN_STATE_U32, 1, 0, 0 },
  { "alarm-high", offsetof (Rtc, alarm_high), TN_STATE_U32, 1, 0, 0 },
  { "armed", offsetof (Rtc, armed), TN_STATE_BOOL, 1, 0, 0 },
  { "irq-enabled", offsetof (Rtc, irq_enabled), TN_STATE_BOOL, 1, 0, 0 },
  { "pending", offsetof (Rtc, pending), TN_STATE_BOOL, 1, 0, 0 },
  { .name = NULL },
};

static int64_t
rtc_wall_clock (void)
{
  struct timespec now;
  clock_gettime (CLOCK_REALTIME, &now);
  return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wraps around like the 64-bit register that it is. */
static uint64_t
rtc_now (const Rtc *rtc)
{
  return (uint64_t) tn_device_clock_ns (rtc->device) + (uint64_t) rtc->offset;
}

static void
rtc_update (Rtc *rtc)
{
  tn_irq_set (rtc->irq, rtc->pending && rtc->irq_enabled);
}

/* Sets the timer, or rings at once when the alarm lies in the past.  The caller holds the lock. */
static void
rtc_arm (Rtc *rtc)
{
  const uint64_t now = rtc_now (rtc);
  int64_t deadline = INT64_MAX;
  if (rtc->armed && rtc->alarm <= now) {
    rtc->armed = false;
    rtc->pending = true;
  } else if (rtc->armed) {
    const uint64_t delay = rtc->alarm - now;
    const int64_t machine = tn_device_clock_ns (rtc->device);
    if (delay < (uint64_t) (INT64_MAX - machine))
      deadline = machine + (int64_t) delay;
  }
  tn_device_timer_set (rtc->device, rtc->timer, deadline);
  rtc_update (rtc);
}

static void
rtc_timer_fired (void *opaque)
{
  Rtc *rtc = opaque;
  tn_device_lock (rtc->device);
  rtc_arm (rtc);
  tn_device_unlock (rtc->device);
}

static uint64_t
rtc_read_locked (Rtc *rtc, uint64_t offset)
{
  uint64_t now;
  switch (offset) {
  case RTC_TIME_LOW:
    now = rtc_now (rtc);
    rtc->latched_high = (uint32_t) (now >> 32);
    return (uint32_t) now;
  case RTC_TIME_HIGH:
    return rtc->latched_high;
  case RTC_ALARM_LOW:
    return (uint32_t) rtc->alarm;
  case RTC_ALARM_HIGH:
    return (uint32_t) (rtc->alarm >> 32);
  case RTC_IRQ_ENABLED:
    return rtc->irq_enabled;
  case RTC_ALARM_STATUS:
    return rtc->armed;
  default:
    return 0;
  }
}

static uint64_t
rtc_read (void *opaque, uint64_t offset, unsigned bytes)
{
  Rtc *rtc = opaque;
  tn_device_lock (rtc->device);
  uint64_t value = rtc_read_locked (rtc, offset);
  tn_device_unlock (rtc->device);
  return value;
}

/* Replaces one half of the time; the other goes on. */
static void
rtc_set_time (Rtc *rtc, unsigned shift, uint32_t half)
{
  const uint64_t now = rtc_now (rtc);
  const uint64_t wanted = (now & ~((uint64_t) UINT32_MAX << shift)) | (uint64_t) half << shift;
  rtc->offset = (int64_t) ((uint64_t) rtc->offset + (wanted - now));
}

static void
rtc_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  Rtc *rtc = opaque;
  tn_device_lock (rtc->device);
  switch (offset) {
  case RTC_TIME_LOW:
    rtc_set_time (rtc, 0, (uint32_t) value);
    break;
  case RTC_TIME_HIGH:
    rtc_set_time (rtc, 32, (uint32_t) value);
    break;
  case RTC_ALARM_LOW:
    rtc->alarm = (uint64_t) rtc->alarm_high << 32 | (uint32_t) value;
    rtc->armed = true;
    break;
  case RTC_ALARM_HIGH:
    rtc->alarm_high = (uint32_t) value;
    break;
  case RTC_IRQ_ENABLED:
    rtc->irq_enabled = value & 1;
    break;
  case RTC_CLEAR_ALARM:
    rtc->armed = false;
    break;
  case RTC_CLEAR_INTERRUPT:
    rtc->pending = false;
    break;
  default:
    break;
  }
  rtc_arm (rtc);
  tn_device_unlock (rtc->device);
}

static int
rtc_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnMmioOps registers = {
    .size = sizeof registers, .min_access = 4, .max_access = 4, .read = rtc_read, .write = rtc_write
  };
  Rtc *rtc = tn_device_state (device);
  rtc->device = device;
  rtc->irq = tn_device_irq (device, 0);
  rtc->timer = tn_device_timer_new (device, rtc_timer_fired, rtc);
  return tn_device_add_mmio (device, 0, RTC_SIZE, &registers, rtc, error);
}

static void
rtc_reset (TnDevice *device)
{
  Rtc *rtc = tn_device_state (device);
  rtc->offset = rtc_wall_clock () - tn_device_clock_ns (device);
  rtc->alarm = 0;
  rtc->alarm_high = rtc->latched_high = 0;
  rtc->armed = rtc->irq_enabled = rtc->pending = false;
  rtc_arm (rtc);
}

static int
rtc_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  tn_fdt_string (fdt, "compatible", "google,goldfish-rtc");
  return 0;
}

static int
rtc_state_loaded (TnDevice *device, uint32_t version, GError **error)
{
  rtc_arm (tn_device_state (device));
  return 0;
}

static const TnDeviceOps rtc_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (Rtc),
  .bus = "system",
  .realize = rtc_realize,
  .reset = rtc_reset,
  .fdt = rtc_fdt,
  .state_version = 1,
  .state = rtc_fields,
  .state_loaded = rtc_state_loaded,
};

static const TnClass rtc_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "goldfish-rtc",
  .summary = "real-time clock (Goldfish)",
  .ops = &rtc_ops,
};

static const TnClass *const rtc_classes[] = { &rtc_class, NULL };

TN_PLUGIN_DEFINE (device_goldfish_rtc, .name = "device-goldfish-rtc", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-device-goldfish-rtc",
                  .security = TN_SECURITY_HARDENED, .classes = rtc_classes);
