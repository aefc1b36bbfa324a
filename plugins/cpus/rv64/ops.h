/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The operations that the interpreter executes itself.  Everything else is RV_OP_HELPER: a function. */
#ifndef RV64_OPS_H
#define RV64_OPS_H

/* One list, from which the enumeration and the interpreter's table of labels are made. */
#define RV_OPS(OP)                                                                                           \
  OP (NEXT)                                                                                                  \
  OP (HELPER) OP (LI) OP (AUIPC) OP (J) OP (JAL) OP (JALR) OP (JR) OP (BEQ) OP (BNE) OP (BLT) OP (BGE)       \
      OP (BLTU) OP (BGEU) OP (LB) OP (LH) OP (LW) OP (LD) OP (LBU) OP (LHU) OP (LWU) OP (SB) OP (SH) OP (SW) \
          OP (SD) OP (FLW) OP (FLD) OP (FSW) OP (FSD) OP (MV) OP (ADDI) OP (SLTI) OP (SLTIU) OP (XORI)       \
              OP (ORI) OP (ANDI) OP (SLLI) OP (SRLI) OP (SRAI) OP (ADD) OP (SUB) OP (SLL) OP (SLT) OP (SLTU) \
                  OP (XOR) OP (SRL) OP (SRA) OP (OR) OP (AND) OP (ADDIW) OP (SEXTW) OP (SLLIW) OP (SRLIW)    \
                      OP (SRAIW) OP (ADDW) OP (SUBW) OP (SLLW) OP (SRLW) OP (SRAW) OP (MUL) OP (MULH)        \
                          OP (MULHSU) OP (MULHU) OP (DIV) OP (DIVU) OP (REM) OP (REMU) OP (MULW) OP (DIVW)   \
                              OP (DIVUW) OP (REMW) OP (REMUW) OP (ADDUW) OP (SH1ADD) OP (SH2ADD) OP (SH3ADD) \
                                  OP (SH1ADDUW) OP (SH2ADDUW) OP (SH3ADDUW) OP (SLLIUW) OP (ANDN) OP (ORN)   \
                                      OP (XNOR) OP (MAX) OP (MAXU) OP (MIN) OP (MINU) OP (ROL) OP (ROR)      \
                                          OP (RORI) OP (ROLW) OP (RORW) OP (RORIW) OP (CLZ) OP (CTZ)         \
                                              OP (CPOP) OP (CLZW) OP (CTZW) OP (CPOPW) OP (SEXTB) OP (SEXTH) \
                                                  OP (ZEXTH) OP (ORCB) OP (REV8) OP (BCLR) OP (BEXT)         \
                                                      OP (BINV) OP (BSET) OP (BEXTI) OP (FENCE) OP (NOP)

typedef enum RvOp {
#define RV_OP_ENUM(name) RV_OP_##name,
  RV_OPS (RV_OP_ENUM)
#undef RV_OP_ENUM
      RV_OP_COUNT
} RvOp;

#endif
