/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the C programs of the comparison share. */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned long u64;
typedef unsigned int u32;

/* Laid out as start.S knows it. */
struct trap {
  u64 cause, tval, epc, status, count, resume, spare, saved[9];
};
extern volatile struct trap trap;
extern char s_entry[];

void put_char (int c);
void put_hex (u64 value, int after);
void run_at (u64 pc, u64 set, u64 clear);

#define read_csr(name)                                                                                       \
  ({                                                                                                         \
    u64 value_;                                                                                              \
    __asm__ volatile("csrr %0, " #name : "=r"(value_));                                                      \
    value_;                                                                                                  \
  })
#define write_csr(name, value) __asm__ volatile("csrw " #name ", %0" ::"r"((u64) (value)) : "memory")
#define set_csr(name, value) __asm__ volatile("csrs " #name ", %0" ::"r"((u64) (value)) : "memory")
#define clear_csr(name, value) __asm__ volatile("csrc " #name ", %0" ::"r"((u64) (value)) : "memory")

#define MPRV (1ul << 17)
#define MPP (3ul << 11)
#define SUM (1ul << 18)
#define MXR (1ul << 19)

static u64 random_state = SEED * 0x9e3779b97f4a7c15ul + 1;

static inline u64
random64 (void)
{
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545f4914f6cdd1dul;
}

static inline u64
random_below (u64 limit)
{
  return (random64 () >> 20) % limit;
}

static inline void
put (const char *text)
{
  while (*text)
    put_char (*text++);
}

/* Does @insn (text with %0 the value and %1 the address) as if in privilege mode @priv. */
#define ACCESS_AS(insn, value, address, bits)                                                                \
  __asm__ volatile("csrc mstatus, %3\n csrs mstatus, %2\n" insn "\n csrc mstatus, %4"                        \
                   : "+r"(value)                                                                             \
                   : "r"(address), "r"((bits) | MPRV), "r"(MPP | MPRV | SUM | MXR), "r"(MPRV)                \
                   : "memory")

enum { LOAD1, LOAD2, LOAD4, LOAD8, STORE1, STORE2, STORE4, STORE8, AMO, LR, ACCESS_KINDS };

static inline u64
access_as (unsigned kind, u64 address, u64 bits)
{
  u64 value = 0x55;

  switch (kind) {
  case LOAD1:
    ACCESS_AS ("lbu %0, 0(%1)", value, address, bits);
    break;
  case LOAD2:
    ACCESS_AS ("lh %0, 0(%1)", value, address, bits);
    break;
  case LOAD4:
    ACCESS_AS ("lwu %0, 0(%1)", value, address, bits);
    break;
  case LOAD8:
    ACCESS_AS ("ld %0, 0(%1)", value, address, bits);
    break;
  case STORE1:
    ACCESS_AS ("sb %0, 0(%1)", value, address, bits);
    break;
  case STORE2:
    ACCESS_AS ("sh %0, 0(%1)", value, address, bits);
    break;
  case STORE4:
    ACCESS_AS ("sw %0, 0(%1)", value, address, bits);
    break;
  case STORE8:
    ACCESS_AS ("sd %0, 0(%1)", value, address, bits);
    break;
  case AMO:
    ACCESS_AS ("amoadd.w %0, %0, (%1)", value, address, bits);
    break;
  default:
    ACCESS_AS ("lr.w %0, (%1)", value, address, bits);
  }
  return value;
}

static inline unsigned
access_bytes (unsigned kind)
{
  return kind >= AMO ? 4 : 1u << (kind & 3);
}

#endif
