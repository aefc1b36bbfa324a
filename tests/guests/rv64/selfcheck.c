/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can't be compared because QEMU 7.2 does it otherwise: checked against what the architecture says. */
#include "guest.h"

static u64 word __attribute__ ((aligned (64)));
static int failures;

static void
expect (const char *what, u64 got, u64 wanted)
{
  if (got == wanted)
    return;
  failures++;
  put ("bad: ");
  put (what);
  put_char (' ');
  put_hex (got, ' ');
  put_hex (wanted, '\n');
}

static void
bit_counts (void)
{
  u64 result;

  __asm__ volatile("ctzw %0, %1" : "=r"(result) : "r"(0x100000000ul));
  expect ("ctzw of no bits", result, 32);
  __asm__ volatile("clzw %0, %1" : "=r"(result) : "r"(0xffffffff00000000ul));
  expect ("clzw of no bits", result, 32);
}

static void
misaligned_atomics (void)
{
  u64 place = (u64) &word + 1, result;

  trap.cause = 0;
  __asm__ volatile("amoadd.w %0, zero, (%1)" : "=r"(result) : "r"(place) : "memory");
  expect ("cause of a misaligned amo", trap.cause, 6);
  expect ("its address", trap.tval, place);
  trap.cause = 0;
  __asm__ volatile("sc.d %0, zero, (%1)" : "=r"(result) : "r"(place) : "memory");
  expect ("cause of a misaligned sc", trap.cause, 6);
  trap.cause = 0;
  __asm__ volatile("lr.d %0, (%1)" : "=r"(result) : "r"(place) : "memory");
  expect ("cause of a misaligned lr", trap.cause, 4);
}

static void
interrupt_order (void)
{
  static u32 code[1] = { 0x73 };

  write_csr (mideleg, 0);
  write_csr (mie, 0x222);
  write_csr (mip, 0x222);
  run_at ((u64) code, 1ul << 11, MPP | MPRV | 2);
  expect ("external first", trap.cause, 1ul << 63 | 9);
  write_csr (mip, 0x22);
  run_at ((u64) code, 1ul << 11, MPP | MPRV | 2);
  expect ("then software", trap.cause, 1ul << 63 | 1);
  write_csr (mip, 0x20);
  run_at ((u64) code, 1ul << 11, MPP | MPRV | 2);
  expect ("then timer", trap.cause, 1ul << 63 | 5);
  write_csr (mie, 0);
  write_csr (mip, 0);
}

static void
registers (void)
{
  u64 old = read_csr (mepc);

  write_csr (mepc, ~0ul);
  expect ("bit 0 of mepc", read_csr (mepc) & 1, 0);
  write_csr (mepc, old);
  set_csr (mstatus, 3ul << 11);
  clear_csr (mstatus, 1ul << 11);
  expect ("no reserved MPP", (read_csr (mstatus) >> 11 & 3) != 2, 1);
}

int
main (void)
{
  bit_counts ();
  misaligned_atomics ();
  interrupt_order ();
  registers ();
  put ("end\n");
  return failures != 0;
}
