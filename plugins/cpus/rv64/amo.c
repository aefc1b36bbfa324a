/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Atomic instructions, on the host's atomics: harts run at the same time on host threads.  All are
 * sequentially consistent, which is more than aq and rl can ask for.
 *
 * SC compares the value that LR read and exchanges it.  A location that was changed and changed back between
 * the two goes unnoticed; software that relies on LR/SC to see that isn't known.
 */
#include "rv64.h"

#define ORDER __ATOMIC_SEQ_CST

static RvDone
load_reserved (RvHart *hart, const RvInsn *insn, unsigned bytes)
{
  uint64_t address = hart->x[insn->rs1], value;
  void *place = rv_atomic_place (hart, address, bytes, RV_READ);

  if (!place)
    return RV_TRAP;
  if (bytes == 4)
    value = (uint64_t) (int64_t) (int32_t) GUINT32_FROM_LE (__atomic_load_n ((uint32_t *) place, ORDER));
  else
    value = GUINT64_FROM_LE (__atomic_load_n ((uint64_t *) place, ORDER));
  hart->reservation = address;
  hart->reserved_value = value;
  hart->reserved_bytes = (uint8_t) bytes;
  hart->x[insn->rd] = value;
  return RV_NEXT;
}

static bool
exchange_if (void *place, unsigned bytes, uint64_t expected, uint64_t value)
{
  uint32_t expected32 = GUINT32_TO_LE ((uint32_t) expected);
  uint64_t expected64 = GUINT64_TO_LE (expected);

  if (bytes == 4)
    return __atomic_compare_exchange_n ((uint32_t *) place, &expected32, GUINT32_TO_LE ((uint32_t) value),
                                        false, ORDER, ORDER);
  return __atomic_compare_exchange_n ((uint64_t *) place, &expected64, GUINT64_TO_LE (value), false, ORDER,
                                      ORDER);
}

static RvDone
store_conditional (RvHart *hart, const RvInsn *insn, unsigned bytes)
{
  uint64_t address = hart->x[insn->rs1];
  bool reserved = hart->reservation == address && hart->reserved_bytes == bytes;
  void *place = rv_atomic_place (hart, address, bytes, RV_WRITE);

  if (!place)
    return RV_TRAP;
  hart->reservation = UINT64_MAX;
  hart->x[insn->rd] = !(reserved && exchange_if (place, bytes, hart->reserved_value, hart->x[insn->rs2]));
  return RV_NEXT;
}

static RvDone
rv_op_lr_w (RvHart *hart, const RvInsn *insn)
{
  return load_reserved (hart, insn, 4);
}

static RvDone
rv_op_lr_d (RvHart *hart, const RvInsn *insn)
{
  return load_reserved (hart, insn, 8);
}

static RvDone
rv_op_sc_w (RvHart *hart, const RvInsn *insn)
{
  return store_conditional (hart, insn, 4);
}

static RvDone
rv_op_sc_d (RvHart *hart, const RvInsn *insn)
{
  return store_conditional (hart, insn, 8);
}

typedef enum AmoKind {
  AMO_ADD,
  AMO_SWAP,
  AMO_XOR,
  AMO_OR,
  AMO_AND,
  AMO_MIN,
  AMO_MAX,
  AMO_MINU,
  AMO_MAXU
} AmoKind;

static inline uint64_t
combine (AmoKind kind, uint64_t old, uint64_t operand)
{
  switch (kind) {
  case AMO_ADD:
    return old + operand;
  case AMO_SWAP:
    return operand;
  case AMO_XOR:
    return old ^ operand;
  case AMO_OR:
    return old | operand;
  case AMO_AND:
    return old & operand;
  case AMO_MIN:
    return (int64_t) old < (int64_t) operand ? old : operand;
  case AMO_MAX:
    return (int64_t) old > (int64_t) operand ? old : operand;
  case AMO_MINU:
    return old < operand ? old : operand;
  default:
    return old > operand ? old : operand;
  }
}

/* Word operands are sign-extended, which keeps both orders. */
static inline RvDone
amo_w (RvHart *hart, const RvInsn *insn, AmoKind kind)
{
  uint32_t *place = rv_atomic_place (hart, hart->x[insn->rs1], 4, RV_WRITE);
  uint64_t operand = (uint64_t) (int64_t) (int32_t) hart->x[insn->rs2], old;
  uint32_t seen, wanted;

  if (!place)
    return RV_TRAP;
  seen = __atomic_load_n (place, __ATOMIC_RELAXED);
  do {
    old = (uint64_t) (int64_t) (int32_t) GUINT32_FROM_LE (seen);
    wanted = GUINT32_TO_LE ((uint32_t) combine (kind, old, operand));
  } while (!__atomic_compare_exchange_n (place, &seen, wanted, true, ORDER, __ATOMIC_RELAXED));
  hart->x[insn->rd] = old;
  return RV_NEXT;
}

static inline RvDone
amo_d (RvHart *hart, const RvInsn *insn, AmoKind kind)
{
  uint64_t *place = rv_atomic_place (hart, hart->x[insn->rs1], 8, RV_WRITE);
  uint64_t operand = hart->x[insn->rs2], old, seen, wanted;

  if (!place)
    return RV_TRAP;
  seen = __atomic_load_n (place, __ATOMIC_RELAXED);
  do {
    old = GUINT64_FROM_LE (seen);
    wanted = GUINT64_TO_LE (combine (kind, old, operand));
  } while (!__atomic_compare_exchange_n (place, &seen, wanted, true, ORDER, __ATOMIC_RELAXED));
  hart->x[insn->rd] = old;
  return RV_NEXT;
}

/* One pair of functions for each operation, so that the compiler specialises them. */
#define AMO_PAIR(name, kind)                                                                                 \
  static RvDone rv_op_##name##_w (RvHart *hart, const RvInsn *insn)                                          \
  {                                                                                                          \
    return amo_w (hart, insn, kind);                                                                         \
  }                                                                                                          \
  static RvDone rv_op_##name##_d (RvHart *hart, const RvInsn *insn)                                          \
  {                                                                                                          \
    return amo_d (hart, insn, kind);                                                                         \
  }
AMO_PAIR (amoadd, AMO_ADD)
AMO_PAIR (amoswap, AMO_SWAP)
AMO_PAIR (amoxor, AMO_XOR)
AMO_PAIR (amoor, AMO_OR)
AMO_PAIR (amoand, AMO_AND)
AMO_PAIR (amomin, AMO_MIN)
AMO_PAIR (amomax, AMO_MAX)
AMO_PAIR (amominu, AMO_MINU)
AMO_PAIR (amomaxu, AMO_MAXU)

RvHelper *
rv_amo_helper (unsigned funct5, bool wide)
{
  switch (funct5) {
  case 0x00:
    return wide ? rv_op_amoadd_d : rv_op_amoadd_w;
  case 0x01:
    return wide ? rv_op_amoswap_d : rv_op_amoswap_w;
  case 0x02:
    return wide ? rv_op_lr_d : rv_op_lr_w;
  case 0x03:
    return wide ? rv_op_sc_d : rv_op_sc_w;
  case 0x04:
    return wide ? rv_op_amoxor_d : rv_op_amoxor_w;
  case 0x08:
    return wide ? rv_op_amoor_d : rv_op_amoor_w;
  case 0x0c:
    return wide ? rv_op_amoand_d : rv_op_amoand_w;
  case 0x10:
    return wide ? rv_op_amomin_d : rv_op_amomin_w;
  case 0x14:
    return wide ? rv_op_amomax_d : rv_op_amomax_w;
  case 0x18:
    return wide ? rv_op_amominu_d : rv_op_amominu_w;
  case 0x1c:
    return wide ? rv_op_amomaxu_d : rv_op_amomaxu_w;
  default:
    return NULL;
  }
}
