/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The RISC-V Supervisor Binary Interface, version 2.0, built in: what machine-mode firmware would do for a
 * kernel, without any.  BASE, TIME, IPI, RFENCE, HSM, SRST and DBCN; others are reported as absent.
 */
#include <sched.h>

#include "rv64.h"

enum {
  SBI_SUCCESS = 0,
  SBI_ERR_FAILED = -1,
  SBI_ERR_NOT_SUPPORTED = -2,
  SBI_ERR_INVALID_PARAM = -3,
  SBI_ERR_INVALID_ADDRESS = -5,
  SBI_ERR_ALREADY_AVAILABLE = -6
};

enum {
  SBI_EXT_BASE = 0x10,
  SBI_EXT_TIME = 0x54494d45,
  SBI_EXT_IPI = 0x735049,
  SBI_EXT_RFENCE = 0x52464e43,
  SBI_EXT_HSM = 0x48534d,
  SBI_EXT_SRST = 0x53525354,
  SBI_EXT_DBCN = 0x4442434e
};

#define SBI_VERSION (2u << 24)
#define SBI_IMPLEMENTATION 0x544e /* none assigned: "TN" */
#define A0 10
#define DBCN_CHUNK 256

typedef struct SbiResult {
  int64_t error;
  uint64_t value;
} SbiResult;

static SbiResult
result (int64_t error, uint64_t value)
{
  return (SbiResult){ error, value };
}

static RvHart *
hart_by_id (RvHart *hart, uint64_t id)
{
  if (id >= tn_cpu_count (hart->cpu))
    return NULL;
  return tn_cpu_state (tn_cpu_sibling (hart->cpu, (unsigned) id));
}

static bool
in_mask (uint64_t id, uint64_t mask, uint64_t base)
{
  if (base == UINT64_MAX)
    return true;
  return id >= base && id - base < 64 && (mask >> (id - base) & 1);
}

/* Whether every hart of the mask exists. */
static bool
mask_is_valid (RvHart *hart, uint64_t mask, uint64_t base)
{
  unsigned count = tn_cpu_count (hart->cpu);

  if (base == UINT64_MAX || mask == 0)
    return true;
  if (base >= count)
    return false;
  return 64 - (unsigned) __builtin_clzll (mask) <= count - base;
}

static bool
is_known (uint64_t extension)
{
  switch (extension) {
  case SBI_EXT_BASE:
  case SBI_EXT_TIME:
  case SBI_EXT_IPI:
  case SBI_EXT_RFENCE:
  case SBI_EXT_HSM:
  case SBI_EXT_SRST:
  case SBI_EXT_DBCN:
    return true;
  default:
    return false;
  }
}

static SbiResult
call_base (RvHart *hart, uint64_t function)
{
  switch (function) {
  case 0:
    return result (SBI_SUCCESS, SBI_VERSION);
  case 1:
    return result (SBI_SUCCESS, SBI_IMPLEMENTATION);
  case 2:
    return result (SBI_SUCCESS, 1);
  case 3:
    return result (SBI_SUCCESS, is_known (hart->x[A0]));
  case 4: /* mvendorid, marchid, mimpid */
  case 5:
  case 6:
    return result (SBI_SUCCESS, 0);
  default:
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  }
}

static SbiResult
call_time (RvHart *hart, uint64_t function)
{
  if (function != 0)
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  rv_set_stimecmp (hart, hart->x[A0]);
  return result (SBI_SUCCESS, 0);
}

static SbiResult
call_ipi (RvHart *hart, uint64_t function)
{
  uint64_t mask = hart->x[A0], base = hart->x[A0 + 1];

  if (function != 0)
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  if (!mask_is_valid (hart, mask, base))
    return result (SBI_ERR_INVALID_PARAM, 0);
  for (unsigned id = 0; id < tn_cpu_count (hart->cpu); id++) {
    RvHart *other = hart_by_id (hart, id);

    if (!in_mask (id, mask, base))
      continue;
    __atomic_fetch_or (&other->ip, MIP_SSIP, __ATOMIC_SEQ_CST);
    __atomic_store_n (&other->attention, 1, __ATOMIC_SEQ_CST);
    tn_cpu_notify (other->cpu);
  }
  return result (SBI_SUCCESS, 0);
}

/* Until @other has served @request, or isn't executing (it serves it before it does again).  Meanwhile
 * this hart serves what is asked of it, or two that fence each other would wait for ever. */
static void
wait_for (RvHart *hart, RvHart *other, uint32_t request)
{
  while ((__atomic_load_n (&other->requests, __ATOMIC_SEQ_CST) & request)
         && __atomic_load_n (&other->running, __ATOMIC_SEQ_CST)) {
    rv_serve_requests (hart);
    sched_yield ();
  }
}

static void
remote_fence (RvHart *hart, uint64_t mask, uint64_t base, uint32_t request)
{
  unsigned count = tn_cpu_count (hart->cpu);

  for (unsigned id = 0; id < count; id++)
    if (id != hart->id && in_mask (id, mask, base))
      rv_request (hart_by_id (hart, id), request);
  for (unsigned id = 0; id < count; id++)
    if (id != hart->id && in_mask (id, mask, base))
      wait_for (hart, hart_by_id (hart, id), request);
  if (!in_mask (hart->id, mask, base))
    return;
  if (request == RV_REQUEST_FENCE_I)
    rv_fence_i (hart);
  else
    rv_tlb_flush (hart);
}

static SbiResult
call_rfence (RvHart *hart, uint64_t function)
{
  uint64_t mask = hart->x[A0], base = hart->x[A0 + 1];

  if (function > 2)
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  if (!mask_is_valid (hart, mask, base))
    return result (SBI_ERR_INVALID_PARAM, 0);
  remote_fence (hart, mask, base, function == 0 ? RV_REQUEST_FENCE_I : RV_REQUEST_FLUSH_TLB);
  return result (SBI_SUCCESS, 0);
}

static SbiResult
hart_start (RvHart *hart)
{
  RvHart *other = hart_by_id (hart, hart->x[A0]);
  uint32_t expected = RV_HSM_STOPPED;

  if (!other)
    return result (SBI_ERR_INVALID_PARAM, 0);
  if (hart->x[A0 + 1] & 1 || !rv_ram (hart, hart->x[A0 + 1], 2, false))
    return result (SBI_ERR_INVALID_ADDRESS, 0);
  if (!__atomic_compare_exchange_n (&other->hsm, &expected, RV_HSM_STARTING, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
    return result (SBI_ERR_ALREADY_AVAILABLE, 0);
  other->start_pc = hart->x[A0 + 1];
  other->start_opaque = hart->x[A0 + 2];
  __atomic_store_n (&other->hsm, RV_HSM_START_PENDING, __ATOMIC_SEQ_CST);
  tn_cpu_notify (other->cpu);
  return result (SBI_SUCCESS, 0);
}

static SbiResult
hart_stop (RvHart *hart)
{
  __atomic_store_n (&hart->hsm, RV_HSM_STOPPED, __ATOMIC_SEQ_CST);
  hart->exit_reason = TN_CPU_EXIT_HALT;
  return result (SBI_SUCCESS, 0);
}

/* Suspending is waiting for an interrupt; the non-retentive kind starts anew after it. */
static SbiResult
hart_suspend (RvHart *hart)
{
  uint32_t type = (uint32_t) hart->x[A0];
  uint64_t resume = hart->x[A0 + 1], opaque = hart->x[A0 + 2];

  if (type != 0 && type != 0x80000000)
    return result (SBI_ERR_INVALID_PARAM, 0);
  if (type && (resume & 1 || !rv_ram (hart, resume, 2, false)))
    return result (SBI_ERR_INVALID_ADDRESS, 0);
  hart->waiting = true;
  hart->exit_reason = TN_CPU_EXIT_HALT;
  __atomic_store_n (&hart->hsm, RV_HSM_SUSPENDED, __ATOMIC_SEQ_CST);
  if (type) {
    hart->start_pc = resume;
    hart->start_opaque = opaque;
    hart->resume_anew = true;
  }
  return result (SBI_SUCCESS, 0);
}

static SbiResult
call_hsm (RvHart *hart, uint64_t function)
{
  const RvHart *other;
  uint32_t state;

  switch (function) {
  case 0:
    return hart_start (hart);
  case 1:
    return hart_stop (hart);
  case 2:
    other = hart_by_id (hart, hart->x[A0]);
    if (!other)
      return result (SBI_ERR_INVALID_PARAM, 0);
    state = __atomic_load_n (&other->hsm, __ATOMIC_SEQ_CST);
    return result (SBI_SUCCESS, state == RV_HSM_STARTING ? RV_HSM_START_PENDING : state);
  case 3:
    return hart_suspend (hart);
  default:
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  }
}

static SbiResult
call_srst (RvHart *hart, uint64_t function)
{
  uint64_t type = hart->x[A0];

  if (function != 0)
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  if (type > 2 || hart->x[A0 + 1] > 1)
    return result (SBI_ERR_INVALID_PARAM, 0);
  hart->exit_reason = type == 0 ? TN_CPU_EXIT_SHUTDOWN : TN_CPU_EXIT_RESET;
  hart->exit_code = 0;
  return result (SBI_SUCCESS, 0);
}

/* At most DBCN_CHUNK bytes at a time: callers go on with what is left. */
static SbiResult
console_write (RvHart *hart)
{
  uint8_t buffer[DBCN_CHUNK];
  uint64_t length = MIN (hart->x[A0], DBCN_CHUNK), address = hart->x[A0 + 1];

  if (hart->x[A0 + 2] || tn_space_dma_read (hart->space, address, buffer, length) != TN_BUS_OK)
    return result (SBI_ERR_INVALID_PARAM, 0);
  return result (SBI_SUCCESS, tn_cpu_console_write (hart->cpu, buffer, length));
}

static SbiResult
console_read (RvHart *hart)
{
  uint8_t buffer[DBCN_CHUNK];
  uint64_t length = MIN (hart->x[A0], DBCN_CHUNK), address = hart->x[A0 + 1];

  if (hart->x[A0 + 2] || tn_space_dma_read (hart->space, address, buffer, length) != TN_BUS_OK)
    return result (SBI_ERR_INVALID_PARAM, 0);
  length = tn_cpu_console_read (hart->cpu, buffer, length);
  if (tn_space_dma_write (hart->space, address, buffer, length) != TN_BUS_OK)
    return result (SBI_ERR_INVALID_PARAM, 0);
  return result (SBI_SUCCESS, length);
}

static SbiResult
call_dbcn (RvHart *hart, uint64_t function)
{
  uint8_t byte = (uint8_t) hart->x[A0];

  switch (function) {
  case 0:
    return console_write (hart);
  case 1:
    return console_read (hart);
  case 2:
    return tn_cpu_console_write (hart->cpu, &byte, 1) == 1 ? result (SBI_SUCCESS, 0)
                                                           : result (SBI_ERR_FAILED, 0);
  default:
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  }
}

static SbiResult
dispatch (RvHart *hart)
{
  uint64_t function = hart->x[16];

  switch (hart->x[17]) {
  case SBI_EXT_BASE:
    return call_base (hart, function);
  case SBI_EXT_TIME:
    return call_time (hart, function);
  case SBI_EXT_IPI:
    return call_ipi (hart, function);
  case SBI_EXT_RFENCE:
    return call_rfence (hart, function);
  case SBI_EXT_HSM:
    return call_hsm (hart, function);
  case SBI_EXT_SRST:
    return call_srst (hart, function);
  case SBI_EXT_DBCN:
    return call_dbcn (hart, function);
  default:
    return result (SBI_ERR_NOT_SUPPORTED, 0);
  }
}

RvDone
rv_sbi_call (RvHart *hart)
{
  SbiResult answer = dispatch (hart);

  hart->x[A0] = (uint64_t) answer.error;
  hart->x[A0 + 1] = answer.value;
  hart->pc += 4;
  return RV_LEAVE;
}

void
rv_sbi_enter (RvHart *hart)
{
  hart->priv = RV_S;
  hart->satp = 0;
  hart->mstatus &= ~MSTATUS_SIE;
  hart->pc = hart->start_pc;
  hart->x[A0] = hart->id;
  hart->x[A0 + 1] = hart->start_opaque;
  hart->waiting = false;
  hart->resume_anew = false;
  rv_tlb_flush (hart);
  rv_fence_i (hart);
  rv_mmu_update (hart);
  __atomic_store_n (&hart->hsm, RV_HSM_STARTED, __ATOMIC_SEQ_CST);
}
