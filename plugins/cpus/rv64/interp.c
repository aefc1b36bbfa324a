/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interpreter: one function, one label per operation, threaded through the decoded instructions.
 *
 * Registers of the loop: `insn` is the instruction, `pc` the virtual address of its block's start, `left`
 * what is left of the time slice.  A block that ends takes its instructions off `left`; only
 * there are time and the attention word looked at.
 *
 * The macros are the dispatch itself, which must be repeated at the end of each operation for the host's
 * branch predictor to tell them apart.
 */
#include "ops.h"
#include "rv64.h"

#define X(slot) x[insn->slot]
#define RD x[insn->rd]
#define DISPATCH() goto *labels[insn->op]
#define STEP()                                                                                               \
  do {                                                                                                       \
    insn++;                                                                                                  \
    DISPATCH ();                                                                                             \
  } while (0)
#define SET(expression)                                                                                      \
  do {                                                                                                       \
    RD = (uint64_t) (expression);                                                                            \
    STEP ();                                                                                                 \
  } while (0)

/* Ends the block after @count more instructions, and looks round. */
#define RETIRE(count, next)                                                                                  \
  do {                                                                                                       \
    left -= (count);                                                                                         \
    if (RV_UNLIKELY (left < 0 || __atomic_load_n (&hart->attention, __ATOMIC_RELAXED))) {                    \
      hart->pc = (next);                                                                                     \
      goto look_round;                                                                                       \
    }                                                                                                        \
  } while (0)

#define JUMP_DIRECT(count)                                                                                   \
  do {                                                                                                       \
    uint64_t next_ = pc + (uint64_t) (int64_t) insn->target;                                                 \
    RETIRE (count, next_);                                                                                   \
    if (RV_UNLIKELY (!insn->link)) {                                                                         \
      hart->pc = next_;                                                                                      \
      goto follow;                                                                                           \
    }                                                                                                        \
    pc = next_;                                                                                              \
    insn = (RvInsn *) (arena + insn->link);                                                                  \
    DISPATCH ();                                                                                             \
  } while (0)

#define JUMP_INDIRECT(next)                                                                                  \
  do {                                                                                                       \
    const RvTlbEntry *entry_ = &hart->tlb_exec->exec[((next) >> TN_PAGE_SHIFT) % RV_TLB_EXEC_SIZE];          \
    uint32_t block_;                                                                                         \
    if (RV_UNLIKELY (entry_->tag != ((next) & ~(TN_PAGE_SIZE - 1)))) {                                       \
      hart->pc = (next);                                                                                     \
      goto find;                                                                                             \
    }                                                                                                        \
    block_ = ((const RvPage *) entry_->addend)->blocks[((next) & (TN_PAGE_SIZE - 1)) / 2];                   \
    if (RV_UNLIKELY (!block_)) {                                                                             \
      hart->pc = (next);                                                                                     \
      goto find;                                                                                             \
    }                                                                                                        \
    pc = (next);                                                                                             \
    insn = (RvInsn *) (arena + block_);                                                                      \
    DISPATCH ();                                                                                             \
  } while (0)

#define BRANCH(condition)                                                                                    \
  do {                                                                                                       \
    if (condition)                                                                                           \
      JUMP_DIRECT (insn->nth + 1);                                                                           \
    STEP ();                                                                                                 \
  } while (0)

/* The tag comparison also fails for a misaligned address. */
#define TLB_HIT(entry, address, bytes) ((entry)->tag == ((address) & (~(TN_PAGE_SIZE - 1) | ((bytes) -1))))

#define LOAD_AS(target, type, FROM_LE, convert, also)                                                        \
  do {                                                                                                       \
    uint64_t address_ = X (rs1) + (uint64_t) insn->imm;                                                      \
    const RvTlbEntry *entry_ = &tlb->read[(address_ >> TN_PAGE_SHIFT) % RV_TLB_SIZE];                        \
    if (RV_LIKELY (TLB_HIT (entry_, address_, sizeof (type)))) {                                             \
      target = (uint64_t) convert FROM_LE (                                                                  \
          __atomic_load_n ((const type *) (entry_->addend + address_), RV_LOAD_ORDER));                      \
      also;                                                                                                  \
      STEP ();                                                                                               \
    }                                                                                                        \
    if (!rv_load (hart, address_, sizeof (type)))                                                            \
      goto trap;                                                                                             \
    target = (uint64_t) convert hart->loaded;                                                                \
    also;                                                                                                    \
    STEP ();                                                                                                 \
  } while (0)

#define STORE_AS(value, type, TO_LE)                                                                         \
  do {                                                                                                       \
    uint64_t address_ = X (rs1) + (uint64_t) insn->imm;                                                      \
    const RvTlbEntry *entry_ = &tlb->write[(address_ >> TN_PAGE_SHIFT) % RV_TLB_SIZE];                       \
    if (RV_LIKELY (TLB_HIT (entry_, address_, sizeof (type)))) {                                             \
      __atomic_store_n ((type *) (entry_->addend + address_), TO_LE ((type) (value)), RV_STORE_ORDER);       \
      STEP ();                                                                                               \
    }                                                                                                        \
    if (!rv_store (hart, address_, sizeof (type), (value)))                                                  \
      goto trap;                                                                                             \
    STEP ();                                                                                                 \
  } while (0)

#define SAME(value) (value)
#define NAN_BOXED UINT64_C (0xffffffff00000000) |
#define SIGNED(value) ((int64_t) (value))
#define SIGNED32(value) ((int64_t) (int32_t) (value))

static uint64_t
mulhu (uint64_t a, uint64_t b)
{
  return (uint64_t) ((unsigned __int128) a * b >> 64);
}

static uint64_t
mulh (uint64_t a, uint64_t b)
{
  return (uint64_t) ((__int128) (int64_t) a * (int64_t) b >> 64);
}

static uint64_t
mulhsu (uint64_t a, uint64_t b)
{
  return mulhu (a, b) - ((int64_t) a < 0 ? b : 0);
}

static int64_t
divide (int64_t a, int64_t b)
{
  if (b == 0)
    return -1;
  return b == -1 ? (int64_t) - (uint64_t) a : a / b;
}

static int64_t
remainder_of (int64_t a, int64_t b)
{
  if (b == 0)
    return a;
  return b == -1 ? 0 : a % b;
}

static int64_t
divide32 (int32_t a, int32_t b)
{
  return (int32_t) divide (a, b);
}

static uint64_t
rotate_right (uint64_t value, unsigned by)
{
  return value >> (by & 63) | value << (-by & 63);
}

static uint32_t
rotate_right32 (uint32_t value, unsigned by)
{
  return value >> (by & 31) | value << (-by & 31);
}

static uint64_t
or_combine (uint64_t value)
{
  value |= value >> 1 & UINT64_C (0x5555555555555555);
  value |= value >> 2 & UINT64_C (0x3333333333333333);
  value |= value >> 4 & UINT64_C (0x0f0f0f0f0f0f0f0f);
  return (value & UINT64_C (0x0101010101010101)) * 255;
}

static void
start_slice (RvHart *hart)
{
  hart->retired += (uint64_t) (hart->slice - hart->left);
  hart->slice = hart->left = RV_SLICE;
  __atomic_store_n (&hart->retired_seen, hart->retired, __ATOMIC_RELAXED);
  rv_timer_poll (hart);
}

void
rv_execute (RvHart *hart)
{
  static const void *const labels[RV_OP_COUNT] = {
#define RV_OP_LABEL(name) &&op_##name,
    RV_OPS (RV_OP_LABEL)
#undef RV_OP_LABEL
  };
  uint64_t *const x = hart->x;
  uint8_t *const arena = hart->arena;
  RvTlb *tlb = hart->tlb;
  RvInsn *insn = NULL;
  int64_t left = hart->left;
  uint64_t pc = hart->pc;

look_round: /* hart->pc is the next instruction */
  hart->left = left;
  if (left < 0)
    start_slice (hart);
  if (__atomic_load_n (&hart->attention, __ATOMIC_RELAXED) && rv_attend (hart))
    return;
  left = hart->left;
  tlb = hart->tlb;

find:
  insn = rv_block_find (hart, hart->pc);
found:
  pc = hart->pc;
  if (RV_UNLIKELY (!insn)) {
    rv_trap (hart, hart->cause, hart->tval, pc);
    goto trapped;
  }
  DISPATCH ();

follow:
  insn = rv_block_follow (hart, insn, pc, hart->pc);
  goto found;

trap: /* by the current instruction */
  left -= insn->nth;
  rv_trap (hart, hart->cause, hart->tval, pc + insn->pos * 2u);
trapped: /* it doesn't count as retired, but a handler that traps for ever must not keep the hart from looking
            round */
  left--;
  hart->retired--;
  goto look_round;

op_HELPER:
  hart->pc = pc + insn->pos * 2u;
  hart->left = left - insn->nth;
  switch (insn->helper (hart, insn)) {
  case RV_NEXT:
    STEP ();
  case RV_TRAP:
    goto trap;
  default:
    left -= insn->nth + 1;
    if (hart->exit_reason) {
      hart->left = left;
      return;
    }
    goto look_round;
  }

op_NEXT:
  JUMP_DIRECT (insn->nth);
op_J:
  JUMP_DIRECT (insn->nth + 1);
op_JAL:
  RD = pc + insn->pos * 2u + insn->rs3;
  JUMP_DIRECT (insn->nth + 1);
op_JR : {
  uint64_t next = (X (rs1) + (uint64_t) insn->imm) & ~UINT64_C (1);

  RETIRE (insn->nth + 1, next);
  JUMP_INDIRECT (next);
}
op_JALR : {
  uint64_t next = (X (rs1) + (uint64_t) insn->imm) & ~UINT64_C (1);

  RD = pc + insn->pos * 2u + insn->rs3;
  RETIRE (insn->nth + 1, next);
  JUMP_INDIRECT (next);
}

op_BEQ:
  BRANCH (X (rs1) == X (rs2));
op_BNE:
  BRANCH (X (rs1) != X (rs2));
op_BLT:
  BRANCH (SIGNED (X (rs1)) < SIGNED (X (rs2)));
op_BGE:
  BRANCH (SIGNED (X (rs1)) >= SIGNED (X (rs2)));
op_BLTU:
  BRANCH (X (rs1) < X (rs2));
op_BGEU:
  BRANCH (X (rs1) >= X (rs2));

op_LB:
  LOAD_AS (RD, uint8_t, SAME, (int64_t) (int8_t), (void) 0);
op_LH:
  LOAD_AS (RD, uint16_t, GUINT16_FROM_LE, (int64_t) (int16_t), (void) 0);
op_LW:
  LOAD_AS (RD, uint32_t, GUINT32_FROM_LE, (int64_t) (int32_t), (void) 0);
op_LD:
  LOAD_AS (RD, uint64_t, GUINT64_FROM_LE, , (void) 0);
op_LBU:
  LOAD_AS (RD, uint8_t, SAME, (uint8_t), (void) 0);
op_LHU:
  LOAD_AS (RD, uint16_t, GUINT16_FROM_LE, (uint16_t), (void) 0);
op_LWU:
  LOAD_AS (RD, uint32_t, GUINT32_FROM_LE, (uint32_t), (void) 0);
op_SB:
  STORE_AS (X (rs2), uint8_t, SAME);
op_SH:
  STORE_AS (X (rs2), uint16_t, GUINT16_TO_LE);
op_SW:
  STORE_AS (X (rs2), uint32_t, GUINT32_TO_LE);
op_SD:
  STORE_AS (X (rs2), uint64_t, GUINT64_TO_LE);

op_FLW:
  if (RV_UNLIKELY (!(hart->mstatus & MSTATUS_FS)))
    goto fp_off;
  LOAD_AS (hart->f[insn->rd], uint32_t, GUINT32_FROM_LE, NAN_BOXED (uint32_t), hart->mstatus |= MSTATUS_FS);
op_FLD:
  if (RV_UNLIKELY (!(hart->mstatus & MSTATUS_FS)))
    goto fp_off;
  LOAD_AS (hart->f[insn->rd], uint64_t, GUINT64_FROM_LE, , hart->mstatus |= MSTATUS_FS);
op_FSW:
  if (RV_UNLIKELY (!(hart->mstatus & MSTATUS_FS)))
    goto fp_off;
  STORE_AS (hart->f[insn->rs2], uint32_t, GUINT32_TO_LE);
op_FSD:
  if (RV_UNLIKELY (!(hart->mstatus & MSTATUS_FS)))
    goto fp_off;
  STORE_AS (hart->f[insn->rs2], uint64_t, GUINT64_TO_LE);
fp_off:
  rv_illegal_at (hart, pc + insn->pos * 2u);
  goto trap;

op_NOP:
  STEP ();
op_LI:
  SET (insn->imm);
op_AUIPC:
  SET (pc + (uint64_t) insn->imm);
op_MV:
  SET (X (rs1));
op_ADDI:
  SET (X (rs1) + (uint64_t) insn->imm);
op_SLTI:
  SET (SIGNED (X (rs1)) < insn->imm);
op_SLTIU:
  SET (X (rs1) < (uint64_t) insn->imm);
op_XORI:
  SET (X (rs1) ^ (uint64_t) insn->imm);
op_ORI:
  SET (X (rs1) | (uint64_t) insn->imm);
op_ANDI:
  SET (X (rs1) & (uint64_t) insn->imm);
op_SLLI:
  SET (X (rs1) << (insn->imm & 63));
op_SRLI:
  SET (X (rs1) >> (insn->imm & 63));
op_SRAI:
  SET (SIGNED (X (rs1)) >> (insn->imm & 63));
op_ADD:
  SET (X (rs1) + X (rs2));
op_SUB:
  SET (X (rs1) - X (rs2));
op_SLL:
  SET (X (rs1) << (X (rs2) & 63));
op_SLT:
  SET (SIGNED (X (rs1)) < SIGNED (X (rs2)));
op_SLTU:
  SET (X (rs1) < X (rs2));
op_XOR:
  SET (X (rs1) ^ X (rs2));
op_SRL:
  SET (X (rs1) >> (X (rs2) & 63));
op_SRA:
  SET (SIGNED (X (rs1)) >> (X (rs2) & 63));
op_OR:
  SET (X (rs1) | X (rs2));
op_AND:
  SET (X (rs1) & X (rs2));
op_ADDIW:
  SET (SIGNED32 ((uint32_t) X (rs1) + (uint32_t) insn->imm));
op_SEXTW:
  SET (SIGNED32 (X (rs1)));
op_SLLIW:
  SET (SIGNED32 ((uint32_t) X (rs1) << (insn->imm & 31)));
op_SRLIW:
  SET (SIGNED32 ((uint32_t) X (rs1) >> (insn->imm & 31)));
op_SRAIW:
  SET (SIGNED32 (X (rs1)) >> (insn->imm & 31));
op_ADDW:
  SET (SIGNED32 ((uint32_t) X (rs1) + (uint32_t) X (rs2)));
op_SUBW:
  SET (SIGNED32 ((uint32_t) X (rs1) - (uint32_t) X (rs2)));
op_SLLW:
  SET (SIGNED32 ((uint32_t) X (rs1) << (X (rs2) & 31)));
op_SRLW:
  SET (SIGNED32 ((uint32_t) X (rs1) >> (X (rs2) & 31)));
op_SRAW:
  SET (SIGNED32 (X (rs1)) >> (X (rs2) & 31));

op_MUL:
  SET (X (rs1) * X (rs2));
op_MULH:
  SET (mulh (X (rs1), X (rs2)));
op_MULHSU:
  SET (mulhsu (X (rs1), X (rs2)));
op_MULHU:
  SET (mulhu (X (rs1), X (rs2)));
op_DIV:
  SET (divide (SIGNED (X (rs1)), SIGNED (X (rs2))));
op_DIVU:
  SET (X (rs2) ? X (rs1) / X (rs2) : UINT64_MAX);
op_REM:
  SET (remainder_of (SIGNED (X (rs1)), SIGNED (X (rs2))));
op_REMU:
  SET (X (rs2) ? X (rs1) % X (rs2) : X (rs1));
op_MULW:
  SET (SIGNED32 ((uint32_t) X (rs1) * (uint32_t) X (rs2)));
op_DIVW:
  SET (divide32 ((int32_t) X (rs1), (int32_t) X (rs2)));
op_DIVUW:
  SET (SIGNED32 ((uint32_t) X (rs2) ? (uint32_t) X (rs1) / (uint32_t) X (rs2) : UINT32_MAX));
op_REMW:
  SET (remainder_of ((int32_t) X (rs1), (int32_t) X (rs2)));
op_REMUW:
  SET (SIGNED32 ((uint32_t) X (rs2) ? (uint32_t) X (rs1) % (uint32_t) X (rs2) : (uint32_t) X (rs1)));

op_ADDUW:
  SET ((uint32_t) X (rs1) + X (rs2));
op_SH1ADD:
  SET ((X (rs1) << 1) + X (rs2));
op_SH2ADD:
  SET ((X (rs1) << 2) + X (rs2));
op_SH3ADD:
  SET ((X (rs1) << 3) + X (rs2));
op_SH1ADDUW:
  SET (((uint64_t) (uint32_t) X (rs1) << 1) + X (rs2));
op_SH2ADDUW:
  SET (((uint64_t) (uint32_t) X (rs1) << 2) + X (rs2));
op_SH3ADDUW:
  SET (((uint64_t) (uint32_t) X (rs1) << 3) + X (rs2));
op_SLLIUW:
  SET ((uint64_t) (uint32_t) X (rs1) << (insn->imm & 63));
op_ANDN:
  SET (X (rs1) & ~X (rs2));
op_ORN:
  SET (X (rs1) | ~X (rs2));
op_XNOR:
  SET (~(X (rs1) ^ X (rs2)));
op_MAX:
  SET (SIGNED (X (rs1)) > SIGNED (X (rs2)) ? X (rs1) : X (rs2));
op_MAXU:
  SET (X (rs1) > X (rs2) ? X (rs1) : X (rs2));
op_MIN:
  SET (SIGNED (X (rs1)) < SIGNED (X (rs2)) ? X (rs1) : X (rs2));
op_MINU:
  SET (X (rs1) < X (rs2) ? X (rs1) : X (rs2));
op_ROL:
  SET (rotate_right (X (rs1), -(unsigned) X (rs2)));
op_ROR:
  SET (rotate_right (X (rs1), (unsigned) X (rs2)));
op_RORI:
  SET (rotate_right (X (rs1), (unsigned) insn->imm));
op_ROLW:
  SET (SIGNED32 (rotate_right32 ((uint32_t) X (rs1), -(unsigned) X (rs2))));
op_RORW:
  SET (SIGNED32 (rotate_right32 ((uint32_t) X (rs1), (unsigned) X (rs2))));
op_RORIW:
  SET (SIGNED32 (rotate_right32 ((uint32_t) X (rs1), (unsigned) insn->imm)));
op_CLZ:
  SET (X (rs1) ? __builtin_clzll (X (rs1)) : 64);
op_CTZ:
  SET (X (rs1) ? __builtin_ctzll (X (rs1)) : 64);
op_CPOP:
  SET (__builtin_popcountll (X (rs1)));
op_CLZW:
  SET ((uint32_t) X (rs1) ? __builtin_clz ((uint32_t) X (rs1)) : 32);
op_CTZW:
  SET ((uint32_t) X (rs1) ? __builtin_ctz ((uint32_t) X (rs1)) : 32);
op_CPOPW:
  SET (__builtin_popcount ((uint32_t) X (rs1)));
op_SEXTB:
  SET ((int64_t) (int8_t) X (rs1));
op_SEXTH:
  SET ((int64_t) (int16_t) X (rs1));
op_ZEXTH:
  SET ((uint16_t) X (rs1));
op_ORCB:
  SET (or_combine (X (rs1)));
op_REV8:
  SET (__builtin_bswap64 (X (rs1)));
op_BCLR:
  SET (X (rs1) & ~(UINT64_C (1) << (X (rs2) & 63)));
op_BEXT:
  SET (X (rs1) >> (X (rs2) & 63) & 1);
op_BINV:
  SET (X (rs1) ^ UINT64_C (1) << (X (rs2) & 63));
op_BSET:
  SET (X (rs1) | UINT64_C (1) << (X (rs2) & 63));
op_BEXTI:
  SET (X (rs1) >> (insn->imm & 63) & 1);
op_FENCE:
  if (insn->rs3)
    __atomic_thread_fence (__ATOMIC_SEQ_CST);
  else
    __atomic_thread_fence (__ATOMIC_ACQ_REL);
  STEP ();
}
