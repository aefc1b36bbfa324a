/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random page tables of Sv39, Sv48 and Sv57, and what loads, stores, atomics and fetches through them do. */
#include "guest.h"

#define PTE_V 1ul
#define PTE_LEAF 0xful
#define PTE_U 0x10ul
#define PTE_A 0x40ul
#define PTE_D 0x80ul

static u64 tables[5][512] __attribute__ ((aligned (4096)));
static unsigned char data[2][4096] __attribute__ ((aligned (4096)));

struct mapping {
  unsigned levels, leaf;
  u64 address, physical, *pte, *next;
};

static u64
pointer_to (const void *target)
{
  return (u64) target >> 12 << 10;
}

/* Mostly sensible, sometimes wrong in one way. */
static u64
random_leaf (void)
{
  u64 flags = random_below (2) ? 0xdf : random64 () & 0xff;

  if (random_below (4))
    flags |= PTE_V;
  if (random_below (3) == 0)
    flags &= ~(PTE_A | PTE_D);
  if (random_below (2))
    flags ^= PTE_U;
  if (random_below (24) == 0)
    flags |= 1ul << (54 + random_below (10));
  return flags;
}

static u64
random_pointer (const void *target)
{
  u64 pte = pointer_to (target) | PTE_V;

  if (random_below (40) == 0)
    pte |= 1ul << random_below (8);
  if (random_below (60) == 0)
    pte &= ~PTE_V;
  if (random_below (60) == 0)
    pte |= 1ul << (54 + random_below (10));
  return pte;
}

static void
clear_tables (void)
{
  for (unsigned i = 0; i < 5; i++)
    for (unsigned j = 0; j < 512; j++)
      tables[i][j] = 0;
  for (unsigned i = 0; i < 4096; i++) {
    data[0][i] = (unsigned char) (i * 7);
    data[1][i] = (unsigned char) (i * 13);
  }
}

static u64
sign_extended (u64 address, unsigned levels)
{
  unsigned unused = 64 - 12 - 9 * levels;

  return (u64) ((long) (address << unused) >> unused);
}

static unsigned
index_at (u64 address, unsigned level)
{
  return (unsigned) (address >> (12 + 9 * level)) & 511;
}

/* A table path whose leaf, at a random level, maps an address to the data page. */
static void
make_mapping (struct mapping *m)
{
  u64 size, offset = random_below (2) ? 4096 - random_below (8) : random_below (4096) & ~7ul;

  m->levels = 3 + (unsigned) random_below (3);
  m->leaf = random_below (3) ? 0 : (unsigned) random_below (m->levels);
  size = 1ul << (12 + 9 * m->leaf);
  m->physical = (u64) data[0] + offset % 4096;
  m->address = sign_extended ((random64 () & ~(size - 1)) | (m->physical & (size - 1)), m->levels);
  clear_tables ();
  for (unsigned level = m->levels - 1; level > m->leaf; level--)
    tables[level][index_at (m->address, level)] = random_pointer (tables[level - 1]);
  m->pte = &tables[m->leaf][index_at (m->address, m->leaf)];
  *m->pte = (m->physical & ~(size - 1)) >> 2 | random_leaf ();
  if (m->leaf && random_below (12) == 0)
    *m->pte |= 1ul << (10 + random_below (9 * m->leaf));
  m->next = 0;
  if (m->leaf == 0 && index_at (m->address, 0) < 511) {
    m->next = m->pte + 1;
    *m->next = pointer_to (data[1]) | random_leaf ();
  }
  if (random_below (30) == 0)
    m->address ^= 1ul << (12 + 9 * m->levels + random_below (64 - 12 - 9 * m->levels));
}

/* An access that crosses pages may report any of its bytes: QEMU rounds the address down. */
static u64
reported (u64 address, unsigned bytes)
{
  return (address & 4095) + bytes > 4096 ? ~4095ul : ~0ul;
}

static void
try_access (const struct mapping *m, unsigned kind, u64 bits)
{
  u64 address = m->address, value, before = trap.count;

  if (kind >= AMO)
    address &= ~3ul;
  if (kind == AMO) { /* QEMU 7.2 looks whether it may read first, and marks that */
    *m->pte |= PTE_A;
    __asm__ volatile("sfence.vma" ::: "memory");
  }
  value = access_as (kind, address, bits);
  put_hex (kind, ' ');
  put_hex (bits, ' ');
  if (trap.count != before) {
    put_hex (kind == AMO ? trap.cause | 2 : trap.cause, ' '); /* QEMU 7.2 reports a load; see selfcheck.c */
    put_hex (trap.tval & reported (address, access_bytes (kind)), ' ');
  } else {
    put_hex (value, ' ');
  }
}

/* Executes the ECALL that is put at the mapped place. */
static void
try_fetch (const struct mapping *m, u64 bits)
{
  u64 offset = m->address & 4095 & ~3ul;

  *(volatile u32 *) &data[0][offset] = 0x73;
  __asm__ volatile("fence.i" ::: "memory");
  run_at (m->address & ~3ul, bits, MPP | SUM | MXR | MPRV);
  put ("x ");
  put_hex (bits, ' ');
  put_hex (trap.cause, ' ');
  put_hex (trap.cause < 8 || trap.cause > 11 ? trap.tval : 0, ' ');
}

static void
round_of_accesses (void)
{
  struct mapping m;

  make_mapping (&m);
  write_csr (satp, (m.levels + 5ul) << 60 | (u64) tables[m.levels - 1] >> 12);
  __asm__ volatile("sfence.vma" ::: "memory");
  put_hex (m.address, ' ');
  put_hex (*m.pte, '\n');
  for (unsigned i = 0; i < 6; i++) {
    u64 bits = random_below (2) << 11 | (random64 () & (SUM | MXR));

    if (random_below (4) == 0)
      try_fetch (&m, bits);
    else
      try_access (&m, (unsigned) random_below (ACCESS_KINDS), bits);
    put_hex (*m.pte, ' ');
    put_hex (m.next ? *m.next : 0, '\n');
    if (random_below (4) == 0) { /* another leaf, made known by a fence for this address alone */
      *m.pte = (*m.pte & ~0xfful) | random_leaf ();
      __asm__ volatile("sfence.vma %0" ::"r"(m.address) : "memory");
    }
  }
  write_csr (satp, 0);
  __asm__ volatile("sfence.vma" ::: "memory");
}

int
main (void)
{
  for (unsigned i = 0; i < COUNT; i++)
    round_of_accesses ();
  put ("end\n");
  return 0;
}
