/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control and status registers: what sticks of random values, who may touch which, where traps and interrupts
 * go, and what mret and sret make of mstatus.
 */
#include "guest.h"

static u32 code[16] __attribute__ ((aligned (64)));

#define ECALL 0x73u

/* Runs one instruction in mode @priv, then ECALL; prints the trap that came. */
static void
run_one (u32 insn, u64 priv, u64 status)
{
  code[0] = insn;
  code[1] = ECALL;
  __asm__ volatile("fence.i" ::: "memory");
  run_at ((u64) code, priv << 11 | status, MPP | MPRV | SUM | MXR);
}

static void
show_trap (void)
{
  put_hex (trap.cause, ' ');
  put_hex (trap.tval, ' ');
  if (trap.epc >= (u64) s_entry && trap.epc < (u64) s_entry + 64) {
    put ("s ");
    put_hex (trap.epc - (u64) s_entry, ' ');
  } else {
    put_hex (trap.epc - (u64) code, ' ');
  }
}

static u64
random_value (void)
{
  u64 kind = random_below (4);

  if (kind == 0)
    return random64 ();
  if (kind == 1)
    return 1ul << random_below (64);
  return kind == 2 ? ~0ul : random64 () >> random_below (64);
}

#define TRY_CSR(name, mask)                                                                                  \
  do {                                                                                                       \
    u64 old = read_csr (name);                                                                               \
    write_csr (name, random_value ());                                                                       \
    u64 first = read_csr (name);                                                                             \
    set_csr (name, random_value ());                                                                         \
    u64 second = read_csr (name);                                                                            \
    clear_csr (name, random_value ());                                                                       \
    u64 third = read_csr (name);                                                                             \
    write_csr (name, old);                                                                                   \
    put (#name " ");                                                                                         \
    put_hex (first &(mask), ' ');                                                                            \
    put_hex (second &(mask), ' ');                                                                           \
    put_hex (third &(mask), '\n');                                                                           \
  } while (0)

/* What can be compared: fields that both offer (QEMU 7.2 keeps bit 0 of the epc registers and hypervisor bits
 * elsewhere).  Machine interrupts stay off, and mstatus never gets the reserved MPP, which QEMU 7.2 stores.
 */
static void
writes (void)
{
  TRY_CSR (mscratch, ~0ul);
  write_csr (mscratch, &trap);
  TRY_CSR (sscratch, ~0ul);
  TRY_CSR (mepc, ~1ul);
  TRY_CSR (sepc, ~1ul);
  TRY_CSR (mcause, ~0ul);
  TRY_CSR (scause, ~0ul);
  TRY_CSR (mtval, ~0ul);
  TRY_CSR (stval, ~0ul);
  TRY_CSR (stvec, ~0ul);
  TRY_CSR (medeleg, 0xb3ff);
  TRY_CSR (mideleg, 0x222);
  TRY_CSR (mie, 0xaaa);
  TRY_CSR (sie, ~0ul);
  TRY_CSR (mip, 0x222);
  TRY_CSR (sip, 0x222);
  TRY_CSR (scounteren, 7);
  TRY_CSR (mcounteren, 7);
  TRY_CSR (satp, ~0ul);
  TRY_CSR (fflags, ~0ul);
  TRY_CSR (frm, ~0ul);
  TRY_CSR (fcsr, ~0ul);
  TRY_CSR (misa, ~0ul);
}

static void
status_writes (void)
{
  u64 old = read_csr (mstatus), value = random_value () & ~(MPRV | MPP | 0xaul), mpp = random_below (3);

  mpp += mpp == 2;
  write_csr (mstatus, value | mpp << 11);
  u64 machine = read_csr (mstatus), supervisor = read_csr (sstatus);
  write_csr (sstatus, random_value () & ~0xaul);
  u64 after = read_csr (mstatus);
  write_csr (mstatus, old);
  put ("mstatus ");
  put_hex (machine & 0x7e79aa, ' ');
  put_hex (supervisor & 0x7e79aa, ' ');
  put_hex (after & 0x7e79aa, '\n');
}

/* Registers of extensions and counters that only one of the two has. */
static int
is_compared (unsigned csr)
{
  if ((csr >= 0xc03 && csr <= 0xc1f) || (csr >= 0xb03 && csr <= 0xb1f) || (csr >= 0x323 && csr <= 0x33f))
    return 0; /* event counters */
  if (csr >= 0x7a0 && csr <= 0x7af)
    return 0; /* triggers */
  if (csr == 0x14d || csr == 0xc01)
    return 0; /* stimecmp, time: QEMU 7.2 has them on other boards only */
  return 1;
}

/* Which numbers exist for which mode. */
static void
existence (void)
{
  for (u64 priv = 0; priv < 4; priv++) {
    if (priv == 2)
      continue;
    for (unsigned csr = 0; csr < 4096; csr++) {
      if (!is_compared (csr))
        continue;
      run_one (csr << 20 | 2u << 12 | 10u << 7 | 0x73, priv, 0);
      if (trap.cause != 8 + priv)
        continue;
      put ("csr ");
      put_hex (priv << 12 | csr, '\n');
    }
  }
}

static void
privileged_instructions (void)
{
  static const u32 insns[] = {
    0x10200073,             /* sret */
    0x12000073,             /* sfence.vma */
    0x18002573,             /* csrr a0, satp */
    0x18051073,             /* csrw satp, a0 (refused or 0 as the mode is kept bare) */
    0xc0002573, 0xc0202573, /* cycle, instret */
    0x00102573,             /* csrr a0, fflags */
    0x02007053,             /* fadd.d ft0, ft0, ft0 */
    0x0000b007,             /* fld ft0, 0(ra) */
    0x10500073,             /* wfi */
    0x30200073,             /* mret */
    0x30002573,             /* csrr a0, mstatus */
    0x00000073, 0x00100073, 0x0000000f, 0x00000000,
  };
  u32 insn = insns[random_below (sizeof insns / sizeof *insns)];
  u64 priv = random_below (2), status = random64 () & (7ul << 20), old = read_csr (mstatus);

  if (insn == 0x18051073)
    return;
  write_csr (mcounteren, random64 () & 7);
  write_csr (scounteren, random64 () & 7);
  if (insn == 0x10500073) { /* an interrupt is pending but not taken, so that it needn't wait */
    write_csr (mie, 2);
    write_csr (mip, 2);
    write_csr (mideleg, 2);
    clear_csr (mstatus, 10);
    priv = 1;
  }
  clear_csr (mstatus, 7ul << 20 | 0x6000);
  if (random_below (2))
    status |= 0x2000;
  write_csr (sepc, code + 1);
  run_one (insn, priv, status);
  put ("insn ");
  put_hex (insn, ' ');
  put_hex (priv, ' ');
  put_hex (status, ' ');
  show_trap ();
  put_char ('\n');
  write_csr (mie, 0);
  write_csr (mip, 0);
  write_csr (mideleg, 0);
  write_csr (mstatus, old);
}

/* Exceptions with random delegation; the supervisor's handler calls machine mode in turn. */
static void
delegation (void)
{
  static const u32 insns[] = { ECALL,
                               0x00100073,
                               0x00000000,
                               0xffffffff,
                               0xff803503 /* ld a0, -8(zero) */,
                               0xfea03c23 /* sd a0, -8(zero) */,
                               0xff800067 /* jr -8(zero) */,
                               0x9002 /* c.ebreak */,
                               0x30002573 };
  u32 insn = insns[random_below (sizeof insns / sizeof *insns)];
  u64 priv = random_below (2), old = read_csr (mstatus), deleg = random64 () & ~(1ul << 9);

  write_csr (medeleg, deleg);
  write_csr (stvec, (u64) s_entry | random_below (2));
  write_csr (scause, 0);
  write_csr (stval, 0);
  write_csr (sepc, 0);
  run_one (insn, priv, (random64 () & 0x122));
  put ("deleg ");
  put_hex (insn, ' ');
  put_hex (deleg & 0xb3ff, ' ');
  put_hex (priv, ' ');
  show_trap ();
  put_hex (trap.status & 0x19aa, ' ');
  put_hex (read_csr (scause), ' ');
  put_hex (read_csr (stval), ' ');
  put_hex (read_csr (sepc) ? read_csr (sepc) - (u64) code : 0, '\n');
  write_csr (medeleg, 0);
  write_csr (mstatus, old);
}

/* Whether a pending interrupt is taken, and where.  One at a time: among several QEMU 7.2 takes the lowest
 * number instead of the architecture's order (selfcheck.c tests that). */
static void
interrupts (void)
{
  u64 priv = random_below (2), old = read_csr (mstatus), one = 2ul << 4 * random_below (3);
  u64 enable = random64 () & 0x222, pend = random64 () & one;
  u64 deleg = random64 () & 0x222, status = random64 () & 2;

  write_csr (stvec, (u64) s_entry | 1);
  write_csr (mideleg, deleg);
  write_csr (mie, enable);
  write_csr (mip, pend);
  write_csr (scause, 0);
  clear_csr (mstatus, 0x1aa);
  run_one (0x00000013, priv, status | 0x20 * random_below (2));
  put ("irq ");
  put_hex (enable, ' ');
  put_hex (pend, ' ');
  put_hex (deleg, ' ');
  put_hex (priv << 4 | status, ' ');
  show_trap ();
  put_hex (trap.status & 0x19aa, ' ');
  put_hex (read_csr (scause), '\n');
  write_csr (mie, 0);
  write_csr (mip, 0);
  write_csr (mideleg, 0);
  write_csr (mstatus, old);
}

/* mret and sret executed in machine mode, into an ECALL of the mode they return to. */
static void
returns (void)
{
  static const u32 prologue[] = {
    0x140026f3, /* csrr a3, sscratch */
    0x30069073, /* csrw mstatus, a3 */
    0x02050513, /* addi a0, a0, 32 (run_at leaves the code's address there) */
    0x34151073, /* csrw mepc, a0 */
    0x14151073, /* csrw sepc, a0 */
  };
  u64 old = read_csr (mstatus), status = (random64 () & (0x1a0 | MPRV)), mpp = random_below (2);
  u32 insn = random_below (2) ? 0x30200073 : 0x10200073;

  for (unsigned i = 0; i < sizeof prologue / sizeof *prologue; i++)
    code[i] = prologue[i];
  code[8] = ECALL;
  code[5] = insn;
  write_csr (sscratch, status | mpp << 11);
  __asm__ volatile("fence.i" ::: "memory");
  run_at ((u64) code, MPP, 0);
  put ("ret ");
  put_hex (insn, ' ');
  put_hex (status, ' ');
  put_hex (mpp, ' ');
  show_trap ();
  put_hex (trap.status & 0x19aa, '\n'); /* QEMU 7.2 keeps MPRV */
  write_csr (mstatus, old);
}

int
main (void)
{
  existence ();
  for (unsigned i = 0; i < COUNT; i++) {
    writes ();
    status_writes ();
    for (unsigned j = 0; j < 4; j++)
      privileged_instructions ();
    delegation ();
    delegation ();
    interrupts ();
    interrupts ();
    returns ();
  }
  put ("end\n");
  return 0;
}
