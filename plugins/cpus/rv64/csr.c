/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Control and status registers. */
#include "rv64.h"

#define NS_PER_S UINT64_C (1000000000)
#define MSTATUS_WRITABLE                                                                                     \
  (MSTATUS_SIE | MSTATUS_MIE | MSTATUS_SPIE | MSTATUS_MPIE | MSTATUS_SPP | MSTATUS_MPP | MSTATUS_FS          \
   | MSTATUS_MPRV | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR)
#define SSTATUS_WRITABLE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)
#define MEDELEG_WRITABLE UINT64_C (0xb3ff)
#define PMPADDR_MASK ((UINT64_C (1) << 54) - 1)

static uint64_t
counter_read (const RvHart *hart, const RvCounter *counter)
{
  return counter->stopped ? counter->base : counter->base + rv_retired (hart);
}

static void
counter_write (const RvHart *hart, RvCounter *counter, uint64_t value)
{
  counter->base = counter->stopped ? value : value - rv_retired (hart);
}

static void
counter_stop (const RvHart *hart, RvCounter *counter, bool stop)
{
  uint64_t value = counter_read (hart, counter);

  counter->stopped = stop;
  counter_write (hart, counter, value);
}

uint64_t
rv_retired (const RvHart *hart)
{
  return hart->retired + (uint64_t) (hart->slice - hart->left);
}

uint64_t
rv_time (RvHart *hart)
{
  uint64_t now = (uint64_t) tn_cpu_clock_ns (hart->cpu);

  return (uint64_t) ((unsigned __int128) now * tn_cpu_timebase (hart->cpu) / NS_PER_S);
}

static bool
timer_enabled (const RvHart *hart)
{
  return hart->sbi || (hart->menvcfg & ENVCFG_STCE);
}

void
rv_set_stimecmp (RvHart *hart, uint64_t value)
{
  uint64_t rate = tn_cpu_timebase (hart->cpu);
  unsigned __int128 ns = ((unsigned __int128) value * NS_PER_S + rate - 1) / rate;

  hart->stimecmp = value;
  hart->timer_ns = ns > INT64_MAX ? INT64_MAX : (int64_t) ns;
  hart->timer_due = false;
  rv_timer_poll (hart);
}

void
rv_timer_poll (RvHart *hart)
{
  if (hart->timer_due || !timer_enabled (hart) || hart->timer_ns == INT64_MAX)
    return;
  if (tn_cpu_clock_ns (hart->cpu) < hart->timer_ns)
    return;
  hart->timer_due = true;
  __atomic_store_n (&hart->attention, 1, __ATOMIC_RELAXED);
}

uint64_t
rv_mip (RvHart *hart)
{
  uint64_t pending = __atomic_load_n (&hart->ip, __ATOMIC_ACQUIRE);

  if (timer_enabled (hart))
    pending = (pending & ~MIP_STIP) | (hart->timer_due ? MIP_STIP : 0);
  return pending | __atomic_load_n (&hart->lines, __ATOMIC_ACQUIRE);
}

static uint64_t
status_read (const RvHart *hart)
{
  uint64_t status = hart->mstatus | MSTATUS_UXL | MSTATUS_SXL;

  return (status & MSTATUS_FS) == MSTATUS_FS ? status | MSTATUS_SD : status;
}

/* After a change that may let an interrupt through. */
static RvDone
interrupts_changed (RvHart *hart)
{
  if (!rv_interrupt_ready (hart))
    return RV_NEXT;
  __atomic_store_n (&hart->attention, 1, __ATOMIC_RELAXED);
  return RV_LEAVE;
}

static RvDone
status_write (RvHart *hart, uint64_t value, uint64_t writable)
{
  uint64_t old = hart->mstatus, changed;

  if ((value & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT == 2)
    writable &= ~MSTATUS_MPP;
  hart->mstatus = (old & ~writable) | (value & writable);
  changed = old ^ hart->mstatus;
  if (changed & MSTATUS_MXR)
    rv_tlb_flush (hart);
  if (changed & (MSTATUS_MXR | MSTATUS_SUM | MSTATUS_MPRV | MSTATUS_MPP)) {
    rv_mmu_update (hart);
    interrupts_changed (hart);
    return RV_LEAVE;
  }
  return interrupts_changed (hart);
}

static RvDone
ip_write (RvHart *hart, uint64_t value, uint64_t writable)
{
  __atomic_fetch_or (&hart->ip, value & writable, __ATOMIC_SEQ_CST);
  __atomic_fetch_and (&hart->ip, value | ~writable, __ATOMIC_SEQ_CST);
  return interrupts_changed (hart);
}

static RvDone
satp_write (RvHart *hart, uint64_t value)
{
  uint64_t mode = value >> SATP_MODE_SHIFT;

  if (mode != 0 && (mode < 8 || mode > hart->vm_limit))
    return RV_NEXT;
  if (value == hart->satp)
    return RV_NEXT;
  hart->satp = value;
  rv_tlb_flush (hart);
  return RV_LEAVE;
}

static void
tvec_write (uint64_t *tvec, uint64_t value)
{
  if ((value & 3) < 2)
    *tvec = value;
}

static RvDone
menvcfg_write (RvHart *hart, uint64_t value)
{
  uint64_t writable = ENVCFG_FIOM;

  if (hart->ext.sstc)
    writable |= ENVCFG_STCE;
  if (hart->ext.svadu)
    writable |= ENVCFG_ADUE;
  hart->menvcfg = value & writable;
  rv_tlb_flush (hart);
  rv_timer_poll (hart);
  interrupts_changed (hart);
  return RV_LEAVE;
}

static uint64_t
pmpcfg_read (const RvHart *hart, unsigned first)
{
  uint64_t value = 0;

  for (unsigned i = 0; i < 8; i++)
    value |= (uint64_t) hart->pmpcfg[first + i] << 8 * i;
  return value;
}

static RvDone
pmpcfg_write (RvHart *hart, unsigned first, uint64_t value)
{
  for (unsigned i = 0; i < 8; i++) {
    uint8_t cfg = (uint8_t) (value >> 8 * i) & 0x9f;

    if (hart->pmpcfg[first + i] & 0x80)
      continue;
    if ((cfg & 3) == 2) /* write without read is reserved */
      cfg &= (uint8_t) ~2;
    hart->pmpcfg[first + i] = cfg;
  }
  rv_pmp_update (hart);
  return RV_LEAVE;
}

static RvDone
pmpaddr_write (RvHart *hart, unsigned index, uint64_t value)
{
  bool next_locks = index + 1 < RV_PMP_ENTRIES && (hart->pmpcfg[index + 1] & 0x98) == 0x88;

  if ((hart->pmpcfg[index] & 0x80) || next_locks)
    return RV_NEXT;
  hart->pmpaddr[index] = value & PMPADDR_MASK;
  rv_pmp_update (hart);
  return RV_LEAVE;
}

static bool
is_counter (unsigned csr)
{
  return csr >= CSR_CYCLE && csr <= CSR_HPMCOUNTER31;
}

static bool
in_range (unsigned csr, unsigned first, unsigned last)
{
  return csr >= first && csr <= last;
}

static bool
counter_value (RvHart *hart, unsigned csr, uint64_t *value)
{
  switch (csr) {
  case CSR_CYCLE:
    *value = counter_read (hart, &hart->cycle);
    break;
  case CSR_TIME:
    *value = rv_time (hart);
    break;
  case CSR_INSTRET:
    *value = counter_read (hart, &hart->instret);
    break;
  default:
    *value = 0;
  }
  return true;
}

static bool
read_supervisor (RvHart *hart, unsigned csr, uint64_t *value)
{
  switch (csr) {
  case CSR_SSTATUS:
    *value = status_read (hart) & (SSTATUS_WRITABLE | MSTATUS_UXL | MSTATUS_SD);
    return true;
  case CSR_SIE:
    *value = hart->mie & hart->mideleg;
    return true;
  case CSR_SIP:
    rv_timer_poll (hart);
    *value = rv_mip (hart) & hart->mideleg;
    return true;
  case CSR_STVEC:
    *value = hart->stvec;
    return true;
  case CSR_SCOUNTEREN:
    *value = hart->scounteren;
    return true;
  case CSR_SENVCFG:
    *value = hart->senvcfg;
    return true;
  case CSR_SSCRATCH:
    *value = hart->sscratch;
    return true;
  case CSR_SEPC:
    *value = hart->sepc;
    return true;
  case CSR_SCAUSE:
    *value = hart->scause;
    return true;
  case CSR_STVAL:
    *value = hart->stval;
    return true;
  case CSR_STIMECMP:
    *value = hart->stimecmp;
    return hart->ext.sstc;
  case CSR_SATP:
    *value = hart->satp;
    return true;
  default:
    return false;
  }
}

static bool
read_machine (RvHart *hart, unsigned csr, uint64_t *value)
{
  switch (csr) {
  case CSR_MVENDORID:
  case CSR_MARCHID:
  case CSR_MIMPID:
  case CSR_MCONFIGPTR:
    *value = 0;
    return true;
  case CSR_MHARTID:
    *value = hart->id;
    return true;
  case CSR_MSTATUS:
    *value = status_read (hart);
    return true;
  case CSR_MISA:
    *value = hart->misa;
    return true;
  case CSR_MEDELEG:
    *value = hart->medeleg;
    return true;
  case CSR_MIDELEG:
    *value = hart->mideleg;
    return true;
  case CSR_MIE:
    *value = hart->mie;
    return true;
  case CSR_MIP:
    rv_timer_poll (hart);
    *value = rv_mip (hart);
    return true;
  case CSR_MTVEC:
    *value = hart->mtvec;
    return true;
  case CSR_MCOUNTEREN:
    *value = hart->mcounteren;
    return true;
  case CSR_MENVCFG:
    *value = hart->menvcfg;
    return true;
  case CSR_MCOUNTINHIBIT:
    *value = hart->mcountinhibit;
    return true;
  case CSR_MSCRATCH:
    *value = hart->mscratch;
    return true;
  case CSR_MEPC:
    *value = hart->mepc;
    return true;
  case CSR_MCAUSE:
    *value = hart->mcause;
    return true;
  case CSR_MTVAL:
    *value = hart->mtval;
    return true;
  case CSR_PMPCFG0:
  case CSR_PMPCFG2:
    *value = pmpcfg_read (hart, csr == CSR_PMPCFG0 ? 0 : 8);
    return true;
  case CSR_MCYCLE:
    *value = counter_read (hart, &hart->cycle);
    return true;
  case CSR_MINSTRET:
    *value = counter_read (hart, &hart->instret);
    return true;
  default:
    break;
  }
  if (in_range (csr, CSR_PMPADDR0, CSR_PMPADDR15)) {
    *value = hart->pmpaddr[csr - CSR_PMPADDR0];
    return true;
  }
  *value = 0; /* event counters that never count */
  return in_range (csr, CSR_MHPMCOUNTER3, CSR_MHPMCOUNTER31)
         || in_range (csr, CSR_MHPMEVENT3, CSR_MHPMEVENT31);
}

bool
rv_csr_read (RvHart *hart, unsigned csr, uint64_t *value)
{
  switch (csr) {
  case CSR_FFLAGS:
    *value = hart->fflags;
    return true;
  case CSR_FRM:
    *value = hart->frm;
    return true;
  case CSR_FCSR:
    *value = (uint64_t) hart->frm << 5 | hart->fflags;
    return true;
  default:
    break;
  }
  if (is_counter (csr))
    return counter_value (hart, csr, value);
  return csr >> 8 == 1 ? read_supervisor (hart, csr, value) : read_machine (hart, csr, value);
}

static RvDone
write_supervisor (RvHart *hart, unsigned csr, uint64_t value)
{
  switch (csr) {
  case CSR_SSTATUS:
    return status_write (hart, value, SSTATUS_WRITABLE);
  case CSR_SIE:
    hart->mie = (hart->mie & ~hart->mideleg) | (value & hart->mideleg);
    return interrupts_changed (hart);
  case CSR_SIP:
    return ip_write (hart, value, hart->mideleg & MIP_SSIP);
  case CSR_STVEC:
    tvec_write (&hart->stvec, value);
    return RV_NEXT;
  case CSR_SCOUNTEREN:
    hart->scounteren = (uint32_t) value;
    return RV_NEXT;
  case CSR_SENVCFG:
    hart->senvcfg = value & ENVCFG_FIOM;
    return RV_NEXT;
  case CSR_SSCRATCH:
    hart->sscratch = value;
    return RV_NEXT;
  case CSR_SEPC:
    hart->sepc = value & ~UINT64_C (1);
    return RV_NEXT;
  case CSR_SCAUSE:
    hart->scause = value;
    return RV_NEXT;
  case CSR_STVAL:
    hart->stval = value;
    return RV_NEXT;
  case CSR_STIMECMP:
    rv_set_stimecmp (hart, value);
    return interrupts_changed (hart);
  case CSR_SATP:
    return satp_write (hart, value);
  default:
    return RV_TRAP;
  }
}

static RvDone
write_machine (RvHart *hart, unsigned csr, uint64_t value)
{
  switch (csr) {
  case CSR_MSTATUS:
    return status_write (hart, value, MSTATUS_WRITABLE);
  case CSR_MISA:
    return RV_NEXT;
  case CSR_MEDELEG:
    hart->medeleg = value & MEDELEG_WRITABLE;
    return RV_NEXT;
  case CSR_MIDELEG:
    hart->mideleg = value & MIP_S;
    return interrupts_changed (hart);
  case CSR_MIE:
    hart->mie = value & MIP_ALL;
    return interrupts_changed (hart);
  case CSR_MIP:
    return ip_write (hart, value, MIP_SSIP | MIP_SEIP | (hart->menvcfg & ENVCFG_STCE ? 0 : MIP_STIP));
  case CSR_MTVEC:
    tvec_write (&hart->mtvec, value);
    return RV_NEXT;
  case CSR_MCOUNTEREN:
    hart->mcounteren = (uint32_t) value;
    return RV_NEXT;
  case CSR_MENVCFG:
    return menvcfg_write (hart, value);
  case CSR_MCOUNTINHIBIT:
    hart->mcountinhibit = value & (COUNTEREN_CY | COUNTEREN_IR);
    counter_stop (hart, &hart->cycle, value & COUNTEREN_CY);
    counter_stop (hart, &hart->instret, value & COUNTEREN_IR);
    return RV_NEXT;
  case CSR_MSCRATCH:
    hart->mscratch = value;
    return RV_NEXT;
  case CSR_MEPC:
    hart->mepc = value & ~UINT64_C (1);
    return RV_NEXT;
  case CSR_MCAUSE:
    hart->mcause = value;
    return RV_NEXT;
  case CSR_MTVAL:
    hart->mtval = value;
    return RV_NEXT;
  case CSR_PMPCFG0:
  case CSR_PMPCFG2:
    return pmpcfg_write (hart, csr == CSR_PMPCFG0 ? 0 : 8, value);
  case CSR_MCYCLE:
    counter_write (hart, &hart->cycle, value);
    return RV_NEXT;
  case CSR_MINSTRET:
    counter_write (hart, &hart->instret, value - 1); /* this instruction counts as well */
    return RV_NEXT;
  default:
    break;
  }
  if (in_range (csr, CSR_PMPADDR0, CSR_PMPADDR15))
    return pmpaddr_write (hart, csr - CSR_PMPADDR0, value);
  return RV_NEXT; /* rv_csr_read() has refused those that don't exist */
}

RvDone
rv_csr_write (RvHart *hart, unsigned csr, uint64_t value)
{
  switch (csr) {
  case CSR_FFLAGS:
    hart->fflags = value & 31;
    break;
  case CSR_FRM:
    hart->frm = value & 7;
    break;
  case CSR_FCSR:
    hart->fflags = value & 31;
    hart->frm = value >> 5 & 7;
    break;
  default:
    return csr >> 8 == 1 ? write_supervisor (hart, csr, value) : write_machine (hart, csr, value);
  }
  hart->mstatus |= MSTATUS_FS;
  return RV_NEXT;
}

static bool
counter_allowed (const RvHart *hart, unsigned csr)
{
  uint64_t bit = UINT64_C (1) << (csr - CSR_CYCLE);

  if (hart->priv < RV_M && !(hart->mcounteren & bit))
    return false;
  return hart->priv > RV_U || (hart->scounteren & bit);
}

/* Privilege and the conditions that single registers add. */
static bool
may_access (const RvHart *hart, unsigned csr, bool write)
{
  if ((csr >> 8 & 3) > hart->priv || (write && csr >> 10 == 3))
    return false;
  if (csr <= CSR_FCSR)
    return (hart->mstatus & MSTATUS_FS) != 0;
  if (is_counter (csr))
    return counter_allowed (hart, csr);
  if (csr == CSR_SATP)
    return hart->priv != RV_S || !(hart->mstatus & MSTATUS_TVM);
  if (csr == CSR_STIMECMP)
    return hart->priv == RV_M || ((hart->menvcfg & ENVCFG_STCE) && (hart->mcounteren & COUNTEREN_TM));
  return true;
}

/* What software sees of SEIP differs from the bit that a read-modify-write changes. */
static uint64_t
modify_base (RvHart *hart, unsigned csr, uint64_t value)
{
  if (csr != CSR_MIP)
    return value;
  return (value & ~MIP_SEIP) | (__atomic_load_n (&hart->ip, __ATOMIC_RELAXED) & MIP_SEIP);
}

RvDone
rv_op_csr (RvHart *hart, const RvInsn *insn)
{
  unsigned csr = insn->rs2 | (unsigned) (insn->rs3 & 15) << 8, kind = insn->rs3 >> 4;
  uint64_t operand = kind & 4 ? insn->rs1 : hart->x[insn->rs1];
  bool write = (kind & 3) == 1 || insn->rs1 != 0;
  uint64_t old, base;
  RvDone done = RV_NEXT;

  if (!may_access (hart, csr, write) || !rv_csr_read (hart, csr, &old))
    return rv_illegal_at (hart, hart->pc);
  if (write) {
    base = modify_base (hart, csr, old);
    if ((kind & 3) == 2)
      operand |= base;
    else if ((kind & 3) == 3)
      operand = base & ~operand;
    done = rv_csr_write (hart, csr, operand);
  }
  if (done == RV_TRAP)
    return rv_illegal_at (hart, hart->pc);
  hart->x[insn->rd] = old;
  if (done == RV_LEAVE)
    hart->pc += 4;
  return done;
}
