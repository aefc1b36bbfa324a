/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Buffers of one size, aligned for direct I/O as far as their size allows, without the space that aligning
 * each of them would cost.  What is given back is kept for the next until the slab goes.
 */
#ifndef BLOCK_SLAB_H
#define BLOCK_SLAB_H

#include <glib.h>

typedef struct TnSlab {
  size_t item;       /* bytes of one: a power of two that holds a pointer */
  size_t n, used;    /* made so far; of these, taken */
  void *spare;       /* a list through the first words */
  GPtrArray *chunks; /* where they are cut from */
} TnSlab;

void tn_slab_init (TnSlab *slab, size_t item);
/* NULL: there is no memory. */
void *tn_slab_take (TnSlab *slab);
void tn_slab_give (TnSlab *slab, void *item);
/* Gives the memory back if nothing of it is in use. */
void tn_slab_trim (TnSlab *slab);
void tn_slab_clear (TnSlab *slab);

#endif
