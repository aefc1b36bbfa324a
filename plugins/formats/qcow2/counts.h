/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reference counts as check finds them: sparse, so that a hostile image with far-off references costs memory
 * in proportion to these references only, and bounded.
 */
#ifndef QCOW2_COUNTS_H
#define QCOW2_COUNTS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define QCOW2_COUNTS_PAGE_BITS 10
#define QCOW2_COUNTS_PAGE (1u << QCOW2_COUNTS_PAGE_BITS)

typedef struct Qcow2Counts {
  GHashTable *pages; /* number of the page -> uint32_t[QCOW2_COUNTS_PAGE] */
  uint64_t last_number;
  uint32_t *last;
  uint64_t end; /* behind the highest cluster ever counted */
} Qcow2Counts;

void qcow2_counts_init (Qcow2Counts *counts);
void qcow2_counts_clear (Qcow2Counts *counts);
/* Adds to the counts of [first, first + n); they stop at their limit.  false: too much memory would be
 * needed. */
bool qcow2_counts_add (Qcow2Counts *counts, uint64_t first, uint64_t n, uint32_t weight);
void qcow2_counts_drop (Qcow2Counts *counts, uint64_t first, uint64_t n);
uint64_t qcow2_counts_get (Qcow2Counts *counts, uint64_t cluster);
/* Numbers of the pages in order; free with g_array_unref(). */
GArray *qcow2_counts_pages (Qcow2Counts *counts);

#endif
