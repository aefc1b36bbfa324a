/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clusterset.h"

#include <errno.h>

#define PAGE_BITS 15
#define PAGE_BYTES ((1u << PAGE_BITS) / 8)
/* 128 MiB: 64 TiB of clusters of 64 KiB, if they lie together. */
#define MAX_PAGES (1u << 15)

struct ClusterSet {
  GHashTable *pages; /* number -> bits */
  /* The page looked at before, since neighbours come together; NULL: there is none of that number. */
  uint8_t *last;
  uint64_t last_number, count, end;
};

ClusterSet *
cluster_set_new (void)
{
  ClusterSet *set = g_new0 (ClusterSet, 1);
  set->pages = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  set->last_number = UINT64_MAX;
  return set;
}

void
cluster_set_free (ClusterSet *set)
{
  g_hash_table_unref (set->pages);
  g_free (set);
}

static uint8_t *
cluster_set_page (ClusterSet *set, uint64_t number, bool make)
{
  if (set->last_number == number && (set->last || !make)) {
    return set->last;
  }
  uint8_t *page = g_hash_table_lookup (set->pages, &number);
  if (page == NULL && make && g_hash_table_size (set->pages) < MAX_PAGES) {
    page = g_try_malloc0 (PAGE_BYTES);
    if (page) {
      g_hash_table_insert (set->pages, g_memdup2 (&number, sizeof number), page);
    }
  }
  set->last = page;
  set->last_number = number;
  return page;
}

int
cluster_set_add (ClusterSet *set, uint64_t first, uint64_t n)
{
  int twice = 0;
  for (uint64_t at = first; at - first < n; at++) {
    uint8_t *page = cluster_set_page (set, at >> PAGE_BITS, true);
    if (page == NULL) {
      return -ENOMEM;
    }
    uint8_t *byte = &page[(at & ((1u << PAGE_BITS) - 1)) / 8];
    const uint8_t bit = (uint8_t) (1u << (at & 7));
    if (*byte & bit) {
      twice = 1;
      continue;
    }
    *byte |= bit;
    set->count++;
  }
  set->end = MAX (set->end, first + n);
  return twice;
}

bool
cluster_set_has (ClusterSet *set, uint64_t cluster)
{
  const uint8_t *page = cluster_set_page (set, cluster >> PAGE_BITS, false);
  return page && (page[(cluster & ((1u << PAGE_BITS) - 1)) / 8] & (1u << (cluster & 7)));
}

bool
cluster_set_has_any (ClusterSet *set, uint64_t first, uint64_t n)
{
  while (n) {
    const uint64_t in_page = first & ((1u << PAGE_BITS) - 1), here = MIN (n, (1u << PAGE_BITS) - in_page);
    const uint8_t *page = cluster_set_page (set, first >> PAGE_BITS, false);
    for (uint64_t at = in_page; page && at < in_page + here; at++) {
      if (page[at / 8] == 0) {
        at |= 7;
      } else if (page[at / 8] & (1u << (at & 7))) {
        return true;
      }
    }
    first += here;
    n -= here;
  }
  return false;
}

uint64_t
cluster_set_count (const ClusterSet *set)
{
  return set->count;
}

uint64_t
cluster_set_end (const ClusterSet *set)
{
  return set->end;
}
