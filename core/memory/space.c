/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Regions and watches of an address space, and the view made from them. */
#include "memory/space.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "memory/shared.h"
#include "memory/space-private.h"

typedef struct TnRegion {
  char *name;
  TnEntry entry;      /* as it would be without watches */
  size_t host_length; /* bytes mapped for RAM and ROM */
  size_t dirty_length;
  bool shared;
} TnRegion;

static const char *
region_kind (const TnRegion *region)
{
  switch (region->entry.kind) {
  case TN_ENTRY_RAM:
    return "ram";
  case TN_ENTRY_ROM:
    return "rom";
  default:
    return "mmio";
  }
}

static void
region_unmap (TnRegion *region)
{
  if (region->entry.host != NULL && region->shared)
    tn_shared_unmap (region->entry.host, region->host_length);
  else if (region->entry.host != NULL)
    munmap (region->entry.host, region->host_length);
  if (region->entry.dirty != NULL)
    munmap (region->entry.dirty, region->dirty_length);
}

static void
region_free (gpointer data)
{
  TnRegion *region = data;
  region_unmap (region);
  g_free (region->name);
  g_free (region);
}

TnSpace *
tn_space_new (const char *name)
{
  TnSpace *space = NULL;
  /* The reader counters want cache lines of their own. */
  if (posix_memalign ((void **) &space, 64, sizeof (TnSpace)) != 0)
    g_error ("out of memory");
  memset (space, 0, sizeof (TnSpace));
  space->name = g_strdup (name);
  pthread_mutex_init (&space->lock, NULL);
  space->regions = g_ptr_array_new_with_free_func (region_free);
  space->removed = g_ptr_array_new_with_free_func (region_free);
  space->watches = g_array_new (FALSE, FALSE, sizeof (TnWatch));
  tn_view_publish (&space->view, tn_view_new (0));
  return space;
}

void
tn_space_free (TnSpace *space)
{
  if (space == NULL)
    return;
  tn_view_cell_clear (&space->view);
  g_ptr_array_unref (space->regions);
  g_ptr_array_unref (space->removed);
  g_array_unref (space->watches);
  pthread_mutex_destroy (&space->lock);
  g_free (space->name);
  free (space);
}

void
tn_space_set_listener (TnSpace *space, void (*changed) (void *opaque), void *opaque)
{
  pthread_mutex_lock (&space->lock);
  space->changed = changed;
  space->changed_opaque = opaque;
  pthread_mutex_unlock (&space->lock);
}

/* ---- Making a view ---- */

static int
watch_order (gconstpointer a, gconstpointer b)
{
  const TnWatch *left = a, *right = b;
  return left->base < right->base ? -1 : left->base > right->base;
}

/* The part of @whole from @first to @last. */
static TnEntry
entry_part (const TnEntry *whole, uint64_t first, uint64_t last)
{
  TnEntry part = *whole;
  part.base = first;
  part.last = last;
  if (part.host != NULL) {
    part.host += first - whole->base;
    part.dirty += (first - whole->base) >> TN_PAGE_SHIFT;
  }
  return part;
}

/* Cuts a region at its watched pages; a page with a watch is an entry of its own. */
static void
view_add_region (GArray *entries, const TnEntry *whole, const GArray *watches)
{
  uint64_t next = whole->base;
  for (guint i = 0; whole->kind == TN_ENTRY_RAM && i < watches->len; i++) {
    const TnWatch *watch = &g_array_index (watches, TnWatch, i);
    if (watch->base < next || watch->base > whole->last)
      continue;
    uint64_t page = watch->base & ~(TN_PAGE_SIZE - 1);
    if (page > next) {
      TnEntry before = entry_part (whole, next, page - 1);
      g_array_append_val (entries, before);
    }
    TnEntry watched = entry_part (whole, page, page + TN_PAGE_SIZE - 1);
    watched.watch = *watch;
    g_array_append_val (entries, watched);
    if (watched.last == whole->last)
      return;
    next = watched.last + 1;
  }
  TnEntry rest = entry_part (whole, next, whole->last);
  g_array_append_val (entries, rest);
}

/* Publishes the map as it is now.  The caller holds the lock. */
static void
space_publish (TnSpace *space)
{
  g_autoptr (GArray) entries = g_array_new (FALSE, FALSE, sizeof (TnEntry));
  for (guint i = 0; i < space->regions->len; i++) {
    const TnRegion *region = g_ptr_array_index (space->regions, i);
    view_add_region (entries, &region->entry, space->watches);
  }
  TnView *view = tn_view_new (entries->len);
  if (entries->len > 0)
    memcpy (view->entries, entries->data, entries->len * sizeof (TnEntry));
  tn_view_publish (&space->view, view);
}

static void
space_notify (TnSpace *space)
{
  pthread_mutex_lock (&space->lock);
  void (*changed) (void *) = space->changed;
  void *opaque = space->changed_opaque;
  pthread_mutex_unlock (&space->lock);
  if (changed != NULL)
    changed (opaque);
}

/* ---- Adding and removing regions ---- */

static int
region_check (const char *name, uint64_t base, uint64_t size, uint64_t multiple, GError **error)
{
  if (size == 0 || size - 1 > UINT64_MAX - base)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "region '%s' at 0x%" G_GINT64_MODIFIER "x: a size of 0x%" G_GINT64_MODIFIER
                    "x does not fit the address space",
                    name, base, size);
  if ((base | size) % multiple != 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "region '%s' at 0x%" G_GINT64_MODIFIER "x: address and size (0x%" G_GINT64_MODIFIER
                    "x) must be multiples of %u",
                    name, base, size, (unsigned) multiple);
  return 0;
}

/* Puts @region in its place; takes it over in any case. */
static int
space_insert (TnSpace *space, TnRegion *region, GError **error)
{
  pthread_mutex_lock (&space->lock);
  guint at = 0;
  for (; at < space->regions->len; at++) {
    const TnRegion *other = g_ptr_array_index (space->regions, at);
    if (other->entry.base > region->entry.last)
      break;
    if (other->entry.last < region->entry.base)
      continue;
    int r = tn_fail (error, TN_MACHINE_ERROR, EEXIST,
                     "region '%s' (0x%" G_GINT64_MODIFIER "x to 0x%" G_GINT64_MODIFIER
                     "x) overlaps region '%s' (0x%" G_GINT64_MODIFIER "x to 0x%" G_GINT64_MODIFIER "x)",
                     region->name, region->entry.base, region->entry.last, other->name, other->entry.base,
                     other->entry.last);
    pthread_mutex_unlock (&space->lock);
    region_free (region);
    return r;
  }
  g_ptr_array_insert (space->regions, (gint) at, region);
  space_publish (space);
  pthread_mutex_unlock (&space->lock);
  space_notify (space);
  return 0;
}

static TnRegion *
region_new (const char *name, TnEntryKind kind, uint64_t base, uint64_t size)
{
  TnRegion *region = g_new0 (TnRegion, 1);
  region->name = g_strdup (name);
  region->entry.kind = kind;
  region->entry.base = base;
  region->entry.region_base = base;
  region->entry.last = base + (size - 1);
  return region;
}

static int
region_map_dirty (TnRegion *region, uint64_t size, GError **error)
{
  const uint64_t pages = (size >> TN_PAGE_SHIFT) + (size % TN_PAGE_SIZE != 0);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *dirty = mmap (NULL, pages, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (dirty == MAP_FAILED)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno, "cannot map the dirty bits of guest memory '%s'",
                          region->name);
  region->entry.dirty = dirty;
  region->dirty_length = pages;
  return 0;
}

static int
region_map (TnRegion *region, uint64_t size, GError **error)
{
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *host = mmap (NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (host == MAP_FAILED)
    return tn_fail_errno (error, TN_MACHINE_ERROR, errno,
                          "cannot map %" G_GUINT64_FORMAT " MiB of guest memory '%s', give the machine less",
                          size >> 20, region->name);
  /* Guests use most of it sooner or later: fewer faults, fewer TLB misses.  No matter if the host has none.
   */
  madvise (host, size, MADV_HUGEPAGE);
  region->entry.host = host;
  region->host_length = size;
  return region_map_dirty (region, size, error);
}

static int
space_add_memory (TnSpace *space, const char *name, TnEntryKind kind, uint64_t base, uint64_t size,
                  const void *data, size_t length, GError **error)
{
  int r = region_check (name, base, size, TN_PAGE_SIZE, error);
  if (r < 0)
    return r;
  TnRegion *region = region_new (name, kind, base, size);
  r = region_map (region, size, error);
  if (r < 0) {
    region_free (region);
    return r;
  }
  if (length > 0)
    memcpy (region->entry.host, data, length);
  return space_insert (space, region, error);
}

int
tn_space_add_ram (TnSpace *space, const char *name, uint64_t base, uint64_t size, GError **error)
{
  return space_add_memory (space, name, TN_ENTRY_RAM, base, size, NULL, 0, error);
}

int
tn_space_add_shared (TnSpace *space, const char *name, uint64_t base, uint64_t size, int fd, uint64_t offset,
                     GError **error)
{
  uint8_t *host = NULL;
  int r = region_check (name, base, size, 1, error);
  if (r == 0 && base % TN_PAGE_SIZE != 0)
    r = tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                 "region '%s': the address 0x%" G_GINT64_MODIFIER "x is not a multiple of %u", name, base,
                 (unsigned) TN_PAGE_SIZE);
  if (r == 0)
    r = tn_shared_map (name, fd, offset, size, &host, error);
  if (r < 0)
    return r;
  TnRegion *region = region_new (name, TN_ENTRY_RAM, base, size);
  region->shared = true;
  region->entry.host = host;
  region->host_length = size;
  r = region_map_dirty (region, size, error);
  if (r < 0) {
    region_free (region);
    return r;
  }
  return space_insert (space, region, error);
}

int
tn_space_add_rom (TnSpace *space, const char *name, uint64_t base, uint64_t size, const void *data,
                  size_t length, GError **error)
{
  if (length > size)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "ROM '%s': %zu bytes of contents do not fit into 0x%" G_GINT64_MODIFIER "x", name, length,
                    size);
  return space_add_memory (space, name, TN_ENTRY_ROM, base, size, data, length, error);
}

static bool
access_size_valid (unsigned bytes)
{
  return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

int
tn_space_add_mmio (TnSpace *space, const char *name, uint64_t base, uint64_t size, const TnMmioOps *ops,
                   void *opaque, GError **error)
{
  int r = region_check (name, base, size, 1, error);
  if (r < 0)
    return r;
  TnRegion *region = region_new (name, TN_ENTRY_MMIO, base, size);
  memcpy (&region->entry.ops, ops, MIN (ops->size, sizeof region->entry.ops));
  region->entry.opaque = opaque;
  const TnMmioOps *own = &region->entry.ops;
  if (own->read == NULL || own->write == NULL || !access_size_valid (own->min_access)
      || !access_size_valid (own->max_access) || own->min_access > own->max_access) {
    region_free (region);
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "registers '%s': callbacks or access sizes are not set",
                    name);
  }
  return space_insert (space, region, error);
}

int
tn_space_remove (TnSpace *space, uint64_t base, GError **error)
{
  pthread_mutex_lock (&space->lock);
  TnRegion *region = NULL;
  for (guint i = 0; i < space->regions->len && region == NULL; i++) {
    TnRegion *candidate = g_ptr_array_index (space->regions, i);
    if (candidate->entry.base == base)
      region = g_ptr_array_steal_index (space->regions, i);
  }
  if (region == NULL) {
    pthread_mutex_unlock (&space->lock);
    return tn_fail (error, TN_MACHINE_ERROR, ENOENT, "no region starts at 0x%" G_GINT64_MODIFIER "x", base);
  }
  space_publish (space);
  /* A vCPU or a request under way may still hold a pointer.  The pages go back to the system, but the
     addresses stay ours, so that a late access never meets memory of somebody else. */
  if (region->entry.host != NULL) {
    if (!region->shared)
      madvise (region->entry.host, region->host_length, MADV_DONTNEED);
    g_ptr_array_add (space->removed, region);
  } else {
    region_free (region);
  }
  pthread_mutex_unlock (&space->lock);
  space_notify (space);
  return 0;
}

int
tn_space_watch (TnSpace *space, uint64_t address, uint64_t size,
                void (*written) (void *opaque, uint64_t address, unsigned bytes), void *opaque,
                GError **error)
{
  TnEntry entry;
  uint64_t page = address & ~(TN_PAGE_SIZE - 1);
  if (size == 0 || size > TN_PAGE_SIZE - (address - page))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "cannot watch 0x%" G_GINT64_MODIFIER "x: the range must lie in one page", address);
  if (!tn_view_lookup (&space->view, address, &entry) || entry.kind != TN_ENTRY_RAM)
    return tn_fail (error, TN_MACHINE_ERROR, ENOENT,
                    "cannot watch 0x%" G_GINT64_MODIFIER "x: there is no RAM", address);
  if (entry.watch.size != 0)
    return tn_fail (error, TN_MACHINE_ERROR, EEXIST,
                    "cannot watch 0x%" G_GINT64_MODIFIER "x: its page is being watched already", address);
  TnWatch watch = { .base = address, .size = size, .written = written, .opaque = opaque };
  pthread_mutex_lock (&space->lock);
  g_array_append_val (space->watches, watch);
  g_array_sort (space->watches, watch_order);
  space_publish (space);
  pthread_mutex_unlock (&space->lock);
  space_notify (space);
  return 0;
}

void
tn_space_unwatch (TnSpace *space, uint64_t address)
{
  pthread_mutex_lock (&space->lock);
  for (guint i = 0; i < space->watches->len; i++) {
    if (g_array_index (space->watches, TnWatch, i).base == address) {
      g_array_remove_index (space->watches, i);
      break;
    }
  }
  space_publish (space);
  pthread_mutex_unlock (&space->lock);
  space_notify (space);
}

void
tn_space_foreach (TnSpace *space,
                  void (*visit) (const char *name, const char *kind, uint64_t base, uint64_t size,
                                 void *opaque),
                  void *opaque)
{
  pthread_mutex_lock (&space->lock);
  for (guint i = 0; i < space->regions->len; i++) {
    const TnRegion *region = g_ptr_array_index (space->regions, i);
    visit (region->name, region_kind (region), region->entry.base,
           region->entry.last - region->entry.base + 1, opaque);
  }
  pthread_mutex_unlock (&space->lock);
}
