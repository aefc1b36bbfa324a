/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/view.h"

/* Spreads threads over the counters, so that harts don't fight for one cache line. */
static unsigned
view_slot (void)
{
  static atomic_uint next_thread;
  static _Thread_local unsigned slot;
  if (slot == 0)
    slot = 1 + atomic_fetch_add_explicit (&next_thread, 1, memory_order_relaxed) % TN_VIEW_SLOTS;
  return slot - 1;
}

TnView *
tn_view_new (size_t n_entries)
{
  TnView *view = g_malloc0 (sizeof (TnView) + n_entries * sizeof (TnEntry));
  view->n_entries = (uint32_t) n_entries;
  return view;
}

static void
view_reclaim (TnViewCell *cell)
{
  TnView **link = &cell->retired;
  while (*link != NULL) {
    TnView *view = *link;
    for (unsigned i = 0; i < TN_VIEW_SLOTS; i++) {
      if (atomic_load (&cell->slots[i].readers) == 0)
        view->seen_zero |= 1u << i;
    }
    if (view->seen_zero != (1u << TN_VIEW_SLOTS) - 1) {
      link = &view->next;
      continue;
    }
    *link = view->next;
    g_free (view);
  }
}

void
tn_view_publish (TnViewCell *cell, TnView *view)
{
  TnView *old = atomic_exchange (&cell->current, view);
  if (old != NULL) {
    old->next = cell->retired;
    cell->retired = old;
  }
  view_reclaim (cell);
}

void
tn_view_cell_clear (TnViewCell *cell)
{
  while (cell->retired != NULL) {
    TnView *view = cell->retired;
    cell->retired = view->next;
    g_free (view);
  }
  g_free (atomic_exchange (&cell->current, NULL));
}

static const TnEntry *
view_find (const TnView *view, uint64_t address)
{
  size_t low = 0, high = view->n_entries;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (view->entries[middle].last < address)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == view->n_entries || view->entries[low].base > address)
    return NULL;
  return &view->entries[low];
}

bool
tn_view_lookup (TnViewCell *cell, uint64_t address, TnEntry *entry)
{
  /* Sequentially consistent on purpose: the announcement must be visible before the view is loaded. */
  atomic_uint *readers = &cell->slots[view_slot ()].readers;
  atomic_fetch_add (readers, 1);
  const TnView *view = atomic_load (&cell->current);
  const TnEntry *found = view_find (view, address);
  if (found != NULL)
    *entry = *found;
  atomic_fetch_sub_explicit (readers, 1, memory_order_release);
  return found != NULL;
}
