/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "counts.h"

/* 1 GiB: enough for 256 Mi clusters, 16 TiB of ordinary ones. */
#define MAX_PAGES (1u << (30 - QCOW2_COUNTS_PAGE_BITS - 2))

void
qcow2_counts_init (Qcow2Counts *counts)
{
  *counts = (Qcow2Counts){ .pages = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free) };
}

void
qcow2_counts_clear (Qcow2Counts *counts)
{
  g_clear_pointer (&counts->pages, g_hash_table_unref);
  counts->last = NULL;
}

static uint32_t *
find_page (Qcow2Counts *counts, uint64_t number, bool make)
{
  if (counts->last && counts->last_number == number) {
    return counts->last;
  }
  uint32_t *page = g_hash_table_lookup (counts->pages, &number);
  if (page == NULL && make && g_hash_table_size (counts->pages) < MAX_PAGES) {
    page = g_try_new0 (uint32_t, QCOW2_COUNTS_PAGE);
    if (page) {
      g_hash_table_insert (counts->pages, g_memdup2 (&number, sizeof number), page);
    }
  }
  if (page) {
    counts->last = page;
    counts->last_number = number;
  }
  return page;
}

bool
qcow2_counts_add (Qcow2Counts *counts, uint64_t first, uint64_t n, uint32_t weight)
{
  for (uint64_t at = first; at < first + n; at++) {
    uint32_t *page = find_page (counts, at >> QCOW2_COUNTS_PAGE_BITS, true);
    if (page == NULL) {
      return false;
    }
    uint32_t *count = &page[at & (QCOW2_COUNTS_PAGE - 1)];
    *count = weight > UINT32_MAX - *count ? UINT32_MAX : *count + weight;
  }
  counts->end = MAX (counts->end, first + n);
  return true;
}

void
qcow2_counts_drop (Qcow2Counts *counts, uint64_t first, uint64_t n)
{
  for (uint64_t at = first; at < first + n; at++) {
    uint32_t *page = find_page (counts, at >> QCOW2_COUNTS_PAGE_BITS, false);
    if (page && page[at & (QCOW2_COUNTS_PAGE - 1)]) {
      page[at & (QCOW2_COUNTS_PAGE - 1)]--;
    }
  }
}

uint64_t
qcow2_counts_get (Qcow2Counts *counts, uint64_t cluster)
{
  const uint32_t *page = find_page (counts, cluster >> QCOW2_COUNTS_PAGE_BITS, false);
  return page ? page[cluster & (QCOW2_COUNTS_PAGE - 1)] : 0;
}

static gint
compare_numbers (gconstpointer a, gconstpointer b)
{
  const uint64_t one = *(const uint64_t *) a, two = *(const uint64_t *) b;
  return one < two ? -1 : one > two;
}

GArray *
qcow2_counts_pages (Qcow2Counts *counts)
{
  GArray *numbers = g_array_new (false, false, sizeof (uint64_t));
  GHashTableIter iter;
  gpointer key;
  g_hash_table_iter_init (&iter, counts->pages);
  while (g_hash_table_iter_next (&iter, &key, NULL)) {
    g_array_append_val (numbers, *(uint64_t *) key);
  }
  g_array_sort (numbers, compare_numbers);
  return numbers;
}
