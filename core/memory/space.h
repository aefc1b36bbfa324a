/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file memory/space.h
 * The core's side of an address space.
 */
#ifndef TN_MEMORY_SPACE_H
#define TN_MEMORY_SPACE_H

#include <tenon/memory.h>

/** Calls @changed after every change of the map, on the thread that changed it. */
void tn_space_set_listener (TnSpace *space, void (*changed) (void *opaque), void *opaque);

/** Copies into ROM as well as RAM: what a loader may do and a guest may not. */
int tn_space_load (TnSpace *space, uint64_t address, const void *data, uint64_t length, GError **error);

/** Host memory at @address for a loader (RAM or ROM), and how much follows; NULL when there is none. */
uint8_t *tn_space_load_pointer (TnSpace *space, uint64_t address, uint64_t *length);

#endif
