/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instruction words to RvInsn.  What the selected extensions don't define decodes as illegal. */
#include "ops.h"
#include "rv64.h"

static unsigned
bits (uint32_t word, unsigned low, unsigned count)
{
  return word >> low & ((1u << count) - 1);
}

static int64_t
imm_i (uint32_t word)
{
  return (int32_t) word >> 20;
}

static int64_t
imm_s (uint32_t word)
{
  return ((int32_t) word >> 25) * 32 + (int64_t) bits (word, 7, 5);
}

static int32_t
imm_b (uint32_t word)
{
  return ((int32_t) word >> 31) * 4096
         + (int32_t) (bits (word, 7, 1) << 11 | bits (word, 25, 6) << 5 | bits (word, 8, 4) << 1);
}

static int32_t
imm_j (uint32_t word)
{
  return ((int32_t) word >> 31) * (1 << 20)
         + (int32_t) (bits (word, 12, 8) << 12 | bits (word, 20, 1) << 11 | bits (word, 21, 10) << 1);
}

void
rv_mark_illegal (RvInsn *insn, uint32_t word)
{
  insn->op = RV_OP_HELPER;
  insn->helper = rv_op_illegal;
  insn->rd = (uint8_t) word;
  insn->rs1 = (uint8_t) (word >> 8);
  insn->rs2 = (uint8_t) (word >> 16);
  insn->rs3 = (uint8_t) (word >> 24);
}

static bool
decode_illegal (RvInsn *insn, uint32_t word)
{
  rv_mark_illegal (insn, word);
  return false;
}

static bool
decode_helper (RvInsn *insn, RvHelper *helper, bool go_on)
{
  insn->op = RV_OP_HELPER;
  insn->helper = helper;
  return go_on;
}

static bool
decode_op (RvInsn *insn, unsigned op, int64_t imm)
{
  insn->op = (uint16_t) op;
  insn->imm = imm;
  return true;
}

static bool
decode_load (RvInsn *insn, uint32_t word)
{
  static const uint8_t ops[8] = {
    RV_OP_LB, RV_OP_LH, RV_OP_LW, RV_OP_LD, RV_OP_LBU, RV_OP_LHU, RV_OP_LWU, 0
  };
  unsigned op = ops[bits (word, 12, 3)];

  return op ? decode_op (insn, op, imm_i (word)) : decode_illegal (insn, word);
}

static bool
decode_store (RvInsn *insn, uint32_t word)
{
  static const uint8_t ops[8] = { RV_OP_SB, RV_OP_SH, RV_OP_SW, RV_OP_SD };
  unsigned op = ops[bits (word, 12, 3)];

  return op ? decode_op (insn, op, imm_s (word)) : decode_illegal (insn, word);
}

static bool
decode_branch (RvInsn *insn, uint32_t word)
{
  static const uint8_t ops[8] = { RV_OP_BEQ, RV_OP_BNE, 0, 0, RV_OP_BLT, RV_OP_BGE, RV_OP_BLTU, RV_OP_BGEU };
  unsigned op = ops[bits (word, 12, 3)];

  if (!op)
    return decode_illegal (insn, word);
  insn->op = (uint16_t) op;
  insn->target = imm_b (word) + insn->pos * 2;
  insn->link = 0;
  return true;
}

static bool
decode_jal (RvInsn *insn, uint32_t word)
{
  insn->op = insn->rd == RV_SINK ? RV_OP_J : RV_OP_JAL;
  insn->target = imm_j (word) + insn->pos * 2;
  insn->link = 0;
  return false;
}

static bool
decode_jalr (RvInsn *insn, uint32_t word)
{
  if (bits (word, 12, 3))
    return decode_illegal (insn, word);
  decode_op (insn, insn->rd == RV_SINK ? RV_OP_JR : RV_OP_JALR, imm_i (word));
  return false;
}

/* Shifts by a constant and the one-operand instructions that share their opcode; funct3 1. */
static bool
decode_imm_left (const RvExtensions *ext, RvInsn *insn, uint32_t word)
{
  unsigned high = bits (word, 26, 6), shift = bits (word, 20, 6);
  static const uint8_t unary[8] = { RV_OP_CLZ, RV_OP_CTZ, RV_OP_CPOP, 0, RV_OP_SEXTB, RV_OP_SEXTH, 0, 0 };

  if (high == 0)
    return decode_op (insn, RV_OP_SLLI, shift);
  if (high == 0x18 && ext->zbb && shift < 8 && unary[shift])
    return decode_op (insn, unary[shift], 0);
  if (high == 0x0a && ext->zbs)
    return decode_op (insn, RV_OP_ORI, (int64_t) (UINT64_C (1) << shift));
  if (high == 0x12 && ext->zbs)
    return decode_op (insn, RV_OP_ANDI, (int64_t) ~(UINT64_C (1) << shift));
  if (high == 0x1a && ext->zbs)
    return decode_op (insn, RV_OP_XORI, (int64_t) (UINT64_C (1) << shift));
  return decode_illegal (insn, word);
}

/* As decode_imm_left(); funct3 5. */
static bool
decode_imm_right (const RvExtensions *ext, RvInsn *insn, uint32_t word)
{
  unsigned high = bits (word, 26, 6), shift = bits (word, 20, 6);

  if (high == 0)
    return decode_op (insn, RV_OP_SRLI, shift);
  if (high == 0x10)
    return decode_op (insn, RV_OP_SRAI, shift);
  if (high == 0x18 && ext->zbb)
    return decode_op (insn, RV_OP_RORI, shift);
  if (high == 0x12 && ext->zbs)
    return decode_op (insn, RV_OP_BEXTI, shift);
  if (bits (word, 20, 12) == 0x287 && ext->zbb)
    return decode_op (insn, RV_OP_ORCB, 0);
  if (bits (word, 20, 12) == 0x6b8 && ext->zbb)
    return decode_op (insn, RV_OP_REV8, 0);
  return decode_illegal (insn, word);
}

static bool
decode_op_imm (const RvExtensions *ext, RvInsn *insn, uint32_t word)
{
  int64_t imm = imm_i (word);

  switch (bits (word, 12, 3)) {
  case 0:
    if (insn->rs1 == 0)
      return decode_op (insn, RV_OP_LI, imm);
    return decode_op (insn, imm == 0 ? RV_OP_MV : RV_OP_ADDI, imm);
  case 1:
    return decode_imm_left (ext, insn, word);
  case 2:
    return decode_op (insn, RV_OP_SLTI, imm);
  case 3:
    return decode_op (insn, RV_OP_SLTIU, imm);
  case 4:
    return decode_op (insn, RV_OP_XORI, imm);
  case 5:
    return decode_imm_right (ext, insn, word);
  case 6:
    return decode_op (insn, RV_OP_ORI, imm);
  default:
    return decode_op (insn, RV_OP_ANDI, imm);
  }
}

static bool
decode_op_imm_32 (const RvExtensions *ext, RvInsn *insn, uint32_t word)
{
  unsigned funct3 = bits (word, 12, 3), funct7 = bits (word, 25, 7), shift = bits (word, 20, 5);
  static const uint8_t unary[4] = { RV_OP_CLZW, RV_OP_CTZW, RV_OP_CPOPW, 0 };

  if (funct3 == 0)
    return decode_op (insn, imm_i (word) == 0 ? RV_OP_SEXTW : RV_OP_ADDIW, imm_i (word));
  if (funct3 == 1 && funct7 == 0)
    return decode_op (insn, RV_OP_SLLIW, shift);
  if (funct3 == 1 && bits (word, 26, 6) == 2 && ext->zba)
    return decode_op (insn, RV_OP_SLLIUW, bits (word, 20, 6));
  if (funct3 == 1 && funct7 == 0x30 && ext->zbb && shift < 4 && unary[shift])
    return decode_op (insn, unary[shift], 0);
  if (funct3 == 5 && funct7 == 0)
    return decode_op (insn, RV_OP_SRLIW, shift);
  if (funct3 == 5 && funct7 == 0x20)
    return decode_op (insn, RV_OP_SRAIW, shift);
  if (funct3 == 5 && funct7 == 0x30 && ext->zbb)
    return decode_op (insn, RV_OP_RORIW, shift);
  return decode_illegal (insn, word);
}

/* The operation of a register-register instruction, or 0. */
static unsigned
op_reg (const RvExtensions *ext, unsigned funct7, unsigned funct3)
{
  static const uint8_t base[8] = { RV_OP_ADD, RV_OP_SLL, RV_OP_SLT, RV_OP_SLTU,
                                   RV_OP_XOR, RV_OP_SRL, RV_OP_OR,  RV_OP_AND };
  static const uint8_t muldiv[8] = { RV_OP_MUL, RV_OP_MULH, RV_OP_MULHSU, RV_OP_MULHU,
                                     RV_OP_DIV, RV_OP_DIVU, RV_OP_REM,    RV_OP_REMU };
  static const uint8_t minmax[8] = { 0, 0, 0, 0, RV_OP_MIN, RV_OP_MINU, RV_OP_MAX, RV_OP_MAXU };
  static const uint8_t shadd[8] = { 0, 0, RV_OP_SH1ADD, 0, RV_OP_SH2ADD, 0, RV_OP_SH3ADD, 0 };
  static const uint8_t negated[8] = { 0, 0, 0, 0, RV_OP_XNOR, 0, RV_OP_ORN, RV_OP_ANDN };

  switch (funct7) {
  case 0x00:
    return base[funct3];
  case 0x01:
    return muldiv[funct3];
  case 0x20:
    if (funct3 == 0)
      return RV_OP_SUB;
    if (funct3 == 5)
      return RV_OP_SRA;
    return ext->zbb ? negated[funct3] : 0;
  case 0x05:
    return ext->zbb ? minmax[funct3] : 0;
  case 0x10:
    return ext->zba ? shadd[funct3] : 0;
  case 0x30:
    if (!ext->zbb)
      return 0;
    return funct3 == 1 ? RV_OP_ROL : funct3 == 5 ? RV_OP_ROR : 0;
  case 0x24:
    if (!ext->zbs)
      return 0;
    return funct3 == 1 ? RV_OP_BCLR : funct3 == 5 ? RV_OP_BEXT : 0;
  case 0x34:
    return ext->zbs && funct3 == 1 ? RV_OP_BINV : 0;
  case 0x14:
    return ext->zbs && funct3 == 1 ? RV_OP_BSET : 0;
  default:
    return 0;
  }
}

static unsigned
op_reg_32 (const RvExtensions *ext, unsigned funct7, unsigned funct3, unsigned rs2)
{
  static const uint8_t base[8] = { RV_OP_ADDW, RV_OP_SLLW, 0, 0, 0, RV_OP_SRLW, 0, 0 };
  static const uint8_t muldiv[8] = { RV_OP_MULW, 0, 0, 0, RV_OP_DIVW, RV_OP_DIVUW, RV_OP_REMW, RV_OP_REMUW };
  static const uint8_t shadd[8] = { 0, 0, RV_OP_SH1ADDUW, 0, RV_OP_SH2ADDUW, 0, RV_OP_SH3ADDUW, 0 };

  switch (funct7) {
  case 0x00:
    return base[funct3];
  case 0x01:
    return muldiv[funct3];
  case 0x20:
    return funct3 == 0 ? RV_OP_SUBW : funct3 == 5 ? RV_OP_SRAW : 0;
  case 0x04:
    if (funct3 == 0)
      return ext->zba ? RV_OP_ADDUW : 0;
    return funct3 == 4 && rs2 == 0 && ext->zbb ? RV_OP_ZEXTH : 0;
  case 0x10:
    return ext->zba ? shadd[funct3] : 0;
  case 0x30:
    if (!ext->zbb)
      return 0;
    return funct3 == 1 ? RV_OP_ROLW : funct3 == 5 ? RV_OP_RORW : 0;
  default:
    return 0;
  }
}

static bool
decode_amo (RvInsn *insn, uint32_t word)
{
  unsigned funct3 = bits (word, 12, 3), funct5 = bits (word, 27, 5);
  RvHelper *helper = NULL;

  if (funct3 == 2 || funct3 == 3)
    helper = rv_amo_helper (funct5, funct3 == 3);
  if (!helper || (funct5 == 2 && insn->rs2 != 0))
    return decode_illegal (insn, word);
  return decode_helper (insn, helper, true);
}

static bool
decode_fence (RvInsn *insn, uint32_t word)
{
  switch (bits (word, 12, 3)) {
  case 0:
    /* Order is needed where an earlier write (or output) meets a later read (or input); the other
     * pairs cost nothing on a strongly ordered host, and are rare enough on another. */
    insn->rs3 = (bits (word, 24, 4) & 5) && (bits (word, 20, 4) & 10);
    insn->op = RV_OP_FENCE;
    return true;
  case 1:
    return decode_helper (insn, rv_op_fence_i, false);
  default:
    return decode_illegal (insn, word);
  }
}

static bool
decode_system (RvInsn *insn, uint32_t word)
{
  if (bits (word, 12, 3) == 4)
    return decode_illegal (insn, word);
  if (bits (word, 12, 3)) {
    unsigned csr = word >> 20;

    insn->rs2 = (uint8_t) csr;
    insn->rs3 = (uint8_t) (csr >> 8 | bits (word, 12, 3) << 4);
    return decode_helper (insn, rv_op_csr, true);
  }
  switch (word) {
  case 0x00000073:
    return decode_helper (insn, rv_op_ecall, false);
  case 0x00100073:
    return decode_helper (insn, rv_op_ebreak, false);
  case 0x10200073:
    return decode_helper (insn, rv_op_sret, false);
  case 0x30200073:
    return decode_helper (insn, rv_op_mret, false);
  case 0x10500073:
    return decode_helper (insn, rv_op_wfi, false);
  default:
    break;
  }
  if (bits (word, 25, 7) == 0x09 && bits (word, 7, 5) == 0)
    return decode_helper (insn, rv_op_sfence_vma, false);
  return decode_illegal (insn, word);
}

static bool
decode_fp (RvInsn *insn, uint32_t word)
{
  RvHelper *helper = rv_fpu_helper (word);

  if (!helper)
    return decode_illegal (insn, word);
  insn->rd = (uint8_t) bits (word, 7, 5);
  insn->rs2 = (uint8_t) bits (word, 20, 5);
  insn->rs3 = (uint8_t) (bits (word, 27, 5) << 3 | bits (word, 12, 3));
  return decode_helper (insn, helper, true);
}

static bool
decode_fp_memory (RvInsn *insn, uint32_t word, bool store)
{
  unsigned width = bits (word, 12, 3);

  if (width != 2 && width != 3)
    return decode_illegal (insn, word);
  insn->rd = (uint8_t) bits (word, 7, 5);
  if (store)
    return decode_op (insn, width == 2 ? RV_OP_FSW : RV_OP_FSD, imm_s (word));
  return decode_op (insn, width == 2 ? RV_OP_FLW : RV_OP_FLD, imm_i (word));
}

bool
rv_decode (const RvHart *hart, uint32_t word, RvInsn *insn)
{
  const RvExtensions *ext = &hart->ext;
  unsigned op;

  insn->rd = (uint8_t) (bits (word, 7, 5) ? bits (word, 7, 5) : RV_SINK);
  insn->rs1 = (uint8_t) bits (word, 15, 5);
  insn->rs2 = (uint8_t) bits (word, 20, 5);
  insn->rs3 = 0;
  insn->imm = 0;
  switch (bits (word, 0, 7)) {
  case 0x03:
    return decode_load (insn, word);
  case 0x07:
    return decode_fp_memory (insn, word, false);
  case 0x0f:
    return decode_fence (insn, word);
  case 0x13:
    return decode_op_imm (ext, insn, word);
  case 0x17:
    return decode_op (insn, RV_OP_AUIPC, (int64_t) (int32_t) (word & 0xfffff000) + insn->pos * 2);
  case 0x1b:
    return decode_op_imm_32 (ext, insn, word);
  case 0x23:
    return decode_store (insn, word);
  case 0x27:
    return decode_fp_memory (insn, word, true);
  case 0x2f:
    return decode_amo (insn, word);
  case 0x33:
    op = op_reg (ext, bits (word, 25, 7), bits (word, 12, 3));
    if (op == RV_OP_ADD && insn->rs1 == 0) {
      insn->rs1 = insn->rs2;
      op = RV_OP_MV;
    }
    return op ? decode_op (insn, op, 0) : decode_illegal (insn, word);
  case 0x37:
    return decode_op (insn, RV_OP_LI, (int64_t) (int32_t) (word & 0xfffff000));
  case 0x3b:
    op = op_reg_32 (ext, bits (word, 25, 7), bits (word, 12, 3), bits (word, 20, 5));
    return op ? decode_op (insn, op, 0) : decode_illegal (insn, word);
  case 0x43:
  case 0x47:
  case 0x4b:
  case 0x4f:
  case 0x53:
    return decode_fp (insn, word);
  case 0x63:
    return decode_branch (insn, word);
  case 0x67:
    return decode_jalr (insn, word);
  case 0x6f:
    return decode_jal (insn, word);
  case 0x73:
    return decode_system (insn, word);
  default:
    return decode_illegal (insn, word);
  }
}
