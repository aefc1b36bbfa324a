/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine while it runs: the main loop and what others ask of it. */
#include "machine/machine-private.h"

static void
wake_nothing (void *opaque)
{
}

void
tn_machine_wake (TnMachine *machine)
{
  tn_loop_post (machine->loop, wake_nothing, NULL);
}

/* ---- Requests from any thread ---- */

void
tn_machine_quit (TnMachine *machine, int status)
{
  if (!atomic_exchange (&machine->shutdown_wanted, true))
    atomic_store (&machine->exit_status, status);
  tn_machine_wake (machine);
}

void
tn_machine_reset (TnMachine *machine)
{
  atomic_store (&machine->reset_wanted, true);
  tn_machine_wake (machine);
}

void
tn_machine_cpu_exited (TnMachine *machine, TnCpuExitReason reason, int code, GError *error)
{
  switch (reason) {
  case TN_CPU_EXIT_SHUTDOWN:
    tn_machine_quit (machine, code);
    break;
  case TN_CPU_EXIT_RESET:
    tn_machine_reset (machine);
    break;
  default:
    pthread_mutex_lock (&machine->failure_lock);
    if (machine->failure == NULL)
      machine->failure = g_steal_pointer (&error);
    pthread_mutex_unlock (&machine->failure_lock);
    g_clear_error (&error);
    tn_machine_quit (machine, 1);
    break;
  }
}

/* ---- The machine's thread ---- */

/* A hart that resets a device waits until the device's requests have ended, which they do in this thread. */
static void
machine_serve_loop (void *opaque)
{
  TnMachine *machine = opaque;
  tn_loop_iterate (machine->loop, false);
}

void
tn_machine_hold_harts (TnMachine *machine)
{
  tn_cpu_set_pause (machine->cpu_set, machine_serve_loop, machine);
}

/* Harts first: a device is quiet only when nobody can give it work. */
static void
machine_stop (TnMachine *machine)
{
  if (!machine->running)
    return;
  machine->running = false;
  tn_machine_hold_harts (machine);
  tn_machine_clock_run (machine, false);
  for (guint i = 0; i < machine->devices->len; i++)
    tn_device_quiesce (g_ptr_array_index (machine->devices, i));
}

static void
machine_go (TnMachine *machine)
{
  if (machine->running || !machine->started)
    return;
  machine->running = true;
  tn_machine_clock_run (machine, true);
  tn_cpu_set_resume (machine->cpu_set);
}

void
tn_machine_pause (TnMachine *machine)
{
  machine->paused = true;
  machine_stop (machine);
}

void
tn_machine_resume (TnMachine *machine)
{
  machine->paused = false;
  machine_go (machine);
}

bool
tn_machine_is_running (TnMachine *machine)
{
  return machine->running;
}

static int
machine_start (TnMachine *machine, GError **error)
{
  if (machine->started)
    return 0;
  int r = tn_cpu_set_start (machine->cpu_set, error);
  if (r == 0)
    machine->started = true;
  return r;
}

static int
machine_do_reset (TnMachine *machine, GError **error)
{
  machine_stop (machine);
  int r = tn_machine_load_images (machine, error);
  if (r == 0)
    r = tn_machine_power_on (machine, error);
  if (r == 0 && !machine->paused)
    machine_go (machine);
  return r;
}

/* Does what has been asked for; false when the machine is to end. */
static bool
machine_serve (TnMachine *machine, int *result, GError **error)
{
  if (atomic_load (&machine->shutdown_wanted))
    return false;
  if (!atomic_exchange (&machine->reset_wanted, false))
    return true;
  if (machine->no_reboot)
    return false;
  *result = machine_do_reset (machine, error);
  return *result == 0;
}

static int
take_failure (TnMachine *machine, GError **error)
{
  pthread_mutex_lock (&machine->failure_lock);
  GError *failure = g_steal_pointer (&machine->failure);
  pthread_mutex_unlock (&machine->failure_lock);
  if (failure == NULL)
    return 0;
  int r = tn_error_to_errno (failure);
  g_propagate_error (error, failure);
  return r;
}

int
tn_machine_run (TnMachine *machine, int *status, GError **error)
{
  if (!machine->realized)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "the machine has not been built");
  if (!machine->boot.firmware.loaded && !machine->boot.kernel.loaded)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "there is nothing to boot: give -kernel FILE or -bios FILE");
  int r = machine_start (machine, error);
  if (r < 0)
    return r;
  if (!machine->paused)
    machine_go (machine);
  while (machine_serve (machine, &r, error))
    tn_loop_iterate (machine->loop, true);
  machine_stop (machine);
  if (r < 0)
    return r;
  r = take_failure (machine, error);
  if (r < 0)
    return r;
  *status = atomic_load (&machine->exit_status);
  atomic_store (&machine->shutdown_wanted, false);
  return 0;
}
