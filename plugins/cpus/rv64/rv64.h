/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file rv64.h
 * One RISC-V hart: its state, and what the files of this plugin call of one another.
 *
 * Files: decode.c and rvc.c turn instruction words into RvInsn; block.c keeps runs of them per physical
 * page; interp.c executes them; mmu.c translates addresses; pmp.c, csr.c, trap.c are the privileged
 * architecture; amo.c, fpu.c (instructions) and softfloat.c (arithmetic) the rest of the unprivileged
 * one; sbi.c is the built-in supervisor binary interface; rv64.c the class that the core sees.
 *
 * Threads: a hart's state belongs to the thread in run().  What other threads touch is in the part of
 * RvHart marked so, and only with atomics.
 */
#ifndef RV64_H
#define RV64_H

#include <tenon/cpu.h>
#include <tenon/fdt.h>

#include "csr.h"

#define RV_SINK 32 /* register slot that takes what is written to x0 */
#define RV_TLB_SIZE 512
#define RV_TLB_EXEC_SIZE 256
#define RV_PMP_ENTRIES 16
#define RV_SLICE 16384 /* instructions between two looks at the clock */

#define RV_LIKELY(condition) __builtin_expect (!!(condition), 1)
#define RV_UNLIKELY(condition) __builtin_expect (!!(condition), 0)

/* Of the guest's accesses to its memory: what it wants ordered, it orders by FENCE.  ThreadSanitizer sees no
 * fences, so there the accesses themselves are ordered. */
#ifdef __SANITIZE_THREAD__
#define RV_LOAD_ORDER __ATOMIC_ACQUIRE
#define RV_STORE_ORDER __ATOMIC_RELEASE
#else
#define RV_LOAD_ORDER __ATOMIC_RELAXED
#define RV_STORE_ORDER __ATOMIC_RELAXED
#endif

typedef struct RvHart RvHart;
typedef struct RvInsn RvInsn;

typedef enum RvPriv { RV_U = 0, RV_S = 1, RV_M = 3 } RvPriv;
typedef enum RvAccess { RV_READ, RV_WRITE, RV_EXEC } RvAccess;

/* How an instruction that is a function ends. */
typedef enum RvDone {
  RV_NEXT, /* go on with the following instruction */
  RV_TRAP, /* hart->cause and hart->tval say what happened */
  RV_LEAVE /* hart->pc says where to go on; modes or translations may have changed */
} RvDone;

typedef RvDone RvHelper (RvHart *hart, const RvInsn *insn);

/* A decoded instruction. */
struct RvInsn {
  uint16_t op;               /* RvOp */
  uint8_t rd, rs1, rs2, rs3; /* register slots; rs3 also holds rounding modes and the like */
  uint8_t pos;               /* halfwords from the start of the block */
  uint8_t nth;               /* instructions of the block before this one */
  union {
    int64_t imm;
    RvHelper *helper; /* RV_OP_HELPER */
    struct {
      int32_t target; /* of a direct jump, in bytes from the start of the block */
      uint32_t link;  /* offset of the target's code in the arena, 0 while unknown or on another page */
    };
  };
};

typedef struct RvTlbEntry {
  uint64_t tag;     /* virtual page address, or RV_TLB_INVALID */
  uintptr_t addend; /* host address of virtual address 0; exec: the RvPage */
} RvTlbEntry;

#define RV_TLB_INVALID UINT64_MAX

/* Translations of one way to look at memory. */
typedef struct RvTlb {
  RvTlbEntry read[RV_TLB_SIZE];
  RvTlbEntry write[RV_TLB_SIZE];
  RvTlbEntry exec[RV_TLB_EXEC_SIZE];
  bool used;
  uint64_t large_low, large_high; /* range of virtual pages that large pages were used for */
} RvTlb;

enum { RV_TLB_U, RV_TLB_S, RV_TLB_S_SUM, RV_TLB_M, RV_TLBS };

/* Code of one physical page. */
typedef struct RvPage RvPage;
struct RvPage {
  uint64_t address;
  RvPage *next; /* in the hash bucket */
  const uint8_t *host;
  uint64_t epoch;                    /* hart->code_epoch when the copy was last compared */
  uint32_t blocks[TN_PAGE_SIZE / 2]; /* arena offset of the code that starts at each halfword, or 0 */
  uint8_t copy[TN_PAGE_SIZE];        /* what the code was decoded from */
};

#define RV_PAGE_BUCKETS 1024

typedef struct RvExtensions {
  bool zba, zbb, zbs, sstc, svadu;
} RvExtensions;

typedef enum RvHsm {
  RV_HSM_STARTED = 0,
  RV_HSM_STOPPED = 1,
  RV_HSM_START_PENDING = 2,
  RV_HSM_SUSPENDED = 4,
  RV_HSM_STARTING = 16 /* start_pc is being written; reported as START_PENDING */
} RvHsm;

/* What other threads may ask of a hart (RvHart.requests). */
enum {
  RV_REQUEST_KICK = 1 << 0,
  RV_REQUEST_FENCE_I = 1 << 1,
  RV_REQUEST_FLUSH_TLB = 1 << 2,
  RV_REQUEST_MEMORY = 1 << 3
};

typedef struct RvCounter {
  uint64_t base; /* added to the number of retired instructions; the value itself while stopped */
  bool stopped;
} RvCounter;

struct RvHart {
  uint64_t x[RV_SINK + 1];
  uint64_t f[32];
  uint64_t pc;
  RvTlb *tlb;      /* of loads and stores */
  RvTlb *tlb_exec; /* of fetches */
  uint8_t *arena;
  uint64_t loaded; /* result of a slow load */

  /* Other threads: */
  uint32_t attention; /* not 0: look at requests and interrupts before the next block */
  uint32_t requests;
  uint64_t lines;   /* interrupt inputs, as bits of mip */
  uint64_t ip;      /* bits of mip that software holds */
  uint32_t running; /* inside run() */
  uint32_t hsm;
  uint64_t start_pc, start_opaque; /* written before hsm becomes START_PENDING */
  uint64_t retired_seen;           /* for instructions() */

  uint8_t priv;
  uint8_t frm;
  uint8_t fflags;
  bool sbi;
  uint8_t vm_limit; /* largest satp mode offered: 8, 9 or 10 */
  RvExtensions ext;

  /* Trap being raised, or exit being asked for. */
  uint64_t cause, tval;
  uint32_t exit_reason; /* 0: none */
  int32_t exit_code;
  bool waiting;     /* in WFI */
  bool resume_anew; /* waiting in a suspend call that resumes at start_pc */

  /* Instructions retired: `retired` when the slice began, less what `left` still has of it. */
  uint64_t retired;
  int64_t slice, left;
  RvCounter cycle, instret;

  uint64_t mstatus, misa, medeleg, mideleg, mie, mtvec, mscratch, mepc, mcause, mtval;
  uint64_t menvcfg, senvcfg, mcounteren, scounteren, mcountinhibit;
  uint64_t stvec, sscratch, sepc, scause, stval, satp, stimecmp;
  int64_t timer_ns; /* machine clock at which stimecmp is reached */
  bool timer_due;
  uint8_t pmpcfg[RV_PMP_ENTRIES];
  uint64_t pmpaddr[RV_PMP_ENTRIES];
  unsigned pmp_active; /* entries up to the last one that is switched on */

  uint64_t reservation; /* address of LR, or UINT64_MAX */
  uint64_t reserved_value;
  uint8_t reserved_bytes;

  TnCpu *cpu;
  TnSpace *space;
  unsigned id;

  /* The RAM that was last looked up. */
  uint64_t ram_start, ram_end;
  uint8_t *ram_host, *ram_dirty;
  bool ram_writable;

  size_t arena_size, arena_used;
  uint64_t arena_generation, code_epoch;
  RvPage *pages[RV_PAGE_BUCKETS];
  RvInsn single[2]; /* an instruction that isn't kept */

  RvTlb tlbs[RV_TLBS];
};

/* decode.c: fills @insn, whose pos and nth are set, from a 32-bit word; returns false when it ends the block.
 */
bool rv_decode (const RvHart *hart, uint32_t word, RvInsn *insn);
/* Makes @insn raise an illegal-instruction exception that reports @word. */
void rv_mark_illegal (RvInsn *insn, uint32_t word);
/* rvc.c: the 32-bit instruction that a 16-bit one stands for; 0 when it is illegal. */
uint32_t rv_expand (uint16_t half);

/* block.c */
int rv_blocks_init (RvHart *hart, size_t arena_size, GError **error);
void rv_blocks_free (RvHart *hart);
void rv_blocks_flush (RvHart *hart);
/* Code at virtual address @pc, decoded when need be; NULL: cause and tval are set. */
RvInsn *rv_block_find (RvHart *hart, uint64_t pc);
/* As rv_block_find() for a direct jump from @from, which is linked where that is possible. */
RvInsn *rv_block_follow (RvHart *hart, RvInsn *from, uint64_t block_pc, uint64_t pc);
void rv_fence_i (RvHart *hart);

/* interp.c: runs until hart->exit_reason is set. */
void rv_execute (RvHart *hart);

/* mmu.c */
void rv_mmu_update (RvHart *hart);
void rv_tlb_flush (RvHart *hart);
void rv_tlb_flush_exec (RvHart *hart);
void rv_tlb_flush_page (RvHart *hart, uint64_t address);
bool rv_load (RvHart *hart, uint64_t address, unsigned bytes);
bool rv_store (RvHart *hart, uint64_t address, unsigned bytes, uint64_t value);
/* Host address of aligned RAM for an atomic operation, or NULL with cause and tval. */
void *rv_atomic_place (RvHart *hart, uint64_t address, unsigned bytes, RvAccess access);
/* Translates a fetch.  *whole: the answer holds for all of the page. */
bool rv_fetch_place (RvHart *hart, uint64_t address, uint64_t *physical, const uint8_t **host, bool *whole);
uint8_t *rv_ram (RvHart *hart, uint64_t physical, unsigned bytes, bool write);

/* pmp.c */
bool rv_pmp_allows (const RvHart *hart, uint64_t physical, unsigned bytes, RvPriv priv, RvAccess access,
                    bool *whole);
void rv_pmp_update (RvHart *hart);

/* csr.c */
bool rv_csr_read (RvHart *hart, unsigned csr, uint64_t *value);
RvDone rv_csr_write (RvHart *hart, unsigned csr, uint64_t value);
RvHelper rv_op_csr;
uint64_t rv_retired (const RvHart *hart);
uint64_t rv_time (RvHart *hart);
uint64_t rv_mip (RvHart *hart);
void rv_set_stimecmp (RvHart *hart, uint64_t value);
void rv_timer_poll (RvHart *hart);

/* trap.c */
void rv_trap (RvHart *hart, uint64_t cause, uint64_t tval, uint64_t epc);
/* Takes the most urgent enabled interrupt, if there is one. */
bool rv_interrupt (RvHart *hart);
bool rv_interrupt_ready (RvHart *hart);
/* Illegal-instruction exception for the instruction at @pc, whose word is read again. */
RvDone rv_illegal_at (RvHart *hart, uint64_t pc);
/* Serves what other threads asked for; returns whether run() is to return. */
bool rv_attend (RvHart *hart);
uint32_t rv_serve_requests (RvHart *hart);
void rv_request (RvHart *hart, uint32_t request);
RvHelper rv_op_ecall, rv_op_ebreak, rv_op_mret, rv_op_sret, rv_op_wfi, rv_op_sfence_vma, rv_op_fence_i,
    rv_op_illegal;

/* amo.c */
RvHelper *rv_amo_helper (unsigned funct5, bool wide);

/* fpu.c */
RvHelper *rv_fpu_helper (uint32_t word);

/* sbi.c */
RvDone rv_sbi_call (RvHart *hart);
void rv_sbi_enter (RvHart *hart);

static inline bool
rv_raise (RvHart *hart, uint64_t cause, uint64_t tval)
{
  hart->cause = cause;
  hart->tval = tval;
  return false;
}

#endif
