/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/slab.h"

#include "block/internal.h"
#include "util/asan.h"

#include <stdlib.h>

#define MAX_CHUNK (256u << 10)

/* Spare items are poisoned, so that the address sanitizer finds who uses one that was given back. */
static void
slab_poison (void *item, size_t length)
{
#ifdef TN_ASAN
  ASAN_POISON_MEMORY_REGION (item, length);
#else
  (void) item, (void) length;
#endif
}

static void
slab_unpoison (void *item, size_t length)
{
#ifdef TN_ASAN
  ASAN_UNPOISON_MEMORY_REGION (item, length);
#else
  (void) item, (void) length;
#endif
}

void
tn_slab_init (TnSlab *slab, size_t item)
{
  *slab = (TnSlab){ .item = item, .chunks = g_ptr_array_new () };
}

static void
slab_spare (TnSlab *slab, void *item)
{
  *(void **) item = slab->spare;
  slab->spare = item;
  slab_poison (item, slab->item);
}

/* Twice as many as before, so that few items cost little. */
static bool
slab_grow (TnSlab *slab)
{
  const size_t n = CLAMP (slab->n, 1, MAX (MAX_CHUNK / slab->item, 1));
  char *chunk = tn_buffer_new (n * slab->item);
  if (!chunk)
    return false;
  g_ptr_array_add (slab->chunks, chunk);
  slab->n += n;
  for (size_t i = n; i-- > 0;)
    slab_spare (slab, chunk + i * slab->item);
  return true;
}

void *
tn_slab_take (TnSlab *slab)
{
  if (!slab->spare && !slab_grow (slab))
    return NULL;
  void *item = slab->spare;
  slab_unpoison (item, slab->item);
  slab->spare = *(void **) item;
  slab->used++;
  return item;
}

void
tn_slab_give (TnSlab *slab, void *item)
{
  slab->used--;
  slab_spare (slab, item);
}

static void
slab_free (TnSlab *slab)
{
  for (void *item = slab->spare, *next; item; item = next) {
    slab_unpoison (item, slab->item);
    next = *(void **) item;
  }
  for (guint i = 0; i < slab->chunks->len; i++)
    free (slab->chunks->pdata[i]);
  g_ptr_array_set_size (slab->chunks, 0);
  slab->spare = NULL;
  slab->n = slab->used = 0;
}

void
tn_slab_trim (TnSlab *slab)
{
  if (!slab->used)
    slab_free (slab);
}

void
tn_slab_clear (TnSlab *slab)
{
  slab_free (slab);
  g_clear_pointer (&slab->chunks, g_ptr_array_unref);
}
