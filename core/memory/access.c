/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Single accesses, DMA and look-ups: the readers of an address space. */
#include "memory/space.h"
#include "memory/space-private.h"

#define DIRTY_ALL (TN_DIRTY_CODE | TN_DIRTY_MIGRATION | TN_DIRTY_DISPLAY)

void
tn_dirty_set (uint8_t *dirty, uint64_t pages)
{
  for (uint64_t i = 0; i < pages; i++) {
    if (__atomic_load_n (&dirty[i], __ATOMIC_RELAXED) != DIRTY_ALL)
      __atomic_fetch_or (&dirty[i], DIRTY_ALL, __ATOMIC_RELEASE);
  }
}

/* Marks @length bytes from @address, which lie within @entry. */
static void
entry_mark_dirty (const TnEntry *entry, uint64_t address, uint64_t length)
{
  uint64_t first = (address - entry->base) >> TN_PAGE_SHIFT;
  uint64_t last = (address - entry->base + length - 1) >> TN_PAGE_SHIFT;
  tn_dirty_set (entry->dirty + first, last - first + 1);
}

static void
entry_written (const TnEntry *entry, uint64_t address, unsigned bytes)
{
  const TnWatch *watch = &entry->watch;
  if (watch->size == 0 || address >= watch->base + watch->size || address + bytes <= watch->base)
    return;
  watch->written (watch->opaque, address, bytes);
}

bool
tn_space_ram (TnSpace *space, uint64_t address, TnRamSpan *span)
{
  TnEntry entry;
  if (!tn_view_lookup (&space->view, address, &entry) || entry.kind == TN_ENTRY_MMIO)
    return false;
  uint64_t offset = address - entry.base;
  span->host = entry.host + offset;
  span->length = entry.last - address + 1;
  span->base = entry.base;
  span->writable = entry.kind == TN_ENTRY_RAM && entry.watch.size == 0;
  span->dirty = entry.dirty + (offset >> TN_PAGE_SHIFT);
  return true;
}

/* ---- Single accesses ---- */

static bool
access_valid (unsigned bytes)
{
  return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

static bool
mmio_accepts (const TnEntry *entry, uint64_t address, unsigned bytes)
{
  if (bytes < entry->ops.min_access || bytes > entry->ops.max_access)
    return false;
  return address % bytes == 0 && entry->last - address >= bytes - 1;
}

/* An aligned access is one access for other harts, too; the caller has checked that it fits. */
static uint64_t
ram_load (const uint8_t *host, unsigned bytes)
{
  uint64_t value = 0;
  if ((uintptr_t) host % bytes != 0) {
    memcpy (&value, host, bytes);
    return GUINT64_FROM_LE (value);
  }
  switch (bytes) {
  case 1:
    return __atomic_load_n (host, __ATOMIC_RELAXED);
  case 2:
    return GUINT16_FROM_LE (__atomic_load_n ((const uint16_t *) host, __ATOMIC_RELAXED));
  case 4:
    return GUINT32_FROM_LE (__atomic_load_n ((const uint32_t *) host, __ATOMIC_RELAXED));
  default:
    return GUINT64_FROM_LE (__atomic_load_n ((const uint64_t *) host, __ATOMIC_RELAXED));
  }
}

static void
ram_store (uint8_t *host, unsigned bytes, uint64_t value)
{
  if ((uintptr_t) host % bytes != 0) {
    uint64_t little = GUINT64_TO_LE (value);
    memcpy (host, &little, bytes);
    return;
  }
  switch (bytes) {
  case 1:
    __atomic_store_n (host, (uint8_t) value, __ATOMIC_RELAXED);
    break;
  case 2:
    __atomic_store_n ((uint16_t *) host, GUINT16_TO_LE ((uint16_t) value), __ATOMIC_RELAXED);
    break;
  case 4:
    __atomic_store_n ((uint32_t *) host, GUINT32_TO_LE ((uint32_t) value), __ATOMIC_RELAXED);
    break;
  default:
    __atomic_store_n ((uint64_t *) host, GUINT64_TO_LE (value), __ATOMIC_RELAXED);
    break;
  }
}

TnBusResult
tn_space_read (TnSpace *space, uint64_t address, unsigned bytes, uint64_t *value)
{
  TnEntry entry;
  if (!access_valid (bytes) || !tn_view_lookup (&space->view, address, &entry))
    return TN_BUS_FAULT;
  if (entry.kind == TN_ENTRY_MMIO) {
    if (!mmio_accepts (&entry, address, bytes))
      return TN_BUS_FAULT;
    uint64_t mask = bytes == 8 ? UINT64_MAX : ((uint64_t) 1 << (bytes * 8)) - 1;
    *value = entry.ops.read (entry.opaque, address - entry.base, bytes) & mask;
    return TN_BUS_OK;
  }
  if (entry.last - address >= bytes - 1) {
    *value = ram_load (entry.host + (address - entry.base), bytes);
    return TN_BUS_OK;
  }
  uint64_t little = 0;
  TnBusResult result = tn_space_dma_read (space, address, &little, bytes);
  if (result == TN_BUS_OK)
    *value = GUINT64_FROM_LE (little);
  return result;
}

TnBusResult
tn_space_write (TnSpace *space, uint64_t address, unsigned bytes, uint64_t value)
{
  TnEntry entry;
  if (!access_valid (bytes) || !tn_view_lookup (&space->view, address, &entry) || entry.kind == TN_ENTRY_ROM)
    return TN_BUS_FAULT;
  if (entry.kind == TN_ENTRY_MMIO) {
    if (!mmio_accepts (&entry, address, bytes))
      return TN_BUS_FAULT;
    entry.ops.write (entry.opaque, address - entry.base, value, bytes);
    return TN_BUS_OK;
  }
  if (entry.last - address >= bytes - 1) {
    ram_store (entry.host + (address - entry.base), bytes, value);
    entry_mark_dirty (&entry, address, bytes);
    entry_written (&entry, address, bytes);
    return TN_BUS_OK;
  }
  uint64_t little = GUINT64_TO_LE (value);
  return tn_space_dma_write (space, address, &little, bytes);
}

/* ---- DMA ---- */

/* The entry at @address if DMA may touch it, and how many of @length bytes lie in it. */
static bool
dma_entry (TnSpace *space, uint64_t address, uint64_t length, bool write, TnEntry *entry, uint64_t *part)
{
  if (!tn_view_lookup (&space->view, address, entry))
    return false;
  if (entry->kind == TN_ENTRY_MMIO || (write && entry->kind != TN_ENTRY_RAM))
    return false;
  uint64_t rest = entry->last - address;
  *part = length - 1 > rest ? rest + 1 : length;
  return true;
}

TnBusResult
tn_space_dma_read (TnSpace *space, uint64_t address, void *buffer, uint64_t length)
{
  uint8_t *to = buffer;
  while (length > 0) {
    TnEntry entry;
    uint64_t part;
    if (!dma_entry (space, address, length, false, &entry, &part))
      return TN_BUS_FAULT;
    memcpy (to, entry.host + (address - entry.base), part);
    to += part;
    address += part;
    length -= part;
    if (length > 0 && address == 0)
      return TN_BUS_FAULT;
  }
  return TN_BUS_OK;
}

TnBusResult
tn_space_dma_write (TnSpace *space, uint64_t address, const void *buffer, uint64_t length)
{
  const uint8_t *from = buffer;
  while (length > 0) {
    TnEntry entry;
    uint64_t part;
    if (!dma_entry (space, address, length, true, &entry, &part))
      return TN_BUS_FAULT;
    memcpy (entry.host + (address - entry.base), from, part);
    entry_mark_dirty (&entry, address, part);
    from += part;
    address += part;
    length -= part;
    if (length > 0 && address == 0)
      return TN_BUS_FAULT;
  }
  return TN_BUS_OK;
}

void *
tn_space_dma_map (TnSpace *space, uint64_t address, uint64_t length, bool write)
{
  TnEntry first;
  uint64_t part;
  if (length == 0 || !dma_entry (space, address, length, write, &first, &part))
    return NULL;
  uint8_t *host = first.host + (address - first.base);
  /* A watch cuts a region into entries, which are still one run of host memory. */
  for (uint64_t done = part; done < length; done += part) {
    TnEntry next;
    if (address + done == 0 || !dma_entry (space, address + done, length - done, write, &next, &part)
        || next.region_base != first.region_base)
      return NULL;
  }
  return host;
}

void
tn_space_mark_dirty (TnSpace *space, uint64_t address, uint64_t length)
{
  while (length > 0) {
    TnEntry entry;
    uint64_t part;
    if (!dma_entry (space, address, length, true, &entry, &part))
      return;
    entry_mark_dirty (&entry, address, part);
    address += part;
    length -= part;
    if (address == 0)
      return;
  }
}

/* ---- Loaders ---- */

uint8_t *
tn_space_load_pointer (TnSpace *space, uint64_t address, uint64_t *length)
{
  TnRamSpan span;
  if (!tn_space_ram (space, address, &span))
    return NULL;
  *length = span.length;
  return span.host;
}

int
tn_space_load (TnSpace *space, uint64_t address, const void *data, uint64_t length, GError **error)
{
  const uint8_t *from = data;
  while (length > 0) {
    TnRamSpan span;
    if (!tn_space_ram (space, address, &span))
      return tn_fail (error, TN_MACHINE_ERROR, EFAULT, "no memory at 0x%" G_GINT64_MODIFIER "x to load to",
                      address);
    uint64_t part = MIN (length, span.length);
    memcpy (span.host, from, part);
    tn_dirty_set (span.dirty, ((address & (TN_PAGE_SIZE - 1)) + part + TN_PAGE_SIZE - 1) >> TN_PAGE_SHIFT);
    from += part;
    address += part;
    length -= part;
  }
  return 0;
}
