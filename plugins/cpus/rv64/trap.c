/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Traps, interrupts, the instructions that return from them, and what other threads ask of a hart. */
#include "rv64.h"

static void
set_priv (RvHart *hart, RvPriv priv)
{
  hart->priv = (uint8_t) priv;
  rv_mmu_update (hart);
}

static void
look_again (RvHart *hart)
{
  __atomic_store_n (&hart->attention, 1, __ATOMIC_RELAXED);
}

static uint64_t
vector (uint64_t tvec, uint64_t cause)
{
  uint64_t base = tvec & ~UINT64_C (3);

  return (tvec & 1) && (cause & CAUSE_INTERRUPT) ? base + 4 * (cause & 63) : base;
}

static void
trap_to_s (RvHart *hart, uint64_t cause, uint64_t tval, uint64_t epc)
{
  uint64_t status = hart->mstatus & ~(MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_SIE);

  if (hart->mstatus & MSTATUS_SIE)
    status |= MSTATUS_SPIE;
  if (hart->priv != RV_U)
    status |= MSTATUS_SPP;
  hart->mstatus = status;
  hart->scause = cause;
  hart->stval = tval;
  hart->sepc = epc;
  hart->pc = vector (hart->stvec, cause);
  set_priv (hart, RV_S);
}

static void
trap_to_m (RvHart *hart, uint64_t cause, uint64_t tval, uint64_t epc)
{
  uint64_t status = hart->mstatus & ~(MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MIE);

  if (hart->mstatus & MSTATUS_MIE)
    status |= MSTATUS_MPIE;
  hart->mstatus = status | (uint64_t) hart->priv << MSTATUS_MPP_SHIFT;
  hart->mcause = cause;
  hart->mtval = tval;
  hart->mepc = epc;
  hart->pc = vector (hart->mtvec, cause);
  set_priv (hart, RV_M);
}

void
rv_trap (RvHart *hart, uint64_t cause, uint64_t tval, uint64_t epc)
{
  uint64_t delegated = cause & CAUSE_INTERRUPT ? hart->mideleg : hart->medeleg;

  if (hart->priv <= RV_S && (delegated >> (cause & 63) & 1))
    trap_to_s (hart, cause, tval, epc);
  else
    trap_to_m (hart, cause, tval, epc);
}

/* Enabled interrupts that are pending, for the most privileged mode that takes one. */
static uint64_t
deliverable (RvHart *hart)
{
  uint64_t pending = rv_mip (hart) & hart->mie;
  uint64_t to_m = pending & ~hart->mideleg, to_s = pending & hart->mideleg;

  if (to_m && (hart->priv < RV_M || (hart->mstatus & MSTATUS_MIE)))
    return to_m;
  if (to_s && (hart->priv < RV_S || (hart->priv == RV_S && (hart->mstatus & MSTATUS_SIE))))
    return to_s;
  return 0;
}

bool
rv_interrupt_ready (RvHart *hart)
{
  return deliverable (hart) != 0;
}

bool
rv_interrupt (RvHart *hart)
{
  static const uint8_t priority[] = { 11, 3, 7, 9, 1, 5 };
  uint64_t pending = deliverable (hart);

  for (unsigned i = 0; pending && i < G_N_ELEMENTS (priority); i++) {
    if (!(pending >> priority[i] & 1))
      continue;
    rv_trap (hart, CAUSE_INTERRUPT | priority[i], 0, hart->pc);
    return true;
  }
  return false;
}

void
rv_request (RvHart *hart, uint32_t request)
{
  __atomic_fetch_or (&hart->requests, request, __ATOMIC_SEQ_CST);
  __atomic_store_n (&hart->attention, 1, __ATOMIC_SEQ_CST);
}

/* Requests are taken off the word after they are served, so that who waits for that can watch it. */
uint32_t
rv_serve_requests (RvHart *hart)
{
  uint32_t requests = __atomic_load_n (&hart->requests, __ATOMIC_SEQ_CST);

  if (!requests)
    return 0;
  if (requests & RV_REQUEST_MEMORY) {
    hart->ram_start = hart->ram_end = 0;
    rv_blocks_flush (hart);
  }
  if (requests & (RV_REQUEST_FLUSH_TLB | RV_REQUEST_MEMORY))
    rv_tlb_flush (hart);
  if (requests & RV_REQUEST_FENCE_I)
    rv_fence_i (hart);
  __atomic_fetch_and (&hart->requests, ~requests, __ATOMIC_SEQ_CST);
  return requests;
}

bool
rv_attend (RvHart *hart)
{
  __atomic_exchange_n (&hart->attention, 0, __ATOMIC_SEQ_CST);
  if (rv_serve_requests (hart) & RV_REQUEST_KICK) {
    hart->exit_reason = TN_CPU_EXIT_KICK;
    look_again (hart); /* an interrupt may be pending as well */
    return true;
  }
  rv_interrupt (hart);
  return false;
}

static RvDone
trap_illegal (RvHart *hart, uint32_t word)
{
  rv_raise (hart, CAUSE_ILLEGAL, word);
  return RV_TRAP;
}

RvDone
rv_op_illegal (RvHart *hart, const RvInsn *insn)
{
  return trap_illegal (hart, (uint32_t) insn->rd | (uint32_t) insn->rs1 << 8 | (uint32_t) insn->rs2 << 16
                                 | (uint32_t) insn->rs3 << 24);
}

static bool
fetch_half (RvHart *hart, uint64_t pc, uint16_t *half)
{
  uint64_t physical;
  const uint8_t *host;
  bool whole;

  if (!rv_fetch_place (hart, pc, &physical, &host, &whole))
    return false;
  *half = tn_load_le16 (host);
  return true;
}

RvDone
rv_illegal_at (RvHart *hart, uint64_t pc)
{
  uint16_t low = 0, high = 0;

  if (fetch_half (hart, pc, &low) && (low & 3) == 3)
    fetch_half (hart, pc + 2, &high);
  return trap_illegal (hart, low | (uint32_t) high << 16);
}

RvDone
rv_op_ecall (RvHart *hart, const RvInsn *insn)
{
  if (hart->sbi && hart->priv == RV_S)
    return rv_sbi_call (hart);
  rv_raise (hart, CAUSE_ECALL_U + (uint64_t) hart->priv, 0);
  return RV_TRAP;
}

RvDone
rv_op_ebreak (RvHart *hart, const RvInsn *insn)
{
  rv_raise (hart, CAUSE_BREAKPOINT, 0);
  return RV_TRAP;
}

RvDone
rv_op_mret (RvHart *hart, const RvInsn *insn)
{
  RvPriv to = (hart->mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;
  uint64_t status = hart->mstatus & ~(MSTATUS_MIE | MSTATUS_MPP);

  if (hart->priv != RV_M)
    return rv_illegal_at (hart, hart->pc);
  if (hart->mstatus & MSTATUS_MPIE)
    status |= MSTATUS_MIE;
  if (to != RV_M)
    status &= ~MSTATUS_MPRV;
  hart->mstatus = status | MSTATUS_MPIE;
  hart->pc = hart->mepc;
  set_priv (hart, to);
  look_again (hart);
  return RV_LEAVE;
}

RvDone
rv_op_sret (RvHart *hart, const RvInsn *insn)
{
  uint64_t status = hart->mstatus & ~(MSTATUS_SIE | MSTATUS_SPP | MSTATUS_MPRV);
  RvPriv to = hart->mstatus & MSTATUS_SPP ? RV_S : RV_U;

  if (hart->priv == RV_U || (hart->priv == RV_S && (hart->mstatus & MSTATUS_TSR)))
    return rv_illegal_at (hart, hart->pc);
  if (hart->mstatus & MSTATUS_SPIE)
    status |= MSTATUS_SIE;
  hart->mstatus = status | MSTATUS_SPIE;
  hart->pc = hart->sepc;
  set_priv (hart, to);
  if (rv_interrupt_ready (hart))
    look_again (hart);
  return RV_LEAVE;
}

RvDone
rv_op_wfi (RvHart *hart, const RvInsn *insn)
{
  if (hart->priv == RV_U || (hart->priv == RV_S && (hart->mstatus & MSTATUS_TW)))
    return rv_illegal_at (hart, hart->pc);
  hart->pc += 4;
  rv_timer_poll (hart);
  if (rv_mip (hart) & hart->mie)
    return RV_LEAVE;
  hart->waiting = true;
  hart->exit_reason = TN_CPU_EXIT_HALT;
  return RV_LEAVE;
}

RvDone
rv_op_sfence_vma (RvHart *hart, const RvInsn *insn)
{
  if (hart->priv == RV_U || (hart->priv == RV_S && (hart->mstatus & MSTATUS_TVM)))
    return rv_illegal_at (hart, hart->pc);
  if (insn->rs1)
    rv_tlb_flush_page (hart, hart->x[insn->rs1]);
  else
    rv_tlb_flush (hart);
  hart->pc += 4;
  return RV_LEAVE;
}

RvDone
rv_op_fence_i (RvHart *hart, const RvInsn *insn)
{
  rv_fence_i (hart);
  hart->pc += 4;
  return RV_LEAVE;
}
