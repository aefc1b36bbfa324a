/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "cpu/cpu.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct TnCpu {
  TnCpuSet *set;
  unsigned index;
  bool created;
  void *state;
  pthread_t thread;
  bool has_thread;
  bool parked;               /* under the set's lock */
  _Atomic uint32_t notified; /* futex: an event came since the hart last looked */
  atomic_bool sleeping;
};

struct TnCpuSet {
  TnCpuHost host;
  TnCpuOps ops;
  unsigned count;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  atomic_bool hold; /* harts are to park; written under the lock */
  bool quit;        /* under the lock */
  TnCpu *cpus;
};

/* ---- What a plugin may ask ---- */

void *
tn_cpu_state (TnCpu *cpu)
{
  return cpu->state;
}

TnMachine *
tn_cpu_machine (TnCpu *cpu)
{
  return cpu->set->host.machine;
}

unsigned
tn_cpu_index (TnCpu *cpu)
{
  return cpu->index;
}

unsigned
tn_cpu_count (TnCpu *cpu)
{
  return cpu->set->count;
}

TnCpu *
tn_cpu_sibling (TnCpu *cpu, unsigned index)
{
  return index < cpu->set->count ? &cpu->set->cpus[index] : NULL;
}

TnSpace *
tn_cpu_space (TnCpu *cpu)
{
  return cpu->set->host.space;
}

int64_t
tn_cpu_clock_ns (TnCpu *cpu)
{
  return tn_machine_clock_now (cpu->set->host.clock);
}

uint64_t
tn_cpu_timebase (TnCpu *cpu)
{
  return cpu->set->host.timebase;
}

size_t
tn_cpu_console_write (TnCpu *cpu, const void *data, size_t length)
{
  return cpu->set->host.console_write (cpu->set->host.machine, data, length);
}

size_t
tn_cpu_console_read (TnCpu *cpu, void *data, size_t length)
{
  return cpu->set->host.console_read (cpu->set->host.machine, data, length);
}

/* ---- Sleeping and waking ---- */

static long
futex (_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
  return syscall (SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
}

void
tn_cpu_notify (TnCpu *cpu)
{
  if (atomic_exchange (&cpu->notified, 1) == 0 && atomic_load (&cpu->sleeping))
    futex (&cpu->notified, FUTEX_WAKE, INT_MAX, NULL);
}

/* Sleeps until a notification that came after the hart last looked, or until machine time @deadline_ns. */
static void
cpu_sleep (TnCpu *cpu, int64_t deadline_ns)
{
  const int64_t host_ns = tn_machine_clock_to_host (cpu->set->host.clock, deadline_ns);
  const struct timespec until = { .tv_sec = host_ns / 1000000000, .tv_nsec = host_ns % 1000000000 };
  atomic_store (&cpu->sleeping, true);
  while (atomic_load (&cpu->notified) == 0) {
    if (futex (&cpu->notified, FUTEX_WAIT_BITSET, 0, host_ns == INT64_MAX ? NULL : &until) != 0
        && errno == ETIMEDOUT)
      break;
  }
  atomic_store (&cpu->sleeping, false);
}

/* ---- A hart's thread ---- */

/* Waits while the set is held; false when the thread is to end. */
static bool
cpu_may_run (TnCpu *cpu)
{
  TnCpuSet *set = cpu->set;
  if (!atomic_load_explicit (&set->hold, memory_order_acquire))
    return true;
  pthread_mutex_lock (&set->lock);
  cpu->parked = true;
  pthread_cond_broadcast (&set->changed);
  while (atomic_load (&set->hold) && !set->quit)
    pthread_cond_wait (&set->changed, &set->lock);
  cpu->parked = false;
  const bool go = !set->quit;
  pthread_mutex_unlock (&set->lock);
  return go;
}

/* Parks a hart that has ended the machine until somebody else holds the set. */
static void
cpu_wait_for_hold (TnCpu *cpu)
{
  TnCpuSet *set = cpu->set;
  pthread_mutex_lock (&set->lock);
  while (!atomic_load (&set->hold))
    pthread_cond_wait (&set->changed, &set->lock);
  pthread_mutex_unlock (&set->lock);
}

static void
cpu_exited (TnCpu *cpu, const TnCpuExit *reason, GError *error)
{
  const TnCpuHost *host = &cpu->set->host;
  host->exited (host->machine, reason->reason, reason->code, error);
  cpu_wait_for_hold (cpu);
}

static void
cpu_step (TnCpu *cpu)
{
  TnCpuExit exit = { .size = sizeof exit, .reason = TN_CPU_EXIT_KICK, .deadline_ns = INT64_MAX };
  GError *error = NULL;
  /* Looked at before run(): what arrives from here on makes the sleep below short. */
  atomic_store (&cpu->notified, 0);
  if (cpu->set->ops.run (cpu, &exit, &error) < 0)
    exit.reason = TN_CPU_EXIT_ERROR;
  switch (exit.reason) {
  case TN_CPU_EXIT_KICK:
    break;
  case TN_CPU_EXIT_HALT:
    if (!atomic_load (&cpu->set->hold))
      cpu_sleep (cpu, exit.deadline_ns);
    break;
  case TN_CPU_EXIT_SHUTDOWN:
  case TN_CPU_EXIT_RESET:
    cpu_exited (cpu, &exit, NULL);
    break;
  default:
    if (error == NULL)
      tn_fail (&error, TN_MACHINE_ERROR, EINVAL, "hart %u stopped for an unknown reason (%u)", cpu->index,
               exit.reason);
    exit.reason = TN_CPU_EXIT_ERROR;
    cpu_exited (cpu, &exit, error);
    break;
  }
}

static void *
cpu_thread (void *data)
{
  TnCpu *cpu = data;
  while (cpu_may_run (cpu))
    cpu_step (cpu);
  return NULL;
}

/* ---- The set ---- */

static int
cpu_create (TnCpuSet *set, unsigned index, const TnOptions *options, GError **error)
{
  TnCpu *cpu = &set->cpus[index];
  if (posix_memalign (&cpu->state, 64, MAX (set->ops.instance_size, 64u)) != 0)
    return tn_fail (error, TN_MACHINE_ERROR, ENOMEM, "no memory for hart %u", index);
  memset (cpu->state, 0, MAX (set->ops.instance_size, 64u));
  int r = set->ops.create (cpu, options, error);
  if (r < 0)
    return r;
  cpu->created = true;
  return 0;
}

int
tn_cpu_set_new (const TnCpuHost *host, const TnClass *class_, unsigned count, const TnOptions *options,
                TnCpuSet **out, GError **error)
{
  TnCpuSet *set = g_new0 (TnCpuSet, 1);
  const TnCpuOps *ops = class_->ops;
  memcpy (&set->ops, ops, MIN (ops->size, sizeof set->ops));
  set->host = *host;
  set->count = count;
  set->cpus = g_new0 (TnCpu, count);
  atomic_init (&set->hold, true);
  pthread_mutex_init (&set->lock, NULL);
  pthread_cond_init (&set->changed, NULL);
  for (unsigned i = 0; i < count; i++) {
    set->cpus[i].set = set;
    set->cpus[i].index = i;
  }
  int r = 0;
  if (set->ops.create == NULL || set->ops.run == NULL || set->ops.reset == NULL || set->ops.kick == NULL
      || set->ops.set_irq == NULL)
    r = tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                 "CPU class '%s' lacks a required operation, reinstall its plugin", class_->name);
  for (unsigned i = 0; i < count && r == 0; i++)
    r = cpu_create (set, i, options, error);
  if (r < 0) {
    tn_cpu_set_free (set);
    return r;
  }
  *out = set;
  return 0;
}

void
tn_cpu_set_free (TnCpuSet *set)
{
  if (set == NULL)
    return;
  pthread_mutex_lock (&set->lock);
  set->quit = true;
  pthread_mutex_unlock (&set->lock);
  tn_cpu_set_pause (set, NULL, NULL);
  pthread_mutex_lock (&set->lock);
  pthread_cond_broadcast (&set->changed);
  pthread_mutex_unlock (&set->lock);
  for (unsigned i = 0; i < set->count; i++) {
    if (set->cpus[i].has_thread)
      pthread_join (set->cpus[i].thread, NULL);
  }
  for (unsigned i = 0; i < set->count; i++) {
    if (set->cpus[i].created && set->ops.destroy != NULL)
      set->ops.destroy (&set->cpus[i]);
  }
  for (unsigned i = 0; i < set->count; i++)
    free (set->cpus[i].state);
  pthread_cond_destroy (&set->changed);
  pthread_mutex_destroy (&set->lock);
  g_free (set->cpus);
  g_free (set);
}

unsigned
tn_cpu_set_count (const TnCpuSet *set)
{
  return set->count;
}

TnCpu *
tn_cpu_set_get (const TnCpuSet *set, unsigned index)
{
  return index < set->count ? &set->cpus[index] : NULL;
}

const TnCpuOps *
tn_cpu_ops (const TnCpu *cpu)
{
  return &cpu->set->ops;
}

int
tn_cpu_set_start (TnCpuSet *set, GError **error)
{
  for (unsigned i = 0; i < set->count; i++) {
    TnCpu *cpu = &set->cpus[i];
    int e = pthread_create (&cpu->thread, NULL, cpu_thread, cpu);
    if (e != 0)
      return tn_fail_errno (error, TN_MACHINE_ERROR, e, "cannot start the thread of hart %u", i);
    cpu->has_thread = true;
    char name[16];
    g_snprintf (name, sizeof name, "hart %u", i);
    pthread_setname_np (cpu->thread, name);
  }
  return 0;
}

static bool
set_all_parked (const TnCpuSet *set)
{
  for (unsigned i = 0; i < set->count; i++) {
    if (set->cpus[i].has_thread && !set->cpus[i].parked && !set->quit)
      return false;
  }
  return true;
}

/* Waits a moment for a hart to park; the lock is held before and after. */
static void
set_wait_a_moment (TnCpuSet *set)
{
  struct timespec until;
  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_nsec += 2000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  pthread_cond_timedwait (&set->changed, &set->lock, &until);
}

void
tn_cpu_set_pause (TnCpuSet *set, void (*serve) (void *opaque), void *opaque)
{
  pthread_mutex_lock (&set->lock);
  atomic_store (&set->hold, true);
  pthread_cond_broadcast (&set->changed);
  for (unsigned i = 0; i < set->count; i++) {
    if (!set->cpus[i].has_thread)
      continue;
    set->ops.kick (&set->cpus[i]);
    tn_cpu_notify (&set->cpus[i]);
  }
  /* Somebody that is served may let the harts go again. */
  while (!set_all_parked (set) && atomic_load (&set->hold)) {
    set_wait_a_moment (set);
    if (serve == NULL || set_all_parked (set))
      continue;
    pthread_mutex_unlock (&set->lock);
    serve (opaque);
    pthread_mutex_lock (&set->lock);
  }
  pthread_mutex_unlock (&set->lock);
}

void
tn_cpu_set_resume (TnCpuSet *set)
{
  pthread_mutex_lock (&set->lock);
  atomic_store (&set->hold, false);
  pthread_cond_broadcast (&set->changed);
  pthread_mutex_unlock (&set->lock);
}

void
tn_cpu_set_reset (TnCpuSet *set)
{
  for (unsigned i = 0; i < set->count; i++)
    set->ops.reset (&set->cpus[i]);
}

void
tn_cpu_set_memory_changed (TnCpuSet *set)
{
  for (unsigned i = 0; i < set->count && set->ops.memory_changed != NULL; i++) {
    if (set->cpus[i].created)
      set->ops.memory_changed (&set->cpus[i]);
  }
}

void
tn_cpu_set_irq (TnCpu *cpu, unsigned line, bool level)
{
  cpu->set->ops.set_irq (cpu, line, level);
}

/* ---- Registers by name ---- */

static const TnRegister *
cpu_find_register (TnCpu *cpu, const char *name, GError **error)
{
  const TnCpuOps *ops = &cpu->set->ops;
  for (const TnRegister *r = ops->registers; r != NULL && r->name != NULL; r++) {
    if (strcmp (r->name, name) == 0)
      return r;
  }
  tn_fail (error, TN_MACHINE_ERROR, ENOENT, "the CPU has no register '%s'", name);
  return NULL;
}

int
tn_cpu_set_register (TnCpu *cpu, const char *name, uint64_t value, GError **error)
{
  const TnRegister *reg = cpu_find_register (cpu, name, error);
  if (reg == NULL)
    return -ENOENT;
  int r = cpu->set->ops.set_register (cpu, reg->id, value);
  if (r < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, -r, "cannot set register '%s'", name);
  return 0;
}

int
tn_cpu_get_register (TnCpu *cpu, const char *name, uint64_t *value, GError **error)
{
  const TnRegister *reg = cpu_find_register (cpu, name, error);
  if (reg == NULL)
    return -ENOENT;
  int r = cpu->set->ops.get_register (cpu, reg->id, value);
  if (r < 0)
    return tn_fail_errno (error, TN_MACHINE_ERROR, -r, "cannot read register '%s'", name);
  return 0;
}
