/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block-fixture.h"

#include <ltdl.h>
#include <stdlib.h>

/* ---- Disks ---- */

static GHashTable *disks;
static GMutex disks_lock;

static MemDisk *
find_disk (const char *name, bool make)
{
  g_mutex_lock (&disks_lock);
  if (!disks)
    disks = g_hash_table_new (g_str_hash, g_str_equal);
  MemDisk *disk = g_hash_table_lookup (disks, name);
  if (!disk && make) {
    disk = g_new0 (MemDisk, 1);
    disk->name = g_strdup (name);
    disk->ops = g_array_new (FALSE, TRUE, sizeof (MemOp));
    pthread_mutex_init (&disk->lock, NULL);
    g_hash_table_insert (disks, disk->name, disk);
  }
  g_mutex_unlock (&disks_lock);
  return disk;
}

static void
set_disk_size (MemDisk *disk, uint64_t size)
{
  if (size > disk->capacity) {
    uint64_t capacity = MAX (size, disk->capacity * 2);
    disk->bytes = g_realloc (disk->bytes, capacity);
    memset (disk->bytes + disk->capacity, 0, capacity - disk->capacity);
    disk->capacity = capacity;
  }
  if (size < disk->size)
    memset (disk->bytes + size, 0, disk->size - size);
  disk->size = size;
}

MemDisk *
mem_disk (const char *name, uint64_t size)
{
  MemDisk *disk = find_disk (name, true);
  set_disk_size (disk, 0);
  set_disk_size (disk, size);
  disk->exists = true;
  return disk;
}

MemDisk *
mem_disk_find (const char *name)
{
  return find_disk (name, false);
}

static gint
compare_disks (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(MemDisk *const *) a)->name, (*(MemDisk *const *) b)->name);
}

GPtrArray *
mem_disks_named (const char *prefix)
{
  GPtrArray *found = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, disks);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    if (((MemDisk *) value)->exists && g_str_has_prefix (((MemDisk *) value)->name, prefix)) {
      g_ptr_array_add (found, value);
    }
  }
  g_ptr_array_sort (found, compare_disks);
  return found;
}

void
mem_disk_clear_log (MemDisk *disk)
{
  for (guint i = 0; i < disk->ops->len; i++)
    g_free (g_array_index (disk->ops, MemOp, i).bytes);
  g_array_set_size (disk->ops, 0);
}

void
mem_disks_free (void)
{
  GHashTableIter iter;
  gpointer value;
  if (!disks)
    return;
  g_hash_table_iter_init (&iter, disks);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    MemDisk *disk = value;
    g_hash_table_iter_steal (&iter);
    mem_disk_clear_log (disk);
    g_array_unref (disk->ops);
    g_free (disk->bytes);
    g_free (disk->name);
    pthread_mutex_destroy (&disk->lock);
    g_free (disk);
  }
  g_clear_pointer (&disks, g_hash_table_unref);
}

/* ---- The asynchronous protocol ---- */

typedef struct Mem {
  MemDisk *disk;
} Mem;

typedef struct Deferred {
  TnRequest *request;
  MemDisk *disk;
  TnLoop *loop;
  unsigned turns;
  uint64_t begun;
} Deferred;

static MemDisk *
disk_of (TnNode *node)
{
  return ((Mem *) tn_node_state (node))->disk;
}

static int
mem_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  const char *name = tn_options_get (options, "filename");
  MemDisk *disk = name ? find_disk (name, false) : NULL;
  if (!disk || !disk->exists)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "%s: no such memory disk", name);
  ((Mem *) tn_node_state (node))->disk = disk;
  disk->opens++;
  tn_node_set_size (node, disk->size);
  TnLimits limits = { .request_alignment = disk->alignment,
                      .memory_alignment = disk->alignment,
                      .max_transfer = disk->max_transfer };
  tn_node_set_limits (node, &limits);
  return 0;
}

static int
mem_close (TnNode *node, GError **error)
{
  disk_of (node)->opens--;
  return 0;
}

static int
mem_create (const TnOptions *options, uint64_t size, GError **error)
{
  mem_disk (tn_options_get (options, "filename"), size);
  return 0;
}

static int
mem_remove (const TnOptions *options, GError **error)
{
  MemDisk *disk = find_disk (tn_options_get (options, "filename"), false);
  if (!disk)
    return -ENOENT;
  disk->exists = false;
  return 0;
}

static void
check_aligned (const MemDisk *disk, const TnRequest *request)
{
  if (disk->alignment < 2 || (request->op != TN_REQUEST_READ && request->op != TN_REQUEST_WRITE))
    return;
  g_assert_cmpuint (request->offset % disk->alignment, ==, 0);
  g_assert_cmpuint (request->length % disk->alignment, ==, 0);
  for (unsigned i = 0; i < request->n_iov; i++)
    g_assert_cmpuint ((uintptr_t) request->iov[i].iov_base % disk->alignment, ==, 0);
}

static uint64_t turns; /* operations of all disks so far */

static uint64_t
turns_now (void)
{
  return __atomic_load_n (&turns, __ATOMIC_RELAXED);
}

static void
log_op (MemDisk *disk, const TnRequest *request, int result, uint64_t begun)
{
  if (!disk->log)
    return;
  MemOp op = { .op = request->op, .result = result, .offset = request->offset, .length = request->length };
  op.begun = begun;
  op.turn = __atomic_add_fetch (&turns, 1, __ATOMIC_RELAXED);
  if (request->op == TN_REQUEST_WRITE && !result)
    op.bytes = g_memdup2 (disk->bytes + request->offset, request->length);
  g_array_append_val (disk->ops, op);
}

static void
move_bytes (MemDisk *disk, const TnRequest *request)
{
  uint64_t at = request->offset, total = 0;
  if (request->op == TN_REQUEST_WRITE && at + request->length > disk->size
      && !__atomic_load_n (&disk->fixed, __ATOMIC_RELAXED))
    set_disk_size (disk, at + request->length);
  for (unsigned i = 0; i < request->n_iov; i++) {
    size_t length = request->iov[i].iov_len;
    total += length;
    if (request->op == TN_REQUEST_WRITE) {
      size_t inside = at >= disk->size ? 0 : MIN (length, disk->size - at);
      memcpy (disk->bytes + at, request->iov[i].iov_base, inside);
    } else {
      size_t inside = at >= disk->size ? 0 : MIN (length, disk->size - at);
      memcpy (request->iov[i].iov_base, disk->bytes + at, inside);
      memset ((char *) request->iov[i].iov_base + inside, 0, length - inside);
    }
    at += length;
  }
  g_assert_cmpuint (total, ==, request->length);
}

static int
perform (MemDisk *disk, const TnRequest *request, uint64_t begun)
{
  pthread_mutex_lock (&disk->lock);
  int result = disk->fault ? disk->fault (disk, request) : 0;
  if (disk->max_transfer && request->n_iov)
    g_assert_cmpuint (request->length, <=, disk->max_transfer);
  if (!result) {
    switch ((TnRequestOp) request->op) {
    case TN_REQUEST_READ:
    case TN_REQUEST_WRITE:
      check_aligned (disk, request);
      move_bytes (disk, request);
      break;
    case TN_REQUEST_WRITE_ZEROES:
      if (request->offset + request->length > disk->size)
        set_disk_size (disk, request->offset + request->length);
      memset (disk->bytes + request->offset, 0, request->length);
      break;
    case TN_REQUEST_DISCARD:
      if (disk->punches && request->offset < disk->size)
        memset (disk->bytes + request->offset, 0, MIN (request->length, disk->size - request->offset));
      break;
    case TN_REQUEST_FLUSH:
      disk->flushes++;
      break;
    }
  }
  log_op (disk, request, result, begun);
  pthread_mutex_unlock (&disk->lock);
  return result;
}

static void
deferred_turn (void *opaque)
{
  Deferred *deferred = opaque;
  if (--deferred->turns) {
    tn_loop_post (deferred->loop, deferred_turn, deferred);
    return;
  }
  TnRequest *request = deferred->request;
  int result = perform (deferred->disk, request, deferred->begun);
  g_free (deferred);
  request->done (request, result);
}

static void
mem_submit (TnNode *node, TnRequest *request)
{
  MemDisk *disk = disk_of (node);
  memset (tn_request_leaf_scratch (request), 0xa5, TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));
  __atomic_fetch_add (&disk->submitted, 1, __ATOMIC_RELAXED);
  __atomic_store_n (&disk->fixed, !(tn_node_open_flags (node) & TN_OPEN_RESIZE), __ATOMIC_RELAXED);
  unsigned wait = disk->defer ? 1 + (unsigned) g_random_int_range (0, (int) disk->defer) : 0;
  if (request->op == TN_REQUEST_FLUSH && disk->flush_turns)
    wait = disk->flush_turns;
  if (!wait) {
    request->done (request, perform (disk, request, turns_now ()));
    return;
  }
  Deferred *deferred = g_new (Deferred, 1);
  *deferred = (Deferred){ request, disk, tn_loop_current (), wait, turns_now () };
  tn_loop_post (deferred->loop, deferred_turn, deferred);
}

static int
mem_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  MemDisk *disk = disk_of (node);
  const TnRequest request = { .op = MEM_OP_RESIZE, .length = size };
  pthread_mutex_lock (&disk->lock);
  int result = disk->fault ? disk->fault (disk, &request) : 0;
  if (!result)
    set_disk_size (disk, size);
  log_op (disk, &request, result, 0);
  pthread_mutex_unlock (&disk->lock);
  return result ? tn_fail (error, TN_BLOCK_ERROR, -result, "%s: resizing failed", disk->name) : 0;
}

static int
mem_set_permissions (TnNode *node, uint32_t permissions, uint32_t shared, GError **error)
{
  disk_of (node)->permissions = permissions;
  disk_of (node)->shared = shared;
  return 0;
}

static int
mem_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return 0;
}

static int64_t
mem_share_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                 GError **error)
{
  MemDisk *disk = disk_of (to);
  if (!length)
    return disk->shares ? 0 : -ENOTSUP;
  if (!disk->shares || ++disk->shared_calls % disk->shares == 0 || (from_offset | to_offset | length) % 4096)
    return -ENOTSUP;
  g_autofree uint8_t *bytes = g_malloc (length);
  struct iovec iov = { bytes, length };
  TnRequest request = {
    .op = TN_REQUEST_READ, .iov = &iov, .n_iov = 1, .offset = from_offset, .length = length
  };
  int rc = perform (disk_of (from), &request, turns_now ());
  request.op = TN_REQUEST_WRITE;
  request.offset = to_offset;
  if (!rc)
    rc = perform (disk, &request, turns_now ());
  return rc ? rc : (int64_t) length;
}

static const TnOption mem_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_CREATE | TN_OPTION_REQUIRED, NULL,
    "name of the disk", 0, 0, NULL },
  { NULL },
};

static const TnProtocolOps mem_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (Mem),
  .open = mem_open,
  .close = mem_close,
  .create = mem_create,
  .remove = mem_remove,
  .submit = mem_submit,
  .resize = mem_resize,
  .set_permissions = mem_set_permissions,
  .reopen = mem_reopen,
  .share_range = mem_share_range,
};

static const TnClass mem_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "mem",
  .summary = "memory disk for tests",
  .options = mem_options,
  .ops = &mem_ops,
};

/* ---- The blocking protocol ---- */

static int64_t
memblock_pread (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  MemDisk *disk = disk_of (node);
  pthread_mutex_lock (&disk->lock);
  uint64_t size = disk->size;
  pthread_mutex_unlock (&disk->lock);
  if (offset >= size)
    return 0;
  /* Short now and then. */
  length = MIN (length, size - offset);
  if (length > 1000)
    length = 1000;
  struct iovec iov = { buffer, length };
  TnRequest request = { .op = TN_REQUEST_READ, .iov = &iov, .n_iov = 1, .offset = offset, .length = length };
  int rc = perform (disk, &request, turns_now ());
  return rc ? rc : (int64_t) length;
}

static int64_t
memblock_pwrite (TnNode *node, const void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  length = MIN (length, 3000);
  struct iovec iov = { (void *) buffer, length };
  TnRequest request = { .op = TN_REQUEST_WRITE, .iov = &iov, .n_iov = 1, .offset = offset, .length = length };
  int rc = perform (disk_of (node), &request, turns_now ());
  return rc ? rc : (int64_t) length;
}

static int
memblock_sync (TnNode *node, GError **error)
{
  TnRequest request = { .op = TN_REQUEST_FLUSH };
  return perform (disk_of (node), &request, turns_now ());
}

static const TnProtocolOps memblock_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS,
  .instance_size = sizeof (Mem),
  .open = mem_open,
  .close = mem_close,
  .pread = memblock_pread,
  .pwrite = memblock_pwrite,
  .sync = memblock_sync,
  .resize = mem_resize,
};

static const TnClass memblock_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "memblock",
  .summary = "blocking memory disk for tests",
  .options = mem_options,
  .ops = &memblock_ops,
};

/* ---- A filter ---- */

typedef struct Passed {
  TnRequest request;
  TnRequest *original;
} Passed;

static void
passed_done (TnRequest *request, int result)
{
  Passed *passed = request->opaque;
  TnRequest *original = passed->original;
  g_free (passed);
  original->done (original, result);
}

static void
pass_submit (TnNode *node, TnRequest *request)
{
  Passed *passed = g_new0 (Passed, 1);
  memcpy (&passed->request, request, offsetof (TnRequest, core));
  passed->original = request;
  passed->request.done = passed_done;
  passed->request.opaque = passed;
  tn_node_submit (tn_node_child (node, "file"), &passed->request);
}

static int
pass_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return 0;
}

static const TnProtocolOps pass_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER,
  .open = pass_open,
  .submit = pass_submit,
};

static const TnClass pass_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "pass",
  .summary = "filter that passes everything on",
  .ops = &pass_ops,
};

/* ---- A plain format ---- */

static int
plain_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  tn_node_set_size (node, tn_node_size (tn_node_child (node, "file")));
  return 0;
}

static int
plain_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  *extent = (TnExtent){ .length = tn_node_size (node),
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_WRITABLE,
                        .source = tn_node_child (node, "file") };
  return 0;
}

static int
plain_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  return tn_node_resize (file, size, TN_PREALLOC_OFF, error);
}

static int
plain_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  return tn_node_resize (tn_node_child (node, "file"), size, prealloc, error);
}

static const TnFormatOps plain_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_STATIC_MAP,
  .open = plain_open,
  .create = plain_create,
  .map = plain_map,
  .resize = plain_resize,
};

static const TnClass plain_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "raw",
  .summary = "plain format for tests",
  .ops = &plain_ops,
};

/* ---- The toy format ---- */

#define TOY_MAGIC "TOYIMAGE"
#define TOY_TABLE 4096
#define TOY_SLICE 512
#define TOY_MAX_UNITS 65536

enum { TOY_UNALLOCATED, TOY_ZERO, TOY_DATA, TOY_PACKED };

/* Header: magic, size (be64 at 8), unit (be32 at 16), length of the backing name (be32 at 20), the name.
 * Table entry (be64): offset << 8 | kind. */
typedef struct Toy {
  TnNode *file;
  TnMetaCache *table;
  uint64_t end; /* where the next unit goes */
  uint32_t unit;
} Toy;

unsigned toy_maps_waited;

static uint64_t
toy_units (uint64_t size, uint32_t unit)
{
  return (size + unit - 1) / unit;
}

static uint64_t
toy_data_start (uint64_t size, uint32_t unit)
{
  uint64_t table = (toy_units (size, unit) * 8 + TOY_SLICE - 1) / TOY_SLICE * TOY_SLICE;
  return (TOY_TABLE + table + unit - 1) / unit * unit;
}

static int
toy_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Toy *toy = tn_node_state (node);
  uint8_t header[512];
  toy->file = tn_node_child (node, "file");
  int rc = tn_node_read (toy->file, 0, header, sizeof header, error);
  if (rc)
    return rc;
  if (memcmp (header, TOY_MAGIC, 8))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "not a toy image");
  uint64_t size = tn_load_be64 (header + 8);
  toy->unit = tn_load_be32 (header + 16);
  uint32_t name_length = tn_load_be32 (header + 20);
  if (!toy->unit || toy_units (size, toy->unit) > TOY_MAX_UNITS || name_length > 480)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "bad toy header");
  if (name_length) {
    g_autofree char *name = g_strndup ((char *) header + 24, name_length);
    tn_node_set_backing (node, name, NULL);
  }
  toy->end = MAX (toy_data_start (size, toy->unit),
                  (tn_node_size (toy->file) + toy->unit - 1) / toy->unit * toy->unit);
  tn_node_set_size (node, size);
  tn_node_set_allocation_unit (node, toy->unit);
  toy->table = tn_meta_cache_new (toy->file, "unit table", TOY_SLICE, 4 * TOY_SLICE);
  return 0;
}

static int
toy_flush (TnNode *node, GError **error)
{
  Toy *toy = tn_node_state (node);
  return tn_meta_flush (&toy->table, 1, error);
}

static int
toy_close (TnNode *node, GError **error)
{
  Toy *toy = tn_node_state (node);
  int rc = tn_node_is_read_only (node) ? 0 : toy_flush (node, error);
  tn_meta_cache_free (toy->table);
  return rc;
}

static int
toy_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  uint32_t unit = tn_options_has (options, "unit") ? (uint32_t) tn_options_uint (options, "unit") : TOY_UNIT;
  const char *backing = tn_options_get (options, "backing_file");
  uint8_t header[512] = TOY_MAGIC;
  tn_store_be64 (header + 8, size);
  tn_store_be32 (header + 16, unit);
  if (backing) {
    tn_store_be32 (header + 20, (uint32_t) strlen (backing));
    memcpy (header + 24, backing, strlen (backing));
  }
  int rc = tn_node_write (file, 0, header, sizeof header, error);
  return rc ? rc : tn_node_resize (file, toy_data_start (size, unit), TN_PREALLOC_OFF, error);
}

/* The entry of the unit that holds @offset, in a pinned slice. */
static int
toy_slice (Toy *toy, uint64_t offset, TnMetaSlice **slice, uint8_t **entry, GError **error)
{
  uint64_t place = TOY_TABLE + offset / toy->unit * 8;
  uint64_t start = place / TOY_SLICE * TOY_SLICE;
  int rc = tn_meta_get (toy->table, start, slice, error);
  if (!rc)
    *entry = (uint8_t *) tn_meta_data (*slice) + (place - start);
  return rc;
}

static void
toy_extent (TnNode *node, uint64_t offset, uint64_t entry, TnExtent *extent)
{
  static const uint32_t kinds[] = { TN_EXTENT_UNALLOCATED, TN_EXTENT_ZERO, TN_EXTENT_DATA, TN_EXTENT_PACKED };
  Toy *toy = tn_node_state (node);
  *extent =
      (TnExtent){ .offset = offset - offset % toy->unit, .length = toy->unit, .kind = kinds[entry & 3] };
  if (extent->offset + extent->length > tn_node_size (node))
    extent->length = tn_node_size (node) - extent->offset;
  if ((entry & 3) < TOY_DATA)
    return;
  extent->source = toy->file;
  extent->source_offset = entry >> 8;
  extent->flags = (entry & 3) == TOY_DATA ? TN_EXTENT_WRITABLE : 0;
  extent->packed_length = (entry & 3) == TOY_PACKED ? 1 : 0;
}

static int
toy_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Toy *toy = tn_node_state (node);
  uint64_t place = TOY_TABLE + offset / toy->unit * 8, start = place / TOY_SLICE * TOY_SLICE;
  if (flags & TN_MAP_NOWAIT) {
    const uint8_t *slice = tn_meta_peek (toy->table, start);
    if (!slice) {
      __atomic_fetch_add (&toy_maps_waited, 1, __ATOMIC_RELAXED);
      return -EAGAIN;
    }
    toy_extent (node, offset, tn_load_be64 (slice + (place - start)), extent);
    return 0;
  }
  TnMetaSlice *slice;
  uint8_t *entry;
  int rc = toy_slice (toy, offset, &slice, &entry, error);
  if (rc)
    return rc;
  toy_extent (node, offset, tn_load_be64 (entry), extent);
  tn_meta_put (slice);
  return 0;
}

static int
toy_reserve (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Toy *toy = tn_node_state (node);
  bool packed = flags & TN_RESERVE_PACKED;
  uint64_t start = offset - offset % toy->unit;
  uint64_t units = packed ? 1 : MIN (toy_units (offset + length - start, toy->unit), 3);
  extent->offset = start;
  extent->length = units * toy->unit;
  extent->kind = packed ? TN_EXTENT_PACKED : TN_EXTENT_DATA;
  extent->flags = TN_EXTENT_NEW;
  extent->source = toy->file;
  extent->source_offset = toy->end;
  toy->end += units * toy->unit;
  return 0;
}

static int
toy_set_entry (Toy *toy, uint64_t offset, uint64_t value, GError **error)
{
  TnMetaSlice *slice;
  uint8_t *entry;
  int rc = toy_slice (toy, offset, &slice, &entry, error);
  if (rc)
    return rc;
  tn_store_be64 (entry, value);
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  return 0;
}

static int
toy_commit (TnNode *node, TnExtent *extents, size_t n, GError **error)
{
  Toy *toy = tn_node_state (node);
  tn_meta_after_data (toy->table);
  for (size_t i = 0; i < n; i++) {
    uint64_t kind = extents[i].kind == TN_EXTENT_PACKED ? TOY_PACKED : TOY_DATA;
    for (uint64_t done = 0; done < extents[i].length; done += toy->unit) {
      if (extents[i].offset + done >= tn_node_size (node))
        break;
      int rc =
          toy_set_entry (toy, extents[i].offset + done, (extents[i].source_offset + done) << 8 | kind, error);
      if (rc)
        return rc;
    }
    extents[i].flags &= ~TN_EXTENT_NEW;
  }
  return 0;
}

static void
toy_cancel (TnNode *node, TnExtent *extents, size_t n)
{
  /* The space is lost until the image is opened again. */
}

static int
toy_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  Toy *toy = tn_node_state (node);
  g_assert_cmpuint (offset % toy->unit, ==, 0);
  g_assert_true (length % toy->unit == 0 || offset + length == tn_node_size (node));
  for (uint64_t done = 0; done < length; done += toy->unit) {
    int rc = toy_set_entry (toy, offset + done, TOY_ZERO, error);
    if (rc)
      return rc;
  }
  return 0;
}

static int
toy_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
          GError **error)
{
  const char *bytes = in;
  for (size_t i = 1; i < in_length; i++)
    if (bytes[i] != bytes[0])
      return -E2BIG;
  *(char *) out = bytes[0];
  *out_length = 1;
  return 0;
}

static int
toy_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
            size_t out_length, GError **error)
{
  memset (out, *(const char *) in, out_length);
  return 0;
}

static int
toy_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Toy *toy = tn_node_state (node);
  uint8_t bytes[8];
  /* The table cannot move: only within the units that it has room for. */
  if (toy_data_start (size, toy->unit) > toy_data_start (tn_node_size (node), toy->unit))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "no room in the table");
  for (uint64_t at = toy_units (size, toy->unit) * toy->unit; at < tn_node_size (node); at += toy->unit) {
    int rc = toy_set_entry (toy, at, TOY_ZERO, error);
    if (rc)
      return rc;
  }
  tn_store_be64 (bytes, size);
  return tn_node_write (toy->file, 8, bytes, 8, error);
}

static int
toy_probe (const void *head, size_t head_length, const void *tail, size_t tail_length, uint64_t size)
{
  return head_length >= 512 && !memcmp (head, TOY_MAGIC, 8) ? 100 : 0;
}

static const TnOption toy_options[] = {
  { "unit", TN_OPTION_SIZE, TN_OPTION_CREATE, "4096", "bytes per unit", 512, 65536, NULL },
  { "backing_file", TN_OPTION_STRING, TN_OPTION_CREATE, NULL, "file below", 0, 0, NULL },
  { "backing_fmt", TN_OPTION_STRING, TN_OPTION_CREATE, NULL, "format of the file below", 0, 0, NULL },
  { NULL },
};

static const TnFormatOps toy_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_PACKS | TN_FORMAT_GROWS,
  .instance_size = sizeof (Toy),
  .probe = toy_probe,
  .open = toy_open,
  .close = toy_close,
  .create = toy_create,
  .map = toy_map,
  .reserve = toy_reserve,
  .commit = toy_commit,
  .cancel = toy_cancel,
  .unmap = toy_unmap,
  .pack = toy_pack,
  .unpack = toy_unpack,
  .flush = toy_flush,
  .resize = toy_resize,
};

static const TnMagic toy_magics[] = { { 0, 8, (const uint8_t *) TOY_MAGIC, NULL }, { 0 } };

static const TnClass toy_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "toy",
  .summary = "allocating format for tests",
  .magics = toy_magics,
  .options = toy_options,
  .ops = &toy_ops,
};

/* ---- As a linked-in plugin ---- */

static const TnClass *const classes[] = { &mem_class,   &memblock_class, &pass_class,
                                          &plain_class, &toy_class,      NULL };

TN_PLUGIN_DEFINE (format_toy, .name = "format-toy", .version = "1", .licence = "LGPL-2.1-or-later",
                  .package = "none", .classes = classes);

/* Takes the place of the table that the build makes. */
extern const lt_dlsymlist tn_static_symbols[];
const lt_dlsymlist tn_static_symbols[] = {
  { "libtenon", NULL },
  { "format-toy", NULL },
  { "format_toy_LTX_tenon_plugin", (void *) &format_toy_LTX_tenon_plugin },
  { NULL, NULL },
};

/* ---- Helpers ---- */

TnOptions *
options_of (const char *text)
{
  TnOptions *options = tn_options_new ();
  GError *error = NULL;
  tn_options_parse (options, text, NULL, &error);
  g_assert_no_error (error);
  return options;
}

TnNode *
open_node_text (const char *text, uint32_t flags)
{
  g_autoptr (TnOptions) options = options_of (text);
  GError *error = NULL;
  TnNode *node = NULL;
  tn_node_open (options, flags, &node, &error);
  g_assert_no_error (error);
  g_assert_nonnull (node);
  return node;
}

typedef struct Make {
  TnNode *file;
  TnOptions *options;
  uint64_t size;
  GError *error;
} Make;

static void
make_main (void *opaque)
{
  Make *make = opaque;
  toy_create (make->file, make->options, make->size, &make->error);
}

void
make_toy (const char *name, uint64_t size, uint32_t unit, const char *backing)
{
  mem_disk (name, 0);
  g_autofree char *text = g_strdup_printf ("driver=mem,filename=%s", name);
  g_autoptr (TnNode) file = open_node_text (text, TN_OPEN_WRITE | TN_OPEN_RESIZE);
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set_uint (options, "unit", unit);
  tn_options_set (options, "backing_file", backing);
  Make make = { file, options, size, NULL };
  tn_co_run (make_main, &make);
  g_assert_no_error (make.error);
}
