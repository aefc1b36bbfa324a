/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The CPU target "example": sixteen 64-bit registers and eight instructions.  An instruction is a
 * little-endian word: bits 0-7 the operation, 8-11 register a, 12-15 register b, 16-31 the signed number n.
 *
 *   0 stop n        end the machine with exit status n
 *   1 set a, n      a = n
 *   2 add a, b, n   a = a + b + n
 *   3 load a, b, n  a = the 8 bytes at b + n
 *   4 store a, b, n the 8 bytes at b + n = a
 *   5 print a       write the character a to the console
 *   6 loop a, n     if a is not 0, go n words further (backwards when negative)
 *   7 wait          sleep until there is an interrupt
 */
#include <tenon/cpu.h>
#include <tenon/plugin.h>

#define EXAMPLE_REGISTERS 16
/* Instructions between looks at whether someone wants run() to return. */
#define EXAMPLE_SLICE 4096

typedef struct ExampleState {
  uint64_t pc;
  uint64_t r[EXAMPLE_REGISTERS];
  uint64_t instructions;
  uint32_t interrupts; /* one bit for each input; atomic */
  int kicked;          /* atomic */
} ExampleState;

static int
example_create (TnCpu *cpu, const TnOptions *options, GError **error)
{
  return 0;
}

static void
example_reset (TnCpu *cpu)
{
  ExampleState *state = tn_cpu_state (cpu);
  state->pc = 0;
  memset (state->r, 0, sizeof state->r);
}

static int
example_bus_fault (const ExampleState *state, uint64_t address, GError **error)
{
  return tn_fail (error, TN_MACHINE_ERROR, EFAULT,
                  "nothing at address 0x%" G_GINT64_MODIFIER
                  "x, which the instruction at 0x%" G_GINT64_MODIFIER "x uses",
                  address, state->pc);
}

/* Executes one instruction: 0 to go on, 1 when *exit was filled in, or an error. */
static int
example_step (TnCpu *cpu, ExampleState *state, TnCpuExit *exit, GError **error)
{
  uint64_t word;
  if (tn_space_read (tn_cpu_space (cpu), state->pc, 4, &word) != TN_BUS_OK)
    return example_bus_fault (state, state->pc, error);
  uint64_t *a = &state->r[word >> 8 & 15];
  uint64_t b = state->r[word >> 12 & 15];
  int64_t n = (int16_t) (word >> 16);
  uint64_t next = state->pc + 4;
  switch (word & 0xff) {
  case 0:
    exit->reason = TN_CPU_EXIT_SHUTDOWN;
    exit->code = (int32_t) n;
    return 1;
  case 1:
    *a = (uint64_t) n;
    break;
  case 2:
    *a += b + (uint64_t) n;
    break;
  case 3:
    if (tn_space_read (tn_cpu_space (cpu), b + (uint64_t) n, 8, a) != TN_BUS_OK)
      return example_bus_fault (state, b + (uint64_t) n, error);
    break;
  case 4:
    if (tn_space_write (tn_cpu_space (cpu), b + (uint64_t) n, 8, *a) != TN_BUS_OK)
      return example_bus_fault (state, b + (uint64_t) n, error);
    break;
  case 5: {
    char c = (char) *a;
    tn_cpu_console_write (cpu, &c, 1);
    break;
  }
  case 6:
    if (*a)
      next = state->pc + (uint64_t) (n * 4);
    break;
  case 7:
    state->pc = next;
    exit->reason = TN_CPU_EXIT_HALT;
    exit->deadline_ns = INT64_MAX;
    return g_atomic_int_get (&state->interrupts) ? 0 : 1;
  default:
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "unknown instruction 0x%08x at 0x%" G_GINT64_MODIFIER "x", (unsigned) word, state->pc);
  }
  state->pc = next;
  return 0;
}

static int
example_run (TnCpu *cpu, TnCpuExit *exit, GError **error)
{
  ExampleState *state = tn_cpu_state (cpu);
  while (!g_atomic_int_exchange (&state->kicked, 0)) {
    for (int i = 0; i < EXAMPLE_SLICE; i++) {
      int r = example_step (cpu, state, exit, error);
      if (r < 0)
        exit->reason = TN_CPU_EXIT_ERROR;
      if (r != 0)
        return MIN (r, 0);
      state->instructions++;
    }
  }
  exit->reason = TN_CPU_EXIT_KICK;
  return 0;
}

static void
example_set_irq (TnCpu *cpu, unsigned line, bool level)
{
  ExampleState *state = tn_cpu_state (cpu);
  if (line >= 32)
    return;
  if (level)
    g_atomic_int_or (&state->interrupts, 1u << line);
  else
    g_atomic_int_and (&state->interrupts, ~(1u << line));
  tn_cpu_notify (cpu);
}

static void
example_kick (TnCpu *cpu)
{
  ExampleState *state = tn_cpu_state (cpu);
  g_atomic_int_set (&state->kicked, 1);
}

/* Register numbers: 0 to 15, and 16 for the program counter. */
static uint64_t *
example_register (TnCpu *cpu, unsigned id)
{
  ExampleState *state = tn_cpu_state (cpu);
  if (id > EXAMPLE_REGISTERS)
    return NULL;
  return id == EXAMPLE_REGISTERS ? &state->pc : &state->r[id];
}

static int
example_get_register (TnCpu *cpu, unsigned id, uint64_t *value)
{
  const uint64_t *place = example_register (cpu, id);
  if (!place)
    return -EINVAL;
  *value = *place;
  return 0;
}

static int
example_set_register (TnCpu *cpu, unsigned id, uint64_t value)
{
  uint64_t *place = example_register (cpu, id);
  if (!place)
    return -EINVAL;
  *place = value;
  return 0;
}

static uint64_t
example_instructions (TnCpu *cpu)
{
  const ExampleState *state = tn_cpu_state (cpu);
  return state->instructions;
}

static const TnRegister example_registers[] = {
  { "r0", 0, 64, "general" },   { "r1", 1, 64, "general" },   { "r2", 2, 64, "general" },
  { "r3", 3, 64, "general" },   { "r4", 4, 64, "general" },   { "r5", 5, 64, "general" },
  { "r6", 6, 64, "general" },   { "r7", 7, 64, "general" },   { "r8", 8, 64, "general" },
  { "r9", 9, 64, "general" },   { "r10", 10, 64, "general" }, { "r11", 11, 64, "general" },
  { "r12", 12, 64, "general" }, { "r13", 13, 64, "general" }, { "r14", 14, 64, "general" },
  { "r15", 15, 64, "general" }, { "pc", 16, 64, "general" },  { NULL, 0, 0, NULL },
};

static const TnCpuOps example_ops = {
  .size = sizeof (TnCpuOps),
  .instance_size = sizeof (ExampleState),
  .create = example_create,
  .reset = example_reset,
  .run = example_run,
  .set_irq = example_set_irq,
  .kick = example_kick,
  .registers = example_registers,
  .get_register = example_get_register,
  .set_register = example_set_register,
  .instructions = example_instructions,
};

static const TnClass example_class = {
  TN_CLASS_HEAD (TN_KIND_CPU, TN_CPU_MAJOR, TN_CPU_MINOR),
  .name = "example",
  .summary = "sixteen registers and eight instructions",
  .ops = &example_ops,
};

static const TnClass *const example_classes[] = { &example_class, NULL };

TN_PLUGIN_DEFINE (cpu_example, .name = "cpu-example", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-cpu-example", .classes = example_classes);
