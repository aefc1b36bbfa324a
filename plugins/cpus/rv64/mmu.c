/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Address translation and every access that the interpreter doesn't do by itself.
 *
 * A TLB entry holds for one 4 KiB page of RAM whose protection is uniform, and lets the interpreter reach
 * the host's memory with one comparison and one addition.  There is one TLB per way of looking at memory
 * (U, S, S with SUM, M or untranslated), so that a change of mode switches a pointer and flushes nothing.
 * Filling an entry for writing marks the page dirty for everyone; who clears a dirty bit and wants
 * to see it set again must call memory_changed().
 */
#include "rv64.h"

#define PAGE_MASK (~(TN_PAGE_SIZE - 1))

typedef struct Walk {
  uint64_t physical;
  uint64_t page_bytes; /* of the leaf */
} Walk;

typedef struct Place {
  uint64_t physical;
  uint8_t *host; /* NULL: not RAM, or ROM when writing */
} Place;

static RvPriv
data_priv (const RvHart *hart)
{
  if (hart->priv == RV_M && (hart->mstatus & MSTATUS_MPRV))
    return (hart->mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;
  return hart->priv;
}

void
rv_mmu_update (RvHart *hart)
{
  static const uint8_t by_priv[4] = { RV_TLB_U, RV_TLB_S, RV_TLB_M, RV_TLB_M };
  RvPriv priv = data_priv (hart);
  unsigned data = by_priv[priv];

  if (priv == RV_S && (hart->mstatus & MSTATUS_SUM))
    data = RV_TLB_S_SUM;
  hart->tlb = &hart->tlbs[data];
  hart->tlb_exec = &hart->tlbs[by_priv[hart->priv]];
}

static void
invalidate (RvTlbEntry *entries, unsigned count)
{
  for (unsigned i = 0; i < count; i++)
    entries[i].tag = RV_TLB_INVALID;
}

static void
tlb_clear (RvTlb *tlb)
{
  if (!tlb->used)
    return;
  invalidate (tlb->read, RV_TLB_SIZE);
  invalidate (tlb->write, RV_TLB_SIZE);
  invalidate (tlb->exec, RV_TLB_EXEC_SIZE);
  tlb->large_low = UINT64_MAX;
  tlb->large_high = 0;
  tlb->used = false;
}

void
rv_tlb_flush (RvHart *hart)
{
  for (unsigned i = 0; i < RV_TLBS; i++)
    tlb_clear (&hart->tlbs[i]);
}

void
rv_tlb_flush_exec (RvHart *hart)
{
  for (unsigned i = 0; i < RV_TLBS; i++)
    invalidate (hart->tlbs[i].exec, RV_TLB_EXEC_SIZE);
}

static void
drop (RvTlbEntry *entry, uint64_t page)
{
  if (entry->tag == page)
    entry->tag = RV_TLB_INVALID;
}

void
rv_tlb_flush_page (RvHart *hart, uint64_t address)
{
  uint64_t page = address & PAGE_MASK, number = page >> TN_PAGE_SHIFT;

  for (unsigned i = 0; i < RV_TLBS; i++) {
    RvTlb *tlb = &hart->tlbs[i];

    if (page >= tlb->large_low && page <= tlb->large_high) {
      tlb_clear (tlb);
      continue;
    }
    drop (&tlb->read[number % RV_TLB_SIZE], page);
    drop (&tlb->write[number % RV_TLB_SIZE], page);
    drop (&tlb->exec[number % RV_TLB_EXEC_SIZE], page);
  }
}

static bool
page_fault (RvHart *hart, uint64_t address, RvAccess access)
{
  static const uint8_t causes[] = { CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE, CAUSE_FETCH_PAGE };

  return rv_raise (hart, causes[access], address);
}

static bool
access_fault (RvHart *hart, uint64_t address, RvAccess access)
{
  static const uint8_t causes[] = { CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS };

  return rv_raise (hart, causes[access], address);
}

uint8_t *
rv_ram (RvHart *hart, uint64_t physical, unsigned bytes, bool write)
{
  TnRamSpan span;

  if (physical < hart->ram_start || physical >= hart->ram_end) {
    if (!tn_space_ram (hart->space, physical, &span))
      return NULL;
    hart->ram_start = span.base;
    hart->ram_end = physical + span.length;
    hart->ram_host = span.host - (physical - span.base);
    hart->ram_dirty = span.dirty ? span.dirty - ((physical - span.base) >> TN_PAGE_SHIFT) : NULL;
    hart->ram_writable = span.writable;
  }
  if (write && !hart->ram_writable)
    return NULL;
  if (hart->ram_end - physical < bytes)
    return NULL;
  return hart->ram_host + (physical - hart->ram_start);
}

/* Of the page that rv_ram() has just found. */
static void
mark_dirty (RvHart *hart, uint64_t physical)
{
  if (hart->ram_dirty)
    __atomic_fetch_or (&hart->ram_dirty[(physical - hart->ram_start) >> TN_PAGE_SHIFT],
                       TN_DIRTY_CODE | TN_DIRTY_MIGRATION | TN_DIRTY_DISPLAY, __ATOMIC_RELAXED);
}

static bool
leaf_allows (const RvHart *hart, uint64_t pte, RvPriv priv, RvAccess access)
{
  if (pte & PTE_U) {
    if (priv == RV_S && (access == RV_EXEC || !(hart->mstatus & MSTATUS_SUM)))
      return false;
  } else if (priv == RV_U) {
    return false;
  }
  switch (access) {
  case RV_READ:
    return (pte & PTE_R) || ((pte & PTE_X) && (hart->mstatus & MSTATUS_MXR));
  case RV_WRITE:
    return (pte & PTE_W) != 0;
  default:
    return (pte & PTE_X) != 0;
  }
}

typedef enum LeafResult { LEAF_OK, LEAF_AGAIN, LEAF_PAGE_FAULT, LEAF_ACCESS_FAULT } LeafResult;

/* Sets the accessed and dirty bits that the access needs, or finds that the guest has to. */
static LeafResult
leaf_touch (RvHart *hart, uint64_t pte_address, uint64_t pte, RvAccess access)
{
  uint64_t wanted = pte | PTE_A | (access == RV_WRITE ? PTE_D : 0);
  uint64_t *host;
  bool whole;

  if (wanted == pte)
    return LEAF_OK;
  if (!(hart->menvcfg & ENVCFG_ADUE))
    return LEAF_PAGE_FAULT;
  host = (uint64_t *) rv_ram (hart, pte_address, 8, true);
  if (!host || !rv_pmp_allows (hart, pte_address, 8, RV_S, RV_WRITE, &whole))
    return LEAF_ACCESS_FAULT;
  mark_dirty (hart, pte_address);
  pte = GUINT64_TO_LE (pte);
  if (!__atomic_compare_exchange_n (host, &pte, GUINT64_TO_LE (wanted), false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_RELAXED))
    return LEAF_AGAIN;
  return LEAF_OK;
}

/* One walk from the root; LEAF_AGAIN when the tables changed under it. */
static LeafResult
walk_tables (RvHart *hart, uint64_t address, RvPriv priv, RvAccess access, unsigned levels, Walk *walk)
{
  uint64_t table = (hart->satp & SATP_PPN) << TN_PAGE_SHIFT;

  for (int level = (int) levels - 1; level >= 0; level--) {
    unsigned shift = TN_PAGE_SHIFT + 9 * (unsigned) level;
    uint64_t pte_address = table + (address >> shift & 511) * 8;
    uint64_t low = (UINT64_C (1) << shift) - 1;
    const uint64_t *host = (const uint64_t *) rv_ram (hart, pte_address, 8, false);
    uint64_t pte, target;
    LeafResult result;
    bool whole;

    if (!host || !rv_pmp_allows (hart, pte_address, 8, RV_S, RV_READ, &whole))
      return LEAF_ACCESS_FAULT;
    pte = GUINT64_FROM_LE (__atomic_load_n (host, __ATOMIC_ACQUIRE));
    if (!(pte & PTE_V) || (pte & (PTE_R | PTE_W)) == PTE_W || (pte & PTE_RESERVED))
      return LEAF_PAGE_FAULT;
    target = (pte >> 10 & SATP_PPN) << TN_PAGE_SHIFT;
    if (!(pte & (PTE_R | PTE_X))) {
      if (pte & (PTE_A | PTE_D | PTE_U))
        return LEAF_PAGE_FAULT;
      table = target;
      continue;
    }
    if ((target & low) || !leaf_allows (hart, pte, priv, access))
      return LEAF_PAGE_FAULT;
    result = leaf_touch (hart, pte_address, pte, access);
    walk->physical = target | (address & low);
    walk->page_bytes = low + 1;
    return result;
  }
  return LEAF_PAGE_FAULT;
}

static bool
translate (RvHart *hart, uint64_t address, RvPriv priv, RvAccess access, Walk *walk)
{
  unsigned mode = (unsigned) (hart->satp >> SATP_MODE_SHIFT);
  LeafResult result;
  unsigned levels, unused;

  walk->physical = address;
  walk->page_bytes = TN_PAGE_SIZE;
  if (priv == RV_M || mode == 0)
    return true;
  levels = mode - 5;
  unused = 64 - TN_PAGE_SHIFT - 9 * levels;
  if ((uint64_t) ((int64_t) (address << unused) >> unused) != address)
    return page_fault (hart, address, access);
  do {
    result = walk_tables (hart, address, priv, access, levels, walk);
  } while (result == LEAF_AGAIN);
  if (result == LEAF_ACCESS_FAULT)
    return access_fault (hart, address, access);
  return result == LEAF_OK || page_fault (hart, address, access);
}

static void
note_large (RvTlb *tlb, uint64_t address, uint64_t page_bytes)
{
  uint64_t low = address & ~(page_bytes - 1);

  tlb->used = true;
  if (page_bytes == TN_PAGE_SIZE)
    return;
  tlb->large_low = MIN (tlb->large_low, low);
  tlb->large_high = MAX (tlb->large_high, low | (page_bytes - 1));
}

static void
tlb_fill (RvHart *hart, uint64_t address, const Walk *walk, RvAccess access, uint8_t *host)
{
  RvTlb *tlb = hart->tlb;
  unsigned slot = (unsigned) ((address >> TN_PAGE_SHIFT) % RV_TLB_SIZE);
  RvTlbEntry *entry = access == RV_WRITE ? &tlb->write[slot] : &tlb->read[slot];

  note_large (tlb, address, walk->page_bytes);
  entry->tag = address & PAGE_MASK;
  entry->addend = (uintptr_t) host - (uintptr_t) address;
}

/* Where @bytes at @address, which lie in one page, are.  Fills the TLB when it may. */
static bool
data_place (RvHart *hart, uint64_t address, unsigned bytes, RvAccess access, Place *place)
{
  RvPriv priv = data_priv (hart);
  Walk walk;
  bool whole;

  if (!translate (hart, address, priv, access, &walk))
    return false;
  if (!rv_pmp_allows (hart, walk.physical, bytes, priv, access, &whole))
    return access_fault (hart, address, access);
  place->physical = walk.physical;
  place->host = rv_ram (hart, walk.physical, bytes, access == RV_WRITE);
  if (!place->host)
    return true;
  if (access == RV_WRITE)
    mark_dirty (hart, walk.physical);
  if (whole)
    tlb_fill (hart, address, &walk, access, place->host);
  return true;
}

static uint64_t
copy_in (const uint8_t *host, unsigned bytes)
{
  uint64_t value = 0;

  for (unsigned i = 0; i < bytes; i++)
    value |= (uint64_t) __atomic_load_n (host + i, RV_LOAD_ORDER) << 8 * i;
  return value;
}

static void
copy_out (uint8_t *host, unsigned bytes, uint64_t value)
{
  for (unsigned i = 0; i < bytes; i++)
    __atomic_store_n (host + i, (uint8_t) (value >> 8 * i), RV_STORE_ORDER);
}

/* An aligned access is one access on the host too: other harts may look. */
static uint64_t
read_aligned (const uint8_t *host, unsigned bytes)
{
  switch (bytes) {
  case 1:
    return __atomic_load_n (host, RV_LOAD_ORDER);
  case 2:
    return GUINT16_FROM_LE (__atomic_load_n ((const uint16_t *) host, RV_LOAD_ORDER));
  case 4:
    return GUINT32_FROM_LE (__atomic_load_n ((const uint32_t *) host, RV_LOAD_ORDER));
  default:
    return GUINT64_FROM_LE (__atomic_load_n ((const uint64_t *) host, RV_LOAD_ORDER));
  }
}

static void
write_aligned (uint8_t *host, unsigned bytes, uint64_t value)
{
  switch (bytes) {
  case 1:
    __atomic_store_n (host, (uint8_t) value, RV_STORE_ORDER);
    break;
  case 2:
    __atomic_store_n ((uint16_t *) host, GUINT16_TO_LE ((uint16_t) value), RV_STORE_ORDER);
    break;
  case 4:
    __atomic_store_n ((uint32_t *) host, GUINT32_TO_LE ((uint32_t) value), RV_STORE_ORDER);
    break;
  default:
    __atomic_store_n ((uint64_t *) host, GUINT64_TO_LE (value), RV_STORE_ORDER);
  }
}

static bool
load_part (RvHart *hart, uint64_t address, unsigned bytes, bool aligned, uint64_t *value)
{
  Place place;

  if (!data_place (hart, address, bytes, RV_READ, &place))
    return false;
  if (place.host) {
    *value = aligned ? read_aligned (place.host, bytes) : copy_in (place.host, bytes);
    return true;
  }
  if (!aligned || tn_space_read (hart->space, place.physical, bytes, value) != TN_BUS_OK)
    return access_fault (hart, address, RV_READ);
  return true;
}

bool
rv_load (RvHart *hart, uint64_t address, unsigned bytes)
{
  unsigned first = (unsigned) MIN (bytes, TN_PAGE_SIZE - (address & ~PAGE_MASK));
  bool aligned = (address & (bytes - 1)) == 0;
  uint64_t low, high;

  if (first == bytes)
    return load_part (hart, address, bytes, aligned, &hart->loaded);
  if (!load_part (hart, address, first, false, &low)
      || !load_part (hart, address + first, bytes - first, false, &high))
    return false;
  hart->loaded = low | high << 8 * first;
  return true;
}

static bool
store_split (RvHart *hart, uint64_t address, unsigned first, unsigned bytes, uint64_t value)
{
  Place low, high;

  /* Both pages are checked before either is written. */
  if (!data_place (hart, address, first, RV_WRITE, &low))
    return false;
  if (!data_place (hart, address + first, bytes - first, RV_WRITE, &high))
    return false;
  if (!low.host)
    return access_fault (hart, address, RV_WRITE);
  if (!high.host)
    return access_fault (hart, address + first, RV_WRITE);
  copy_out (low.host, first, value);
  copy_out (high.host, bytes - first, value >> 8 * first);
  return true;
}

bool
rv_store (RvHart *hart, uint64_t address, unsigned bytes, uint64_t value)
{
  unsigned first = (unsigned) MIN (bytes, TN_PAGE_SIZE - (address & ~PAGE_MASK));
  bool aligned = (address & (bytes - 1)) == 0;
  Place place;

  if (first != bytes)
    return store_split (hart, address, first, bytes, value);
  if (!data_place (hart, address, bytes, RV_WRITE, &place))
    return false;
  if (place.host && aligned)
    write_aligned (place.host, bytes, value);
  else if (place.host)
    copy_out (place.host, bytes, value);
  if (place.host)
    return true;
  if (bytes < 8)
    value &= (UINT64_C (1) << 8 * bytes) - 1;
  if (!aligned || tn_space_write (hart->space, place.physical, bytes, value) != TN_BUS_OK)
    return access_fault (hart, address, RV_WRITE);
  return true;
}

void *
rv_atomic_place (RvHart *hart, uint64_t address, unsigned bytes, RvAccess access)
{
  RvTlb *tlb = hart->tlb;
  unsigned slot = (unsigned) ((address >> TN_PAGE_SHIFT) % RV_TLB_SIZE);
  const RvTlbEntry *entry = access == RV_WRITE ? &tlb->write[slot] : &tlb->read[slot];
  Place place;

  if (address & (bytes - 1)) {
    rv_raise (hart, access == RV_WRITE ? CAUSE_STORE_MISALIGNED : CAUSE_LOAD_MISALIGNED, address);
    return NULL;
  }
  if (entry->tag == (address & PAGE_MASK))
    return (void *) (entry->addend + (uintptr_t) address);
  if (!data_place (hart, address, bytes, access, &place))
    return NULL;
  /* RAM of a page that somebody watches: a store is waited for there, an atomic is not. */
  if (!place.host && access == RV_WRITE) {
    place.host = tn_space_dma_map (hart->space, place.physical, bytes, true);
    if (place.host)
      tn_space_mark_dirty (hart->space, place.physical, bytes);
  }
  if (!place.host)
    access_fault (hart, address, access);
  return place.host;
}

bool
rv_fetch_place (RvHart *hart, uint64_t address, uint64_t *physical, const uint8_t **host, bool *whole)
{
  Walk walk;

  if (!translate (hart, address, hart->priv, RV_EXEC, &walk))
    return false;
  if (!rv_pmp_allows (hart, walk.physical, 2, hart->priv, RV_EXEC, whole))
    return access_fault (hart, address, RV_EXEC);
  *physical = walk.physical;
  *host = rv_ram (hart, walk.physical, 2, false);
  if (!*host)
    return access_fault (hart, address, RV_EXEC);
  note_large (hart->tlb_exec, address, walk.page_bytes);
  return true;
}
