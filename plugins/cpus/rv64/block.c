/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Decoded code.
 *
 * A block is a run of RvInsn that starts at some halfword of a physical page and never leaves it: it goes on
 * past branches that aren't taken, and ends with a jump, an instruction that may change how memory or
 * modes look, or RV_OP_NEXT.  It says nothing about virtual addresses, so address spaces share it.
 *
 * Stale code: RISC-V makes a hart see its own or others' stores to code after FENCE.I only.  A page
 * keeps a copy of the bytes it was decoded from; FENCE.I starts a new epoch and drops the fetch
 * translations, and the first fetch from a page in a new epoch compares.  So an unchanged page costs one
 * memcmp, and a changed one is decoded anew.  This needs no help from whoever writes (stores, DMA).
 *
 * Everything lives in one arena that is filled from the bottom and forgotten as a whole when full.
 */
#include <sys/mman.h>

#include "ops.h"
#include "rv64.h"

#define BLOCK_MAX 48 /* instructions; RvInsn.pos and .nth are bytes */
#define BLOCK_BRANCHES 4
#define PAGE_OFFSET(pc) ((pc) & (TN_PAGE_SIZE - 1))

int
rv_blocks_init (RvHart *hart, size_t arena_size, GError **error)
{
  void *arena =
      mmap (NULL, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (arena == MAP_FAILED)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "cpu 'rv64': no memory for %zu bytes of code cache",
                          arena_size);
  hart->arena = arena;
  hart->arena_size = arena_size;
  rv_blocks_flush (hart);
  return 0;
}

void
rv_blocks_free (RvHart *hart)
{
  if (hart->arena)
    munmap (hart->arena, hart->arena_size);
  hart->arena = NULL;
}

void
rv_blocks_flush (RvHart *hart)
{
  memset (hart->pages, 0, sizeof hart->pages);
  hart->arena_used = 64; /* offset 0 means "none" */
  hart->arena_generation++;
  rv_tlb_flush_exec (hart);
}

void
rv_fence_i (RvHart *hart)
{
  hart->code_epoch++;
  rv_tlb_flush_exec (hart);
}

/* Space that lasts until the next rv_blocks_flush(), which this may itself cause. */
static void *
arena_take (RvHart *hart, size_t size)
{
  void *taken;

  size = (size + 63) & ~(size_t) 63;
  if (hart->arena_size - hart->arena_used < size)
    rv_blocks_flush (hart);
  taken = hart->arena + hart->arena_used;
  hart->arena_used += size;
  return taken;
}

static RvPage **
page_bucket (RvHart *hart, uint64_t address)
{
  uint64_t number = address >> TN_PAGE_SHIFT;

  return &hart->pages[(number ^ number >> 10) % RV_PAGE_BUCKETS];
}

static void
page_refresh (RvHart *hart, RvPage *page)
{
  page->epoch = hart->code_epoch;
  if (memcmp (page->copy, page->host, TN_PAGE_SIZE) == 0)
    return;
  memset (page->blocks, 0, sizeof page->blocks);
  memcpy (page->copy, page->host, TN_PAGE_SIZE);
}

static RvPage *
page_get (RvHart *hart, uint64_t address, const uint8_t *host)
{
  RvPage **bucket = page_bucket (hart, address);
  RvPage *page;

  for (page = *bucket; page; page = page->next)
    if (page->address == address && page->host == host)
      break;
  if (!page) {
    page = arena_take (hart, sizeof *page);
    page->address = address;
    page->host = host;
    page->epoch = hart->code_epoch;
    memset (page->blocks, 0, sizeof page->blocks);
    memcpy (page->copy, host, TN_PAGE_SIZE);
    page->next = *bucket;
    *bucket = page;
  }
  if (page->epoch != hart->code_epoch)
    page_refresh (hart, page);
  return page;
}

static void
end_block (RvInsn *insn)
{
  insn->op = RV_OP_NEXT;
  insn->target = insn->pos * 2;
  insn->link = 0;
}

static bool
is_branch (const RvInsn *insn)
{
  return insn->op >= RV_OP_BEQ && insn->op <= RV_OP_BGEU;
}

static bool
is_long (uint16_t half)
{
  return (half & 3) == 3;
}

/* Jumps that link need to know where the next instruction is. */
static void
note_size (RvInsn *insn, unsigned size)
{
  if (insn->op == RV_OP_JAL || insn->op == RV_OP_JALR)
    insn->rs3 = (uint8_t) size;
}

/* lui+addi and auipc+addi are one constant; slli+srli of the same register keep apart. */
static bool
fuse (RvInsn *first, const RvInsn *second)
{
  if (second->rd != first->rd || second->rs1 != first->rd || first->rd == RV_SINK)
    return false;
  if (second->op == RV_OP_ADDI && (first->op == RV_OP_LI || first->op == RV_OP_AUIPC)) {
    first->imm += second->imm;
    return true;
  }
  if (second->op == RV_OP_ADDIW && first->op == RV_OP_LI) {
    first->imm = (int32_t) (first->imm + second->imm);
    return true;
  }
  return false;
}

/* Decodes from @offset into @out, which has room for BLOCK_MAX + 1; returns how many it made.  The bytes
 * come from the page's copy. */
static unsigned
decode_block (RvHart *hart, const uint8_t *bytes, unsigned offset, RvInsn *out)
{
  unsigned at = offset, n = 0, nth = 0, branches = 0;
  bool go_on = true;

  while (go_on && nth < BLOCK_MAX && branches < BLOCK_BRANCHES && at < TN_PAGE_SIZE) {
    uint32_t word = tn_load_le16 (bytes + at);
    RvInsn *insn = &out[n];
    unsigned size = 2;

    insn->pos = (uint8_t) ((at - offset) / 2);
    insn->nth = (uint8_t) nth;
    if (is_long ((uint16_t) word)) {
      size = 4;
      if (at + size > TN_PAGE_SIZE)
        break;
      go_on = rv_decode (hart, tn_load_le32 (bytes + at), insn);
    } else {
      uint32_t expanded = rv_expand ((uint16_t) word);

      go_on = rv_decode (hart, expanded ? expanded : word, insn);
      if (!expanded)
        rv_mark_illegal (insn, word);
      go_on = go_on && expanded;
    }
    note_size (insn, size);
    if (is_branch (insn))
      branches++;
    if (n == 0 || !fuse (&out[n - 1], insn))
      n++;
    at += size;
    nth++;
  }
  if (go_on) {
    RvInsn *last = &out[n++];

    last->pos = (uint8_t) ((at - offset) / 2);
    last->nth = (uint8_t) nth;
    end_block (last);
  }
  return n;
}

/* The instruction at hart->single, decoded from @word. */
static RvInsn *
decode_single (RvHart *hart, uint32_t word)
{
  RvInsn *insn = hart->single;
  bool is_short = !is_long ((uint16_t) word);
  uint32_t expanded = is_short ? rv_expand ((uint16_t) word) : word;

  insn[0].pos = insn[0].nth = 0;
  rv_decode (hart, expanded ? expanded : word & 0xffff, &insn[0]);
  if (!expanded)
    rv_mark_illegal (&insn[0], word & 0xffff);
  note_size (&insn[0], is_short ? 2 : 4);
  insn[1].pos = is_short ? 1 : 2;
  insn[1].nth = 1;
  end_block (&insn[1]);
  return insn;
}

/* Fetches one instruction by halfwords: it crosses a page, or the page's protection isn't uniform. */
static RvInsn *
find_single (RvHart *hart, uint64_t pc)
{
  uint64_t physical;
  const uint8_t *host;
  uint32_t word;
  bool whole;

  if (!rv_fetch_place (hart, pc, &physical, &host, &whole))
    return NULL;
  word = tn_load_le16 (host);
  if (is_long ((uint16_t) word)) {
    if (!rv_fetch_place (hart, pc + 2, &physical, &host, &whole))
      return NULL;
    word |= (uint32_t) tn_load_le16 (host) << 16;
  }
  return decode_single (hart, word);
}

static RvPage *
find_page (RvHart *hart, uint64_t pc, bool *failed)
{
  RvTlbEntry *entry = &hart->tlb_exec->exec[(pc >> TN_PAGE_SHIFT) % RV_TLB_EXEC_SIZE];
  uint64_t physical;
  const uint8_t *host;
  RvPage *page;
  bool whole;

  *failed = false;
  if (entry->tag == (pc & ~(TN_PAGE_SIZE - 1)))
    return (RvPage *) entry->addend;
  if (!rv_fetch_place (hart, pc, &physical, &host, &whole)) {
    *failed = true;
    return NULL;
  }
  if (!whole)
    return NULL;
  page = page_get (hart, physical & ~(TN_PAGE_SIZE - 1), host - PAGE_OFFSET (physical));
  hart->tlb_exec->used = true;
  entry->tag = pc & ~(TN_PAGE_SIZE - 1);
  entry->addend = (uintptr_t) page;
  return page;
}

/* Whether what the block was decoded from is what memory holds now. */
static bool
copy_is_current (const RvPage *page, unsigned offset)
{
  unsigned length = MIN ((unsigned) (BLOCK_MAX * 4), (unsigned) TN_PAGE_SIZE - offset);

  return memcmp (page->copy + offset, page->host + offset, length) == 0;
}

RvInsn *
rv_block_find (RvHart *hart, uint64_t pc)
{
  RvInsn decoded[BLOCK_MAX + 1];
  unsigned offset = (unsigned) PAGE_OFFSET (pc), count;
  uint64_t generation;
  bool failed;
  RvPage *page = find_page (hart, pc, &failed);
  RvInsn *block;

  if (!page)
    return failed ? NULL : find_single (hart, pc);
  if (page->blocks[offset / 2])
    return (RvInsn *) (hart->arena + page->blocks[offset / 2]);
  if (offset == TN_PAGE_SIZE - 2 && is_long (tn_load_le16 (page->host + offset)))
    return find_single (hart, pc);
  if (!copy_is_current (page, offset))
    page_refresh (hart, page);
  count = decode_block (hart, page->copy, offset, decoded);
  if (count == 1 && decoded[0].op == RV_OP_NEXT)
    return find_single (hart, pc);
  generation = hart->arena_generation;
  block = arena_take (hart, count * sizeof *block);
  memcpy (block, decoded, count * sizeof *block);
  if (generation != hart->arena_generation)
    page = find_page (hart, pc, &failed); /* the arena was full: the page is gone as well */
  if (page)
    page->blocks[offset / 2] = (uint32_t) ((uint8_t *) block - hart->arena);
  return block;
}

RvInsn *
rv_block_follow (RvHart *hart, RvInsn *from, uint64_t block_pc, uint64_t pc)
{
  uint64_t generation = hart->arena_generation;
  RvInsn *found = rv_block_find (hart, pc);

  /* Inside a page the physical target follows from the virtual one. */
  if (found && found != hart->single
      && (from < hart->single || from >= hart->single + G_N_ELEMENTS (hart->single))
      && generation == hart->arena_generation && block_pc >> TN_PAGE_SHIFT == pc >> TN_PAGE_SHIFT)
    from->link = (uint32_t) ((uint8_t *) found - hart->arena);
  return found;
}
