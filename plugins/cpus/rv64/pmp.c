/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Physical memory protection: sixteen entries, four-byte grain. */
#include "rv64.h"

enum { PMP_R = 1, PMP_W = 2, PMP_X = 4, PMP_L = 0x80 };
enum { PMP_OFF, PMP_TOR, PMP_NA4, PMP_NAPOT };

static unsigned
pmp_mode (uint8_t cfg)
{
  return cfg >> 3 & 3;
}

/* First and last byte address of entry @index; false when it matches nothing. */
static bool
pmp_range (const RvHart *hart, unsigned index, uint64_t *first, uint64_t *last)
{
  uint64_t address = hart->pmpaddr[index];
  uint64_t start, size;

  switch (pmp_mode (hart->pmpcfg[index])) {
  case PMP_TOR:
    start = index ? hart->pmpaddr[index - 1] << 2 : 0;
    *first = start;
    *last = (address << 2) - 1;
    return address << 2 > start;
  case PMP_NA4:
    *first = address << 2;
    *last = *first + 3;
    return true;
  case PMP_NAPOT:
    size = (address ^ (address + 1)) >> 1; /* ones below the lowest zero */
    *first = (address & ~size) << 2;
    *last = *first | size << 3 | 7;
    return true;
  default:
    return false;
  }
}

void
rv_pmp_update (RvHart *hart)
{
  hart->pmp_active = 0;
  for (unsigned i = 0; i < RV_PMP_ENTRIES; i++)
    if (pmp_mode (hart->pmpcfg[i]) != PMP_OFF)
      hart->pmp_active = i + 1;
  rv_tlb_flush (hart);
}

/* Whether the page around @physical lies wholly inside or wholly outside the range. */
static bool
page_is_uniform (uint64_t physical, uint64_t first, uint64_t last)
{
  uint64_t start = physical & ~(TN_PAGE_SIZE - 1), end = start | (TN_PAGE_SIZE - 1);

  return end < first || start > last || (start >= first && end <= last);
}

bool
rv_pmp_allows (const RvHart *hart, uint64_t physical, unsigned bytes, RvPriv priv, RvAccess access,
               bool *whole)
{
  static const uint8_t needed[] = { [RV_READ] = PMP_R, [RV_WRITE] = PMP_W, [RV_EXEC] = PMP_X };
  uint64_t end = physical + bytes - 1;

  *whole = true;
  for (unsigned i = 0; i < hart->pmp_active; i++) {
    uint64_t first, last;

    if (!pmp_range (hart, i, &first, &last))
      continue;
    if (!page_is_uniform (physical, first, last))
      *whole = false;
    if (end < first || physical > last)
      continue;
    if (physical < first || end > last)
      return false;
    if (priv == RV_M && !(hart->pmpcfg[i] & PMP_L))
      return true;
    return (hart->pmpcfg[i] & needed[access]) != 0;
  }
  return priv == RV_M;
}
