/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rv64 CPU.  Every word must decode to something that the interpreter knows, with register slots inside
 * the register file; then the input runs as a program on two harts with a little RAM.  Bits of the first byte
 * are options of the CPU; registers begin with addresses of RAM, so that loads and stores hit something.
 */
#include <signal.h>
#include <time.h>

#include "cpu/cpu.h"
#include "ops.h"
#include "rv64.h"

#define RAM UINT64_C (0x80000000)
#define RAM_SIZE (128u << 10)
#define MOST_CODE (16u << 10)
#define HANDLER (RAM + RAM_SIZE - 64)
#define STOP UINT64_C (0x10000000)
#define HARTS 2
#define ROUNDS 3
#define ROUND_NS 4000000 /* of this thread's time, for programs that never end */

extern const TnPlugin cpu_rv64_LTX_tenon_plugin;

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

typedef struct Fuzz {
  TnSpace *space;
  TnClock clock;
  TnCpuSet *firmware, *bare; /* with and without the built-in SBI */
  timer_t timer;
} Fuzz;

/* The hart that is running, for those who want it to end. */
static TnCpu *running;

static void
stop_running (void)
{
  if (running)
    tn_cpu_ops (running)->kick (running);
}

/* ---- Decoding ---- */

static void
check_word (const RvHart *hart, uint32_t word)
{
  RvInsn insn = { .pos = 2, .nth = 1 };

  rv_decode (hart, word, &insn);
  if (insn.op >= RV_OP_COUNT || (insn.op == RV_OP_HELPER && insn.helper == NULL))
    __builtin_trap ();
  if (insn.op != RV_OP_HELPER && (insn.rd > RV_SINK || insn.rs1 > 31 || insn.rs2 > 31))
    __builtin_trap ();
}

static void
decode_all (const uint8_t *data, size_t size)
{
  static RvHart hart;

  hart.ext = (RvExtensions){ .zba = data[0] & 1, .zbb = data[0] & 2, .zbs = data[0] & 4 };
  for (const uint8_t *at = data + 1; data + size - at >= 4; at += 4) {
    uint32_t word = tn_load_le32 (at), expanded = rv_expand ((uint16_t) word);

    check_word (&hart, word);
    if ((word & 3) != 3 && expanded)
      check_word (&hart, expanded);
  }
}

/* ---- The machine around the harts ---- */

static size_t
console_write (TnMachine *machine, const void *data, size_t length)
{
  return length;
}

static size_t
console_read (TnMachine *machine, void *data, size_t length)
{
  memset (data, 'x', length);
  return length;
}

static void
stop_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  stop_running ();
}

static uint64_t
stop_read (void *opaque, uint64_t offset, unsigned bytes)
{
  return offset;
}

static void
time_is_up (int signal_number)
{
  stop_running ();
}

static void
make_timer (Fuzz *fuzz)
{
  struct sigaction action = { .sa_handler = time_is_up, .sa_flags = SA_RESTART };
  struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };

  if (sigaction (SIGRTMIN, &action, NULL) != 0
      || timer_create (CLOCK_THREAD_CPUTIME_ID, &event, &fuzz->timer) != 0)
    g_error ("no timer");
}

static TnCpuSet *
make_harts (Fuzz *fuzz, const char *text)
{
  const TnCpuHost host = { .space = fuzz->space,
                           .clock = &fuzz->clock,
                           .timebase = 10000000,
                           .console_write = console_write,
                           .console_read = console_read };
  const TnClass *class = cpu_rv64_LTX_tenon_plugin.classes[0];
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  TnCpuSet *set = NULL;

  if (tn_options_parse (options, text, NULL, &error) < 0
      || tn_options_check (options, class->options, sizeof *class->options, TN_OPTION_OPEN, "rv64", &error)
             < 0
      || tn_cpu_set_new (&host, class, HARTS, options, &set, &error) < 0)
    g_error ("%s", error->message);
  return set;
}

static Fuzz *
fuzz_new (void)
{
  static const TnMmioOps stop_ops = {
    .size = sizeof stop_ops, .min_access = 1, .max_access = 8, .read = stop_read, .write = stop_write
  };
  static Fuzz fuzz;

  fuzz.space = tn_space_new ("fuzz");
  tn_space_add_ram (fuzz.space, "ram", RAM, RAM_SIZE, NULL);
  tn_space_add_mmio (fuzz.space, "stop", STOP, 0x1000, &stop_ops, NULL, NULL);
  tn_machine_clock_init (&fuzz.clock);
  tn_machine_clock_start (&fuzz.clock);
  fuzz.firmware = make_harts (&fuzz, "sbi=on,code-cache=1M");
  fuzz.bare = make_harts (&fuzz, "sbi=off,code-cache=1M");
  make_timer (&fuzz);
  return &fuzz;
}

/* ---- Running ---- */

static void
lay_memory (Fuzz *fuzz, const uint8_t *code, size_t size)
{
  /* What a trap ends with: lui t0, 0x10000; sw x0, 0(t0); j back to the store. */
  static const uint32_t handler[] = { 0x100002b7, 0x0002a023, 0xffdff06f };
  static uint8_t zeroes[RAM_SIZE];
  uint8_t bytes[sizeof handler];

  for (unsigned i = 0; i < G_N_ELEMENTS (handler); i++)
    tn_store_le32 (bytes + 4 * i, handler[i]);
  tn_space_dma_write (fuzz->space, RAM, zeroes, sizeof zeroes);
  tn_space_dma_write (fuzz->space, RAM, code, MIN (size, MOST_CODE));
  tn_space_dma_write (fuzz->space, HANDLER, bytes, sizeof bytes);
}

static void
set_registers (RvHart *hart)
{
  hart->pc = RAM;
  for (unsigned i = 1; i < 32; i++)
    hart->x[i] = RAM + i * UINT64_C (0xf08);
  hart->mtvec = hart->stvec = HANDLER;
}

static void
check_hart (const RvHart *hart)
{
  if (hart->x[0] != 0 || hart->priv == 2 || hart->priv > RV_M || (hart->pc & 1))
    __builtin_trap ();
}

static void
run_hart (Fuzz *fuzz, TnCpu *cpu)
{
  const struct itimerspec once = { .it_value = { .tv_nsec = ROUND_NS } }, never = { { 0 }, { 0 } };
  TnCpuExit exit = { .size = sizeof exit };

  running = cpu;
  timer_settime (fuzz->timer, 0, &once, NULL);
  if (tn_cpu_ops (cpu)->run (cpu, &exit, NULL) < 0)
    __builtin_trap ();
  timer_settime (fuzz->timer, 0, &never, NULL);
  running = NULL;
  if (exit.reason < TN_CPU_EXIT_KICK || exit.reason > TN_CPU_EXIT_RESET)
    __builtin_trap ();
  check_hart (tn_cpu_state (cpu));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static Fuzz *fuzz;

  if (size < 1)
    return 0;
  if (fuzz == NULL)
    fuzz = fuzz_new ();
  decode_all (data, size);
  TnCpuSet *set = data[0] & 8 ? fuzz->bare : fuzz->firmware;
  tn_cpu_set_reset (set);
  lay_memory (fuzz, data + 1, size - 1);
  for (unsigned i = 0; i < HARTS; i++)
    set_registers (tn_cpu_state (tn_cpu_set_get (set, i)));
  for (unsigned i = 0; i < ROUNDS * HARTS; i++) {
    TnCpu *cpu = tn_cpu_set_get (set, i % HARTS);
    tn_cpu_set_irq (cpu, 1 + 2 * (data[0] >> 4 & 7), i & 1);
    run_hart (fuzz, cpu);
  }
  return 0;
}
