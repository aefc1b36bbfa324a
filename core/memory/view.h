/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file memory/view.h
 * The immutable flat view of an address space, and when an old one may be freed.
 *
 * A reader announces itself in one of a few counters, loads the view, copies the entry it wants
 * and leaves.  A writer publishes a new view and frees the old one once each counter has been
 * seen at zero after that: whoever could still hold the old view has left by then.
 */
#ifndef TN_MEMORY_VIEW_H
#define TN_MEMORY_VIEW_H

#include <stdatomic.h>
#include <tenon/memory.h>

typedef enum TnEntryKind { TN_ENTRY_RAM = 1, TN_ENTRY_ROM, TN_ENTRY_MMIO } TnEntryKind;

/** A watch over bytes of RAM: see tn_space_watch(). */
typedef struct TnWatch {
  uint64_t base, size;
  void (*written) (void *opaque, uint64_t address, unsigned bytes);
  void *opaque;
} TnWatch;

/** A run of addresses that behave alike.  A RAM region with a watch in it is cut into several. */
typedef struct TnEntry {
  uint64_t base, last; /**< first and last address */
  uint64_t region_base;
  uint8_t *host;  /**< of base (RAM, ROM) */
  uint8_t *dirty; /**< of base's page (RAM, ROM) */
  TnMmioOps ops;  /**< MMIO */
  void *opaque;   /**< MMIO */
  TnWatch watch;  /**< size 0: none */
  uint8_t kind;   /**< TnEntryKind */
} TnEntry;

typedef struct TnView {
  struct TnView *next; /**< older retired view */
  uint32_t seen_zero;  /**< reader counters that were seen at zero since this view was retired */
  uint32_t n_entries;
  TnEntry entries[];
} TnView;

#define TN_VIEW_SLOTS 16

typedef struct TnViewSlot {
  _Alignas(64) atomic_uint readers;
} TnViewSlot;

/** The published view and its readers. */
typedef struct TnViewCell {
  TnViewSlot slots[TN_VIEW_SLOTS];
  _Atomic (TnView *) current;
  TnView *retired; /**< under the writer's lock */
} TnViewCell;

TnView *tn_view_new (size_t n_entries);
/** Makes @view current and frees retired ones that nobody reads any more.  Under the writer's lock. */
void tn_view_publish (TnViewCell *cell, TnView *view);
/** Frees everything; no reader may be left. */
void tn_view_cell_clear (TnViewCell *cell);
/** Copies the entry that holds @address.  Any thread, takes no lock. */
bool tn_view_lookup (TnViewCell *cell, uint64_t address, TnEntry *entry);

#endif
