/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/memory.h
 * The memory bus: address spaces of RAM, ROM and memory-mapped registers.
 *
 * An address space maps guest-physical addresses to regions that don't overlap.  Readers look at
 * an immutable flat view, so look-ups take no lock; changing the map publishes a new view and frees
 * the old one when no vCPU uses it any more.  RAM look-up yields a host pointer, so that CPUs and
 * DMA touch guest memory directly.
 *
 * Integers cross this interface as values; a device's registers are little-endian unless its page
 * says otherwise.
 */
#ifndef TENON_MEMORY_H
#define TENON_MEMORY_H

#include <tenon/error.h>

#define TN_PAGE_SHIFT 12
#define TN_PAGE_SIZE ((uint64_t) 1 << TN_PAGE_SHIFT)

/** Who wants to know that a page was written.  A set bit means "written since it was cleared". */
typedef enum TnDirty {
  TN_DIRTY_CODE = 1 << 0, /**< CPUs: translated or predecoded code may be stale */
  TN_DIRTY_MIGRATION = 1 << 1,
  TN_DIRTY_DISPLAY = 1 << 2
} TnDirty;

/** Registers of a device. */
typedef struct TnMmioOps {
  uint32_t size;                  /**< sizeof (TnMmioOps) */
  uint8_t min_access, max_access; /**< bytes: 1, 2, 4 or 8; other sizes fault like unmapped memory */
  uint16_t reserved;
  /** Reads @bytes at @offset into the region.  Called on a vCPU's thread, several at once: the device
   *  locks for itself (tn_device_lock()). */
  uint64_t (*read) (void *opaque, uint64_t offset, unsigned bytes);
  void (*write) (void *opaque, uint64_t offset, uint64_t value, unsigned bytes);
} TnMmioOps;

/** A run of RAM or ROM as a host sees it. */
typedef struct TnRamSpan {
  uint8_t *host;   /**< host address of the byte asked for */
  uint64_t length; /**< bytes that follow contiguously, from the byte asked for */
  uint64_t base;   /**< guest-physical address where this run, alike throughout, begins */
  bool writable; /**< else stores go through tn_space_write(), which knows what to do: ROM faults, watched RAM
                    works */
  uint8_t *dirty; /**< TnDirty bits of the page that holds the byte asked for, one byte per 4 KiB page,
                       contiguous for the span; set bits atomically */
} TnRamSpan;

/** Reads or writes that hit nothing, or the wrong size. */
typedef enum TnBusResult { TN_BUS_OK = 0, TN_BUS_FAULT = 1 } TnBusResult;

TN_API TnSpace *tn_space_new (const char *name);
TN_API void tn_space_free (TnSpace *space);

/** Adds anonymous zeroed RAM; @base and @size are multiples of the page size.  Physical pages are
 *  only taken when touched. */
TN_API int tn_space_add_ram (TnSpace *space, const char *name, uint64_t base, uint64_t size, GError **error);
/** Adds memory that the guest can't write, with a copy of @data, zero-padded to @size. */
TN_API int tn_space_add_rom (TnSpace *space, const char *name, uint64_t base, uint64_t size, const void *data,
                             size_t length, GError **error);
/**
 * Adds RAM that others share: @size bytes of @fd from @offset on, which the file has to have.  @base and
 * @offset are multiples of the page size, @size is any.  @fd stays the caller's.  Whoever shares the file may
 * cut it short later, which ends a process that touches what is gone; instead the region then turns into
 * zeroed memory that nobody else sees.
 */
TN_API int tn_space_add_shared (TnSpace *space, const char *name, uint64_t base, uint64_t size, int fd,
                                uint64_t offset, GError **error);
/** Adds registers.  Overlapping another region is an error naming both. */
TN_API int tn_space_add_mmio (TnSpace *space, const char *name, uint64_t base, uint64_t size,
                              const TnMmioOps *ops, void *opaque, GError **error);
/** Takes out the region that starts at @base. */
TN_API int tn_space_remove (TnSpace *space, uint64_t base, GError **error);

/** Finds RAM or ROM at @address.  False when there is none (unmapped or registers).  Any thread.  The
 *  pointers stay valid until the region is removed. */
TN_API bool tn_space_ram (TnSpace *space, uint64_t address, TnRamSpan *span);

/** One access of 1, 2, 4 or 8 bytes to whatever is at @address (RAM too).  Any thread. */
TN_API TnBusResult tn_space_read (TnSpace *space, uint64_t address, unsigned bytes, uint64_t *value);
TN_API TnBusResult tn_space_write (TnSpace *space, uint64_t address, unsigned bytes, uint64_t value);

/** DMA: copies between RAM and a buffer, crossing spans.  Faults on anything but RAM (and on ROM when
 *  writing) without having copied past the fault.  Marks written pages dirty.  Any thread. */
TN_API TnBusResult tn_space_dma_read (TnSpace *space, uint64_t address, void *buffer, uint64_t length);
TN_API TnBusResult tn_space_dma_write (TnSpace *space, uint64_t address, const void *buffer, uint64_t length);

/** DMA without copying: the host address of @length contiguous bytes of RAM, or NULL when the range isn't
 *  one span.  For @write the caller marks the range afterwards with tn_space_mark_dirty(). */
TN_API void *tn_space_dma_map (TnSpace *space, uint64_t address, uint64_t length, bool write);
TN_API void tn_space_mark_dirty (TnSpace *space, uint64_t address, uint64_t length);

/**
 * Calls @written, on the writer's thread, after each store by tn_space_write() to any of the @size bytes at
 * @address, which lie in one page of RAM.  While a page is watched its span says that it isn't writable, so
 * that CPUs take tn_space_write() there; reads, fetches and DMA are not affected.  One watch per page.
 */
TN_API int tn_space_watch (TnSpace *space, uint64_t address, uint64_t size,
                           void (*written) (void *opaque, uint64_t address, unsigned bytes), void *opaque,
                           GError **error);
/** Ends the watch that starts at @address. */
TN_API void tn_space_unwatch (TnSpace *space, uint64_t address);

/** Calls @visit for every region in ascending order: kind is "ram", "rom" or "mmio". */
TN_API void tn_space_foreach (TnSpace *space,
                              void (*visit) (const char *name, const char *kind, uint64_t base, uint64_t size,
                                             void *opaque),
                              void *opaque);

#endif
