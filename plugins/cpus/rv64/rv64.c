/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU class: options, power-on state, run loop, device-tree node. */
#include <tenon/plugin.h>

#include "registers.h"

#define MISA_VALUE                                                                                           \
  (UINT64_C (2) << 62 | 1 << ('A' - 'A') | 1 << ('C' - 'A') | 1 << ('D' - 'A') | 1 << ('F' - 'A')            \
   | 1 << ('I' - 'A') | 1 << ('M' - 'A') | 1 << ('S' - 'A') | 1 << ('U' - 'A'))

static const char *const mmu_choices[] = { "sv39", "sv48", "sv57", NULL };

static const TnOption rv64_options[] = {
  { .name = "sbi",
    .type = TN_OPTION_BOOL,
    .value = "on",
    .help = "built-in SBI firmware: start in supervisor mode; off: start in machine mode" },
  { .name = "mmu",
    .type = TN_OPTION_ENUM,
    .value = "sv57",
    .choices = mmu_choices,
    .help = "largest address-translation scheme" },
  { .name = "zba", .type = TN_OPTION_BOOL, .value = "on", .help = "address-generation instructions" },
  { .name = "zbb", .type = TN_OPTION_BOOL, .value = "on", .help = "basic bit manipulation" },
  { .name = "zbs", .type = TN_OPTION_BOOL, .value = "on", .help = "single-bit instructions" },
  { .name = "sstc", .type = TN_OPTION_BOOL, .value = "on", .help = "supervisor timer compare register" },
  { .name = "svadu",
    .type = TN_OPTION_BOOL,
    .value = "on",
    .help = "hardware sets accessed and dirty bits; off: page faults" },
  { .name = "code-cache",
    .type = TN_OPTION_SIZE,
    .value = "32M",
    .min = 1024 * 1024,
    .max = 1024 * 1024 * 1024,
    .help = "room for predecoded code, for each hart" },
  { NULL },
};

static uint8_t
rv64_vm_limit (const char *mmu)
{
  if (g_strcmp0 (mmu, "sv39") == 0)
    return 8;
  return g_strcmp0 (mmu, "sv48") == 0 ? 9 : 10;
}

static int
rv64_create (TnCpu *cpu, const TnOptions *options, GError **error)
{
  RvHart *hart = tn_cpu_state (cpu);

  hart->cpu = cpu;
  hart->space = tn_cpu_space (cpu);
  hart->id = tn_cpu_index (cpu);
  hart->sbi = tn_options_bool (options, "sbi");
  hart->vm_limit = rv64_vm_limit (tn_options_get (options, "mmu"));
  hart->ext.zba = tn_options_bool (options, "zba");
  hart->ext.zbb = tn_options_bool (options, "zbb");
  hart->ext.zbs = tn_options_bool (options, "zbs");
  hart->ext.sstc = tn_options_bool (options, "sstc");
  hart->ext.svadu = tn_options_bool (options, "svadu");
  return rv_blocks_init (hart, tn_options_uint (options, "code-cache"), error);
}

static void
rv64_destroy (TnCpu *cpu)
{
  rv_blocks_free (tn_cpu_state (cpu));
}

/* What firmware leaves behind when it hands over to a kernel. */
static void
rv64_reset_sbi (RvHart *hart)
{
  hart->priv = RV_S;
  hart->medeleg = 0xb3ff & ~(UINT64_C (1) << CAUSE_ECALL_S);
  hart->mideleg = MIP_S;
  hart->mcounteren = COUNTEREN_CY | COUNTEREN_TM | COUNTEREN_IR;
  hart->scounteren = hart->mcounteren;
  if (hart->ext.sstc)
    hart->menvcfg |= ENVCFG_STCE;
  hart->pmpcfg[0] = 0x1f; /* all of memory, any access */
  hart->pmpaddr[0] = (UINT64_C (1) << 54) - 1;
  hart->hsm = hart->id == 0 ? RV_HSM_STARTED : RV_HSM_STOPPED;
}

static void
rv64_reset (TnCpu *cpu)
{
  RvHart *hart = tn_cpu_state (cpu);

  memset (hart->x, 0, sizeof hart->x);
  memset (hart->f, 0, sizeof hart->f);
  memset (hart->pmpcfg, 0, sizeof hart->pmpcfg);
  memset (hart->pmpaddr, 0, sizeof hart->pmpaddr);
  hart->pc = 0;
  hart->frm = hart->fflags = 0;
  hart->priv = RV_M;
  hart->misa = MISA_VALUE;
  hart->mstatus = hart->medeleg = hart->mideleg = hart->mie = hart->mtvec = hart->mscratch = 0;
  hart->mepc = hart->mcause = hart->mtval = hart->senvcfg = hart->mcounteren = hart->scounteren = 0;
  hart->stvec = hart->sscratch = hart->sepc = hart->scause = hart->stval = hart->satp = 0;
  hart->menvcfg = hart->ext.svadu ? ENVCFG_ADUE : 0;
  hart->mcountinhibit = 0;
  hart->cycle = hart->instret = (RvCounter){ 0 };
  hart->retired = 0;
  hart->slice = hart->left = 0;
  hart->stimecmp = UINT64_MAX;
  hart->timer_ns = INT64_MAX;
  hart->timer_due = false;
  hart->reservation = UINT64_MAX;
  hart->waiting = hart->resume_anew = false;
  hart->exit_reason = 0;
  hart->ram_start = hart->ram_end = 0;
  hart->hsm = RV_HSM_STARTED;
  __atomic_store_n (&hart->ip, 0, __ATOMIC_SEQ_CST);
  __atomic_store_n (&hart->attention, 1, __ATOMIC_SEQ_CST);
  if (hart->sbi)
    rv64_reset_sbi (hart);
  for (unsigned i = 0; i < RV_TLBS; i++)
    hart->tlbs[i].used = true; /* not yet cleared */
  rv_pmp_update (hart);
  rv_blocks_flush (hart);
  rv_mmu_update (hart);
}

/* Whether the hart has nothing to do until something happens. */
static bool
rv64_is_idle (RvHart *hart)
{
  switch (__atomic_load_n (&hart->hsm, __ATOMIC_SEQ_CST)) {
  case RV_HSM_STOPPED:
  case RV_HSM_STARTING:
    return true;
  case RV_HSM_START_PENDING:
    rv_sbi_enter (hart);
    return false;
  default:
    break;
  }
  if (!hart->waiting)
    return false;
  rv_timer_poll (hart);
  if (!(rv_mip (hart) & hart->mie))
    return true;
  hart->waiting = false;
  if (hart->resume_anew)
    rv_sbi_enter (hart);
  __atomic_store_n (&hart->hsm, RV_HSM_STARTED, __ATOMIC_SEQ_CST);
  return false;
}

static void
rv64_halt (RvHart *hart, TnCpuExit *exit)
{
  bool timer = hart->waiting && (hart->mie & MIP_STIP) && (hart->sbi || (hart->menvcfg & ENVCFG_STCE));

  exit->reason = TN_CPU_EXIT_HALT;
  exit->deadline_ns = timer ? hart->timer_ns : INT64_MAX;
}

static int
rv64_run (TnCpu *cpu, TnCpuExit *exit, GError **error)
{
  RvHart *hart = tn_cpu_state (cpu);

  exit->code = 0;
  exit->deadline_ns = INT64_MAX;
  hart->exit_reason = 0;
  __atomic_store_n (&hart->running, 1, __ATOMIC_SEQ_CST);
  if (rv_serve_requests (hart) & RV_REQUEST_KICK)
    hart->exit_reason = TN_CPU_EXIT_KICK;
  else if (rv64_is_idle (hart))
    hart->exit_reason = TN_CPU_EXIT_HALT;
  else
    rv_execute (hart);
  __atomic_store_n (&hart->retired_seen, rv_retired (hart), __ATOMIC_RELAXED);
  __atomic_store_n (&hart->running, 0, __ATOMIC_SEQ_CST);
  exit->reason = hart->exit_reason;
  exit->code = hart->exit_code;
  if (hart->exit_reason == TN_CPU_EXIT_HALT)
    rv64_halt (hart, exit);
  return 0;
}

static void
rv64_set_irq (TnCpu *cpu, unsigned line, bool level)
{
  RvHart *hart = tn_cpu_state (cpu);
  uint64_t bit = line < 64 ? UINT64_C (1) << line & (MIP_ALL & ~(MIP_SSIP | MIP_STIP)) : 0;

  if (!level) {
    __atomic_fetch_and (&hart->lines, ~bit, __ATOMIC_SEQ_CST);
    return;
  }
  __atomic_fetch_or (&hart->lines, bit, __ATOMIC_SEQ_CST);
  __atomic_store_n (&hart->attention, 1, __ATOMIC_SEQ_CST);
  tn_cpu_notify (cpu);
}

static void
rv64_kick (TnCpu *cpu)
{
  rv_request (tn_cpu_state (cpu), RV_REQUEST_KICK);
}

static int
rv64_get_register (TnCpu *cpu, unsigned id, uint64_t *value)
{
  return rv_get_register (tn_cpu_state (cpu), id, value);
}

static int
rv64_set_register (TnCpu *cpu, unsigned id, uint64_t value)
{
  return rv_set_register (tn_cpu_state (cpu), id, value);
}

static void
rv64_memory_changed (TnCpu *cpu)
{
  rv_request (tn_cpu_state (cpu), RV_REQUEST_MEMORY);
}

static uint64_t
rv64_instructions (TnCpu *cpu)
{
  const RvHart *hart = tn_cpu_state (cpu);

  return __atomic_load_n (&hart->retired_seen, __ATOMIC_RELAXED);
}

/* "riscv,isa" spells the extensions in one word, "riscv,isa-extensions" as a list. */
static void
rv64_fdt_isa (const RvHart *hart, TnFdt *fdt)
{
  const char *names[16] = { "i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei" };
  g_autoptr (GString) isa = g_string_new ("rv64imafdc");
  size_t count = 9;

  if (hart->ext.zba)
    names[count++] = "zba";
  if (hart->ext.zbb)
    names[count++] = "zbb";
  if (hart->ext.zbs)
    names[count++] = "zbs";
  if (hart->ext.sstc)
    names[count++] = "sstc";
  if (hart->ext.svadu)
    names[count++] = "svadu";
  for (size_t i = 6; i < count; i++)
    g_string_append_printf (isa, "_%s", names[i]);
  tn_fdt_string (fdt, "riscv,isa", isa->str);
  tn_fdt_string (fdt, "riscv,isa-base", "rv64i");
  tn_fdt_strings (fdt, "riscv,isa-extensions", names, count);
}

static int
rv64_fdt (TnCpu *cpu, TnFdt *fdt, GError **error)
{
  static const char *const mmu_types[] = { "riscv,sv39", "riscv,sv48", "riscv,sv57" };
  const RvHart *hart = tn_cpu_state (cpu);

  tn_fdt_string (fdt, "compatible", "riscv");
  rv64_fdt_isa (hart, fdt);
  tn_fdt_string (fdt, "mmu-type", mmu_types[hart->vm_limit - 8]);
  return 0;
}

static const TnCpuOps rv64_ops = {
  .size = sizeof (TnCpuOps),
  .instance_size = sizeof (RvHart),
  .create = rv64_create,
  .destroy = rv64_destroy,
  .reset = rv64_reset,
  .run = rv64_run,
  .set_irq = rv64_set_irq,
  .kick = rv64_kick,
  .registers = rv_registers,
  .get_register = rv64_get_register,
  .set_register = rv64_set_register,
  .memory_changed = rv64_memory_changed,
  .fdt = rv64_fdt,
  .instructions = rv64_instructions,
};

static const char *const rv64_aliases[] = { "riscv64", NULL };

static const TnClass rv64_class = {
  TN_CLASS_HEAD (TN_KIND_CPU, TN_CPU_MAJOR, TN_CPU_MINOR),
  .name = "rv64",
  .summary = "RISC-V RV64GC with Zba, Zbb, Zbs, Sstc and Svadu",
  .aliases = rv64_aliases,
  .options = rv64_options,
  .ops = &rv64_ops,
};

static const TnClass *const rv64_classes[] = { &rv64_class, NULL };

TN_PLUGIN_DEFINE (cpu_rv64, .name = "cpu-rv64", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-cpu-rv64", .security = TN_SECURITY_HARDENED, .classes = rv64_classes);
