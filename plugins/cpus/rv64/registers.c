/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registers by name, for debuggers, dumps and tests. */
#include "registers.h"

enum { ID_X = 0, ID_F = 32, ID_PC = 64, ID_PRIV = 65, ID_CSR = 0x1000 };

/* clang-format off: a table is read by columns. */
#define REG_X(n)                                                                                             \
  {                                                                                                          \
    "x" #n, ID_X + n, 64, "general"                                                                          \
  }
#define REG_ABI(name, n)                                                                                     \
  {                                                                                                          \
    name, ID_X + n, 64, "alias"                                                                              \
  }
#define REG_F(n)                                                                                             \
  {                                                                                                          \
    "f" #n, ID_F + n, 64, "float"                                                                            \
  }
#define REG_CSR(name, number)                                                                                \
  {                                                                                                          \
    name, ID_CSR + number, 64, "csr"                                                                         \
  }

const TnRegister rv_registers[] = {
  { "pc", ID_PC, 64, "general" },
  REG_X (0),
  REG_X (1),
  REG_X (2),
  REG_X (3),
  REG_X (4),
  REG_X (5),
  REG_X (6),
  REG_X (7),
  REG_X (8),
  REG_X (9),
  REG_X (10),
  REG_X (11),
  REG_X (12),
  REG_X (13),
  REG_X (14),
  REG_X (15),
  REG_X (16),
  REG_X (17),
  REG_X (18),
  REG_X (19),
  REG_X (20),
  REG_X (21),
  REG_X (22),
  REG_X (23),
  REG_X (24),
  REG_X (25),
  REG_X (26),
  REG_X (27),
  REG_X (28),
  REG_X (29),
  REG_X (30),
  REG_X (31),
  { "priv", ID_PRIV, 2, "general" },
  REG_F (0),
  REG_F (1),
  REG_F (2),
  REG_F (3),
  REG_F (4),
  REG_F (5),
  REG_F (6),
  REG_F (7),
  REG_F (8),
  REG_F (9),
  REG_F (10),
  REG_F (11),
  REG_F (12),
  REG_F (13),
  REG_F (14),
  REG_F (15),
  REG_F (16),
  REG_F (17),
  REG_F (18),
  REG_F (19),
  REG_F (20),
  REG_F (21),
  REG_F (22),
  REG_F (23),
  REG_F (24),
  REG_F (25),
  REG_F (26),
  REG_F (27),
  REG_F (28),
  REG_F (29),
  REG_F (30),
  REG_F (31),
  REG_CSR ("fcsr", CSR_FCSR),
  REG_CSR ("mstatus", CSR_MSTATUS),
  REG_CSR ("misa", CSR_MISA),
  REG_CSR ("medeleg", CSR_MEDELEG),
  REG_CSR ("mideleg", CSR_MIDELEG),
  REG_CSR ("mie", CSR_MIE),
  REG_CSR ("mip", CSR_MIP),
  REG_CSR ("mtvec", CSR_MTVEC),
  REG_CSR ("mscratch", CSR_MSCRATCH),
  REG_CSR ("mepc", CSR_MEPC),
  REG_CSR ("mcause", CSR_MCAUSE),
  REG_CSR ("mtval", CSR_MTVAL),
  REG_CSR ("mhartid", CSR_MHARTID),
  REG_CSR ("mcounteren", CSR_MCOUNTEREN),
  REG_CSR ("menvcfg", CSR_MENVCFG),
  REG_CSR ("mcycle", CSR_MCYCLE),
  REG_CSR ("minstret", CSR_MINSTRET),
  REG_CSR ("pmpcfg0", CSR_PMPCFG0),
  REG_CSR ("pmpcfg2", CSR_PMPCFG2),
  REG_CSR ("pmpaddr0", CSR_PMPADDR0),
  REG_CSR ("pmpaddr1", CSR_PMPADDR0 + 1),
  REG_CSR ("pmpaddr2", CSR_PMPADDR0 + 2),
  REG_CSR ("pmpaddr3", CSR_PMPADDR0 + 3),
  REG_CSR ("sstatus", CSR_SSTATUS),
  REG_CSR ("sie", CSR_SIE),
  REG_CSR ("sip", CSR_SIP),
  REG_CSR ("stvec", CSR_STVEC),
  REG_CSR ("sscratch", CSR_SSCRATCH),
  REG_CSR ("sepc", CSR_SEPC),
  REG_CSR ("scause", CSR_SCAUSE),
  REG_CSR ("stval", CSR_STVAL),
  REG_CSR ("satp", CSR_SATP),
  REG_CSR ("scounteren", CSR_SCOUNTEREN),
  REG_CSR ("stimecmp", CSR_STIMECMP),
  REG_ABI ("zero", 0),
  REG_ABI ("ra", 1),
  REG_ABI ("sp", 2),
  REG_ABI ("gp", 3),
  REG_ABI ("tp", 4),
  REG_ABI ("t0", 5),
  REG_ABI ("t1", 6),
  REG_ABI ("t2", 7),
  REG_ABI ("s0", 8),
  REG_ABI ("s1", 9),
  REG_ABI ("a0", 10),
  REG_ABI ("a1", 11),
  REG_ABI ("a2", 12),
  REG_ABI ("a3", 13),
  REG_ABI ("a4", 14),
  REG_ABI ("a5", 15),
  REG_ABI ("a6", 16),
  REG_ABI ("a7", 17),
  REG_ABI ("s2", 18),
  REG_ABI ("s3", 19),
  REG_ABI ("s4", 20),
  REG_ABI ("s5", 21),
  REG_ABI ("s6", 22),
  REG_ABI ("s7", 23),
  REG_ABI ("s8", 24),
  REG_ABI ("s9", 25),
  REG_ABI ("s10", 26),
  REG_ABI ("s11", 27),
  REG_ABI ("t3", 28),
  REG_ABI ("t4", 29),
  REG_ABI ("t5", 30),
  REG_ABI ("t6", 31),
  { NULL },
};
/* clang-format on */

int
rv_get_register (RvHart *hart, unsigned id, uint64_t *value)
{
  if (id < ID_F)
    *value = hart->x[id];
  else if (id < ID_PC)
    *value = hart->f[id - ID_F];
  else if (id == ID_PC)
    *value = hart->pc;
  else if (id == ID_PRIV)
    *value = hart->priv;
  else if (id < ID_CSR || !rv_csr_read (hart, id - ID_CSR, value))
    return -ENOENT;
  return 0;
}

static int
set_priv (RvHart *hart, uint64_t value)
{
  if (value > RV_M || value == 2)
    return -EINVAL;
  hart->priv = (uint8_t) value;
  rv_mmu_update (hart);
  return 0;
}

int
rv_set_register (RvHart *hart, unsigned id, uint64_t value)
{
  uint64_t old;

  if (id == ID_PRIV)
    return set_priv (hart, value);
  if (id == 0)
    return 0;
  if (id < ID_F)
    hart->x[id] = value;
  else if (id < ID_PC)
    hart->f[id - ID_F] = value;
  else if (id == ID_PC)
    hart->pc = value & ~UINT64_C (1);
  else if (id < ID_CSR || !rv_csr_read (hart, id - ID_CSR, &old))
    return -ENOENT;
  else
    rv_csr_write (hart, id - ID_CSR, value);
  return 0;
}
