/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random protection entries around a few pages, and accesses and fetches by each mode. */
#include "guest.h"

static unsigned char area[16384] __attribute__ ((aligned (16384)));

/* The last entry lets everything else through, so that the program itself goes on. */
#define ENTRIES 6

static u64
random_range (unsigned mode, u64 *previous)
{
  u64 address = (u64) area + (random_below (3) ? random_below (4) * 4096 : random_below (sizeof area) & ~3ul);
  unsigned log2;

  if (mode == 1) { /* top of range: not below the one before, so that ranges have bytes */
    if (address < *previous)
      address = *previous + 64;
    *previous = address;
    return address >> 2;
  }
  if (mode == 2)
    return address >> 2;
  log2 = 3 + (unsigned) random_below (11);
  address &= ~((1ul << log2) - 1);
  return address >> 2 | ((1ul << (log2 - 3)) - 1);
}

static void
set_entries (void)
{
  u64 cfg = 0, address[ENTRIES], previous = (u64) area;

  for (unsigned i = 0; i < ENTRIES; i++) {
    unsigned mode = (unsigned) random_below (4), perms = (unsigned) random_below (8);

    if ((perms & 3) == 2) /* reserved */
      perms |= 1;
    if (mode == 1 && i == 0)
      mode = 3; /* from address 0 it would take in the program */
    address[i] = random_range (mode, &previous);
    if (mode == 1 && (i == 0 || (address[i - 1] << 2) < (u64) area || (address[i - 1] << 2) > previous))
      mode = 2;
    cfg |= (u64) (mode << 3 | perms) << 8 * i;
  }
  cfg |= 0x1ful << 8 * ENTRIES;
  write_csr (pmpcfg0, 0x1ful << 8 * ENTRIES);
  write_csr (pmpaddr0, address[0]);
  write_csr (pmpaddr1, address[1]);
  write_csr (pmpaddr2, address[2]);
  write_csr (pmpaddr3, address[3]);
  write_csr (pmpaddr4, address[4]);
  write_csr (pmpaddr5, address[5]);
  write_csr (pmpcfg0, cfg);
  __asm__ volatile("sfence.vma" ::: "memory");
  put_hex (read_csr (pmpcfg0), ' ');
  put_hex (read_csr (pmpaddr0), ' ');
  put_hex (read_csr (pmpaddr5), '\n');
}

static void
try_access (void)
{
  unsigned kind = (unsigned) random_below (ACCESS_KINDS);
  u64 address = (u64) area + random_below (sizeof area - 16), bits = random_below (2) << 11;
  u64 before = trap.count, value;

  address &= ~(u64) (access_bytes (kind) - 1); /* how a misaligned access is cut up is the hart's choice */
  value = access_as (kind, address, bits);
  put_hex (kind, ' ');
  put_hex (address, ' ');
  if (trap.count != before) {
    put_hex (kind == AMO ? trap.cause | 2 : trap.cause, ' '); /* QEMU 7.2 reports a load; see selfcheck.c */
    put_hex (trap.tval, '\n');
  } else {
    put_hex (value, '\n');
  }
}

static void
try_fetch (void)
{
  u64 address = (u64) area + (random_below (sizeof area) & ~3ul);

  *(volatile u32 *) address = 0x73;
  __asm__ volatile("fence.i" ::: "memory");
  run_at (address, random_below (2) << 11, MPP | MPRV);
  put_hex (address, ' ');
  put_hex (trap.cause, ' ');
  put_hex (trap.tval, '\n');
}

int
main (void)
{
  write_csr (pmpaddr6, ~0ul);
  write_csr (pmpcfg0, 0x1ful << 8 * ENTRIES);
  for (unsigned i = 0; i < COUNT; i++) {
    set_entries ();
    for (unsigned j = 0; j < 8; j++)
      try_access ();
    for (unsigned j = 0; j < 3; j++)
      try_fetch ();
  }
  put ("end\n");
  return 0;
}
