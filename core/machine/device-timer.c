/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device timers: the loop's timers, moved along with machine time. */
#include "machine/machine-private.h"

static void
timer_fired (void *opaque)
{
  TnDeviceTimer *timer = opaque;
  TnMachine *machine = timer->device->machine;
  pthread_mutex_lock (&machine->timer_lock);
  /* It may have been moved or stopped after the loop decided to call. */
  bool due = timer->deadline != INT64_MAX && tn_machine_clock_now (&machine->clock) >= timer->deadline;
  if (due)
    timer->deadline = INT64_MAX;
  pthread_mutex_unlock (&machine->timer_lock);
  if (due)
    timer->fire (timer->opaque);
}

TnTimer *
tn_device_timer_new (TnDevice *device, void (*fire) (void *opaque), void *opaque)
{
  TnDeviceTimer *timer = g_new0 (TnDeviceTimer, 1);
  timer->device = device;
  timer->fire = fire;
  timer->opaque = opaque;
  timer->deadline = INT64_MAX;
  timer->timer = tn_timer_new (device->machine->loop, timer_fired, timer);
  pthread_mutex_lock (&device->machine->timer_lock);
  g_ptr_array_add (device->timers, timer);
  pthread_mutex_unlock (&device->machine->timer_lock);
  return timer->timer;
}

/* Starts or stops the loop's timer as deadline and clock say.  The caller holds the timer lock. */
static void
timer_arm (TnDeviceTimer *timer)
{
  const TnClock *clock = &timer->device->machine->clock;
  int64_t host_ns = INT64_MAX;
  if (atomic_load (&clock->stopped) < 0)
    host_ns = tn_machine_clock_to_host (clock, timer->deadline);
  if (host_ns == INT64_MAX)
    tn_timer_stop (timer->timer);
  else
    tn_timer_set (timer->timer, host_ns);
}

void
tn_device_timer_set (TnDevice *device, TnTimer *timer, int64_t deadline_ns)
{
  pthread_mutex_lock (&device->machine->timer_lock);
  for (guint i = 0; i < device->timers->len; i++) {
    TnDeviceTimer *candidate = g_ptr_array_index (device->timers, i);
    if (candidate->timer != timer)
      continue;
    candidate->deadline = deadline_ns;
    timer_arm (candidate);
    break;
  }
  pthread_mutex_unlock (&device->machine->timer_lock);
}

void
tn_machine_clock_run (TnMachine *machine, bool run)
{
  pthread_mutex_lock (&machine->timer_lock);
  if (run)
    tn_machine_clock_start (&machine->clock);
  else
    tn_machine_clock_stop (&machine->clock);
  for (guint i = 0; i < machine->devices->len; i++) {
    TnDevice *device = g_ptr_array_index (machine->devices, i);
    for (guint t = 0; t < device->timers->len; t++)
      timer_arm (g_ptr_array_index (device->timers, t));
  }
  pthread_mutex_unlock (&machine->timer_lock);
}

void
tn_device_timers_free (TnDevice *device)
{
  for (guint i = 0; i < device->timers->len; i++) {
    TnDeviceTimer *timer = g_ptr_array_index (device->timers, i);
    tn_timer_free (timer->timer);
    g_free (timer);
  }
  g_ptr_array_unref (device->timers);
}
